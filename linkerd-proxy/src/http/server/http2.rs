//! HTTP/2 to a client.

use super::{Activity, Handler, handle};
use crate::{config::Http2Server, drain::Signal, http::exec::LocalExec, io::Conn};
use hyper::{server::conn::http2 as conn, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, ready},
};

/// PINGs when nothing else is configured, so that a client that vanished is noticed.
const KEEP_ALIVE: (std::time::Duration, std::time::Duration) = (
    std::time::Duration::from_secs(60),
    std::time::Duration::from_secs(20),
);

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
    let activity = Rc::<Activity>::default();
    // Boxed: hyper moves what this makes from stack to task several times, and it is large.
    let service = service_fn(move |request| Box::pin(handle(&handler, request, &activity)));
    let mut http = pin!(builder(config).serve_connection(TokioIo::new(conn), service));
    let mut draining = Some(drain.waiting());
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(done) = http.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            let Some(waiting) = &mut draining else {
                return Poll::Pending;
            };
            ready!(waiting.poll(cx));
            draining = None;
            Pin::as_mut(&mut http).graceful_shutdown();
        }
    })
    .await
    .map_err(io::Error::other)
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
        .keep_alive_interval(interval)
        .keep_alive_timeout(timeout);
    if config.adaptive {
        builder.adaptive_window(true);
    }
    if let Some(max) = config.max_pending_accept_reset_streams {
        builder.max_pending_accept_reset_streams(max);
    }
    if let Some(max) = config.max_send_buf_size {
        builder.max_send_buf_size(max);
    }
    builder
}
