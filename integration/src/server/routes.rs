//! What each path of the test server does.
//!
//! | path | answer |
//! |---|---|
//! | `/bytes/N` | N bytes, as they are taken |
//! | `/status/N` | that status |
//! | `/delay/MS` | 200 after a while |
//! | `/echo` | the request's body and trailers |
//! | `/headers` | the request's line and headers as the body |
//! | `/trailers` | a body with trailers |
//! | `/hang` | none |
//! | `/events` | a head, and of the body nothing ever |
//! | `/early` | 200 without reading the request's body |
//! | `/upgrade` | 101, then an echo |
//! | gRPC, any path | the message back, then `grpc-status` in trailers |
//! | else | 200 and `ok` |
//!
//! `x-answer-header: NAME` in a request puts its header of that name, if it has one, into the answer.

use super::{Body, Count, Shared};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use std::{fmt::Write, sync::atomic::Ordering, time::Duration};

const CHUNK: usize = 16 << 10;

pub(super) async fn answer(request: Request<Incoming>, shared: &Shared) -> Response<Body> {
    shared.requests.fetch_add(1, Ordering::SeqCst);
    let mut hanging = shared.hanging.subscribe();
    // The sender lives as long as the server does.
    let _ = hanging.wait_for(|is_hanging| !is_hanging).await;
    let behaviour = *shared.behaviour.lock();
    while behaviour
        .at_once
        .is_some_and(|n| shared.busy.load(Ordering::SeqCst) >= n)
    {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let _busy = Count::up(&shared.busy);
    if !behaviour.delay.is_zero() {
        tokio::time::sleep(behaviour.delay).await;
    }
    let asked_for = asked_for(&request);
    let mut response = match behaviour.status {
        Some(status) => with_status(status),
        None => by_path(request).await,
    };
    if let Some((name, value)) = asked_for {
        response.headers_mut().insert(name, value);
    }
    if let Ok(name) = HeaderValue::from_str(&shared.name) {
        response.headers_mut().insert("x-server", name);
    }
    response
}

fn asked_for(request: &Request<Incoming>) -> Option<(HeaderName, HeaderValue)> {
    let name = request.headers().get("x-answer-header")?.to_str().ok()?;
    let value = request.headers().get(name)?.clone();
    Some((name.parse().ok()?, value))
}

async fn by_path(request: Request<Incoming>) -> Response<Body> {
    if is_grpc(&request) {
        return grpc(request);
    }
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let route = parts.next().unwrap_or_default();
    let number: u64 = parts.next().and_then(|n| n.parse().ok()).unwrap_or(0);
    match route {
        "bytes" => bytes(number as usize),
        "status" => with_status(number as u16),
        "delay" => {
            tokio::time::sleep(Duration::from_millis(number)).await;
            text("late".to_owned())
        }
        "echo" => Response::new(request.into_body().map_err(Into::into).boxed_unsync()),
        "headers" => text(describe(&request)),
        "trailers" => trailers(),
        "hang" => std::future::pending().await,
        "events" => Response::new(StreamBody::new(futures::stream::pending()).boxed_unsync()),
        "early" => text("early".to_owned()),
        "upgrade" => upgrade(request),
        _ => {
            // A request whose body is left unread would close the connection.
            let _ = request.into_body().collect().await;
            text("ok".to_owned())
        }
    }
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// `x-answer-status: N` in the request asks for that gRPC status.
fn grpc(request: Request<Incoming>) -> Response<Body> {
    let status = request.headers().get("x-answer-status").cloned();
    let mut trailers = HeaderMap::new();
    trailers.insert(
        "grpc-status",
        status.unwrap_or(HeaderValue::from_static("0")),
    );
    let end = futures::stream::once(async { Ok(Frame::trailers(trailers)) });
    let body = request
        .into_body()
        .into_data_stream()
        .map_ok(Frame::data)
        .map_err(Into::into);
    let mut response = Response::new(StreamBody::new(body.chain(end)).boxed_unsync());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn text(text: String) -> Response<Body> {
    Response::new(
        Full::new(Bytes::from(text))
            .map_err(|never| match never {})
            .boxed_unsync(),
    )
}

fn with_status(code: u16) -> Response<Body> {
    let mut response = text(String::new());
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::BAD_REQUEST);
    response
}

fn bytes(n: usize) -> Response<Body> {
    let chunk = Bytes::from_static(&[b'b'; CHUNK]);
    let sizes = (0..n).step_by(CHUNK).map(move |at| CHUNK.min(n - at));
    let frames = sizes.map(move |size| Ok(Frame::data(chunk.slice(..size))));
    let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)).boxed_unsync());
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, n.into());
    response
}

fn describe(request: &Request<Incoming>) -> String {
    let mut text = format!(
        "{} {} {:?}\n",
        request.method(),
        request.uri(),
        request.version()
    );
    for (name, value) in request.headers() {
        let _ = writeln!(
            text,
            "{name}: {}",
            String::from_utf8_lossy(value.as_bytes())
        );
    }
    text
}

fn trailers() -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("x-checksum", HeaderValue::from_static("5"));
    let frames = [
        Ok(Frame::data(Bytes::from_static(b"hello"))),
        Ok(Frame::trailers(trailers)),
    ];
    let body = StreamBody::new(futures::stream::iter(frames)).boxed_unsync();
    let mut response = Response::new(body);
    response
        .headers_mut()
        .insert(header::TRAILER, HeaderValue::from_static("x-checksum"));
    response
}

fn upgrade(mut request: Request<Incoming>) -> Response<Body> {
    let protocol = request.headers().get(header::UPGRADE).cloned();
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(upgraded) = upgrade.await else {
            return;
        };
        let (mut read, mut write) = tokio::io::split(TokioIo::new(upgraded));
        // The end of the client's side is the end of the echo.
        let _ = tokio::io::copy(&mut read, &mut write).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut write).await;
    });
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(protocol) = protocol {
        headers.insert(header::UPGRADE, protocol);
    }
    response
}
