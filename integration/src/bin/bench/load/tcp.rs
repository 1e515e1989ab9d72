//! TCP: 64 bytes there and back, or many bytes from the server.

use super::{Pace, Shared};
use anyhow::Result;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Asked for at a time.
const BULK: u64 = 16 << 20;

/// Sends a message and waits for its echo, as long as the run lasts.
pub(super) async fn pingpong(addr: SocketAddr, pace: &Pace, stats: &Shared) -> Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let mut buffer = [9; 64];
    while let Some(due) = pace.next().await {
        stream.write_all(&buffer).await?;
        stream.read_exact(&mut buffer).await?;
        stats.borrow_mut().done(due, 1);
    }
    Ok(())
}

/// Fetches as long as the run lasts.
pub(super) async fn bulk(addr: SocketAddr, pace: &Pace, stats: &Shared) -> Result<()> {
    let mut stream = TcpStream::connect(addr).await?;
    let mut buffer = vec![0; 256 << 10];
    while let Some(due) = pace.next().await {
        stream.write_u64(BULK).await?;
        let mut left = BULK;
        while left > 0 {
            let n = stream.read(&mut buffer).await? as u64;
            anyhow::ensure!(n > 0, "connection closed before the end");
            left -= n;
            stats.borrow_mut().done(due, n);
        }
    }
    Ok(())
}
