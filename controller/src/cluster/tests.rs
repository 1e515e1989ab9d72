//! What objects say about each other.

use super::*;
use crate::{
    store::Store,
    testing::{cluster, key, load, pod, service, settings},
};

#[test]
fn who_has_an_address() {
    let manifests = [
        service("a", "", "{clusterIP: 10.1.0.1}"),
        service("b", "", "{clusterIP: 10.1.0.1}"),
        pod("p", "a", "10.0.0.1"),
        pod("done", "a", "10.0.0.1").replace("Running", "Succeeded"),
    ];
    let cluster = cluster(&manifests.concat());
    let ip = |ip: &str| ip.parse().expect("an address");
    let services: Vec<_> = cluster
        .services_at(ip("10.1.0.1"))
        .map(|s| &*s.key.name)
        .collect();
    assert_eq!(services, ["a", "b"]);
    let pod = cluster.pod_at(ip("10.0.0.1")).expect("a pod");
    assert_eq!(&*pod.key.name, "p");
    assert!(cluster.pod_at(ip("10.0.0.2")).is_none());
}

#[test]
fn an_address_that_moves_is_found_where_it_went() {
    let mut store = Store::default();
    let mut cluster = Cluster::new(settings());
    let mut put = |manifests: String| cluster_put(&mut cluster, &mut store, &manifests);
    put(pod("p", "a", "10.0.0.1"));
    let touched = put(pod("p", "a", "10.0.0.2"));
    assert_eq!(touched.ips.len(), 2);
    put(pod("q", "a", "10.0.0.2"));
    let ip = |ip: &str| ip.parse().expect("an address");
    assert!(cluster.pod_at(ip("10.0.0.1")).is_none());
    let pod = cluster.pod_at(ip("10.0.0.2")).expect("a pod");
    assert_eq!(&*pod.key.name, "q");
}

fn cluster_put(cluster: &mut Cluster, store: &mut Store, manifests: &str) -> Touched {
    cluster.apply(store.apply(&load(manifests)))
}

#[test]
fn everything_can_go_again() {
    let mut store = Store::default();
    let mut cluster = Cluster::new(settings());
    let slice = "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata: {name: s, namespace: demo, labels: {kubernetes.io/service-name: a}}\n\
                 addressType: IPv4\nendpoints: []\n";
    let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: demo}\n";
    let replica_set =
        "---\napiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: r, namespace: demo}\n";
    let all = [
        service("a", "", "{clusterIP: 10.1.0.1}"),
        pod("p", "a", "10.0.0.1"),
        slice.to_owned(),
        namespace.to_owned(),
        replica_set.to_owned(),
    ];
    cluster_put(&mut cluster, &mut store, &all.concat());
    assert_eq!(cluster.slices(&key("demo", "a")).count(), 1);
    let touched = cluster_put(&mut cluster, &mut store, "");
    assert!(touched.service(&key("demo", "a")) && touched.is_pod(&key("demo", "p")));
    assert!(cluster.namespaces.is_empty());
    assert!(cluster.pods_by_ip.is_empty() && cluster.services_by_ip.is_empty());
}

#[test]
fn owners_as_users_know_them() {
    let owned = |by: &str, hash: &str| {
        let labels = format!("labels: {{pod-template-hash: {hash},");
        let owners = format!(
            "ownerReferences: [{{apiVersion: a, kind: {by}, name: web-abc, uid: u, controller: true}}], {labels}"
        );
        pod("p", "a", "10.0.0.1").replace("labels: {", &owners)
    };
    let replica_set = |owners: &str| {
        format!(
            "---\napiVersion: apps/v1\nkind: ReplicaSet\n\
             metadata: {{name: web-abc, namespace: demo, ownerReferences: [{owners}]}}\n"
        )
    };
    let by_set = "{apiVersion: a, kind: Rollout, name: web, uid: u, controller: true}";
    let table = [
        (pod("p", "a", "10.0.0.1"), "Pod", "p"),
        (owned("StatefulSet", "x"), "StatefulSet", "web-abc"),
        (owned("ReplicaSet", "abc"), "Deployment", "web"),
        (owned("ReplicaSet", "other"), "ReplicaSet", "web-abc"),
        (
            owned("ReplicaSet", "abc") + &replica_set(by_set),
            "Rollout",
            "web",
        ),
        (
            owned("ReplicaSet", "abc") + &replica_set(""),
            "ReplicaSet",
            "web-abc",
        ),
    ];
    for (manifests, kind, name) in table {
        let cluster = cluster(&manifests);
        let pod = cluster.pod(&key("demo", "p")).expect("a pod");
        let owner = cluster.owner(pod);
        assert_eq!((&*owner.kind, &*owner.name), (kind, name));
    }
}

#[test]
fn the_nearest_annotation_wins() {
    let namespace = |annotations: &str| {
        format!(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: demo, annotations: {{{annotations}}}}}\n"
        )
    };
    let opaque = "config.linkerd.io/opaque-ports";
    let pod_with = |annotations: &str| {
        let ours = format!("annotations: {{{annotations}}}");
        pod("p", "a", "10.0.0.1").replace("annotations: {}", &ours)
    };
    let table = [
        (pod("p", "a", "10.0.0.1"), [true, false, false]),
        (pod_with(&format!("{opaque}: '81'")), [false, true, false]),
        (pod_with(&format!("{opaque}: ''")), [false, false, false]),
        (
            pod("p", "a", "10.0.0.1") + &namespace(&format!("{opaque}: '82'")),
            [false, false, true],
        ),
        (
            pod_with(&format!("{opaque}: '81'")) + &namespace(&format!("{opaque}: '82'")),
            [false, true, false],
        ),
    ];
    for (manifests, want) in table {
        let cluster = cluster(&manifests);
        let pod = cluster.pod(&key("demo", "p")).expect("a pod");
        assert_eq!(
            [5432, 81, 82].map(|port| cluster.pod_port_opaque(pod, port)),
            want
        );
    }
    let policy = "config.linkerd.io/default-inbound-policy";
    let by_namespace = namespace(&format!("{policy}: deny"));
    let table = [
        (pod("p", "a", "10.0.0.1"), DefaultPolicy::AllUnauthenticated),
        (
            pod("p", "a", "10.0.0.1") + &by_namespace,
            DefaultPolicy::Deny,
        ),
        (
            pod_with(&format!("{policy}: audit")) + &by_namespace,
            DefaultPolicy::Audit,
        ),
    ];
    for (manifests, want) in table {
        let cluster = cluster(&manifests);
        let pod = cluster.pod(&key("demo", "p")).expect("a pod");
        assert_eq!(cluster.default_policy(pod), want);
    }
}
