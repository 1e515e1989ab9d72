//! The endpoints of one balancer: which there are, which are in use, which of those are ready, and
//! which is picked.
//!
//! What discovery says is kept as it comes, shared by all workers. Only endpoints in use have
//! anything besides: those are a prefix of the order in [`super::ranks`], as long as it takes for
//! [`super::aperture`]'s number of them to be ready, so one that is not is replaced at once. They are
//! kept in a `tower` [`ReadyCache`]. A pick is made in place: the better of two ready ones taken at
//! random, by [`super::ewma`], or one that is due for a trial. Who waits when none is ready is the
//! balancer's business.

use super::{
    NewEndpoint, Params,
    aperture::Aperture,
    lease::{At, Lease, Slot},
    ranks::Ranks,
    vitals::Vitals,
};
use indexmap::IndexMap;
use mesh_policy::endpoint::Endpoint as Metadata;
use rand::RngExt;
use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower::{load::Load, ready_cache::ReadyCache};

/// What discovery knows of endpoints.
pub(super) type Known = Arc<IndexMap<SocketAddr, Metadata>>;

/// The endpoints of a balancer.
pub(super) struct Pool<N: NewEndpoint> {
    new: N,
    params: Params,
    vitals: Rc<Vitals>,
    known: Known,
    ranks: Ranks,
    aperture: Aperture,
    /// Those in use.
    cache: ReadyCache<SocketAddr, Slot<N::Endpoint>, ()>,
    heaviest: u32,
    uniform: bool,
}

/// How many endpoints are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) ready: usize,
    pub(super) in_use: usize,
    pub(super) known: usize,
}

/// What an update has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changes {
    /// Endpoints that are new, or about which there is news.
    pub(super) added: usize,
    /// Endpoints that are gone.
    pub(super) removed: usize,
}

// === impl Pool ===

impl<N: NewEndpoint> Pool<N> {
    pub(super) fn new(new: N, params: Params, vitals: Rc<Vitals>) -> Self {
        Self {
            new,
            params,
            known: Known::default(),
            ranks: Ranks::new(),
            aperture: Aperture::new(vitals.clone(), Instant::now()),
            vitals,
            cache: ReadyCache::default(),
            heaviest: 0,
            uniform: true,
        }
    }

    /// Takes what discovery says now. Endpoints that did not change keep their connections and what
    /// was learned about them; the others are made anew when they are in use.
    pub(super) fn update(&mut self, cx: &mut Context<'_>, new: &Known) -> Changes {
        let old = std::mem::replace(&mut self.known, new.clone());
        let mut changes = Changes {
            added: 0,
            removed: 0,
        };
        for (addr, metadata) in old.iter() {
            match new.get(addr) {
                Some(same) if same == metadata => continue,
                Some(_) => {}
                None => changes.removed += 1,
            }
            if self.ranks.remove(*addr, metadata.weight) {
                self.cache.evict(addr);
            }
        }
        for (addr, metadata) in new.iter() {
            if old.get(addr) != Some(metadata) {
                changes.added += 1;
                if self.ranks.insert(*addr, metadata.weight) {
                    self.take_into_use(*addr);
                }
            }
        }
        self.aperture.resize(new.len(), Instant::now());
        self.weigh();
        self.settle(cx);
        changes
    }

    /// Moves endpoints that have become ready to those that are, and replaces those that have
    /// ceased to be; `cx` is woken for the others.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) {
        self.vitals.take_shut();
        self.sweep(cx);
        self.settle(cx);
    }

    /// How many there are, when last looked at.
    pub(super) fn counts(&self) -> Counts {
        Counts {
            ready: self.cache.ready_len(),
            in_use: self.ranks.in_use(),
            known: self.known.len(),
        }
    }

    /// Picks one that is ready.
    pub(super) fn pick(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Option<Lease<N::Endpoint>> {
        self.attend(cx, now);
        loop {
            if self.cache.ready_len() == 0 {
                self.settle(cx);
            }
            let (index, is_trial) = self.choose(now)?;
            if let Some(lease) = self.lease(cx, index, is_trial, now) {
                return Some(lease);
            }
        }
    }

    /// Picks one for a request that one in use has just failed to take. If not all are in use, the
    /// others may be no better: then it is one that has not been used, as if from all there are.
    pub(super) fn pick_other(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
    ) -> Option<Lease<N::Endpoint>> {
        self.attend(cx, now);
        if self.aperture.is_partial() {
            if self.unproven().is_none() {
                self.extend(cx, 1);
                // The driver takes it out of use again, unless another one was shut.
                cx.waker().wake_by_ref();
            }
            let unproven = self.unproven();
            if let Some(lease) = unproven.and_then(|index| self.lease(cx, index, false, now)) {
                return Some(lease);
            }
        }
        self.pick(cx, now)
    }

    /// Whether a pick would find one. Nearly always the first that is looked at tells.
    pub(super) fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        loop {
            if self.cache.ready_len() == 0 {
                self.settle(cx);
            }
            if self.cache.ready_len() == 0 {
                return false;
            }
            // As above: what is not ready leaves the set.
            if let Ok(true) = self.cache.check_ready_index(cx, 0) {
                return true;
            }
        }
    }

    /// Whether [`Self::narrow`] has anything to do.
    pub(super) fn is_at_rest(&self) -> bool {
        self.aperture.is_at_rest()
    }

    /// Takes out of use what is not needed; to be called every [`TICK`](super::aperture::TICK).
    pub(super) fn narrow(&mut self, cx: &mut Context<'_>) {
        let now = Instant::now();
        let ailing = self.ailing(now);
        self.aperture.narrow(ailing, now);
        self.settle(cx);
    }

    // Which are in use.

    /// What has to be seen to before a pick; nearly always there is nothing.
    fn attend(&mut self, cx: &mut Context<'_>, now: Instant) {
        let is_shut = self.vitals.take_shut();
        if is_shut {
            self.sweep(cx);
        }
        let mut is_changed = is_shut;
        if self.aperture.is_partial() {
            is_changed |= self.aperture.widen();
            if self.aperture.is_due(now) {
                let ailing = self.ailing(now);
                self.aperture.look(ailing, now);
                is_changed = true;
            }
        }
        if is_changed {
            self.settle(cx);
        }
    }

    /// Finds the ready ones that are so no longer.
    fn sweep(&mut self, cx: &mut Context<'_>) {
        for index in (0..self.cache.ready_len()).rev() {
            // What is not ready leaves the set; the last takes its place, and was looked at.
            let _ = self.cache.check_ready_index(cx, index);
        }
    }

    /// Takes endpoints into use, or out of it, until as many as are wanted are ready.
    fn settle(&mut self, cx: &mut Context<'_>) {
        let (before, wanted) = (self.counts(), self.aperture.wanted());
        while let Poll::Ready(Err(_)) = self.cache.poll_pending(cx) {}
        loop {
            let missing = wanted.saturating_sub(self.cache.ready_len());
            if missing == 0 || self.extend(cx, missing) == 0 {
                break;
            }
        }
        while let Some(last) = self.ranks.last() {
            let ready = self.cache.ready_len();
            let is_needed = ready == wanted && self.cache.get_ready(&last).is_some();
            if ready < wanted || is_needed {
                break;
            }
            self.ranks.shorten();
            self.cache.evict(&last);
        }
        if self.counts() != before {
            // The driver tells how many there are, and narrows.
            cx.waker().wake_by_ref();
        }
    }

    /// Takes up to `n` more into use; how many there were.
    fn extend(&mut self, cx: &mut Context<'_>, n: usize) -> usize {
        let mut added = 0;
        while added < n
            && let Some(addr) = self.ranks.extend()
        {
            self.take_into_use(addr);
            added += 1;
        }
        while let Poll::Ready(Err(_)) = self.cache.poll_pending(cx) {}
        added
    }

    fn take_into_use(&mut self, addr: SocketAddr) {
        if let Some(metadata) = self.known.get(&addr) {
            let make = |gate: &_| self.new.new_endpoint(metadata, gate);
            let slot = Slot::new(metadata, &self.params, &self.vitals, make);
            self.cache.push(addr, slot);
        }
    }

    /// How many ready ones ail.
    fn ailing(&self, now: Instant) -> usize {
        let ready = self.cache.iter_ready();
        ready.filter(|(_, slot)| slot.load.is_ailing(now)).count()
    }

    /// A ready one that has never been used.
    fn unproven(&self) -> Option<usize> {
        self.cache
            .iter_ready()
            .position(|(_, slot)| slot.load.is_new())
    }

    // Which is picked.

    fn lease(
        &mut self,
        cx: &mut Context<'_>,
        index: usize,
        is_trial: bool,
        now: Instant,
    ) -> Option<Lease<N::Endpoint>> {
        // Readiness goes stale; one that is no longer ready leaves the set, so picking ends.
        match self.cache.check_ready_index(cx, index) {
            Ok(true) => {}
            _ => return None,
        }
        let (_, slot) = self.cache.get_ready_index(index)?;
        Some(slot.lease(is_trial, now))
    }

    fn weigh(&mut self) {
        let weights = self.known.values().map(|m| m.weight);
        self.heaviest = weights.clone().max().unwrap_or(0);
        self.uniform = weights.clone().min() == Some(self.heaviest);
    }

    /// One of those that are ready, and whether that is a trial. Those that ail are passed over, unless
    /// hardly any does not: of two taken at random both may ail.
    fn choose(&self, now: Instant) -> Option<(usize, bool)> {
        const TRIES: usize = 5;
        let ails = |(index, is_trial): (usize, bool)| {
            let slot = self.cache.get_ready_index(index);
            !is_trial && slot.is_some_and(|(_, slot)| slot.load.is_ailing(now))
        };
        let mut chosen = self.draw(now)?;
        for _ in 1..TRIES {
            if !ails(chosen) {
                break;
            }
            chosen = self.draw(now)?;
        }
        Some(chosen)
    }

    /// The better of two ready endpoints taken at random, or one that is due for a trial.
    fn draw(&self, now: Instant) -> Option<(usize, bool)> {
        let (a, b) = match self.cache.ready_len() {
            0 => return None,
            1 => return Some((0, false)),
            2 if self.uniform => (0, 1),
            n if self.uniform => two_of(n),
            n => match (self.weighted(n), self.weighted(n)) {
                (a, b) if a == b => return self.drawn_twice(a, n, now),
                pair => pair,
            },
        };
        let ((a_cost, a_slot), (b_cost, b_slot)) = (self.at(a, now)?, self.at(b, now)?);
        let (winner, loser, loser_slot) = match a_cost <= b_cost {
            true => (a, b, b_slot),
            false => (b, a, a_slot),
        };
        match loser_slot.load.is_due(now) {
            true => Some((loser, true)),
            false => Some((winner, false)),
        }
    }

    /// That one was taken twice is how weights tell. But one that hangs or fails is not worth its
    /// weight: if any other of the `n` is far better, it is that.
    fn drawn_twice(&self, a: usize, n: usize, now: Instant) -> Option<(usize, bool)> {
        /// More than a hiccup makes of equals.
        const FAR: f64 = 8.0;
        let b = (a + rand::rng().random_range(1..n)) % n;
        let ((a_cost, a_slot), (b_cost, b_slot)) = (self.at(a, now)?, self.at(b, now)?);
        if b_slot.weight == 0 || a_cost <= FAR * b_cost {
            return Some((a, false));
        }
        match a_slot.load.is_due(now) {
            true => Some((a, true)),
            false => Some((b, false)),
        }
    }

    /// A ready one and what it costs.
    fn at(&self, index: usize, now: Instant) -> Option<(f64, &Slot<N::Endpoint>)> {
        let (_, slot) = self.cache.get_ready_index(index)?;
        Some((At(slot, now).load(), slot))
    }

    /// An index in proportion to weights, by rejection: cheap while weights are alike, and bounded
    /// when they are not.
    fn weighted(&self, n: usize) -> usize {
        const TRIES: usize = 64;
        let mut rng = rand::rng();
        let most = self.ranks.pull(self.heaviest);
        let mut index = 0;
        for _ in 0..TRIES {
            index = rng.random_range(0..n);
            let slot = self.cache.get_ready_index(index);
            let pull = slot.map_or(0.0, |(_, slot)| self.ranks.pull(slot.weight));
            if rng.random::<f64>() * most < pull {
                break;
            }
        }
        index
    }
}

/// Two different indices below `n`, each pair as likely as any other; `n` is at least 2.
fn two_of(n: usize) -> (usize, usize) {
    let mut rng = rand::rng();
    let a = rng.random_range(0..n);
    let b = rng.random_range(0..n - 1);
    (a, if b >= a { b + 1 } else { b })
}
