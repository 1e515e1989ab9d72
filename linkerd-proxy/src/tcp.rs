//! Dialling: a TCP connection within its deadline, with its options and its meter.

use crate::{config::Connect, error::ConnectError, io::Conn, metrics::transport::Transport};
use std::{cell::LazyCell, net::SocketAddr, sync::Arc};
use tokio::{net::TcpStream, time::timeout};

/// Counts connections to one address, from the first one on: of the many endpoints that a balancer
/// knows, few may ever be connected to.
pub type Meter = LazyCell<Arc<Transport>, Box<dyn FnOnce() -> Arc<Transport>>>;

/// Connects to `addr` and counts the connection.
///
/// # Errors
///
/// [`ConnectError`], with the address.
pub async fn connect(
    addr: SocketAddr,
    config: &Connect,
    meter: &Meter,
) -> Result<Conn, ConnectError> {
    let tcp = match timeout(config.timeout, TcpStream::connect(addr)).await {
        Ok(connected) => connected.map_err(|source| ConnectError::Io { addr, source })?,
        Err(_) => {
            return Err(ConnectError::Timeout {
                addr,
                timeout: config.timeout,
            });
        }
    };
    config
        .options
        .apply(&tcp)
        .map_err(|source| ConnectError::Io { addr, source })?;
    Ok(Conn::new(tcp).metered(meter.open()))
}
