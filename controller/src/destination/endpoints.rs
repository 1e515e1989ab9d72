//! Which endpoints back a port of a Service.
//!
//! EndpointSlices say so when there are any for the Service, as in a cluster; without, the endpoints
//! are the ready pods that its selector asks for, which is what would have written the slices.

use super::{diff, pods};
use crate::{
    cluster::{Cluster, Touched},
    grpc::Frame,
    index::Question,
    names::ServiceName,
    object::{Key, Pod, Service, ServicePort, Slice, SliceEndpoint, TargetPort},
};
use mesh_policy::endpoint::Endpoint;
use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, OnceLock, Weak},
};

/// The endpoints of a Service's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// The Service, or one pod of it.
    pub target: ServiceName,
    /// The Service's port.
    pub port: u16,
}

/// The answer. What streams send of it is encoded once, whoever comes first.
#[derive(Debug)]
pub struct EndpointSet {
    /// Whether there is such a Service.
    pub existence: Existence,
    /// Whose they are.
    pub service: Key,
    /// In the order of their addresses, each of which is there once.
    endpoints: Box<[Endpoint]>,
    all: OnceLock<Arc<[Frame]>>,
    /// The differences to the set that most streams come from: the one before.
    since: OnceLock<(Weak<EndpointSet>, Arc<[Frame]>)>,
}

/// See [`EndpointSet::existence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    /// It has endpoints, or may come to.
    Exists,
    /// There is no such Service.
    Missing,
    /// It is a name for something outside.
    External,
}

// === impl EndpointSet ===

impl EndpointSet {
    /// A set that nobody has sent yet.
    pub fn new(existence: Existence, service: Key, mut endpoints: Vec<Endpoint>) -> Self {
        endpoints.sort_by_key(|endpoint| endpoint.addr);
        endpoints.dedup_by_key(|endpoint| endpoint.addr);
        Self {
            existence,
            service,
            endpoints: endpoints.into(),
            all: OnceLock::new(),
            since: OnceLock::new(),
        }
    }

    /// In the order of their addresses.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// The endpoint at that address.
    pub fn at(&self, addr: SocketAddr) -> Option<&Endpoint> {
        let found = self.endpoints.binary_search_by_key(&addr, |it| it.addr);
        found.ok().map(|index| &self.endpoints[index])
    }

    /// What a client that knows nothing has to be told; never nothing.
    pub fn all(&self) -> Arc<[Frame]> {
        let encode = || diff::all(self).iter().map(Frame::of).collect();
        self.all.get_or_init(encode).clone()
    }

    /// What a client that knows `old` has to be told to know this.
    pub fn since(&self, old: &Arc<Self>) -> Arc<[Frame]> {
        let encode = || diff::between(old, self).iter().map(Frame::of).collect();
        let (known, frames) = self.since.get_or_init(|| (Arc::downgrade(old), encode()));
        if std::ptr::eq(known.as_ptr(), Arc::as_ptr(old)) {
            return frames.clone();
        }
        encode()
    }
}

impl PartialEq for EndpointSet {
    fn eq(&self, other: &Self) -> bool {
        self.existence == other.existence
            && self.service == other.service
            && self.endpoints == other.endpoints
    }
}

// === impl Endpoints ===

impl Question for Endpoints {
    type Answer = EndpointSet;

    fn answer(&self, cluster: &Cluster) -> EndpointSet {
        let service = cluster.service(&self.target.service);
        let existence = match service {
            None => Existence::Missing,
            Some(service) if service.external => Existence::External,
            Some(_) => Existence::Exists,
        };
        let usable = service.filter(|_| existence == Existence::Exists);
        let endpoints = usable.map(|service| self.endpoints(cluster, service));
        let service = self.target.service.clone();
        EndpointSet::new(existence, service, endpoints.unwrap_or_default())
    }

    fn concerned(&self, cluster: &Cluster, touched: &Touched) -> bool {
        let key = &self.target.service;
        if touched.service(key) {
            return true;
        }
        let Some(service) = cluster.service(key) else {
            return false;
        };
        let mut pods = touched.pods.iter();
        pods.any(|pod| service.selects(pod))
            || cluster.slices(key).any(|slice| names_any(slice, touched))
    }
}

/// A slice holds the addresses of pods, but what they carry is the pods' to say.
fn names_any(slice: &Slice, touched: &Touched) -> bool {
    let named = |name: &Arc<str>| {
        touched.pod_keys.contains(&Key {
            namespace: slice.key.namespace.clone(),
            name: name.clone(),
        })
    };
    let mut endpoints = slice.endpoints.iter();
    // A manifest of a pod need not say its address.
    endpoints.any(|it| touched.ips.contains(&it.ip) || it.pod.as_ref().is_some_and(named))
}

impl Endpoints {
    fn endpoints(&self, cluster: &Cluster, service: &Service) -> Vec<Endpoint> {
        // A port that the Service does not have leads nowhere.
        let Some(port) = service.port(self.port) else {
            return Vec::new();
        };
        let mut slices = cluster.slices(&service.key).peekable();
        let all: Vec<_> = if slices.peek().is_some() {
            let of_slice = |slice: &'_ Arc<Slice>| self.of_slice(cluster, service, port, slice);
            slices.flat_map(of_slice).collect()
        } else {
            let pods = cluster.selected(service);
            pods.filter_map(|pod| self.of_pod(cluster, service, port, pod))
                .collect()
        };
        one_family(all)
    }

    fn of_pod(
        &self,
        cluster: &Cluster,
        service: &Service,
        port: &ServicePort,
        pod: &Pod,
    ) -> Option<Endpoint> {
        let ready = pod.running && (pod.ready || service.publish_not_ready);
        let named = |hostname: &Arc<str>| {
            pod.hostname.as_ref() == Some(hostname)
                && pod.subdomain.as_ref() == Some(&service.key.name)
        };
        let wanted = self.target.hostname.as_ref().is_none_or(named);
        let port = match &port.target {
            TargetPort::Number(number) => Some(*number),
            TargetPort::Named(name) => pod.named_port(name),
        }?;
        let ip = *pod.ips.first()?;
        let addr = SocketAddr::new(ip, port);
        (ready && wanted).then(|| pods::endpoint(cluster, pod, addr, None))
    }

    fn of_slice(
        &self,
        cluster: &Cluster,
        service: &Service,
        port: &ServicePort,
        slice: &Slice,
    ) -> Vec<Endpoint> {
        let mut ports = slice.ports.iter();
        let Some((_, number)) = ports.find(|(name, _)| *name == port.name) else {
            return Vec::new();
        };
        let wanted = |endpoint: &&SliceEndpoint| {
            let hostname = self.target.hostname.as_ref();
            hostname.is_none_or(|hostname| endpoint.hostname.as_ref() == Some(hostname))
        };
        let endpoints = slice.endpoints.iter().filter(wanted);
        let endpoint = |endpoint: &SliceEndpoint| {
            let addr = SocketAddr::new(endpoint.ip, *number);
            let zone = endpoint.zone.as_deref();
            match pod_of(cluster, service, endpoint) {
                Some(pod) => pods::endpoint(cluster, pod, addr, zone),
                None => pods::stranger(cluster, addr),
            }
        };
        endpoints.map(endpoint).collect()
    }
}

fn pod_of<'a>(
    cluster: &'a Cluster,
    service: &Service,
    endpoint: &SliceEndpoint,
) -> Option<&'a Arc<Pod>> {
    let by_name = endpoint.pod.as_ref().and_then(|name| {
        cluster.pod(&Key {
            namespace: service.key.namespace.clone(),
            name: name.clone(),
        })
    });
    by_name.or_else(|| cluster.pod_at(endpoint.ip))
}

/// A dual-stack Service has each pod twice; one address of it is enough, and IPv4 is what works
/// everywhere.
fn one_family(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let v4 = |endpoint: &Endpoint| matches!(endpoint.addr.ip(), IpAddr::V4(_));
    if endpoints.iter().any(v4) {
        endpoints.retain(v4);
    }
    endpoints
}

#[cfg(test)]
mod tests;
