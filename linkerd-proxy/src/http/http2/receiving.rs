//! A body on its way in.

use bytes::Bytes;
use h2::RecvStream;
use http_body::Frame;
use std::{
    cell::Cell,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// Bytes of content that have come over a connection.
pub type Received = Rc<Cell<u64>>;

/// The body of a message.
pub struct Receiving {
    stream: RecvStream,
    has_data: bool,
    received: Option<Received>,
}

impl Receiving {
    /// The body that comes over `stream`, counted if somebody wants to know.
    pub fn new(stream: RecvStream, received: Option<Received>) -> Self {
        Self {
            stream,
            has_data: true,
            received,
        }
    }

    /// Whether nothing more will come.
    pub fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    /// The next frame.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if self.has_data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    if let Some(received) = &self.received {
                        received.set(received.get() + data.len() as u64);
                    }
                    // What has passed makes room for more; it fails only for a stream that is over.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.has_data = false,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx));
        Poll::Ready(trailers.map(|t| t.map(Frame::trailers)).transpose())
    }
}
