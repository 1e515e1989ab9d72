//! HTTP/2 with prior knowledge through both directions.

use crate::rig::{Both, Outbound, SOON, WEB, web};
use bytes::Bytes;
use futures::future::join_all;
use h2::Reason;
use http::{Method, Request};
use http_body_util::BodyExt;
use integration::{
    client::{self, Client},
    eventually,
    server::Server,
    tcp,
};
use std::{io, net::SocketAddr};
use tokio::net::TcpStream;

fn request(path: &str) -> Request<client::Body> {
    let mut request = client::request(&web(path));
    request.headers_mut().remove(http::header::HOST);
    request
}

/// The client side of `h2` itself, where hyper hides too much.
async fn h2_client(addr: SocketAddr) -> h2::client::SendRequest<Bytes> {
    let stream = TcpStream::connect(addr).await.expect("the proxy listens");
    let (send, connection) = h2::client::handshake(stream)
        .await
        .expect("it speaks HTTP/2");
    tokio::spawn(connection);
    send
}

/// An endpoint that resets every stream with `reason` and gives no answer.
async fn resetting(reason: Reason) -> tcp::Server {
    tcp::Server::start(move |stream| async move {
        let mut connection = h2::server::handshake(stream)
            .await
            .map_err(io::Error::other)?;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            respond.send_reset(reason);
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_share_a_connection() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let client = Client::http2(addr).await;
        let answers = join_all((0..50).map(|n| {
            let mut client = client.share().expect("HTTP/2");
            async move { client.send(request(&format!("/bytes/{n}"))).await }
        }))
        .await;
        for (n, answer) in answers.iter().enumerate() {
            assert_eq!(
                (answer.status.as_u16(), answer.body.len()),
                (200, n),
                "{path}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_forward_proxy_goes_by_authority() {
    let outbound = Outbound::start(1).await;
    let mut client = Client::http2(outbound.proxy.outbound()).await;
    for host in ["web.demo.svc.cluster.local", "web"] {
        let mut request = client::request(&format!("http://{host}/"));
        request.headers_mut().remove(http::header::HOST);
        let answer = client.send(request).await;
        assert_eq!(
            (answer.status.as_u16(), answer.server()),
            (200, "r0"),
            "{host}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trailers_pass_both_ways() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut client = Client::http2(addr).await;
        let answer = client.send(request("/trailers")).await;
        assert_eq!(answer.trailers["x-checksum"], "5", "{path}");

        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-mine", http::HeaderValue::from_static("7"));
        let frames = [
            hyper::body::Frame::data(Bytes::from_static(b"body")),
            hyper::body::Frame::trailers(trailers),
        ];
        let body = client::frames(futures::stream::iter(frames));
        let mut echo = client::with_body(Method::POST, &web("/echo"), body);
        echo.headers_mut().remove(http::header::HOST);
        let answer = client.send(echo).await;
        assert_eq!(answer.text(), "body", "{path}");
        assert_eq!(answer.trailers["x-mine"], "7", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_answer_is_held_back_until_the_client_reads() {
    const SIZE: usize = 20 << 20;
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut client = Client::http2(addr).await;
        let before = both.proxy.rss_kib();
        let response = client
            .open(request(&format!("/bytes/{SIZE}")))
            .await
            .expect("an answer");
        // Another stream is not held up, and nobody buffers the whole.
        let mut other = client.share().expect("HTTP/2");
        assert_eq!(
            other.send(request("/bytes/5")).await.body.len(),
            5,
            "{path}"
        );
        let grown = both.proxy.rss_kib().saturating_sub(before);
        assert!(
            grown < 10 << 10,
            "{path}: {grown} KiB buffered for a client that does not read"
        );
        let body = eventually::within("the body", SOON * 4, response.into_body().collect()).await;
        assert_eq!(body.expect("whole").to_bytes().len(), SIZE, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoints_reset_reaches_the_client_with_its_reason() {
    for reason in [Reason::ENHANCE_YOUR_CALM, Reason::INTERNAL_ERROR] {
        let server = resetting(reason).await;
        let both = Both::start(server.addr());
        for (path, addr) in both.paths() {
            let mut send = h2_client(addr).await.ready().await.expect("open");
            let (response, _) = send
                .send_request(request("/").map(|_| ()), true)
                .expect("it can be sent");
            let error = eventually::within("a reset", SOON, response)
                .await
                .expect_err("a reset");
            assert_eq!(error.reason(), Some(reason), "{path}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clients_reset_reaches_the_endpoint() {
    let (cancelled, mut was_cancelled) = tokio::sync::mpsc::unbounded_channel();
    let (arrived, mut has_arrived) = tokio::sync::mpsc::unbounded_channel();
    let server = tcp::Server::start(move |stream| {
        let (arrived, cancelled) = (arrived.clone(), cancelled.clone());
        async move {
            let mut connection = h2::server::handshake(stream)
                .await
                .map_err(io::Error::other)?;
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let _ = arrived.send(());
                let cancelled = cancelled.clone();
                tokio::spawn(async move {
                    let reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
                    let _ = cancelled.send(reset.ok());
                });
            }
            Ok(())
        }
    })
    .await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut send = h2_client(addr).await.ready().await.expect("open");
        let (response, mut stream) = send
            .send_request(request("/").map(|_| ()), true)
            .expect("it can be sent");
        eventually::within("the request at the endpoint", SOON, has_arrived.recv()).await;
        stream.send_reset(Reason::CANCEL);
        drop(response);
        let reset = eventually::within("the reset", SOON, was_cancelled.recv()).await;
        assert_eq!(reset, Some(Some(Reason::CANCEL)), "{path}");
    }
    drop(server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_a_client_gives_up_cost_it_no_connection() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut send = h2_client(addr).await;
        for n in 0..30 {
            send = send
                .ready()
                .await
                .unwrap_or_else(|e| panic!("{path}: upload {n}: {e}"));
            let seen = server.requests();
            let request = Request::post(web("/hang")).body(()).expect("valid");
            let (answer, mut body) = send.send_request(request, false).expect("it can be sent");
            body.send_data(Bytes::from_static(b"some"), false)
                .expect("it can be sent");
            eventually::holds("it has arrived", SOON, || async {
                server.requests() > seen
            })
            .await;
            body.send_reset(Reason::CANCEL);
            drop(answer);
        }
        let mut send = send.ready().await.expect("open");
        let (answer, _) = send
            .send_request(request("/").map(|_| ()), true)
            .expect("it can be sent");
        let answer = eventually::within("an answer", SOON, answer).await;
        assert_eq!(answer.expect("an answer").status(), 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_goes_away_gracefully_costs_no_request() {
    // Each connection takes three requests and says GOAWAY.
    let server = tcp::Server::start(|stream| async move {
        let mut connection = h2::server::handshake(stream)
            .await
            .map_err(io::Error::other)?;
        let mut taken = 0;
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let response = http::Response::new(());
            respond
                .send_response(response, true)
                .map_err(io::Error::other)?;
            taken += 1;
            if taken == 3 {
                connection.graceful_shutdown();
            }
        }
        Ok(())
    })
    .await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut client = Client::http2(addr).await;
        for n in 0..20 {
            let answer = client.send(request("/")).await;
            assert_eq!(answer.status, 200, "{path}: request {n}");
        }
    }
    assert!(server.accepted() > 2, "new connections were opened");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_are_answered() {
    let outbound = Outbound::start(1).await;
    let stream = TcpStream::connect(outbound.addr())
        .await
        .expect("the proxy listens");
    let (_send, mut connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let mut ping = connection.ping_pong().expect("asked once");
    tokio::spawn(connection);
    let pong = eventually::within("a pong", SOON, ping.ping(h2::Ping::opaque())).await;
    pong.expect("a pong");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_client_is_found_by_ping() {
    let outbound = Outbound::with(1, |builder| {
        builder
            .env(
                "LINKERD2_PROXY_OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_INTERVAL",
                "200ms",
            )
            .env(
                "LINKERD2_PROXY_OUTBOUND_SERVER_HTTP2_KEEP_ALIVE_TIMEOUT",
                "200ms",
            )
    })
    .await;
    // A client that never reads nor answers, having begun to speak HTTP/2.
    let mut raw = tcp::Raw::connect(outbound.addr()).await;
    raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await;
    eventually::within("the connection is given up", SOON, raw.rest()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_connection_is_opened_at_the_endpoints_stream_limit() {
    let server = Server::with_max_streams("app", 2).await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let before = server.accepted();
        let mut client = Client::http2(addr).await;
        // The first answer tells the proxy the limit.
        assert_eq!(client.send(request("/")).await.status, 200);
        let answers = eventually::within(
            "all answers",
            SOON * 2,
            join_all((0..10).map(|_| {
                let mut client = client.share().expect("HTTP/2");
                async move { client.send(request("/delay/300")).await }
            })),
        )
        .await;
        assert!(answers.iter().all(|answer| answer.status == 200), "{path}");
        assert!(
            server.accepted() - before > 1,
            "{path}: more than one connection"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_are_served_on_one_port() {
    let outbound = Outbound::start(1).await;
    let one = Client::http1(outbound.addr())
        .await
        .send(client::request(&web("/headers")))
        .await;
    let two = Client::http2(outbound.addr())
        .await
        .send(request("/headers"))
        .await;
    assert!(one.text().contains("HTTP/1.1"), "{}", one.text());
    assert!(two.text().contains("HTTP/2"), "{}", two.text());
    assert_eq!(outbound.control.watchers(WEB), 1, "one stream serves both");
}
