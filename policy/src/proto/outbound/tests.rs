//! What is written can be read; what cannot be read says which field.

use super::*;
use crate::{
    endpoint::Endpoint,
    outbound::{Backend, BackendKind, Backoff, Declared, FailureAccrual, Load, Queue},
};
use linkerd2_proxy_api::{
    http_route::{HostMatch, HttpRouteMatch, PathMatch, path_match},
    outbound::{backend::balance_p2c, failure_accrual, http_route, opaque_route, proxy_protocol},
};
use std::time::Duration;

fn service(declared: Declared) -> OutboundPolicy {
    let parent = Arc::new(Meta::Resource {
        group: "core".into(),
        kind: "Service".into(),
        namespace: "demo".into(),
        name: "api".into(),
        section: "".into(),
        port: Some(8080),
    });
    let accrual = FailureAccrual {
        max_failures: 7,
        backoff: Backoff {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter: 0.5,
        },
    };
    let path = "api.demo.svc.cluster.local:8080".into();
    OutboundPolicy::service(parent, path, declared, Some(accrual))
}

fn read(wire: wire::OutboundPolicy) -> Result<Read<OutboundPolicy>, FieldError> {
    Read::try_from(wire)
}

/// The wire form of an HTTP/1 policy, changed.
fn http1(change: impl FnOnce(&mut proxy_protocol::Http1)) -> wire::OutboundPolicy {
    let mut policy = wire::OutboundPolicy::from(&service(Declared::Http1));
    let protocol = policy.protocol.as_mut().expect("a protocol");
    match protocol.kind.as_mut().expect("a kind") {
        Kind::Http1(http) => change(http),
        other => panic!("not HTTP/1: {other:?}"),
    }
    policy
}

fn backends(http: &mut proxy_protocol::Http1) -> &mut Vec<http_route::RouteBackend> {
    let distribution = http.routes[0].rules[0].backends.as_mut().expect("backends");
    match distribution.kind.as_mut().expect("a kind") {
        http_route::distribution::Kind::FirstAvailable(first) => &mut first.backends,
        other => panic!("not first-available: {other:?}"),
    }
}

fn route(policy: &OutboundPolicy) -> &Route {
    match &policy.protocol {
        Protocol::Http1(http) => &http.route,
        other => panic!("not HTTP/1: {other:?}"),
    }
}

#[test]
fn what_is_written_reads_the_same() {
    let balanced = service(Declared::Unknown);
    let mut penalized = service(Declared::Http1);
    if let Protocol::Http1(http) = &mut penalized.protocol {
        let kind = BackendKind::Balance {
            path: "x:1".into(),
            load: Load {
                penalty: Duration::from_secs(9),
                ..Load::default()
            },
        };
        let queue = Queue::default();
        let meta = Meta::default_named("b");
        let backends = [(Backend { meta, queue, kind }, 3)];
        http.route.distribution = Distribution::RandomAvailable(backends.into());
        http.failure_accrual = None;
    }
    let empty = Opaque {
        route: Route {
            meta: Meta::default_named("nothing"),
            distribution: Distribution::Empty,
        },
    };
    let http = match service(Declared::Http2).protocol {
        Protocol::Http2(http) => http,
        other => panic!("not HTTP/2: {other:?}"),
    };
    let with = |protocol| OutboundPolicy {
        parent: Meta::default_named("p"),
        protocol,
    };
    let addr = "[2001:db8::1]:443".parse().expect("an address");
    let policies = [
        balanced,
        penalized,
        service(Declared::Http2),
        service(Declared::Opaque),
        with(Protocol::Grpc(http)),
        with(Protocol::Tls(empty.clone())),
        with(Protocol::Opaque(empty)),
        OutboundPolicy::endpoint(Endpoint::bare(addr)),
    ];
    for policy in policies {
        let back = read((&policy).into()).expect("readable");
        assert_eq!(back.ignored, Vec::<String>::new(), "{policy:?}");
        assert_eq!(back.value, policy);
    }
}

#[test]
fn a_refusal_names_the_field() {
    let missing_kind = http1(|http| http.routes[0].rules[0].backends = None);
    let no_backend = http1(|http| backends(http)[0].backend = None);
    let no_rules = http1(|http| http.routes[0].rules.clear());
    let no_metadata = http1(|http| http.routes[0].metadata = None);
    let backoff = http1(|http| {
        let accrual = http.failure_accrual.as_mut().expect("accrual");
        if let Some(failure_accrual::Kind::ConsecutiveFailures(it)) = &mut accrual.kind {
            it.backoff.as_mut().expect("a backoff").jitter_ratio = f32::NAN;
        }
    });
    let decay = http1(|http| {
        let backend = backends(http)[0].backend.as_mut().expect("a backend");
        if let Some(wire::backend::Kind::Balancer(balancer)) = &mut backend.kind {
            balancer.load = Some(balance_p2c::Load::PeakEwma(balance_p2c::PeakEwma {
                default_rtt: None,
                decay: Some(prost_types::Duration::default()),
            }));
        }
    });
    let rule = "protocol.http1.routes[0].rules[0].backends";
    let backend = format!("{rule}.first_available.backends");
    let table = [
        (
            wire::OutboundPolicy::default(),
            "metadata: missing kind".to_owned(),
        ),
        (missing_kind, format!("{rule}: missing kind")),
        (no_backend, format!("{backend}: missing kind")),
        (no_rules, "protocol.http1.routes: missing rules".to_owned()),
        (
            no_metadata,
            "protocol.http1.routes[0].metadata: missing kind".to_owned(),
        ),
        (
            backoff,
            "protocol.http1.failure_accrual.consecutive_failures.backoff.jitter_ratio: \
             must be from 0 to 100"
                .to_owned(),
        ),
        (
            decay,
            format!("{backend}[0].backend.balancer.peak_ewma.decay: must be more than zero"),
        ),
    ];
    for (wire, want) in table {
        assert_eq!(read(wire).expect_err("unreadable").to_string(), want);
    }
}

#[test]
fn the_rule_that_takes_everything_is_chosen() {
    let wire = http1(|http| {
        let everything = http.routes[0].clone();
        let exact = HttpRouteMatch {
            path: Some(PathMatch {
                kind: Some(path_match::Kind::Exact("/".to_owned())),
            }),
            ..HttpRouteMatch::default()
        };
        let mut specific = everything.clone();
        specific.rules[0].matches = vec![exact];
        let mut host = everything.clone();
        host.hosts = vec![HostMatch::default()];
        let mut chosen = everything;
        chosen.metadata = Some((&*Meta::default_named("chosen")).into());
        chosen.rules[0].retry = Some(http_route::Retry::default());
        http.routes = vec![specific, host, chosen];
    });
    let read = read(wire).expect("readable");
    assert_eq!(route(&read.value).meta.name(), "chosen");
    assert_eq!(
        read.ignored,
        [
            "protocol.http1.routes[0].rules[0]: rule of a route that is not matched",
            "protocol.http1.routes[1].rules[0]: rule of a route that is not matched",
            "protocol.http1.routes[2].rules[0]: retry",
        ]
    );
}

#[test]
fn without_such_a_rule_the_last_route_takes_everything() {
    let wire = http1(|http| {
        let mut host = http.routes[0].clone();
        host.hosts = vec![HostMatch::default()];
        let mut last = host.clone();
        last.metadata = Some((&*Meta::default_named("last")).into());
        http.routes = vec![host, last];
    });
    let read = read(wire).expect("readable");
    assert_eq!(route(&read.value).meta.name(), "last");
    assert!(read.ignored[1].starts_with("protocol.http1.routes[1].rules[0]: what it matches"));
}

#[test]
fn no_routes_is_no_backends() {
    let read = read(http1(|http| http.routes.clear())).expect("readable");
    assert_eq!(route(&read.value).distribution, Distribution::Empty);
}

#[test]
fn what_forbids_traffic_never_lets_it_through() {
    let mut policy = wire::OutboundPolicy::from(&service(Declared::Opaque));
    if let Some(wire::ProxyProtocol {
        kind: Some(Kind::Opaque(opaque)),
    }) = &mut policy.protocol
    {
        opaque.routes[0].rules[0].filters = vec![opaque_route::Filter { kind: None }];
    }
    let read_back = read(policy).expect("readable");
    let Protocol::Opaque(opaque) = read_back.value.protocol else {
        panic!("not opaque");
    };
    assert_eq!(opaque.route.distribution, Distribution::Empty);

    let failing = linkerd2_proxy_api::http_route::HttpFailureInjector::default();
    let filter = http_route::Filter {
        kind: Some(http_route::filter::Kind::FailureInjector(failing)),
    };
    let wire = http1(|http| backends(http)[0].filters = vec![filter]);
    let read_back = read(wire).expect("readable");
    assert_eq!(route(&read_back.value).distribution, Distribution::Empty);
    assert_eq!(read_back.ignored.len(), 1, "{:?}", read_back.ignored);
}

#[test]
fn a_backend_of_no_known_kind_is_left_out() {
    let wire = http1(|http| {
        let backends = backends(http);
        let mut unknown = backends[0].clone();
        unknown.backend.as_mut().expect("a backend").kind = None;
        backends.insert(0, unknown);
    });
    let read = read(wire).expect("readable");
    let Distribution::FirstAvailable(backends) = &route(&read.value).distribution else {
        panic!("not first-available");
    };
    assert_eq!(backends.len(), 1);
    assert_eq!(read.ignored.len(), 1, "{:?}", read.ignored);
}

#[test]
fn unified_accrual_keeps_its_consecutive_half() {
    let unified = |max_consecutive_failures| {
        let accrual = wire::FailureAccrual {
            ejection: Some(wire::EjectionConfig {
                min_ready_endpoints: 1,
            }),
            kind: Some(failure_accrual::Kind::Unified(failure_accrual::Unified {
                success_rate_threshold: 0.8,
                max_consecutive_failures,
                backoff: Some(wire::ExponentialBackoff {
                    min_backoff: Some(duration::write(Duration::from_secs(1))),
                    max_backoff: Some(duration::write(Duration::from_secs(2))),
                    ..wire::ExponentialBackoff::default()
                }),
                ..failure_accrual::Unified::default()
            })),
        };
        read(http1(|http| http.failure_accrual = Some(accrual))).expect("readable")
    };
    let accrual = |read: &Read<OutboundPolicy>| match &read.value.protocol {
        Protocol::Http1(http) => http.failure_accrual,
        other => panic!("not HTTP/1: {other:?}"),
    };
    let both = unified(5);
    assert_eq!(accrual(&both).map(|a| a.max_failures), Some(5));
    assert_eq!(both.ignored.len(), 2, "{:?}", both.ignored);
    assert_eq!(accrual(&unified(0)), None);
}
