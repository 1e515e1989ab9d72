//! Listening sockets, one set per worker on the same addresses, and where a connection was going
//! before it was redirected here.

use crate::addr::unmap;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{io, net::SocketAddr};
use tokio::net::{TcpListener, TcpStream};

/// A listener that could not be had.
#[derive(Debug, thiserror::Error)]
#[error("listen on {addr}: {source}")]
pub struct BindError {
    addr: SocketAddr,
    source: io::Error,
}

/// Binds `addr`; with `SO_REUSEPORT`, so that each worker has a listener of its own and the kernel
/// spreads connections over them.
///
/// # Errors
///
/// [`BindError`], with the address.
pub fn bind(addr: SocketAddr, backlog: u32) -> Result<std::net::TcpListener, BindError> {
    let bind = || {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            // `[::]` stands for both families, as Linkerd's manifests expect.
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
        Ok(socket.into())
    };
    bind().map_err(|source| BindError { addr, source })
}

/// Hands a bound listener to the runtime of the current thread.
pub fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener)
}

/// Where the connection was made for before netfilter redirected it; `None` if it was not.
///
/// Without redirection the kernel answers with the address that was connected to, or not at all.
pub fn original_dst(tcp: &TcpStream) -> Option<SocketAddr> {
    let local = unmap(tcp.local_addr().ok()?);
    let client = unmap(tcp.peer_addr().ok()?);
    let socket = SockRef::from(tcp);
    let original = match client {
        SocketAddr::V4(_) => socket.original_dst_v4(),
        SocketAddr::V6(_) => socket.original_dst_v6(),
    };
    let original = unmap(original.ok()?.as_socket()?);
    (original != local).then_some(original)
}
