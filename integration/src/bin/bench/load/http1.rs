//! HTTP/1.1 by hand: one request at a time on a connection.

use super::{Pace, Shared};
use anyhow::{Result, bail};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

const REQUEST: &[u8] =
    b"GET /hello HTTP/1.1\r\nhost: http1.bench.svc.cluster.local\r\nuser-agent: bench\r\n\r\n";

/// Asks as long as the run lasts.
pub(super) async fn connection(addr: SocketAddr, pace: &Pace, stats: &Shared) -> Result<()> {
    let mut stream = connect(addr).await?;
    let mut buffer = Vec::with_capacity(16 << 10);
    while let Some(due) = pace.next().await {
        ask(&mut stream, &mut buffer).await?;
        stats.borrow_mut().done(due, 1);
    }
    Ok(())
}

/// Opens connections and asks once on each.
pub(super) async fn idle(addr: SocketAddr, connections: usize) -> Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(connections);
    let mut buffer = Vec::new();
    for _ in 0..connections {
        let mut stream = connect(addr).await?;
        ask(&mut stream, &mut buffer).await?;
        held.push(stream);
    }
    Ok(held)
}

pub(super) async fn connect(addr: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// One request and its answer.
pub(super) async fn ask<S>(stream: &mut S, buffer: &mut Vec<u8>) -> Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    buffer.clear();
    stream.write_all(REQUEST).await?;
    loop {
        if stream.read_buf(buffer).await? == 0 {
            bail!("connection closed before the answer");
        }
        if answer_length(buffer)?.is_some_and(|length| buffer.len() >= length) {
            return Ok(());
        }
    }
}

/// Length of the answer that `bytes` begin with, once its head is there.
fn answer_length(bytes: &[u8]) -> Result<Option<usize>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(head) = response.parse(bytes)? else {
        return Ok(None);
    };
    if response.code != Some(200) {
        bail!("status {:?}", response.code);
    }
    let is_length = |h: &&httparse::Header<'_>| h.name.eq_ignore_ascii_case("content-length");
    let Some(header) = response.headers.iter().find(is_length) else {
        bail!("answer without content-length");
    };
    let length: usize = std::str::from_utf8(header.value)?.parse()?;
    Ok(Some(head + length))
}
