//! Clusters for tests, written as manifests.

use crate::{
    cluster::{Cluster, Settings},
    identity::name::Identities,
    object::Key,
    source::{File, Load, manifest},
    store::Store,
};
use mesh_policy::inbound::DefaultPolicy;
use std::sync::Arc;

pub(crate) fn settings() -> Settings {
    Settings {
        control_namespace: "gossamer".into(),
        cluster_domain: "cluster.local".into(),
        identities: None,
        default_opaque_ports: "5432".parse().expect("ports"),
        default_policy: DefaultPolicy::AllUnauthenticated,
        cluster_networks: vec!["10.0.0.0/8".parse().expect("a network")],
    }
}

/// A cluster whose pods have no identities.
pub(crate) fn cluster(manifests: &str) -> Cluster {
    cluster_with(settings(), manifests)
}

/// A cluster whose meshed pods have identities.
pub(crate) fn secure_cluster(manifests: &str) -> Cluster {
    let settings = Settings {
        identities: Identities::new("gossamer", "cluster.local"),
        ..settings()
    };
    cluster_with(settings, manifests)
}

fn cluster_with(settings: Settings, manifests: &str) -> Cluster {
    let mut cluster = Cluster::new(settings);
    cluster.apply(Store::default().apply(&load(manifests)));
    cluster
}

/// A source of one file.
pub(crate) fn load(manifests: &str) -> Load {
    let manifests = manifest::parse(manifests).expect("manifests");
    let file = File {
        manifests: Arc::new(manifests),
        error: None,
    };
    Load {
        files: [("all.yaml".into(), file)].into(),
        problem: None,
    }
}

pub(crate) fn key(namespace: &str, name: &str) -> Key {
    Key::new(namespace, name)
}

/// `spec` is what follows `spec: ` in flow style.
pub(crate) fn service(name: &str, annotations: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\n\
         metadata: {{name: {name}, namespace: demo, annotations: {{{annotations}}}}}\nspec: {spec}\n"
    )
}

/// A ready, meshed pod with the label `app`.
pub(crate) fn pod(name: &str, app: &str, ip: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\n\
         metadata: {{name: {name}, namespace: demo, annotations: {{}}, \
         labels: {{app: {app}, linkerd.io/control-plane-ns: gossamer}}}}\n\
         spec: {{hostname: {name}, subdomain: {app}, serviceAccountName: sa, \
         containers: [{{name: c, ports: [{{name: http, containerPort: 8080}}]}}]}}\n\
         status: {{phase: Running, podIP: {ip}, conditions: [{{type: Ready, status: 'True'}}]}}\n"
    )
}
