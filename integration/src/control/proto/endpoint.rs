//! Endpoints of a destination, and what is told of them.

use super::{labels, split, tcp};
use linkerd2_proxy_api::{
    destination::{
        AddrSet, NoEndpoints, ProtocolHint, TlsIdentity, Update, WeightedAddr, WeightedAddrSet,
        protocol_hint::{H2, Opaque, OpaqueTransport, Protocol},
        tls_identity::{DnsLikeIdentity, Strategy, UriLikeIdentity},
        update::Update as Kind,
    },
    net::TcpAddress,
};
use std::{collections::HashMap, net::SocketAddr};

/// The weight that Linkerd's control plane gives to ordinary endpoints.
pub const WEIGHT: u32 = 10_000;

/// One endpoint of a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Relative share; [`WEIGHT`] is ordinary.
    pub weight: u32,
    /// Labels for metrics.
    pub labels: Vec<(String, String)>,
    /// What is known of its sidecar; `None` when it has none.
    pub mesh: Option<Mesh>,
}

/// The sidecar of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mesh {
    /// Whom it has to prove to be; a URI when it is one.
    pub identity: String,
    /// The name it goes by in TLS.
    pub server_name: String,
    /// What it takes.
    pub hint: Hint,
    /// Its inbound port, when it takes transport headers.
    pub inbound_port: Option<u16>,
}

/// What a sidecar takes on the port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// Not told.
    Unknown,
    /// HTTP/1 within HTTP/2.
    Http2,
    /// Bytes that are not looked at.
    Opaque,
}

impl From<SocketAddr> for Endpoint {
    fn from(addr: SocketAddr) -> Self {
        let pod = format!("pod-{}", addr.port());
        Self {
            addr,
            weight: WEIGHT,
            labels: vec![("pod".to_owned(), pod)],
            mesh: None,
        }
    }
}

impl Endpoint {
    /// An endpoint at `addr` with a sidecar.
    pub fn meshed(addr: SocketAddr, mesh: Mesh) -> Self {
        Self {
            mesh: Some(mesh),
            ..Self::from(addr)
        }
    }

    pub(super) fn to_proto(&self) -> WeightedAddr {
        WeightedAddr {
            addr: Some(tcp(self.addr)),
            weight: self.weight,
            metric_labels: self.labels.iter().cloned().collect(),
            tls_identity: self.mesh.as_ref().map(Mesh::tls_identity),
            protocol_hint: self.mesh.as_ref().map(Mesh::protocol_hint),
            ..Default::default()
        }
    }
}

impl Mesh {
    /// A sidecar that proves `identity` and takes HTTP/1 within HTTP/2, as Linkerd's do.
    pub fn new(identity: &str) -> Self {
        Self {
            identity: identity.to_owned(),
            server_name: identity.to_owned(),
            hint: Hint::Http2,
            inbound_port: None,
        }
    }

    /// With another name in TLS than its identity.
    pub fn server_name(mut self, name: &str) -> Self {
        self.server_name = name.to_owned();
        self
    }

    /// With another hint.
    pub fn hint(mut self, hint: Hint) -> Self {
        self.hint = hint;
        self
    }

    /// That takes transport headers on its `port`.
    pub fn transport_header(mut self, port: u16) -> Self {
        self.inbound_port = Some(port);
        self
    }

    fn tls_identity(&self) -> TlsIdentity {
        let name = |name: &str| DnsLikeIdentity {
            name: name.to_owned(),
        };
        let strategy = if self.identity.contains("://") {
            Strategy::UriLikeIdentity(UriLikeIdentity {
                uri: self.identity.clone(),
            })
        } else {
            Strategy::DnsLikeIdentity(name(&self.identity))
        };
        TlsIdentity {
            server_name: Some(name(&self.server_name)),
            strategy: Some(strategy),
        }
    }

    fn protocol_hint(&self) -> ProtocolHint {
        ProtocolHint {
            protocol: match self.hint {
                Hint::Unknown => None,
                Hint::Http2 => Some(Protocol::H2(H2 {})),
                Hint::Opaque => Some(Protocol::Opaque(Opaque {})),
            },
            opaque_transport: self.inbound_port.map(|port| OpaqueTransport {
                inbound_port: port.into(),
            }),
        }
    }
}

/// `add` for `endpoints` of `path`.
pub fn add(path: &str, endpoints: &[Endpoint]) -> Update {
    let (name, namespace, _) = split(path);
    let addrs = endpoints.iter().map(Endpoint::to_proto).collect();
    let metric_labels = labels(&[("service", name), ("namespace", namespace)]);
    Update {
        update: Some(Kind::Add(WeightedAddrSet {
            addrs,
            metric_labels,
        })),
    }
}

/// `remove` for `addrs`.
pub fn remove(addrs: &[SocketAddr]) -> Update {
    Update {
        update: Some(Kind::Remove(AddrSet {
            addrs: addrs.iter().copied().map(tcp).collect(),
        })),
    }
}

/// `no_endpoints`.
pub fn no_endpoints(exists: bool) -> Update {
    Update {
        update: Some(Kind::NoEndpoints(NoEndpoints { exists })),
    }
}

/// An address that is none: the IP is missing.
pub fn malformed_add() -> Update {
    let broken = WeightedAddr {
        addr: Some(TcpAddress {
            ip: None,
            port: 70_000,
        }),
        weight: WEIGHT,
        ..Default::default()
    };
    let set = WeightedAddrSet {
        addrs: vec![broken],
        metric_labels: HashMap::new(),
    };
    Update {
        update: Some(Kind::Add(set)),
    }
}
