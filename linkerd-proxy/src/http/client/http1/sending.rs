//! A request on its way to an endpoint: as fast as the endpoint takes it, beside its answer.

use crate::http::{
    Request, Upload, headers,
    http1::{Broken, Message, Wire},
};
use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Sleep, sleep};

/// How long a body is held back for `100 Continue`; an endpoint that does not know of it would wait
/// for the body (RFC 9110, section 10.1.1).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// A request that is being sent.
pub(super) struct Sending {
    message: Message,
    body: Upload,
    held_back: Option<Pin<Box<Sleep>>>,
}

/// Why a request was not sent whole.
pub(super) enum Failed {
    /// The client's part of it.
    Body,
    /// The endpoint takes no more; it may have answered.
    Write(io::Error),
}

impl Sending {
    /// Takes the body out of a request; what has none is left as it was.
    pub fn new(request: &mut Request) -> Self {
        let spelling = request.body().spelling().clone();
        let message = Message::request(request, &spelling);
        let is_held_back = !message.is_whole() && headers::expects_continue(request.headers());
        Self {
            body: match message.is_whole() {
                true => Upload::default(),
                false => std::mem::take(request.body_mut()),
            },
            message,
            held_back: is_held_back.then(|| Box::pin(sleep(CONTINUE_TIMEOUT))),
        }
    }

    /// Whether the request is but a head.
    pub fn is_without_body(&self) -> bool {
        self.message.is_whole()
    }

    /// The endpoint wants the body.
    pub fn go_on(&mut self) {
        self.held_back = None;
    }

    /// Sends what can be sent; ready when all has been.
    pub fn poll(&mut self, cx: &mut Context<'_>, wire: &mut Wire) -> Poll<Result<(), Failed>> {
        loop {
            let filled = match self.poll_held_back(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => self.message.poll_fill(cx, Pin::new(&mut self.body)),
            };
            let is_pending = filled.map_err(|Broken| Failed::Body)?.is_pending();
            // Also when nothing is new: TLS may hold what was written before.
            ready!(wire.poll_write(cx, &mut self.message)).map_err(Failed::Write)?;
            if self.message.is_whole() {
                return Poll::Ready(Ok(()));
            }
            if is_pending {
                return Poll::Pending;
            }
        }
    }

    fn poll_held_back(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(timer) = &mut self.held_back {
            ready!(timer.as_mut().poll(cx));
            self.held_back = None;
        }
        Poll::Ready(())
    }
}
