//! The body of an answer: an endpoint's, watched as it passes, or one of our own.
//!
//! Nothing is boxed or copied. The watcher learns of the first byte and of the end, which is where
//! latency and classification are settled.

use super::{client::Answer, http1::Spelling, upgrade::Switch};
use crate::error::HttpError;
use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// Told what a body does.
pub trait Watch {
    /// The first frame is there.
    fn first(&mut self);
    /// The body is complete, with these trailers if there were any. Called at most once; without
    /// `first` before it when the first frame is also the last, or there is none.
    fn end(&mut self, trailers: Option<&HeaderMap>);
    /// The body broke. Called at most once, and never after `end`.
    fn broken(&mut self, error: &HttpError);
}

/// The body of an answer, and what the client's connection becomes after it, if that changes.
pub struct Body {
    kind: Kind,
    switch: Option<Box<Switch>>,
}

enum Kind {
    /// An endpoint's, watched; nobody watches once told of the end.
    Watched(Answer, Option<Box<dyn Watch>>),
    /// The proxy's own; `None` is empty.
    Own(Option<Bytes>),
}

impl Body {
    /// No body.
    pub fn empty() -> Self {
        Self {
            kind: Kind::Own(None),
            switch: None,
        }
    }

    /// A body of the proxy's own.
    pub fn own(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            kind: Kind::Own((!bytes.is_empty()).then_some(bytes)),
            switch: None,
        }
    }

    /// Watches `body`; one that is empty has ended already.
    pub fn watched(body: Answer, mut watch: Box<dyn Watch>) -> Self {
        let watch = if body.is_end_stream() {
            watch.end(None);
            None
        } else {
            Some(watch)
        };
        Self {
            kind: Kind::Watched(body, watch),
            switch: None,
        }
    }

    /// Makes the client's connection switch after the answer.
    pub fn then(self, switch: Switch) -> Self {
        Self {
            switch: Some(Box::new(switch)),
            ..self
        }
    }

    /// What the client's connection becomes after the answer, if that changes.
    pub fn take_switch(&mut self) -> Option<Switch> {
        self.switch.take().map(|switch| *switch)
    }

    /// Goes on with the request while nobody takes the answer.
    pub fn go_on_sending(&mut self, cx: &mut Context<'_>) {
        if let Kind::Watched(answer, _) = &mut self.kind {
            answer.go_on_sending(cx);
        }
    }

    /// How the answer's header names were spelled, by whoever wrote them.
    pub fn take_spelling(&mut self) -> Spelling {
        match &mut self.kind {
            Kind::Watched(answer, _) => answer.take_spelling(),
            Kind::Own(_) => Spelling::default(),
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = HttpError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, HttpError>>> {
        let (body, watch) = match &mut self.get_mut().kind {
            Kind::Own(bytes) => return Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Kind::Watched(body, watch) => (body, watch),
        };
        let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
        if let Some(watching) = watch
            && tell(&mut **watching, &frame, body.is_end_stream())
        {
            *watch = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Watched(body, _) => body.is_end_stream(),
            Kind::Own(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Watched(body, _) => body.size_hint(),
            Kind::Own(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
        }
    }
}

/// Tells the watcher of a frame; whether it was the last one. After the last data nobody need ask
/// again, so that has to count as the end.
fn tell(
    watch: &mut dyn Watch,
    frame: &Option<Result<Frame<Bytes>, HttpError>>,
    is_end_stream: bool,
) -> bool {
    match frame {
        None => watch.end(None),
        Some(Err(error)) => watch.broken(error),
        Some(Ok(frame)) if !frame.is_trailers() && !is_end_stream => {
            watch.first();
            return false;
        }
        Some(Ok(frame)) => {
            watch.end(frame.trailers_ref());
        }
    }
    true
}
