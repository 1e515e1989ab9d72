//! What of the manifests the controller will not act on, or not as it is written.
//!
//! Pure, for `plan`. Annotations and Services are read by the controller's own reader, so that what
//! is said before the start is what holds afterwards; whether Services fit the workloads is seen
//! here, where all of both is known.

use super::{Plan, Workload, entries};
use crate::parts::{Labels, PROXY_ANNOTATIONS, SERVICE_ANNOTATIONS, object};
use k8s_openapi::api::core::v1::{Namespace, Pod, PodTemplateSpec, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use std::collections::BTreeMap;

/// Families of annotations of which each one that is not acted on is a mistake.
const FAMILIES: [&str; 2] = ["config.linkerd.io/", "balancer.linkerd.io/"];
/// Read by `replica`, which starts the sidecar.
const LOG_LEVEL: &str = "config.linkerd.io/proxy-log-level";
/// Labels that replicas get when they start.
const GIVEN_LABELS: [&str; 2] = ["pod-template-hash", "statefulset.kubernetes.io/pod-name"];

/// What a pod template says in vain, and the metadata of the workload around it.
pub(super) fn template(workload: &ObjectMeta, template: &PodTemplateSpec) -> Vec<String> {
    let metadata = template.metadata.clone().unwrap_or_default();
    let known: Vec<_> = [PROXY_ANNOTATIONS, &[LOG_LEVEL]].concat();
    let mut problems = unknown(&metadata, &known);
    let pod = Pod {
        metadata,
        spec: template.spec.clone(),
        status: None,
    };
    problems.extend(warnings(|warnings| _ = object::Pod::read(pod, warnings)));
    let own = template
        .metadata
        .as_ref()
        .and_then(|it| it.annotations.as_ref());
    let outside = entries(workload.annotations.clone()).into_keys();
    let misplaced =
        outside.filter(|name| of_family(name) && own.is_none_or(|own| !own.contains_key(name)));
    problems.extend(misplaced.map(|name| {
        format!("{name} has no effect here; move it to spec.template.metadata.annotations")
    }));
    problems
}

/// What Services, EndpointSlices and Namespaces say in vain.
pub(super) fn objects(services: &[Service], plan: &Plan) -> Vec<String> {
    let mut problems = Vec::new();
    for service in services {
        let metadata = &service.metadata;
        let found = unknown(metadata, SERVICE_ANNOTATIONS).into_iter();
        let read =
            |warnings: &mut object::Warnings| object::Service::read(service.clone(), warnings);
        let mut own = object::Warnings::default();
        let kept = read(&mut own);
        let all = found.chain(own.0).chain(unmatched(&kept, plan));
        problems.extend(labelled("service", metadata, all));
    }
    for copy in &plan.copies {
        problems.extend(copied(copy));
    }
    problems
}

fn copied(copy: &Value) -> Vec<String> {
    let kind = copy["kind"].as_str().unwrap_or_default();
    if kind == "Namespace"
        && let Ok(namespace) = serde_json::from_value::<Namespace>(copy.clone())
    {
        let metadata = namespace.metadata.clone();
        let found = unknown(&metadata, PROXY_ANNOTATIONS).into_iter();
        let read = warnings(|warnings| _ = object::Namespace::read(namespace, warnings));
        return labelled("namespace", &metadata, found.chain(read));
    }
    if kind == "EndpointSlice"
        && let Ok(slice) = serde_json::from_value::<EndpointSlice>(copy.clone())
    {
        let metadata = slice.metadata.clone();
        let read = warnings(|warnings| _ = object::Slice::read(slice, warnings));
        return labelled("endpointslice", &metadata, read);
    }
    Vec::new()
}

/// What of a Service no workload of the plan fits.
fn unmatched(service: &object::Service, plan: &Plan) -> Vec<String> {
    if service.external || service.selector.is_empty() {
        return Vec::new();
    }
    let of_namespace = |workload: &&Workload| *workload.key.namespace == *service.key.namespace;
    let selected = plan.workloads.iter().filter(of_namespace);
    let selected =
        selected.filter(|workload| selects(&service.selector, &workload.template.labels));
    let selected: Vec<_> = selected.collect();
    if selected.is_empty() {
        let problem = "spec.selector matches no pod of these manifests; nothing will answer";
        return vec![problem.to_string()];
    }
    let has = |name: &str| {
        let containers = selected.iter().flat_map(|it| &it.template.containers);
        let mut ports = containers.flat_map(|container| &container.ports);
        ports.any(|port| port.name.as_deref() == Some(name))
    };
    let ports = service.ports.iter().filter_map(|port| match &port.target {
        object::TargetPort::Named(name) if !has(name) => Some(format!(
            "port {}: no pod that it selects has a port named {name:?}; nothing will answer",
            port.port
        )),
        _ => None,
    });
    ports.collect()
}

fn selects(selector: &Labels, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(name, value)| {
        GIVEN_LABELS.contains(&name) || labels.get(name).is_some_and(|own| own == value)
    })
}

/// Annotations of the mesh's own families that nothing reads.
fn unknown(metadata: &ObjectMeta, known: &[&str]) -> Vec<String> {
    let names = metadata.annotations.iter().flat_map(BTreeMap::keys);
    let unknown = names.filter(|name| of_family(name) && !known.contains(&name.as_str()));
    unknown
        .map(|name| {
            let near = known.iter().filter(|known| alike(known, name));
            let near = near.map(|known| format!("; did you mean {known}?"));
            format!("{name} is not acted on{}", near.collect::<String>())
        })
        .collect()
}

fn of_family(name: &str) -> bool {
    FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Whether one is the other but for a letter, or two that stand together.
fn alike(one: &str, other: &str) -> bool {
    let same = |pair: &(char, char)| pair.0 == pair.1;
    let front = one.chars().zip(other.chars()).take_while(same).count();
    let back = one.chars().rev().zip(other.chars().rev());
    let back = back.take_while(same).count();
    let rest = |text: &str| text.chars().count().saturating_sub(front + back);
    let (one_rest, other_rest) = (rest(one), rest(other));
    one_rest.max(other_rest) <= 1 || (one_rest, other_rest) == (2, 2)
}

fn warnings(read: impl FnOnce(&mut object::Warnings)) -> Vec<String> {
    let mut warnings = object::Warnings::default();
    read(&mut warnings);
    warnings.0
}

fn labelled(
    kind: &str,
    metadata: &ObjectMeta,
    problems: impl IntoIterator<Item = String>,
) -> Vec<String> {
    let name = metadata.name.as_deref().unwrap_or_default();
    let problems = problems.into_iter();
    problems
        .map(|problem| format!("{kind}/{name}: {problem}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_is_told_from_another_name() {
        let name = "opaque-ports";
        for typo in [
            "opaque-prots",
            "opaque-port",
            "opaque-portss",
            "opaqye-ports",
        ] {
            assert!(alike(name, typo), "{typo}");
        }
        for other in ["opaque", "skip-inbound-ports", "opaque-targets"] {
            assert!(!alike(name, other), "{other}");
        }
    }
}
