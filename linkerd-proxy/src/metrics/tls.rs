//! The `tls_handshake*` families: how handshakes end, with what cryptography, and how long they
//! take.
//!
//! There are few kinds of handshakes that succeed, so each has a slot for its handle, filled when
//! the first of its kind is met.

use super::{Registry, label, labels::Direction};
use metrics::{Counter, Histogram};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::time::Instant;

const TOTAL: &str = "tls_handshakes_total";

/// In seconds: a handshake is a millisecond of work and a round trip.
const BOUNDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

const SUITES: [&str; 4] = [
    "TLS13_AES_128_GCM_SHA256",
    "TLS13_AES_256_GCM_SHA384",
    "TLS13_CHACHA20_POLY1305_SHA256",
    "other",
];

const GROUPS: [&str; 5] = [
    "X25519MLKEM768",
    "X25519",
    "secp256r1",
    "secp384r1",
    "other",
];

/// Handles of both directions.
pub struct Handshakes {
    /// Clients that came.
    pub inbound: Side,
    /// Peers that were called, of the control plane too.
    pub outbound: Side,
}

/// Handles of one direction.
pub struct Side {
    registry: Arc<Registry>,
    direction: Direction,
    duration: Histogram,
    succeeded: [OnceLock<Counter>; SUITES.len() * GROUPS.len() * 2],
}

/// A handshake that is under way. Given up before it ended, it counts as one that timed out.
pub struct Attempt<'a> {
    side: &'a Side,
    started: Instant,
    ended: bool,
}

/// What a handshake agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake {
    /// The suite's name (RFC 8446, appendix B.4, as rustls writes it).
    pub suite: &'static str,
    /// The name of the group that keys were exchanged in.
    pub group: &'static str,
    /// Whether an earlier session went on.
    pub resumed: bool,
}

// === impl Handshakes ===

impl Handshakes {
    /// Registers the families.
    pub fn new(registry: &Arc<Registry>) -> Arc<Self> {
        registry.describe(TOTAL, "TLS handshakes, by how they ended");
        registry.describe(
            "tls_handshake_duration_seconds",
            "Time that successful TLS handshakes took",
        );
        Arc::new(Self {
            inbound: Side::new(registry, Direction::Inbound),
            outbound: Side::new(registry, Direction::Outbound),
        })
    }
}

// === impl Side ===

impl Side {
    fn new(registry: &Arc<Registry>, direction: Direction) -> Self {
        let name = "tls_handshake_duration_seconds";
        Self {
            registry: registry.clone(),
            direction,
            duration: registry.histogram(name, BOUNDS, vec![direction.label()]),
            succeeded: [const { OnceLock::new() }; _],
        }
    }

    /// Counts a handshake that begins now.
    pub fn attempt(&self) -> Attempt<'_> {
        Attempt {
            side: self,
            started: Instant::now(),
            ended: false,
        }
    }

    fn succeeded(&self, handshake: Handshake, duration: Duration) {
        let slot = &self.succeeded[handshake.slot()];
        let counter = || {
            let suite = SUITES[index(&SUITES, handshake.suite)];
            let group = GROUPS[index(&GROUPS, handshake.group)];
            self.counter("ok", suite, group, handshake.resumed)
        };
        slot.get_or_init(counter).increment(1);
        self.duration.record(duration.as_secs_f64());
    }

    fn failed(&self, reason: &'static str) {
        self.counter(reason, "", "", false).increment(1);
    }

    fn counter(
        &self,
        result: &'static str,
        suite: &'static str,
        group: &'static str,
        resumed: bool,
    ) -> Counter {
        let labels = vec![
            self.direction.label(),
            label("result", result),
            label("cipher", suite),
            label("group", group),
            label("resumed", if resumed { "true" } else { "false" }),
        ];
        self.registry.counter(TOTAL, labels)
    }
}

// === impl Attempt ===

impl Attempt<'_> {
    /// The connection is verified.
    pub fn succeeded(mut self, handshake: Handshake) {
        self.ended = true;
        self.side.succeeded(handshake, self.started.elapsed());
    }

    /// There is none, by the word for the error.
    pub fn failed(mut self, reason: &'static str) {
        self.ended = true;
        self.side.failed(reason);
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.side.failed("timeout");
        }
    }
}

// === impl Handshake ===

impl Handshake {
    fn slot(self) -> usize {
        let (suite, group) = (index(&SUITES, self.suite), index(&GROUPS, self.group));
        (suite * GROUPS.len() + group) * 2 + usize::from(self.resumed)
    }
}

/// The last stands for all that are not named.
fn index(names: &[&str], name: &str) -> usize {
    let known = names.iter().position(|known| *known == name);
    known.unwrap_or(names.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_handshake_has_a_slot_of_its_own() {
        let mut slots = std::collections::HashSet::new();
        for suite in SUITES {
            for group in GROUPS {
                for resumed in [false, true] {
                    let handshake = Handshake {
                        suite,
                        group,
                        resumed,
                    };
                    assert!(slots.insert(handshake.slot()));
                }
            }
        }
        assert_eq!(slots.len(), SUITES.len() * GROUPS.len() * 2);
        assert_eq!(slots.iter().max(), Some(&(slots.len() - 1)));
    }

    #[test]
    fn successes_and_failures_are_one_family() {
        let registry = Registry::new(Duration::from_secs(60), 100);
        let handshakes = Handshakes::new(&registry);
        let handshake = Handshake {
            suite: SUITES[0],
            group: GROUPS[0],
            resumed: true,
        };
        handshakes.inbound.attempt().succeeded(handshake);
        handshakes.outbound.attempt().failed("expired");
        drop(handshakes.outbound.attempt());
        let page = registry.render();
        for want in [
            "tls_handshakes_total{direction=\"inbound\",result=\"ok\",cipher=\"TLS13_AES_128_GCM_SHA256\",group=\"X25519MLKEM768\",resumed=\"true\"} 1",
            "tls_handshakes_total{direction=\"outbound\",result=\"expired\",cipher=\"\",group=\"\",resumed=\"false\"} 1",
            "tls_handshakes_total{direction=\"outbound\",result=\"timeout\",cipher=\"\",group=\"\",resumed=\"false\"} 1",
            "tls_handshake_duration_seconds_count{direction=\"inbound\"} 1",
        ] {
            assert!(page.contains(want), "{want} not in {page}");
        }
    }
}
