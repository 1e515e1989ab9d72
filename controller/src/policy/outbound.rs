//! What clients do with traffic to a destination.
//!
//! The source does not matter yet; routes that only hold for clients of one namespace will make it
//! part of the question.

use crate::{
    cluster::{Cluster, Touched},
    destination::{
        pods,
        profile::{address_concerned, service_meta},
    },
    grpc::Encoded,
    index::Question,
    names::ServiceName,
    object::Service,
};
use mesh_policy::outbound::{Declared, OutboundPolicy};
use std::{fmt, net::SocketAddr};

/// The policy of a destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outbound {
    /// Of a Service's port, or of one pod of it.
    Name(ServiceName, u16),
    /// Of whatever has that address.
    Address(SocketAddr),
}

impl Outbound {
    /// Of an address; IPv4 in IPv6 is IPv4.
    pub fn address(addr: SocketAddr) -> Self {
        Self::Address(SocketAddr::new(addr.ip().to_canonical(), addr.port()))
    }

    fn policy(&self, cluster: &Cluster) -> Option<OutboundPolicy> {
        match self {
            Self::Name(name, port) => {
                let service = cluster.service(&name.service)?;
                of_service(cluster, service, name.hostname.as_deref(), *port)
            }
            Self::Address(addr) => {
                let mut services = cluster.services_at(addr.ip());
                if let Some(service) = services.next() {
                    return of_service(cluster, service, None, addr.port());
                }
                let pod = cluster.pod_at(addr.ip())?;
                let endpoint = pods::endpoint(cluster, pod, *addr, None);
                Some(OutboundPolicy::endpoint(endpoint))
            }
        }
    }
}

impl Question for Outbound {
    /// `None`: it is nothing that is known.
    type Answer = Option<Encoded<OutboundPolicy>>;

    fn answer(&self, cluster: &Cluster) -> Self::Answer {
        self.policy(cluster).map(Encoded::new)
    }

    fn concerned(&self, cluster: &Cluster, touched: &Touched) -> bool {
        match self {
            Self::Name(name, _) => touched.service(&name.service),
            Self::Address(addr) => address_concerned(addr.ip(), cluster, touched),
        }
    }
}

/// An ExternalName Service is a name for something outside, of which there is nothing to say.
fn of_service(
    cluster: &Cluster,
    service: &Service,
    hostname: Option<&str>,
    port: u16,
) -> Option<OutboundPolicy> {
    if service.external {
        return None;
    }
    let key = &service.key;
    let domain = &cluster.settings.cluster_domain;
    let mut path = format!("{}.{}.svc.{domain}:{port}", key.name, key.namespace);
    if let Some(hostname) = hostname {
        path.insert_str(0, &format!("{hostname}."));
    }
    let meta = service_meta(service, port);
    let Some(declared) = service.port(port).map(|port| port.declared) else {
        return Some(OutboundPolicy::refuse(meta));
    };
    let declared = match cluster.service_port_opaque(service, port) {
        true => Declared::Opaque,
        false => declared,
    };
    Some(OutboundPolicy::service(
        meta,
        path.into(),
        declared,
        service.failure_accrual,
    ))
}

impl fmt::Display for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name, port) => write!(f, "{}:{port}", name.service),
            Self::Address(addr) => write!(f, "{addr}"),
        }
    }
}

#[cfg(test)]
mod tests;
