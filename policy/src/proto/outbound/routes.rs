//! The four kinds of route in one form: which rules take everything, what they ask for that is not
//! acted on, and their backends.
//!
//! HTTP, gRPC, opaque and TLS routes are four sets of generated types that repeat each other; only
//! this file and the writer see them.

use linkerd2_proxy_api::{
    grpc_route::GrpcRouteMatch,
    http_route::{HttpRouteMatch, path_match},
    meta::Metadata,
    outbound::{
        Backend, FailureAccrual, grpc_route, http_route, opaque_route, proxy_protocol, tls_route,
    },
};

/// A route of any kind.
pub(super) struct AnyRoute {
    pub(super) metadata: Option<Metadata>,
    /// Whether it is only for some hosts or server names.
    pub(super) hosts: bool,
    pub(super) rules: Vec<AnyRule>,
}

/// A rule of any kind of route.
pub(super) struct AnyRule {
    pub(super) takes_all: bool,
    /// A filter fails all traffic.
    pub(super) refuses: bool,
    /// What it asks for beside backends.
    pub(super) unused: Vec<&'static str>,
    pub(super) distribution: Option<AnyDistribution>,
}

/// How a rule of any kind chooses among its backends.
pub(super) enum AnyDistribution {
    Empty,
    First(Vec<AnyBackend>),
    Random(Vec<(AnyBackend, u32)>),
}

/// A backend of any kind of rule.
#[derive(Default)]
pub(super) struct AnyBackend {
    pub(super) backend: Option<Backend>,
    /// A filter fails all traffic.
    pub(super) refuses: bool,
    /// It has filters that do something else.
    pub(super) filters: bool,
}

pub(super) fn http1(wire: proxy_protocol::Http1) -> (Vec<AnyRoute>, Option<FailureAccrual>) {
    (
        wire.routes.into_iter().map(http_route).collect(),
        wire.failure_accrual,
    )
}

pub(super) fn http2(wire: proxy_protocol::Http2) -> (Vec<AnyRoute>, Option<FailureAccrual>) {
    (
        wire.routes.into_iter().map(http_route).collect(),
        wire.failure_accrual,
    )
}

pub(super) fn grpc(wire: proxy_protocol::Grpc) -> (Vec<AnyRoute>, Option<FailureAccrual>) {
    let routes = wire.routes.into_iter().map(|route| AnyRoute {
        metadata: route.metadata,
        hosts: !route.hosts.is_empty(),
        rules: route.rules.into_iter().map(grpc_rule).collect(),
    });
    (routes.collect(), wire.failure_accrual)
}

pub(super) fn opaque(wire: proxy_protocol::Opaque) -> Vec<AnyRoute> {
    let routes = wire.routes.into_iter().map(|route| AnyRoute {
        metadata: route.metadata,
        hosts: false,
        rules: route.rules.into_iter().map(opaque_rule).collect(),
    });
    routes.collect()
}

pub(super) fn tls(wire: proxy_protocol::Tls) -> Vec<AnyRoute> {
    let routes = wire.routes.into_iter().map(|route| AnyRoute {
        metadata: route.metadata,
        hosts: !route.snis.is_empty(),
        rules: route.rules.into_iter().map(tls_rule).collect(),
    });
    routes.collect()
}

// === HTTP ===

fn http_route(route: linkerd2_proxy_api::outbound::HttpRoute) -> AnyRoute {
    AnyRoute {
        metadata: route.metadata,
        hosts: !route.hosts.is_empty(),
        rules: route.rules.into_iter().map(http_rule).collect(),
    }
}

fn http_rule(rule: http_route::Rule) -> AnyRule {
    let unused = [
        (!rule.filters.is_empty(), "filters"),
        (rule.timeouts.is_some(), "timeouts"),
        (rule.retry.is_some(), "retry"),
    ];
    AnyRule {
        takes_all: rule.matches.is_empty() || rule.matches.iter().any(takes_all_http),
        refuses: rule.filters.iter().any(http_refuses),
        unused: present(unused),
        distribution: rule.backends.and_then(|d| d.kind).map(|kind| {
            use http_route::distribution::Kind;
            match kind {
                Kind::Empty(_) => AnyDistribution::Empty,
                Kind::FirstAvailable(first) => {
                    first_of(first.backends.into_iter().map(http_backend))
                }
                Kind::RandomAvailable(random) => random_of(
                    random
                        .backends
                        .into_iter()
                        .map(|b| (b.backend.map(http_backend), b.weight)),
                ),
            }
        }),
    }
}

fn http_backend(wire: http_route::RouteBackend) -> AnyBackend {
    AnyBackend {
        backend: wire.backend,
        refuses: wire.filters.iter().any(http_refuses),
        filters: !wire.filters.is_empty(),
    }
}

fn http_refuses(filter: &http_route::Filter) -> bool {
    use http_route::filter::Kind;
    matches!(&filter.kind, Some(Kind::FailureInjector(f)) if f.ratio.is_none())
}

fn takes_all_http(wire: &HttpRouteMatch) -> bool {
    let path = wire.path.as_ref().and_then(|path| path.kind.as_ref());
    let any_path = match path {
        Some(path_match::Kind::Prefix(prefix)) => prefix == "/" || prefix.is_empty(),
        Some(path_match::Kind::Exact(_) | path_match::Kind::Regex(_)) => false,
        None => wire.path.is_none(),
    };
    any_path && wire.headers.is_empty() && wire.query_params.is_empty() && wire.method.is_none()
}

// === gRPC ===

fn grpc_rule(rule: grpc_route::Rule) -> AnyRule {
    let unused = [
        (!rule.filters.is_empty(), "filters"),
        (rule.timeouts.is_some(), "timeouts"),
        (rule.retry.is_some(), "retry"),
    ];
    AnyRule {
        takes_all: rule.matches.is_empty() || rule.matches.iter().any(takes_all_grpc),
        refuses: rule.filters.iter().any(grpc_refuses),
        unused: present(unused),
        distribution: rule.backends.and_then(|d| d.kind).map(|kind| {
            use grpc_route::distribution::Kind;
            match kind {
                Kind::Empty(_) => AnyDistribution::Empty,
                Kind::FirstAvailable(first) => {
                    first_of(first.backends.into_iter().map(grpc_backend))
                }
                Kind::RandomAvailable(random) => random_of(
                    random
                        .backends
                        .into_iter()
                        .map(|b| (b.backend.map(grpc_backend), b.weight)),
                ),
            }
        }),
    }
}

fn grpc_backend(wire: grpc_route::RouteBackend) -> AnyBackend {
    AnyBackend {
        backend: wire.backend,
        refuses: wire.filters.iter().any(grpc_refuses),
        filters: !wire.filters.is_empty(),
    }
}

fn grpc_refuses(filter: &grpc_route::Filter) -> bool {
    use grpc_route::filter::Kind;
    matches!(&filter.kind, Some(Kind::FailureInjector(f)) if f.ratio.is_none())
}

fn takes_all_grpc(wire: &GrpcRouteMatch) -> bool {
    let any_rpc = |rpc: &_| *rpc == Default::default();
    wire.rpc.as_ref().is_none_or(any_rpc) && wire.headers.is_empty()
}

// === opaque and TLS: every filter there is refuses ===

fn opaque_rule(rule: opaque_route::Rule) -> AnyRule {
    AnyRule {
        takes_all: true,
        refuses: !rule.filters.is_empty(),
        unused: present([(!rule.filters.is_empty(), "filters")]),
        distribution: rule.backends.and_then(|d| d.kind).map(|kind| {
            use opaque_route::distribution::Kind;
            match kind {
                Kind::Empty(_) => AnyDistribution::Empty,
                Kind::FirstAvailable(first) => {
                    first_of(first.backends.into_iter().map(opaque_backend))
                }
                Kind::RandomAvailable(random) => random_of(
                    random
                        .backends
                        .into_iter()
                        .map(|b| (b.backend.map(opaque_backend), b.weight)),
                ),
            }
        }),
    }
}

fn opaque_backend(wire: opaque_route::RouteBackend) -> AnyBackend {
    AnyBackend {
        backend: wire.backend,
        refuses: !wire.filters.is_empty(),
        filters: !wire.filters.is_empty(),
    }
}

fn tls_rule(rule: tls_route::Rule) -> AnyRule {
    AnyRule {
        takes_all: true,
        refuses: !rule.filters.is_empty(),
        unused: present([(!rule.filters.is_empty(), "filters")]),
        distribution: rule.backends.and_then(|d| d.kind).map(|kind| {
            use tls_route::distribution::Kind;
            match kind {
                Kind::Empty(_) => AnyDistribution::Empty,
                Kind::FirstAvailable(first) => {
                    first_of(first.backends.into_iter().map(tls_backend))
                }
                Kind::RandomAvailable(random) => random_of(
                    random
                        .backends
                        .into_iter()
                        .map(|b| (b.backend.map(tls_backend), b.weight)),
                ),
            }
        }),
    }
}

fn tls_backend(wire: tls_route::RouteBackend) -> AnyBackend {
    AnyBackend {
        backend: wire.backend,
        refuses: !wire.filters.is_empty(),
        filters: !wire.filters.is_empty(),
    }
}

// === shared ===

fn present<const N: usize>(parts: [(bool, &'static str); N]) -> Vec<&'static str> {
    let present = parts.into_iter().filter(|(present, _)| *present);
    present.map(|(_, name)| name).collect()
}

fn first_of(backends: impl Iterator<Item = AnyBackend>) -> AnyDistribution {
    AnyDistribution::First(backends.collect())
}

fn random_of(backends: impl Iterator<Item = (Option<AnyBackend>, u32)>) -> AnyDistribution {
    let backends = backends.map(|(backend, weight)| (backend.unwrap_or_default(), weight));
    AnyDistribution::Random(backends.collect())
}
