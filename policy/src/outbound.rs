//! What a client's proxy does with traffic to one destination.
//!
//! The controller builds these values, the proxy acts on them; the policy of a destination that no
//! route resource speaks of is built here for both, so that a proxy without a controller does
//! what a controller would have said. It does not choose endpoints: that is the balancer's part.
//!
//! Route matching, filters, retries and timeouts will live here too; today a protocol has the one
//! route that takes everything.

use crate::{
    DETECT_TIMEOUT, Meta,
    endpoint::{Endpoint, HintedProtocol},
};
use std::{sync::Arc, time::Duration};

/// The policy of a destination (`io.linkerd.proxy.outbound.OutboundPolicy`).
#[derive(Clone, Debug, PartialEq)]
pub struct OutboundPolicy {
    /// What the traffic is addressed to, usually a Service port.
    pub parent: Arc<Meta>,
    /// How the traffic is to be read and where it goes.
    pub protocol: Protocol,
}

/// How traffic to a destination is read.
#[derive(Clone, Debug, PartialEq)]
pub enum Protocol {
    /// Look at the first bytes.
    Detect {
        /// How long undecided bytes may hold a connection up.
        timeout: Duration,
        /// Taken when they are HTTP/1.
        http1: Http,
        /// Taken when they are HTTP/2.
        http2: Http,
        /// Taken when they are neither.
        opaque: Opaque,
    },
    /// Known to be HTTP/1.
    Http1(Http),
    /// Known to be HTTP/2.
    Http2(Http),
    /// Known to be gRPC.
    Grpc(Http),
    /// Not to be looked at.
    Opaque(Opaque),
    /// TLS that the application starts; routed by SNI, never opened.
    Tls(Opaque),
}

/// What happens to HTTP requests.
#[derive(Clone, Debug, PartialEq)]
pub struct Http {
    /// Where requests go.
    pub route: Route,
    /// When an endpoint is taken out of use; `None`: never because of its answers.
    pub failure_accrual: Option<FailureAccrual>,
}

/// What happens to connections whose bytes are not looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Opaque {
    /// Where connections go.
    pub route: Route,
}

/// A route and its backends.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Where the route comes from.
    pub meta: Arc<Meta>,
    /// How to choose among backends.
    pub distribution: Distribution,
}

/// How a route chooses among its backends.
#[derive(Clone, Debug, PartialEq)]
pub enum Distribution {
    /// There is no backend: traffic fails.
    Empty,
    /// The first backend that can serve.
    FirstAvailable(Arc<[Backend]>),
    /// By weight.
    RandomAvailable(Arc<[(Backend, u32)]>),
}

/// Where traffic goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Backend {
    /// Where the backend comes from, usually a Service port.
    pub meta: Arc<Meta>,
    /// How much may wait, and how long.
    pub queue: Queue,
    /// A balancer or one address.
    pub kind: BackendKind,
}

/// See [`Backend::kind`].
#[derive(Clone, Debug, PartialEq)]
pub enum BackendKind {
    /// Everything to one address.
    Forward(Box<Endpoint>),
    /// Balanced over the addresses that discovery yields for `path`.
    Balance {
        /// `name:port`, to be asked of `Destination.Get`.
        path: Arc<str>,
        /// How endpoints are compared.
        load: Load,
    },
}

/// Bounds on what waits for a backend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Queue {
    /// How many requests or connections may wait; the next one is shed.
    pub capacity: usize,
    /// How long the first may wait before all fail fast.
    pub failfast_timeout: Duration,
}

/// Parameters of peak-EWMA.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Assumed of an endpoint that has not answered yet.
    pub default_rtt: Duration,
    /// Time constant with which old samples lose their weight.
    pub decay: Duration,
    /// What one failure costs, as latency.
    pub penalty: Duration,
}

/// When answers take an endpoint out of use
/// (`io.linkerd.proxy.outbound.FailureAccrual.ConsecutiveFailures`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailureAccrual {
    /// Failures in a row that trip the breaker; at least 1.
    pub max_failures: u32,
    /// How long it stays out before one request is tried.
    pub backoff: Backoff,
}

/// Exponential backoff with jitter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// First pause.
    pub min: Duration,
    /// Longest pause.
    pub max: Duration,
    /// Share of the pause by which it varies at random; 0 to 100.
    pub jitter: f32,
}

impl Default for Queue {
    /// Linkerd's control plane sends these (capacity 100, 3 s).
    fn default() -> Self {
        Self {
            capacity: 100,
            failfast_timeout: Duration::from_secs(3),
        }
    }
}

impl Default for Load {
    /// Linkerd's defaults: 30 ms, 10 s, and 5 s for a failure.
    fn default() -> Self {
        Self {
            default_rtt: Duration::from_millis(30),
            decay: Duration::from_secs(10),
            penalty: Duration::from_secs(5),
        }
    }
}

/// What is declared about the bytes that a Service port carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Declared {
    /// Nothing: they are looked at.
    #[default]
    Unknown,
    /// HTTP/1.
    Http1,
    /// HTTP/2 with prior knowledge, gRPC among it.
    Http2,
    /// Not to be looked at.
    Opaque,
}

// === impl OutboundPolicy ===

impl OutboundPolicy {
    /// The policy of a Service port that no route resource speaks of: everything is balanced over
    /// the endpoints of `path`, a `name:port` to be asked of `Destination.Get`.
    pub fn service(
        parent: Arc<Meta>,
        path: Arc<str>,
        declared: Declared,
        failure_accrual: Option<FailureAccrual>,
    ) -> Self {
        let backend = Backend {
            meta: parent.clone(),
            queue: Queue::default(),
            kind: BackendKind::Balance {
                path,
                load: Load::default(),
            },
        };
        Self {
            protocol: Protocol::to_backend(backend, declared, failure_accrual),
            parent,
        }
    }

    /// The policy of a destination that leads nowhere, such as a port that a Service does not have:
    /// traffic fails at once.
    pub fn refuse(parent: Arc<Meta>) -> Self {
        Self {
            protocol: Protocol::along(Distribution::Empty, Declared::Unknown, None),
            parent,
        }
    }

    /// The policy of one address that is not a Service's: everything goes there. Its bytes are not
    /// looked at when the endpoint's own proxy takes them as opaque.
    pub fn endpoint(endpoint: Endpoint) -> Self {
        let declared = match endpoint.hint.protocol {
            HintedProtocol::Opaque => Declared::Opaque,
            HintedProtocol::H2 | HintedProtocol::Unknown => Declared::Unknown,
        };
        let parent = Meta::default_named("endpoint");
        let backend = Backend {
            meta: parent.clone(),
            queue: Queue::default(),
            kind: BackendKind::Forward(Box::new(endpoint)),
        };
        Self {
            protocol: Protocol::to_backend(backend, declared, None),
            parent,
        }
    }
}

// === impl Protocol ===

impl Protocol {
    fn to_backend(
        backend: Backend,
        declared: Declared,
        failure_accrual: Option<FailureAccrual>,
    ) -> Self {
        let only = Distribution::FirstAvailable([backend].into());
        Self::along(only, declared, failure_accrual)
    }

    /// One route of that kind for each way to read the traffic.
    fn along(
        distribution: Distribution,
        declared: Declared,
        failure_accrual: Option<FailureAccrual>,
    ) -> Self {
        let route = |name| Route {
            meta: Meta::default_named(name),
            distribution: distribution.clone(),
        };
        let http = Http {
            route: route("http"),
            failure_accrual,
        };
        let opaque = Opaque {
            route: route("opaq"),
        };
        match declared {
            Declared::Unknown => Self::Detect {
                timeout: DETECT_TIMEOUT,
                http1: http.clone(),
                http2: http,
                opaque,
            },
            Declared::Http1 => Self::Http1(http),
            Declared::Http2 => Self::Http2(http),
            Declared::Opaque => Self::Opaque(opaque),
        }
    }
}
