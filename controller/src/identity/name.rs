//! Names of workload identities.
//!
//! A service account's identity is `NAME.NAMESPACE.serviceaccount.identity.CONTROL.DOMAIN`, where
//! CONTROL is the namespace of the control plane and DOMAIN the trust domain. Pure text, which the
//! certificates, the endpoints and the tokens have to agree on.

use std::{fmt, sync::Arc};

/// Who a workload is to Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceAccount {
    namespace: Arc<str>,
    name: Arc<str>,
}

/// Gives service accounts their identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identities {
    control_namespace: Arc<str>,
    trust_domain: Arc<str>,
}

// === impl ServiceAccount ===

impl ServiceAccount {
    /// `None`: Kubernetes allows no such names, and some would be read as others once in an identity.
    pub fn new(namespace: &str, name: &str) -> Option<Self> {
        // A name may have dots, a namespace may not, so the two can be told apart.
        let valid = is_label(namespace) && is_domain(name);
        valid.then(|| Self {
            namespace: namespace.into(),
            name: name.into(),
        })
    }

    /// Reads `system:serviceaccount:NAMESPACE:NAME`.
    pub fn of_username(username: &str) -> Option<Self> {
        let parts = username.strip_prefix(USERNAME)?;
        let (namespace, name) = parts.split_once(':')?;
        Self::new(namespace, name)
    }

    /// What Kubernetes calls it as a user.
    pub fn username(&self) -> String {
        format!("{USERNAME}{}:{}", self.namespace, self.name)
    }
}

const USERNAME: &str = "system:serviceaccount:";

impl fmt::Display for ServiceAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

// === impl Identities ===

impl Identities {
    /// `None`: these are no names that certificates can carry.
    pub fn new(control_namespace: &str, trust_domain: &str) -> Option<Self> {
        let valid = is_label(control_namespace) && is_domain(trust_domain);
        valid.then(|| Self {
            control_namespace: control_namespace.into(),
            trust_domain: trust_domain.into(),
        })
    }

    /// The identity of a service account.
    pub fn of(&self, account: &ServiceAccount) -> String {
        let ServiceAccount { namespace, name } = account;
        let control = &self.control_namespace;
        let domain = &self.trust_domain;
        format!("{name}.{namespace}.serviceaccount.identity.{control}.{domain}")
    }

    /// One as good as any, to try things out with.
    pub fn example(&self) -> String {
        let example = ServiceAccount {
            namespace: "default".into(),
            name: "default".into(),
        };
        self.of(&example)
    }

    /// Below which all identities are.
    pub fn trust_domain(&self) -> &Arc<str> {
        &self.trust_domain
    }

    /// The namespace of the control plane.
    pub fn control_namespace(&self) -> &Arc<str> {
        &self.control_namespace
    }
}

/// Of a DNS name in lower case, RFC 1123.
pub fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| *byte != b'-');
    let bytes = text.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().copied().all(inner)
}

/// One such label or several.
pub fn is_domain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_as_linkerds() {
        let identities = Identities::new("gossamer", "cluster.local").expect("names");
        let account = ServiceAccount::of_username("system:serviceaccount:demo:web");
        let account = account.expect("a service account");
        assert_eq!(account.username(), "system:serviceaccount:demo:web");
        assert_eq!(
            identities.of(&account),
            "web.demo.serviceaccount.identity.gossamer.cluster.local"
        );
    }

    #[test]
    fn names_that_could_be_read_as_others_are_refused() {
        let long = "a".repeat(64);
        for (namespace, name) in [
            ("demo.x", "web"),
            ("demo", "web:x"),
            ("demo", ""),
            ("", "web"),
            ("demo", "web."),
            ("demo", ".web"),
            ("demo", "we*b"),
            ("demo", "Web"),
            ("demo", "-web"),
            ("demo-", "web"),
            (&long, "web"),
        ] {
            assert_eq!(
                ServiceAccount::new(namespace, name),
                None,
                "{namespace}/{name}"
            );
        }
        assert!(ServiceAccount::new("demo", "web.v1").is_some());
        for bad in [
            "",
            "system:serviceaccount:",
            "system:node:x",
            "system:serviceaccount:demo",
        ] {
            assert_eq!(ServiceAccount::of_username(bad), None, "{bad}");
        }
        assert_eq!(Identities::new("gossamer", "cluster..local"), None);
    }
}
