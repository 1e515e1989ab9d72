//! A body on its way out.

use crate::{
    error::{HttpError, h2_reason},
    http::{headers::strip_trailers, rescue},
};
use bytes::Bytes;
use h2::{Reason, SendStream};
use http::HeaderMap;
use http_body::{Body, Frame};
use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

/// What happens to a body on its way.
enum Event {
    Frame(Option<Result<Frame<Bytes>, HttpError>>),
    /// The peer wants no more of it.
    Reset,
}

/// How the peer learns that a body broke off.
#[derive(Clone, Copy, Debug)]
pub enum Broken {
    /// The stream is reset for this reason.
    Reset(Reason),
    /// Trailers say so, as gRPC has it: what came before is kept, and the caller has a status.
    GrpcStatus,
}

/// Sends a body as fast as the peer takes it. When it breaks off the peer learns it as `broken` says; a
/// stream that was reset on the other side is reset here, for the same reason.
///
/// # Errors
///
/// Why the body broke off.
pub async fn send<B>(
    body: B,
    mut stream: SendStream<Bytes>,
    broken: Broken,
) -> Result<(), HttpError>
where
    B: Body<Data = Bytes, Error = HttpError>,
{
    let mut body = pin!(body);
    loop {
        match poll_fn(|cx| poll_event(cx, body.as_mut(), &mut stream)).await {
            Event::Reset => return Ok(()),
            Event::Frame(None) => {
                // Ending fails only for a stream that is over.
                let _ = stream.send_data(Bytes::new(), true);
                return Ok(());
            }
            Event::Frame(Some(Err(error))) => {
                break_off(&mut stream, h2_reason(&error), broken);
                return Err(error);
            }
            Event::Frame(Some(Ok(frame))) => {
                let may_follow = send_frame(frame, body.is_end_stream(), &mut stream);
                if !may_follow || !poll_fn(|cx| poll_room(cx, &mut stream)).await {
                    return Ok(());
                }
            }
        }
    }
}

fn break_off(stream: &mut SendStream<Bytes>, was_reset: Option<Reason>, broken: Broken) {
    match (was_reset, broken) {
        (Some(reason), _) | (None, Broken::Reset(reason)) => stream.send_reset(reason),
        (None, Broken::GrpcStatus) => {
            // It fails only for a stream that is over.
            let _ = stream.send_trailers(rescue::grpc_trailers());
        }
    }
}

fn poll_event<B: Body<Data = Bytes, Error = HttpError>>(
    cx: &mut Context<'_>,
    body: Pin<&mut B>,
    stream: &mut SendStream<Bytes>,
) -> Poll<Event> {
    match body.poll_frame(cx) {
        Poll::Ready(frame) => Poll::Ready(Event::Frame(frame)),
        Poll::Pending => stream.poll_reset(cx).map(|_| Event::Reset),
    }
}

/// Waits until the peer takes more; whether it does. A byte of room is enough: the rest of a frame may
/// wait in the stream's buffer. The first frame needs none, so that a message that is but one frame
/// costs no more than that.
fn poll_room(cx: &mut Context<'_>, stream: &mut SendStream<Bytes>) -> Poll<bool> {
    if stream.poll_reset(cx).is_ready() {
        return Poll::Ready(false);
    }
    // What was given may have been taken back; asking again makes it wake us.
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        match ready!(stream.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(false),
        }
    }
    Poll::Ready(true)
}

/// Sends a frame; whether more can follow.
fn send_frame(frame: Frame<Bytes>, is_last: bool, stream: &mut SendStream<Bytes>) -> bool {
    match frame.into_data() {
        Ok(data) => stream.send_data(data, is_last).is_ok() && !is_last,
        Err(frame) => {
            let mut trailers = frame.into_trailers().unwrap_or_else(|_| HeaderMap::new());
            strip_trailers(&mut trailers);
            if stream.send_trailers(trailers).is_err() {
                // The stream is over, or they are malformed: nobody may wait for its end.
                stream.send_reset(Reason::INTERNAL_ERROR);
            }
            false
        }
    }
}
