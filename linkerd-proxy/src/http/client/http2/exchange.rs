//! One request over HTTP/2, and its answer: the stream, driven straight from the task that serves the
//! client. Only a request with a body needs a task of its own, to send it.

use super::Stream;
use crate::{
    error::HttpError,
    http::{Request, Upload as RequestBody},
};
use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream, client::SendRequest};
use http::{HeaderMap, Response};
use http_body::{Body, Frame};
use std::{
    cell::Cell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::task::{AbortHandle, spawn_local};

/// Why there is no answer.
pub enum Failure {
    /// The stream or the connection failed.
    Stream(h2::Error),
    /// The body of the request broke before it had passed.
    Body,
}

/// The body of an answer.
pub struct Download {
    stream: RecvStream,
    has_data: bool,
    upload: Option<Upload>,
    _counted: Stream,
}

/// The body of a request on its way; given up when dropped.
struct Upload {
    task: Option<AbortHandle>,
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
    let head = http::Request::from_parts(head, ());
    let (answer, stream) = sender
        .send_request(head, is_whole)
        .map_err(Failure::Stream)?;
    let upload = (!is_whole).then(|| Upload::new(body, stream));
    match answer.await {
        Ok(answer) => Ok(answer.map(|stream| Download {
            has_data: true,
            stream,
            upload,
            _counted: counted,
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
        if self.has_data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // What has passed makes room for more; it fails only for a stream that is over.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(self.broken(error)),
                None => self.has_data = false,
            }
        }
        let trailers = match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => trailers,
            Err(error) => return Poll::Ready(self.broken(error)),
        };
        self.ended();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    pub fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    /// The answer is whole, but the rest of the request may still be on its way.
    fn ended(&mut self) {
        if let Some(upload) = self.upload.take() {
            upload.let_go();
        }
    }

    fn broken(&mut self, error: h2::Error) -> Option<Result<Frame<Bytes>, h2::Error>> {
        // The peer has said all it wants to, and wants no more of the request (RFC 9113, 8.1).
        (error.reason() != Some(Reason::NO_ERROR)).then_some(Err(error))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        if self.stream.is_end_stream() {
            self.ended();
        }
    }
}

// === impl Upload ===

impl Upload {
    fn new(body: RequestBody, stream: SendStream<Bytes>) -> Self {
        let is_broken = Rc::new(Cell::new(false));
        let task = spawn_local(send(body, stream, is_broken.clone()));
        Self {
            task: Some(task.abort_handle()),
            is_broken,
        }
    }

    /// Goes on without being watched.
    fn let_go(mut self) {
        self.task = None;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// What happens to a body on its way.
enum Event {
    Frame(Option<Result<Frame<Bytes>, HttpError>>),
    /// The peer wants no more of it.
    Reset,
}

/// Sends a body as fast as the peer takes it.
async fn send(mut body: RequestBody, mut stream: SendStream<Bytes>, is_broken: Rc<Cell<bool>>) {
    loop {
        // One byte of room: the rest of a frame may wait in the stream's buffer, which is bounded.
        stream.reserve_capacity(1);
        match poll_fn(|cx| poll_event(cx, &mut body, &mut stream)).await {
            Event::Reset => return,
            Event::Frame(None) => {
                // Ending fails only for a stream that is over.
                let _ = stream.send_data(Bytes::new(), true);
                return;
            }
            Event::Frame(Some(Err(error))) => {
                is_broken.set(true);
                let reason = crate::error::h2_reason(&error).unwrap_or(Reason::CANCEL);
                stream.send_reset(reason);
                return;
            }
            Event::Frame(Some(Ok(frame))) => {
                if send_frame(frame, &body, &mut stream).is_none() {
                    return;
                }
            }
        }
    }
}

fn poll_event(
    cx: &mut Context<'_>,
    body: &mut RequestBody,
    stream: &mut SendStream<Bytes>,
) -> Poll<Event> {
    if stream.poll_reset(cx).is_ready() {
        return Poll::Ready(Event::Reset);
    }
    while stream.capacity() == 0 {
        // What was given may have been taken back; asking again makes it wake us.
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(Event::Reset),
        }
    }
    Pin::new(body).poll_frame(cx).map(Event::Frame)
}

/// Sends a frame; nothing when it was the last one.
fn send_frame(
    frame: Frame<Bytes>,
    body: &RequestBody,
    stream: &mut SendStream<Bytes>,
) -> Option<()> {
    let data = match frame.into_data() {
        Ok(data) => data,
        Err(frame) => {
            let trailers = frame.into_trailers().unwrap_or_else(|_| HeaderMap::new());
            // As above.
            let _ = stream.send_trailers(trailers);
            return None;
        }
    };
    let is_last = body.is_end_stream();
    stream.send_data(data, is_last).ok()?;
    (!is_last).then_some(())
}
