//! Which endpoints back a port of a Service.
//!
//! EndpointSlices say so when there are any for the Service, as in a cluster; without, the endpoints
//! are the ready pods that its selector asks for, which is what would have written the slices.

use super::pods;
use crate::{
    cluster::{Cluster, Touched},
    index::Question,
    names::ServiceName,
    object::{Pod, Service, ServicePort, Slice, SliceEndpoint, TargetPort},
};
use linkerd2_proxy_api::destination::WeightedAddr;
use mesh_policy::endpoint::Endpoint;
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The endpoints of a Service's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// The Service, or one pod of it.
    pub target: ServiceName,
    /// The Service's port.
    pub port: u16,
}

/// The answer, ready to be sent.
#[derive(Debug, PartialEq)]
pub struct EndpointSet {
    /// Whether there is such a Service.
    pub existence: Existence,
    /// Labels of all of them.
    pub labels: HashMap<String, String>,
    /// By address.
    pub endpoints: BTreeMap<SocketAddr, Arc<WeightedAddr>>,
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
        let endpoints = endpoints.into_iter().flatten();
        EndpointSet {
            existence,
            labels: [
                ("service".to_owned(), self.target.service.name.to_string()),
                (
                    "namespace".to_owned(),
                    self.target.service.namespace.to_string(),
                ),
            ]
            .into(),
            endpoints: endpoints
                .map(|endpoint| (endpoint.addr, Arc::new((&endpoint).into())))
                .collect(),
        }
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
    let mut endpoints = slice.endpoints.iter();
    endpoints.any(|endpoint| touched.ips.contains(&endpoint.ip))
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
        cluster.pod(&crate::object::Key {
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
