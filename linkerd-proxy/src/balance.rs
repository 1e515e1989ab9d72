//! A balancer over the endpoints of one backend: power of two choices over [`ewma`], in place.
//!
//! There is no worker task between a request and its endpoint. A request picks among the ready
//! endpoints of a `tower` [`ReadyCache`]; one driver task per balancer applies discovery's updates
//! and polls the endpoints that are not ready ([`gate`]). Only when none is ready does a request
//! wait: at most as many as the queue's capacity, and from the moment the first has waited for the
//! failfast timeout all fail at once, until an endpoint is ready again.
//!
//! What an endpoint does with a request is not known here: a pick yields a [`Lease`] on it.

pub mod backoff;
pub mod ewma;
pub mod gate;
mod metrics;
#[cfg(test)]
mod tests;

use self::{
    ewma::{InFlight, PeakEwma},
    gate::Gate,
};
use indexmap::IndexMap;
use mesh_policy::{
    endpoint::Endpoint as Metadata,
    outbound::{Load as LoadParams, Queue},
};
use rand::RngExt;
use std::{
    cell::{Cell, RefCell},
    convert::Infallible,
    future::{Ready, poll_fn, ready},
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
};
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, spawn_local},
    time::{Instant, timeout_at},
};
use tower::{load::Load, ready_cache::ReadyCache};

pub use self::metrics::Metrics;

/// How many may wait at least while the endpoints are not known.
const UNRESOLVED_CAPACITY: usize = 10_000;

/// What discovery says about a backend.
#[derive(Clone, Debug, PartialEq)]
pub enum Endpoints {
    /// Nothing yet.
    Unknown,
    /// The service does not exist.
    DoesNotExist,
    /// These, by address; possibly none.
    Known(Arc<IndexMap<SocketAddr, Metadata>>),
}

/// Makes the thing that is leased, one for each endpoint.
pub trait NewEndpoint: 'static {
    /// What is leased.
    type Endpoint: 'static;

    /// An endpoint with this metadata, whose gate may be shut by what happens to it.
    fn new_endpoint(&self, metadata: &Metadata, gate: &Rc<Gate>) -> Self::Endpoint;
}

/// Why no endpoint was to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// None was ready for the queue's timeout.
    #[error("no endpoint is available: failing fast")]
    FailFast,
    /// As many wait already as may.
    #[error("no endpoint is available and the queue is full: load shed")]
    QueueFull,
}

/// How a balancer behaves; the parts of a backend's policy that are not about its endpoints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Bounds on waiting.
    pub queue: Queue,
    /// How endpoints are compared.
    pub load: LoadParams,
    /// When answers take an endpoint out of use.
    pub accrual: Option<mesh_policy::outbound::FailureAccrual>,
}

/// A balancer. Belongs to one worker.
pub struct Balance<N: NewEndpoint> {
    inner: Rc<Inner<N>>,
    driver: AbortHandle,
}

/// The use of an endpoint for one request or connection.
pub struct Lease<E> {
    /// What was picked.
    pub endpoint: Rc<E>,
    gate: Rc<Gate>,
    in_flight: Option<InFlight>,
}

struct Inner<N: NewEndpoint> {
    new: N,
    params: Params,
    metrics: Metrics,
    pool: RefCell<Pool<N::Endpoint>>,
    /// The driver's: readiness is always reported to it, whoever asked.
    waker: RefCell<Waker>,
    /// Wakes those that wait for a ready endpoint.
    ready: Notify,
    waiting: Cell<usize>,
    /// When a request first found none ready, since when none was.
    unready_since: Cell<Option<Instant>>,
    failing: Cell<bool>,
    /// Discovery has spoken.
    is_resolved: Cell<bool>,
}

struct Pool<E> {
    cache: ReadyCache<SocketAddr, Slot<E>, ()>,
    known: IndexMap<SocketAddr, Metadata>,
    heaviest: u32,
    uniform: bool,
}

/// An endpoint in the cache.
struct Slot<E> {
    endpoint: Rc<E>,
    gate: Rc<Gate>,
    load: Rc<PeakEwma>,
    weight: u32,
    /// Weight relative to the normal one.
    share: f64,
}

// === impl Balance ===

impl<N: NewEndpoint> Balance<N> {
    /// A balancer that follows `endpoints` until it is dropped.
    pub fn new(
        new: N,
        params: Params,
        metrics: Metrics,
        endpoints: watch::Receiver<Endpoints>,
    ) -> Self {
        let inner = Rc::new(Inner {
            new,
            params,
            metrics,
            pool: RefCell::new(Pool {
                cache: ReadyCache::default(),
                known: IndexMap::new(),
                heaviest: 0,
                uniform: true,
            }),
            waker: RefCell::new(Waker::noop().clone()),
            ready: Notify::new(),
            waiting: Cell::new(0),
            unready_since: Cell::new(None),
            failing: Cell::new(false),
            is_resolved: Cell::new(false),
        });
        let driver = spawn_local(drive(inner.clone(), endpoints)).abort_handle();
        Self { inner, driver }
    }

    /// Picks an endpoint, waiting for one if none is ready.
    ///
    /// # Errors
    ///
    /// [`Unavailable`], when none becomes ready in time or too many wait.
    pub async fn pick(&self) -> Result<Lease<N::Endpoint>, Unavailable> {
        match self.try_pick() {
            Some(lease) => Ok(lease),
            // Boxed: it is seldom needed and would make every request in flight larger.
            None => Box::pin(self.wait()).await,
        }
    }

    /// Picks an endpoint if one is ready.
    pub fn try_pick(&self) -> Option<Lease<N::Endpoint>> {
        let waker = self.inner.waker.borrow();
        let cx = &mut Context::from_waker(&waker);
        self.inner.pool.borrow_mut().pick(cx, Instant::now())
    }

    async fn wait(&self) -> Result<Lease<N::Endpoint>, Unavailable> {
        let inner = &self.inner;
        if inner.waiting.get() >= inner.capacity() {
            return Err(Unavailable::QueueFull);
        }
        let since = inner.unready_since.get().unwrap_or_else(Instant::now);
        inner.unready_since.set(Some(since));
        let _waiting = Waiting::new(&inner.waiting);
        let deadline = since + inner.params.queue.failfast_timeout;
        loop {
            let ready = inner.ready.notified();
            if let Some(lease) = self.try_pick() {
                return Ok(lease);
            }
            if timeout_at(deadline, ready).await.is_err() {
                inner.fail();
                return Err(Unavailable::FailFast);
            }
        }
    }
}

impl<N: NewEndpoint> Drop for Balance<N> {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Counts one that waits.
struct Waiting<'a>(&'a Cell<usize>);

impl<'a> Waiting<'a> {
    fn new(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

// === the driver ===

/// Applies updates and drives endpoints to readiness, until the balancer is dropped.
async fn drive<N: NewEndpoint>(inner: Rc<Inner<N>>, mut endpoints: watch::Receiver<Endpoints>) {
    poll_fn(|cx| {
        inner.waker.borrow_mut().clone_from(cx.waker());
        Poll::Ready(())
    })
    .await;
    loop {
        inner.update(&endpoints.borrow_and_update());
        let changed = endpoints.changed();
        let ready = poll_fn(|cx| inner.poll_endpoints(cx));
        tokio::select! {
            changed = changed => if changed.is_err() {
                // Discovery is over: what is known stays in use.
                return poll_fn(|cx| inner.poll_endpoints(cx)).await;
            },
            () = ready => {}
        }
    }
}

impl<N: NewEndpoint> Inner<N> {
    fn update(&self, endpoints: &Endpoints) {
        let none = Arc::default();
        let new = match endpoints {
            Endpoints::Unknown => return,
            Endpoints::DoesNotExist => &none,
            Endpoints::Known(new) => new,
        };
        self.is_resolved.set(true);
        let mut pool = self.pool.borrow_mut();
        let gone: Vec<_> = pool
            .known
            .keys()
            .filter(|a| !new.contains_key(*a))
            .copied()
            .collect();
        for addr in gone {
            pool.known.swap_remove(&addr);
            pool.cache.evict(&addr);
        }
        let now = Instant::now();
        for (addr, metadata) in &**new {
            // What did not change keeps its connections and what was learned about it.
            if pool.known.get(addr) != Some(metadata) {
                let slot = self.slot(metadata, now);
                pool.cache.evict(addr);
                pool.cache.push(*addr, slot);
                pool.known.insert(*addr, metadata.clone());
            }
        }
        pool.weigh();
    }

    /// How many may wait. The first burst comes before discovery has spoken, and says nothing about
    /// the endpoints.
    fn capacity(&self) -> usize {
        match self.is_resolved.get() {
            true => self.params.queue.capacity,
            false => self.params.queue.capacity.max(UNRESOLVED_CAPACITY),
        }
    }

    fn slot(&self, metadata: &Metadata, now: Instant) -> Slot<N::Endpoint> {
        let gate = Gate::new(self.params.accrual);
        Slot {
            endpoint: Rc::new(self.new.new_endpoint(metadata, &gate)),
            gate,
            load: PeakEwma::new(self.params.load, now),
            weight: metadata.weight,
            share: f64::from(metadata.weight.max(1)) / f64::from(Metadata::WEIGHT),
        }
    }

    /// Never completes: endpoints come and go for as long as the balancer lives.
    fn poll_endpoints(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut pool = self.pool.borrow_mut();
        while let Poll::Ready(Err(_)) = pool.cache.poll_pending(cx) {}
        let ready = pool.cache.ready_len();
        self.metrics.ready.set(ready as f64);
        self.metrics
            .pending
            .set((pool.known.len() - ready.min(pool.known.len())) as f64);
        if ready > 0 {
            self.unready_since.set(None);
            self.failing.set(false);
            self.ready.notify_waiters();
        }
        Poll::Pending
    }

    fn fail(&self) {
        if !self.failing.replace(true) {
            self.metrics.failfast.increment(1);
            tracing::warn!("no endpoint is available; failing fast");
        }
    }
}

// === impl Pool ===

impl<E> Pool<E> {
    fn weigh(&mut self) {
        let weights = self.known.values().map(|m| m.weight);
        self.heaviest = weights.clone().max().unwrap_or(0);
        self.uniform = weights.clone().min() == Some(self.heaviest);
    }

    fn pick(&mut self, cx: &mut Context<'_>, now: Instant) -> Option<Lease<E>> {
        if self.cache.ready_len() == 0 {
            while let Poll::Ready(Err(_)) = self.cache.poll_pending(cx) {}
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
