//! The messages of the proxy API that the fake control plane sends, as a test would say them.
//!
//! Outbound policies are here, endpoints and inbound policies in modules of their own.

mod endpoint;
mod inbound;

pub use self::{
    endpoint::{Endpoint, Hint, Mesh, WEIGHT, add, malformed_add, no_endpoints, remove},
    inbound::{
        authenticated_port, detected_port, malformed_server, mesh_tls_port, only_for, opaque_port,
        open_port,
    },
};
use linkerd2_proxy_api::{
    meta::{Metadata, Resource, metadata},
    net::{TcpAddress, ip_address},
    outbound::{
        self, Backend, ExponentialBackoff, FailureAccrual, OutboundPolicy, ProxyProtocol, Queue,
        backend::{self, BalanceP2c, EndpointDiscovery, balance_p2c, endpoint_discovery},
        failure_accrual, http_route, opaque_route, proxy_protocol,
    },
};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// How traffic to a destination is to be carried.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `name:port` that the balancer asks for.
    pub path: String,
    /// Others, each for when none before it can serve.
    pub fallbacks: Vec<String>,
    /// The only endpoint, in place of all that.
    pub forward: Option<Endpoint>,
    /// How bytes are read.
    pub protocol: Protocol,
    /// Consecutive failures that take an endpoint out, with the first pause.
    pub accrual: Option<(u32, Duration)>,
    /// How many may wait and for how long.
    pub queue: (u32, Duration),
    /// Assumed latency of a new endpoint, and time constant of the average.
    pub load: (Duration, Duration),
}

/// How the bytes of a connection are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// By the first bytes, within this time.
    Detect(Duration),
    /// Not looked at.
    Opaque,
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
}

impl Policy {
    /// What Linkerd's control plane says of an ordinary Service port.
    pub fn new(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            fallbacks: Vec::new(),
            forward: None,
            protocol: Protocol::Detect(Duration::from_secs(10)),
            accrual: None,
            queue: (100, Duration::from_secs(3)),
            load: (Duration::from_millis(30), Duration::from_secs(10)),
        }
    }

    /// To another `name:port` when none before it can serve.
    pub fn fallback(mut self, path: &str) -> Self {
        self.fallbacks.push(path.to_owned());
        self
    }

    /// To this endpoint and no other.
    pub fn forward(mut self, endpoint: Endpoint) -> Self {
        self.forward = Some(endpoint);
        self
    }

    /// As bytes that are not looked at.
    pub fn opaque(mut self) -> Self {
        self.protocol = Protocol::Opaque;
        self
    }

    /// By the first bytes, within `timeout`.
    pub fn detect(mut self, timeout: Duration) -> Self {
        self.protocol = Protocol::Detect(timeout);
        self
    }

    /// With failure accrual.
    pub fn accrual(mut self, failures: u32, pause: Duration) -> Self {
        self.accrual = Some((failures, pause));
        self
    }

    /// With another queue.
    pub fn queue(mut self, capacity: u32, timeout: Duration) -> Self {
        self.queue = (capacity, timeout);
        self
    }

    /// With another time constant for latencies.
    pub fn decay(mut self, decay: Duration) -> Self {
        self.load.1 = decay;
        self
    }

    pub(super) fn to_proto(&self) -> OutboundPolicy {
        OutboundPolicy {
            protocol: Some(self.protocol()),
            metadata: Some(service(&self.path)),
        }
    }

    fn protocol(&self) -> ProxyProtocol {
        use proxy_protocol::{Detect, Grpc, Http1, Http2, Kind, Opaque};
        let failure_accrual = self.accrual.map(accrual);
        let http1 = Http1 {
            routes: vec![self.http_route()],
            failure_accrual,
        };
        let http2 = Http2 {
            routes: vec![self.http_route()],
            failure_accrual,
        };
        let opaque = Opaque {
            routes: vec![self.opaque_route()],
        };
        let kind = match self.protocol {
            Protocol::Detect(timeout) => Kind::Detect(Detect {
                timeout: duration(timeout),
                opaque: Some(opaque),
                http1: Some(http1),
                http2: Some(http2),
            }),
            Protocol::Opaque => Kind::Opaque(opaque),
            Protocol::Http1 => Kind::Http1(http1),
            Protocol::Http2 => Kind::Http2(http2),
            Protocol::Grpc => Kind::Grpc(Grpc {
                routes: vec![self.grpc_route()],
                failure_accrual,
            }),
        };
        ProxyProtocol { kind: Some(kind) }
    }

    fn http_route(&self) -> outbound::HttpRoute {
        use http_route::{Distribution, RouteBackend, Rule, distribution};
        let backends = self.backends().map(|backend| RouteBackend {
            backend: Some(backend),
            ..Default::default()
        });
        let backends = distribution::Kind::FirstAvailable(distribution::FirstAvailable {
            backends: backends.collect(),
        });
        outbound::HttpRoute {
            metadata: Some(default("http")),
            hosts: Vec::new(),
            rules: vec![Rule {
                matches: vec![any_path()],
                backends: Some(Distribution {
                    kind: Some(backends),
                }),
                ..Default::default()
            }],
        }
    }

    fn grpc_route(&self) -> outbound::GrpcRoute {
        use outbound::grpc_route::{Distribution, RouteBackend, Rule, distribution};
        let backends = self.backends().map(|backend| RouteBackend {
            backend: Some(backend),
            ..Default::default()
        });
        let backends = distribution::Kind::FirstAvailable(distribution::FirstAvailable {
            backends: backends.collect(),
        });
        outbound::GrpcRoute {
            metadata: Some(default("grpc")),
            hosts: Vec::new(),
            rules: vec![Rule {
                matches: vec![Default::default()],
                backends: Some(Distribution {
                    kind: Some(backends),
                }),
                ..Default::default()
            }],
        }
    }

    fn opaque_route(&self) -> outbound::OpaqueRoute {
        use opaque_route::{Distribution, RouteBackend, Rule, distribution};
        let backends = self.backends().map(|backend| RouteBackend {
            backend: Some(backend),
            ..Default::default()
        });
        let backends = distribution::Kind::FirstAvailable(distribution::FirstAvailable {
            backends: backends.collect(),
        });
        outbound::OpaqueRoute {
            metadata: Some(default("opaque")),
            rules: vec![Rule {
                backends: Some(Distribution {
                    kind: Some(backends),
                }),
                filters: Vec::new(),
            }],
        }
    }

    fn backends(&self) -> impl Iterator<Item = Backend> {
        let paths = std::iter::once(&self.path).chain(&self.fallbacks);
        paths.map(|path| self.backend(path))
    }

    fn backend(&self, path: &str) -> Backend {
        let get = endpoint_discovery::DestinationGet {
            path: path.to_owned(),
        };
        let dst = endpoint_discovery::Kind::Dst(get);
        let load = balance_p2c::Load::PeakEwma(balance_p2c::PeakEwma {
            default_rtt: duration(self.load.0),
            decay: duration(self.load.1),
        });
        Backend {
            metadata: Some(service(path)),
            queue: Some(Queue {
                capacity: self.queue.0,
                failfast_timeout: duration(self.queue.1),
            }),
            kind: Some(match &self.forward {
                Some(endpoint) => backend::Kind::Forward(endpoint.to_proto()),
                None => backend::Kind::Balancer(BalanceP2c {
                    discovery: Some(EndpointDiscovery { kind: Some(dst) }),
                    load: Some(load),
                }),
            }),
        }
    }
}

/// A policy of which no part can be understood.
pub fn malformed_policy() -> OutboundPolicy {
    OutboundPolicy {
        protocol: Some(ProxyProtocol { kind: None }),
        metadata: None,
    }
}

/// `addr` on the wire.
pub fn tcp(addr: SocketAddr) -> TcpAddress {
    TcpAddress {
        ip: Some(addr.ip().into()),
        port: addr.port().into(),
    }
}

/// `IP:PORT` from the wire.
pub(super) fn from_tcp(addr: &TcpAddress) -> Option<String> {
    let ip = match addr.ip.as_ref()?.ip.as_ref()? {
        ip_address::Ip::Ipv4(bits) => IpAddr::from(bits.to_be_bytes()),
        ip_address::Ip::Ipv6(v6) => {
            IpAddr::from(((u128::from(v6.first) << 64) | u128::from(v6.last)).to_be_bytes())
        }
    };
    Some(SocketAddr::new(ip, u16::try_from(addr.port).ok()?).to_string())
}

fn accrual((max_failures, pause): (u32, Duration)) -> FailureAccrual {
    let backoff = ExponentialBackoff {
        min_backoff: duration(pause),
        max_backoff: duration(pause * 60),
        jitter_ratio: 0.5,
        respect_retry_after_hint: false,
    };
    let consecutive = failure_accrual::ConsecutiveFailures {
        max_failures,
        backoff: Some(backoff),
    };
    FailureAccrual {
        ejection: None,
        kind: Some(failure_accrual::Kind::ConsecutiveFailures(consecutive)),
    }
}

fn any_path() -> linkerd2_proxy_api::http_route::HttpRouteMatch {
    use linkerd2_proxy_api::http_route::{HttpRouteMatch, PathMatch, path_match};
    let prefix = path_match::Kind::Prefix("/".to_owned());
    HttpRouteMatch {
        path: Some(PathMatch { kind: Some(prefix) }),
        ..Default::default()
    }
}

fn service(path: &str) -> Metadata {
    let (name, namespace, port) = split(path);
    let resource = Resource {
        group: "core".to_owned(),
        kind: "Service".to_owned(),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        section: String::new(),
        port,
    };
    Metadata {
        kind: Some(metadata::Kind::Resource(resource)),
    }
}

fn default(name: &str) -> Metadata {
    Metadata {
        kind: Some(metadata::Kind::Default(name.to_owned())),
    }
}

/// Name, namespace and port of `name.namespace.svc.cluster.local:port`.
fn split(path: &str) -> (&str, &str, u32) {
    let (host, port) = path.rsplit_once(':').unwrap_or((path, "0"));
    let mut parts = host.split('.');
    let name = parts.next().unwrap_or_default();
    (
        name,
        parts.next().unwrap_or("demo"),
        port.parse().unwrap_or(0),
    )
}

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn duration(d: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(d).ok()
}
