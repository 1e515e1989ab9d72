//! The body of a request, as the protocol it comes over has it, on its way from the client.

use super::{http1::Spelling, http2, interim::Interim, server::Receiving};
use crate::error::HttpError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

/// Bytes of content that have come over a connection.
pub type Received = Rc<Cell<u64>>;

/// A body on its way from a client.
#[derive(Default)]
pub struct Upload {
    kind: Kind,
    spelling: Spelling,
    interim: Option<Interim>,
}

#[derive(Default)]
enum Kind {
    #[default]
    Empty,
    Http1(Receiving),
    Http2(http2::Receiving, Option<Received>),
}

impl Upload {
    /// Of an HTTP/1 request whose header names were spelled like this.
    pub fn http1(body: Option<Receiving>, spelling: Spelling) -> Self {
        Self {
            kind: body.map_or(Kind::Empty, Kind::Http1),
            spelling,
            interim: None,
        }
    }

    /// Of an HTTP/2 request, counted if somebody wants to know.
    pub fn http2(body: http2::Receiving, received: Option<Received>) -> Self {
        Self {
            kind: Kind::Http2(body, received),
            spelling: Spelling::default(),
            interim: None,
        }
    }

    /// Whose client takes informational answers.
    pub fn informed(self, interim: Option<Interim>) -> Self {
        Self { interim, ..self }
    }

    /// Where informational answers go, if the client takes them.
    pub fn interim(&self) -> Option<&Interim> {
        self.interim.as_ref()
    }

    /// How the request's header names were spelled.
    pub fn spelling(&self) -> &Spelling {
        &self.spelling
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match &mut self.get_mut().kind {
            Kind::Empty => Poll::Ready(None),
            Kind::Http1(body) => body
                .poll_frame(cx)
                .map(|frame| frame.map(|f| f.map_err(HttpError::Http1))),
            Kind::Http2(body, received) => {
                let frame = ready!(body.poll_frame(cx));
                if let (Some(Ok(frame)), Some(received)) = (&frame, received) {
                    let bytes = frame.data_ref().map_or(0, Bytes::len);
                    received.set(received.get() + bytes as u64);
                }
                Poll::Ready(frame.map(|f| f.map_err(HttpError::Http2)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Http1(body) => body.is_over(),
            Kind::Http2(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            // What is known of it is in the head.
            Kind::Http1(_) | Kind::Http2(..) => SizeHint::default(),
        }
    }
}
