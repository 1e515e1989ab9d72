# Run in a network namespace of its own, as root: $1 is the proxy, $2 a directory to write to.
# Redirects what is sent to port 9999 to the proxy, except what the proxy (uid 2102) sends itself.
set -eu
ip link set lo up
iptables -t nat -A OUTPUT -p tcp -m owner --uid-owner 2102 -j RETURN
iptables -t nat -A OUTPUT -p tcp --dport 9999 -j REDIRECT --to-port 4140
cp "$1" "$2/linkerd-proxy"
chmod 755 "$2" "$2/linkerd-proxy"
# No control plane answers: an address is then carried to where it was going.
export LINKERD2_PROXY_DESTINATION_SVC_ADDR=127.0.0.1:1 LINKERD2_PROXY_POLICY_SVC_ADDR=127.0.0.1:1
export LINKERD2_PROXY_POLICY_WORKLOAD=w
setpriv --reuid 2102 --clear-groups "$2/linkerd-proxy" 2>"$2/log" &
trap 'kill $!' EXIT
for _ in $(seq 100); do
  (exec 3<>/dev/tcp/127.0.0.1/4191) 2>/dev/null && break
  sleep 0.05
done
# A server that answers one connection, at an address that only redirection leads away from.
timeout 10 python3 - <<'P'
import socket, threading
server = socket.create_server(("127.0.0.9", 9999))
def serve():
    conn, _ = server.accept()
    conn.recv(1024)
    conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\noriginal")
threading.Thread(target=serve, daemon=True).start()
client = socket.create_connection(("127.0.0.9", 9999), timeout=5)
client.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
print(client.recv(1024).decode().rsplit("\r\n", 1)[1])
admin = socket.create_connection(("127.0.0.1", 4191), timeout=5)
admin.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
page = b""
while part := admin.recv(65536):
    page += part
print(next(line for line in page.decode().splitlines() if line.startswith("request_total{")))
P
