//! HTTP/1 for people, scrapers and `meshctl`: the admin pages and the live statistics.

use crate::accept::{self, Stopping, stopped};
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{pin::pin, time::Duration};
use tokio::net::{TcpListener, TcpStream};

/// Who looks at a mesh, at a time.
const MAX_CONNECTIONS: usize = 512;
/// How long a client may take for the head of a request, or between requests.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);

/// Serves until the process stops and the answers that are under way have been given.
pub async fn serve(router: Router, listener: TcpListener, stopping: Stopping) {
    let connection = |socket, stopping| connection(socket, router.clone(), stopping);
    accept::each(listener, MAX_CONNECTIONS, stopping, connection).await;
}

async fn connection(socket: TcpStream, router: Router, mut stopping: Stopping) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router));
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        sync::watch,
        time::{Instant, timeout},
    };

    async fn client() -> (TcpStream, watch::Sender<bool>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let addr = listener.local_addr().expect("an address");
        let (stop, stopping) = watch::channel(false);
        let router = Router::new().route("/", get(|| async { "page" }));
        tokio::spawn(serve(router, listener, stopping));
        (TcpStream::connect(addr).await.expect("connected"), stop)
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_for_nothing_is_let_go() {
        for begun in ["", "GET / HTTP/1.1\r\nhost: a\r\nx"] {
            let (mut socket, _stop) = client().await;
            let start = Instant::now();
            socket.write_all(begun.as_bytes()).await.expect("written");
            let mut rest = Vec::new();
            let end = timeout(HEAD_DEADLINE * 2, socket.read_to_end(&mut rest)).await;
            assert!(end.is_ok(), "after {begun:?} still open");
            assert!(start.elapsed() >= HEAD_DEADLINE, "{:?}", start.elapsed());
        }
    }

    #[tokio::test]
    async fn who_is_connected_when_it_stops_is_let_go() {
        let (mut socket, stop) = client().await;
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        socket.write_all(request).await.expect("written");
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
        stop.send_replace(true);
        let mut rest = String::new();
        let end = timeout(HEAD_DEADLINE, socket.read_to_string(&mut rest)).await;
        assert!(end.is_ok() && rest.ends_with("page"), "{rest}");
    }
}
