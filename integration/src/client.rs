//! HTTP callers on hyper, one connection each, for whatever a raw connection is too low for.

use crate::eventually;
use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{convert::Infallible, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// The body of a request.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

const DEADLINE: Duration = Duration::from_secs(15);

/// An answer with all of its body.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailers; empty when there were none.
    pub trailers: HeaderMap,
}

/// One connection to a server or a proxy.
pub enum Client {
    /// HTTP/1.1.
    Http1(http1::SendRequest<Body>),
    /// HTTP/2 with prior knowledge.
    Http2(http2::SendRequest<Body>),
}

/// One `GET` over HTTP/1.1 on a connection of its own.
pub async fn get(addr: SocketAddr, uri: &str) -> Answer {
    Client::http1(addr).await.send(request(uri)).await
}

/// A `GET` of `uri`, absolute as for a forward proxy, with its `Host`.
pub fn request(uri: &str) -> Request<Body> {
    with_body(Method::GET, uri, empty())
}

/// A request with `body`.
pub fn with_body(method: Method, uri: &str, body: Body) -> Request<Body> {
    let uri: Uri = uri.parse().expect("a valid URI");
    let builder = Request::builder().method(method);
    let builder = match uri.authority() {
        Some(authority) => builder.header(header::HOST, authority.as_str()),
        None => builder,
    };
    builder.uri(uri).body(body).expect("a valid request")
}

/// A gRPC request with one message in `body`.
pub fn grpc(uri: &str, body: Body) -> Request<Body> {
    let mut request = with_body(Method::POST, uri, body);
    let headers = request.headers_mut();
    headers.remove(header::HOST);
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/grpc"),
    );
    headers.insert(header::TE, header::HeaderValue::from_static("trailers"));
    request
}

/// No body.
pub fn empty() -> Body {
    Empty::new().boxed_unsync()
}

/// All of a body at once.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

/// A body as `frames` come.
pub fn frames(frames: impl Stream<Item = Frame<Bytes>> + Send + 'static) -> Body {
    use futures::StreamExt;
    StreamBody::new(frames.map(Ok)).boxed_unsync()
}

// === impl Client ===

impl Client {
    /// An HTTP/1.1 connection.
    pub async fn http1(addr: SocketAddr) -> Self {
        Self::try_http1(addr)
            .await
            .unwrap_or_else(|error| panic!("{addr}: {error}"))
    }

    /// [`http1`](Self::http1) to where it may fail.
    pub async fn try_http1(addr: SocketAddr) -> anyhow::Result<Self> {
        Self::http1_over(connect(addr).await?).await
    }

    /// An HTTP/1.1 connection on what is connected already, TLS for instance.
    pub async fn http1_over<S>(stream: S) -> anyhow::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::Builder::new()
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection.with_upgrades());
        Ok(Self::Http1(sender))
    }

    /// An HTTP/2 connection.
    pub async fn http2(addr: SocketAddr) -> Self {
        Self::try_http2(addr)
            .await
            .unwrap_or_else(|error| panic!("{addr}: {error}"))
    }

    /// [`http2`](Self::http2) to where it may fail.
    pub async fn try_http2(addr: SocketAddr) -> anyhow::Result<Self> {
        Self::http2_over(connect(addr).await?).await
    }

    /// An HTTP/2 connection on what is connected already.
    pub async fn http2_over<S>(stream: S) -> anyhow::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await?;
        tokio::spawn(connection);
        Ok(Self::Http2(sender))
    }

    /// Another handle of an HTTP/2 connection; `None` for HTTP/1, which does one thing at a time.
    pub fn share(&self) -> Option<Self> {
        match self {
            Self::Http1(_) => None,
            Self::Http2(sender) => Some(Self::Http2(sender.clone())),
        }
    }

    /// Whether the peer has closed it.
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    /// Waits until another request can be sent; an error when the connection is closed.
    pub async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        }
    }

    /// The answer to `request`, all of it.
    pub async fn send(&mut self, request: Request<Body>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        let answer = eventually::within(&what, DEADLINE, self.try_send(request)).await;
        answer.unwrap_or_else(|error| panic!("{what}: {error:?}"))
    }

    /// [`send`](Self::send) that may fail.
    pub async fn try_send(&mut self, request: Request<Body>) -> hyper::Result<Answer> {
        let (head, body) = self.open(request).await?.into_parts();
        let collected = body.collect().await?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        let body = collected.to_bytes();
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
            trailers,
        })
    }

    /// The answer to `request` as soon as its headers are there.
    pub async fn open(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        self.ready().await?;
        match self {
            Self::Http1(sender) => sender.send_request(request).await,
            Self::Http2(sender) => sender.send_request(request).await,
        }
    }
}

// === impl Answer ===

impl Answer {
    /// A header as text; empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// Which replica answered.
    pub fn server(&self) -> &str {
        self.header("x-server")
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The gRPC status, from trailers or, without a message, from headers.
    pub fn grpc_status(&self) -> Option<&str> {
        let value = self
            .trailers
            .get("grpc-status")
            .or_else(|| self.headers.get("grpc-status"));
        value?.to_str().ok()
    }
}

async fn connect(addr: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = tokio::time::timeout(DEADLINE, TcpStream::connect(addr)).await??;
    stream.set_nodelay(true)?;
    Ok(stream)
}
