//! Streams that follow an answer: they skip to the latest, end at shutdown, and are counted.

use super::{Frame, Frames};
use crate::metrics::{Metrics, OpenStream};
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

/// What streams need beside their answers.
#[derive(Clone)]
pub struct Streams {
    /// Turns true, or closes, when the process stops.
    pub stopping: watch::Receiver<bool>,
    /// Where they are counted.
    pub metrics: Arc<Metrics>,
}

/// The answers to one question, as they change.
pub struct Updates<A> {
    answers: watch::Receiver<Arc<A>>,
    stopping: watch::Receiver<bool>,
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

// === impl Streams ===

impl Streams {
    /// Follows `answers` on a stream of that kind.
    pub fn follow<A>(&self, kind: &'static str, answers: watch::Receiver<Arc<A>>) -> Updates<A> {
        Updates {
            answers,
            stopping: self.stopping.clone(),
            open: self.metrics.open_stream(kind),
        }
    }
}

// === impl Updates ===

impl<A: Send + Sync + 'static> Updates<A> {
    /// The latest answer, once it is another; `None` when the process stops. Cancel-safe.
    pub async fn next(&mut self) -> Option<Arc<A>> {
        // Stopping comes first: a stream that is always behind still has to end.
        tokio::select! {
            biased;
            _ = self.stopping.wait_for(|stopping| *stopping) => None,
            changed = self.answers.changed() => {
                changed.ok()?;
                Some(self.answers.borrow_and_update().clone())
            }
        }
    }

    /// Counts an update as sent.
    pub fn count(&self) {
        self.open.count();
    }

    /// The answer as it is, then what it becomes, until one is an error.
    pub fn each(mut self, encode: impl Fn(&A) -> Result<Frame, Status> + Send + 'static) -> Frames {
        let first = Some(self.answers.borrow_and_update().clone());
        let state = Some((first, self, encode));
        let stream = futures::stream::unfold(state, |state| async move {
            let (first, mut updates, encode) = state?;
            let answer = match first {
                Some(first) => first,
                None => updates.next().await?,
            };
            updates.count();
            let frame = encode(&answer);
            let more = frame.is_ok();
            Some((frame, more.then_some((None, updates, encode))))
        });
        Box::pin(stream)
    }
}
