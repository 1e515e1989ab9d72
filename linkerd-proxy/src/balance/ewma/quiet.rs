//! Tells requests that are slow by their nature, a long poll for instance, from an endpoint that hangs:
//! an endpoint that answers what came later does not hang, and says nothing about itself by what it
//! still keeps.
//!
//! Requests are told apart by generations of [`GENERATION`], so nothing is kept for each. When one of
//! the present generation is answered, and the last of the earlier ones left [`QUIET`] ago or more,
//! what is left of those is quiet for good.

use std::time::Duration;
use tokio::time::Instant;

/// How long a generation lasts at least; not longer than the shortest pause before a trial, so that
/// the answer to a trial always tells.
pub(super) const GENERATION: Duration = Duration::from_secs(2);

/// What was overtaken and is younger than this is just slower than another one.
const QUIET: Duration = Duration::from_secs(1);

/// The requests that are out at an endpoint, by when they left.
#[derive(Clone, Copy)]
pub(super) struct Generations {
    present: u32,
    since: Instant,
    /// Of the present one.
    young: u32,
    /// Of the earlier ones, without those that are quiet.
    old: u32,
    /// When the last of the old left; of no meaning while there are none.
    old_left: Instant,
    last_left: Instant,
    /// What is out of generations before this one is quiet.
    quiet_before: u32,
}

// === impl Generations ===

impl Generations {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            present: 0,
            since: now,
            young: 0,
            old: 0,
            old_left: now,
            last_left: now,
            quiet_before: 0,
        }
    }

    /// How many are out that are not quiet.
    pub(super) fn out(&self) -> u32 {
        self.young + self.old
    }

    /// One leaves; the generation it belongs to.
    pub(super) fn leave(&mut self, now: Instant) -> u32 {
        if now.saturating_duration_since(self.since) >= GENERATION {
            self.since = now;
            // Once in two seconds at most: it never wraps.
            self.present += 1;
            self.old += std::mem::take(&mut self.young);
            self.old_left = self.last_left;
        }
        self.young += 1;
        self.last_left = now;
        self.present
    }

    /// One is out no longer, for whatever reason; whether it was quiet.
    pub(super) fn over(&mut self, generation: u32) -> bool {
        match generation {
            g if g == self.present => self.young = self.young.saturating_sub(1),
            g if g >= self.quiet_before => self.old = self.old.saturating_sub(1),
            _ => return true,
        }
        false
    }

    /// One was answered.
    pub(super) fn answered(&mut self, generation: u32, now: Instant) {
        let age = now.saturating_duration_since(self.old_left);
        if generation == self.present && self.old > 0 && age >= QUIET {
            self.old = 0;
            self.quiet_before = self.present;
        }
    }
}
