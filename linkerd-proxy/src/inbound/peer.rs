//! Who is at the other end of a connection, and what that client may do on a port.

use super::port::{Counted, Granted, Port};
use crate::{error::Error, metrics::labels::Tls};
use http::HeaderValue;
use mesh_policy::{
    authz::{ClientTls, Deny, Permit, authorize},
    inbound::ServerPolicy,
};
use std::{cell::RefCell, net::IpAddr, rc::Rc, sync::Arc};

/// A client, and what it has proved.
#[derive(Clone)]
pub struct Peer {
    ip: IpAddr,
    tls: Tls,
    proved: ClientTls,
}

/// A client's use of a port: the decision on its requests is kept while the policy stays.
pub struct Access {
    port: Rc<Port>,
    peer: Peer,
    client_id: Option<HeaderValue>,
    decided: RefCell<Option<Decided>>,
}

struct Decided {
    policy: Arc<ServerPolicy>,
    verdict: Result<(Permit, Rc<Granted>), Deny>,
}

// === impl Peer ===

impl Peer {
    /// A client at `ip` whose connection is `tls`.
    pub fn new(ip: IpAddr, tls: Tls) -> Self {
        let proved = match &tls {
            Tls::Client { id } => ClientTls::Established {
                client_id: id.clone(),
            },
            _ => ClientTls::None,
        };
        Self { ip, tls, proved }
    }

    /// The same client, whose connection is `tls`.
    pub fn with(&self, tls: Tls) -> Self {
        Self::new(self.ip, tls)
    }

    /// The client's address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// What the connection is, for labels.
    pub fn tls(&self) -> &Tls {
        &self.tls
    }

    /// Whether the client came over mesh TLS.
    pub fn is_meshed(&self) -> bool {
        self.proved != ClientTls::None
    }

    /// The identity that the client has proved.
    pub fn client_id(&self) -> Option<&str> {
        match &self.proved {
            ClientTls::Established { client_id } => client_id.as_deref(),
            ClientTls::None => None,
        }
    }

    /// Decides whether the client may use a port with this policy.
    ///
    /// # Errors
    ///
    /// [`Deny`].
    pub fn authorize(&self, policy: &ServerPolicy) -> Result<Permit, Deny> {
        authorize(policy, self.ip, &self.proved)
    }
}

// === impl Access ===

impl Access {
    /// The use that `peer` makes of `port`.
    pub fn new(port: Rc<Port>, peer: Peer) -> Self {
        let client_id = peer.client_id().and_then(|id| id.parse().ok());
        Self {
            port,
            peer,
            client_id,
            decided: RefCell::default(),
        }
    }

    /// The port.
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// The client.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// What the application is told of who the client is (`l5d-client-id`).
    pub fn client_id(&self) -> Option<&HeaderValue> {
        self.client_id.as_ref()
    }

    /// Decides on one request, and counts it; the policy may have changed since the last one.
    ///
    /// # Errors
    ///
    /// [`Error::Unauthorized`].
    pub fn authorize(&self) -> Result<(Permit, Rc<Granted>), Error> {
        let policy = self.port.policy();
        let mut decided = self.decided.borrow_mut();
        let still = decided.take().filter(|d| Arc::ptr_eq(&d.policy, &policy));
        let decided = decided.insert(still.unwrap_or_else(|| self.decide(policy)));
        match &decided.verdict {
            Ok((permit, granted)) => {
                granted.allowed.increment(1);
                Ok((permit.clone(), granted.clone()))
            }
            Err(deny) => {
                self.port
                    .count(Counted::HttpDenied(self.peer.tls().clone()));
                tracing::info!(%deny, "request denied");
                Err(deny.clone().into())
            }
        }
    }

    fn decide(&self, policy: Arc<ServerPolicy>) -> Decided {
        let verdict = self.peer.authorize(&policy).map(|permit| {
            let granted = self.port.granted(&permit, self.peer.tls());
            (permit, granted)
        });
        Decided { policy, verdict }
    }
}
