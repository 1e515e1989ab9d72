//! Connections: hyper's HTTP/2 and nothing in between, because there is one per proxy and service,
//! and what each holds is most of what the controller holds.

use super::call::{Services, respond};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time,
};

/// Dead proxies leave within these two.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(3);
/// A proxy follows a few hundred destinations at most; a thousand is a fault.
const MAX_STREAMS: u32 = 1024;
const MAX_CONNECTIONS: usize = 10_000;
const MAX_HEADERS: u32 = 16 * 1024;
/// What a stream may have waiting for a slow reader, in bytes.
const MAX_SEND_BUFFER: usize = 64 * 1024;
/// How long a client may say nothing at all.
const FIRST_BYTE: Duration = Duration::from_secs(5);
/// After a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stopping` turns true and the streams that are open have ended.
pub async fn serve(services: Services, listener: TcpListener, stopping: watch::Receiver<bool>) {
    let services = Arc::new(services);
    let mut connections = JoinSet::new();
    let mut stop = stopping.clone();
    loop {
        // Stopping comes first, so that a flood of clients cannot put it off.
        tokio::select! {
            biased;
            () = stopped(&mut stop) => break,
            Some(_) = connections.join_next() => {}
            socket = listener.accept(), if connections.len() < MAX_CONNECTIONS => match socket {
                Ok((socket, _)) => {
                    connections.spawn(connection(socket, services.clone(), stopping.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(
    socket: TcpStream,
    services: Arc<Services>,
    mut stopping: watch::Receiver<bool>,
) {
    // Updates are small and should not wait for each other.
    let _ = socket.set_nodelay(true);
    if time::timeout(FIRST_BYTE, socket.readable()).await.is_err() {
        return;
    }
    let service = service_fn(move |request| {
        let services = services.clone();
        async move { Ok::<_, Infallible>(respond(&services, request).await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADERS)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = pin!(connection);
    // Either may come first; only stopping leaves anything to do.
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stopped(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection failed");
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that whoever says so is gone, which is the same.
    let _ = stopping.wait_for(|stopping| *stopping).await;
}
