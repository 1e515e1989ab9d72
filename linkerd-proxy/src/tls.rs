//! Mutual TLS between sidecars: TLS 1.3, verified against the mesh's roots and by identity.
//!
//! The only room that knows rustls. A [`Credentials`] is made for each certificate and set of
//! roots, and made anew when either is rotated, so that sessions and tickets never outlive what
//! they were verified with. `identity` makes them; both paths and the control-plane clients use
//! them. Deadlines are the callers'.

mod client;
mod clock;
mod creds;
mod error;
mod leaf;
mod provider;
mod roots;
mod server;
mod sessions;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;

pub use self::{
    client::Client,
    clock::{Clock, rfc3339},
    creds::{Certificate, Credentials, Key},
    error::Error,
    roots::{BadRoots, Roots},
};

use crate::metrics::tls::Handshake;
use rustls::{CommonState, HandshakeKind};
use std::sync::Arc;
use tokio::net::TcpStream;

/// A TLS connection to another sidecar.
pub type Stream = tokio_rustls::TlsStream<TcpStream>;

/// The protocol name by which a client says that it sends a transport header first.
const TRANSPORT_HEADER: &[u8] = b"transport.l5d.io/v1";

/// A connection to a peer that has proved its identity.
pub struct Connected {
    /// The connection, after the handshake.
    pub stream: Stream,
    /// Whether the peer expects a transport header first.
    pub transport_header: bool,
}

/// A connection from a client.
pub struct Accepted {
    /// The connection, after the handshake.
    pub stream: Stream,
    /// The identity the client has proved; `None` when it showed no certificate.
    pub client_id: Option<Arc<str>>,
    /// Whether the client sends a transport header first.
    pub transport_header: bool,
}

/// What a session agreed on.
fn agreed(session: &CommonState) -> Handshake {
    let suite = session.negotiated_cipher_suite();
    let group = session.negotiated_key_exchange_group();
    Handshake {
        suite: suite.and_then(|s| s.suite().as_str()).unwrap_or_default(),
        group: group.and_then(|g| g.name().as_str()).unwrap_or_default(),
        resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}
