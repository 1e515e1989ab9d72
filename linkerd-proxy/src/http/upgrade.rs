//! Switching protocols: after `101` or a successful `CONNECT` both connections carry bytes.

use crate::{
    addr::Target,
    io::{Conn, copy::copy_both},
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;

/// What a client's connection becomes once HTTP has ended on it.
pub enum Switch {
    /// What an endpoint agreed to speak: bytes, both ways.
    Upgrade(OnUpgrade),
    /// A tunnel to this target (`CONNECT` to the proxy itself).
    Tunnel(Target),
}

/// Takes the endpoint's connection from hyper once it has switched, and copies until both end.
pub async fn forward(mut client: Conn, endpoint: OnUpgrade) {
    let endpoint = match endpoint.await {
        Ok(upgraded) => into_conn(upgraded),
        Err(error) => {
            tracing::debug!(%error, "upgrade did not come about");
            return;
        }
    };
    let Some(mut endpoint) = endpoint else {
        return;
    };
    if let Err(error) = copy_both(&mut client, &mut endpoint).await {
        tracing::debug!(%error, "upgraded connection ended");
    }
}

/// The connection below hyper, with what hyper had read ahead.
fn into_conn(upgraded: Upgraded) -> Option<Conn> {
    let parts = upgraded.downcast::<TokioIo<Conn>>().ok()?;
    Some(parts.io.into_inner().unread(parts.read_buf))
}
