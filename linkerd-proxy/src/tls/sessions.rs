//! Sessions that may be resumed, for each peer.
//!
//! All replicas of a workload have one name, and each can only take up sessions that it began
//! itself, so a peer is an address and a name. rustls asks a store by name alone; hence each peer
//! has a store of its own, in a configuration that is made when the peer is first met.

use super::TRANSPORT_HEADER;
use ahash::AHashMap;
use parking_lot::Mutex;
use rustls::{
    ClientConfig, NamedGroup,
    client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue},
};
use rustls_pki_types::ServerName;
use std::{collections::VecDeque, fmt, net::SocketAddr, sync::Arc};
use tokio_rustls::TlsConnector;

/// Peers that are remembered: at least so many, at most twice as many.
const MAX_PEERS: usize = 256;

/// Sessions for each of them. One is used once, and is some 3 KiB.
const MAX_SESSIONS: usize = 4;

/// Whom a session is with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Peer {
    pub(super) addr: SocketAddr,
    pub(super) server_name: Arc<str>,
    /// Whether the transport header is offered.
    pub(super) offers_header: bool,
}

/// What connects to each peer.
pub(super) struct Peers {
    template: ClientConfig,
    known: Mutex<Generations>,
}

/// Whoever is not met for a whole generation is forgotten.
#[derive(Default)]
struct Generations {
    young: AHashMap<Peer, TlsConnector>,
    old: AHashMap<Peer, TlsConnector>,
}

/// The sessions with one peer.
#[derive(Default)]
struct Sessions {
    tickets: Mutex<VecDeque<Tls13ClientSessionValue>>,
    /// The group that the peer chose last.
    group: Mutex<Option<NamedGroup>>,
}

// === impl Peers ===

impl Peers {
    /// Makes configurations after `template`.
    pub(super) fn new(template: ClientConfig) -> Self {
        Self {
            template,
            known: Mutex::default(),
        }
    }

    /// What connects to `peer`.
    pub(super) fn connector(&self, peer: Peer) -> TlsConnector {
        let mut known = self.known.lock();
        known.get(peer, |peer| {
            let mut config = self.template.clone();
            config.resumption = Resumption::store(Arc::new(Sessions::default()));
            if peer.offers_header {
                config.alpn_protocols = vec![TRANSPORT_HEADER.to_vec()];
            }
            Arc::new(config).into()
        })
    }
}

// === impl Generations ===

impl Generations {
    fn get(&mut self, peer: Peer, make: impl FnOnce(&Peer) -> TlsConnector) -> TlsConnector {
        if let Some(config) = self.young.get(&peer) {
            return config.clone();
        }
        let known = self.old.remove(&peer);
        let config = known.unwrap_or_else(|| make(&peer));
        if self.young.len() >= MAX_PEERS {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(peer, config.clone());
        config
    }
}

// === impl Sessions ===

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        *self.group.lock() = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        *self.group.lock()
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        let mut tickets = self.tickets.lock();
        if tickets.len() == MAX_SESSIONS {
            tickets.pop_front();
        }
        tickets.push_back(ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.tickets.lock().pop_back()
    }
}

/// Sessions are secrets.
impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sessions")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::{provider::provider, testing::Authority, verify::ServerVerifier};
    use rustls::version::TLS13;

    fn peer(port: u16) -> Peer {
        Peer {
            addr: ([127, 0, 0, 1], port).into(),
            server_name: "web".into(),
            offers_header: false,
        }
    }

    fn peers() -> Peers {
        let verifier = ServerVerifier::new(&Authority::new("root").roots());
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Peers::new(config)
    }

    fn same(a: &TlsConnector, b: &TlsConnector) -> bool {
        Arc::ptr_eq(a.config(), b.config())
    }

    #[test]
    fn a_peer_is_an_address_and_a_name_and_what_is_offered() {
        let peers = peers();
        let first = peers.connector(peer(1));
        assert!(same(&first, &peers.connector(peer(1))));
        let others = [
            peer(2),
            Peer {
                server_name: "api".into(),
                ..peer(1)
            },
            Peer {
                offers_header: true,
                ..peer(1)
            },
        ];
        for other in others {
            assert!(!same(&first, &peers.connector(other)));
        }
    }

    #[test]
    fn those_not_met_for_long_are_forgotten() {
        let peers = peers();
        let (kept, lost) = (peers.connector(peer(1)), peers.connector(peer(2)));
        for port in 1_000..1_000 + 3 * MAX_PEERS as u16 {
            peers.connector(peer(port));
            assert!(same(&kept, &peers.connector(peer(1))));
        }
        assert!(!same(&lost, &peers.connector(peer(2))));
        let known = peers.known.lock();
        assert!(known.young.len() <= MAX_PEERS && known.old.len() <= MAX_PEERS);
    }
}
