//! What an endpoint carries about the pod behind it.
//!
//! A meshed pod proves the identity of its service account, and its proxy takes HTTP/1 over HTTP/2
//! and opaque traffic with a transport header. Where there are no identities, a peer is spoken to
//! as the application behind it would be.

use crate::{
    cluster::{Cluster, POD_TEMPLATE_HASH},
    object::Pod,
};
use mesh_policy::endpoint::{Endpoint, HintedProtocol, ProtocolHint, TlsIdentity};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// `pod` at `addr`, which is one of its addresses and the port in question.
pub fn endpoint(cluster: &Cluster, pod: &Pod, addr: SocketAddr, zone: Option<&str>) -> Endpoint {
    let mut labels = labels(cluster, pod);
    if let Some(zone) = zone {
        labels.insert("zone".to_owned(), zone.to_owned());
    }
    let opaque = cluster.pod_port_opaque(pod, addr.port());
    let (tls, hint) = match cluster.identity(pod, addr.port()) {
        Some(identity) => (Some(tls(identity)), peer(opaque, cluster.inbound_port(pod))),
        None => (None, hint(opaque)),
    };
    Endpoint {
        labels: Arc::new(labels),
        tls,
        hint,
        ..Endpoint::bare(addr)
    }
}

/// An address of nobody that is known.
pub fn stranger(cluster: &Cluster, addr: SocketAddr) -> Endpoint {
    let opaque = cluster.settings.default_opaque_ports.contains(addr.port());
    Endpoint {
        hint: hint(opaque),
        ..Endpoint::bare(addr)
    }
}

fn tls(identity: String) -> TlsIdentity {
    let identity = Arc::<str>::from(identity);
    TlsIdentity {
        server_name: identity.clone(),
        identity,
    }
}

fn peer(opaque: bool, inbound_port: u16) -> ProtocolHint {
    ProtocolHint {
        protocol: match opaque {
            true => HintedProtocol::Opaque,
            false => HintedProtocol::H2,
        },
        opaque_transport_port: Some(inbound_port),
    }
}

fn hint(opaque: bool) -> ProtocolHint {
    ProtocolHint {
        protocol: match opaque {
            true => HintedProtocol::Opaque,
            false => HintedProtocol::Unknown,
        },
        opaque_transport_port: None,
    }
}

fn labels(cluster: &Cluster, pod: &Pod) -> BTreeMap<String, String> {
    let owner = cluster.owner(pod);
    let kind = match &*owner.kind {
        // Prometheus keeps the label `job` for itself.
        "Job" => "k8s_job".to_owned(),
        kind => kind.to_ascii_lowercase(),
    };
    let control_plane = pod.control_plane();
    let hash = pod.labels.get(POD_TEMPLATE_HASH);
    let mut labels = BTreeMap::from([
        (kind, owner.name.to_string()),
        ("pod".to_owned(), pod.key.name.to_string()),
        ("serviceaccount".to_owned(), pod.service_account.to_string()),
    ]);
    let optional = [
        ("control_plane_ns", control_plane),
        ("pod_template_hash", hash),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            labels.insert(name.to_owned(), value.to_owned());
        }
    }
    labels
}

#[cfg(test)]
mod tests;
