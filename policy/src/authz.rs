//! Who may talk to a port: a pure decision that yields the only key to the application.
//!
//! The inbound proxy calls [`authorize`] for every connection or request; tools that explain a
//! decision call the very same function. It does not watch policies and does not count refusals.

use crate::{
    Meta,
    inbound::{Required, ServerPolicy},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// One rule that allows clients (`io.linkerd.proxy.inbound.Authz`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// The resource or default the rule comes from.
    pub meta: Arc<Meta>,
    /// Networks the client's address must be in; none means no client.
    pub networks: Vec<Network>,
    /// What the client has to prove.
    pub authentication: Authentication,
}

/// A network less some parts of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Addresses that match.
    pub net: IpNet,
    /// Addresses that do not, although `net` holds them.
    pub except: Vec<IpNet>,
}

/// What a client has to prove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// Nothing.
    Unauthenticated,
    /// That it speaks mesh TLS, whoever it is.
    TlsUnauthenticated,
    /// That it is one of these.
    TlsAuthenticated {
        /// Identities, compared whole.
        identities: Vec<Arc<str>>,
        /// Suffixes of identities, as DNS labels; an empty one matches every identity.
        suffixes: Vec<Vec<Arc<str>>>,
    },
}

/// What is known about a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientTls {
    /// No mesh TLS on this connection.
    None,
    /// Mesh TLS, with the identity that the client proved, if it did.
    Established {
        /// The verified identity.
        client_id: Option<Arc<str>>,
    },
}

/// Proof that a connection or request was allowed. Only [`authorize`] makes one, and the inbound
/// connection to the application cannot be opened without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    authorization: Arc<Meta>,
}

/// Why a client was turned away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("client {client} is not authorized by server {server}")]
pub struct Deny {
    /// The client's address.
    pub client: IpAddr,
    /// Name of the server policy.
    pub server: Arc<str>,
}

/// Decides whether `client` may use the port that `policy` is about.
///
/// Any one authorization is enough. An IPv4 client that shows up as `::ffff:a.b.c.d` on a
/// dual-stack listener is judged by its IPv4 address.
///
/// # Errors
/// [`Deny`] when no authorization takes the client.
pub fn authorize(policy: &ServerPolicy, client: IpAddr, tls: &ClientTls) -> Result<Permit, Deny> {
    let client = client.to_canonical();
    let granted = policy.authorizations.iter().find(|a| a.admits(client, tls));
    match granted {
        Some(authorization) => Ok(Permit {
            authorization: authorization.meta.clone(),
        }),
        None => Err(Deny {
            client,
            server: policy.meta.name().into(),
        }),
    }
}

// === impl Authorization ===

impl Authorization {
    /// What Linkerd's proxy adds to every policy: the workload may always talk to itself.
    ///
    /// Exactly `127.0.0.1` and `::1`, not the whole of `127.0.0.0/8`: where several workloads
    /// share one machine's loopback, the rest of that network is other workloads.
    pub fn loopback() -> Self {
        let hosts = [
            IpNet::V4(Ipv4Net::from(Ipv4Addr::LOCALHOST)),
            IpNet::V6(Ipv6Net::from(Ipv6Addr::LOCALHOST)),
        ];
        Self {
            meta: Meta::default_named("localhost"),
            networks: hosts.map(Network::from).into(),
            authentication: Authentication::Unauthenticated,
        }
    }

    fn admits(&self, client: IpAddr, tls: &ClientTls) -> bool {
        self.networks.iter().any(|n| n.contains(client)) && self.authentication.holds(tls)
    }
}

// === impl Network ===

impl Network {
    /// Whether `client` is in the network and in none of its exceptions.
    pub fn contains(&self, client: IpAddr) -> bool {
        self.net.contains(&client) && !self.except.iter().any(|e| e.contains(&client))
    }
}

impl From<IpNet> for Network {
    fn from(net: IpNet) -> Self {
        Self {
            net,
            except: Vec::new(),
        }
    }
}

// === impl Authentication ===

impl Authentication {
    /// That the client proves some identity, whichever.
    pub fn any_identity() -> Self {
        Self::TlsAuthenticated {
            identities: Vec::new(),
            suffixes: vec![Vec::new()],
        }
    }

    /// This, and no less than `required`.
    pub(crate) fn at_least(self, required: Required) -> Self {
        match (self, required) {
            (Self::Unauthenticated, Required::Tls) => Self::TlsUnauthenticated,
            (Self::Unauthenticated | Self::TlsUnauthenticated, Required::Identity) => {
                Self::any_identity()
            }
            (strict, _) => strict,
        }
    }

    fn holds(&self, tls: &ClientTls) -> bool {
        match (self, tls) {
            (Self::Unauthenticated, _) => true,
            (Self::TlsUnauthenticated, ClientTls::Established { .. }) => true,
            (
                Self::TlsAuthenticated {
                    identities,
                    suffixes,
                },
                ClientTls::Established {
                    client_id: Some(id),
                },
            ) => identities.iter().any(|i| i == id) || suffixes.iter().any(|s| has_suffix(id, s)),
            (Self::TlsUnauthenticated | Self::TlsAuthenticated { .. }, _) => false,
        }
    }
}

/// Whether `id` is `*.<suffix>`, compared label by label: `evil-foo.bar` is not in `foo.bar`. URI
/// identities have no labels, so only the empty suffix takes them.
fn has_suffix(id: &str, suffix: &[Arc<str>]) -> bool {
    if suffix.is_empty() {
        return true;
    }
    let mut labels = id.rsplit('.');
    !id.contains("://")
        && suffix.iter().rev().all(|want| labels.next() == Some(want))
        && labels.next().is_some_and(|label| !label.is_empty())
}

// === impl Permit ===

impl Permit {
    /// The authorization that let the client in, for metric labels.
    pub fn authorization(&self) -> &Arc<Meta> {
        &self.authorization
    }
}

#[cfg(test)]
mod tests;
