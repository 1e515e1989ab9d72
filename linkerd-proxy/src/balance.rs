//! A balancer over the endpoints of one backend: power of two choices over [`ewma`], in place.
//!
//! There is no worker task between a request and its endpoint. A request picks among the endpoints
//! that are ready ([`pool`]); one driver task per balancer applies discovery's updates and polls the
//! endpoints that are not ([`gate`]). Only when none is ready does a request wait: at most as many
//! as the queue's capacity, and from the moment the first has waited for the failfast timeout all
//! fail at once, until an endpoint is ready again.
//!
//! What an endpoint does with a request is not known here: a pick yields a [`Lease`] on it.

pub mod backoff;
pub mod ewma;
pub mod gate;
mod metrics;
mod pool;
#[cfg(test)]
mod tests;

use self::{
    ewma::PeakEwma,
    gate::Gate,
    pool::{Pool, Slot},
};
use indexmap::IndexMap;
use mesh_policy::{
    endpoint::Endpoint as Metadata,
    outbound::{Load as LoadParams, Queue},
};
use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
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

pub use self::{metrics::Metrics, pool::Lease};

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
            pool: RefCell::new(Pool::new()),
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

    /// Whether an endpoint is ready to serve now; cheap enough to be asked for each request.
    pub fn can_serve(&self) -> bool {
        let waker = self.inner.waker.borrow();
        let cx = &mut Context::from_waker(&waker);
        self.inner.pool.borrow_mut().is_ready(cx)
    }

    async fn wait(&self) -> Result<Lease<N::Endpoint>, Unavailable> {
        let inner = &self.inner;
        if inner.waiting.get() >= inner.capacity() {
            return Err(Unavailable::QueueFull);
        }
        let since = inner.unready_since.get().unwrap_or_else(Instant::now);
        inner.unready_since.set(Some(since));
        let _waiting = inner.metrics.waits(&inner.waiting);
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
        let is_first = !self.is_resolved.replace(true);
        let now = Instant::now();
        let mut pool = self.pool.borrow_mut();
        let changes = pool.update(new, |metadata| self.slot(metadata, now));
        self.metrics.updated(is_first, changes, pool.len());
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
        let endpoint = self.new.new_endpoint(metadata, &gate);
        let load = PeakEwma::new(self.params.load, now);
        Slot::new(endpoint, gate, load, metadata.weight)
    }

    /// Never completes: endpoints come and go for as long as the balancer lives.
    fn poll_endpoints(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut pool = self.pool.borrow_mut();
        pool.poll_pending(cx);
        self.metrics.ready(pool.ready_len(), pool.len());
        if pool.ready_len() > 0 {
            self.unready_since.set(None);
            if self.failing.replace(false) {
                self.metrics.failing(false);
            }
            self.ready.notify_waiters();
        }
        Poll::Pending
    }

    fn fail(&self) {
        if !self.failing.replace(true) {
            self.metrics.failing(true);
            tracing::warn!("no endpoint is available; failing fast");
        }
    }
}
