//! Label sets, spelled once: what Linkerd's proxies print for targets, TLS and policy resources.

use super::{Labels, label};
use mesh_policy::Meta;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// Which way traffic goes, seen from the workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the workload.
    Inbound,
    /// From the workload.
    Outbound,
}

/// Why a connection is not mesh TLS, or that it is not ours to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// The peer is this very host.
    Loopback,
    /// Discovery says that the endpoint is not meshed.
    NotProvidedByServiceDiscovery,
    /// The client did not start TLS.
    NoTlsFromRemote,
    /// The port is not looked at.
    PortSkipped,
    /// Mesh TLS that a client opened.
    Client {
        /// The identity it has proved, if it did.
        id: Option<Arc<str>>,
    },
    /// Mesh TLS to a server that has proved this identity.
    Server {
        /// The identity.
        id: Arc<str>,
    },
    /// The peer is meshed, but this workload has no identity.
    Disabled,
    /// TLS between applications, passed through.
    Opaque {
        /// The server name the client asked for.
        sni: String,
    },
}

impl Direction {
    /// The `direction` label.
    pub fn label(self) -> metrics::Label {
        label("direction", self.as_str())
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl Tls {
    /// Appends the TLS labels.
    pub fn append(&self, labels: &mut Labels) {
        let reason = match self {
            Self::Loopback => "loopback",
            Self::NotProvidedByServiceDiscovery => "not_provided_by_service_discovery",
            Self::NoTlsFromRemote => "no_tls_from_remote",
            Self::PortSkipped => "port_skipped",
            Self::Client { id } => {
                let id = id.as_deref().unwrap_or_default().to_owned();
                labels.push(label("tls", "true"));
                labels.push(label("client_id", id));
                return;
            }
            Self::Server { id } => {
                labels.push(label("tls", "true"));
                labels.push(label("server_id", id.clone()));
                return;
            }
            Self::Disabled => {
                labels.push(label("tls", "disabled"));
                return;
            }
            Self::Opaque { sni } => {
                labels.push(label("tls", "opaque"));
                labels.push(label("sni", sni.clone()));
                return;
            }
        };
        labels.push(label("tls", "no_identity"));
        labels.push(label("no_tls_reason", reason));
    }
}

/// Appends `target_addr`, `target_ip`, `target_port`.
pub fn target(labels: &mut Labels, addr: SocketAddr) {
    labels.push(label("target_addr", addr.to_string()));
    labels.push(label("target_ip", addr.ip().to_string()));
    labels.push(label("target_port", addr.port().to_string()));
}

/// Appends what discovery says about an endpoint, each name with `dst_` before it.
pub fn dst(labels: &mut Labels, discovered: &BTreeMap<String, String>) {
    for (name, value) in discovered {
        labels.push(metrics::Label::new(format!("dst_{name}"), value.clone()));
    }
}

/// Appends `srv_*` of an inbound server policy.
pub fn server(labels: &mut Labels, meta: &Meta, port: u16) {
    labels.push(label("srv_group", meta.group().to_owned()));
    labels.push(label("srv_kind", meta.kind().to_owned()));
    labels.push(label("srv_name", meta.name().to_owned()));
    labels.push(label("srv_port", port.to_string()));
}

/// Appends `{prefix}_group`, `{prefix}_kind` and `{prefix}_name` of a policy resource.
pub fn resource(labels: &mut Labels, prefix: &str, meta: &Meta) {
    for (part, value) in [
        ("group", meta.group()),
        ("kind", meta.kind()),
        ("name", meta.name()),
    ] {
        labels.push(metrics::Label::new(
            format!("{prefix}_{part}"),
            value.to_owned(),
        ));
    }
}

/// Appends `{prefix}_group` to `{prefix}_section_name`: the long form, of parents and backends.
pub fn reference(labels: &mut Labels, prefix: &str, meta: &Meta) {
    let port = meta.port().map(|p| p.to_string()).unwrap_or_default();
    for (part, value) in [
        ("group", meta.group()),
        ("kind", meta.kind()),
        ("namespace", meta.namespace()),
        ("name", meta.name()),
        ("port", port.as_str()),
        ("section_name", meta.section()),
    ] {
        labels.push(metrics::Label::new(
            format!("{prefix}_{part}"),
            value.to_owned(),
        ));
    }
}

/// Appends `{prefix}_group`, `_kind`, `_namespace`, `_name`: how routes are named.
pub fn route(labels: &mut Labels, meta: &Meta) {
    for (name, value) in [
        ("route_group", meta.group()),
        ("route_kind", meta.kind()),
        ("route_namespace", meta.namespace()),
        ("route_name", meta.name()),
    ] {
        labels.push(label(name, value.to_owned()));
    }
}
