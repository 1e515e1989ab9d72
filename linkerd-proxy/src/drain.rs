//! The end of the process, in steps that everything can wait for.
//!
//! A process runs, then drains (no new work from outside, what is in flight ends), then stops.
//! Inbound and outbound drain at different times, so each has a [`Signal`] of its own. What is in
//! flight holds a [`Guard`]; the drain is over when no guard is left.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::{mpsc, watch};

/// Starts a drain and waits for its end.
pub struct Drain {
    signal: watch::Sender<bool>,
    guards: mpsc::Receiver<()>,
}

/// Tells when to drain, and hands out guards.
#[derive(Clone)]
pub struct Signal {
    signal: watch::Receiver<bool>,
    guard: mpsc::Sender<()>,
}

/// Something that the end of the drain waits for.
pub struct Guard(#[expect(dead_code, reason = "held for its drop")] mpsc::Sender<()>);

/// A wait for the signal that can be polled many times for the price of one registration.
pub struct Waiting(Pin<Box<dyn Future<Output = ()>>>);

/// A drain, and its signal.
pub fn channel() -> (Drain, Signal) {
    let (tx, rx) = watch::channel(false);
    let (guard, guards) = mpsc::channel(1);
    (Drain { signal: tx, guards }, Signal { signal: rx, guard })
}

impl Drain {
    /// Gives the signal and waits until every guard and every signal is gone. Cancel-safe.
    pub async fn drain(&mut self) {
        self.signal.send_replace(true);
        // Nothing is ever sent: this ends when the last sender is dropped.
        while self.guards.recv().await.is_some() {}
    }
}

impl Signal {
    /// Completes when it is time to drain. Cancel-safe.
    pub async fn drained(&self) {
        let mut signal = self.signal.clone();
        // If the sender is gone, the process is ending anyway.
        let _ = signal.wait_for(|draining| *draining).await;
    }

    /// Whether it is time to drain.
    pub fn is_draining(&self) -> bool {
        *self.signal.borrow()
    }

    /// Makes the drain wait until the guard is dropped.
    pub fn guard(&self) -> Guard {
        Guard(self.guard.clone())
    }

    /// Like [`Signal::drained`], to be polled by hand.
    pub fn waiting(&self) -> Waiting {
        let signal = self.clone();
        Waiting(Box::pin(async move { signal.drained().await }))
    }
}

impl Waiting {
    /// Ready when it is time to drain; must not be polled again after that.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_test::{assert_pending, assert_ready, task};

    #[tokio::test]
    async fn a_drain_waits_for_every_guard() {
        let (mut drain, signal) = channel();
        let guard = signal.guard();
        let mut waiting = task::spawn({
            let signal = signal.clone();
            async move { signal.drained().await }
        });
        assert_pending!(waiting.poll());
        let mut draining = task::spawn(drain.drain());
        assert_pending!(draining.poll());
        assert!(waiting.is_woken());
        assert_ready!(waiting.poll());
        drop((signal, waiting));
        assert_pending!(draining.poll());
        drop(guard);
        assert_ready!(draining.poll());
    }
}
