//! One request over HTTP/2, and its answer: the stream, driven straight from the task that serves the
//! client. Only a request with a body needs a task of its own, to send it.

use super::Stream;
use crate::http::{
    Request, Upload,
    client::REST_TIMEOUT,
    http1::Spelling,
    http2::{Broken, Receiving, send},
};
use bytes::Bytes;
use h2::{Reason, SendStream, client::SendRequest};
use http::Response;
use http_body::{Body, Frame};
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::{
    task::{JoinHandle, spawn_local},
    time::timeout,
};

/// Why there is no answer.
pub enum Failure {
    /// The stream or the connection failed.
    Stream(h2::Error),
    /// The body of the request broke before it had passed.
    Body,
}

/// The body of an answer.
pub struct Download {
    body: Receiving,
    upload: Option<Sending>,
    counted: Option<Stream>,
}

/// The body of a request on its way; given up when dropped.
struct Sending {
    task: JoinHandle<()>,
    /// Whether it broke off.
    is_broken: Rc<Cell<bool>>,
}

/// Sends a request on a connection that is ready for it, and waits for the head of the answer.
///
/// # Errors
///
/// [`Failure`]. The request may have reached the peer.
pub async fn exchange(
    mut sender: SendRequest<Bytes>,
    counted: Stream,
    request: Request,
) -> Result<Response<Download>, Failure> {
    let (head, body) = request.into_parts();
    let is_whole = body.is_end_stream();
    let interim = body.interim().cloned();
    let head = http::Request::from_parts(head, ());
    let (mut answer, stream) = sender
        .send_request(head, is_whole)
        .map_err(Failure::Stream)?;
    let upload = (!is_whole).then(|| Sending::new(body, stream));
    let answered = poll_fn(|cx| {
        if let Some(interim) = &interim {
            while let Poll::Ready(Some(Ok(head))) = answer.poll_informational(cx) {
                interim.put(head.map(|()| Spelling::default()));
            }
        }
        Pin::new(&mut answer).poll(cx)
    });
    match answered.await {
        Ok(answer) => Ok(answer.map(|stream| Download {
            body: Receiving::new(stream),
            upload,
            counted: Some(counted),
        })),
        Err(_) if upload.is_some_and(|upload| upload.is_broken.get()) => Err(Failure::Body),
        Err(error) => Err(Failure::Stream(error)),
    }
}

// === impl Download ===

impl Download {
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let frame = match ready!(self.body.poll_frame(cx)) {
            Some(Ok(frame)) if frame.is_trailers() => {
                self.ended();
                Some(Ok(frame))
            }
            None => {
                self.ended();
                None
            }
            frame => frame,
        };
        Poll::Ready(frame)
    }

    pub fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// The answer is whole, but the rest of the request may still be on its way.
    fn ended(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.let_go(self.counted.take());
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.ended();
        }
    }
}

// === impl Sending ===

impl Sending {
    fn new(body: Upload, stream: SendStream<Bytes>) -> Self {
        let is_broken = Rc::new(Cell::new(false));
        let task = spawn_local({
            let is_broken = is_broken.clone();
            async move {
                let sent = send(body, stream, Broken::Reset(Reason::CANCEL)).await;
                is_broken.set(sent.is_err());
            }
        });
        Self { task, is_broken }
    }

    /// Goes on by itself for some time, and occupies its stream until then.
    fn let_go(mut self, counted: Option<Stream>) {
        if !self.task.is_finished() {
            spawn_local(async move {
                let _counted = counted;
                // Whatever comes of it: what is not over by then is given up.
                let _ = timeout(REST_TIMEOUT, &mut self.task).await;
            });
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.task.abort();
    }
}
