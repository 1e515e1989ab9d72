//! The body of an endpoint's answer, as the protocol it comes over has it.

use super::{http1, http2};
use crate::{error::HttpError, http::http1::Spelling, io::Conn};
use bytes::Bytes;
use http_body::{Body, Frame};
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// A body on its way from an endpoint.
pub enum Answer {
    /// Over HTTP/1.
    Http1(http1::Download),
    /// Over HTTP/2.
    Http2(http2::Download),
}

impl Answer {
    /// The connection it came over, if that speaks something else now.
    pub fn take_switched(&mut self) -> Option<Conn> {
        match self {
            Self::Http1(body) => body.take_switched(),
            Self::Http2(_) => None,
        }
    }

    /// Goes on with the request while nobody takes the answer.
    pub fn go_on_sending(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::Http1(body) => body.go_on_sending(cx),
            // A task of its own does.
            Self::Http2(_) => {}
        }
    }

    /// How the answer's header names were spelled.
    pub fn take_spelling(&mut self) -> Spelling {
        match self {
            Self::Http1(body) => body.take_spelling(),
            Self::Http2(_) => Spelling::default(),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        match self.get_mut() {
            Self::Http1(body) => body
                .poll_frame(cx)
                .map(|frame| frame.map(|f| f.map_err(HttpError::Http1))),
            Self::Http2(body) => body
                .poll_frame(cx)
                .map(|frame| frame.map(|f| f.map_err(HttpError::Http2))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }
}
