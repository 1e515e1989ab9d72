//! Policies of inbound ports.

use super::{default, duration, labels};
use linkerd2_proxy_api::{
    inbound::{
        self, Authn, Authz, Identity, IdentitySuffix, Network, ProxyProtocol, Server,
        authn::{
            Permit, PermitMeshTls, PermitUnauthenticated,
            permit_mesh_tls::{Clients, PermitClientIdentities},
        },
        proxy_protocol::{Detect, Kind, Opaque},
    },
    net::{IpAddress, IpNetwork},
};
use std::{net::IpAddr, time::Duration};

const DETECT: Duration = Duration::from_secs(10);

/// Any client, read by its first bytes: Linkerd's `all-unauthenticated`.
pub fn open_port() -> Server {
    detected_port(DETECT)
}

/// [`open_port`] with another deadline for the first bytes.
pub fn detected_port(timeout: Duration) -> Server {
    server(detect(timeout), "all-unauthenticated", anyone())
}

/// Any client, bytes not looked at.
pub fn opaque_port() -> Server {
    let opaque = Kind::Opaque(Opaque {});
    server(opaque, "all-unauthenticated", anyone())
}

/// Whoever proves an identity: Linkerd's `all-authenticated`.
pub fn authenticated_port() -> Server {
    let any = IdentitySuffix { parts: Vec::new() };
    let clients = PermitClientIdentities {
        identities: Vec::new(),
        suffixes: vec![any],
    };
    let permit = mesh_tls(Clients::Identities(clients));
    server(detect(DETECT), "all-authenticated", permit)
}

/// Whoever comes by mesh TLS, with an identity or without.
pub fn mesh_tls_port() -> Server {
    let permit = mesh_tls(Clients::Unauthenticated(PermitUnauthenticated {}));
    server(detect(DETECT), "all-tls-unauthenticated", permit)
}

/// `identity` and nobody else.
pub fn only_for(identity: &str) -> Server {
    let clients = PermitClientIdentities {
        identities: vec![Identity {
            name: identity.to_owned(),
        }],
        suffixes: Vec::new(),
    };
    server(
        detect(DETECT),
        "only-one",
        mesh_tls(Clients::Identities(clients)),
    )
}

/// A server policy of which no part can be understood.
pub fn malformed_server() -> Server {
    Server {
        protocol: Some(ProxyProtocol { kind: None }),
        ..Default::default()
    }
}

fn detect(timeout: Duration) -> Kind {
    Kind::Detect(Detect {
        timeout: duration(timeout),
        http_routes: Vec::new(),
        http_local_rate_limit: None,
    })
}

fn anyone() -> Permit {
    Permit::Unauthenticated(PermitUnauthenticated {})
}

fn mesh_tls(clients: Clients) -> Permit {
    Permit::MeshTls(PermitMeshTls {
        clients: Some(clients),
    })
}

fn server(kind: Kind, name: &str, permit: Permit) -> Server {
    let labels = labels(&[("group", ""), ("kind", "default"), ("name", name)]);
    Server {
        protocol: Some(inbound::ProxyProtocol { kind: Some(kind) }),
        server_ips: Vec::new(),
        authorizations: vec![Authz {
            networks: everywhere(),
            authentication: Some(Authn {
                permit: Some(permit),
            }),
            labels: labels.clone(),
            metadata: Some(default(name)),
        }],
        labels,
    }
}

fn everywhere() -> Vec<Network> {
    let all = |ip: IpAddress| Network {
        net: Some(IpNetwork {
            ip: Some(ip),
            prefix_len: 0,
        }),
        except: Vec::new(),
    };
    let v4 = IpAddr::from([0u8; 4]).into();
    let v6 = IpAddr::from([0u16; 8]).into();
    vec![all(v4), all(v6)]
}
