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
use mesh_policy::{Meta, authz::Permit, inbound::ServerPolicy};
use metrics::Counter;
use std::{
    cell::{Cell, RefCell},
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
    denied: Counter,
    granted: Vec<Granted>,
    accepted: Option<Arc<Transport>>,
}

/// What requests count for that one authorization allowed.
struct Granted {
    by: Arc<Meta>,
    allowed: Counter,
    http: Rc<http::Endpoint>,
}

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
            policy: RefCell::new(Policy::new(news, current, mapped, metrics)),
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
        let transport = || {
            let mut labels = vec![Direction::Inbound.label(), label("peer", "src")];
            labels::target(&mut labels, self.mapped.listen);
            tls.append(&mut labels);
            labels::server(&mut labels, &self.policy().meta, self.mapped.listen.port());
            Transport::new(&self.metrics, labels)
        };
        if *tls != Tls::NoTlsFromRemote {
            return transport().open();
        }
        let kept = self.refreshed(|policy| policy.accepted.clone());
        kept.unwrap_or_else(|| {
            let made = transport();
            self.policy.borrow_mut().accepted = Some(made.clone());
            made
        })
        .open()
    }

    /// Counts requests that `permit` allowed (`inbound_http_authz_allow_total`).
    pub fn allowed(&self, permit: &Permit) -> Counter {
        self.granted(permit, |granted| granted.allowed.clone())
    }

    /// Counts requests that were denied (`inbound_http_authz_deny_total`).
    pub fn denied(&self) -> Counter {
        self.refreshed(|policy| policy.denied.clone())
    }

    /// Counts requests that `permit` allowed, and their answers.
    pub fn http_metrics(&self, permit: &Permit) -> Rc<http::Endpoint> {
        self.granted(permit, |granted| granted.http.clone())
    }

    /// Counts a decision on a connection.
    pub fn count_tcp_authz(&self, name: &'static str, tls: &Tls, by: Option<&Meta>) {
        let mut labels = Labels::new();
        self.label(&mut labels);
        if let Some(by) = by {
            labels::resource(&mut labels, "authz", by);
        }
        tls.append(&mut labels);
        self.metrics.counter(name, labels).increment(1);
    }

    /// Counts a request that failed here (`inbound_http_errors_total`).
    pub fn count_http_error(&self, error: &'static str) {
        let mut labels = vec![label("error", error)];
        self.label(&mut labels);
        self.metrics
            .counter("inbound_http_errors_total", labels)
            .increment(1);
    }

    fn label(&self, labels: &mut Labels) {
        labels::target(labels, self.mapped.listen);
        labels::server(labels, &self.policy().meta, self.mapped.listen.port());
    }

    /// Uses the policy after taking the news, if there are any.
    fn refreshed<T>(&self, f: impl FnOnce(&Policy) -> T) -> T {
        let mut policy = self.policy.borrow_mut();
        // Without a sender there are no news.
        if policy.news.has_changed().unwrap_or(false) {
            let current = policy.news.borrow_and_update().clone();
            *policy = Policy::new(policy.news.clone(), current, self.mapped, &self.metrics);
        }
        f(&policy)
    }

    fn granted<T>(&self, permit: &Permit, f: impl FnOnce(&Granted) -> T) -> T {
        let mut policy = self.policy.borrow_mut();
        let by = permit.authorization();
        let known = policy
            .granted
            .iter()
            .position(|g| Arc::ptr_eq(&g.by, by) || g.by == *by);
        let at = known.unwrap_or_else(|| {
            let granted = Granted::new(by, &policy.current.meta, self.mapped, &self.metrics);
            policy.granted.push(granted);
            policy.granted.len() - 1
        });
        f(&policy.granted[at])
    }
}

// === impl Policy ===

impl Policy {
    fn new(
        news: watch::Receiver<Arc<ServerPolicy>>,
        current: Arc<ServerPolicy>,
        mapped: Mapped,
        metrics: &Registry,
    ) -> Self {
        let mut labels = Labels::new();
        labels::target(&mut labels, mapped.listen);
        labels::server(&mut labels, &current.meta, mapped.listen.port());
        Tls::NoTlsFromRemote.append(&mut labels);
        let denied = metrics.counter("inbound_http_authz_deny_total", labels);
        Self {
            news,
            current,
            denied,
            granted: Vec::new(),
            accepted: None,
        }
    }
}

// === impl Granted ===

impl Granted {
    fn new(by: &Arc<Meta>, server: &Meta, mapped: Mapped, registry: &Arc<Registry>) -> Self {
        // Requests take the one route there is until routes are matched.
        let route = Meta::Default {
            name: "default".into(),
        };
        let mut labels = Labels::new();
        labels::target(&mut labels, mapped.listen);
        labels::server(&mut labels, server, mapped.listen.port());
        labels::resource(&mut labels, "route", &route);
        labels::resource(&mut labels, "authz", by);
        let mut http = vec![Direction::Inbound.label()];
        http.extend(labels.iter().cloned());
        Tls::NoTlsFromRemote.append(&mut http);
        Tls::NoTlsFromRemote.append(&mut labels);
        Self {
            by: by.clone(),
            allowed: registry.counter("inbound_http_authz_allow_total", labels),
            http: Rc::new(http::Endpoint::new(registry, http)),
        }
    }
}
