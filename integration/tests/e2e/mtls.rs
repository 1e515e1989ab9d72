//! Two sidecars prove who they are to each other, whatever it is that they carry.

use crate::rig::{
    APP_PORT, SOON, WEB, WEB_PORT,
    mesh::{Mesh, Plan, Way, client_id, server_id},
    values, web,
};
use bytes::Bytes;
use futures::SinkExt;
use http_body_util::BodyExt;
use hyper::body::Frame;
use integration::{
    client::{self, Client},
    control::proto::{self, Endpoint, Hint, Policy},
    eventually,
    pki::{Authority, Key, Validity},
    server::Server,
    tcp::{self, Raw},
};
use parking_lot::Mutex;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Notify,
};

/// One message of gRPC with its five-byte prefix.
fn message(text: &str) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.into()
}

/// Both sidecars have counted what they carried as mutually authenticated.
async fn both_count(mesh: &Mesh, name: &str, way: Way) {
    let (server_id, client_id) = (server_id(), client_id());
    let out = [
        ("direction", "outbound"),
        ("tls", "true"),
        ("server_id", &server_id),
    ];
    let into = [
        ("direction", "inbound"),
        ("tls", "true"),
        ("client_id", &client_id),
    ];
    let what = format!("{way:?}: {name} with both identities");
    eventually::holds(&what, SOON, || async {
        mesh.client.metric(name, &out) > 0.0 && mesh.server.metric(name, &into) > 0.0
    })
    .await;
    assert!(mesh.client.handshakes("outbound", "ok") > 0.0, "{way:?}");
    assert!(mesh.server.handshakes("inbound", "ok") > 0.0, "{way:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_goes_with_both_identities_verified() {
    for way in Way::BOTH {
        let server = Server::start("app").await;
        let mesh = Mesh::start(way, server.addr());
        let answer = client::get(mesh.addr(), &web("/headers")).await;
        let text = answer.text();
        assert_eq!(answer.status, 200, "{way:?}: {text}");
        assert_eq!(values(&text, "l5d-client-id"), [client_id()], "{way:?}");
        both_count(&mesh, "request_total", way).await;
        both_count(&mesh, "response_total", way).await;
        both_count(&mesh, "tcp_open_total", way).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_goes_with_both_identities_verified() {
    for way in Way::BOTH {
        let server = Server::start("app").await;
        let mesh = Mesh::start(way, server.addr());
        let mut client = Client::http2(mesh.addr()).await;
        let mut request = client::request(&web("/headers"));
        request.headers_mut().remove(http::header::HOST);
        let text = client.send(request).await.text();
        assert!(text.contains("HTTP/2.0"), "{way:?}: {text}");
        assert_eq!(values(&text, "l5d-client-id"), [client_id()], "{way:?}");
        both_count(&mesh, "request_total", way).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_streams_go_with_both_identities_verified() {
    for way in Way::BOTH {
        let server = Server::start("app").await;
        let mesh = Mesh::start(way, server.addr());
        let mut client = Client::http2(mesh.addr()).await;
        let (mut sender, receiver) = futures::channel::mpsc::channel(1);
        let call = client::grpc(&web("/echo.Echo/Bidi"), client::frames(receiver));
        let response = eventually::within("headers", SOON, client.open(call)).await;
        let mut body = response.expect("headers before any message").into_body();
        for n in 0..5 {
            let sent = message(&format!("message {n}"));
            let send = sender.send(Frame::data(sent.clone()));
            send.await.expect("the call is open");
            let frame = eventually::within("its echo", SOON, body.frame()).await;
            let data = frame.expect("not the end").expect("no error").into_data();
            assert_eq!(data.expect("a message"), sent, "{way:?}");
        }
        drop(sender);
        let last = eventually::within("trailers", SOON, body.frame()).await;
        let trailers = last.expect("trailers").expect("no error").into_trailers();
        assert_eq!(trailers.expect("trailers")["grpc-status"], "0", "{way:?}");
        both_count(&mesh, "request_total", way).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn opaque_bytes_go_with_both_identities_verified() {
    for way in Way::BOTH {
        for hint in [Hint::Http2, Hint::Opaque] {
            let server = tcp::Server::echo().await;
            let plan = Plan::new(way).told(move |told| told.hint(hint));
            let mesh = plan.start(server.addr());
            let mut raw = Raw::connect(mesh.addr()).await;
            raw.send("\x01opaque").await;
            raw.expect("\x01opaque").await;
            both_count(&mesh, "tcp_open_connections", way).await;
            raw.finish_sending().await;
            raw.expect_end().await;
            both_count(&mesh, "tcp_close_total", way).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opaque_port_goes_with_both_identities_verified() {
    let server = tcp::Server::echo().await;
    // Such ports are reached by a header: on them nothing is looked at, TLS of the mesh neither.
    let mesh = Plan::new(Way::Header)
        .told(|told| told.hint(Hint::Opaque))
        .before(|control| {
            control.policy(WEB, &Policy::new(WEB).opaque());
            control.inbound(APP_PORT, proto::opaque_port());
        })
        .start(server.addr());
    for bytes in ["GET / HTTP/1.1\r\n\r\n", "\x01opaque"] {
        let mut raw = Raw::connect(mesh.addr()).await;
        raw.send(bytes).await;
        raw.expect(bytes).await;
    }
    both_count(&mesh, "tcp_open_total", Way::Header).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_first_goes_with_both_identities_verified() {
    for way in Way::BOTH {
        let server = tcp::Server::greeting("220 ready\r\n").await;
        let mesh = Mesh::start(way, server.addr());
        // The second connection profits from what the first one has shown.
        for _ in 0..2 {
            let mut raw = Raw::connect(mesh.addr()).await;
            eventually::within("the greeting", SOON, raw.expect("220 ready\r\n")).await;
            raw.send("EHLO\r\n").await;
            raw.expect("EHLO\r\n").await;
        }
        both_count(&mesh, "tcp_open_total", way).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_pass_unchanged_both_ways() {
    for way in Way::BOTH {
        let server = Server::start("app").await;
        let mesh = Mesh::start(way, server.addr());
        let body: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        for http2 in [false, true] {
            let mut client = match http2 {
                true => Client::http2(mesh.addr()).await,
                false => Client::http1(mesh.addr()).await,
            };
            let mut request = client::with_body(
                http::Method::POST,
                &web("/echo"),
                client::full(body.clone()),
            );
            if http2 {
                request.headers_mut().remove(http::header::HOST);
            }
            let answer = client.send(request).await;
            assert!(answer.body == body, "{way:?}, HTTP/2: {http2}");
        }
    }
}

/// Passes on bytes between sidecars and keeps them.
async fn tapped(to: SocketAddr) -> (tcp::Server, Arc<Mutex<Vec<u8>>>) {
    let seen: Arc<Mutex<Vec<u8>>> = Arc::default();
    let kept = seen.clone();
    let server = tcp::Server::start(move |stream| {
        let kept = kept.clone();
        async move {
            let peer = TcpStream::connect(to).await?;
            let (from, into) = (stream.into_split(), peer.into_split());
            let there = pass(from.0, into.1, kept.clone());
            let back = pass(into.0, from.1, kept);
            tokio::try_join!(there, back).map(|_| ())
        }
    })
    .await;
    (server, seen)
}

async fn pass(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    seen: Arc<Mutex<Vec<u8>>>,
) -> std::io::Result<()> {
    let mut chunk = [0; 4096];
    loop {
        let n = from.read(&mut chunk).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        seen.lock().extend_from_slice(&chunk[..n]);
        to.write_all(&chunk[..n]).await?;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_is_carried_can_be_read_on_the_wire() {
    let server = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, server.addr());
    let (wire, seen) = tapped(mesh.app()).await;
    let told = proto::Mesh::new(&server_id());
    let endpoints = [Endpoint::meshed(wire.addr(), told)];
    mesh.control.weighted_endpoints(WEB, &endpoints);
    eventually::holds("it goes over the wire", SOON, || async {
        let uri = web("/echo?secret-path");
        let body = client::full("secret-body");
        let request = client::with_body(http::Method::POST, &uri, body);
        let answer = Client::http1(mesh.addr()).await.send(request).await;
        assert_eq!(answer.text(), "secret-body");
        !seen.lock().is_empty()
    })
    .await;
    let mut raw = Raw::connect(mesh.addr()).await;
    raw.send("\x01secret-bytes").await;
    let bytes = seen.lock().clone();
    assert_eq!(
        bytes[0],
        22,
        "it begins with a handshake: {:?}",
        &bytes[..8]
    );
    for secret in [&b"secret-"[..], b"HTTP/1.1", client_id().as_bytes()] {
        let is_there = bytes.windows(secret.len()).any(|window| window == secret);
        assert!(!is_there, "{}", String::from_utf8_lossy(secret));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_without_identity_are_dialled_in_clear() {
    let (meshed, plain) = (Server::start("meshed").await, Server::start("plain").await);
    let mesh = Mesh::start(Way::Port, meshed.addr());
    let told = proto::Mesh::new(&server_id());
    let both = [
        Endpoint::meshed(mesh.app(), told),
        Endpoint::from(plain.addr()),
    ];
    mesh.control.weighted_endpoints(WEB, &both);
    eventually::holds("both answer", SOON, || async {
        assert_eq!(client::get(mesh.addr(), &web("/")).await.status, 200);
        meshed.requests() > 0 && plain.requests() > 0
    })
    .await;
    let (id, ip) = (server_id(), plain.addr().ip().to_string());
    let in_clear = [
        ("direction", "outbound"),
        ("target_ip", &ip),
        ("tls", "no_identity"),
        ("no_tls_reason", "not_provided_by_service_discovery"),
    ];
    let by_tls = [
        ("direction", "outbound"),
        ("tls", "true"),
        ("server_id", &id),
    ];
    let count = |labels: &[_]| mesh.client.metric("request_total", labels);
    assert_eq!(count(&in_clear), plain.requests() as f64);
    assert_eq!(count(&by_tls), meshed.requests() as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_in_clear_are_served_and_counted_as_such() {
    let server = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, server.addr());
    assert_eq!(client::get(mesh.app(), &web("/")).await.status, 200);
    let labels = [
        ("direction", "inbound"),
        ("tls", "no_identity"),
        ("no_tls_reason", "no_tls_from_remote"),
    ];
    assert_eq!(mesh.server.metric("request_total", &labels), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reconnection_is_resumed_and_still_knows_its_peer() {
    let server = tcp::Server::echo().await;
    let mesh = Mesh::start(Way::Port, server.addr());
    let resumed = [
        ("direction", "outbound"),
        ("result", "ok"),
        ("resumed", "true"),
    ];
    eventually::holds("a session is resumed", SOON, || async {
        let mut raw = Raw::connect(mesh.addr()).await;
        raw.send("\x01again").await;
        raw.expect("\x01again").await;
        mesh.client.metric("tls_handshakes_total", &resumed) > 0.0
    })
    .await;
    let id = client_id();
    let metrics = mesh.server.metrics();
    let into = [("direction", "inbound"), ("peer", "src")];
    let known = [&into[..], &[("tls", "true"), ("client_id", &id)]].concat();
    let all = metrics.sum("tcp_open_total", &into);
    assert_eq!(
        metrics.sum("tcp_open_total", &known),
        all,
        "{}",
        metrics.text()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sidecars_prefer_what_quantum_computers_cannot_undo() {
    let server = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, server.addr());
    assert_eq!(client::get(mesh.addr(), &web("/")).await.status, 200);
    let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has_aes = flags.split_whitespace().any(|flag| flag == "aes");
    for (proxy, direction) in [(&mesh.client, "outbound"), (&mesh.server, "inbound")] {
        let labels = [
            ("direction", direction),
            ("result", "ok"),
            ("group", "X25519MLKEM768"),
        ];
        let metrics = proxy.metrics();
        assert!(
            metrics.sum("tls_handshakes_total", &labels) > 0.0,
            "{}",
            metrics.text()
        );
        let suite = [
            ("direction", direction),
            ("cipher", "TLS13_AES_128_GCM_SHA256"),
        ];
        let is_aes = metrics.sum("tls_handshakes_total", &suite) > 0.0;
        assert!(is_aes || !has_aes, "{}", metrics.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn issuers_and_roots_may_have_any_common_key() {
    let server = Server::start("app").await;
    for key in [Key::P384, Key::Rsa, Key::Ed25519] {
        let root = Authority::root_with("root", key, Validity::day());
        let issuer = root.issuer_with("issuer", key, Validity::day());
        let mesh = Plan::new(Way::Port).root(root, issuer).start(server.addr());
        let text = client::get(mesh.addr(), &web("/headers")).await.text();
        assert_eq!(values(&text, "l5d-client-id"), [client_id()], "{key:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_without_identity_goes_on_in_clear() {
    let server = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, server.addr());
    let plain = integration::proxy::with(&mesh.control)
        .outbound(WEB_PORT, WEB)
        .start();
    let answer = client::get(plain.port(WEB_PORT), &web("/headers")).await;
    assert_eq!(answer.status, 200);
    assert!(values(&answer.text(), "l5d-client-id").is_empty());
    let labels = [("direction", "outbound"), ("tls", "disabled")];
    assert_eq!(plain.metric("request_total", &labels), 1.0);
    assert!(mesh.server.handshakes("inbound", "ok") == 0.0);
}

/// Reads until it has `n` bytes, so slowly that whoever sends has to wait for it.
async fn read_slowly(stream: &mut TcpStream, n: usize) -> std::io::Result<()> {
    let mut piece = vec![0; 64 << 10];
    let mut left = n;
    while left > 0 {
        left -= stream.read(&mut piece[..left.min(64 << 10)]).await?;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_arrives_though_nothing_follows() {
    const LENGTH: usize = 32 << 20;
    const CHUNK: &str = "2000000\r\n";
    let arrived = Arc::new(Notify::new());
    let told = arrived.clone();
    // Neither the request nor the answer ever ends.
    let server = tcp::Server::start(move |mut stream| {
        let told = told.clone();
        async move {
            tcp::read_head(&mut stream).await?;
            read_slowly(&mut stream, CHUNK.len() + LENGTH).await?;
            told.notify_one();
            let head = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{CHUNK}");
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&vec![b'a'; LENGTH]).await?;
            std::future::pending().await
        }
    })
    .await;
    let mesh = Mesh::start(Way::Port, server.addr());
    let mut raw = Raw::connect(mesh.addr()).await;
    raw.send(format!(
        "POST / HTTP/1.1\r\nhost: web.demo.svc.cluster.local\r\ntransfer-encoding: chunked\r\n\r\n{CHUNK}"
    ))
    .await;
    raw.send(vec![b'a'; LENGTH]).await;
    eventually::within("all of the request", SOON * 4, arrived.notified()).await;
    assert_eq!(raw.answer_head().await.status, 200);
    let all = read_slowly(raw.stream(), CHUNK.len() + LENGTH);
    eventually::within("all of the answer", SOON * 4, all)
        .await
        .expect("it arrives");
}
