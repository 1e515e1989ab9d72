//! Streams that follow an answer: they skip to the latest, end with it, and are counted.

use super::{Frame, Frames};
use crate::metrics::OpenStream;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;
use tonic::Status;

/// A value and its wire form, which is made when it is first sent. Equal when the values are.
#[derive(Debug)]
pub struct Encoded<T> {
    /// What it says.
    pub value: T,
    frame: OnceLock<Frame>,
}

/// The answers to one question, as they change.
pub struct Updates<A> {
    answers: watch::Receiver<Arc<A>>,
    open: OpenStream,
}

// === impl Encoded ===

impl<T> Encoded<T> {
    /// Not encoded yet.
    pub fn new(value: T) -> Self {
        Self {
            value,
            frame: OnceLock::new(),
        }
    }

    /// The wire form, made by `encode` for whoever comes first.
    pub fn frame(&self, encode: impl FnOnce(&T) -> Frame) -> Frame {
        self.frame.get_or_init(|| encode(&self.value)).clone()
    }
}

impl<T: PartialEq> PartialEq for Encoded<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

// === impl Updates ===

impl<A: Send + Sync + 'static> Updates<A> {
    /// Follows `answers` on a stream that is counted as `open`.
    pub fn new(answers: watch::Receiver<Arc<A>>, open: OpenStream) -> Self {
        Self { answers, open }
    }

    /// The latest answer, once it is another; `None` when there will be no more. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<A>> {
        self.answers.changed().await.ok()?;
        Some(self.answers.borrow_and_update().clone())
    }

    /// Counts an update as sent.
    pub fn count(&self) {
        self.open.count();
    }

    /// The answer as it is, then what it becomes, until one is an error.
    pub fn each(mut self, encode: impl Fn(&A) -> Result<Frame, Status> + Send + 'static) -> Frames {
        self.answers.mark_changed();
        let state = (self, encode, true);
        let stream = futures::stream::unfold(state, |(mut updates, encode, more)| async move {
            if !more {
                return None;
            }
            let answer = updates.next().await?;
            updates.count();
            let frame = encode(&answer);
            let more = frame.is_ok();
            Some((frame, (updates, encode, more)))
        });
        Box::pin(stream)
    }
}
