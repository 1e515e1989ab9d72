# Run in a network namespace of its own, as root: $1 is the proxy, $2 a directory to write to.
# What is sent to port 9999 is redirected to the proxy's outbound side, what is sent to port 8888 to its
# inbound side, except what the proxy (uid 2102) sends itself. Prints a line for each promise kept.
set -eu
ip link set lo up
ip addr add 10.9.9.9/32 dev lo
ip -6 addr add fd00::9/128 dev lo 2>/dev/null || true
redirect() {
  "$1" -t nat -A OUTPUT -p tcp -m owner --uid-owner 2102 -j RETURN
  "$1" -t nat -A OUTPUT -p tcp --dport 9999 -j REDIRECT --to-port 4140
  "$1" -t nat -A OUTPUT -p tcp --dport 8888 -j REDIRECT --to-port 4143
}
redirect iptables
servers=10.9.9.9
listen=127.0.0.1:4140
if redirect ip6tables 2>/dev/null; then
  servers="$servers fd00::9"
  listen="$listen,[::1]:4140"
fi
cp "$1" "$2/linkerd-proxy"
chmod 755 "$2" "$2/linkerd-proxy"
# No control plane answers: an address is then carried to where it was going.
export LINKERD2_PROXY_DESTINATION_SVC_ADDR=127.0.0.1:1 LINKERD2_PROXY_POLICY_SVC_ADDR=127.0.0.1:1
export LINKERD2_PROXY_POLICY_WORKLOAD=w LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS=$listen
export LINKERD2_PROXY_INBOUND_LISTEN_ADDR="[::]:4143" LINKERD2_PROXY_ADMIN_LISTEN_ADDR=0.0.0.0:4191
setpriv --reuid 2102 --clear-groups "$2/linkerd-proxy" 2>"$2/log" &
trap 'kill $!; cat "$2/log" >&2' EXIT
for _ in $(seq 200); do
  (exec 3<>/dev/tcp/127.0.0.1/4191) 2>/dev/null && break
  sleep 0.05
done
timeout 30 python3 - $servers <<'P'
import socket, sys, threading

def family(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET

# Servers that say where they are, at addresses that only redirection leads away from.
def server(host, port):
    listener = socket.create_server((host, port), family=family(host))
    answer = f"{host} {port}".encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(answer)
    def serve():
        while True:
            conn, _ = listener.accept()
            conn.recv(1024)
            conn.sendall(head + answer)
    threading.Thread(target=serve, daemon=True).start()

def ask(host, port, request, source=None):
    client = socket.create_connection((host, port), timeout=10, source_address=source)
    client.sendall(request)
    answer = b""
    while part := client.recv(65536):
        answer += part
    return answer.decode()

request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
for host in sys.argv[1:]:
    for port in [9999, 8888]:
        server(host, port)
        print(ask(host, port, request).rsplit("\r\n", 1)[1])

page = ask("127.0.0.1", 4191, b"GET /metrics HTTP/1.0\r\n\r\n")
for line in page.splitlines():
    if line.startswith("request_total{"):
        print(line)

put = b"PUT /proxy-log-level HTTP/1.0\r\ncontent-length: 4\r\n\r\nwarn"
for source in ["127.0.0.1", "10.9.9.9"]:
    print("change from", source, ask(source, 4191, put, (source, 0)).split()[1])
P
