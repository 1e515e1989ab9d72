//! What the mesh keeps of Kubernetes objects.
//!
//! Sources yield whole objects; these are made of them at once, so that ten thousand pods are a few
//! megabytes. Annotations are read here too, the one place where a user's typo can be reported next
//! to the object it is in. Relations between objects are the [`cluster`](crate::cluster)'s.

mod annotations;
mod convert;
mod labels;
mod ports;

pub use self::{
    annotations::{PROXY_ANNOTATIONS, SERVICE_ANNOTATIONS},
    labels::Labels,
    ports::{PortSet, PortSetError},
};

use mesh_policy::{
    inbound::DefaultPolicy,
    outbound::{Declared, FailureAccrual},
};
use std::{fmt, net::IpAddr, sync::Arc};

/// An object that the mesh knows what to do with.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// See [`Namespace`].
    Namespace(Arc<Namespace>),
    /// See [`Service`].
    Service(Arc<Service>),
    /// See [`Slice`].
    Slice(Arc<Slice>),
    /// See [`Pod`].
    Pod(Arc<Pod>),
    /// See [`ReplicaSet`].
    ReplicaSet(Arc<ReplicaSet>),
}

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// Unique in its namespace and kind.
    pub name: Arc<str>,
}

/// What tells an object from all others.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// Kind, as in manifests.
    pub kind: &'static str,
    /// Namespace and name.
    pub key: Key,
}

/// Defaults for the objects in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    /// Name; no namespace.
    pub key: Key,
    /// What holds for pods that do not say.
    pub config: ProxyConfig,
}

/// What annotations say about proxies: on a pod about its own, on a namespace about those in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProxyConfig {
    /// `config.linkerd.io/opaque-ports`.
    pub opaque_ports: Option<PortSet>,
    /// `config.linkerd.io/default-inbound-policy`.
    pub default_policy: Option<DefaultPolicy>,
    /// `config.linkerd.io/skip-inbound-ports`: the proxy is not in front of these.
    pub skip_inbound_ports: Option<PortSet>,
    /// `config.linkerd.io/proxy-require-identity-inbound-ports`.
    pub require_identity_ports: Option<PortSet>,
    /// `config.linkerd.io/inbound-port`: where the proxy takes what is for any port.
    pub inbound_port: Option<u16>,
}

/// A name for a set of endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Namespace and name.
    pub key: Key,
    /// Virtual addresses; none when headless.
    pub cluster_ips: Vec<IpAddr>,
    /// `type: ExternalName`: there are no endpoints to find.
    pub external: bool,
    /// TCP ports.
    pub ports: Vec<ServicePort>,
    /// Labels that a pod has to carry to back the Service; empty: pods are not looked for.
    pub selector: Labels,
    /// Pods count before they are ready.
    pub publish_not_ready: bool,
    /// `config.linkerd.io/opaque-ports`.
    pub opaque_ports: Option<PortSet>,
    /// `balancer.linkerd.io/failure-accrual*`.
    pub failure_accrual: Option<FailureAccrual>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq)]
pub struct ServicePort {
    /// Empty when it is the only one.
    pub name: Arc<str>,
    /// The Service's port.
    pub port: u16,
    /// The pods' port.
    pub target: TargetPort,
    /// `appProtocol`.
    pub declared: Declared,
}

/// Which port of a pod a Service port leads to.
#[derive(Clone, Debug, PartialEq)]
pub enum TargetPort {
    /// The same for every pod.
    Number(u16),
    /// Whatever port of that name a pod has.
    Named(Arc<str>),
}

/// Endpoints of a Service, found by somebody else.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// Namespace and name of the slice.
    pub key: Key,
    /// The Service it belongs to, in the same namespace.
    pub service: Arc<str>,
    /// Names of Service ports, and where they lead.
    pub ports: Vec<(Arc<str>, u16)>,
    /// The endpoints that are ready or do not say.
    pub endpoints: Vec<SliceEndpoint>,
}

/// See [`Slice::endpoints`].
#[derive(Clone, Debug, PartialEq)]
pub struct SliceEndpoint {
    /// Kubernetes allows several, and gives exactly one.
    pub ip: IpAddr,
    /// For `<hostname>.<service>` names.
    pub hostname: Option<Arc<str>>,
    /// The pod behind it, in the same namespace.
    pub pod: Option<Arc<str>>,
    /// The topology zone it is in.
    pub zone: Option<Arc<str>>,
}

/// A workload's replica.
#[derive(Clone, Debug, PartialEq)]
pub struct Pod {
    /// Namespace and name.
    pub key: Key,
    /// Its addresses, the primary one first.
    pub ips: Vec<IpAddr>,
    /// Labels, for selectors.
    pub labels: Labels,
    /// Phase is `Running` and it is not being deleted.
    pub running: bool,
    /// The condition `Ready` holds.
    pub ready: bool,
    /// `spec.hostname`.
    pub hostname: Option<Arc<str>>,
    /// `spec.subdomain`: the headless Service that names it.
    pub subdomain: Option<Arc<str>>,
    /// Service account; `default` when none is given.
    pub service_account: Arc<str>,
    /// The controlling owner reference.
    pub owner: Option<Owner>,
    /// Named TCP ports of its containers.
    pub named_ports: Vec<(Arc<str>, u16)>,
    /// What it says about its proxy.
    pub config: ProxyConfig,
}

/// Somebody who owns pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// For example `Deployment`.
    pub kind: Arc<str>,
    /// In the namespace of what it owns.
    pub name: Arc<str>,
}

/// Kept to find the Deployment behind a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplicaSet {
    /// Namespace and name.
    pub key: Key,
    /// The Deployment, if it has one.
    pub owner: Option<Owner>,
}

/// What was wrong in an object that is used all the same.
#[derive(Debug, Default)]
pub struct Warnings(pub Vec<String>);

// === impl Object ===

impl Object {
    /// What tells it from all others.
    pub fn id(&self) -> Id {
        let (kind, key) = match self {
            Self::Namespace(it) => ("Namespace", &it.key),
            Self::Service(it) => ("Service", &it.key),
            Self::Slice(it) => ("EndpointSlice", &it.key),
            Self::Pod(it) => ("Pod", &it.key),
            Self::ReplicaSet(it) => ("ReplicaSet", &it.key),
        };
        Id {
            kind,
            key: key.clone(),
        }
    }

    /// Whether they are equal; quick when they are one, as objects of unchanged files are.
    pub fn same(&self, other: &Self) -> bool {
        let one = match (self, other) {
            (Self::Pod(a), Self::Pod(b)) => Arc::ptr_eq(a, b),
            (Self::Service(a), Self::Service(b)) => Arc::ptr_eq(a, b),
            (Self::Slice(a), Self::Slice(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        one || self == other
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.key)
    }
}

// === impl Key ===

impl Key {
    /// A key of these two.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl Service ===

impl Service {
    /// The port with that number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.port == number)
    }

    /// Whether `pod` is one that the selector asks for.
    pub fn selects(&self, pod: &Pod) -> bool {
        let has = |(name, value)| pod.labels.get(name) == Some(value);
        !self.selector.is_empty()
            && pod.key.namespace == self.key.namespace
            && self.selector.iter().all(has)
    }
}

// === impl Pod ===

impl Pod {
    /// The label with which injection marks a pod as meshed; its value is the namespace of the
    /// control plane.
    pub const MESHED_LABEL: &str = "linkerd.io/control-plane-ns";

    /// The namespace of the control plane that meshed it.
    pub fn control_plane(&self) -> Option<&str> {
        self.labels.get(Self::MESHED_LABEL)
    }

    /// The number of a container port by name.
    pub fn named_port(&self, name: &str) -> Option<u16> {
        let mut ports = self.named_ports.iter();
        ports.find(|(n, _)| &**n == name).map(|(_, number)| *number)
    }
}

// === impl Warnings ===

impl Warnings {
    fn add(&mut self, at: impl fmt::Display, problem: impl fmt::Display) {
        self.0.push(format!("{at}: {problem}"));
    }
}

#[cfg(test)]
mod tests;
