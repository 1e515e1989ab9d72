//! What a client of HTTP/2 may ask of a sidecar at most.

use crate::{
    hostile::{PREFACE, frame, headers},
    rig::{Both, SOON, web},
};
use bytes::Bytes;
use integration::{client, eventually, proxy::Builder, server::Server, tcp::Raw};
use std::net::SocketAddr;
use tokio::net::TcpStream;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM_AND_HEADERS: u8 = 5;
const REFUSED_STREAM: [u8; 4] = [0, 0, 0, 7];

/// Sets a variable of both directions.
fn server_env(builder: Builder, name: &str, value: &str) -> Builder {
    ["INBOUND", "OUTBOUND"]
        .into_iter()
        .fold(builder, |builder, side| {
            builder.env(&format!("LINKERD2_PROXY_{side}_SERVER_HTTP2_{name}"), value)
        })
}

async fn over_http2(addr: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(addr).await.expect("the proxy listens");
    let (send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    send
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_past_the_limit_is_refused_and_the_others_go_on() {
    let server = Server::start("app").await;
    let both = Both::with(server.addr(), |builder| {
        server_env(builder, "MAX_CONCURRENT_STREAMS", "2")
    });
    server.hang(true);
    for (path, addr) in both.paths() {
        let seen = server.requests();
        let mut raw = Raw::connect(addr).await;
        raw.send(PREFACE).await;
        for stream in [1, 3, 5] {
            raw.send(frame(HEADERS, END_STREAM_AND_HEADERS, stream, &headers()))
                .await;
        }
        let refused = eventually::within("a refusal", SOON, async {
            loop {
                let head = raw.take(9).await;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let payload = raw.take(length as usize).await;
                if head[3] == RST_STREAM {
                    return (head[5..9].to_vec(), payload);
                }
            }
        })
        .await;
        assert_eq!(refused.0, 5_u32.to_be_bytes(), "{path}");
        assert_eq!(refused.1, REFUSED_STREAM, "{path}");
        eventually::holds("the others are in flight", SOON, || async {
            server.requests() == seen + 2
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_list_past_the_limit_is_answered_431_and_the_connection_stays() {
    let server = Server::start("app").await;
    let both = Both::with(server.addr(), |builder| {
        server_env(builder, "MAX_HEADER_LIST_SIZE", "4096")
    });
    for (path, addr) in both.paths() {
        let mut send = over_http2(addr).await;
        for (size, want) in [(1_000, 200), (6_000, 431), (1_000, 200)] {
            send = send.ready().await.expect("open");
            let request = http::Request::get(web("/"))
                .header("x-large", "a".repeat(size))
                .body(())
                .expect("valid");
            let (answer, _) = send.send_request(request, true).expect("it can be sent");
            let answer = eventually::within("an answer", SOON, answer).await;
            let status = answer.expect("an answer").status();
            assert_eq!(status, want, "{path}: {size} bytes");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_block_that_never_ends_is_cut_off() {
    let server = Server::start("app").await;
    let both = Both::with(server.addr(), |builder| {
        let builder = server_env(builder, "KEEP_ALIVE_INTERVAL", "200ms");
        server_env(builder, "KEEP_ALIVE_TIMEOUT", "200ms")
    });
    for (path, addr) in both.paths() {
        let mut raw = Raw::connect(addr).await;
        raw.send(PREFACE).await;
        raw.send(frame(HEADERS, 1, 1, &headers())).await;
        // Nothing may come between these frames (RFC 9113, section 6.10), so nor can the answer to a PING;
        // and many small ones are cut off for their number.
        raw.send(frame(CONTINUATION, 0, 1, &[0, 1, b'a', 100, b'b']))
            .await;
        let what = format!("{path}: the end");
        eventually::within(&what, SOON, raw.rest()).await;
        let healthy = client::get(addr, &web("/")).await;
        assert_eq!(healthy.status, 200, "{path}");
    }
}
