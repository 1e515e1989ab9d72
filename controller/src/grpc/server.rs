//! Connections: hyper's HTTP/2 and nothing in between, because there is one per proxy and service,
//! and what each holds is most of what the controller holds.

use super::call::{Services, respond};
use crate::accept::{self, Stopping, stopped};
use hyper::{server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
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
/// What every client of HTTP/2 says first (RFC 9113, 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long it may take for that; whoever has said it is asked for signs of life.
const PREFACE_DEADLINE: Duration = Duration::from_secs(5);
/// Before a preface that came in part is looked at again.
const PREFACE_PAUSE: Duration = Duration::from_millis(20);

/// Serves until the process stops and the streams that are open have ended.
pub async fn serve(services: Services, listener: TcpListener, stopping: Stopping) {
    let services = Arc::new(services);
    let connection = |socket, stopping| connection(socket, services.clone(), stopping);
    accept::each(listener, MAX_CONNECTIONS, stopping, connection).await;
}

async fn connection(socket: TcpStream, services: Arc<Services>, mut stopping: Stopping) {
    // Updates are small and should not wait for each other.
    let _ = socket.set_nodelay(true);
    if time::timeout(PREFACE_DEADLINE, preface(&socket)).await != Ok(true) {
        return;
    }
    let service = service_fn(move |request| {
        let services = services.clone();
        // A stream lives far longer than its request: boxed, what that took is given back.
        Box::pin(async move { Ok::<_, Infallible>(respond(&services, request).await) })
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

/// Waits until a client has begun, and leaves what it said where it is; whether it speaks HTTP/2.
/// Until then it costs no buffers, and nothing else would ever end its connection.
async fn preface(socket: &TcpStream) -> bool {
    let mut said = [0; PREFACE.len()];
    while let Ok(length @ 1..) = socket.peek(&mut said).await {
        if said[..length] != PREFACE[..length] {
            return false;
        }
        if length == PREFACE.len() {
            return true;
        }
        time::sleep(PREFACE_PAUSE).await;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::watch,
    };

    /// There are two or three for each proxy; buffers come on top of this.
    #[tokio::test]
    async fn a_connection_is_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let addr = listener.local_addr().expect("an address");
        let socket = TcpStream::connect(addr).await.expect("connected");
        let (_stop, stopping) = watch::channel(false);
        let size = size_of_val(&connection(socket, Arc::default(), stopping));
        assert!(size <= 2300, "{size} bytes");
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_begin_is_let_go() {
        for said in [
            &b""[..],
            b"P",
            &PREFACE[..23],
            b"GET / HTTP/1.1\r\n\r\n",
            PREFACE,
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
            let addr = listener.local_addr().expect("an address");
            let (_stop, stopping) = watch::channel(false);
            tokio::spawn(serve(Services::default(), listener, stopping));
            let mut socket = TcpStream::connect(addr).await.expect("connected");
            socket.write_all(said).await.expect("written");
            let mut rest = Vec::new();
            let end = time::timeout(KEEP_ALIVE_INTERVAL * 3, socket.read_to_end(&mut rest)).await;
            assert!(end.is_ok(), "still open after {said:?}");
        }
    }
}
