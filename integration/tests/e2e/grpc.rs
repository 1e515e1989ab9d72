//! gRPC through both directions.

use crate::rig::{Both, SOON, web};
use bytes::Bytes;
use futures::SinkExt;
use http_body_util::BodyExt;
use hyper::body::Frame;
use integration::{
    client::{self, Client},
    eventually,
    server::Server,
    tcp,
};
use std::{io, sync::Arc};
use tokio::sync::Notify;

/// One message with its five-byte prefix.
fn message(text: &str) -> Bytes {
    let mut bytes = vec![0];
    bytes.extend((text.len() as u32).to_be_bytes());
    bytes.extend(text.as_bytes());
    bytes.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unary_call_keeps_message_status_and_trailers() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut client = Client::http2(addr).await;
        for code in ["0", "5"] {
            let mut call = client::grpc(&web("/echo.Echo/Unary"), client::full(message("hi")));
            let value = http::HeaderValue::from_static(if code == "0" { "0" } else { "5" });
            call.headers_mut().insert("x-answer-status", value);
            let answer = client.send(call).await;
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.body, message("hi"), "{path}");
            assert_eq!(answer.grpc_status(), Some(code), "{path}");
            assert_eq!(answer.header("content-type"), "application/grpc", "{path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bidirectional_stream_goes_back_and_forth() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut client = Client::http2(addr).await;
        let (mut sender, receiver) = futures::channel::mpsc::channel(1);
        let call = client::grpc(&web("/echo.Echo/Bidi"), client::frames(receiver));
        let response = eventually::within("headers", SOON, client.open(call)).await;
        let mut body = response.expect("headers before any message").into_body();
        // Each answer is there before the next message is sent.
        for n in 0..20 {
            let sent = message(&format!("message {n}"));
            sender
                .send(Frame::data(sent.clone()))
                .await
                .expect("the call is open");
            let frame = eventually::within("its echo", SOON, body.frame()).await;
            let data = frame.expect("not the end").expect("no error").into_data();
            assert_eq!(data.expect("a message"), sent, "{path}");
        }
        drop(sender);
        let last = eventually::within("trailers", SOON, body.frame()).await;
        let trailers = last.expect("trailers").expect("no error").into_trailers();
        assert_eq!(trailers.expect("trailers")["grpc-status"], "0", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_endpoint_dies_halfway_ends_with_a_status() {
    let die: Arc<Notify> = Arc::default();
    let dies = die.clone();
    let server = tcp::Server::start(move |stream| {
        let dies = dies.clone();
        async move {
            let mut connection = h2::server::handshake(stream)
                .await
                .map_err(io::Error::other)?;
            let mut held = Vec::new();
            while let Some(Ok((request, mut respond))) = tokio::select! {
                accepted = connection.accept() => accepted,
                () = dies.notified() => None,
            } {
                let kind = request.headers().get("content-type").cloned();
                let mut answer = http::Response::new(());
                answer
                    .headers_mut()
                    .extend(kind.map(|kind| (http::header::CONTENT_TYPE, kind)));
                let mut body = respond
                    .send_response(answer, false)
                    .map_err(io::Error::other)?;
                body.send_data(message("half"), false)
                    .map_err(io::Error::other)?;
                held.push(body);
            }
            Ok(())
        }
    })
    .await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        for is_grpc in [true, false] {
            let mut call = client::grpc(&web("/echo.Echo/Stream"), client::empty());
            if !is_grpc {
                call.headers_mut().remove(http::header::CONTENT_TYPE);
            }
            let mut client = Client::http2(addr).await;
            let response = eventually::within("headers", SOON, client.open(call)).await;
            let mut body = response.expect("headers").into_body();
            let first = eventually::within("a message", SOON, body.frame()).await;
            let first = first.expect("not the end").expect("no error").into_data();
            assert_eq!(first.expect("a message"), message("half"), "{path}");
            die.notify_one();
            let last = eventually::within("the end", SOON, body.frame()).await;
            let last = last.expect("an end that says what it is");
            assert_eq!(last.is_ok(), is_grpc, "{path}: others are reset: {last:?}");
            if let Ok(frame) = last {
                let trailers = frame.into_trailers().expect("trailers");
                assert_eq!(trailers["grpc-status"], "14", "{path}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_call_is_answered_as_grpc() {
    let both = Both::with(tcp::refusing(), |builder| {
        builder.env("LINKERD2_PROXY_OUTBOUND_HTTP_FAILFAST_TIMEOUT", "300ms")
    });
    for (path, addr) in both.paths() {
        let mut client = Client::http2(addr).await;
        let answer = client
            .send(client::grpc(&web("/echo.Echo/Unary"), client::empty()))
            .await;
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("content-type"), "application/grpc", "{path}");
        // Unavailable, or the deadline of the queue.
        let status = answer.grpc_status();
        assert!(matches!(status, Some("14" | "4")), "{path}: {status:?}");
        let has_message = answer.headers.contains_key("grpc-message");
        assert_eq!(
            has_message,
            path == "outbound",
            "{path}: only the application is told why"
        );
    }
}
