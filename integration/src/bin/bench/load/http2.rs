//! HTTP/2 on `h2`: a number of streams that ask in turn on each connection.

use super::{Pace, Shared};
use anyhow::{Result, bail};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use std::{net::SocketAddr, rc::Rc};
use tokio::{net::TcpStream, task::JoinSet};

/// Asks on `streams` streams as long as the run lasts.
pub(super) async fn connection(
    addr: SocketAddr,
    streams: usize,
    pace: Rc<Pace>,
    stats: Shared,
) -> Result<()> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (send, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 20)
        .handshake(stream)
        .await?;
    let driver = tokio::task::spawn_local(connection);
    let mut tasks = JoinSet::new();
    for _ in 0..streams {
        tasks.spawn_local(ask_on(send.clone(), pace.clone(), stats.clone()));
    }
    while let Some(task) = tasks.join_next().await {
        task??;
    }
    driver.abort();
    Ok(())
}

async fn ask_on(send: SendRequest<Bytes>, pace: Rc<Pace>, stats: Shared) -> Result<()> {
    let request = Request::get("http://http2.bench.svc.cluster.local/hello")
        .header("user-agent", "bench")
        .body(())?;
    while let Some(due) = pace.next().await {
        let mut send = send.clone().ready().await?;
        let (response, _) = send.send_request(request.clone(), true)?;
        let response = response.await?;
        if response.status() != http::StatusCode::OK {
            bail!("status {}: {:?}", response.status(), response.headers());
        }
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            let length = data?.len();
            body.flow_control().release_capacity(length)?;
        }
        stats.borrow_mut().done(due, 1);
    }
    Ok(())
}
