//! What a workload's proxy accepts on one port.
//!
//! The controller builds these values, the proxy acts on them; both build the six defaults here, so
//! a proxy that has not heard from its controller yet does what the controller is going to say.

use crate::{
    DETECT_TIMEOUT, Meta,
    authz::{Authentication, Authorization, Network},
};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::{fmt, str::FromStr, sync::Arc, time::Duration};

/// The policy of a port (`io.linkerd.proxy.inbound.Server`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerPolicy {
    /// The `Server` resource or the default that this policy is.
    pub meta: Arc<Meta>,
    /// How traffic to the port is read.
    pub protocol: Protocol,
    /// Who may connect; nobody when none matches.
    pub authorizations: Arc<[Authorization]>,
}

/// What every client of a port has to prove, whatever its policy grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Required {
    /// That it speaks mesh TLS.
    Tls,
    /// Some mesh identity.
    Identity,
}

/// How traffic to a port is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Look at the first bytes.
    Detect {
        /// How long undecided bytes may hold a connection up.
        timeout: Duration,
    },
    /// Known to be HTTP/1.
    Http1,
    /// Known to be HTTP/2.
    Http2,
    /// Known to be gRPC.
    Grpc,
    /// Not to be looked at.
    Opaque,
    /// TLS that the application ends.
    Tls,
}

/// What holds on a port that no resource speaks of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DefaultPolicy {
    /// Nobody may connect.
    Deny,
    /// Everybody who proves a mesh identity.
    AllAuthenticated,
    /// Everybody who speaks mesh TLS, whoever it is.
    AllTlsUnauthenticated,
    /// Everybody.
    #[default]
    AllUnauthenticated,
    /// Who is in the cluster's networks and proves a mesh identity.
    ClusterAuthenticated,
    /// Who is in the cluster's networks.
    ClusterUnauthenticated,
    /// Everybody, but labelled so that it shows who would be turned away.
    Audit,
}

/// The name is not one of [`DefaultPolicy`]'s.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a default policy: expected deny, all-authenticated, all-tls-unauthenticated, \
     all-unauthenticated, cluster-authenticated, cluster-unauthenticated or audit"
)]
pub struct UnknownDefaultPolicy(pub String);

// === impl ServerPolicy ===

impl ServerPolicy {
    /// The policy of a port that no resource speaks of.
    ///
    /// `cluster_networks` are the networks of the `cluster-*` policies; on an `opaque` port the
    /// protocol is not detected.
    pub fn default_named(policy: DefaultPolicy, cluster_networks: &[IpNet], opaque: bool) -> Self {
        let meta = Meta::default_named(policy.name());
        let authorizations = policy
            .grants(cluster_networks)
            .map(|(nets, authentication)| Authorization {
                meta: meta.clone(),
                networks: nets.into_iter().map(Network::from).collect(),
                authentication,
            });
        Self {
            authorizations: authorizations.into_iter().collect(),
            protocol: if opaque {
                Protocol::Opaque
            } else {
                Protocol::Detect {
                    timeout: DETECT_TIMEOUT,
                }
            },
            meta,
        }
    }

    /// The same policy, for clients that prove no less than `required`.
    pub fn requiring(mut self, required: Required) -> Self {
        let strict = |granted: &Authorization| Authorization {
            authentication: granted.authentication.clone().at_least(required),
            ..granted.clone()
        };
        self.authorizations = self.authorizations.iter().map(strict).collect();
        self
    }
}

// === impl DefaultPolicy ===

impl DefaultPolicy {
    /// Every policy, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Deny,
        Self::AllAuthenticated,
        Self::AllTlsUnauthenticated,
        Self::AllUnauthenticated,
        Self::ClusterAuthenticated,
        Self::ClusterUnauthenticated,
        Self::Audit,
    ];

    /// The name in configuration, annotations and metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::AllAuthenticated => "all-authenticated",
            Self::AllTlsUnauthenticated => "all-tls-unauthenticated",
            Self::AllUnauthenticated => "all-unauthenticated",
            Self::ClusterAuthenticated => "cluster-authenticated",
            Self::ClusterUnauthenticated => "cluster-unauthenticated",
            Self::Audit => "audit",
        }
    }

    /// From where and with what proof one may connect; `None`: not at all.
    fn grants(self, cluster: &[IpNet]) -> Option<(Vec<IpNet>, Authentication)> {
        let everywhere = || vec![Ipv4Net::default().into(), Ipv6Net::default().into()];
        match self {
            Self::Deny => None,
            Self::AllAuthenticated => Some((everywhere(), Authentication::any_identity())),
            Self::AllTlsUnauthenticated => Some((everywhere(), Authentication::TlsUnauthenticated)),
            Self::AllUnauthenticated | Self::Audit => {
                Some((everywhere(), Authentication::Unauthenticated))
            }
            Self::ClusterAuthenticated => Some((cluster.to_vec(), Authentication::any_identity())),
            Self::ClusterUnauthenticated => {
                Some((cluster.to_vec(), Authentication::Unauthenticated))
            }
        }
    }
}

impl fmt::Display for DefaultPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for DefaultPolicy {
    type Err = UnknownDefaultPolicy;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|policy| policy.name() == s)
            .ok_or_else(|| UnknownDefaultPolicy(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authz::{ClientTls, authorize};
    use std::net::IpAddr;

    #[test]
    fn names_parse_back() {
        for policy in DefaultPolicy::ALL {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        let error = "all".parse::<DefaultPolicy>().unwrap_err();
        assert!(
            error.to_string().contains("cluster-unauthenticated"),
            "{error}"
        );
    }

    #[test]
    fn who_gets_in_by_default() {
        let cluster: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let inside: IpAddr = "10.1.2.3".parse().unwrap();
        let outside: IpAddr = "2001:db8::1".parse().unwrap();
        let proven = ClientTls::Established {
            client_id: Some("web.demo".into()),
        };
        // (inside, no TLS), (inside, identity), (outside, no TLS), (outside, identity)
        let expected = [
            [false, false, false, false],
            [false, true, false, true],
            [false, true, false, true],
            [true, true, true, true],
            [false, true, false, false],
            [true, true, false, false],
            [true, true, true, true],
        ];
        for (policy, want) in DefaultPolicy::ALL.into_iter().zip(expected) {
            let server = ServerPolicy::default_named(policy, &cluster, false);
            let got = [
                authorize(&server, inside, &ClientTls::None).is_ok(),
                authorize(&server, inside, &proven).is_ok(),
                authorize(&server, outside, &ClientTls::None).is_ok(),
                authorize(&server, outside, &proven).is_ok(),
            ];
            assert_eq!(got, want, "{policy}");
            assert_eq!(
                (server.meta.group(), server.meta.kind(), server.meta.name()),
                ("", "default", policy.name()),
            );
        }
    }

    #[test]
    fn what_is_required_is_required_of_everybody() {
        let anonymous = ClientTls::Established { client_id: None };
        let proven = ClientTls::Established {
            client_id: Some("web.demo".into()),
        };
        let client: IpAddr = "127.0.0.1".parse().unwrap();
        for (required, want) in [
            (Required::Tls, [false, true, true]),
            (Required::Identity, [false, false, true]),
        ] {
            let policy = DefaultPolicy::AllUnauthenticated;
            let mut server = ServerPolicy::default_named(policy, &[], false);
            server.authorizations = [&server.authorizations[..], &[Authorization::loopback()]]
                .concat()
                .into();
            let server = server.requiring(required);
            let got = [&ClientTls::None, &anonymous, &proven]
                .map(|tls| authorize(&server, client, tls).is_ok());
            assert_eq!(got, want, "{required:?}");
        }
    }

    #[test]
    fn an_opaque_port_is_not_looked_at() {
        let policy = DefaultPolicy::AllUnauthenticated;
        let opaque = ServerPolicy::default_named(policy, &[], true);
        assert_eq!(opaque.protocol, Protocol::Opaque);
        let other = ServerPolicy::default_named(policy, &[], false);
        let timeout = Duration::from_secs(10);
        assert_eq!(other.protocol, Protocol::Detect { timeout });
    }
}
