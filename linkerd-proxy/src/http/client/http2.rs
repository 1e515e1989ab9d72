//! HTTP/2 connections to one address: one, and another when the peer's stream limit is reached, or when
//! streams would get in each other's way.

mod exchange;

pub use self::exchange::Download;

use self::exchange::{Failure, exchange};
use super::{Answer, Dialer, Sent};
use crate::{
    config::Http2Client,
    error::{ConnectError, Error, HttpError},
    http::{Request, http2::ping},
    io::Conn,
    transport_header::Session,
};
use bytes::Bytes;
use h2::{
    PingPong,
    client::{Builder, Connection as Driver, SendRequest},
};
use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::{Rc, Weak},
    task::Poll,
    time::Duration,
};
use tokio::{
    sync::Mutex,
    task::spawn_local,
    time::{Instant, sleep, timeout},
};

/// Connections to one endpoint; past it streams wait for the peer's limit.
const MAX_CONNECTIONS: usize = 32;

/// How long a connection without streams is kept.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// PINGs on connections with streams, so that a peer that vanished is noticed.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));

const MAX_HEADER_LIST: u32 = 64 * 1024;

/// What is held for a peer that reads slowly, per stream.
const MAX_SEND_BUFFER: usize = 64 * 1024;

#[derive(Default)]
pub(crate) struct Connections {
    open: RefCell<Vec<Connection>>,
    /// Held while connecting, so that a burst makes one connection and not one each.
    connecting: Mutex<()>,
    is_swept: Cell<bool>,
}

struct Connection {
    sender: SendRequest<Bytes>,
    usage: Rc<Usage>,
}

struct Usage {
    streams: Cell<usize>,
    /// What the peer allows now, and the windows do.
    max_streams: Cell<usize>,
    windows: Http2Client,
    is_closed: Cell<bool>,
    last: Cell<Instant>,
}

/// Counts a stream until its answer has ended.
struct Stream(Rc<Usage>);

// === impl Connections ===

impl Connections {
    pub(crate) async fn send(
        self: &Rc<Self>,
        dialer: &Dialer,
        request: &mut Option<Request>,
    ) -> Result<Sent, Error> {
        // A connection that turns out to be closing is forgotten, so there are only so many tries.
        loop {
            let ((mut sender, stream), connected) = match self.find() {
                Some(found) => (found, None),
                // Boxed: it is seldom needed and would make every request in flight larger.
                None => (Box::pin(self.connect(dialer)).await?, Some(Instant::now())),
            };
            if let Err(error) = poll_fn(|cx| sender.poll_ready(cx)).await {
                self.forget(&stream.0);
                match connected {
                    Some(_) => return Err(upstream(dialer, error)),
                    None => continue,
                }
            }
            let taken = request.take().ok_or(Error::TAKEN)?;
            return match exchange(sender, stream, taken).await {
                Ok(response) => Ok(Sent {
                    response: response.map(Answer::Http2),
                    sent: connected,
                }),
                Err(Failure::Body) => Err(Error::BROKEN_BODY),
                Err(Failure::Stream(error)) => Err(upstream(dialer, error)),
            };
        }
    }

    /// Streams that are open.
    pub(crate) fn in_use(&self) -> usize {
        self.open
            .borrow()
            .iter()
            .map(|c| c.usage.streams.get())
            .sum()
    }

    /// Whether there is a connection; if there is none, one is made, without waiting for it.
    pub(crate) fn is_open_or_opens(self: &Rc<Self>, dialer: &Rc<Dialer>) -> bool {
        let mut open = self.open.borrow_mut();
        open.retain(|c| !c.usage.is_closed.get());
        let is_open = !open.is_empty();
        // Whoever connects holds the lock.
        if !is_open && self.connecting.try_lock().is_ok() {
            let (connections, dialer) = (self.clone(), dialer.clone());
            spawn_local(async move {
                if let Err(error) = connections.connect(&dialer).await {
                    tracing::debug!(%error, "no HTTP/2 connection to carry HTTP/1");
                }
            });
        }
        is_open
    }

    /// A new connection, or one that somebody else has made meanwhile.
    async fn connect(
        self: &Rc<Self>,
        dialer: &Dialer,
    ) -> Result<(SendRequest<Bytes>, Stream), Error> {
        let _connecting = self.connecting.lock().await;
        if let Some(found) = self.find() {
            return Ok(found);
        }
        let connection = connect(dialer).await?;
        let stream = (connection.sender.clone(), Stream::new(&connection.usage));
        self.open.borrow_mut().push(connection);
        if !self.is_swept.replace(true) {
            spawn_local(sweep(Rc::downgrade(self)));
        }
        Ok(stream)
    }

    /// The first connection with room, so that the others can idle out; the least used one when
    /// all are full and there may be no more.
    fn find(&self) -> Option<(SendRequest<Bytes>, Stream)> {
        let mut open = self.open.borrow_mut();
        open.retain(|c| !c.usage.is_closed.get());
        let has_room = |c: &&Connection| c.usage.streams.get() < c.usage.max_streams.get();
        let found = open.iter().find(has_room).or_else(|| {
            let fullest = open.len() >= MAX_CONNECTIONS;
            fullest
                .then(|| open.iter().min_by_key(|c| c.usage.streams.get()))
                .flatten()
        })?;
        Some((found.sender.clone(), Stream::new(&found.usage)))
    }

    fn forget(&self, usage: &Rc<Usage>) {
        self.open
            .borrow_mut()
            .retain(|c| !Rc::ptr_eq(&c.usage, usage));
    }
}

fn upstream(dialer: &Dialer, source: h2::Error) -> Error {
    let (addr, source) = (dialer.dial.addr(), HttpError::Http2(source));
    Error::Upstream { addr, source }
}

async fn connect(dialer: &Dialer) -> Result<Connection, Error> {
    let io = dialer.dial(Session::Http2).await?;
    let addr = dialer.dial.addr();
    let failed = |source| ConnectError::Handshake {
        addr,
        source: HttpError::Http2(source),
    };
    let windows = dialer.config.http2;
    let (sender, mut driver) = Builder::new()
        // Streams that are opened before the peer's limit is known may be over it, and refused.
        .initial_max_send_streams(0)
        .enable_push(false)
        .initial_window_size(windows.stream_window)
        .initial_connection_window_size(windows.connection_window)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buffer_size(MAX_SEND_BUFFER)
        .handshake(io)
        .await
        .map_err(failed)?;
    let limit = dialer.dial.config().timeout;
    let settled = timeout(limit, settled(&mut driver)).await;
    let timed_out = |_| ConnectError::Timeout {
        addr,
        timeout: limit,
    };
    settled.map_err(timed_out)?.map_err(failed)?;
    let usage = Rc::new(Usage {
        streams: Cell::new(0),
        max_streams: Cell::new(0),
        windows,
        is_closed: Cell::new(false),
        last: Cell::new(Instant::now()),
    });
    usage.limit_to(driver.max_concurrent_send_streams());
    let pings = driver.ping_pong();
    spawn_local(run(driver, pings, usage.clone()));
    Ok(Connection { sender, usage })
}

/// Drives a new connection until the peer has said how many streams it allows.
async fn settled(driver: &mut Driver<Conn, Bytes>) -> Result<(), h2::Error> {
    poll_fn(|cx| match Pin::new(&mut *driver).poll(cx) {
        Poll::Ready(ended) => Poll::Ready(ended.and(Err(h2::Reason::REFUSED_STREAM.into()))),
        Poll::Pending if driver.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    })
    .await
}

/// Drives a connection until it ends, or the peer is found to be gone; and keeps track of its
/// stream limit, which it may change any time.
async fn run(mut driver: Driver<Conn, Bytes>, pings: Option<PingPong>, usage: Rc<Usage>) {
    let ended = poll_fn(|cx| {
        let polled = Pin::new(&mut driver).poll(cx);
        usage.limit_to(driver.max_concurrent_send_streams());
        polled
    });
    tokio::select! {
        ended = ended => if let Err(error) = ended {
            tracing::debug!(%error, "HTTP/2 connection to endpoint ended");
        },
        () = ping::silence(pings, KEEP_ALIVE, || usage.streams.get() > 0) => tracing::debug!("HTTP/2 endpoint does not answer PING"),
    }
    usage.is_closed.set(true);
}

/// Closes idle connections while there are any.
async fn sweep(connections: Weak<Connections>) {
    loop {
        sleep(IDLE_TIMEOUT / 4).await;
        let Some(connections) = connections.upgrade() else {
            return;
        };
        let mut open = connections.open.borrow_mut();
        open.retain(|c| !c.usage.is_idle() && !c.usage.is_closed.get());
        if open.is_empty() {
            connections.is_swept.set(false);
            return;
        }
    }
}

// === impl Usage ===

impl Usage {
    /// Takes note of how many streams the peer allows. No more go on a connection than can stand still on
    /// it, each with its window full, without a share in the connection's window that others need.
    fn limit_to(&self, allowed: usize) {
        let Http2Client {
            stream_window,
            connection_window,
        } = self.windows;
        let fit = connection_window / stream_window.max(1);
        self.max_streams.set(allowed.min(fit.max(1) as usize));
    }

    fn is_idle(&self) -> bool {
        self.streams.get() == 0 && self.last.get().elapsed() >= IDLE_TIMEOUT
    }
}

// === impl Stream ===

impl Stream {
    fn new(usage: &Rc<Usage>) -> Self {
        usage.streams.set(usage.streams.get() + 1);
        Self(usage.clone())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
        self.0.last.set(Instant::now());
    }
}

#[cfg(test)]
mod tests;
