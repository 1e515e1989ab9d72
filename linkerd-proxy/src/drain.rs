//! The end of the process, in steps that everything can wait for.
//!
//! A process runs, then drains (no new work from outside, what is in flight ends), then stops.
//! Inbound and outbound drain at different times, so each has a [`Signal`] of its own. What is in
//! flight holds a [`Guard`]; the drain is over when no guard is left.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{
            AtomicUsize,
            Ordering::{AcqRel, Acquire},
        },
    },
    task::{Context, Poll},
};
use tokio::sync::{Notify, watch};

/// Starts a drain and waits for its end.
pub struct Drain {
    signal: watch::Sender<bool>,
    guards: Arc<Guards>,
}

/// Tells when to drain, and hands out guards.
#[derive(Clone)]
pub struct Signal {
    signal: watch::Receiver<bool>,
    guards: Arc<Guards>,
}

/// Something that the end of the drain waits for.
pub struct Guard(Arc<Guards>);

/// A wait for the signal that can be polled many times for the price of one registration.
pub struct Waiting(Pin<Box<dyn Future<Output = ()>>>);

#[derive(Default)]
struct Guards {
    count: AtomicUsize,
    none_left: Notify,
}

/// A drain, and its signal.
pub fn channel() -> (Drain, Signal) {
    let (tx, rx) = watch::channel(false);
    let guards = Arc::<Guards>::default();
    let drain = Drain {
        signal: tx,
        guards: guards.clone(),
    };
    (drain, Signal { signal: rx, guards })
}

impl Drain {
    /// Gives the signal and waits until every guard is gone. Cancel-safe.
    pub async fn drain(&mut self) {
        self.signal.send_replace(true);
        loop {
            let none_left = self.guards.none_left.notified();
            if self.guards.count.load(Acquire) == 0 {
                return;
            }
            none_left.await;
        }
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
        self.guards.count.fetch_add(1, AcqRel);
        Guard(self.guards.clone())
    }

    /// Like [`Signal::drained`], to be polled by hand.
    pub fn waiting(&self) -> Waiting {
        let signal = self.clone();
        Waiting(Box::pin(async move { signal.drained().await }))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
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
    async fn a_drain_waits_for_every_guard_but_not_for_signals() {
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
        drop(guard);
        assert!(draining.is_woken());
        assert_ready!(draining.poll());
        drop(signal);
    }
}
