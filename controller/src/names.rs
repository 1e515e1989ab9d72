//! What proxies send to say what they ask about and who they are.
//!
//! Pure parsers of authorities, of the names of Services, and of the tokens that identify a
//! workload. Whether the things named exist is not asked here.

use crate::object::Key;
use serde::Deserialize;
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// A host and a port; 80 when none is given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Authority {
    /// A name in lower case without a closing dot, or an address.
    pub host: Host,
    /// Never 0.
    pub port: u16,
}

/// See [`Authority::host`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A DNS name.
    Name(Arc<str>),
    /// An IP address.
    Ip(IpAddr),
}

/// `<service>.<namespace>.svc.<domain>`, or of a headless Service `<hostname>.` and that.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServiceName {
    /// The Service.
    pub service: Key,
    /// One pod of it.
    pub hostname: Option<Arc<str>>,
}

/// The text is not a host and a port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an authority: expected HOST or HOST:PORT")]
pub struct InvalidAuthority(String);

/// The text does not name a workload.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a workload: expected {{\"ns\":\"NAMESPACE\",\"pod\":\"NAME\"}} or NAMESPACE:POD"
)]
pub struct InvalidWorkload(String);

impl Authority {
    /// Reads `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
    ///
    /// # Errors
    /// When it is none of these.
    pub fn parse(text: &str) -> Result<Self, InvalidAuthority> {
        Self::split(text).ok_or_else(|| InvalidAuthority(text.to_owned()))
    }

    fn split(text: &str) -> Option<Self> {
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Self::at(Host::Ip(addr.ip()), addr.port());
        }
        if let Some(ip) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
            let ip: Ipv6Addr = ip.parse().ok()?;
            return Self::at(Host::Ip(ip.into()), 80);
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, 80),
        };
        if let Ok(ip) = host.parse() {
            return Self::at(Host::Ip(ip), port);
        }
        let host = host.strip_suffix('.').unwrap_or(host);
        let label = |l: &str| !l.is_empty() && l.bytes().all(is_name_byte);
        let valid = host.len() <= 253 && host.split('.').all(label);
        valid.then(|| Self::at(Host::Name(host.to_ascii_lowercase().into()), port))?
    }

    fn at(host: Host, port: u16) -> Option<Self> {
        (port > 0).then_some(Self { host, port })
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

impl ServiceName {
    /// Reads a name below `domain`; `None` for names of other things.
    pub fn parse(name: &str, domain: &str) -> Option<Self> {
        let name = name.strip_suffix(domain)?.strip_suffix(".svc.")?;
        let mut labels = name.split('.').rev();
        let namespace = labels.next().filter(|l| !l.is_empty())?;
        let service = labels.next().filter(|l| !l.is_empty())?;
        let hostname = labels.next();
        labels.next().is_none().then(|| Self {
            service: Key::new(namespace, service),
            hostname: hostname.map(Arc::from),
        })
    }
}

/// Reads `LINKERD2_PROXY_POLICY_WORKLOAD`: `{"ns":"demo","pod":"web-0"}`, or the older `demo:web-0`.
///
/// # Errors
/// When it is neither.
pub fn workload(token: &str) -> Result<Key, InvalidWorkload> {
    #[derive(Deserialize)]
    struct Token {
        ns: String,
        pod: String,
    }
    let token_of = |token: &str| match serde_json::from_str::<Token>(token) {
        Ok(Token { ns, pod }) => Some((ns, pod)),
        Err(_) if token.starts_with('{') => None,
        Err(_) => token
            .split_once(':')
            .map(|(ns, pod)| (ns.to_owned(), pod.to_owned())),
    };
    let parts = token_of(token).filter(|(ns, pod)| !ns.is_empty() && !pod.is_empty());
    let (ns, pod) = parts.ok_or_else(|| InvalidWorkload(token.to_owned()))?;
    Ok(Key::new(&ns, &pod))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str, port: u16) -> Option<Authority> {
        let host = Host::Name(host.into());
        Some(Authority { host, port })
    }

    fn ip(host: &str, port: u16) -> Option<Authority> {
        let host = Host::Ip(host.parse().expect("an address"));
        Some(Authority { host, port })
    }

    #[test]
    fn authorities() {
        let table = [
            ("web", name("web", 80)),
            (
                "Web.Demo.svc.cluster.local.:8080",
                name("web.demo.svc.cluster.local", 8080),
            ),
            ("10.0.0.1", ip("10.0.0.1", 80)),
            ("10.0.0.1:81", ip("10.0.0.1", 81)),
            ("[::1]:81", ip("::1", 81)),
            ("[::1]", ip("::1", 80)),
            ("", None),
            (":80", None),
            ("web:", None),
            ("web:0", None),
            ("web:65536", None),
            ("web:x", None),
            ("a..b", None),
            ("a b", None),
            ("[10.0.0.1]", None),
            ("http://web/", None),
        ];
        for (text, want) in table {
            assert_eq!(Authority::parse(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn names_of_services() {
        let parse = |name| ServiceName::parse(name, "cluster.local");
        let web = parse("web.demo.svc.cluster.local").expect("a service");
        assert_eq!((web.service, web.hostname), (Key::new("demo", "web"), None));
        let db = parse("db-0.db.demo.svc.cluster.local").expect("a pod of a service");
        assert_eq!(db.hostname.as_deref(), Some("db-0"));
        let others = [
            "web.demo.svc.cluster.local.evil",
            "web.demo.svc.xcluster.local",
            "demo.svc.cluster.local",
            ".demo.svc.cluster.local",
            "a.b.c.d.svc.cluster.local",
            "svc.cluster.local",
            "example.com",
        ];
        for other in others {
            assert_eq!(parse(other), None, "{other}");
        }
    }

    #[test]
    fn workloads() {
        let want = Ok(Key::new("demo", "web-0"));
        assert_eq!(
            workload(r#"{"ns":"demo", "pod":"web-0", "nodeName":"x"}"#),
            want
        );
        assert_eq!(workload("demo:web-0"), want);
        for bad in [
            "",
            ":",
            "demo:",
            ":web-0",
            "demo",
            "{",
            "{}",
            r#"{"ns":"demo"}"#,
            "[1]",
        ] {
            assert!(workload(bad).is_err(), "{bad}");
        }
    }
}
