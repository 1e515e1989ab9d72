//! What is known of a target, by name or address: whether it is opaque, what it is part of, and
//! whether it is one endpoint. Routes of ServiceProfiles are not read; Gateway API routes are the
//! way forward, and part of the policy API.

use super::pods;
use crate::{
    cluster::{Cluster, Touched},
    grpc::Encoded,
    index::Question,
    names::ServiceName,
    object::{Pod, Service},
};
use linkerd2_proxy_api::{
    destination::{DestinationProfile, RetryBudget},
    meta::Metadata,
};
use mesh_policy::{
    Meta,
    endpoint::{Endpoint, HintedProtocol},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// The profile of a target.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// Of a Service's port, or of one pod of it.
    Name(ServiceName, u16),
    /// Of whatever has that address.
    Address(SocketAddr),
}

/// The answer, ready to be sent.
#[derive(Debug, PartialEq)]
pub enum ProfileAnswer {
    /// There is always a profile, if an empty one.
    Profile(Box<Encoded<DestinationProfile>>),
    /// Two Services claim the address.
    Ambiguous(String),
}

impl Question for Profile {
    type Answer = ProfileAnswer;

    fn answer(&self, cluster: &Cluster) -> ProfileAnswer {
        match self {
            Self::Name(name, port) => answer(of_name(cluster, name, *port)),
            Self::Address(addr) => of_address(cluster, *addr),
        }
    }

    fn concerned(&self, cluster: &Cluster, touched: &Touched) -> bool {
        match self {
            Self::Name(name, _) => {
                touched.service(&name.service)
                    || (name.hostname.is_some() && !touched.pods.is_empty())
            }
            Self::Address(addr) => address_concerned(addr.ip(), cluster, touched),
        }
    }
}

/// Whether what has an address may have changed, or what holds for it.
pub fn address_concerned(ip: IpAddr, cluster: &Cluster, touched: &Touched) -> bool {
    let mut services = cluster.services_at(ip);
    let pod = cluster.pod_at(ip);
    touched.ips.contains(&ip)
        || services.any(|service| touched.service(&service.key))
        || pod.is_some_and(|pod| touched.is_pod(&pod.key))
}

/// The pod that a headless Service gives that name; it need not be ready.
pub fn named_pod<'a>(
    cluster: &'a Cluster,
    service: &'a Service,
    hostname: &str,
) -> Option<&'a Arc<Pod>> {
    let named = |pod: &&Arc<Pod>| {
        pod.running
            && pod.hostname.as_deref() == Some(hostname)
            && pod.subdomain.as_ref() == Some(&service.key.name)
    };
    cluster.selected(service).find(named)
}

/// The Service's port as the origin of policies.
pub fn service_meta(service: &Service, port: u16) -> Arc<Meta> {
    Arc::new(Meta::Resource {
        group: "core".into(),
        kind: "Service".into(),
        namespace: service.key.namespace.clone(),
        name: service.key.name.clone(),
        section: "".into(),
        port: Some(port),
    })
}

fn answer(profile: DestinationProfile) -> ProfileAnswer {
    ProfileAnswer::Profile(Box::new(Encoded::new(profile)))
}

fn of_name(cluster: &Cluster, name: &ServiceName, port: u16) -> DestinationProfile {
    let Some(service) = cluster.service(&name.service) else {
        return empty();
    };
    let Some(hostname) = &name.hostname else {
        return of_service(cluster, service, port);
    };
    let pod = named_pod(cluster, service, hostname);
    let addr = pod.and_then(|pod| Some((pod, *pod.ips.first()?)));
    addr.map_or_else(empty, |(pod, ip)| {
        let addr = SocketAddr::new(ip, port);
        of_endpoint(&pods::endpoint(cluster, pod, addr, None))
    })
}

fn of_address(cluster: &Cluster, addr: SocketAddr) -> ProfileAnswer {
    let ip = addr.ip();
    let mut services = cluster.services_at(ip);
    if let Some(service) = services.next() {
        if let Some(other) = services.next() {
            let (a, b) = (&service.key, &other.key);
            return ProfileAnswer::Ambiguous(format!("{ip} is claimed by services {a} and {b}"));
        }
        return answer(of_service(cluster, service, addr.port()));
    }
    let endpoint = match cluster.pod_at(ip) {
        Some(pod) => pods::endpoint(cluster, pod, addr, None),
        None => pods::stranger(cluster, addr),
    };
    answer(of_endpoint(&endpoint))
}

fn of_service(cluster: &Cluster, service: &Service, port: u16) -> DestinationProfile {
    if service.port(port).is_none() {
        return empty();
    }
    let Service { key, .. } = service;
    let domain = &cluster.settings.cluster_domain;
    let parent = service_meta(service, port);
    DestinationProfile {
        fully_qualified_name: format!("{}.{}.svc.{domain}", key.name, key.namespace),
        opaque_protocol: cluster.service_port_opaque(service, port),
        parent_ref: Some(Metadata::from(&*parent)),
        ..empty()
    }
}

fn of_endpoint(endpoint: &Endpoint) -> DestinationProfile {
    DestinationProfile {
        opaque_protocol: endpoint.hint.protocol == HintedProtocol::Opaque,
        endpoint: Some(endpoint.into()),
        ..empty()
    }
}

fn empty() -> DestinationProfile {
    DestinationProfile {
        retry_budget: Some(RetryBudget {
            retry_ratio: 0.2,
            min_retries_per_second: 10,
            ttl: Some(prost_types::Duration {
                seconds: 10,
                nanos: 0,
            }),
        }),
        ..DestinationProfile::default()
    }
}

#[cfg(test)]
mod tests;
