//! A policy made into something that carries traffic: protocol, routes, backends with their
//! balancers, metric handles. Built anew when the policy changes; backends that did not change are
//! taken over with their connections and what their balancers learned.

use super::{
    destination::{DISCOVERY_TIMEOUT, Shared},
    distribute::{Distribution, Serve},
    endpoint::{NewHttp, NewOpaque, NewOutbound},
};
use crate::{
    balance::{self, Balance, Endpoints},
    config,
    error::Error,
    http::classify::Class,
    metrics::{
        detect::Detect,
        labels,
        route::{Family, Route as Counts},
    },
};
use ::http::{StatusCode, Version};
use mesh_policy::{
    Meta,
    outbound::{self as policy, Backend, BackendKind, FailureAccrual, OutboundPolicy, Route},
};
use std::{cell::OnceCell, rc::Rc, sync::Arc, time::Duration};
use tokio::sync::watch;

/// How traffic to a target is carried now.
pub struct Stack {
    /// How it is read.
    pub protocol: Protocol,
    /// Counts what connections speak.
    pub detect: Rc<Detect>,
    parent: Arc<Meta>,
}

/// How traffic to a target is read.
pub enum Protocol {
    /// By its first bytes.
    Detect {
        /// For HTTP/1.
        http1: Rc<HttpRoute>,
        /// For HTTP/2: the same unless the policy makes a difference.
        http2: Rc<HttpRoute>,
        /// For the rest.
        opaque: OpaqueRoute,
    },
    /// As HTTP.
    Http(Rc<HttpRoute>),
    /// Not at all.
    Opaque(OpaqueRoute),
}

/// Where requests go.
pub struct HttpRoute {
    metrics: Rc<Counts>,
    backends: Distribution<HttpBackend>,
}

/// Where connections go.
pub struct OpaqueRoute {
    backends: Distribution<OpaqueBackend>,
}

/// Where requests go, balanced.
pub struct HttpBackend {
    made_for: MadeFor,
    metrics: Rc<Counts>,
    balance: OnceCell<Balance<NewHttp>>,
    shared: Rc<Shared>,
}

/// Where connections go, balanced.
pub struct OpaqueBackend {
    made_for: MadeFor,
    balance: OnceCell<Balance<NewOpaque>>,
    shared: Rc<Shared>,
}

/// What a backend was made for; as long as it stays the same the backend does.
#[derive(Clone, PartialEq)]
struct MadeFor {
    backend: Backend,
    accrual: Option<FailureAccrual>,
    family: Family,
    route: Arc<Meta>,
    parent: Arc<Meta>,
}

/// What a request counts for: its route, and the backend it went to.
#[derive(Clone)]
pub struct RouteMetrics {
    route: Rc<Counts>,
    backend: Rc<Counts>,
}

// === impl Stack ===

impl Stack {
    /// The stack for `policy`, which takes over from `old` what stays the same.
    pub fn new(shared: &Rc<Shared>, policy: &OutboundPolicy, old: Option<&Stack>) -> Self {
        let parent = &policy.parent;
        let route = |http: &policy::Http, family| {
            Rc::new(HttpRoute::new(shared, parent, http, family, old))
        };
        let http = |policy: &policy::Http| route(policy, Family::Http);
        let opaque = |opaque: &policy::Opaque| OpaqueRoute::new(shared, parent, opaque, old);
        let protocol = match &policy.protocol {
            // As in Linkerd the policy's timeout is not followed: the proxy has one of its own.
            policy::Protocol::Detect {
                http1,
                http2,
                opaque: rest,
                timeout: _,
            } => {
                let first = http(http1);
                let is_same = http1 == http2;
                Protocol::Detect {
                    http2: if is_same { first.clone() } else { http(http2) },
                    http1: first,
                    opaque: opaque(rest),
                }
            }
            policy::Protocol::Http1(policy) | policy::Protocol::Http2(policy) => {
                Protocol::Http(http(policy))
            }
            policy::Protocol::Grpc(policy) => Protocol::Http(route(policy, Family::Grpc)),
            policy::Protocol::Opaque(route) | policy::Protocol::Tls(route) => {
                Protocol::Opaque(opaque(route))
            }
        };
        let same = old.filter(|old| old.parent == *parent);
        let detect = same.map(|old| old.detect.clone());
        Self {
            protocol,
            detect: detect.unwrap_or_else(|| Rc::new(Detect::new(&shared.metrics, parent))),
            parent: parent.clone(),
        }
    }

    /// Where requests go that come over `version`, if they are looked at.
    pub fn http(&self, version: Version) -> Option<&HttpRoute> {
        match &self.protocol {
            Protocol::Detect { http2, .. } if version == Version::HTTP_2 => Some(http2),
            Protocol::Detect { http1: http, .. } | Protocol::Http(http) => Some(http),
            Protocol::Opaque(_) => None,
        }
    }

    /// The backends of all requests.
    fn http_backends(&self) -> impl Iterator<Item = &Rc<HttpBackend>> {
        let routes = [Version::HTTP_11, Version::HTTP_2].map(|version| self.http(version));
        routes
            .into_iter()
            .flatten()
            .flat_map(|route| route.backends.iter())
    }

    /// Where connections go that are not HTTP.
    pub fn opaque(&self) -> Option<&OpaqueRoute> {
        match &self.protocol {
            Protocol::Detect { opaque, .. } | Protocol::Opaque(opaque) => Some(opaque),
            Protocol::Http(_) => None,
        }
    }
}

impl HttpRoute {
    fn new(
        shared: &Rc<Shared>,
        parent: &Arc<Meta>,
        http: &policy::Http,
        family: Family,
        old: Option<&Stack>,
    ) -> Self {
        let make = |backend: &Backend| {
            let made_for = MadeFor::new(backend, http.failure_accrual, family, &http.route, parent);
            let same = |b: &&Rc<HttpBackend>| b.made_for == made_for;
            let kept = old.and_then(|old| old.http_backends().find(same).cloned());
            kept.unwrap_or_else(|| HttpBackend::new(shared, made_for))
        };
        Self {
            metrics: Rc::new(Counts::of_route(
                &shared.metrics,
                family,
                parent,
                &http.route.meta,
            )),
            backends: Distribution::new(&http.route, make),
        }
    }

    /// The backend of the next request, and what it counts for.
    pub fn pick(&self) -> Option<(Rc<HttpBackend>, RouteMetrics)> {
        let backend = self.backends.pick()?;
        let (route, metrics) = (self.metrics.clone(), backend.metrics.clone());
        Some((
            backend,
            RouteMetrics {
                route,
                backend: metrics,
            },
        ))
    }
}

impl OpaqueRoute {
    fn new(
        shared: &Rc<Shared>,
        parent: &Arc<Meta>,
        opaque: &policy::Opaque,
        old: Option<&Stack>,
    ) -> Self {
        let old = old.and_then(Stack::opaque);
        let make = |backend: &Backend| {
            let made_for = MadeFor::new(backend, None, Family::Http, &opaque.route, parent);
            let same = |b: &&Rc<OpaqueBackend>| b.made_for == made_for;
            let kept = old.and_then(|old| old.backends.iter().find(same).cloned());
            kept.unwrap_or_else(|| OpaqueBackend::new(shared, made_for))
        };
        Self {
            backends: Distribution::new(&opaque.route, make),
        }
    }

    /// The backend of the next connection.
    pub fn pick(&self) -> Option<Rc<OpaqueBackend>> {
        self.backends.pick()
    }
}

// === impl HttpBackend, OpaqueBackend ===

impl HttpBackend {
    fn new(shared: &Rc<Shared>, made_for: MadeFor) -> Rc<Self> {
        let MadeFor {
            backend,
            family,
            route,
            parent,
            ..
        } = &made_for;
        let metrics = Counts::of_backend(&shared.metrics, *family, parent, route, &backend.meta);
        Rc::new(Self {
            metrics: Rc::new(metrics),
            made_for,
            balance: OnceCell::new(),
            shared: shared.clone(),
        })
    }

    /// The balancer, made with the first request.
    pub fn balance(&self) -> &Balance<NewHttp> {
        self.balance.get_or_init(|| {
            let queue = self.shared.config.http_queue;
            self.made_for.balance(
                &self.shared,
                queue,
                "outbound_http_balancer",
                NewOutbound::http,
            )
        })
    }
}

impl Serve for HttpBackend {
    fn can_serve(&self) -> bool {
        self.balance().can_serve()
    }
}

impl OpaqueBackend {
    fn new(shared: &Rc<Shared>, made_for: MadeFor) -> Rc<Self> {
        Rc::new(Self {
            made_for,
            balance: OnceCell::new(),
            shared: shared.clone(),
        })
    }

    /// The balancer, made with the first connection.
    pub fn balance(&self) -> &Balance<NewOpaque> {
        self.balance.get_or_init(|| {
            let queue = self.shared.config.tcp_queue;
            self.made_for.balance(
                &self.shared,
                queue,
                "outbound_tcp_balancer",
                NewOutbound::opaque,
            )
        })
    }
}

impl Serve for OpaqueBackend {
    fn can_serve(&self) -> bool {
        self.balance().can_serve()
    }
}

// === impl MadeFor ===

impl MadeFor {
    fn new(
        backend: &Backend,
        accrual: Option<FailureAccrual>,
        family: Family,
        route: &Route,
        parent: &Arc<Meta>,
    ) -> Self {
        Self {
            backend: backend.clone(),
            accrual,
            family,
            route: route.meta.clone(),
            parent: parent.clone(),
        }
    }

    fn balance<N: balance::NewEndpoint>(
        &self,
        shared: &Rc<Shared>,
        queue: config::Queue,
        family: &'static str,
        new: impl FnOnce(NewOutbound) -> N,
    ) -> Balance<N> {
        let (endpoints, load, authority) = match &self.backend.kind {
            BackendKind::Forward(endpoint) => {
                let only =
                    Endpoints::Known(Arc::new([(endpoint.addr, (**endpoint).clone())].into()));
                (watch::channel(only).1, policy::Load::default(), None)
            }
            BackendKind::Balance { path, load } => {
                (shared.endpoints(path), *load, Some(path.clone()))
            }
        };
        let mut bounds = self.backend.queue;
        bounds.capacity = queue.capacity.unwrap_or(bounds.capacity);
        bounds.failfast_timeout = queue.failfast_timeout.unwrap_or(bounds.failfast_timeout);
        let params = balance::Params {
            queue: bounds,
            discovery_timeout: DISCOVERY_TIMEOUT,
            load,
            accrual: self.accrual,
        };
        let new = new(NewOutbound::new(shared, authority));
        Balance::new(new, params, self.metrics(shared, family), endpoints)
    }

    fn metrics(&self, shared: &Shared, family: &'static str) -> balance::Metrics {
        let mut labels = Vec::new();
        labels::reference(&mut labels, "parent", &self.parent);
        labels::reference(&mut labels, "backend", &self.backend.meta);
        balance::Metrics::new(&shared.metrics, family, labels)
    }
}

// === impl RouteMetrics ===

impl RouteMetrics {
    /// A request goes to the backend.
    pub fn request(&self) {
        self.backend.request();
    }

    /// An answer has passed: so long after the request was received, and after it was sent.
    pub fn answered(&self, status: StatusCode, class: Class, received: Duration, sent: Duration) {
        let error = match class.error() {
            "" => "",
            _ => "IO",
        };
        self.route.status(Some(status), class.grpc_status(), error);
        self.backend
            .status(Some(status), class.grpc_status(), error);
        self.route.duration(received);
        self.backend.duration(sent);
    }

    /// There was no answer.
    pub fn failed(&self, error: &Error) {
        self.route.status(None, None, error.route_name());
        self.backend.status(None, None, error.route_name());
    }
}
