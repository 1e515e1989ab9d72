//! The Pods that the controller reads: what runs now, as Kubernetes would describe it.
//!
//! `supervisor` writes them into one file after every change, whole and at once.

use super::component::ComponentState;
use super::files::{self, Readable};
use super::identity::CONTROL_NAMESPACE;
use super::plan::WorkloadKind;
use super::replica::Replica;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// A replica and how its processes are.
#[derive(Debug)]
pub(super) struct PodRecord<'a> {
    pub(super) replica: &'a Replica,
    pub(super) components: &'a [ComponentState],
    pub(super) ready: bool,
}

/// The Pod of a replica.
pub(super) fn pod(record: &PodRecord<'_>) -> Value {
    let PodRecord {
        replica,
        components,
        ready,
    } = record;
    let template = &replica.template;
    let started = components.iter().all(|component| component.pid.is_some());
    let status = |yes: bool| if yes { "True" } else { "False" };
    let condition = |kind: &str, yes: bool| json!({"type": kind, "status": status(yes)});
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": replica.id.name,
            "namespace": replica.id.namespace,
            "labels": labels(replica),
            "annotations": template.annotations,
            "ownerReferences": owner(replica),
        },
        "spec": {
            "nodeName": super::NODE_NAME,
            "serviceAccountName": template.service_account,
            "hostname": hostname(replica),
            "subdomain": template.subdomain,
            "containers": containers(replica),
        },
        "status": {
            "phase": if started || *ready { "Running" } else { "Pending" },
            "podIP": replica.ip.to_string(),
            "podIPs": [{"ip": replica.ip.to_string()}],
            "conditions": [
                condition("Initialized", true),
                condition("PodScheduled", true),
                condition("ContainersReady", *ready),
                condition("Ready", *ready),
            ],
        },
    })
}

/// Writes documents so that a reader sees all of the old or all of the new.
pub(super) fn write(path: &Path, documents: &[Value]) -> io::Result<()> {
    let mut text = String::new();
    for document in documents {
        let yaml = serde_saphyr::to_string(document).map_err(io::Error::other)?;
        text.push_str("---\n");
        text.push_str(&yaml);
        if !yaml.ends_with('\n') {
            text.push('\n');
        }
    }
    files::replace(path, &text, Readable::ByAll)
}

fn labels(replica: &Replica) -> BTreeMap<String, String> {
    let mut labels = replica.template.labels.clone();
    let mut set = |key: &str, value: &str| labels.insert(key.to_string(), value.to_string());
    match replica.workload.kind {
        WorkloadKind::Deployment => {
            set("pod-template-hash", &replica.template.hash);
        }
        WorkloadKind::StatefulSet => {
            set("statefulset.kubernetes.io/pod-name", &replica.id.name);
        }
        WorkloadKind::Pod => {}
    }
    if replica.template.meshed {
        set("linkerd.io/control-plane-ns", CONTROL_NAMESPACE);
    }
    labels
}

/// What the replica is called below its subdomain, as `HOSTNAME.SUBDOMAIN.NAMESPACE.svc`.
fn hostname(replica: &Replica) -> Option<&str> {
    match replica.workload.kind {
        WorkloadKind::StatefulSet => Some(&replica.id.name),
        WorkloadKind::Deployment | WorkloadKind::Pod => replica.template.hostname.as_deref(),
    }
}

fn owner(replica: &Replica) -> Value {
    let workload = &replica.workload;
    let reference = |kind: &str, name: String| {
        let uid = format!("{kind}-{}-{name}", workload.namespace).to_lowercase();
        json!([{"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": uid, "controller": true}])
    };
    match workload.kind {
        WorkloadKind::Deployment => reference(
            "ReplicaSet",
            format!("{}-{}", workload.name, replica.template.hash),
        ),
        WorkloadKind::StatefulSet => reference("StatefulSet", workload.name.clone()),
        WorkloadKind::Pod => json!([]),
    }
}

fn containers(replica: &Replica) -> Vec<Value> {
    let containers = replica.template.containers.iter();
    containers
        .map(|container| {
            let ports = container.ports.iter().map(|port| match &port.name {
                Some(name) => json!({"containerPort": port.number, "name": name}),
                None => json!({"containerPort": port.number}),
            });
            json!({"name": container.name, "ports": ports.collect::<Vec<_>>()})
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::manifest::{Source, load};
    use super::super::mesh::MeshInfo;
    use super::super::plan::plan;
    use super::super::replica::replica;
    use super::*;
    use std::net::Ipv4Addr;

    fn made(kind: &str) -> Replica {
        let text = "apiVersion: apps/v1\nkind: KIND\nmetadata: {name: web, namespace: demo}\nspec:\n  selector: {}\n  serviceName: all\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      containers: [{name: web, command: [web], ports: [{containerPort: 80, name: http}]}]\n";
        let source = Source::Embedded {
            name: "app.yaml",
            text: text.replace("KIND", kind),
        };
        let plan = plan(load(&source).unwrap());
        let controller = Ipv4Addr::new(127, 64, 0, 1);
        let mesh = MeshInfo {
            controller,
            program: "x".into(),
            state: "s".into(),
        };
        let ip = Ipv4Addr::new(127, 64, 0, 2);
        replica(&mesh, &[], &plan.workloads[0], "web-1", ip, vec![30000])
    }

    #[test]
    fn a_pod_reads_back_as_kubernetes_has_it() {
        let replica = made("Deployment");
        let record = PodRecord {
            replica: &replica,
            components: &[],
            ready: true,
        };
        let pod: k8s_openapi::api::core::v1::Pod = serde_json::from_value(pod(&record)).unwrap();
        let labels = pod.metadata.labels.unwrap();
        assert_eq!(labels["linkerd.io/control-plane-ns"], "gossamer");
        assert_eq!(labels["pod-template-hash"], replica.template.hash);
        let owner = &pod.metadata.owner_references.unwrap()[0];
        assert_eq!(owner.name, format!("web-{}", replica.template.hash));
        let status = pod.status.unwrap();
        assert_eq!(status.pod_ip.as_deref(), Some("127.64.0.2"));
        let ready =
            |c: &k8s_openapi::api::core::v1::PodCondition| c.type_ == "Ready" && c.status == "True";
        assert!(status.conditions.unwrap().iter().any(ready));
        let spec = pod.spec.unwrap();
        let port = &spec.containers[0].ports.as_ref().unwrap()[0];
        assert_eq!(
            (port.container_port, port.name.as_deref()),
            (80, Some("http"))
        );
    }

    #[test]
    fn replicas_of_a_stateful_set_have_names_below_its_service() {
        for (kind, names) in [
            ("StatefulSet", [json!("web-1"), json!("all")]),
            ("Deployment", [Value::Null, Value::Null]),
        ] {
            let replica = made(kind);
            let record = PodRecord {
                replica: &replica,
                components: &[],
                ready: true,
            };
            let spec = &pod(&record)["spec"];
            assert_eq!([&spec["hostname"], &spec["subdomain"]], names.each_ref());
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pods.yaml");
        write(&path, &[json!({"a": 1}), json!({"on": "yes"})]).unwrap();
        write(&path, &[json!({"a": "0644"})]).unwrap();
        let read: Vec<Value> =
            serde_saphyr::from_multiple(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(read, [json!({"a": "0644"})]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
