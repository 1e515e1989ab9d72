//! What is known of each port of the workload: its policy, the application behind it, and what is
//! counted there. Kept while in use and for a while after.

use super::{App, Mapped};
use crate::{
    config,
    control::Discovery,
    detect::first::Speaks,
    metrics::{
        Labels, Registry, http, label,
        labels::{self, Direction, Tls},
        transport::{Sensor, Transport},
    },
};
use ahash::AHashMap;
use mesh_policy::{
    Meta,
    authz::Permit,
    inbound::{Protocol, ServerPolicy},
};
use metrics::Counter;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::spawn_local,
    time::{Instant, sleep},
};

/// Ports that policies are kept for at once; a redirected scan must not fill the memory.
const MAX_PORTS: usize = 1_024;

/// Clients whose handles a port keeps; those of others are looked up for each connection.
const MAX_KEPT: usize = 64;

/// All ports of a worker.
pub struct Ports {
    config: config::Inbound,
    discovery: Discovery,
    metrics: Arc<Registry>,
    known: Rc<RefCell<Known>>,
}

type Known = AHashMap<SocketAddr, (Rc<Port>, Instant)>;

/// One port of the workload.
pub struct Port {
    /// The application.
    pub app: App,
    /// Who speaks first there, as far as seen.
    pub speaks: Cell<Speaks>,
    mapped: Mapped,
    metrics: Arc<Registry>,
    policy: RefCell<Policy>,
}

/// The policy as it is now, and the handles whose labels follow from it.
struct Policy {
    news: watch::Receiver<Arc<ServerPolicy>>,
    current: Arc<ServerPolicy>,
    granted: Kept<(Arc<Meta>, Tls), Rc<Granted>>,
    accepted: Kept<Tls, Arc<Transport>>,
    counted: Kept<Counted, Counter>,
}

/// What is counted besides connections, and requests that were allowed.
#[derive(Clone, PartialEq)]
pub enum Counted {
    /// A request was denied.
    HttpDenied(Tls),
    /// A request failed here (`inbound_http_errors_total`).
    HttpError(&'static str),
    /// What this family counts was decided on a connection, by an authorization if it was allowed.
    Tcp(&'static str, Tls, Option<Arc<Meta>>),
}

/// What requests of a client count for that one authorization allowed.
pub struct Granted {
    /// Requests that were allowed (`inbound_http_authz_allow_total`).
    pub allowed: Counter,
    /// Those requests, and their answers.
    pub http: Rc<http::Endpoint>,
}

/// What was made for the clients that came last.
struct Kept<K, V>(VecDeque<(K, V)>);

// === impl Ports ===

impl Ports {
    /// None yet; those whose policy is to be watched from the start are.
    pub fn new(config: &config::Inbound, discovery: Discovery, metrics: Arc<Registry>) -> Self {
        let known = Rc::<RefCell<Known>>::default();
        let idle = config.side.discovery_idle;
        spawn_local(sweep(Rc::downgrade(&known), idle));
        Self {
            config: config.clone(),
            discovery,
            metrics,
            known,
        }
    }

    /// The port that `mapped` speaks of.
    pub fn get(&self, mapped: Mapped) -> Rc<Port> {
        let mut known = self.known.borrow_mut();
        let now = Instant::now();
        if let Some((port, last_use)) = known.get_mut(&mapped.listen) {
            *last_use = now;
            return port.clone();
        }
        if known.len() >= MAX_PORTS {
            let oldest = known.iter().min_by_key(|(_, (_, last_use))| *last_use);
            if let Some(oldest) = oldest.map(|(addr, _)| *addr) {
                known.remove(&oldest);
            }
        }
        let news = self.discovery.server(mapped.listen.port());
        let port = Rc::new(Port::new(mapped, news, &self.config, &self.metrics));
        known.insert(mapped.listen, (port.clone(), now));
        port
    }
}

/// Forgets ports that have no connection and had none for `idle`.
async fn sweep(known: Weak<RefCell<Known>>, idle: Duration) {
    loop {
        sleep(idle.max(Duration::from_millis(100)) / 2).await;
        let Some(known) = known.upgrade() else {
            return;
        };
        known
            .borrow_mut()
            .retain(|_, (port, last_use)| Rc::strong_count(port) > 1 || last_use.elapsed() < idle);
    }
}

// === impl Port ===

impl Port {
    /// The address that clients connect to.
    pub fn listen(&self) -> SocketAddr {
        self.mapped.listen
    }

    fn new(
        mapped: Mapped,
        mut news: watch::Receiver<Arc<ServerPolicy>>,
        config: &config::Inbound,
        metrics: &Arc<Registry>,
    ) -> Self {
        let current = news.borrow_and_update().clone();
        Self {
            app: App::new(mapped.app, &config.side, metrics),
            speaks: Cell::default(),
            policy: RefCell::new(Policy::new(news, current)),
            mapped,
            metrics: metrics.clone(),
        }
    }

    /// The policy that is in force now.
    pub fn policy(&self) -> Arc<ServerPolicy> {
        self.refreshed(|policy| policy.current.clone())
    }

    /// The policy as it changes.
    pub fn follow(&self) -> watch::Receiver<Arc<ServerPolicy>> {
        self.refreshed(|policy| policy.news.clone())
    }

    /// Counts a connection.
    pub fn accepted(&self, tls: &Tls) -> Sensor {
        self.refreshed(|_| ());
        let mut policy = self.policy.borrow_mut();
        let server = policy.current.meta.clone();
        let transport = policy.accepted.get_or_make(tls, || {
            let mut labels = vec![Direction::Inbound.label(), label("peer", "src")];
            labels::target(&mut labels, self.mapped.listen);
            tls.append(&mut labels);
            labels::server(&mut labels, &server, self.mapped.listen.port());
            Transport::new(&self.metrics, labels)
        });
        transport.open()
    }

    /// Whether anything may be spoken there.
    pub fn is_detected(&self) -> bool {
        matches!(self.policy().protocol, Protocol::Detect { .. })
    }

    /// What requests count for that `permit` allowed to a client whose connection is `tls`.
    pub fn granted(&self, permit: &Permit, tls: &Tls) -> Rc<Granted> {
        let mut policy = self.policy.borrow_mut();
        let server = policy.current.meta.clone();
        let by = permit.authorization();
        let key = (by.clone(), tls.clone());
        let make = || Rc::new(Granted::new(by, &server, self.mapped, tls, &self.metrics));
        policy.granted.get_or_make(&key, make)
    }

    /// Counts what happened.
    pub fn count(&self, what: Counted) {
        self.refreshed(|_| ());
        let mut policy = self.policy.borrow_mut();
        let server = policy.current.meta.clone();
        let make = || what.counter(&server, self.mapped, &self.metrics);
        policy.counted.get_or_make(&what, make).increment(1);
    }

    /// Uses the policy after taking the news, if there are any.
    fn refreshed<T>(&self, f: impl FnOnce(&Policy) -> T) -> T {
        let mut policy = self.policy.borrow_mut();
        // Without a sender there are no news.
        if policy.news.has_changed().unwrap_or(false) {
            let current = policy.news.borrow_and_update().clone();
            *policy = Policy::new(policy.news.clone(), current);
        }
        f(&policy)
    }
}

// === impl Policy ===

impl Policy {
    fn new(news: watch::Receiver<Arc<ServerPolicy>>, current: Arc<ServerPolicy>) -> Self {
        Self {
            news,
            current,
            granted: Kept(VecDeque::new()),
            accepted: Kept(VecDeque::new()),
            counted: Kept(VecDeque::new()),
        }
    }
}

// === impl Kept ===

impl<K: Clone + PartialEq, V: Clone> Kept<K, V> {
    fn get_or_make(&mut self, key: &K, make: impl FnOnce() -> V) -> V {
        if let Some((_, kept)) = self.0.iter().find(|(k, _)| k == key) {
            return kept.clone();
        }
        if self.0.len() >= MAX_KEPT {
            self.0.pop_front();
        }
        let made = make();
        self.0.push_back((key.clone(), made.clone()));
        made
    }
}

// === impl Counted ===

impl Counted {
    fn counter(&self, server: &Meta, mapped: Mapped, registry: &Registry) -> Counter {
        let mut labels = Labels::new();
        if let Self::HttpError(error) = self {
            labels.push(label("error", *error));
        }
        labels::target(&mut labels, mapped.listen);
        labels::server(&mut labels, server, mapped.listen.port());
        let family = match self {
            Self::HttpDenied(tls) => {
                tls.append(&mut labels);
                "inbound_http_authz_deny_total"
            }
            Self::HttpError(_) => "inbound_http_errors_total",
            Self::Tcp(family, tls, by) => {
                if let Some(by) = by {
                    labels::resource(&mut labels, "authz", by);
                }
                tls.append(&mut labels);
                family
            }
        };
        registry.counter(family, labels)
    }
}

// === impl Granted ===

impl Granted {
    fn new(by: &Meta, server: &Meta, mapped: Mapped, tls: &Tls, registry: &Arc<Registry>) -> Self {
        // Requests take the one route there is until routes are matched.
        let route = Meta::Default {
            name: "default".into(),
        };
        let mut labels = Labels::new();
        labels::target(&mut labels, mapped.listen);
        labels::server(&mut labels, server, mapped.listen.port());
        labels::resource(&mut labels, "route", &route);
        labels::resource(&mut labels, "authz", by);
        tls.append(&mut labels);
        let mut http = vec![Direction::Inbound.label()];
        http.extend(labels.iter().cloned());
        Self {
            allowed: registry.counter("inbound_http_authz_allow_total", labels),
            http: Rc::new(http::Endpoint::new(registry, http)),
        }
    }
}
