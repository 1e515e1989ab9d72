//! One HTTP/1.1 GET over a connection of its own, with a deadline and a bound on the answer.
//!
//! For the stats API, proxies' metrics pages, readiness probes and checks. No pool, no redirects.

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// The largest answer taken: a metrics page of a proxy with very many series.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// Why there was no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    #[error("no answer from {0} within {1:?}")]
    Deadline(SocketAddr, Duration),
    #[error("bad request for {0}: {1}")]
    Request(SocketAddr, http::Error),
    #[error("{0} broke off its answer: {1}")]
    Answer(SocketAddr, Box<dyn std::error::Error + Send + Sync>),
}

/// GETs `path` from `addr`; `headers` are added to `host`.
pub(crate) async fn get(
    addr: SocketAddr,
    path: &str,
    headers: &[(String, String)],
    deadline: Duration,
) -> Result<(StatusCode, Bytes), GetError> {
    let response = response(addr, path, headers, deadline).await?;
    Ok((response.status(), response.into_body()))
}

/// The same, with the headers of the answer.
pub(crate) async fn response(
    addr: SocketAddr,
    path: &str,
    headers: &[(String, String)],
    deadline: Duration,
) -> Result<Response<Bytes>, GetError> {
    tokio::time::timeout(deadline, exchange(addr, path, headers))
        .await
        .unwrap_or(Err(GetError::Deadline(addr, deadline)))
}

async fn exchange(
    addr: SocketAddr,
    path: &str,
    headers: &[(String, String)],
) -> Result<Response<Bytes>, GetError> {
    let stream = TcpStream::connect(addr)
        .await
        .map_err(|e| GetError::Connect(addr, e))?;
    let broken = |e: hyper::Error| GetError::Answer(addr, e.into());
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let mut request = Request::get(path);
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        request = request.header(http::header::HOST, addr.to_string());
    }
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|e| GetError::Request(addr, e))?;
    let exchange = async {
        let response = client.send_request(request).await.map_err(broken)?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|e| GetError::Answer(addr, e))?.to_bytes();
        Ok(Response::from_parts(parts, body))
    };
    // The connection makes progress only while polled; it may end just before the answer is read.
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}
