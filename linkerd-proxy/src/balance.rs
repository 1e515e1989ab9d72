//! A balancer over the endpoints of one backend: power of two choices over [`ewma`], in place.
//!
//! There is no worker task between a request and its endpoint. `tower::balance` would need one: it is
//! asked for readiness by `&mut`, so requests would share it by a queue that each of them goes through.
//! Of tower, only the set of ready endpoints is used. A request picks among the endpoints
//! that are in use and ready ([`pool`]); of many, only as many are in use as the load needs
//! ([`aperture`]). One driver task per balancer applies discovery's updates and polls the endpoints that
//! are not ready ([`gate`]). Only when none is does a request wait: at most as many as the queue's
//! capacity, and from the moment the first has waited for the failfast timeout all fail at once, until
//! an endpoint is ready again. While discovery has not spoken at all they wait no longer than for its
//! own deadline: nobody says that there is anything to wait for.
//!
//! What an endpoint does with a request is not known here: a pick yields a [`Lease`] on it.

mod aperture;
pub mod backoff;
pub mod ewma;
pub mod gate;
mod lease;
mod metrics;
mod pool;
mod ranks;
#[cfg(test)]
mod tests;
mod vitals;

use self::{
    aperture::TICK,
    gate::Gate,
    pool::{Known, Pool},
};
use indexmap::IndexMap;
use mesh_policy::{
    endpoint::Endpoint as Metadata,
    outbound::{Load as LoadParams, Queue},
};
use std::{
    cell::{Cell, RefCell},
    fmt,
    future::poll_fn,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, spawn_local},
    time::{Instant, Sleep, sleep, timeout_at},
};

pub use self::{lease::Lease, metrics::Metrics, vitals::Vitals};

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

/// Makes the thing that is leased, one for each endpoint in use.
pub trait NewEndpoint: 'static {
    /// What is leased.
    type Endpoint: 'static;

    /// An endpoint with this metadata, whose gate may be shut by what happens to it.
    fn new_endpoint(&self, metadata: &Metadata, gate: &Rc<Gate>) -> Self::Endpoint;
}

/// Why no endpoint was to be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// None was ready for the queue's timeout.
    #[error("no endpoint is available: failing fast{}", Last(refusal.as_deref()))]
    FailFast {
        /// Why a connection to one of them could not be made, the last time, if that is why.
        refusal: Option<Arc<str>>,
    },
    /// Discovery did not say in time which there are.
    #[error("the control plane has not said where the endpoints are: failing fast")]
    Unresolved,
    /// As many wait already as may.
    #[error("no endpoint is available and the queue is full: load shed")]
    QueueFull,
}

/// What went wrong last, in brackets.
struct Last<'a>(Option<&'a str>);

/// How a balancer behaves; the parts of a backend's policy that are not about its endpoints.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// Bounds on waiting.
    pub queue: Queue,
    /// The deadline of discovery's first word on which endpoints there are.
    pub discovery_timeout: Duration,
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
    params: Params,
    metrics: Metrics,
    vitals: Rc<Vitals>,
    pool: RefCell<Pool<N>>,
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
        let vitals = Vitals::new();
        let inner = Rc::new(Inner {
            params,
            metrics,
            pool: RefCell::new(Pool::new(new, params, vitals.clone())),
            vitals,
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
        match self.inner.with_pool(Pool::pick) {
            Some(lease) => Ok(lease),
            // Boxed: it is seldom needed and would make every request in flight larger.
            None => Box::pin(self.wait()).await,
        }
    }

    /// Picks another endpoint if one is ready, for what the one picked before could not take.
    pub fn try_pick(&self) -> Option<Lease<N::Endpoint>> {
        self.inner.with_pool(Pool::pick_other)
    }

    /// Whether an endpoint is ready to serve now; cheap enough to be asked for each request.
    pub fn can_serve(&self) -> bool {
        let waker = self.inner.vitals.driver();
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
        loop {
            let ready = inner.ready.notified();
            if let Some(lease) = inner.with_pool(Pool::pick) {
                return Ok(lease);
            }
            if timeout_at(since + inner.timeout(), ready).await.is_err() {
                return Err(inner.fail());
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
        inner.vitals.driven_by(cx.waker());
        Poll::Ready(())
    })
    .await;
    let mut tick = None;
    loop {
        inner.update(&endpoints.borrow_and_update());
        let changed = endpoints.changed();
        let driven = poll_fn(|cx| inner.poll_endpoints(cx, &mut tick));
        tokio::select! {
            changed = changed => if changed.is_err() {
                // Discovery is over: what is known stays in use.
                return poll_fn(|cx| inner.poll_endpoints(cx, &mut tick)).await;
            },
            () = driven => {}
        }
    }
}

impl<N: NewEndpoint> Inner<N> {
    /// Whoever asks the pool: what is to be done later is the driver's.
    fn with_pool<T>(&self, ask: impl FnOnce(&mut Pool<N>, &mut Context<'_>, Instant) -> T) -> T {
        let waker = self.vitals.driver();
        let cx = &mut Context::from_waker(&waker);
        ask(&mut self.pool.borrow_mut(), cx, Instant::now())
    }

    fn update(&self, endpoints: &Endpoints) {
        let none = Known::default();
        let new = match endpoints {
            Endpoints::Unknown => return,
            Endpoints::DoesNotExist => &none,
            Endpoints::Known(new) => new,
        };
        let is_first = !self.is_resolved.replace(true);
        if is_first {
            // They may wait longer now.
            self.ready.notify_waiters();
        }
        let changes = self.with_pool(|pool, cx, _| pool.update(cx, new));
        self.metrics.updated(is_first, changes);
    }

    /// How long one may wait.
    fn timeout(&self) -> Duration {
        let Params {
            queue,
            discovery_timeout,
            ..
        } = self.params;
        match self.is_resolved.get() {
            true => queue.failfast_timeout,
            false => queue.failfast_timeout.min(discovery_timeout),
        }
    }

    /// How many may wait. The first burst comes before discovery has spoken, and says nothing about
    /// the endpoints.
    fn capacity(&self) -> usize {
        match self.is_resolved.get() {
            true => self.params.queue.capacity,
            false => self.params.queue.capacity.max(UNRESOLVED_CAPACITY),
        }
    }

    /// Never completes: endpoints come and go for as long as the balancer lives.
    fn poll_endpoints(&self, cx: &mut Context<'_>, tick: &mut Option<Pin<Box<Sleep>>>) -> Poll<()> {
        let mut pool = self.pool.borrow_mut();
        pool.poll(cx);
        // Only while there is something to narrow does a timer run.
        while !pool.is_at_rest() {
            let timer = tick.get_or_insert_with(|| Box::pin(sleep(TICK)));
            if timer.as_mut().poll(cx).is_pending() {
                break;
            }
            *tick = None;
            pool.narrow(cx);
        }
        if pool.is_at_rest() {
            *tick = None;
        }
        let counts = pool.counts();
        self.metrics.endpoints(counts);
        if counts.ready == counts.in_use {
            self.vitals.forget_refusal();
        }
        if counts.ready > 0 {
            self.unready_since.set(None);
            if self.failing.replace(false) {
                self.metrics.failing(false);
            }
            self.ready.notify_waiters();
        }
        Poll::Pending
    }

    fn fail(&self) -> Unavailable {
        let error = match self.is_resolved.get() {
            true => Unavailable::FailFast {
                refusal: self.vitals.refusal(),
            },
            false => Unavailable::Unresolved,
        };
        if !self.failing.replace(true) {
            self.metrics.failing(true);
            tracing::warn!("{error}");
        }
        error
    }
}

// === impl Last ===

impl fmt::Display for Last<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(error) => write!(f, " (last error: {error})"),
            None => Ok(()),
        }
    }
}
