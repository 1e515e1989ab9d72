//! Addresses and names: what a connection was made for.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Longest DNS name (RFC 1035, section 2.3.4).
const MAX_NAME: usize = 253;

/// What traffic is addressed to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// An address: where the application connected to.
    Addr(SocketAddr),
    /// A name and a port, from an authority or a port mapping; in lower case, without final dot.
    Name(Arc<str>, u16),
}

impl Target {
    /// Parses `NAME:PORT`, `IP:PORT` or `[IPv6]:PORT`.
    pub fn parse(s: &str) -> Option<Self> {
        if let Ok(addr) = s.parse() {
            return Some(Self::Addr(addr));
        }
        let (name, port) = s.rsplit_once(':')?;
        Self::from_parts(name, port.parse().ok()?)
    }

    /// Makes a target of a host, as URIs write it, and a port.
    pub fn from_parts(host: &str, port: u16) -> Option<Self> {
        let bare = host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .unwrap_or(host);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Some(Self::Addr(SocketAddr::new(ip, port)));
        }
        let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        is_dns_name(&name).then(|| Self::Name(name.into(), port))
    }

    /// The target of a request's authority.
    pub fn from_authority(authority: &http::uri::Authority, default_port: u16) -> Option<Self> {
        Self::from_parts(
            authority.host(),
            authority.port_u16().unwrap_or(default_port),
        )
    }

    /// The port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Addr(addr) => addr.port(),
            Self::Name(_, port) => *port,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// Whether `name` is a host name, with or without dots, without a final one. Underscores pass:
/// they are used in practice.
pub fn is_dns_name(name: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    name.len() <= MAX_NAME && name.split('.').all(label)
}

/// The address that a dual-stack listener shows as an IPv4-mapped IPv6 one, as what it is.
pub fn unmap(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_addresses_or_names() {
        assert_eq!(
            Target::parse("[::1]:80"),
            Some(Target::Addr("[::1]:80".parse().unwrap()))
        );
        assert_eq!(
            Target::parse("Web.demo.:80"),
            Some(Target::Name("web.demo".into(), 80))
        );
        for bad in [
            "web",
            "web:",
            "web:70000",
            "-a:1",
            "a b:1",
            "a..b:1",
            ":1",
            "[::1:80",
        ] {
            assert_eq!(Target::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn an_authority_without_port_gets_the_default() {
        let authority = "[::1]".parse().unwrap();
        let want = Target::Addr("[::1]:80".parse().unwrap());
        assert_eq!(Target::from_authority(&authority, 80), Some(want));
    }
}
