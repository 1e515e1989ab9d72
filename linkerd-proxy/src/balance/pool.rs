//! The endpoints of one balancer: which there are, which are ready, and which is picked.
//!
//! They are kept in a `tower` [`ReadyCache`]. A pick is made in place: the better of two ready ones
//! taken at random, by [`super::ewma`], or one that is due for a trial. Who waits when none is ready
//! is the balancer's business.

use super::{
    ewma::{InFlight, PeakEwma},
    gate::Gate,
};
use indexmap::IndexMap;
use mesh_policy::endpoint::Endpoint as Metadata;
use rand::RngExt;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    net::SocketAddr,
    rc::Rc,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower::{load::Load, ready_cache::ReadyCache};

/// The endpoints of a balancer.
pub(super) struct Pool<E> {
    cache: ReadyCache<SocketAddr, Slot<E>, ()>,
    known: IndexMap<SocketAddr, Metadata>,
    heaviest: u32,
    uniform: bool,
}

/// An endpoint in the pool.
pub(super) struct Slot<E> {
    endpoint: Rc<E>,
    gate: Rc<Gate>,
    load: Rc<PeakEwma>,
    weight: u32,
    /// Weight relative to the normal one.
    share: f64,
}

/// What an update has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changes {
    /// Endpoints that are new, or about which there is news.
    pub(super) added: usize,
    /// Endpoints that are gone.
    pub(super) removed: usize,
}

/// The use of an endpoint for one request or connection.
pub struct Lease<E> {
    /// What was picked.
    pub endpoint: Rc<E>,
    gate: Rc<Gate>,
    in_flight: Option<InFlight>,
}

// === impl Pool ===

impl<E> Pool<E> {
    pub(super) fn new() -> Self {
        Self {
            cache: ReadyCache::default(),
            known: IndexMap::new(),
            heaviest: 0,
            uniform: true,
        }
    }

    /// Takes what discovery says now. Endpoints that did not change keep their connections and what
    /// was learned about them; the others are made by `slot`.
    pub(super) fn update(
        &mut self,
        new: &IndexMap<SocketAddr, Metadata>,
        slot: impl Fn(&Metadata) -> Slot<E>,
    ) -> Changes {
        let is_gone = |addr: &&SocketAddr| !new.contains_key(*addr);
        let gone: Vec<_> = self.known.keys().filter(is_gone).copied().collect();
        for addr in &gone {
            self.known.swap_remove(addr);
            self.cache.evict(addr);
        }
        let mut added = 0;
        for (addr, metadata) in new {
            if self.known.get(addr) != Some(metadata) {
                let slot = slot(metadata);
                self.cache.evict(addr);
                self.cache.push(*addr, slot);
                self.known.insert(*addr, metadata.clone());
                added += 1;
            }
        }
        self.weigh();
        Changes {
            added,
            removed: gone.len(),
        }
    }

    /// Moves endpoints that have become ready to those that are; `cx` is woken for the others.
    pub(super) fn poll_pending(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Err(_)) = self.cache.poll_pending(cx) {}
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// How many were ready when last looked at.
    pub(super) fn ready_len(&self) -> usize {
        self.cache.ready_len()
    }

    /// Picks one that is ready.
    pub(super) fn pick(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<Lease<E>> {
        if self.cache.ready_len() == 0 {
            self.poll_pending(cx);
        }
        loop {
            let (index, is_trial) = self.choose(now)?;
            // Readiness goes stale; one that is no longer ready leaves the set, so this ends.
            if let Ok(true) = self.cache.check_ready_index(cx, index) {
                let (_, slot) = self.cache.get_ready_index_mut(index)?;
                return Some(slot.lease(is_trial, now));
            }
        }
    }

    /// Whether a pick would find one. Nearly always the first that is looked at tells.
    pub(super) fn is_ready(&mut self, cx: &mut Context<'_>) -> bool {
        if self.cache.ready_len() == 0 {
            self.poll_pending(cx);
        }
        while self.cache.ready_len() > 0 {
            // As above: what is not ready leaves the set.
            if let Ok(true) = self.cache.check_ready_index(cx, 0) {
                return true;
            }
        }
        false
    }

    fn weigh(&mut self) {
        let weights = self.known.values().map(|m| m.weight);
        self.heaviest = weights.clone().max().unwrap_or(0);
        self.uniform = weights.clone().min() == Some(self.heaviest);
    }

    /// The better of two ready endpoints taken at random, or one that is due for a trial.
    fn choose(&self, now: Instant) -> Option<(usize, bool)> {
        let (a, b) = match self.cache.ready_len() {
            0 => return None,
            1 => return Some((0, false)),
            2 if self.uniform => (0, 1),
            n if self.uniform => two_of(n),
            n => (self.weighted(n), self.weighted(n)),
        };
        let load = |i| {
            self.cache
                .get_ready_index(i)
                .map(|(_, slot)| (At(slot, now).load(), slot))
        };
        let ((a_cost, a_slot), (b_cost, b_slot)) = (load(a)?, load(b)?);
        let (winner, loser, loser_slot) = match a_cost <= b_cost {
            true => (a, b, b_slot),
            false => (b, a, a_slot),
        };
        if loser != winner && loser_slot.load.is_due(now) {
            return Some((loser, true));
        }
        Some((winner, false))
    }

    /// An index in proportion to weights, by rejection: cheap while weights are alike, and bounded
    /// when they are not.
    fn weighted(&self, n: usize) -> usize {
        const TRIES: usize = 64;
        let mut rng = rand::rng();
        let mut index = 0;
        for _ in 0..TRIES {
            index = rng.random_range(0..n);
            let weight = self
                .cache
                .get_ready_index(index)
                .map_or(0, |(_, slot)| slot.weight);
            if rng.random_range(0..self.heaviest.max(1)) < weight {
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

// === impl Slot ===

impl<E> Slot<E> {
    pub(super) fn new(endpoint: E, gate: Rc<Gate>, load: Rc<PeakEwma>, weight: u32) -> Self {
        Self {
            endpoint: Rc::new(endpoint),
            gate,
            load,
            weight,
            share: f64::from(weight.max(1)) / f64::from(Metadata::WEIGHT),
        }
    }

    fn lease(&self, is_trial: bool, now: Instant) -> Lease<E> {
        self.gate.enter();
        Lease {
            endpoint: self.endpoint.clone(),
            gate: self.gate.clone(),
            in_flight: Some(self.load.start(is_trial, now)),
        }
    }
}

/// An endpoint at one moment, so that the clock is read once for both that are compared.
struct At<'a, E>(&'a Slot<E>, Instant);

impl<E> Load for At<'_, E> {
    type Metric = f64;

    fn load(&self) -> f64 {
        let Self(slot, now) = self;
        slot.load.cost(slot.share, *now)
    }
}

/// `ReadyCache` wants a service; what it yields is made by [`Slot::lease`], so that a pick costs
/// no future.
impl<E> tower::Service<()> for Slot<E> {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.gate.poll_ready(cx).map(Ok)
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}

// === impl Lease ===

impl<E> Lease<E> {
    /// When the endpoint was picked.
    pub fn started(&self) -> Option<Instant> {
        self.in_flight.as_ref().map(InFlight::started)
    }

    /// The request was sent later than the endpoint was picked: making a connection is no part of
    /// how fast it answers.
    pub fn sent(&mut self, at: Option<Instant>) {
        if let (Some(in_flight), Some(at)) = (&mut self.in_flight, at) {
            in_flight.sent(at);
        }
    }

    /// The first bytes of an answer are there at `now`; the load is no longer the endpoint's.
    pub fn answered(&mut self, failed: bool, now: Instant) {
        if let Some(in_flight) = self.in_flight.take() {
            in_flight.answered(failed, now);
        }
    }

    /// A connection was made, and counts as load until the lease is dropped.
    pub fn hold(&mut self) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.hold();
        }
        self.gate.outcome(false);
    }

    /// The answer is complete at `now`: counts towards failure accrual.
    pub fn ended(&mut self, failed: bool, now: Instant) {
        self.answered(failed, now);
        self.gate.outcome(failed);
    }
}

impl<E> Drop for Lease<E> {
    fn drop(&mut self) {
        self.gate.abandoned();
    }
}
