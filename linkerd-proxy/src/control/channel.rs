//! A connection to one control-plane service, in the shape in which tonic's generated clients call it.
//!
//! It is HTTP/2 by the same h2 over the same [`Conn`] that traffic has; a second HTTP client beside them
//! would be most of what an idle proxy holds. Names, retries and replicas are [`super::client`]'s.

use crate::{
    http::http2::{Receiving, ping},
    io::Conn,
};
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use h2::client::{Builder, SendRequest};
use http::{
    Request, Response,
    uri::{PathAndQuery, Scheme, Uri},
};
use http_body::{Body, Frame};
use http_body_util::BodyExt;
use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tonic::Status;
use tower_service::Service;

/// PINGs, so that a control plane that vanished is noticed in seconds, also while nothing happens.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(2));

/// Windows of a stream and of the connection, in bytes: the endpoints of a large service in one go.
const WINDOWS: (u32, u32) = (1 << 20, 4 << 20);

/// Cheap to clone. The connection ends with the last clone and the last call.
#[derive(Clone)]
pub(super) struct Channel {
    sender: SendRequest<Bytes>,
    addr: SocketAddr,
}

/// What comes back of a call.
pub(super) struct Answer(Receiving);

// === impl Channel ===

impl Channel {
    /// A channel over `conn`, which leads to `addr`.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub(super) async fn new(conn: Conn, addr: SocketAddr) -> Result<Self, h2::Error> {
        let (stream_window, connection_window) = WINDOWS;
        let handshake = Builder::new()
            .enable_push(false)
            .initial_window_size(stream_window)
            .initial_connection_window_size(connection_window)
            .handshake(conn);
        let (sender, mut driver) = handshake.await?;
        let pings = driver.ping_pong();
        tokio::spawn(async move {
            tokio::select! {
                ended = driver => if let Err(error) = ended {
                    tracing::debug!(%addr, %error, "connection to the control plane ended");
                },
                () = ping::silence(pings, KEEP_ALIVE, || true) => {
                    tracing::debug!(%addr, "control plane does not answer PING");
                }
            }
        });
        Ok(Self { sender, addr })
    }

    async fn call(
        mut self,
        request: Request<tonic::body::Body>,
    ) -> Result<Response<Answer>, Status> {
        let (mut head, body) = request.into_parts();
        let path = head.uri.path_and_query().cloned();
        head.uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.addr.to_string())
            .path_and_query(path.unwrap_or(PathAndQuery::from_static("/")))
            .build()
            .map_err(|e| Status::internal(e.to_string()))?;
        // Every call of this API has one message, which is whole before it is sent.
        let message = body.collect().await?.to_bytes();
        poll_fn(|cx| self.sender.poll_ready(cx))
            .await
            .map_err(broken)?;
        let sent = self
            .sender
            .send_request(Request::from_parts(head, ()), false);
        let (response, mut stream) = sent.map_err(broken)?;
        stream.send_data(message, true).map_err(broken)?;
        let response = response.await.map_err(broken)?;
        Ok(response.map(|stream| Answer(Receiving::new(stream))))
    }
}

impl Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<Answer>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Self::Response, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        Self::call(self.clone(), request).boxed()
    }
}

// === impl Answer ===

impl Body for Answer {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = self.get_mut().0.poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(broken)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Whatever breaks a connection or a call on it: the service may be asked again elsewhere.
fn broken(error: h2::Error) -> Status {
    Status::unavailable(error.to_string())
}
