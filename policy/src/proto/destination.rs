//! Endpoints and their changes, as `Destination.Get` streams them.
//!
//! HTTP/2 parameters and the resource reference of an address are not part of the model and are
//! passed over without a note: every address of a Linkerd control plane carries them.

use super::{FieldError, Notes, Path, Problem, Read};
use crate::endpoint::{Endpoint, HintedProtocol, ProtocolHint, TlsIdentity};
use linkerd2_proxy_api::{
    destination::{self as wire, protocol_hint, tls_identity, update},
    net::{IpAddress, TcpAddress},
};
use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// One message of `Destination.Get`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These are there, new or changed.
    Add(Vec<Endpoint>),
    /// These are gone.
    Remove(Vec<SocketAddr>),
    /// There is none.
    NoEndpoints {
        /// Whether the destination itself exists.
        exists: bool,
    },
}

impl TryFrom<wire::Update> for Read<Change> {
    type Error = FieldError;

    /// An address that cannot be used is left out and listed, so that it does not cost the others;
    /// the message is refused when that leaves nothing of it.
    fn try_from(update: wire::Update) -> Result<Self, FieldError> {
        let root = Path::root();
        let mut notes = Notes::default();
        let change = match root.required(update.update, "update")? {
            update::Update::Add(set) => {
                let at = root.field("add");
                let labels = set.metric_labels;
                let read = |addr, at: Path<'_>| endpoint(addr, &labels, at);
                Change::Add(usable(set.addrs, at.field("addrs"), &mut notes, read)?)
            }
            update::Update::Remove(set) => {
                let at = root.field("remove");
                let read = |addr, at: Path<'_>| tcp_address(Some(addr), at);
                Change::Remove(usable(set.addrs, at.field("addrs"), &mut notes, read)?)
            }
            update::Update::NoEndpoints(none) => Change::NoEndpoints {
                exists: none.exists,
            },
        };
        Ok(notes.with(change))
    }
}

/// Reads an address that stands on its own, as in a request for the policy of one.
///
/// # Errors
/// When it has no IP address or no port.
pub fn address(wire: TcpAddress) -> Result<SocketAddr, FieldError> {
    tcp_address(Some(wire), Path::root())
}

fn usable<W, T>(
    wire: Vec<W>,
    at: Path<'_>,
    notes: &mut Notes,
    mut read: impl FnMut(W, Path<'_>) -> Result<T, FieldError>,
) -> Result<Vec<T>, FieldError> {
    let total = wire.len();
    let mut good = Vec::with_capacity(total);
    let mut first_error = None;
    for (i, wire) in wire.into_iter().enumerate() {
        match read(wire, at.index(i)) {
            Ok(value) => good.push(value),
            Err(error) => {
                notes.0.push(error.to_string());
                first_error.get_or_insert(error);
            }
        }
    }
    match first_error {
        Some(e) if good.is_empty() => Err(at.error(Problem::AllUnusable(total, e.to_string()))),
        _ => Ok(good),
    }
}

impl TryFrom<wire::WeightedAddr> for Endpoint {
    type Error = FieldError;

    /// Without the labels of the set that the address may be part of.
    fn try_from(addr: wire::WeightedAddr) -> Result<Self, FieldError> {
        endpoint(addr, &HashMap::new(), Path::root())
    }
}

pub(super) fn endpoint(
    wire: wire::WeightedAddr,
    set_labels: &HashMap<String, String>,
    at: Path<'_>,
) -> Result<Endpoint, FieldError> {
    let mut labels: BTreeMap<_, _> = set_labels.clone().into_iter().collect();
    labels.extend(wire.metric_labels);
    let tls = wire.tls_identity;
    let authority = wire.authority_override.map(|a| a.authority_override);
    Ok(Endpoint {
        addr: tcp_address(wire.addr, at.field("addr"))?,
        weight: wire.weight,
        labels: Arc::new(labels),
        tls: tls
            .map(|tls| tls_identity(tls, at.field("tls_identity")))
            .transpose()?,
        hint: protocol_hint(wire.protocol_hint, at.field("protocol_hint"))?,
        authority_override: authority.filter(|a| !a.is_empty()).map(Arc::from),
    })
}

pub(super) fn tcp_address(
    wire: Option<TcpAddress>,
    at: Path<'_>,
) -> Result<SocketAddr, FieldError> {
    let TcpAddress { ip, port } = at.required(wire, "address")?;
    let ip = ip_address(ip, at.field("ip"))?;
    Ok(SocketAddr::new(ip, some_port(port, at.field("port"))?))
}

pub(super) fn ip_address(wire: Option<IpAddress>, at: Path<'_>) -> Result<IpAddr, FieldError> {
    let ip = wire.ok_or_else(|| at.error(Problem::Missing("address")))?;
    IpAddr::try_from(ip).map_err(|_| at.error(Problem::Address))
}

fn some_port(wire: u32, at: Path<'_>) -> Result<u16, FieldError> {
    match u16::try_from(wire) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(at.error(Problem::Port(wire))),
    }
}

/// A strategy that is not known is an error: to go on without would be to go on in clear text.
fn tls_identity(wire: wire::TlsIdentity, at: Path<'_>) -> Result<TlsIdentity, FieldError> {
    let server_name = wire.server_name.map(|n| n.name).filter(|n| !n.is_empty());
    let (identity, fallback) = match at.required(wire.strategy, "strategy")? {
        tls_identity::Strategy::DnsLikeIdentity(dns) => (dns.name.clone(), Some(dns.name)),
        tls_identity::Strategy::UriLikeIdentity(uri) => (uri.uri, None),
    };
    let server_name = at.required(server_name.or(fallback), "server_name")?;
    Ok(TlsIdentity {
        server_name: server_name.into(),
        identity: identity.into(),
    })
}

fn protocol_hint(
    wire: Option<wire::ProtocolHint>,
    at: Path<'_>,
) -> Result<ProtocolHint, FieldError> {
    let Some(wire) = wire else {
        return Ok(ProtocolHint::default());
    };
    let protocol = match wire.protocol {
        Some(protocol_hint::Protocol::H2(_)) => HintedProtocol::H2,
        Some(protocol_hint::Protocol::Opaque(_)) => HintedProtocol::Opaque,
        None => HintedProtocol::Unknown,
    };
    let at = at.field("opaque_transport");
    let port = wire
        .opaque_transport
        .map(|transport| transport.inbound_port);
    Ok(ProtocolHint {
        protocol,
        opaque_transport_port: port
            .map(|port| some_port(port, at.field("inbound_port")))
            .transpose()?,
    })
}

// === writing ===

impl From<&Endpoint> for wire::WeightedAddr {
    fn from(endpoint: &Endpoint) -> Self {
        let labels = endpoint.labels.iter();
        let authority = endpoint.authority_override.as_ref();
        Self {
            addr: Some(endpoint.addr.into()),
            weight: endpoint.weight,
            metric_labels: labels.map(|(k, v)| (k.clone(), v.clone())).collect(),
            tls_identity: endpoint.tls.as_ref().map(Into::into),
            protocol_hint: endpoint.hint.into(),
            authority_override: authority.map(|authority| wire::AuthorityOverride {
                authority_override: authority.to_string(),
            }),
            http2: None,
            resource_ref: None,
        }
    }
}

impl From<&TlsIdentity> for wire::TlsIdentity {
    fn from(tls: &TlsIdentity) -> Self {
        let name = tls.identity.to_string();
        let strategy = if name.contains("://") {
            tls_identity::Strategy::UriLikeIdentity(tls_identity::UriLikeIdentity { uri: name })
        } else {
            tls_identity::Strategy::DnsLikeIdentity(tls_identity::DnsLikeIdentity { name })
        };
        Self {
            server_name: Some(tls_identity::DnsLikeIdentity {
                name: tls.server_name.to_string(),
            }),
            strategy: Some(strategy),
        }
    }
}

/// Nothing on the wire when nothing is known.
impl From<ProtocolHint> for Option<wire::ProtocolHint> {
    fn from(hint: ProtocolHint) -> Self {
        let protocol = match hint.protocol {
            HintedProtocol::Unknown => None,
            HintedProtocol::H2 => Some(protocol_hint::Protocol::H2(protocol_hint::H2 {})),
            HintedProtocol::Opaque => {
                Some(protocol_hint::Protocol::Opaque(protocol_hint::Opaque {}))
            }
        };
        let opaque_transport =
            hint.opaque_transport_port
                .map(|port| protocol_hint::OpaqueTransport {
                    inbound_port: port.into(),
                });
        (hint != ProtocolHint::default()).then_some(wire::ProtocolHint {
            opaque_transport,
            protocol,
        })
    }
}

#[cfg(test)]
mod tests;
