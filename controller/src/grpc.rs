//! What all gRPC streams share: they follow an answer, end at shutdown, and are counted.
//!
//! Servers notice dead proxies by HTTP/2 pings; a stream holds nothing but its receiver and the
//! last answer that it sent.

use crate::metrics::{Metrics, OpenStream};
use futures::stream::BoxStream;
use std::{future::Future, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch};
use tonic::{
    Status,
    transport::server::{Router, Server, TcpIncoming},
};

const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// A proxy follows a few hundred destinations at most; a thousand is a fault.
const MAX_STREAMS_PER_CONNECTION: u32 = 1024;

/// A server with the limits that all of ours have.
pub fn server() -> Server {
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .http2_max_header_list_size(16 * 1024)
        .tcp_nodelay(true)
}

/// Serves until `stopped`, then lets streams end.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    router: Router,
    listener: TcpListener,
    stopped: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    router.serve_with_incoming_shutdown(incoming, stopped).await
}

/// What streams need beside their answers.
#[derive(Clone)]
pub struct Streams {
    /// Turns true, or closes, when the process stops.
    pub stopping: watch::Receiver<bool>,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
}

/// The answers to one question, as they change.
pub struct Updates<A> {
    answers: watch::Receiver<Arc<A>>,
    stopping: watch::Receiver<bool>,
    open: OpenStream,
}

impl Streams {
    /// Follows `answers` on a stream of that kind.
    pub fn follow<A>(&self, kind: &'static str, answers: watch::Receiver<Arc<A>>) -> Updates<A> {
        Updates {
            answers,
            stopping: self.stopping.clone(),
            open: self.metrics.open_stream(kind),
        }
    }
}

impl<A: Send + Sync + 'static> Updates<A> {
    /// The latest answer, once it is another; `None` when the process stops. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<A>> {
        // Stopping comes first: a stream that is always behind still has to end.
        tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => None,
            changed = self.answers.changed() => {
                changed.ok()?;
                Some(self.answers.borrow_and_update().clone())
            }
        }
    }

    /// Counts an update as sent.
    pub fn count(&self) {
        self.open.count();
    }

    /// A stream of the answer as it is, then of what it becomes, until one is an error.
    pub fn each<M: Send + 'static>(
        mut self,
        encode: impl Fn(Arc<A>) -> Result<M, Status> + Send + 'static,
    ) -> BoxStream<'static, Result<M, Status>> {
        let first = Some(self.answers.borrow_and_update().clone());
        let state = Some((first, self, encode));
        let stream = futures::stream::unfold(state, |state| async move {
            let (first, mut updates, encode) = state?;
            let answer = match first {
                Some(first) => first,
                None => updates.next().await?,
            };
            updates.count();
            let message = encode(answer);
            let more = message.is_ok();
            Some((message, more.then_some((None, updates, encode))))
        });
        Box::pin(stream)
    }
}
