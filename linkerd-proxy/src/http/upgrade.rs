//! Switching protocols: after `101` or a successful `CONNECT` both connections carry bytes.

use crate::{
    addr::Target,
    io::{Conn, copy::copy_both},
};

/// What a client's connection becomes once HTTP has ended on it.
pub enum Switch {
    /// What the endpoint behind this connection agreed to speak: bytes, both ways.
    Upgrade(Conn),
    /// A tunnel to this target (`CONNECT` to the proxy itself).
    Tunnel(Target),
}

/// Copies between the two that have switched until both end.
pub async fn forward(mut client: Conn, mut endpoint: Conn) {
    if let Err(error) = copy_both(&mut client, &mut endpoint).await {
        tracing::debug!(%error, "upgraded connection ended");
    }
}
