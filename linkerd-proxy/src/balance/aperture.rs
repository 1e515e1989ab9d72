//! How many of a balancer's endpoints are in use: all, if they are few, and otherwise as many as the
//! load needs, after the idea of Finagle's aperture.
//!
//! An endpoint is given up to [`MAX_SHARE`] requests at a time; one more, and the next comes into use.
//! When in two windows in a row many answers are late (`ewma` says which), and load may be why, it is
//! given less, down to [`MIN_SHARE`], so that endpoints that do one thing at a time are not made to
//! queue. That is forgotten in minutes; what is not needed goes out of use an eighth at a time.
//! A connection that is forwarded costs the same wherever it goes: each has an endpoint to itself
//! while there are enough. For endpoints that ail, others are in use besides.
//!
//! Which endpoints those are, is not known here: the pool asks how many.

use super::vitals::{Vitals, Window};
use std::{rc::Rc, time::Duration};
use tokio::time::Instant;

/// Up to so many endpoints, all are in use.
pub(super) const ALL: usize = 32;

/// Of more than that, at least so many are.
pub(super) const LEAST: usize = 12;

/// Endpoints that ail and are made up for; with more, it is the service that ails.
const MAX_AILING: usize = 4 * LEAST;

/// Requests in flight that an endpoint is taken to stand, and that it has to stand.
const MAX_SHARE: f64 = 16.0;
const MIN_SHARE: f64 = 0.5;

/// How much less it is given when answers are late.
const RELIEF: f64 = 1.5;

/// How long, at least and at most, answers are counted, and how many decide.
const WINDOW: Duration = Duration::from_millis(250);
const MAX_WINDOW: Duration = Duration::from_secs(2);
const ENOUGH: usize = 16;

/// How often it is seen whether fewer would do.
pub(super) const TICK: Duration = Duration::from_secs(5);

/// What an endpoint is given more each time, of what it stood.
const RECOVERY: f64 = 1.02;

/// Decides how many endpoints are in use.
pub(super) struct Aperture {
    vitals: Rc<Vitals>,
    /// How many there are.
    known: usize,
    /// How many should be in use, were all well.
    width: usize,
    /// How many of those in use ail.
    ailing: usize,
    /// Requests in flight that an endpoint stands, as far as known.
    share: f64,
    /// Since when answers are counted.
    window: Instant,
    was_late: bool,
}

// === impl Aperture ===

impl Aperture {
    pub(super) fn new(vitals: Rc<Vitals>, now: Instant) -> Self {
        Self {
            vitals,
            known: 0,
            width: LEAST,
            ailing: 0,
            share: MAX_SHARE,
            window: now,
            was_late: false,
        }
    }

    /// Now there are so many endpoints.
    pub(super) fn resize(&mut self, known: usize, now: Instant) {
        if !self.is_partial() {
            // Those that are in use stay, until it is seen that fewer would do.
            self.width = self.known.max(LEAST);
            self.window = now;
            self.vitals.take_window();
        }
        self.known = known;
    }

    /// Whether not all have to be in use.
    pub(super) fn is_partial(&self) -> bool {
        self.known > ALL
    }

    /// How many should be in use and ready.
    pub(super) fn wanted(&self) -> usize {
        match self.is_partial() {
            true => self.known.min(self.width + self.ailing),
            false => self.known,
        }
    }

    /// Widens if one more request is too much for those in use; asked for each.
    pub(super) fn widen(&mut self) -> bool {
        let (requests, held) = (self.vitals.requests(), self.vitals.connections());
        let free = self.width.saturating_sub(held);
        if (requests as f64) < free as f64 * self.share || self.width >= self.known {
            return false;
        }
        self.width = self.demand(requests + 1).min(self.known);
        true
    }

    /// Whether it is time to [`look`](Self::look); asked for each request.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let elapsed = now.saturating_duration_since(self.window);
        elapsed >= WINDOW && (elapsed >= MAX_WINDOW || self.vitals.answers() >= ENOUGH)
    }

    /// Looks at how those in use have done lately; so many of them ail.
    pub(super) fn look(&mut self, ailing: usize, now: Instant) {
        let window = self.vitals.take_window();
        self.window = now;
        self.ailing = ailing.min(MAX_AILING);
        // An average over requests is one over time, as far as they come at random.
        let in_flight = window.in_flight as f64 / window.requests.max(1) as f64;
        let share = in_flight / self.width as f64;
        let is_late = window.is_late() && share >= MIN_SHARE;
        if std::mem::replace(&mut self.was_late, is_late) && is_late {
            self.share = (share.min(self.share) / RELIEF).max(MIN_SHARE);
            self.widen();
        }
    }

    /// A [`TICK`] has passed: narrows, if fewer would have done. So many of those in use ail.
    pub(super) fn narrow(&mut self, ailing: usize, now: Instant) {
        self.ailing = ailing.min(MAX_AILING);
        // Without requests nobody looks.
        self.was_late &= now.saturating_duration_since(self.window) < MAX_WINDOW;
        if !self.was_late {
            self.share = (self.share * RECOVERY).min(MAX_SHARE);
        }
        let demand = self.demand(self.vitals.take_peak());
        // A third is kept in hand, or it would be widened again at once.
        let enough = (demand + demand / 3).max(LEAST);
        let slowly = self.width - (self.width / 8).max(1);
        self.width = self.width.min(enough.max(slowly));
    }

    /// Whether there is nothing to narrow or to forget.
    pub(super) fn is_at_rest(&self) -> bool {
        let is_least = self.width <= LEAST && self.ailing == 0 && self.share >= MAX_SHARE;
        is_least || !self.is_partial()
    }

    /// How many it takes for so many requests and the connections that are held.
    fn demand(&self, requests: usize) -> usize {
        (requests as f64 / self.share).ceil() as usize + self.vitals.connections()
    }
}

// === impl Window ===

impl Window {
    /// Whether a fourth of the answers was late, or more.
    fn is_late(&self) -> bool {
        self.late > 0 && self.late * 4 >= self.answers
    }
}

#[cfg(test)]
mod tests;
