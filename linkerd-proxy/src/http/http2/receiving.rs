//! A body on its way in.

use bytes::Bytes;
use h2::RecvStream;
use http_body::Frame;
use std::task::{Context, Poll, ready};

/// The body of a message.
pub struct Receiving {
    stream: RecvStream,
    has_data: bool,
}

impl Receiving {
    /// The body that comes over `stream`.
    pub fn new(stream: RecvStream) -> Self {
        Self {
            stream,
            has_data: true,
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
