//! First messages of TLS, however they come: whole, in pieces, large, or meant to harm.

use crate::rig::{
    SOON,
    mesh::{Mesh, Plan, Way, server_id},
};
use integration::{
    client::{self, Client},
    eventually,
    server::Server,
    tcp::{self, Raw},
    tls::hello::{ClientHello, alert},
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy},
    net::TcpStream,
};

/// Passes on what comes, the client's side in pieces of `size` bytes.
async fn in_pieces(to: SocketAddr, size: usize) -> tcp::Server {
    tcp::Server::start(move |stream| async move {
        let peer = TcpStream::connect(to).await?;
        peer.set_nodelay(true)?;
        let ((mut from, mut back), (mut answers, mut into)) =
            (stream.into_split(), peer.into_split());
        let there = split(&mut from, &mut into, size);
        let back = async {
            copy(&mut answers, &mut back).await?;
            back.shutdown().await
        };
        tokio::try_join!(there, back).map(|_| ())
    })
    .await
}

async fn split(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    size: usize,
) -> std::io::Result<()> {
    let mut chunk = vec![0; 16 << 10];
    loop {
        let n = tokio::io::AsyncReadExt::read(from, &mut chunk).await?;
        if n == 0 {
            return to.shutdown().await;
        }
        for piece in chunk[..n].chunks(size) {
            to.write_all(piece).await?;
            // Each piece is a segment of its own, and there is time to read it.
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshakes_in_pieces_are_answered() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    for size in [1, 7, 100, 513] {
        let slow = in_pieces(mesh.app(), size).await;
        let stream = mesh.foreign("batch").connect(slow.addr()).await;
        let stream = stream.unwrap_or_else(|error| panic!("pieces of {size}: {error}"));
        let mut client = Client::http1_over(stream).await.expect("HTTP");
        let answer = client.send(client::request("http://api/headers")).await;
        assert!(answer.text().contains("batch.demo"), "pieces of {size}");
    }
}

/// What the sidecar says to a first message for its own name.
async fn answer(mesh: &Mesh, what: &str, bytes: &[u8]) -> Vec<u8> {
    let mut raw = Raw::connect(mesh.app()).await;
    let _ = raw.try_send(bytes).await;
    eventually::within(what, SOON, raw.take(5)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_first_messages_are_answered() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let hello = ClientHello::tls_1_3(&server_id());
    for (what, bytes) in [
        ("as small as can be", hello.record()),
        (
            "of several segments",
            hello.clone().unknown(1, 2000).record(),
        ),
        (
            "with a hundred extensions",
            hello.clone().unknown(100, 8).record(),
        ),
        ("of eight KiB", hello.clone().unknown(8, 1000).record()),
        ("of fifteen KiB", hello.clone().unknown(15, 1000).record()),
        ("in two records", hello.clone().records(200)),
        (
            "of six KiB in records of a hundred bytes",
            hello.clone().unknown(6, 1000).records(100),
        ),
    ] {
        let start = answer(&mesh, what, &bytes).await;
        assert_eq!(
            start[..3],
            [22, 3, 3],
            "a ServerHello to one {what}: {start:?}"
        );
    }
    assert_eq!(app.accepted(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_first_messages_for_somebody_else_pass_untouched() {
    let app = tcp::Server::echo().await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let hello = ClientHello::tls_1_3("shop.example");
    for bytes in [
        hello.clone().unknown(100, 8).record(),
        hello.clone().unknown(15, 1000).record(),
        hello.clone().unknown(6, 1000).records(100),
        ClientHello::tls_1_2("shop.example").record(),
        // One character more, or less, is another name.
        ClientHello::tls_1_3(&format!("{}x", server_id())).record(),
        ClientHello::tls_1_3(&server_id()[1..]).record(),
        ClientHello::tls_1_3(&format!("api.{}", server_id())).record(),
    ] {
        for size in [usize::MAX, 1000] {
            let mut raw = Raw::connect(mesh.app()).await;
            for piece in bytes.chunks(size.min(bytes.len())) {
                raw.send(piece).await;
            }
            raw.expect(&bytes).await;
        }
    }
    assert_eq!(
        mesh.server
            .metric("tls_handshakes_total", &[("direction", "inbound")]),
        0.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_compare_without_regard_to_case() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let shouted = ClientHello::tls_1_3(&server_id().to_uppercase());
    let start = answer(&mesh, "in capitals", &shouted.record()).await;
    assert_eq!(start[0], 22, "{start:?}");
    assert_eq!(app.accepted(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn first_messages_that_ask_for_what_is_not_spoken_get_an_alert() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let name = server_id();
    for (what, hello, code) in [
        ("TLS 1.2", ClientHello::tls_1_2(&name), 70),
        (
            "TLS 1.3 without a share",
            ClientHello::tls_1_2(&name).extension(43, &[2, 3, 4]),
            40,
        ),
    ] {
        let mut raw = Raw::connect(mesh.app()).await;
        raw.send(hello.record()).await;
        let rest = eventually::within(what, SOON, raw.rest()).await;
        let told = alert(&rest);
        assert_eq!(told, Some(code), "{what}: {rest:?}");
    }
    assert_eq!(app.accepted(), 0, "nothing reached the application");
    let metrics = mesh.server.metrics();
    assert_eq!(
        metrics.sum("tls_handshakes_total", &[("result", "ok")]),
        0.0
    );
    assert_eq!(
        metrics.sum("tls_handshakes_total", &[("result", "protocol_version")]),
        1.0
    );
}

/// `message` with the bytes at `at` replaced.
fn with(mut message: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    message[at..at + bytes.len()].copy_from_slice(bytes);
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_first_messages_do_no_harm() {
    let app = tcp::Server::silent().await;
    let plan =
        Plan::new(Way::Port).server(|b| b.env("LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT", "500ms"));
    let mesh = plan.start(app.addr());
    let memory = mesh.server.rss_kib();
    let whole = ClientHello::tls_1_3(&server_id()).record();
    let length = whole.len();
    let mut cases: Vec<(String, Vec<u8>)> = (1..length)
        .step_by(7)
        .map(|n| (format!("the first {n} bytes"), whole[..n].to_vec()))
        .collect();
    cases.extend([
        (
            "a record of 64 KiB".to_owned(),
            with(whole.clone(), 3, &[0xff, 0xff]),
        ),
        (
            "an empty record".to_owned(),
            [vec![22, 3, 1, 0, 0], whole.clone()].concat(),
        ),
        (
            "a message of 16 MiB".to_owned(),
            with(whole.clone(), 6, &[0xff; 3]),
        ),
        (
            "a session of 255 bytes".to_owned(),
            with(whole.clone(), 43, &[255]),
        ),
        (
            "suites without end".to_owned(),
            with(whole.clone(), 44, &[0xff, 0xff]),
        ),
        (
            "extensions without end".to_owned(),
            with(whole.clone(), 50, &[0xff, 0xff]),
        ),
        (
            "a thousand empty records".to_owned(),
            [22, 3, 1, 0, 0].repeat(1000),
        ),
        ("an alert".to_owned(), vec![21, 3, 1, 0, 2, 2, 40]),
        (
            "ten records that go on".to_owned(),
            with(whole.clone(), 6, &[1, 0, 0]).repeat(10),
        ),
    ]);
    let opened = cases.len();
    for (what, bytes) in cases {
        let mut raw = Raw::connect(mesh.app()).await;
        let _ = raw.try_send(&bytes).await;
        drop(raw);
        assert!(mesh.server.handshakes("inbound", "ok") == 0.0, "{what}");
    }
    // The same again, but nobody hangs up: each is settled by the deadline of detection.
    let mut open = Vec::new();
    for n in (1..length).step_by(7) {
        let mut raw = Raw::connect(mesh.app()).await;
        raw.send(&whole[..n]).await;
        open.push(raw);
    }
    let stream = mesh.foreign("batch").connect(mesh.app()).await;
    assert!(
        stream.is_ok(),
        "the proxy is as well as before, after {opened}"
    );
    let grown = mesh.server.rss_kib().saturating_sub(memory);
    assert!(grown < 8 << 10, "memory grew by {grown} KiB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_stops_halfway_is_cut_off() {
    let app = Server::start("app").await;
    let plan =
        Plan::new(Way::Port).server(|b| b.env("LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT", "500ms"));
    let mesh = plan.start(app.addr());
    let mut raw = Raw::connect(mesh.app()).await;
    raw.send(ClientHello::tls_1_3(&server_id()).record()).await;
    // The server's part comes, the client's does not, and the connection ends.
    let rest = eventually::within("the end", SOON * 3, raw.rest()).await;
    assert_eq!(rest[..2], [22, 3], "{:?}", &rest[..rest.len().min(8)]);
    assert_eq!(app.accepted(), 0);
    eventually::holds("it is counted", SOON, || async {
        let metrics = mesh.server.metrics();
        let all = metrics.sum("tls_handshakes_total", &[("direction", "inbound")]);
        all - metrics.sum(
            "tls_handshakes_total",
            &[("direction", "inbound"), ("result", "ok")],
        ) >= 1.0
    })
    .await;
}
