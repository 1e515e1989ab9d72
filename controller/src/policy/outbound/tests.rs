//! The policy of destinations by name and by address.

use super::*;
use crate::testing::{cluster, key, pod, service};
use mesh_policy::outbound::{BackendKind, Distribution, Protocol};
use std::sync::Arc;

fn web(annotations: &str) -> String {
    let ports = "[{name: a, port: 80}, {name: b, port: 81, appProtocol: http}, \
                 {name: c, port: 82, appProtocol: kubernetes.io/h2c}, {name: d, port: 5432}]";
    let spec = format!("{{clusterIP: 10.1.0.1, selector: {{app: web}}, ports: {ports}}}");
    service("web", annotations, &spec)
}

fn ask(manifests: &str, question: &Outbound) -> Option<OutboundPolicy> {
    let answer = question.answer(&cluster(manifests));
    answer.map(|answer| answer.value)
}

fn named(name: &str, hostname: Option<&str>, port: u16) -> Outbound {
    let service = key("demo", name);
    let hostname = hostname.map(Arc::from);
    Outbound::Name(ServiceName { service, hostname }, port)
}

fn at(addr: &str) -> Outbound {
    Outbound::address(addr.parse().expect("an address"))
}

/// Where everything goes, and how it is read.
fn told(policy: Option<OutboundPolicy>) -> String {
    let Some(policy) = policy else {
        return "nothing".to_owned();
    };
    let (read, distribution) = match policy.protocol {
        Protocol::Detect { http1, .. } => ("detect", http1.route.distribution),
        Protocol::Http1(http) => ("http1", http.route.distribution),
        Protocol::Http2(http) => ("http2", http.route.distribution),
        Protocol::Grpc(http) => ("grpc", http.route.distribution),
        Protocol::Opaque(opaque) => ("opaque", opaque.route.distribution),
        Protocol::Tls(opaque) => ("tls", opaque.route.distribution),
    };
    let target = match distribution {
        Distribution::FirstAvailable(backends) => match &backends[0].kind {
            BackendKind::Forward(endpoint) => endpoint.addr.to_string(),
            BackendKind::Balance { path, .. } => path.to_string(),
        },
        Distribution::Empty => "nowhere".to_owned(),
        Distribution::RandomAvailable(_) => "anywhere".to_owned(),
    };
    format!("{read} {target}")
}

#[test]
fn by_name_and_by_address() {
    let manifests = web("") + &pod("web-0", "web", "10.0.0.1");
    let fqn = "web.demo.svc.cluster.local";
    let table = [
        (named("web", None, 80), format!("detect {fqn}:80")),
        (named("web", None, 81), format!("http1 {fqn}:81")),
        (named("web", None, 82), format!("http2 {fqn}:82")),
        (named("web", None, 5432), format!("opaque {fqn}:5432")),
        (named("web", None, 9), "detect nowhere".to_owned()),
        (
            named("web", Some("web-0"), 80),
            format!("detect web-0.{fqn}:80"),
        ),
        (named("api", None, 80), "nothing".to_owned()),
        (at("10.1.0.1:80"), format!("detect {fqn}:80")),
        (at("[::ffff:10.1.0.1]:81"), format!("http1 {fqn}:81")),
        (at("10.0.0.1:8080"), "detect 10.0.0.1:8080".to_owned()),
        (at("10.0.0.1:5432"), "opaque 10.0.0.1:5432".to_owned()),
        (at("10.0.0.2:80"), "nothing".to_owned()),
    ];
    for (question, want) in table {
        assert_eq!(told(ask(&manifests, &question)), want, "{question:?}");
    }
    let external = service(
        "web",
        "",
        "{type: ExternalName, externalName: x, ports: [{port: 80}]}",
    );
    assert_eq!(ask(&external, &named("web", None, 80)), None);
}

#[test]
fn annotations_of_the_service() {
    let opaque = web("config.linkerd.io/opaque-ports: '81'");
    let told_of = |port| told(ask(&opaque, &named("web", None, port)));
    assert_eq!(told_of(81), "opaque web.demo.svc.cluster.local:81");
    assert_eq!(told_of(5432), "detect web.demo.svc.cluster.local:5432");

    let accrual = web("balancer.linkerd.io/failure-accrual: consecutive");
    let policy = ask(&accrual, &named("web", None, 81)).expect("a policy");
    let Protocol::Http1(http) = policy.protocol else {
        panic!("not HTTP/1");
    };
    assert_eq!(http.failure_accrual.map(|a| a.max_failures), Some(7));
}
