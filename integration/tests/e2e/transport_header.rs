//! The inbound port that proxies speak to: mesh TLS, then a header that says for which port.

use crate::rig::{
    APP_PORT, SOON,
    mesh::{Mesh, Plan, Way},
};
use integration::{
    client::{self, Client},
    control::proto,
    eventually, pki,
    server::Server,
    tcp::{self, Raw},
    tls::{self, ClientStream},
    transport_header::{ALPN, Session, TransportHeader, framed},
};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// A peer that is no proxy of ours, connected to the inbound port, the header yet to be written.
async fn peer(mesh: &Mesh) -> ClientStream {
    let client = mesh.foreign("batch").alpn(&[ALPN]);
    let stream = client.connect(mesh.server.inbound()).await;
    let stream = stream.expect("proxies of the mesh are welcome");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(ALPN));
    stream
}

/// The same with `header` written.
async fn with_header(mesh: &Mesh, header: &TransportHeader) -> ClientStream {
    let mut stream = peer(mesh).await;
    stream
        .write_all(&header.encode())
        .await
        .expect("it is taken");
    stream
}

/// Sends `bytes` and expects no answer but the end.
async fn refused(what: &str, stream: ClientStream, bytes: &[u8]) {
    let mut raw = Raw::over(stream);
    let _ = raw.try_send(bytes).await;
    eventually::within(what, SOON, raw.expect_end()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_reach_the_port_that_the_header_names() {
    let (app, other) = (
        tcp::Server::greeting("app\n").await,
        tcp::Server::greeting("other\n").await,
    );
    let at = other.addr();
    let mesh = Plan::new(Way::Header)
        .server(move |b| b.inbound(8090, at))
        .start(app.addr());
    for (port, greeting) in [(APP_PORT, "app\n"), (8090, "other\n")] {
        let stream = with_header(&mesh, &TransportHeader::port(port)).await;
        let mut raw = Raw::over(stream);
        raw.send("\x01to whom it concerns").await;
        raw.expect(greeting).await;
        raw.expect("\x01to whom it concerns").await;
        raw.finish_sending().await;
        raw.expect_end().await;
        let (port, id) = (port.to_string(), pki::identity("batch"));
        let labels = [("target_port", port.as_str()), ("client_id", &id)];
        let name = "inbound_tcp_transport_header_connections_total";
        assert_eq!(mesh.server.metric(name, &labels), 1.0, "{port}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_reach_the_port_that_the_header_names() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Header, app.addr());
    for session in [Session::Http1, Session::Http2] {
        let header = TransportHeader::session(APP_PORT, session);
        let stream = with_header(&mesh, &header).await;
        let (client, version) = match session {
            Session::Http1 => (Client::http1_over(stream).await, "HTTP/1.1"),
            Session::Http2 => (Client::http2_over(stream).await, "HTTP/2.0"),
        };
        let mut client = client.expect("HTTP");
        let mut request = client::request("http://api/headers");
        if session == Session::Http2 {
            request.headers_mut().remove(http::header::HOST);
        }
        let text = client.send(request).await.text();
        assert!(text.contains(version), "{session:?}: {text}");
        let id = format!("l5d-client-id: {}", pki::identity("batch"));
        assert!(text.contains(&id), "{session:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_comes_byte_by_byte_with_its_payload_is_read() {
    let app = tcp::Server::echo().await;
    let mesh = Mesh::start(Way::Header, app.addr());
    let mut stream = peer(&mesh).await;
    let header = TransportHeader::port(APP_PORT).encode();
    for byte in header {
        stream.write_all(&[byte]).await.expect("it is taken");
        stream.flush().await.expect("it is taken");
        tokio::task::yield_now().await;
    }
    let mut raw = Raw::over(stream);
    raw.send("\x01slow").await;
    raw.expect("\x01slow").await;

    // And all at once, in one record.
    let mut bytes = TransportHeader::port(APP_PORT).encode();
    bytes.extend(b"\x01fast");
    let mut raw = Raw::over(peer(&mesh).await);
    raw.send(bytes).await;
    raw.expect("\x01fast").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_that_make_no_sense_are_refused() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Header, app.addr());
    let memory = mesh.server.rss_kib();
    let good = TransportHeader::port(APP_PORT).encode();
    let gateway = TransportHeader {
        port: 80,
        name: "web.demo.svc.cluster.local".to_owned(),
        session: Some(Session::Http1),
    };
    for (what, bytes) in [
        (
            "no header at all",
            b"GET / HTTP/1.1\r\nhost: api\r\n\r\n".to_vec(),
        ),
        ("a header of nothing", framed(0, b"")),
        (
            "more than a header may be",
            framed(1 << 20, &vec![0; 1 << 20]),
        ),
        ("as much as a length can say", framed(u32::MAX, b"x")),
        ("no message", framed(4, &[0xff; 4])),
        ("a port that is none", framed(4, &[8, 0xff, 0xff, 0x7f])),
        (
            "a negative port",
            framed(11, &[8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ),
        ("port 0", framed(2, &[8, 0])),
        (
            "a port that nobody listens on",
            TransportHeader::port(9).encode(),
        ),
        (
            "the inbound port itself",
            TransportHeader::port(4143).encode(),
        ),
        (
            "another name, to a proxy that is no gateway",
            gateway.encode(),
        ),
        (
            "another version",
            [b"transport.l5d.io/v2", &good[19..]].concat(),
        ),
    ] {
        let request = b"GET / HTTP/1.1\r\nhost: api\r\n\r\n".to_vec();
        refused(what, peer(&mesh).await, &[bytes, request].concat()).await;
    }
    assert_eq!(app.accepted(), 0, "nothing reached the application");
    let grown = mesh.server.rss_kib().saturating_sub(memory);
    assert!(grown < 8 << 10, "memory grew by {grown} KiB");
    let answer = client::get(mesh.addr(), &crate::rig::web("/")).await;
    assert_eq!(answer.status, 200, "the proxy is as well as before");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_never_ends_is_waited_for_no_longer_than_detection() {
    let app = Server::start("app").await;
    let plan =
        Plan::new(Way::Header).server(|b| b.env("LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT", "500ms"));
    let mesh = plan.start(app.addr());
    let header = TransportHeader::port(APP_PORT).encode();
    for n in [0, 1, 20, header.len() - 1] {
        refused(&format!("{n} bytes"), peer(&mesh).await, &header[..n]).await;
    }
    assert_eq!(app.accepted(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_header_keeps_nobody_waiting() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Header, app.addr());
    let mut slow = Vec::new();
    for _ in 0..50 {
        slow.push(peer(&mesh).await);
    }
    let answer = client::get(mesh.addr(), &crate::rig::web("/")).await;
    assert_eq!(answer.status, 200);
    drop(slow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_inbound_port_is_for_proxies_of_the_mesh_alone() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Header, app.addr());
    let header = TransportHeader::port(APP_PORT).encode();
    let request = b"GET / HTTP/1.1\r\nhost: api\r\n\r\n";
    for (what, bytes) in [
        ("HTTP", &request[..]),
        ("a header in clear", &header),
        ("bytes", b"\x01"),
    ] {
        let mut raw = Raw::connect(mesh.server.inbound()).await;
        let _ = raw.try_send(bytes).await;
        eventually::within(what, SOON, raw.expect_end()).await;
    }
    let inbound = mesh.server.inbound();
    // A workload is told by its certificate: without one the header is of no use.
    let nobody = mesh.nobody().alpn(&[ALPN]).connect(inbound).await;
    if let Ok(stream) = nobody {
        refused("no certificate", stream, &[&header[..], request].concat()).await;
    }
    // Without the header's protocol nobody can say for which port it is.
    if let Ok(stream) = mesh.foreign("batch").connect(inbound).await {
        refused("no ALPN", stream, request).await;
    }
    let somebody = tls::Client::new("shop.example").connect(inbound).await;
    assert!(
        somebody.is_err(),
        "TLS for somebody else is passed on to nobody"
    );
    assert_eq!(app.accepted(), 0, "nothing reached the application");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_policy_of_the_port_in_the_header_is_in_force() {
    let app = Server::start("app").await;
    let mesh = Plan::new(Way::Header)
        .before(|control| control.inbound(APP_PORT, proto::only_for(&pki::identity("other"))))
        .start(app.addr());
    let header = TransportHeader::session(APP_PORT, Session::Http1);
    eventually::holds("the policy is in force", SOON, || async {
        let stream = with_header(&mesh, &header).await;
        let mut client = Client::http1_over(stream).await.expect("HTTP");
        client.send(client::request("http://api/")).await.status == 403
    })
    .await;
    let opaque = with_header(&mesh, &TransportHeader::port(APP_PORT)).await;
    refused("opaque", opaque, b"\x01").await;
    let allowed = mesh
        .foreign("other")
        .alpn(&[ALPN])
        .connect(mesh.server.inbound())
        .await;
    let mut stream = allowed.expect("TLS is for all");
    stream
        .write_all(&header.encode())
        .await
        .expect("it is taken");
    let mut client = Client::http1_over(stream).await.expect("HTTP");
    assert_eq!(
        client.send(client::request("http://api/")).await.status,
        200
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_closed_connection_still_carries_the_other_half() {
    let app = tcp::Server::start(|mut stream| async move {
        let mut all = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut all).await?;
        let text = format!("{} bytes\n", all.len());
        stream.write_all(text.as_bytes()).await
    })
    .await;
    for way in Way::BOTH {
        let mesh = Mesh::start(way, app.addr());
        let mut raw = Raw::connect(mesh.addr()).await;
        raw.send("\x01some bytes").await;
        raw.finish_sending().await;
        let end = async {
            raw.expect("11 bytes\n").await;
            raw.expect_end().await;
        };
        eventually::within(&format!("{way:?}"), Duration::from_secs(5), end).await;
    }
}
