//! Telling protocols apart by their first bytes.

use crate::rig::{APP_PORT, Both, SOON, WEB};
use integration::{
    client,
    control::proto::{self, Policy},
    eventually,
    server::Server,
    tcp::{self, Raw},
};
use std::{net::SocketAddr, time::Duration};

/// A ClientHello for `example.com`, as small as one can be.
fn client_hello() -> Vec<u8> {
    let name = b"example.com";
    let mut sni = vec![0, (name.len() + 3) as u8, 0, 0, name.len() as u8];
    sni.extend(name);
    let mut extensions = vec![0, 0, 0, sni.len() as u8];
    extensions.extend(&sni);
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0x13, 0x01, 1, 0, 0, extensions.len() as u8]);
    hello.extend(&extensions);
    let mut handshake = vec![1, 0, 0, hello.len() as u8];
    handshake.extend(&hello);
    let mut record = vec![22, 3, 1, 0, handshake.len() as u8];
    record.extend(&handshake);
    record
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_1_is_seen_however_slowly_it_comes() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        for byte in b"GET /bytes/4 HTTP/1.1\r\nhost: web.demo.svc.cluster.local\r\n\r\n" {
            raw.send([*byte]).await;
            tokio::task::yield_now().await;
        }
        let answer = raw.answer().await;
        assert_eq!((answer.status, answer.body.len()), (200, 4), "{path}");
    }
    let http1 = both
        .proxy
        .metric("request_total", &[("direction", "outbound")]);
    assert_eq!(http1, 1.0, "it was counted as a request");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_2_preface_is_seen_in_pieces() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        for piece in ["PRI * HT", "TP/2.0\r\n", "\r\nSM\r\n\r\n"] {
            raw.send(piece).await;
            tokio::task::yield_now().await;
        }
        raw.send(b"\0\0\0\x04\0\0\0\0\0").await;
        // The answer to a preface is a SETTINGS frame.
        let frame = eventually::within("settings", SOON, raw.take(9)).await;
        assert_eq!(frame[3], 4, "{frame:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_bytes_pass_without_waiting() {
    let server = tcp::Server::echo().await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        // Not even a longer line could make these HTTP or TLS.
        for bytes in [
            &b"\x00"[..],
            b"*1\r\n$4\r\nPING\r\n",
            b"hello world\n",
            b"three words without end",
            b"\xff\xfe\xfd",
        ] {
            let mut raw = Raw::connect(addr).await;
            raw.send(bytes).await;
            eventually::within("the echo", Duration::from_secs(3), raw.expect(bytes)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_passes_through_untouched() {
    let server = tcp::Server::echo().await;
    let both = Both::start(server.addr());
    let hello = client_hello();
    for (_, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        let (start, end) = hello.split_at(20);
        raw.send(start).await;
        tokio::task::yield_now().await;
        raw.send(end).await;
        eventually::within("the echo", Duration::from_secs(3), raw.expect(&hello)).await;
        raw.send("\x17\x03\x03").await;
        raw.expect("\x17\x03\x03").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn undecided_bytes_pass_at_the_deadline() {
    let server = tcp::Server::echo().await;
    let both = Both::with(server.addr(), |builder| {
        builder
            .env("LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT", "500ms")
            .env("LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT", "500ms")
    });
    // Policy has a deadline, too.
    let soon = Duration::from_millis(500);
    both.control.policy(WEB, &Policy::new(WEB).detect(soon));
    both.control.inbound(APP_PORT, proto::detected_port(soon));
    for (path, addr) in both.paths() {
        eventually::holds(&format!("{path}: the policy is in force"), SOON, || async {
            let mut raw = Raw::connect(addr).await;
            raw.send("GE").await;
            tokio::time::timeout(soon * 2, raw.take(2))
                .await
                .is_ok_and(|echo| echo == b"GE")
        })
        .await;
        let mut raw = Raw::connect(addr).await;
        raw.send("GE").await;
        raw.expect("GE").await;
        raw.send("T is no request\n").await;
        raw.expect("T is no request\n").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_closed_without_a_byte_is_closed_and_forgotten() {
    let server = tcp::Server::echo().await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.finish_sending().await;
        eventually::within("the end", SOON, raw.expect_end()).await;
    }
    eventually::holds("no connection is left open", SOON, || async {
        both.proxy
            .metric("tcp_open_connections", &[("peer", "src")])
            == 0.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_address_families_are_served() {
    let Ok(probe) = std::net::TcpListener::bind("[::1]:0") else {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    };
    let v6 = probe.local_addr().expect("bound");
    drop(probe);
    let server = Server::start("app").await;
    let both = Both::with(server.addr(), |builder| {
        let v4 = SocketAddr::from((builder.ip(), 4140));
        builder.env(
            "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDRS",
            &format!("{v4},{v6}"),
        )
    });
    for addr in [both.proxy.outbound(), v6] {
        let answer = client::get(addr, "http://web.demo.svc.cluster.local/").await;
        assert_eq!(answer.status, 200, "{addr}");
    }
}
