//! Who speaks first: how servers that do are served without making their clients wait.
//!
//! Linkerd waits for the client's first bytes, up to ten seconds, so a server that greets first
//! stalls unless its port is declared opaque. Here a client that is silent for a moment has its
//! server dialled, and then both are listened to: whoever speaks first decides. A client that
//! spoke is detected as ever (if it turns out to be HTTP, the connection that was dialled ahead is
//! dropped); a server that spoke makes the connection opaque, at once. What was seen is remembered
//! per target, so that the next connection neither waits nor dials in vain. Where both stay
//! silent there is nothing to forward and nothing to decide.

use crate::io::Conn;
use std::{io, time::Duration};
use tokio::time::timeout;

/// How long a silent client is waited for before its server is dialled. Clients that speak first
/// do so well within it.
const SILENCE: Duration = Duration::from_millis(50);

/// Connections that may be dialled ahead of silent clients at once, per worker and direction;
/// more clients just wait.
pub const MAX_DIALLED_AHEAD: usize = 1_024;

/// Who speaks first on connections to a target, as far as seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speaks {
    /// Nobody has yet.
    #[default]
    Unknown,
    /// The client: there is no point in dialling ahead.
    Client,
    /// The server: there is no point in waiting for the client.
    Server,
}

/// Who spoke first on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The client, or it ended its side.
    Client,
    /// The server.
    Server,
}

/// Whether the client has said nothing for a moment.
pub async fn is_silent(client: &mut Conn) -> bool {
    timeout(SILENCE, client.peekable()).await.is_err()
}

/// Waits until one of both speaks.
///
/// # Errors
///
/// Those of the sockets, and then the client's connection will be reset, too; and
/// `ConnectionAborted` when the server ends the connection without a byte, which the client is to
/// see as it would without a proxy.
pub async fn first_to_speak(client: &mut Conn, server: &mut Conn) -> io::Result<First> {
    let first = tokio::select! {
        // When both have spoken, what the client said tells more.
        biased;
        first = client.peekable() => first.map(|_| First::Client),
        first = server.peekable() => match first {
            Ok(true) => Ok(First::Server),
            Ok(false) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Err(error) => Err(error),
        },
    };
    first.inspect_err(|_| {
        client.reset_on_close();
        server.reset_on_close();
    })
}
