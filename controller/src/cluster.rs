//! The objects in force, and what they say about each other.
//!
//! Pure lookups that every answer is made of: which pod has an address, what backs a Service, who
//! owns a pod, whether a port is opaque. The [`index`](crate::index) owns the one that lives, applies
//! changes to it and decides which answers those concern.

use crate::{
    identity::name::{Identities, ServiceAccount},
    object::{
        Key, Namespace, Object, Owner, Pod, PortSet, ProxyConfig, ReplicaSet, Service, Slice,
    },
    store::Change,
};
use ahash::{AHashMap, AHashSet};
use ipnet::IpNet;
use mesh_policy::inbound::DefaultPolicy;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// What configuration says about the whole mesh.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace of this control plane: pods with it in their label are meshed.
    pub control_namespace: Arc<str>,
    /// For example `cluster.local`.
    pub cluster_domain: Arc<str>,
    /// What meshed pods are called to each other; `None`: they have no identities.
    pub identities: Option<Identities>,
    /// Ports that are opaque unless an annotation says otherwise.
    pub default_opaque_ports: PortSet,
    /// What holds on ports unless an annotation says otherwise.
    pub default_policy: DefaultPolicy,
    /// Networks of the `cluster-*` policies.
    pub cluster_networks: Vec<IpNet>,
}

/// All that is known. Written by the index's task only.
pub struct Cluster {
    /// What configuration says.
    pub settings: Settings,
    namespaces: AHashMap<Arc<str>, Contents>,
    services_by_ip: AHashMap<IpAddr, Vec<Key>>,
    pods_by_ip: AHashMap<IpAddr, Vec<Key>>,
}

/// The objects of one namespace.
#[derive(Default)]
struct Contents {
    namespace: Option<Arc<Namespace>>,
    services: BTreeMap<Arc<str>, Arc<Service>>,
    /// By Service, then by their own name.
    slices: AHashMap<Arc<str>, BTreeMap<Arc<str>, Arc<Slice>>>,
    pods: BTreeMap<Arc<str>, Arc<Pod>>,
    replica_sets: AHashMap<Arc<str>, Arc<ReplicaSet>>,
}

/// What a batch of changes was about, for answers to tell whether it concerns them.
#[derive(Debug, Default)]
pub struct Touched {
    /// Services that changed, or whose slices did.
    pub services: AHashSet<Key>,
    /// Pods that changed, before and after.
    pub pods: Vec<Arc<Pod>>,
    /// Whose they are.
    pub pod_keys: AHashSet<Key>,
    /// Namespaces whose defaults or owners changed.
    pub namespaces: AHashSet<Arc<str>>,
    /// Addresses that changed hands, or whose owner changed.
    pub ips: AHashSet<IpAddr>,
}

// === impl Cluster ===

impl Cluster {
    /// Nothing is in it yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            namespaces: AHashMap::new(),
            services_by_ip: AHashMap::new(),
            pods_by_ip: AHashMap::new(),
        }
    }

    /// A Service.
    pub fn service(&self, key: &Key) -> Option<&Arc<Service>> {
        self.namespaces.get(&key.namespace)?.services.get(&key.name)
    }

    /// Services with that virtual address; more than one is a mistake of the user's.
    pub fn services_at(&self, ip: IpAddr) -> impl Iterator<Item = &Arc<Service>> {
        let keys = self.services_by_ip.get(&ip).into_iter().flatten();
        keys.filter_map(|key| self.service(key))
    }

    /// A pod.
    pub fn pod(&self, key: &Key) -> Option<&Arc<Pod>> {
        self.namespaces.get(&key.namespace)?.pods.get(&key.name)
    }

    /// The running pod with that address.
    pub fn pod_at(&self, ip: IpAddr) -> Option<&Arc<Pod>> {
        let keys = self.pods_by_ip.get(&ip).into_iter().flatten();
        keys.filter_map(|key| self.pod(key)).find(|pod| pod.running)
    }

    /// The slices of a Service, by name.
    pub fn slices(&self, service: &Key) -> impl Iterator<Item = &Arc<Slice>> {
        let contents = self.namespaces.get(&service.namespace);
        let slices = contents.and_then(|contents| contents.slices.get(&service.name));
        slices.into_iter().flat_map(BTreeMap::values)
    }

    /// The pods that a Service's selector asks for, by name.
    pub fn selected<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Arc<Pod>> {
        let contents = self.namespaces.get(&service.key.namespace);
        let pods = contents.into_iter().flat_map(|c| c.pods.values());
        pods.filter(|pod| service.selects(pod))
    }

    /// Every Service, by namespace in no order, then by name.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.namespaces.values().flat_map(|c| c.services.values())
    }

    /// Every pod, by namespace in no order, then by name.
    pub fn pods(&self) -> impl Iterator<Item = &Arc<Pod>> {
        self.namespaces.values().flat_map(|c| c.pods.values())
    }

    /// Whether this control plane meshed the pod.
    pub fn meshed(&self, pod: &Pod) -> bool {
        pod.control_plane() == Some(&self.settings.control_namespace)
    }

    /// Who a user thinks owns the pod: behind a ReplicaSet the Deployment, by the ReplicaSet if it
    /// is known, and else by the way Deployments name theirs; without an owner, itself.
    pub fn owner(&self, pod: &Pod) -> Owner {
        let Some(owner) = &pod.owner else {
            return Owner {
                kind: "Pod".into(),
                name: pod.key.name.clone(),
            };
        };
        if &*owner.kind != "ReplicaSet" {
            return owner.clone();
        }
        let contents = self.namespaces.get(&pod.key.namespace);
        if let Some(set) = contents.and_then(|c| c.replica_sets.get(&owner.name)) {
            return set.owner.clone().unwrap_or_else(|| owner.clone());
        }
        let hash = pod.labels.get(POD_TEMPLATE_HASH);
        let deployment = hash
            .and_then(|hash| owner.name.strip_suffix(hash))
            .and_then(|name| name.strip_suffix('-'));
        deployment.map_or_else(
            || owner.clone(),
            |name| Owner {
                kind: "Deployment".into(),
                name: name.into(),
            },
        )
    }

    /// Whether what a Service's port carries is not to be looked at.
    pub fn service_port_opaque(&self, service: &Service, port: u16) -> bool {
        let own = service.opaque_ports.as_ref();
        self.opaque(own, &service.key.namespace).contains(port)
    }

    /// Whether what a pod's port carries is not to be looked at.
    pub fn pod_port_opaque(&self, pod: &Pod, port: u16) -> bool {
        let own = pod.config.opaque_ports.as_ref();
        self.opaque(own, &pod.key.namespace).contains(port)
    }

    /// What holds on a pod's ports.
    pub fn default_policy(&self, pod: &Pod) -> DefaultPolicy {
        self.configured(pod, |config| config.default_policy.as_ref())
            .copied()
            .unwrap_or(self.settings.default_policy)
    }

    /// Whether clients of a pod's port have to prove an identity, whatever else holds.
    pub fn requires_identity(&self, pod: &Pod, port: u16) -> bool {
        self.configured(pod, |config| config.require_identity_ports.as_ref())
            .is_some_and(|ports| ports.contains(port))
    }

    /// The identity that whoever takes connections to a pod's port proves; `None`: nobody proves any.
    pub fn identity(&self, pod: &Pod, port: u16) -> Option<String> {
        let identities = self.settings.identities.as_ref()?;
        let skipped = self
            .configured(pod, |config| config.skip_inbound_ports.as_ref())
            .is_some_and(|ports| ports.contains(port));
        if skipped || PROXY_PORTS.contains(&port) || !self.meshed(pod) {
            return None;
        }
        let account = ServiceAccount::new(&pod.key.namespace, &pod.service_account)?;
        Some(identities.of(&account))
    }

    /// Where a meshed pod's proxy takes connections for any port.
    pub fn inbound_port(&self, pod: &Pod) -> u16 {
        self.configured(pod, |config| config.inbound_port.as_ref())
            .copied()
            .unwrap_or(DEFAULT_INBOUND_PORT)
    }

    /// What the pod says, or else its namespace.
    fn configured<'a, T>(
        &'a self,
        pod: &'a Pod,
        get: impl Fn(&'a ProxyConfig) -> Option<&'a T>,
    ) -> Option<&'a T> {
        let inherited = || get(&self.namespace(&pod.key.namespace)?.config);
        get(&pod.config).or_else(inherited)
    }

    fn opaque<'a>(&'a self, own: Option<&'a PortSet>, namespace: &str) -> &'a PortSet {
        let inherited = || self.namespace(namespace)?.config.opaque_ports.as_ref();
        own.or_else(inherited)
            .unwrap_or(&self.settings.default_opaque_ports)
    }

    fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)?.namespace.as_deref()
    }
}

/// A proxy's own tap and admin ports, which it serves in clear.
const PROXY_PORTS: [u16; 2] = [4190, 4191];

/// `LINKERD2_PROXY_INBOUND_LISTEN_ADDR` of a proxy that nobody told otherwise.
const DEFAULT_INBOUND_PORT: u16 = 4143;

/// The label by which a Deployment tells its generations of pods apart.
pub const POD_TEMPLATE_HASH: &str = "pod-template-hash";

// === changes ===

impl Cluster {
    /// Takes changes in, and tells what they were about.
    pub fn apply(&mut self, changes: Vec<Change>) -> Touched {
        let mut touched = Touched::default();
        for change in changes {
            match change {
                Change::Put(object) => self.put(object, &mut touched),
                Change::Remove(object) => self.remove(&object, &mut touched),
            }
        }
        self.namespaces.retain(|_, contents| !contents.is_empty());
        touched
    }

    fn put(&mut self, object: Object, touched: &mut Touched) {
        let key = object.id().key;
        let scope = match &object {
            Object::Namespace(_) => key.name.clone(),
            _ => key.namespace.clone(),
        };
        let contents = self.namespaces.entry(scope.clone()).or_default();
        match object {
            Object::Namespace(it) => {
                touched.namespaces.insert(scope);
                contents.namespace = Some(it);
            }
            Object::ReplicaSet(it) => {
                touched.namespaces.insert(scope);
                contents.replica_sets.insert(key.name, it);
            }
            Object::Slice(it) => {
                // It may have belonged to another Service.
                for (service, slices) in &mut contents.slices {
                    if slices.remove(&key.name).is_some() {
                        touched.services.insert(Key::new(&scope, service));
                    }
                }
                touched.services.insert(Key::new(&scope, &it.service));
                let slices = contents.slices.entry(it.service.clone()).or_default();
                slices.insert(key.name, it);
            }
            Object::Service(it) => {
                let old = contents.services.insert(key.name.clone(), it.clone());
                let old_ips = old.iter().flat_map(|old| &old.cluster_ips);
                touched.ips.extend(old_ips.chain(&it.cluster_ips));
                touched.services.insert(key.clone());
                let old_ips = old.iter().flat_map(|old| &old.cluster_ips);
                rename(&mut self.services_by_ip, &key, old_ips, &it.cluster_ips);
            }
            Object::Pod(it) => {
                let old = contents.pods.insert(key.name.clone(), it.clone());
                let old_ips = old.iter().flat_map(|old| &old.ips);
                rename(&mut self.pods_by_ip, &key, old_ips, &it.ips);
                touched.pod(old);
                touched.pod(Some(it));
            }
        }
    }

    fn remove(&mut self, object: &Object, touched: &mut Touched) {
        let Key { namespace, name } = object.id().key;
        let scope = match object {
            Object::Namespace(_) => &name,
            _ => &namespace,
        };
        let Some(contents) = self.namespaces.get_mut(scope) else {
            return;
        };
        match object {
            Object::Namespace(_) => {
                touched.namespaces.insert(scope.clone());
                contents.namespace = None;
            }
            Object::ReplicaSet(_) => {
                touched.namespaces.insert(scope.clone());
                contents.replica_sets.remove(&name);
            }
            Object::Slice(it) => {
                touched.services.insert(Key::new(scope, &it.service));
                if let Some(slices) = contents.slices.get_mut(&it.service) {
                    slices.remove(&name);
                }
                contents.slices.retain(|_, slices| !slices.is_empty());
            }
            Object::Service(it) => {
                contents.services.remove(&name);
                touched.ips.extend(&it.cluster_ips);
                touched.services.insert(it.key.clone());
                rename(&mut self.services_by_ip, &it.key, &it.cluster_ips, &[]);
            }
            Object::Pod(it) => {
                let old = contents.pods.remove(&name);
                rename(&mut self.pods_by_ip, &it.key, &it.ips, &[]);
                touched.pod(old);
            }
        }
    }
}

/// Moves `key` from the addresses it had to those it has.
fn rename<'a>(
    by_ip: &mut AHashMap<IpAddr, Vec<Key>>,
    key: &Key,
    old: impl IntoIterator<Item = &'a IpAddr>,
    new: &[IpAddr],
) {
    for ip in old {
        if let Some(keys) = by_ip.get_mut(ip) {
            keys.retain(|k| k != key);
            if keys.is_empty() {
                by_ip.remove(ip);
            }
        }
    }
    for ip in new {
        let keys = by_ip.entry(*ip).or_default();
        if !keys.contains(key) {
            keys.push(key.clone());
        }
        keys.sort();
    }
}

// === impl Contents ===

impl Contents {
    fn is_empty(&self) -> bool {
        self.namespace.is_none()
            && self.services.is_empty()
            && self.slices.is_empty()
            && self.pods.is_empty()
            && self.replica_sets.is_empty()
    }
}

// === impl Touched ===

impl Touched {
    /// Whether a Service, its slices or its defaults changed; pods are another question.
    pub fn service(&self, key: &Key) -> bool {
        self.services.contains(key) || self.namespaces.contains(&key.namespace)
    }

    /// Whether a pod or its defaults changed.
    pub fn is_pod(&self, key: &Key) -> bool {
        self.namespaces.contains(&key.namespace) || self.pod_keys.contains(key)
    }

    fn pod(&mut self, pod: Option<Arc<Pod>>) {
        if let Some(pod) = pod {
            self.ips.extend(&pod.ips);
            self.pod_keys.insert(pod.key.clone());
            self.pods.push(pod);
        }
    }
}

#[cfg(test)]
mod tests;
