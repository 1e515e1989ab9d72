//! The policy of a pod's port.

use super::*;
use crate::testing::{cluster, key, pod};
use mesh_policy::inbound::{DefaultPolicy, Protocol};

fn ask(manifests: &str, port: u16) -> Option<ServerPolicy> {
    let pod = key("demo", "web-0");
    let answer = Inbound { pod, port }.answer(&cluster(manifests));
    answer.map(|answer| answer.value)
}

#[test]
fn a_pod_has_a_policy_on_every_port() {
    let web = pod("web-0", "web", "10.0.0.1");
    let policy = ask(&web, 80).expect("a policy");
    assert_eq!(policy.meta.name(), "all-unauthenticated");
    assert!(matches!(policy.protocol, Protocol::Detect { .. }));
    assert_eq!(ask(&web, 5432).map(|p| p.protocol), Some(Protocol::Opaque));
    assert_eq!(ask("", 80), None);
}

#[test]
fn annotations_change_it() {
    let annotations = "annotations: {config.linkerd.io/default-inbound-policy: \
                       cluster-unauthenticated, config.linkerd.io/opaque-ports: '80'}";
    let web = pod("web-0", "web", "10.0.0.1").replace("annotations: {}", annotations);
    let networks = vec!["10.0.0.0/8".parse().expect("a network")];
    let want = ServerPolicy::default_named(DefaultPolicy::ClusterUnauthenticated, &networks, true);
    assert_eq!(ask(&web, 80), Some(want));
}
