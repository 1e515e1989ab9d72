//! HTTP/2 to a client: h2, with a task for each stream.

mod care;

use self::care::{Care, Event};
use super::{Handler, TICK};
use crate::{
    config::Http2Server,
    drain::{self, Signal},
    error::{BoxError, h2_reason},
    http::{
        Response, Upload, headers,
        http2::{Broken, Receiving, send},
        interim::Interim,
        orig_proto, rescue,
        upload::Received,
    },
    io::Conn,
};
use bytes::Bytes;
use futures::task::AtomicWaker;
use h2::{
    Reason, RecvStream,
    server::{Builder, Connection, SendResponse},
};
use http::{
    Request,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body::Body as _;
use std::{
    cell::Cell,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    task::spawn_local,
    time::{Sleep, sleep, timeout},
};

/// How long a client may take for what comes before its first stream.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is held for a slow reader, per stream, when nothing else is configured.
const MAX_SEND_BUFFER: usize = 64 * 1024;

/// Windows of a stream and of a connection, in bytes, when nothing else is configured. The second is what
/// one client can make us hold; with more uploads than fill it that stand still it holds up its own.
const STREAM_WINDOW: u32 = 1 << 19;
const CONNECTION_WINDOW: u32 = 16 << 20;

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
    let handshake = timeout(HANDSHAKE_TIMEOUT, builder(config).handshake(conn)).await;
    let mut connection = handshake?.map_err(io::Error::other)?;
    let received = config.adaptive.then(Received::default);
    let mut care = Care::new(connection.ping_pong(), config.keep_alive, received.clone());
    let mut farewell = Farewell::new(drain);
    loop {
        let stream = poll_fn(|cx| poll_stream(cx, &mut connection, &mut care, &mut farewell));
        let Some((request, respond)) = stream.await? else {
            return Ok(());
        };
        farewell.has_served = true;
        // What carries the requests of many HTTP/1 clients does not end for one of them.
        let ending = (!orig_proto::is_carried(&request)).then(|| farewell.ending.clone());
        let interim = Interim::default();
        let body = |stream| {
            Upload::http2(Receiving::new(stream), received.clone()).informed(Some(interim.clone()))
        };
        let answering = handler.clone().handle(request.map(body));
        spawn_local(answer(answering, respond, interim, ending));
    }
}

type Stream = (Request<RecvStream>, SendResponse<Bytes>);

/// Drives the connection up to the next stream; nothing when there will be no more.
fn poll_stream(
    cx: &mut Context<'_>,
    connection: &mut Connection<Conn, Bytes>,
    care: &mut Care,
    farewell: &mut Farewell,
) -> Poll<io::Result<Option<Stream>>> {
    loop {
        // Streams that are there win over the drain: the client did not know of it yet.
        if let Poll::Ready(stream) = connection.poll_accept(cx) {
            return Poll::Ready(stream.transpose().map_err(io::Error::other));
        }
        match care.poll(cx) {
            Poll::Ready(Event::Silence) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Ready(Event::Window(window)) => {
                // It fails while the client has not agreed to the last one; there will be another.
                let _ = connection.set_initial_window_size(window);
            }
            Poll::Pending => {
                ready!(farewell.poll(cx));
                connection.graceful_shutdown();
            }
        }
    }
}

fn builder(config: &Http2Server) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(config.max_concurrent_streams)
        .max_header_list_size(config.max_header_list_size)
        .max_send_buffer_size(config.max_send_buf_size.unwrap_or(MAX_SEND_BUFFER));
    // With `adaptive` streams begin where the protocol does (RFC 9113, section 6.9.2).
    if config.adaptive {
        builder.initial_connection_window_size(CONNECTION_WINDOW);
    } else {
        builder
            .initial_window_size(config.stream_window.unwrap_or(STREAM_WINDOW))
            .initial_connection_window_size(config.connection_window.unwrap_or(CONNECTION_WINDOW));
    }
    if let Some(size) = config.max_frame_size {
        builder.max_frame_size(size);
    }
    if let Some(max) = config.max_pending_accept_reset_streams {
        builder.max_pending_accept_reset_streams(max);
    }
    builder
}

/// Answers one stream, for as long as the client wants it.
async fn answer(
    answering: impl Future<Output = Result<Response, BoxError>>,
    mut respond: SendResponse<Bytes>,
    interim: Interim,
    ending: Option<Rc<Ending>>,
) {
    // Boxed: pinning it here would copy it once more, and it is large.
    let mut answering = Box::pin(answering);
    let answered = poll_fn(|cx| {
        let answered = answering.as_mut().poll(cx);
        for head in interim.take() {
            // It fails when the stream is over, which the answer will find, too.
            let _ = respond.send_informational(head.map(drop));
        }
        match answered {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            Poll::Pending => respond.poll_reset(cx).map(|_| None),
        }
    });
    let response = match answered.await {
        None => return,
        Some(Ok(response)) => response,
        Some(Err(error)) => {
            let reason = h2_reason(&*error).unwrap_or(Reason::INTERNAL_ERROR);
            respond.send_reset(reason);
            return;
        }
    };
    drop(answering);
    if let Some(ending) = ending.filter(|_| rescue::ends_connection(&response)) {
        // A client that gave up its request, halfway through it maybe, is not to go for that.
        let is_given_up = poll_fn(|cx| Poll::Ready(respond.poll_reset(cx).is_ready()));
        if !is_given_up.await {
            ending.begin();
        }
    }
    let (mut head, body) = response.into_parts();
    // What came over HTTP/1 in chunks is framed anew (RFC 9113, section 8.2.2).
    head.headers.remove(TRANSFER_ENCODING);
    if let Some(length) = body.size_hint().exact() {
        let headers = head.headers.entry(CONTENT_LENGTH);
        headers.or_insert(length.into());
    }
    let broken = match headers::is_grpc(&head.headers) {
        true => Broken::GrpcStatus,
        false => Broken::Reset(Reason::INTERNAL_ERROR),
    };
    let head = http::Response::from_parts(head, ());
    let is_whole = body.is_end_stream();
    // It fails when the stream is over, which is nobody's loss.
    let Ok(stream) = respond.send_response(head, is_whole) else {
        return;
    };
    if !is_whole && let Err(error) = send(body, stream, broken).await {
        tracing::debug!(%error, "answer broke off");
    }
}

/// An answer's way to end the connection it goes over.
#[derive(Default)]
struct Ending {
    is_wanted: Cell<bool>,
    waker: AtomicWaker,
}

impl Ending {
    fn begin(&self) {
        self.is_wanted.set(true);
        self.waker.wake();
    }

    /// Ready once for each time it is wanted.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waker.register(cx.waker());
        match self.is_wanted.take() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

/// When the client is to be told to go.
struct Farewell {
    has_served: bool,
    ending: Rc<Ending>,
    drain: Option<drain::Waiting>,
    grace: Option<Pin<Box<Sleep>>>,
}

impl Farewell {
    fn new(drain: &Signal) -> Self {
        Self {
            has_served: false,
            ending: Rc::default(),
            drain: Some(drain.waiting()),
            grace: None,
        }
    }

    /// Ready once for each reason.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ending.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if let Some(drain) = &mut self.drain {
            ready!(drain.poll(cx));
            self.drain = None;
            // A connection that was just made has a request on its way.
            let grace = if self.has_served {
                Duration::ZERO
            } else {
                TICK
            };
            self.grace = Some(Box::pin(sleep(grace)));
        }
        let Some(grace) = &mut self.grace else {
            return Poll::Pending;
        };
        ready!(grace.as_mut().poll(cx));
        self.grace = None;
        Poll::Ready(())
    }
}
