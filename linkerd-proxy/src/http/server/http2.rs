//! HTTP/2 to a client.

use super::{Handler, TICK};
use crate::{
    config::Http2Server,
    drain::Signal,
    http::{Upload, exec::LocalExec},
    io::Conn,
};
use hyper::{body::Incoming, server::conn::http2 as conn, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    pin::pin,
    rc::Rc,
    task::{Poll, ready},
    time::Duration,
};
use tokio::time::sleep;

/// PINGs when nothing else is configured, so that a client that vanished is noticed.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// What is held for a slow reader, per stream, when nothing else is configured.
const MAX_SEND_BUFFER: usize = 64 * 1024;

/// Serves until the client or the drain ends the connection.
///
/// # Errors
///
/// Those of the connection.
pub async fn serve_http2<H: Handler>(
    conn: Conn,
    handler: H,
    config: &Http2Server,
    drain: &Signal,
) -> io::Result<()> {
    let has_served = Rc::new(Cell::new(false));
    // Boxed: hyper moves what this makes from stack to task several times, and it is large.
    let service = service_fn({
        let has_served = has_served.clone();
        move |request: http::Request<Incoming>| {
            has_served.set(true);
            Box::pin(handler.clone().handle(request.map(Upload::http2)))
        }
    });
    let mut http = pin!(builder(config).serve_connection(TokioIo::new(conn), service));
    let mut farewell = pin!(time_to_go(&has_served, drain));
    let mut is_leaving = false;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(done) = http.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            if is_leaving {
                return Poll::Pending;
            }
            ready!(farewell.as_mut().poll(cx));
            is_leaving = true;
            http.as_mut().graceful_shutdown();
        }
    })
    .await
    .map_err(io::Error::other)
}

/// Completes when the client is to be told to go.
async fn time_to_go(has_served: &Cell<bool>, drain: &Signal) {
    drain.drained().await;
    // A connection that was just made has a request on its way, which hyper would not serve.
    if !has_served.get() {
        sleep(TICK).await;
    }
}

fn builder(config: &Http2Server) -> conn::Builder<LocalExec> {
    let (interval, timeout) = config.keep_alive.unwrap_or(KEEP_ALIVE);
    let mut builder = conn::Builder::new(LocalExec);
    builder
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(config.max_concurrent_streams)
        .max_header_list_size(config.max_header_list_size)
        .initial_stream_window_size(config.stream_window)
        .initial_connection_window_size(config.connection_window)
        .max_frame_size(config.max_frame_size)
        .max_send_buf_size(config.max_send_buf_size.unwrap_or(MAX_SEND_BUFFER))
        .keep_alive_interval(interval)
        .keep_alive_timeout(timeout);
    if config.adaptive {
        builder.adaptive_window(true);
    }
    if let Some(max) = config.max_pending_accept_reset_streams {
        builder.max_pending_accept_reset_streams(max);
    }
    builder
}
