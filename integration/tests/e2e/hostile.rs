//! Input that means harm: each is refused with the right status, nothing crashes, memory is flat.

use crate::rig::{Both, Outbound, SOON, web};
use integration::{client, eventually, proxy::Proxy, server::Server, tcp::Raw};
use std::{net::SocketAddr, time::Duration};

const HOST: &str = "host: web.demo.svc.cluster.local\r\n";
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// How much memory may grow while it is attacked.
const FLAT_KIB: u64 = 8 << 10;

/// Sends `request` and expects `status` and then the end of the connection.
async fn refused(what: &str, addr: SocketAddr, request: &str, status: u16) {
    let mut raw = Raw::connect(addr).await;
    let _ = raw.try_send(request).await;
    let answer = eventually::within(what, SOON, raw.rest()).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.starts_with(&format!("HTTP/1.1 {status} ")),
        "{what}: {answer:?}"
    );
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{what}: {answer:?}");
}

/// Nothing came through, and the proxy is as well as before.
async fn unharmed(addr: SocketAddr, proxy: &Proxy, before_kib: u64) {
    assert_eq!(client::get(addr, &web("/")).await.status, 200);
    let grown = proxy.rss_kib().saturating_sub(before_kib);
    assert!(grown < FLAT_KIB, "memory grew by {grown} KiB");
}

/// A frame of HTTP/2.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// `GET / HTTP`, with an authority, as HPACK without compression.
pub(crate) fn headers() -> Vec<u8> {
    let authority = b"web.demo.svc.cluster.local";
    let mut block = vec![0x82, 0x86, 0x84, 0x41, authority.len() as u8];
    block.extend(authority);
    block
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smuggling_shapes_are_refused() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        assert_eq!(client::get(addr, &web("/")).await.status, 200);
        let (before, seen) = (both.proxy.rss_kib(), server.requests());
        for (what, headers) in [
            (
                "both framings",
                "content-length: 5\r\ntransfer-encoding: chunked\r\n",
            ),
            (
                "both framings, turned",
                "transfer-encoding: chunked\r\ncontent-length: 5\r\n",
            ),
            ("two lengths", "content-length: 5\r\ncontent-length: 6\r\n"),
            ("a list of lengths", "content-length: 5, 6\r\n"),
            ("a negative length", "content-length: -5\r\n"),
            ("a length with a sign", "content-length: +5\r\n"),
            ("a folded line", "x-a: 1\r\n  content-length: 5\r\n"),
            ("space before the colon", "content-length : 5\r\n"),
            ("an unknown coding", "transfer-encoding: chunked, gzip\r\n"),
            ("a bare CR", "x-a: 1\rcontent-length: 5\r\n"),
            ("a NUL", "x-a: \0\r\n"),
        ] {
            let request = format!("POST / HTTP/1.1\r\n{HOST}{headers}\r\n0\r\n\r\nGET /x");
            refused(&format!("{path}: {what}"), addr, &request, 400).await;
        }
        assert_eq!(
            server.requests(),
            seen,
            "{path}: nothing reached the application"
        );
        unharmed(addr, &both.proxy, before).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_chunk_ends_the_request_and_the_connection() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        for chunk in [
            "zz\r\nhello\r\n",
            "5\r\nhelloXX",
            "ffffffffffffffff1\r\n",
            "0\r\n\n",
        ] {
            let mut raw = Raw::connect(addr).await;
            let _ = raw
                .try_send(format!(
                    "POST /echo HTTP/1.1\r\n{HOST}transfer-encoding: chunked\r\n\r\n{chunk}\
                     GET /smuggled HTTP/1.1\r\n{HOST}\r\n"
                ))
                .await;
            let rest = eventually::within("the end", SOON, raw.rest()).await;
            let text = String::from_utf8_lossy(&rest).into_owned();
            // The endpoint may have begun to answer by then; that answer breaks off.
            let is_whole = text.ends_with("\r\n0\r\n\r\n");
            let is_right = text.starts_with("HTTP/1.1 400 ") || text.contains(" 200 ") && !is_whole;
            let answers = text.matches("HTTP/1.1 ").count();
            assert!(is_right && answers == 1, "{path}: {chunk:?}: {text}");
        }
        assert_eq!(client::get(addr, &web("/")).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oversized_headers_are_refused() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        assert_eq!(client::get(addr, &web("/")).await.status, 200);
        let before = both.proxy.rss_kib();
        let long = format!(
            "GET / HTTP/1.1\r\n{HOST}x-long: {}\r\n\r\n",
            "a".repeat(2 << 20)
        );
        refused(&format!("{path}: one long line"), addr, &long, 431).await;
        let many = "x-many: 1\r\n".repeat(2000);
        let many = format!("GET / HTTP/1.1\r\n{HOST}{many}\r\n");
        refused(&format!("{path}: many lines"), addr, &many, 431).await;
        unharmed(addr, &both.proxy, before).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ordinary_large_headers_pass() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        // What users of Linkerd run into at 16 KiB.
        let cookie = "c".repeat(24 << 10);
        raw.send(format!("GET / HTTP/1.1\r\n{HOST}cookie: {cookie}\r\n\r\n"))
            .await;
        assert_eq!(raw.answer().await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_headers_disturb_nobody_and_are_cut_off() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        assert_eq!(client::get(addr, &web("/")).await.status, 200);
        let before = both.proxy.rss_kib();
        let mut slow = Vec::new();
        for _ in 0..200 {
            let mut raw = Raw::connect(addr).await;
            raw.send(format!("GET / HTTP/1.1\r\n{HOST}x-slow: ")).await;
            slow.push(raw);
        }
        let grown = both.proxy.rss_kib().saturating_sub(before);
        assert!(
            grown < 200 * 64,
            "{path}: {grown} KiB for 200 unfinished heads"
        );
        assert_eq!(client::get(addr, &web("/")).await.status, 200, "{path}");
        // One more byte now and then does not keep them.
        let cut = eventually::within("cut off", Duration::from_secs(40), async {
            let first = &mut slow[0];
            loop {
                if first.try_send("a").await.is_err() {
                    return;
                }
                let mut byte = [0];
                match first.stream().try_read(&mut byte) {
                    Ok(_) => return,
                    Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
                }
            }
        });
        cut.await;
        assert_eq!(client::get(addr, &web("/")).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rapid_resets_do_no_harm() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        assert_eq!(client::get(addr, &web("/")).await.status, 200);
        let before = both.proxy.rss_kib();
        let seen = server.requests();
        let mut raw = Raw::connect(addr).await;
        let mut attack = PREFACE.to_vec();
        for n in 0..20_000 {
            let stream = 2 * n + 1;
            attack.extend(frame(1, 0x5, stream, &headers()));
            attack.extend(frame(3, 0, stream, &8_u32.to_be_bytes()));
        }
        let _ = raw.try_send(&attack).await;
        // GOAWAY with ENHANCE_YOUR_CALM, or at least the end.
        eventually::within("the connection is ended", SOON, raw.rest()).await;
        let reached = server.requests() - seen;
        assert!(
            reached < 5_000,
            "{path}: {reached} requests reached the application"
        );
        unharmed(addr, &both.proxy, before).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_continuation_flood_does_no_harm() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        assert_eq!(client::get(addr, &web("/")).await.status, 200);
        let before = both.proxy.rss_kib();
        let mut raw = Raw::connect(addr).await;
        raw.send(PREFACE).await;
        // Headers without END_HEADERS, and no end of what follows.
        raw.send(frame(1, 0x1, 1, &headers())).await;
        let mut literal = vec![0, 1, b'x', 0x7f, 0x80, 0x7f];
        literal.resize(16_000, b'a');
        let flood = frame(9, 0, 1, &literal);
        for _ in 0..2_000 {
            if raw.try_send(&flood).await.is_err() {
                break;
            }
        }
        eventually::within("the connection is ended", SOON, raw.rest()).await;
        unharmed(addr, &both.proxy, before).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_settings_and_pings_do_no_harm() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (_, addr) in both.paths() {
        assert_eq!(client::get(addr, &web("/")).await.status, 200);
        let before = both.proxy.rss_kib();
        let mut raw = Raw::connect(addr).await;
        raw.send(PREFACE).await;
        let mut flood = frame(4, 0, 0, &[]);
        flood.extend(frame(6, 0, 0, &[0; 8]));
        let flood = flood.repeat(1000);
        // Nothing is read, so answers pile up; a proxy that stops reading has done well, too.
        for _ in 0..20 {
            let sent = tokio::time::timeout(Duration::from_millis(500), raw.try_send(&flood)).await;
            if !matches!(sent, Ok(Ok(()))) {
                break;
            }
        }
        unharmed(addr, &both.proxy, before).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_is_no_http() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        assert_eq!(client::get(addr, &web("/")).await.status, 200);
        let before = both.proxy.rss_kib();
        // After a preface nothing but frames makes sense.
        let mut raw = Raw::connect(addr).await;
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend([0xff; 64]);
        raw.send(bytes).await;
        eventually::within("the end", SOON, raw.rest()).await;

        refused(
            &format!("{path}: a bad target"),
            addr,
            &format!("GET <> HTTP/1.1\r\n{HOST}\r\n"),
            400,
        )
        .await;
        refused(
            &format!("{path}: no host"),
            addr,
            "GET / HTTP/1.1\r\n\r\n",
            400,
        )
        .await;
        let hosts = format!("GET / HTTP/1.1\r\n{HOST}host: other\r\n\r\n");
        refused(&format!("{path}: two hosts"), addr, &hosts, 400).await;
        unharmed(addr, &both.proxy, before).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_endpoint_is_a_bad_gateway() {
    for response in [
        &b"garbage that is no HTTP\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"HTTP/1.1 999999 no\r\n\r\n",
    ] {
        let server = integration::tcp::Server::canned(response).await;
        let both = Both::start(server.addr());
        for (path, addr) in both.paths() {
            let answer = client::get(addr, &web("/")).await;
            assert_eq!(
                answer.status,
                502,
                "{path}: {:?}",
                String::from_utf8_lossy(response)
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_unknown_names_leave_nothing_behind() {
    let outbound = Outbound::with(1, |builder| {
        builder.env("LINKERD2_PROXY_METRICS_RETAIN_IDLE", "1s")
    })
    .await;
    assert_eq!(client::get(outbound.addr(), &web("/")).await.status, 200);
    let before = outbound.proxy.rss_kib();
    let mut client = client::Client::http1(outbound.proxy.outbound()).await;
    for n in 0..2_000 {
        let uri = format!("http://n{n}.demo.svc.cluster.local/");
        if client.try_send(client::request(&uri)).await.is_err() || client.is_closed() {
            client = client::Client::http1(outbound.proxy.outbound()).await;
        }
    }
    let forgotten = eventually::blocking(SOON * 4, || {
        (outbound.proxy.rss_kib() < before + FLAT_KIB).then_some(())
    });
    assert!(
        forgotten.is_some(),
        "{} KiB, {before} before",
        outbound.proxy.rss_kib()
    );
    unharmed(outbound.addr(), &outbound.proxy, before).await;
    let series = outbound.proxy.metrics().text().lines().count();
    assert!(series < 5_000, "{series} lines of metrics");
}
