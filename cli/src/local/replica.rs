//! One replica in full: its commands and environments, with its own addresses and ports filled in.
//!
//! A pure function, called by `supervisor` for each replica it starts; `pod` runs the result.

use super::env::{self, PodFields};
use super::identity;
use super::mesh::MeshInfo;
use super::plan::{Container, ServicePort, Template, Workload, WorkloadKey};
use super::readiness::{Check, Probe};
use crate::parts::object;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

/// First local port of a replica that leads to a service.
const FIRST_OUTBOUND_PORT: u16 = 20_001;
/// The most ports mapped to services; those beyond it are reached through `http_proxy`.
const MAX_OUTBOUND_PORTS: usize = 3_000;

/// What a mesh on one machine means by the cluster.
const LOOPBACK: &str = "127.0.0.0/8";

const OUTBOUND: u16 = 4140;
const INBOUND: u16 = 4143;
const CONTROL: u16 = 4190;
/// Where a sidecar answers `/ready` and `/metrics`.
pub(super) const ADMIN: u16 = 4191;

/// Which pod.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct PodId {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// A replica ready to be started.
#[derive(Clone, Debug)]
pub(super) struct Replica {
    pub(super) id: PodId,
    pub(super) workload: WorkloadKey,
    pub(super) ip: Ipv4Addr,
    pub(super) template: Arc<Template>,
    pub(super) sidecar: Option<ProcessSpec>,
    pub(super) containers: Vec<ProcessSpec>,
    /// Local ports taken for it, in the order of the template's container ports.
    pub(super) app_ports: Vec<u16>,
}

/// A command to keep running.
#[derive(Clone, Debug)]
pub(super) struct ProcessSpec {
    /// The container's name.
    pub(super) name: String,
    /// Name of its log, `POD.CONTAINER`.
    pub(super) log: String,
    pub(super) argv: Vec<OsString>,
    /// Added to what the supervisor itself was given.
    pub(super) env: BTreeMap<String, String>,
    pub(super) working_dir: Option<PathBuf>,
    pub(super) probe: Probe,
    /// Where the probe finds the process; its port is the probe's.
    pub(super) probe_addr: SocketAddr,
}

/// Fills in a replica. `app_ports` has one local port for each container port of the template.
pub(super) fn replica(
    mesh: &MeshInfo,
    services: &[ServicePort],
    workload: &Workload,
    name: &str,
    ip: Ipv4Addr,
    app_ports: Vec<u16>,
) -> Replica {
    let id = PodId {
        namespace: workload.key.namespace.clone(),
        name: name.to_string(),
    };
    let draft = Draft {
        mesh,
        id: &id,
        ip,
        template: &workload.template,
        app_ports: &app_ports,
    };
    let mapped = draft.mapped(services);
    let sidecar = workload.template.meshed.then(|| draft.sidecar(&mapped));
    let mut ports = app_ports.iter().copied();
    let containers = workload.template.containers.iter().map(|container| {
        let own: Vec<u16> = ports.by_ref().take(container.ports.len()).collect();
        draft.container(container, &own, &mapped)
    });
    Replica {
        containers: containers.collect(),
        workload: workload.key.clone(),
        template: workload.template.clone(),
        id: id.clone(),
        sidecar,
        ip,
        app_ports,
    }
}

// === impl Replica ===

impl Replica {
    /// Names of its processes' logs.
    pub(super) fn logs(&self) -> impl Iterator<Item = &str> {
        let processes = self.sidecar.iter().chain(&self.containers);
        processes.map(|process| process.log.as_str())
    }

    /// Local ports by container port, in the order of the template.
    pub(super) fn port_map(&self) -> impl Iterator<Item = (u16, u16)> + '_ {
        let ports = self
            .template
            .containers
            .iter()
            .flat_map(|container| &container.ports);
        ports
            .map(|port| port.number)
            .zip(self.app_ports.iter().copied())
    }
}

/// What is known of a replica while it is made.
struct Draft<'a> {
    mesh: &'a MeshInfo,
    id: &'a PodId,
    ip: Ipv4Addr,
    template: &'a Template,
    app_ports: &'a [u16],
}

// === impl Draft ===

impl Draft<'_> {
    /// The services of the namespace, each with the local port that leads to it.
    fn mapped<'s>(&self, services: &'s [ServicePort]) -> Vec<(&'s ServicePort, u16)> {
        if !self.template.meshed {
            return Vec::new();
        }
        let own = services
            .iter()
            .filter(|service| service.namespace == self.id.namespace);
        own.take(MAX_OUTBOUND_PORTS)
            .zip(FIRST_OUTBOUND_PORT..)
            .collect()
    }

    fn sidecar(&self, mapped: &[(&ServicePort, u16)]) -> ProcessSpec {
        let mut env = self.mesh.mark();
        let settings = self.proxy_settings();
        env.extend(settings.map(|(name, value)| (format!("LINKERD2_PROXY_{name}"), value)));
        let anchors = self.mesh.identity().anchors();
        let own = [
            ("INBOUND_PORTS", self.inbound_map()),
            ("OUTBOUND_PORTS", self.outbound_map(mapped)),
            ("IDENTITY_TRUST_ANCHORS_FILE", anchors.display().to_string()),
        ];
        env.extend(own.map(|(name, value)| (format!("GOSSAMER_PROXY_{name}"), value)));
        ProcessSpec {
            name: "linkerd-proxy".to_string(),
            log: format!("{}.linkerd-proxy", self.id.name),
            argv: vec![self.mesh.program.clone().into(), "proxy".into()],
            env,
            working_dir: None,
            probe: Probe::of_ready(ADMIN),
            probe_addr: SocketAddr::from((self.ip, ADMIN)),
        }
    }

    /// What holds on the pod's ports until the controller has spoken, or while it is away: what the
    /// pod says itself, as an injector would write it.
    fn default_policy(&self) -> &'static str {
        let metadata = ObjectMeta {
            annotations: Some(self.template.annotations.clone()),
            ..ObjectMeta::default()
        };
        let pod = Pod {
            metadata,
            ..Pod::default()
        };
        // What is wrong in it was told of when the mesh was planned.
        let pod = object::Pod::read(pod, &mut object::Warnings::default());
        pod.config.default_policy.unwrap_or_default().name()
    }

    fn proxy_settings(&self) -> [(&'static str, String); 18] {
        let PodId { namespace, name } = self.id;
        let MeshInfo { controller, .. } = self.mesh;
        let context = json!({"ns": namespace, "nodeName": super::NODE_NAME, "pod": name});
        let workload = json!({"ns": namespace, "pod": name});
        let token = self.mesh.identity().token(self.id);
        let ports: Vec<_> = self
            .container_ports()
            .map(|port| port.to_string())
            .collect();
        let level = self
            .template
            .annotations
            .get("config.linkerd.io/proxy-log-level");
        [
            ("OUTBOUND_LISTEN_ADDR", self.at(OUTBOUND)),
            ("INBOUND_LISTEN_ADDR", self.at(INBOUND)),
            ("ADMIN_LISTEN_ADDR", self.at(ADMIN)),
            ("CONTROL_LISTEN_ADDR", self.at(CONTROL)),
            ("DESTINATION_SVC_ADDR", format!("{controller}:8086")),
            ("POLICY_SVC_ADDR", format!("{controller}:8090")),
            ("IDENTITY_SVC_ADDR", format!("{controller}:8080")),
            ("IDENTITY_LOCAL_NAME", self.identity()),
            ("IDENTITY_TOKEN_FILE", token.display().to_string()),
            ("DESTINATION_CONTEXT", context.to_string()),
            ("POLICY_WORKLOAD", workload.to_string()),
            ("INBOUND_PORTS", ports.join(",")),
            ("INBOUND_IPS", self.ip.to_string()),
            ("INBOUND_DEFAULT_POLICY", self.default_policy().to_string()),
            ("POLICY_CLUSTER_NETWORKS", LOOPBACK.to_string()),
            (
                "LOG",
                level
                    .cloned()
                    .unwrap_or_else(|| "warn,linkerd=info".to_string()),
            ),
            ("LOG_FORMAT", "PLAIN".to_string()),
            (
                "SHUTDOWN_GRACE_PERIOD",
                format!("{}s", self.template.grace.as_secs().max(1)),
            ),
        ]
    }

    /// Whom the sidecar speaks as. Replicas whose names allow of none are not planned.
    fn identity(&self) -> String {
        identity::name(&self.id.namespace, &self.template.service_account).unwrap_or_default()
    }

    /// `POD_IP:PORT=127.0.0.1:LOCAL` for each container port.
    fn inbound_map(&self) -> String {
        let ports = self.container_ports().zip(self.app_ports);
        let pairs = ports.map(|(port, local)| format!("{}=127.0.0.1:{local}", self.at(port)));
        pairs.collect::<Vec<_>>().join(",")
    }

    /// `POD_IP:LOCAL=SERVICE:PORT` for each service.
    fn outbound_map(&self, mapped: &[(&ServicePort, u16)]) -> String {
        let pairs = mapped.iter().map(|(target, local)| {
            let ServicePort {
                service,
                namespace,
                port,
                ..
            } = target;
            format!(
                "{}={service}.{namespace}.svc.cluster.local:{port}",
                self.at(*local)
            )
        });
        pairs.collect::<Vec<_>>().join(",")
    }

    fn at(&self, port: u16) -> String {
        format!("{}:{port}", self.ip)
    }

    fn container(
        &self,
        container: &Container,
        local_ports: &[u16],
        mapped: &[(&ServicePort, u16)],
    ) -> ProcessSpec {
        let mut env = self.mesh.mark();
        self.add_addresses(container, local_ports, &mut env);
        self.add_services(mapped, &mut env);
        let pod = PodFields {
            name: &self.id.name,
            namespace: &self.id.namespace,
            ip: self.ip.to_string(),
            service_account: &self.template.service_account,
            labels: &self.template.labels,
            annotations: &self.template.annotations,
        };
        env::resolve(&container.variables, &pod, &mut env);
        let mut argv: Vec<OsString> = container
            .argv
            .iter()
            .map(|word| env::expand(word, &env).into())
            .collect();
        if let Some(program) = argv.first_mut().filter(|program| *program == "meshctl") {
            *program = self.mesh.program.clone().into();
        }
        let (probe, probe_addr) = self.probe(container, local_ports);
        ProcessSpec {
            name: container.name.clone(),
            log: format!("{}.{}", self.id.name, container.name),
            argv,
            env,
            working_dir: container.working_dir.clone(),
            probe,
            probe_addr,
        }
    }

    fn add_addresses(
        &self,
        container: &Container,
        local_ports: &[u16],
        env: &mut BTreeMap<String, String>,
    ) {
        let mut set = |name: &str, value: String| env.insert(name.to_string(), value);
        set("HOST", self.app_host().to_string());
        set("POD_IP", self.ip.to_string());
        set("POD_NAME", self.id.name.clone());
        set("POD_NAMESPACE", self.id.namespace.clone());
        for (index, (port, local)) in container.ports.iter().zip(local_ports).enumerate() {
            let number = if self.template.meshed {
                *local
            } else {
                port.number
            };
            if index == 0 {
                set("PORT", number.to_string());
            }
            if let Some(name) = &port.name {
                set(&format!("PORT_{}", env::upper(name)), number.to_string());
            }
        }
        if self.template.meshed {
            let proxy = format!("http://{}:{OUTBOUND}", self.ip);
            set("http_proxy", proxy.clone());
            set("HTTP_PROXY", proxy);
            set("no_proxy", "localhost,127.0.0.1".to_string());
        }
    }

    fn add_services(&self, mapped: &[(&ServicePort, u16)], env: &mut BTreeMap<String, String>) {
        for (service, local) in mapped {
            let prefix = env::upper(&service.service);
            env.insert(format!("{prefix}_SERVICE_HOST"), self.ip.to_string());
            if service.index == 0 {
                env.insert(format!("{prefix}_SERVICE_PORT"), local.to_string());
            }
            if let Some(name) = &service.name {
                let name = format!("{prefix}_SERVICE_PORT_{}", env::upper(name));
                env.insert(name, local.to_string());
            }
        }
    }

    /// The probe asks the application itself, not through the sidecar: on its local port.
    fn probe(&self, container: &Container, local_ports: &[u16]) -> (Probe, SocketAddr) {
        let mut probe = container.probe.clone();
        let local = |wanted: u16| {
            let ports = container.ports.iter().zip(local_ports);
            let mut found = ports.filter(|(port, _)| port.number == wanted);
            let found = found.next().filter(|_| self.template.meshed);
            found.map_or(wanted, |(_, local)| *local)
        };
        let port = match &mut probe.check {
            Check::Tcp { port } | Check::Http { port, .. } => {
                *port = local(*port);
                *port
            }
            Check::Exec { .. } | Check::Running => 0,
        };
        (probe, SocketAddr::from((self.app_host(), port)))
    }

    fn app_host(&self) -> Ipv4Addr {
        if self.template.meshed {
            Ipv4Addr::LOCALHOST
        } else {
            self.ip
        }
    }

    fn container_ports(&self) -> impl Iterator<Item = u16> + '_ {
        let containers = self.template.containers.iter();
        containers.flat_map(|container| container.ports.iter().map(|port| port.number))
    }
}

#[cfg(test)]
mod tests;
