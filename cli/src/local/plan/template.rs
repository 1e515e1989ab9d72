//! A pod template as processes: commands, variables, ports, probes; and what does not apply.
//!
//! `plan` builds one per workload. Two templates with the same hash run the same processes.

use super::super::env::{Settings, Variable};
use super::super::readiness::{Check, Probe};
use super::entries;
use k8s_openapi::api::core::v1::{self, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::Value;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::time::Duration;

/// What each replica of a workload runs.
#[derive(Debug)]
pub(crate) struct Template {
    /// Changes when any field of the pod template does.
    pub(crate) hash: String,
    /// Whether a sidecar runs beside the containers.
    pub(crate) meshed: bool,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) service_account: String,
    /// What replicas are called below `subdomain`; those of a StatefulSet, by their own names.
    pub(crate) hostname: Option<String>,
    /// The headless Service that names replicas.
    pub(crate) subdomain: Option<String>,
    pub(crate) containers: Vec<Container>,
    /// `terminationGracePeriodSeconds`.
    pub(crate) grace: Duration,
}

/// One container as a process.
#[derive(Clone, Debug)]
pub(crate) struct Container {
    pub(crate) name: String,
    /// Command and arguments, before `$(NAME)` is expanded.
    pub(crate) argv: Vec<String>,
    pub(crate) variables: Vec<Variable>,
    pub(crate) ports: Vec<ContainerPort>,
    pub(crate) working_dir: Option<PathBuf>,
    pub(crate) probe: Probe,
}

/// A TCP port a container serves.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ContainerPort {
    pub(crate) name: Option<String>,
    pub(crate) number: u16,
}

const INJECT: &str = "linkerd.io/inject";
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Fields that processes have; `restartPolicy` only as the default says it.
const POD_FIELDS: &[&str] = &[
    "containers",
    "serviceAccountName",
    "serviceAccount",
    "terminationGracePeriodSeconds",
    "hostname",
    "subdomain",
];
const CONTAINER_FIELDS: &[&str] = &[
    "name",
    "command",
    "args",
    "env",
    "envFrom",
    "ports",
    "readinessProbe",
    "workingDir",
];

/// Builds a template, and says per field what of it does not apply.
pub(super) fn build(
    settings: &Settings,
    namespace: &str,
    template: PodTemplateSpec,
) -> (Template, Vec<String>) {
    let hash = hash(&template);
    let metadata = template.metadata.unwrap_or_default();
    let (labels, annotations) = (entries(metadata.labels), entries(metadata.annotations));
    let spec = template.spec.unwrap_or_default();
    let mut problems = unused_pod_fields(&spec);
    let meshed = ![&labels, &annotations]
        .iter()
        .any(|map| map.get(INJECT).is_some_and(|inject| inject == "disabled"));
    let grace = spec
        .termination_grace_period_seconds
        .map_or(DEFAULT_GRACE, |seconds| {
            Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
        });
    let service_account = spec.service_account_name.or(spec.service_account);
    let built = spec
        .containers
        .into_iter()
        .filter_map(|container| build_container(settings, namespace, container, &mut problems));
    let containers = built.collect();
    problems.dedup();
    let service_account = service_account.unwrap_or_else(|| "default".to_string());
    let template = Template {
        hash,
        meshed,
        labels,
        annotations,
        service_account,
        hostname: spec.hostname,
        subdomain: spec.subdomain,
        containers,
        grace,
    };
    (template, problems)
}

fn build_container(
    settings: &Settings,
    namespace: &str,
    container: v1::Container,
    problems: &mut Vec<String>,
) -> Option<Container> {
    let label = format!("container {}", container.name);
    let Some(command) = container
        .command
        .clone()
        .filter(|command| !command.is_empty())
    else {
        problems.push(format!(
            "{label}: has no command and images are not run; add `command:` with what to start"
        ));
        return None;
    };
    let unused = unused_fields(&container, CONTAINER_FIELDS);
    if !unused.is_empty() {
        problems.push(format!(
            "{label}: ignored, since it runs as a process: {}",
            unused.join(", ")
        ));
    }
    let ports = ports(&container, &label, problems);
    let (probe, probe_problem) = probe(container.readiness_probe.as_ref(), &ports);
    problems.extend(probe_problem.map(|problem| format!("{label}: {problem}")));
    let env_from = container.env_from.unwrap_or_default();
    let (variables, missing) =
        settings.variables(namespace, &env_from, &container.env.unwrap_or_default());
    problems.extend(
        missing
            .into_iter()
            .map(|problem| format!("{label}: {problem}")),
    );
    Some(Container {
        name: container.name,
        argv: command
            .into_iter()
            .chain(container.args.unwrap_or_default())
            .collect(),
        variables,
        ports,
        working_dir: container.working_dir.map(PathBuf::from),
        probe,
    })
}

fn ports(container: &v1::Container, label: &str, problems: &mut Vec<String>) -> Vec<ContainerPort> {
    let mut ports = Vec::new();
    for port in container.ports.iter().flatten() {
        let tcp = port
            .protocol
            .as_deref()
            .is_none_or(|protocol| protocol == "TCP");
        match u16::try_from(port.container_port)
            .ok()
            .filter(|number| *number != 0)
        {
            Some(number) if tcp => ports.push(ContainerPort {
                name: port.name.clone(),
                number,
            }),
            _ => problems.push(format!(
                "{label}: port {} is left out; only TCP ports from 1 to 65535 are served",
                port.container_port
            )),
        }
    }
    ports
}

/// The container's readiness probe, or by default a connection to its first port.
fn probe(given: Option<&v1::Probe>, ports: &[ContainerPort]) -> (Probe, Option<String>) {
    let default = ports
        .first()
        .map_or(Check::Running, |port| Check::Tcp { port: port.number });
    let Some(given) = given else {
        return (Probe::by_default(default), None);
    };
    let check = check(given, ports);
    let problem = check.is_none().then(|| {
        "readinessProbe is not one this mesh can make (httpGet without TLS, tcpSocket, exec, on a \
         known port); a connection to the first port is tried instead"
            .to_string()
    });
    let number = |value: Option<i32>, default: u32| {
        value
            .and_then(|value| u32::try_from(value).ok())
            .unwrap_or(default)
    };
    let seconds = |value, default| Duration::from_secs(number(value, default).into());
    let probe = Probe {
        check: check.unwrap_or(default),
        initial_delay: seconds(given.initial_delay_seconds, 0),
        period: seconds(given.period_seconds, 10).max(Duration::from_secs(1)),
        timeout: seconds(given.timeout_seconds, 1).max(Duration::from_secs(1)),
        success_threshold: number(given.success_threshold, 1).max(1),
        failure_threshold: number(given.failure_threshold, 3).max(1),
    };
    (probe, problem)
}

/// What a probe asks; `None` for what cannot be asked here.
fn check(given: &v1::Probe, ports: &[ContainerPort]) -> Option<Check> {
    let number = |port: &IntOrString| match port {
        IntOrString::Int(number) => u16::try_from(*number).ok(),
        IntOrString::String(name) => {
            let mut named = ports.iter().filter(|port| port.name.as_ref() == Some(name));
            named.next().map(|port| port.number)
        }
    };
    if let Some(http) = &given.http_get {
        if http.scheme.as_deref() == Some("HTTPS") {
            return None;
        }
        let path = http.path.clone().unwrap_or_else(|| "/".to_string());
        let headers = http.http_headers.iter().flatten();
        let headers = headers
            .map(|header| (header.name.clone(), header.value.clone()))
            .collect();
        return Some(Check::Http {
            port: number(&http.port)?,
            path,
            headers,
        });
    }
    if let Some(tcp) = &given.tcp_socket {
        return Some(Check::Tcp {
            port: number(&tcp.port)?,
        });
    }
    let argv = given.exec.as_ref()?.command.clone()?;
    (!argv.is_empty()).then_some(Check::Exec { argv })
}

fn unused_pod_fields(spec: &PodSpec) -> Vec<String> {
    let mut unused = unused_fields(spec, POD_FIELDS);
    if spec
        .restart_policy
        .as_deref()
        .is_none_or(|policy| policy == "Always")
    {
        unused.retain(|field| field != "restartPolicy");
    }
    if unused.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "ignored, since it runs as processes: {}",
        unused.join(", ")
    )]
}

fn unused_fields<T: serde::Serialize>(object: &T, used: &[&str]) -> Vec<String> {
    match serde_json::to_value(object) {
        Ok(Value::Object(fields)) => fields
            .into_iter()
            .map(|(field, _)| field)
            .filter(|f| !used.contains(&f.as_str()))
            .collect(),
        _ => Vec::new(),
    }
}

fn hash(template: &PodTemplateSpec) -> String {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(template)
        .unwrap_or_default()
        .hash(&mut hasher);
    format!("{:010x}", hasher.finish() & 0xff_ffff_ffff)
}
