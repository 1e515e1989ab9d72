//! Domain to wire. Route types repeat each other four times on the wire, and so does this file; it
//! is kept apart so that it has to be read once.

use super::super::duration;
use crate::outbound::{
    Backend, BackendKind, Backoff, Distribution, FailureAccrual, Http, Load, Opaque,
    OutboundPolicy, Protocol, Queue, Route,
};
use linkerd2_proxy_api::{
    grpc_route::{GrpcRouteMatch, GrpcRpcMatch},
    http_route::{HttpRouteMatch, PathMatch, path_match},
    outbound::{
        self as wire,
        backend::{
            BalanceP2c, EndpointDiscovery, Kind as WireKind,
            balance_p2c::{self, PeakEwma, PenaltyPeakEwma},
            endpoint_discovery,
        },
        failure_accrual, grpc_route, http_route, opaque_route,
        proxy_protocol::{self, Kind},
        tls_route,
    },
};

impl From<&OutboundPolicy> for wire::OutboundPolicy {
    fn from(policy: &OutboundPolicy) -> Self {
        Self {
            protocol: Some(wire::ProxyProtocol {
                kind: Some((&policy.protocol).into()),
            }),
            metadata: Some((&*policy.parent).into()),
        }
    }
}

impl From<&Protocol> for Kind {
    fn from(protocol: &Protocol) -> Self {
        match protocol {
            Protocol::Detect {
                timeout,
                http1,
                http2,
                opaque,
            } => Self::Detect(proxy_protocol::Detect {
                timeout: Some(duration::write(*timeout)),
                opaque: Some(self::opaque(opaque)),
                http1: Some(self::http1(http1)),
                http2: Some(self::http2(http2)),
            }),
            Protocol::Http1(http) => Self::Http1(http1(http)),
            Protocol::Http2(http) => Self::Http2(http2(http)),
            Protocol::Grpc(http) => Self::Grpc(proxy_protocol::Grpc {
                routes: vec![grpc_route(&http.route)],
                failure_accrual: http.failure_accrual.map(Into::into),
            }),
            Protocol::Opaque(it) => Self::Opaque(opaque(it)),
            Protocol::Tls(it) => Self::Tls(proxy_protocol::Tls {
                routes: vec![tls_route(&it.route)],
            }),
        }
    }
}

fn http1(http: &Http) -> proxy_protocol::Http1 {
    proxy_protocol::Http1 {
        routes: vec![http_route(&http.route)],
        failure_accrual: http.failure_accrual.map(Into::into),
    }
}

fn http2(http: &Http) -> proxy_protocol::Http2 {
    proxy_protocol::Http2 {
        routes: vec![http_route(&http.route)],
        failure_accrual: http.failure_accrual.map(Into::into),
    }
}

fn opaque(it: &Opaque) -> proxy_protocol::Opaque {
    proxy_protocol::Opaque {
        routes: vec![opaque_route(&it.route)],
    }
}

// === routes ===

fn http_route(route: &Route) -> wire::HttpRoute {
    use http_route::{
        Distribution as Wire, Rule, WeightedRouteBackend,
        distribution::{Empty, FirstAvailable, Kind, RandomAvailable},
    };
    let backend = |b: &Backend| http_route::RouteBackend {
        backend: Some(b.into()),
        ..Default::default()
    };
    let kind = match &route.distribution {
        Distribution::Empty => Kind::Empty(Empty {}),
        Distribution::FirstAvailable(them) => Kind::FirstAvailable(FirstAvailable {
            backends: them.iter().map(backend).collect(),
        }),
        Distribution::RandomAvailable(them) => Kind::RandomAvailable(RandomAvailable {
            backends: them
                .iter()
                .map(|(b, weight)| WeightedRouteBackend {
                    backend: Some(backend(b)),
                    weight: *weight,
                })
                .collect(),
        }),
    };
    wire::HttpRoute {
        metadata: Some((&*route.meta).into()),
        hosts: Vec::new(),
        rules: vec![Rule {
            matches: vec![HttpRouteMatch {
                path: Some(PathMatch {
                    kind: Some(path_match::Kind::Prefix("/".to_owned())),
                }),
                ..Default::default()
            }],
            backends: Some(Wire { kind: Some(kind) }),
            ..Default::default()
        }],
    }
}

fn grpc_route(route: &Route) -> wire::GrpcRoute {
    use grpc_route::{
        Distribution as Wire, Rule, WeightedRouteBackend,
        distribution::{Empty, FirstAvailable, Kind, RandomAvailable},
    };
    let backend = |b: &Backend| grpc_route::RouteBackend {
        backend: Some(b.into()),
        ..Default::default()
    };
    let kind = match &route.distribution {
        Distribution::Empty => Kind::Empty(Empty {}),
        Distribution::FirstAvailable(them) => Kind::FirstAvailable(FirstAvailable {
            backends: them.iter().map(backend).collect(),
        }),
        Distribution::RandomAvailable(them) => Kind::RandomAvailable(RandomAvailable {
            backends: them
                .iter()
                .map(|(b, weight)| WeightedRouteBackend {
                    backend: Some(backend(b)),
                    weight: *weight,
                })
                .collect(),
        }),
    };
    wire::GrpcRoute {
        metadata: Some((&*route.meta).into()),
        hosts: Vec::new(),
        rules: vec![Rule {
            matches: vec![GrpcRouteMatch {
                rpc: Some(GrpcRpcMatch::default()),
                headers: Vec::new(),
            }],
            backends: Some(Wire { kind: Some(kind) }),
            ..Default::default()
        }],
    }
}

fn opaque_route(route: &Route) -> wire::OpaqueRoute {
    use opaque_route::{
        Distribution as Wire, Rule, WeightedRouteBackend,
        distribution::{Empty, FirstAvailable, Kind, RandomAvailable},
    };
    let backend = |b: &Backend| opaque_route::RouteBackend {
        backend: Some(b.into()),
        filters: Vec::new(),
    };
    let kind = match &route.distribution {
        Distribution::Empty => Kind::Empty(Empty {}),
        Distribution::FirstAvailable(them) => Kind::FirstAvailable(FirstAvailable {
            backends: them.iter().map(backend).collect(),
        }),
        Distribution::RandomAvailable(them) => Kind::RandomAvailable(RandomAvailable {
            backends: them
                .iter()
                .map(|(b, weight)| WeightedRouteBackend {
                    backend: Some(backend(b)),
                    weight: *weight,
                })
                .collect(),
        }),
    };
    wire::OpaqueRoute {
        metadata: Some((&*route.meta).into()),
        rules: vec![Rule {
            backends: Some(Wire { kind: Some(kind) }),
            filters: Vec::new(),
        }],
    }
}

fn tls_route(route: &Route) -> wire::TlsRoute {
    use tls_route::{
        Distribution as Wire, Rule, WeightedRouteBackend,
        distribution::{Empty, FirstAvailable, Kind, RandomAvailable},
    };
    let backend = |b: &Backend| tls_route::RouteBackend {
        backend: Some(b.into()),
        filters: Vec::new(),
    };
    let kind = match &route.distribution {
        Distribution::Empty => Kind::Empty(Empty {}),
        Distribution::FirstAvailable(them) => Kind::FirstAvailable(FirstAvailable {
            backends: them.iter().map(backend).collect(),
        }),
        Distribution::RandomAvailable(them) => Kind::RandomAvailable(RandomAvailable {
            backends: them
                .iter()
                .map(|(b, weight)| WeightedRouteBackend {
                    backend: Some(backend(b)),
                    weight: *weight,
                })
                .collect(),
        }),
    };
    wire::TlsRoute {
        metadata: Some((&*route.meta).into()),
        snis: Vec::new(),
        rules: vec![Rule {
            backends: Some(Wire { kind: Some(kind) }),
            filters: Vec::new(),
        }],
    }
}

// === backends ===

impl From<&Backend> for wire::Backend {
    fn from(backend: &Backend) -> Self {
        let kind = match &backend.kind {
            BackendKind::Forward(endpoint) => WireKind::Forward((&**endpoint).into()),
            BackendKind::Balance { path, load } => WireKind::Balancer(BalanceP2c {
                discovery: Some(EndpointDiscovery {
                    kind: Some(endpoint_discovery::Kind::Dst(
                        endpoint_discovery::DestinationGet {
                            path: path.to_string(),
                        },
                    )),
                }),
                load: Some((*load).into()),
            }),
        };
        Self {
            metadata: Some((&*backend.meta).into()),
            queue: Some(backend.queue.into()),
            kind: Some(kind),
        }
    }
}

impl From<Queue> for wire::Queue {
    fn from(queue: Queue) -> Self {
        Self {
            capacity: u32::try_from(queue.capacity).unwrap_or(u32::MAX),
            failfast_timeout: Some(duration::write(queue.failfast_timeout)),
        }
    }
}

/// The usual penalty is not written: a Linkerd proxy that gets one penalizes failures, which is
/// off there unless asked for.
impl From<Load> for balance_p2c::Load {
    fn from(load: Load) -> Self {
        let default_rtt = Some(duration::write(load.default_rtt));
        let decay = Some(duration::write(load.decay));
        if load.penalty == Load::default().penalty {
            return Self::PeakEwma(PeakEwma { default_rtt, decay });
        }
        Self::PenaltyPeakEwma(PenaltyPeakEwma {
            default_rtt,
            decay,
            penalty: Some(duration::write(load.penalty)),
            max_retry_after: None,
            penalty_decay: None,
        })
    }
}

impl From<FailureAccrual> for wire::FailureAccrual {
    fn from(accrual: FailureAccrual) -> Self {
        Self {
            ejection: None,
            kind: Some(failure_accrual::Kind::ConsecutiveFailures(
                failure_accrual::ConsecutiveFailures {
                    max_failures: accrual.max_failures,
                    backoff: Some(accrual.backoff.into()),
                },
            )),
        }
    }
}

impl From<Backoff> for wire::ExponentialBackoff {
    fn from(backoff: Backoff) -> Self {
        Self {
            min_backoff: Some(duration::write(backoff.min)),
            max_backoff: Some(duration::write(backoff.max)),
            jitter_ratio: backoff.jitter,
            respect_retry_after_hint: false,
        }
    }
}
