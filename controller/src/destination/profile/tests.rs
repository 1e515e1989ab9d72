//! What is known of targets by name and by address.

use super::*;
use crate::testing::{cluster, key, pod, service};

fn web() -> String {
    service(
        "web",
        "config.linkerd.io/opaque-ports: '81'",
        "{clusterIP: 10.1.0.1, selector: {app: web}, ports: [{name: a, port: 80}, {name: b, port: 81}]}",
    )
}

fn ask(manifests: &str, question: &Profile) -> DestinationProfile {
    match question.answer(&cluster(manifests)) {
        ProfileAnswer::Profile(profile) => profile.value,
        ProfileAnswer::Ambiguous(problem) => panic!("{problem}"),
    }
}

fn named(name: &str, hostname: Option<&str>, port: u16) -> Profile {
    let service = key("demo", name);
    let hostname = hostname.map(Arc::from);
    Profile::Name(ServiceName { service, hostname }, port)
}

fn at(addr: &str) -> Profile {
    Profile::Address(addr.parse().expect("an address"))
}

#[test]
fn a_service_by_name_and_by_address() {
    for question in [named("web", None, 80), at("10.1.0.1:80")] {
        let profile = ask(&web(), &question);
        assert_eq!(profile.fully_qualified_name, "web.demo.svc.cluster.local");
        assert!(!profile.opaque_protocol && profile.endpoint.is_none());
        let meta = service_meta(
            cluster(&web()).service(&key("demo", "web")).expect("web"),
            80,
        );
        assert_eq!(profile.parent_ref, Some(Metadata::from(&*meta)));
        assert_eq!(profile.retry_budget, empty().retry_budget);
    }
    assert!(ask(&web(), &at("10.1.0.1:81")).opaque_protocol);
}

#[test]
fn what_is_not_known_has_an_empty_profile() {
    for question in [
        named("web", None, 82),
        named("api", None, 80),
        at("10.1.0.1:82"),
    ] {
        assert_eq!(ask(&web(), &question), empty(), "{question:?}");
    }
    let stranger = ask(&web(), &at("192.0.2.1:5432"));
    assert!(stranger.opaque_protocol && stranger.parent_ref.is_none());
    let endpoint = stranger.endpoint.expect("the address itself");
    assert!(endpoint.metric_labels.is_empty());
}

#[test]
fn a_pod_by_address_and_by_name_need_not_be_ready() {
    let manifests = web() + &pod("web-0", "web", "10.0.0.1").replace("'True'", "'False'");
    for question in [at("10.0.0.1:80"), named("web", Some("web-0"), 80)] {
        let profile = ask(&manifests, &question);
        let endpoint = profile.endpoint.expect("the pod");
        assert_eq!(endpoint.metric_labels["pod"], "web-0");
        assert_eq!(profile.fully_qualified_name, "");
    }
    assert_eq!(ask(&manifests, &named("web", Some("web-9"), 80)), empty());
}

#[test]
fn two_services_on_one_address_are_refused() {
    let manifests = web() + &service("api", "", "{clusterIP: 10.1.0.1, ports: [{port: 80}]}");
    let answer = at("10.1.0.1:80").answer(&cluster(&manifests));
    let problem = "10.1.0.1 is claimed by services demo/api and demo/web";
    assert_eq!(answer, ProfileAnswer::Ambiguous(problem.to_owned()));
}
