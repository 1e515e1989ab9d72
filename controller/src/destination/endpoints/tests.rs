//! What backs a Service, and what that carries.

use super::*;
use crate::testing::{cluster, key, pod, service};
use mesh_policy::endpoint::HintedProtocol;

fn ask(manifests: &[String], hostname: Option<&str>, port: u16) -> (Existence, Vec<Endpoint>) {
    let target = ServiceName {
        service: key("demo", "web"),
        hostname: hostname.map(Arc::from),
    };
    let set = Endpoints { target, port }.answer(&cluster(&manifests.concat()));
    assert_eq!(set.service, key("demo", "web"));
    (set.existence, set.endpoints().to_vec())
}

fn addrs(manifests: &[String], hostname: Option<&str>, port: u16) -> Vec<String> {
    let (_, endpoints) = ask(manifests, hostname, port);
    endpoints.iter().map(|e| e.addr.to_string()).collect()
}

fn web(spec: &str) -> String {
    service("web", "", spec)
}

fn slice(name: &str, ports: &str, endpoints: &str) -> String {
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
         metadata: {{name: {name}, namespace: demo, labels: {{kubernetes.io/service-name: web}}}}\n\
         addressType: IPv4\nports: {ports}\nendpoints: {endpoints}\n"
    )
}

#[test]
fn ready_pods_back_a_selector() {
    let manifests = [
        web(
            "{selector: {app: web}, ports: [{name: a, port: 80, targetPort: http}, {name: b, port: 81}]}",
        ),
        pod("web-0", "web", "10.0.0.1"),
        pod("web-1", "web", "10.0.0.2"),
        pod("unready", "web", "10.0.0.3").replace("'True'", "'False'"),
        pod("done", "web", "10.0.0.4").replace("Running", "Succeeded"),
        pod("dying", "web", "10.0.0.5").replace(
            "metadata: {",
            "metadata: {deletionTimestamp: '2026-01-01T00:00:00Z', ",
        ),
        pod("unnamed", "web", "10.0.0.6").replace("name: http", "name: other"),
        pod("no-ip", "web", "''"),
        pod("api-0", "api", "10.0.0.8"),
    ];
    assert_eq!(
        addrs(&manifests, None, 80),
        ["10.0.0.1:8080", "10.0.0.2:8080"]
    );
    assert_eq!(
        addrs(&manifests, None, 81),
        ["10.0.0.1:81", "10.0.0.2:81", "10.0.0.6:81"]
    );
    assert_eq!(
        addrs(&manifests, None, 82),
        [""; 0],
        "a port that it does not have"
    );
}

#[test]
fn what_exists() {
    let none: &[String] = &[];
    assert_eq!(ask(none, None, 80), (Existence::Missing, vec![]));
    let empty = [web("{ports: [{port: 80}]}"), pod("p", "web", "10.0.0.1")];
    assert_eq!(ask(&empty, None, 80), (Existence::Exists, vec![]));
    let external = [web(
        "{type: ExternalName, externalName: example.com, ports: [{port: 80}]}",
    )];
    assert_eq!(ask(&external, None, 80), (Existence::External, vec![]));
}

#[test]
fn a_pod_of_a_headless_service_has_a_name() {
    let manifests = [
        web("{clusterIP: None, selector: {app: web}, ports: [{port: 80}]}"),
        pod("web-0", "web", "10.0.0.1"),
        pod("web-1", "web", "10.0.0.2"),
        pod("web-2", "web", "10.0.0.3").replace("subdomain: web", "subdomain: other"),
    ];
    assert_eq!(addrs(&manifests, None, 80).len(), 3);
    assert_eq!(addrs(&manifests, Some("web-1"), 80), ["10.0.0.2:80"]);
    assert_eq!(addrs(&manifests, Some("web-2"), 80), [""; 0]);
}

#[test]
fn slices_come_before_selectors() {
    let manifests = [
        web("{selector: {app: web}, ports: [{name: http, port: 80}, {name: admin, port: 81}]}"),
        pod("web-0", "web", "10.0.0.1"),
        slice(
            "a",
            "[{name: http, port: 8080}]",
            "[{addresses: [10.0.0.7], hostname: h, zone: z1}]",
        ),
        slice(
            "b",
            "[{name: http, port: 9090}]",
            "[{addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-0}}]",
        ),
    ];
    assert_eq!(
        addrs(&manifests, None, 80),
        ["10.0.0.1:9090", "10.0.0.7:8080"]
    );
    assert_eq!(addrs(&manifests, None, 81), [""; 0]);
    assert_eq!(addrs(&manifests, Some("h"), 80), ["10.0.0.7:8080"]);
    let (_, endpoints) = ask(&manifests, None, 80);
    assert_eq!(endpoints[0].labels["pod"], "web-0");
    assert!(endpoints[1].labels.is_empty());
}

#[test]
fn one_address_family_is_enough() {
    let both = "[{addresses: ['fd00::1']}, {addresses: [10.0.0.1]}]";
    let manifests = [
        web("{ports: [{port: 80}]}"),
        slice("a", "[{port: 8080}]", both),
    ];
    assert_eq!(addrs(&manifests, None, 80), ["10.0.0.1:8080"]);
    let manifests = [
        web("{ports: [{port: 80}]}"),
        slice("a", "[{port: 8080}]", "[{addresses: ['fd00::1']}]"),
    ];
    assert_eq!(addrs(&manifests, None, 80), ["[fd00::1]:8080"]);
}

#[test]
fn what_an_endpoint_carries() {
    let owned = pod("web-abc-1", "web", "10.0.0.1").replace(
        "labels: {",
        "ownerReferences: [{apiVersion: a, kind: ReplicaSet, name: web-abc, uid: u, controller: true}], \
         labels: {pod-template-hash: abc, ",
    );
    let manifests = [
        web("{selector: {app: web}, ports: [{name: a, port: 80}, {name: b, port: 5432}]}"),
        owned,
    ];
    let (_, endpoints) = ask(&manifests, None, 80);
    let endpoint = &endpoints[0];
    let labels: Vec<_> = endpoint
        .labels
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    let want = [
        "control_plane_ns=gossamer",
        "deployment=web",
        "pod=web-abc-1",
        "pod_template_hash=abc",
        "serviceaccount=sa",
    ];
    assert_eq!(labels, want);
    assert_eq!(endpoint.weight, Endpoint::WEIGHT);
    assert_eq!(
        (endpoint.hint.protocol, &endpoint.tls),
        (HintedProtocol::Unknown, &None)
    );
    let (_, opaque) = ask(&manifests, None, 5432);
    assert_eq!(opaque[0].hint.protocol, HintedProtocol::Opaque);
}

#[test]
fn what_is_sent_is_encoded_once() {
    let one = |ip: &str| {
        let manifests = [
            web("{selector: {app: web}, ports: [{port: 80}]}"),
            pod("web-0", "web", ip),
        ];
        let target = ServiceName {
            service: key("demo", "web"),
            hostname: None,
        };
        Arc::new(Endpoints { target, port: 80 }.answer(&cluster(&manifests.concat())))
    };
    let (first, second) = (one("10.0.0.1"), one("10.0.0.2"));
    assert!(Arc::ptr_eq(&first.all(), &first.all()));
    assert!(Arc::ptr_eq(&second.since(&first), &second.since(&first)));
    let lagging = one("10.0.0.9");
    assert!(!Arc::ptr_eq(&second.since(&first), &second.since(&lagging)));
}
