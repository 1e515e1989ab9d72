//! Who speaks first: how servers that do are served without making their clients wait.
//!
//! Linkerd waits for the client's first bytes, up to ten seconds, so a server that greets first
//! stalls unless its port is declared opaque. Here a client that is silent for a moment has its
//! server dialled, and then both are listened to: whoever speaks first decides. A client that
//! spoke is detected as ever (if it turns out to be HTTP, the connection that was dialled ahead is
//! dropped); a server that spoke makes the connection opaque, at once, unless what it said is HTTP:
//! a server of HTTP/2 may send its settings before the client's, and one of HTTP/1 may tell a
//! silent client that its time is over. Where both stay silent there is nothing to forward and
//! nothing to decide.
//!
//! What was seen is remembered per target, but only for how long the next silence is waited out: it
//! decides nothing about the next connection, so that one odd client cannot spoil a port for all.

use crate::io::Conn;
use std::{io, time::Duration};
use tokio::time::timeout;

/// How long a silent client is waited for before its server is dialled. Clients that speak first
/// do so well within it.
const SILENCE: Duration = Duration::from_millis(50);

/// The same where clients were seen to speak first: then silence is most likely an idle one, whose
/// server need not know of it yet.
const LONG_SILENCE: Duration = Duration::from_secs(1);

/// As much of what a server says first as tells HTTP from the rest: the header of an HTTP/2 frame.
const GREETING: usize = 9;

/// Connections that may be dialled ahead of silent clients at once, per worker and direction;
/// more clients just wait.
pub const MAX_DIALLED_AHEAD: usize = 1_024;

/// Who speaks first on connections to a target, as far as seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Speaks {
    /// Nobody has yet.
    #[default]
    Unknown,
    /// The client, in HTTP: its server is dialled late.
    Client,
    /// The server: it is dialled at once.
    Server,
}

/// Who spoke first on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The client, or it ended its side.
    Client,
    /// The server.
    Server,
    /// The server, but it speaks HTTP, in which it is the client's turn.
    HttpServer,
}

// === impl Speaks ===

impl Speaks {
    /// How long the next client may be silent before its server is dialled.
    pub fn patience(self) -> Duration {
        match self {
            Self::Unknown => SILENCE,
            Self::Client => LONG_SILENCE,
            Self::Server => Duration::ZERO,
        }
    }

    /// The same where the client may be another proxy, which begins with TLS also where the server
    /// is the one to speak first.
    pub fn patience_with_proxies(self) -> Duration {
        self.patience().max(SILENCE)
    }
}

/// Whether the client says nothing for so long.
pub async fn is_silent(client: &mut Conn, patience: Duration) -> bool {
    timeout(patience, client.peekable()).await.is_err()
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
            Ok(true) => server.with_peeked(GREETING, judge),
            Ok(false) => return Err(io::ErrorKind::ConnectionAborted.into()),
            Err(error) => Err(error),
        },
    };
    first.inspect_err(|_| {
        client.reset_on_close();
        server.reset_on_close();
    })
}

/// Judges the first bytes that a server said.
fn judge(greeting: &[u8]) -> First {
    // A SETTINGS frame of the connection, not an acknowledgement (RFC 9113, section 6.5).
    let is_settings = matches!(greeting, [_, _, length, 4, 0, 0, 0, 0, 0] if length % 6 == 0);
    match is_settings || greeting.starts_with(b"HTTP/1.") {
        true => First::HttpServer,
        false => First::Server,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_told_from_servers_that_greet() {
        for http in [
            &b"\0\0\0\x04\0\0\0\0\0"[..],
            b"\0\0\x24\x04\0\0\0\0\0",
            b"HTTP/1.1 ",
            b"HTTP/1.0 ",
        ] {
            assert_eq!(judge(http), First::HttpServer, "{http:?}");
        }
        for other in [
            &b"220 mail."[..],
            b"SSH-2.0-O",
            // MySQL: length and sequence number, then the protocol's version.
            b"\x4a\0\0\0\x0a8.0.",
            b"+",
            b"\0\0\0\x04\x01\0\0\0\0",
        ] {
            assert_eq!(judge(other), First::Server, "{other:?}");
        }
    }
}
