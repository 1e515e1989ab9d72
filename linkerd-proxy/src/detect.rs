//! What a connection speaks, told from its first bytes, which stay where they are.
//!
//! The bytes are peeked at in the kernel's buffer, so none can be lost or reordered and an idle
//! connection holds no memory of ours. The judging is in the pure submodules; this one waits. A
//! connection that has sent nothing is not judged at all: silence decides nothing, so nothing
//! times out; what to do meanwhile (a server may speak first) is the caller's to know, see [`first`]. Bytes that stay undecided past the deadline
//! are opaque.

pub mod first;
pub mod http;
pub mod tls;

use crate::io::Conn;
use std::{io, time::Duration};
use tokio::time::{Instant, timeout_at};

/// How much is looked at: a ClientHello with post-quantum shares, or a long request line.
const MAX_PEEK: usize = 16 * 1024;

/// Looked at first, on the stack: most connections are decided by it.
const FIRST_PEEK: usize = 512;

/// What a connection speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// TLS, with the server name that the client asked for.
    Tls {
        /// In lower case.
        sni: Option<String>,
    },
    /// Anything else.
    Opaque,
    /// Bytes that did not decide in time; to be treated as opaque.
    Undecided,
    /// Nothing: the client closed its side without a byte.
    Closed,
}

/// Judges the first bytes of `conn`, waiting for more of them until `timeout` after the first.
///
/// # Errors
///
/// Those of the socket.
pub async fn detect(conn: &mut Conn, timeout: Duration) -> io::Result<Protocol> {
    conn.peekable().await?;
    if let Some(protocol) = conn.with_peeked(FIRST_PEEK, judge)? {
        return Ok(protocol);
    }
    let deadline = Instant::now() + timeout;
    let mut seen = 0;
    loop {
        let judged = timeout_at(deadline, conn.peek_past(seen, MAX_PEEK, judge)).await;
        let Ok(judged) = judged else {
            conn.take_ahead()?;
            return Ok(Protocol::Undecided);
        };
        match judged? {
            (_, Some(protocol)) => return Ok(protocol),
            // The client has closed its side, or there is no room for more.
            (n, None) if n <= seen || n >= MAX_PEEK => {
                conn.take_ahead()?;
                return Ok(Protocol::Opaque);
            }
            (n, None) => seen = n,
        }
    }
}

/// Judges bytes; `None` when they do not decide.
fn judge(bytes: &[u8]) -> Option<Protocol> {
    if bytes.is_empty() {
        return Some(Protocol::Closed);
    }
    let full = bytes.len() >= MAX_PEEK;
    match tls::detect(bytes) {
        tls::Tls::ClientHello { sni } => return Some(Protocol::Tls { sni }),
        tls::Tls::NeedMore => return None,
        tls::Tls::Not => {}
    }
    match http::detect(bytes, full) {
        http::Http::Http1 => Some(Protocol::Http1),
        http::Http::Http2 => Some(Protocol::Http2),
        http::Http::Not => Some(Protocol::Opaque),
        http::Http::NeedMore => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{Authority, Hands, peer, shake};
    use tokio::{io::AsyncWriteExt, time::timeout};

    #[tokio::test]
    async fn no_more_is_taken_off_tls_than_may_be_looked_at() {
        let (hands, root) = (Hands::new(), Authority::new("root"));
        let credentials = |name| root.credentials(name, &root.roots(), &hands);
        let (web, api) = (credentials("web"), credentials("api"));
        let (client, server) = shake(&web, &api, &peer("api")).await;
        let mut client = client.unwrap().stream;
        let mut conn = Conn::tls(server.unwrap().stream);
        // A ClientHello that is one record of the largest size does not end within what is looked at.
        let mut bytes = vec![22, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff];
        bytes.resize(3 * MAX_PEEK, 0);
        let writing = async {
            // What is left over stays with the sender.
            let _ = client.write_all(&bytes).await;
            client.flush().await
        };
        let an_hour = Duration::from_secs(3_600);
        let detecting = timeout(Duration::from_secs(20), detect(&mut conn, an_hour));
        let (_, detected) = tokio::join!(writing, detecting);
        let detected = detected.expect("without waiting for the deadline").unwrap();
        assert!(!matches!(detected, Protocol::Tls { .. }), "{detected:?}");
    }
}
