//! One address that backs a destination, and what is known about it.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

/// An address of a backend (`io.linkerd.proxy.destination.WeightedAddr`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where to connect.
    pub addr: SocketAddr,
    /// Relative share of traffic; the control plane's normal value is [`Endpoint::WEIGHT`].
    pub weight: u32,
    /// Labels for metrics, without the `dst_` prefix; set-level and address-level ones merged.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The identity the peer has to prove; `None` when the endpoint is not meshed.
    pub tls: Option<TlsIdentity>,
    /// What the peer's proxy can take.
    pub hint: ProtocolHint,
    /// Replaces the authority of requests sent there (multicluster gateways).
    pub authority_override: Option<Arc<str>>,
}

/// Whom to expect behind an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsIdentity {
    /// Name for SNI.
    pub server_name: Arc<str>,
    /// The subject alternative name the peer's certificate has to carry.
    pub identity: Arc<str>,
}

/// What the proxy in front of an endpoint understands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProtocolHint {
    /// The protocol the endpoint's proxy expects.
    pub protocol: HintedProtocol,
    /// The peer's inbound port, when it takes a transport header there.
    pub opaque_transport_port: Option<u16>,
}

/// See [`ProtocolHint::protocol`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HintedProtocol {
    /// Nothing is known.
    #[default]
    Unknown,
    /// HTTP/1 may be carried over HTTP/2 to this peer.
    H2,
    /// The peer treats this port as opaque.
    Opaque,
}

impl Endpoint {
    /// The weight that Linkerd's control plane gives to ordinary endpoints.
    pub const WEIGHT: u32 = 10_000;

    /// An endpoint of which only the address is known.
    pub fn bare(addr: SocketAddr) -> Self {
        Self {
            addr,
            weight: Self::WEIGHT,
            labels: Arc::default(),
            tls: None,
            hint: ProtocolHint::default(),
            authority_override: None,
        }
    }
}
