//! Telling protocols apart by their first bytes.

use crate::rig::{APP_PORT, Both, SOON, web};
use hyper::{Response, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use integration::{
    client::{self, Client},
    control::proto,
    eventually,
    server::Server,
    tcp::{self, Raw},
};
use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::io::AsyncWriteExt;

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
        builder.env("LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT", "500ms")
    });
    // Outbound, the ten seconds of the policy are not followed; inbound it has the last word.
    let soon = Duration::from_millis(500);
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

/// Connects without a word, and waits until the server was dialled for it.
async fn silent(addr: SocketAddr, server: &tcp::Server) -> Raw {
    let before = server.accepted();
    let raw = Raw::connect(addr).await;
    eventually::holds("the server is dialled", SOON, || async {
        server.accepted() > before
    })
    .await;
    raw
}

/// HTTP requests to this application that were seen as such.
fn requests(both: &Both, path: &str) -> f64 {
    both.proxy.metric("request_total", &[("direction", path)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_client_of_an_http_2_server_spoils_nothing() {
    let server = tcp::Server::start(|stream| async move {
        let answer = |_| async { Ok::<_, Infallible>(Response::new(client::empty())) };
        let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let served = server.serve_connection(TokioIo::new(stream), service_fn(answer));
        served.await.map_err(io::Error::other)
    })
    .await;
    let settings = Raw::connect(server.addr()).await.take(9).await;
    assert_eq!(settings[3], 4, "its settings come unasked");
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let silent = silent(addr, &server).await;
        for _ in 0..5 {
            let mut client = Client::http2(addr).await;
            let answer = client.send(client::request(&web("/"))).await;
            assert_eq!(answer.status, 200, "{path}");
        }
        // In the end it speaks, too.
        let client = Client::http2_over(silent.into_stream()).await;
        let mut client = client.expect("HTTP/2");
        let answer = client.send(client::request(&web("/"))).await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(requests(&both, path), 6.0, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_gives_up_a_silent_client_spoils_nothing() {
    let given_up = Arc::new(AtomicUsize::new(0));
    let count = given_up.clone();
    let server = tcp::Server::start(move |mut stream| {
        let count = count.clone();
        async move {
            let head = tokio::time::timeout(SOON / 20, tcp::read_head(&mut stream)).await;
            let answer = match head {
                Ok(_) => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
                Err(_) => "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n",
            };
            stream.write_all(answer.as_bytes()).await?;
            count.fetch_add(usize::from(head.is_err()), Ordering::SeqCst);
            Ok(())
        }
    })
    .await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let before = given_up.load(Ordering::SeqCst);
        let mut idle = silent(addr, &server).await;
        eventually::holds("the server has given up", SOON, || async {
            given_up.load(Ordering::SeqCst) > before
        })
        .await;
        for n in 1..=5 {
            assert_eq!(client::get(addr, &web("/")).await.status, 200, "{path}");
            assert_eq!(requests(&both, path), f64::from(n), "{path}");
        }
        idle.send("GET / HTTP/1.1\r\nhost: web.demo.svc.cluster.local\r\n\r\n")
            .await;
        assert_eq!(idle.answer().await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_first_is_heard_whoever_called_before() {
    let server = tcp::Server::greeting("220 ready\r\n").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut stray = Raw::connect(addr).await;
        stray
            .send("GET / HTTP/1.1\r\nhost: web.demo.svc.cluster.local\r\n\r\n")
            .await;
        assert_eq!(stray.answer().await.status, 502, "{path}");
        for _ in 0..2 {
            let mut raw = Raw::connect(addr).await;
            let greeting = raw.expect("220 ready\r\n");
            eventually::within(&format!("{path}: the greeting"), SOON, greeting).await;
        }
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
