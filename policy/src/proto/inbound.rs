//! The policy of a workload's port, as `InboundServerPolicies` streams it.
//!
//! Routes of a server are not matched yet. A route can only add authorizations to the server's own,
//! so passing it over lets in fewer clients, never more. `server_ips` are Linkerd's leftover: no
//! proxy reads them.

use super::{FieldError, Notes, Path, Problem, Read, destination::ip_address, duration, meta};
use crate::{
    DETECT_TIMEOUT,
    authz::{Authentication, Authorization, Network},
    inbound::{Protocol, ServerPolicy},
};
use ipnet::IpNet;
use linkerd2_proxy_api::{
    grpc_route::{GrpcRouteMatch, GrpcRpcMatch},
    http_route::{HttpRouteMatch, PathMatch, path_match},
    inbound::{
        self as wire,
        authn::{self, permit_mesh_tls},
        proxy_protocol::{self, Kind},
    },
    meta::Metadata,
    net::IpNetwork,
};
use std::sync::Arc;

impl TryFrom<wire::Server> for Read<ServerPolicy> {
    type Error = FieldError;

    fn try_from(server: wire::Server) -> Result<Self, FieldError> {
        let root = Path::root();
        let mut notes = Notes::default();
        let kind = server.protocol.and_then(|protocol| protocol.kind);
        let at = root.field("protocol");
        let protocol = protocol(at.required(kind, "kind")?, at, &mut notes)?;
        let at = root.field("authorizations");
        let authorizations = server.authorizations.into_iter().enumerate();
        let value = ServerPolicy {
            meta: meta::read_labels(server.labels, "server", root.field("labels"))?,
            protocol,
            authorizations: authorizations
                .map(|(i, authz)| authorization(authz, at.index(i)))
                .collect::<Result<_, _>>()?,
        };
        Ok(notes.with(value))
    }
}

fn protocol(kind: Kind, at: Path<'_>, notes: &mut Notes) -> Result<Protocol, FieldError> {
    Ok(match kind {
        Kind::Detect(detect) => {
            let at = at.field("detect");
            http_routes(&detect.http_routes, at.field("http_routes"), notes);
            let limit = detect.http_local_rate_limit;
            notes.ignore_if(limit.is_some(), at, "local rate limit");
            Protocol::Detect {
                timeout: duration::read_or(detect.timeout, DETECT_TIMEOUT, at.field("timeout"))?,
            }
        }
        Kind::Http1(http) => {
            let at = at.field("http1");
            http_routes(&http.routes, at.field("routes"), notes);
            notes.ignore_if(http.local_rate_limit.is_some(), at, "local rate limit");
            Protocol::Http1
        }
        Kind::Http2(http) => {
            let at = at.field("http2");
            http_routes(&http.routes, at.field("routes"), notes);
            notes.ignore_if(http.local_rate_limit.is_some(), at, "local rate limit");
            Protocol::Http2
        }
        Kind::Grpc(grpc) => {
            let at = at.field("grpc");
            let at = at.field("routes");
            for (i, route) in grpc.routes.iter().enumerate() {
                let at = at.index(i);
                let filtered = route.rules.iter().any(|rule| !rule.filters.is_empty());
                notes.ignore_if(!route.authorizations.is_empty(), at, "authorizations");
                notes.ignore_if(filtered, at, "filters");
            }
            Protocol::Grpc
        }
        Kind::Opaque(_) => Protocol::Opaque,
        Kind::Tls(_) => Protocol::Tls,
    })
}

fn http_routes(routes: &[wire::HttpRoute], at: Path<'_>, notes: &mut Notes) {
    for (i, route) in routes.iter().enumerate() {
        let at = at.index(i);
        let filtered = route.rules.iter().any(|rule| !rule.filters.is_empty());
        notes.ignore_if(!route.authorizations.is_empty(), at, "authorizations");
        notes.ignore_if(filtered, at, "filters");
    }
}

fn authorization(wire: wire::Authz, at: Path<'_>) -> Result<Authorization, FieldError> {
    let meta = match wire.metadata {
        Some(metadata) => meta::read(Some(metadata), at.field("metadata"))?,
        None => meta::read_labels(wire.labels, "serverauthorization", at.field("labels"))?,
    };
    let networks_at = at.field("networks");
    let networks = wire.networks.into_iter().enumerate();
    Ok(Authorization {
        meta,
        networks: networks
            .map(|(i, net)| network(net, networks_at.index(i)))
            .collect::<Result<_, _>>()?,
        authentication: authentication(wire.authentication, at.field("authentication"))?,
    })
}

fn network(wire: wire::Network, at: Path<'_>) -> Result<Network, FieldError> {
    let except_at = at.field("except");
    let except = wire.except.into_iter().enumerate();
    Ok(Network {
        net: ip_network(wire.net, at.field("net"))?,
        except: except
            .map(|(i, net)| ip_network(Some(net), except_at.index(i)))
            .collect::<Result<_, _>>()?,
    })
}

fn ip_network(wire: Option<IpNetwork>, at: Path<'_>) -> Result<IpNet, FieldError> {
    let IpNetwork { ip, prefix_len } = at.required(wire, "network")?;
    let ip = ip_address(ip, at.field("ip"))?;
    let net = u8::try_from(prefix_len)
        .ok()
        .and_then(|bits| IpNet::new(ip, bits).ok());
    net.ok_or_else(|| at.field("prefix_len").error(Problem::Prefix(prefix_len)))
}

fn authentication(wire: Option<wire::Authn>, at: Path<'_>) -> Result<Authentication, FieldError> {
    let permit = wire.and_then(|authn| authn.permit);
    let tls = match at.required(permit, "permit")? {
        authn::Permit::Unauthenticated(_) => return Ok(Authentication::Unauthenticated),
        authn::Permit::MeshTls(tls) => tls,
    };
    let clients = at.field("mesh_tls").required(tls.clients, "clients")?;
    Ok(match clients {
        permit_mesh_tls::Clients::Unauthenticated(_) => Authentication::TlsUnauthenticated,
        permit_mesh_tls::Clients::Identities(ids) => Authentication::TlsAuthenticated {
            identities: ids.identities.into_iter().map(|i| i.name.into()).collect(),
            suffixes: ids.suffixes.into_iter().map(suffix).collect(),
        },
    })
}

fn suffix(wire: wire::IdentitySuffix) -> Vec<Arc<str>> {
    wire.parts.into_iter().map(Arc::from).collect()
}

// === writing ===

impl From<&ServerPolicy> for wire::Server {
    fn from(policy: &ServerPolicy) -> Self {
        Self {
            protocol: Some(wire::ProxyProtocol {
                kind: Some(policy.protocol.into()),
            }),
            server_ips: Vec::new(),
            authorizations: policy.authorizations.iter().map(Into::into).collect(),
            labels: meta::write_labels(&policy.meta),
        }
    }
}

impl From<Protocol> for Kind {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Detect { timeout } => Self::Detect(proxy_protocol::Detect {
                timeout: Some(duration::write(timeout)),
                http_routes: vec![default_http_route()],
                http_local_rate_limit: None,
            }),
            Protocol::Http1 => Self::Http1(proxy_protocol::Http1 {
                routes: vec![default_http_route()],
                local_rate_limit: None,
            }),
            Protocol::Http2 => Self::Http2(proxy_protocol::Http2 {
                routes: vec![default_http_route()],
                local_rate_limit: None,
            }),
            Protocol::Grpc => Self::Grpc(proxy_protocol::Grpc {
                routes: vec![default_grpc_route()],
            }),
            Protocol::Opaque => Self::Opaque(proxy_protocol::Opaque {}),
            Protocol::Tls => Self::Tls(proxy_protocol::Tls {}),
        }
    }
}

/// Linkerd's proxy answers 404 to what no route takes, so one has to take everything.
fn default_http_route() -> wire::HttpRoute {
    let everything = HttpRouteMatch {
        path: Some(PathMatch {
            kind: Some(path_match::Kind::Prefix("/".to_owned())),
        }),
        ..HttpRouteMatch::default()
    };
    wire::HttpRoute {
        metadata: Some(default_route_metadata()),
        rules: vec![wire::http_route::Rule {
            matches: vec![everything],
            filters: Vec::new(),
        }],
        ..wire::HttpRoute::default()
    }
}

fn default_grpc_route() -> wire::GrpcRoute {
    let everything = GrpcRouteMatch {
        rpc: Some(GrpcRpcMatch::default()),
        headers: Vec::new(),
    };
    wire::GrpcRoute {
        metadata: Some(default_route_metadata()),
        rules: vec![wire::grpc_route::Rule {
            matches: vec![everything],
            filters: Vec::new(),
        }],
        ..wire::GrpcRoute::default()
    }
}

fn default_route_metadata() -> Metadata {
    Metadata {
        kind: Some(linkerd2_proxy_api::meta::metadata::Kind::Default(
            "default".to_owned(),
        )),
    }
}

impl From<&Authorization> for wire::Authz {
    fn from(authz: &Authorization) -> Self {
        Self {
            networks: authz.networks.iter().map(Into::into).collect(),
            authentication: Some(wire::Authn {
                permit: Some((&authz.authentication).into()),
            }),
            labels: meta::write_labels(&authz.meta),
            metadata: Some((&*authz.meta).into()),
        }
    }
}

impl From<&Network> for wire::Network {
    fn from(network: &Network) -> Self {
        Self {
            net: Some(network.net.into()),
            except: network.except.iter().map(|net| (*net).into()).collect(),
        }
    }
}

impl From<&Authentication> for authn::Permit {
    fn from(authentication: &Authentication) -> Self {
        let clients = match authentication {
            Authentication::Unauthenticated => {
                return Self::Unauthenticated(authn::PermitUnauthenticated {});
            }
            Authentication::TlsUnauthenticated => {
                permit_mesh_tls::Clients::Unauthenticated(authn::PermitUnauthenticated {})
            }
            Authentication::TlsAuthenticated {
                identities,
                suffixes,
            } => permit_mesh_tls::Clients::Identities(permit_mesh_tls::PermitClientIdentities {
                identities: identities.iter().map(|id| identity(id)).collect(),
                suffixes: suffixes.iter().map(|s| identity_suffix(s)).collect(),
            }),
        };
        Self::MeshTls(authn::PermitMeshTls {
            clients: Some(clients),
        })
    }
}

fn identity(name: &str) -> wire::Identity {
    wire::Identity {
        name: name.to_owned(),
    }
}

fn identity_suffix(labels: &[Arc<str>]) -> wire::IdentitySuffix {
    wire::IdentitySuffix {
        parts: labels.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests;
