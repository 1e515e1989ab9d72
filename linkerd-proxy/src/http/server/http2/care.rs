//! PINGs on a client's connection: a client that vanished is noticed, and, where windows are to follow
//! the bandwidth-delay product, the bytes of one round trip are counted.

use crate::http::upload::Received;
use h2::{Ping, PingPong};
use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// Between PINGs, and for the answer to one, when nothing else is configured.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// Window that a connection begins with (RFC 9113, section 6.9.2), and the largest one.
const WINDOWS: (u32, u32) = (65_535, 16 << 20);

/// What a connection needs.
pub(super) enum Event {
    /// Windows of so many bytes.
    Window(u32),
    /// To be given up: there was no answer to a PING.
    Silence,
}

/// Looks after one connection.
pub(super) struct Care {
    pings: Option<PingPong>,
    interval: Duration,
    timeout: Duration,
    /// Until the next PING, or for the answer to the last one.
    timer: Pin<Box<Sleep>>,
    is_pinging: bool,
    adaptive: Option<Adaptive>,
}

struct Adaptive {
    received: Received,
    /// What had been received when the last PING was sent.
    before: u64,
    window: u32,
}

impl Care {
    pub fn new(
        pings: Option<PingPong>,
        keep_alive: Option<(Duration, Duration)>,
        received: Option<Received>,
    ) -> Self {
        let (interval, timeout) = keep_alive.unwrap_or(KEEP_ALIVE);
        Self {
            pings,
            interval,
            timeout,
            timer: Box::pin(sleep(interval)),
            is_pinging: false,
            adaptive: received.map(Adaptive::new),
        }
    }

    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let Some(pings) = &mut self.pings else {
            return Poll::Pending;
        };
        loop {
            if !self.is_pinging {
                let wants_to_know = self.adaptive.as_mut().is_some_and(|a| a.wants_to_know());
                if !wants_to_know {
                    ready!(self.timer.as_mut().poll(cx));
                }
                // It fails only on a connection that is over.
                let _ = pings.send_ping(Ping::opaque());
                self.timer.as_mut().reset(Instant::now() + self.timeout);
                self.is_pinging = true;
            }
            match pings.poll_pong(cx) {
                Poll::Ready(Ok(_)) => {
                    self.is_pinging = false;
                    self.timer.as_mut().reset(Instant::now() + self.interval);
                    let window = self.adaptive.as_mut().and_then(Adaptive::round_trip);
                    if let Some(window) = window {
                        return Poll::Ready(Event::Window(window));
                    }
                }
                // The connection says itself what has become of it.
                Poll::Ready(Err(_)) => return Poll::Pending,
                Poll::Pending => return self.timer.as_mut().poll(cx).map(|()| Event::Silence),
            }
        }
    }
}

impl Adaptive {
    fn new(received: Received) -> Self {
        Self {
            received,
            before: 0,
            window: WINDOWS.0,
        }
    }

    /// Whether so much has come that the window may be what holds up more; a round trip begins then.
    fn wants_to_know(&mut self) -> bool {
        let received = self.received.get();
        let is_much = received - self.before >= u64::from(self.window) / 2;
        if is_much {
            self.before = received;
        }
        is_much
    }

    /// A round trip is over: the window to have now, if it was too small for that.
    fn round_trip(&mut self) -> Option<u32> {
        let received = self.received.get() - self.before;
        self.before = self.received.get();
        let fills = received * 3 >= u64::from(self.window) * 2;
        if !fills || self.window == WINDOWS.1 {
            return None;
        }
        let wanted = u32::try_from(received * 2).unwrap_or(u32::MAX);
        self.window = wanted.clamp(self.window, WINDOWS.1);
        Some(self.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_follow_what_comes_in_a_round_trip() {
        let received = Received::default();
        let mut adaptive = Adaptive::new(received.clone());
        let come = |n: u64| received.set(received.get() + n);
        assert!(!adaptive.wants_to_know());
        come(40_000);
        assert!(adaptive.wants_to_know());
        come(10_000);
        assert_eq!(adaptive.round_trip(), None, "there was room for more");
        come(40_000);
        assert!(adaptive.wants_to_know());
        come(60_000);
        assert_eq!(adaptive.round_trip(), Some(120_000));
        come(1 << 30);
        assert_eq!(adaptive.round_trip(), Some(WINDOWS.1));
        come(1 << 30);
        assert_eq!(adaptive.round_trip(), None, "it is as large as it may be");
    }
}
