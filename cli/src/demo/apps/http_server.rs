//! A small HTTP/1.1 server that finishes what it has begun when told to end.
//!
//! `web` and `api` give it a handler of paths; readiness is answered here, without the handler.

use super::{interrupted, listen_addr};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

const HEADER_DEADLINE: Duration = Duration::from_secs(10);

/// Serves `handler` at HOST:PORT; `/ready` is answered here.
pub(super) async fn serve<H, F>(handler: H) -> anyhow::Result<()>
where
    H: Fn(String) -> F + Clone + Send + 'static,
    F: Future<Output = (StatusCode, String)> + Send + 'static,
{
    let listener = TcpListener::bind(listen_addr()?).await?;
    let ending = watch::Sender::new(false);
    let mut connections = JoinSet::new();
    let mut stop = pin!(interrupted());
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                let _ = stream.set_nodelay(true);
                connections.spawn(connection(stream, handler.clone(), ending.subscribe()));
            }
            Some(_) = connections.join_next() => {}
            () = &mut stop => break,
        }
    }
    ending.send_replace(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn connection<H, F>(
    stream: tokio::net::TcpStream,
    handler: H,
    mut ending: watch::Receiver<bool>,
) where
    H: Fn(String) -> F + Clone + Send + 'static,
    F: Future<Output = (StatusCode, String)> + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let handler = handler.clone();
        async move { Ok::<_, Infallible>(answer(request, handler).await) }
    });
    let mut server = http1::Builder::new();
    server
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_DEADLINE);
    let mut connection = pin!(server.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ending.wait_for(|ending| *ending) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer<H, F>(request: Request<Incoming>, handler: H) -> Response<Full<Bytes>>
where
    H: Fn(String) -> F,
    F: Future<Output = (StatusCode, String)>,
{
    let (status, text) = match request.uri().path() {
        "/ready" => (StatusCode::OK, "ready\n".to_string()),
        path => handler(path.to_string()).await,
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
}
