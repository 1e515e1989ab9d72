//! What has to run for a set of manifests: workloads with their templates, and services.
//!
//! A pure function, called by `supervisor` at the start and on every change. It decides neither
//! names nor addresses of replicas (`reconcile`, `replica`), and starts nothing.

mod advice;
mod template;

use super::env::Settings;
use super::identity;
use super::manifest::Manifests;
use k8s_openapi::api::core::v1::{PodTemplateSpec, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;
pub(super) use template::{Container, Template};

/// The most replicas of one workload: what fits into a mesh's block of addresses.
const MAX_REPLICAS: i32 = 4000;

/// Everything that should run.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) workloads: Vec<Workload>,
    pub(super) services: Vec<ServicePort>,
    pub(super) copies: Vec<serde_json::Value>,
    pub(super) warnings: Vec<String>,
}

/// A number of equal replicas.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub(super) key: WorkloadKey,
    pub(super) replicas: usize,
    /// Replicas of a StatefulSet may start all at once.
    pub(super) parallel: bool,
    pub(super) template: Arc<Template>,
}

/// Which workload.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct WorkloadKey {
    pub(super) namespace: String,
    pub(super) kind: WorkloadKind,
    pub(super) name: String,
}

/// The kinds that are run.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum WorkloadKind {
    Deployment,
    StatefulSet,
    Pod,
}

/// One port of a service that applications of its namespace can reach.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct ServicePort {
    pub(super) namespace: String,
    pub(super) service: String,
    /// The first port also has the short variable.
    pub(super) index: usize,
    pub(super) name: Option<String>,
    pub(super) port: u16,
}

/// Turns manifests into what should run.
pub(super) fn plan(manifests: Manifests) -> Plan {
    let settings = Settings::new(&manifests.config_maps, &manifests.secrets);
    let mut builder = Builder {
        settings,
        plan: Plan::default(),
    };
    builder.plan.warnings = manifests.warnings;
    for deployment in manifests.deployments {
        let spec = deployment.spec.unwrap_or_default();
        let template = spec.template;
        builder.workload(
            WorkloadKind::Deployment,
            &deployment.metadata,
            spec.replicas,
            true,
            template,
        );
    }
    for set in manifests.stateful_sets {
        let spec = set.spec.unwrap_or_default();
        let parallel = spec.pod_management_policy.as_deref() == Some("Parallel");
        if spec
            .volume_claim_templates
            .is_some_and(|claims| !claims.is_empty())
        {
            let name = set.metadata.name.as_deref().unwrap_or_default();
            let warning = format!("statefulset/{name}: spec.volumeClaimTemplates does not apply");
            builder.plan.warnings.push(warning);
        }
        let mut template = spec.template;
        if let Some(pod) = &mut template.spec {
            pod.subdomain = spec.service_name;
        }
        builder.workload(
            WorkloadKind::StatefulSet,
            &set.metadata,
            spec.replicas,
            parallel,
            template,
        );
    }
    for pod in manifests.pods {
        let template = PodTemplateSpec {
            metadata: Some(pod.metadata.clone()),
            spec: pod.spec,
        };
        builder.workload(WorkloadKind::Pod, &pod.metadata, Some(1), true, template);
    }
    let mut plan = builder.plan;
    plan.services = manifests.services.iter().flat_map(service_ports).collect();
    plan.services.sort();
    plan.copies = manifests.copies;
    let advice = advice::objects(&manifests.services, &plan);
    plan.warnings.extend(advice);
    plan
}

// === impl WorkloadKind ===

impl WorkloadKind {
    /// As in `deployment/web`.
    pub(super) fn lower(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "deployment",
            WorkloadKind::StatefulSet => "statefulset",
            WorkloadKind::Pod => "pod",
        }
    }
}

struct Builder {
    settings: Settings,
    plan: Plan,
}

// === impl Builder ===

impl Builder {
    fn workload(
        &mut self,
        kind: WorkloadKind,
        metadata: &ObjectMeta,
        replicas: Option<i32>,
        parallel: bool,
        template: PodTemplateSpec,
    ) {
        let key = WorkloadKey {
            namespace: metadata.namespace.clone().unwrap_or_default(),
            kind,
            name: metadata.name.clone().unwrap_or_default(),
        };
        let label = format!("{}/{}", kind.lower(), key.name);
        let advice = advice::template(metadata, &template);
        let (template, mut problems) = template::build(&self.settings, &key.namespace, template);
        problems.extend(advice);
        let warnings = problems.iter().map(|problem| format!("{label}: {problem}"));
        self.plan.warnings.extend(warnings);
        let wanted = replicas.unwrap_or(1);
        let replicas = wanted.clamp(0, MAX_REPLICAS) as usize;
        if wanted != replicas as i32 {
            let warning = format!("{label}: spec.replicas {wanted} is taken as {replicas}");
            self.plan.warnings.push(warning);
        }
        if template.containers.is_empty() {
            let warning = format!("{label}: is not run, since no container has a command");
            self.plan.warnings.push(warning);
            return;
        }
        let account = &template.service_account;
        if template.meshed && identity::name(&key.namespace, account).is_none() {
            let warning = format!(
                "{label}: is not run, since {}/{account} is no service account; use a-z, 0-9 and -",
                key.namespace
            );
            self.plan.warnings.push(warning);
            return;
        }
        let template = Arc::new(template);
        self.plan.workloads.push(Workload {
            key,
            replicas,
            parallel,
            template,
        });
    }
}

/// The TCP ports of a service in the order of its manifest.
fn service_ports(service: &Service) -> Vec<ServicePort> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let spec = service.spec.clone().unwrap_or_default();
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let ports = spec.ports.unwrap_or_default().into_iter();
    ports
        .filter(|port| {
            port.protocol
                .as_deref()
                .is_none_or(|protocol| protocol == "TCP")
        })
        .enumerate()
        .filter_map(|(index, port)| {
            Some(ServicePort {
                namespace: text(&service.metadata.namespace),
                service: text(&service.metadata.name),
                index,
                name: port.name,
                port: u16::try_from(port.port).ok()?,
            })
        })
        .collect()
}

/// Labels, annotations and the like of a template, which may have no metadata at all.
fn entries(map: Option<BTreeMap<String, String>>) -> BTreeMap<String, String> {
    map.unwrap_or_default()
}

#[cfg(test)]
mod tests;
