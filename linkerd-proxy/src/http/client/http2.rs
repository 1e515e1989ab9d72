//! HTTP/2 connections to one address: one, and another when the peer's stream limit is reached.

use super::{Dialer, Sent};
use crate::{
    error::{ConnectError, Error},
    http::{Request, exec::SteppedExec},
    io::Conn,
    transport_header::Session,
};
use hyper::{body::Incoming, client::conn::http2 as conn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::{Rc, Weak},
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
    sender: conn::SendRequest<Incoming>,
    usage: Rc<Usage>,
}

struct Usage {
    streams: Cell<usize>,
    /// What the peer allows now.
    max_streams: Cell<usize>,
    last: Cell<Instant>,
}

/// Counts a stream until its answer has ended.
pub struct Stream(Rc<Usage>);

// === impl Connections ===

impl Connections {
    pub(crate) async fn send(
        self: &Rc<Self>,
        dialer: &Dialer,
        request: &mut Option<Request>,
    ) -> Result<Sent, Error> {
        // One try on a connection that turns out to be closing, one on a new one.
        let mut is_retry = false;
        loop {
            let ((mut sender, stream), connected) = match self.find() {
                Some(found) => (found, None),
                // Boxed: it is seldom needed and would make every request in flight larger.
                None => (Box::pin(self.connect(dialer)).await?, Some(Instant::now())),
            };
            let sent = request.take().ok_or(Error::TAKEN)?;
            match sender.try_send_request(sent).await {
                Ok(response) => {
                    let connection = super::InUse::Http2(stream);
                    return Ok(Sent {
                        response,
                        connection,
                        sent: connected,
                    });
                }
                Err(mut failed) => {
                    *request = failed.take_message();
                    if request.is_none() || is_retry {
                        return Err(dialer.upstream(failed.into_error()));
                    }
                    is_retry = true;
                    self.forget(&stream.0);
                }
            }
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
        open.retain(|c| !c.sender.is_closed());
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
    ) -> Result<(conn::SendRequest<Incoming>, Stream), Error> {
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
    fn find(&self) -> Option<(conn::SendRequest<Incoming>, Stream)> {
        let mut open = self.open.borrow_mut();
        open.retain(|c| !c.sender.is_closed());
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

async fn connect(dialer: &Dialer) -> Result<Connection, Error> {
    let io = dialer.dial(Session::Http2).await?;
    let windows = dialer.config.http2;
    let (interval, ping_timeout) = KEEP_ALIVE;
    let exec = SteppedExec::default();
    let (sender, connection) = conn::Builder::new(exec.clone())
        .timer(TokioTimer::new())
        // Streams that are opened before the peer's limit is known may be over it, and refused.
        .initial_max_send_streams(0)
        .initial_stream_window_size(windows.stream_window)
        .initial_connection_window_size(windows.connection_window)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_send_buf_size(MAX_SEND_BUFFER)
        .keep_alive_interval(interval)
        .keep_alive_timeout(ping_timeout)
        .handshake(TokioIo::new(io))
        .await
        .map_err(|source| ConnectError::Handshake {
            addr: dialer.dial.addr(),
            source,
        })?;
    let deadline = dialer.dial.config().timeout;
    let settled = exec.until(|| connection.current_max_send_streams() > 0);
    if timeout(deadline, settled).await.is_err() {
        let (addr, timeout) = (dialer.dial.addr(), deadline);
        return Err(ConnectError::Timeout { addr, timeout }.into());
    }
    let usage = Rc::new(Usage {
        streams: Cell::new(0),
        max_streams: Cell::new(connection.current_max_send_streams()),
        last: Cell::new(Instant::now()),
    });
    spawn_local(run(connection, usage.clone()));
    Ok(Connection { sender, usage })
}

type HyperConnection = conn::Connection<TokioIo<Conn>, Incoming, SteppedExec>;

/// Drives a connection, and keeps track of the peer's stream limit, which it may change any time.
async fn run(mut connection: HyperConnection, usage: Rc<Usage>) {
    let ended = poll_fn(|cx| {
        let polled = Pin::new(&mut connection).poll(cx);
        usage.max_streams.set(connection.current_max_send_streams());
        polled
    });
    if let Err(error) = ended.await {
        tracing::debug!(%error, "HTTP/2 connection to endpoint ended");
    }
}

/// Closes idle connections while there are any.
async fn sweep(connections: Weak<Connections>) {
    loop {
        sleep(IDLE_TIMEOUT / 4).await;
        let Some(connections) = connections.upgrade() else {
            return;
        };
        let mut open = connections.open.borrow_mut();
        open.retain(|c| !c.usage.is_idle() && !c.sender.is_closed());
        if open.is_empty() {
            connections.is_swept.set(false);
            return;
        }
    }
}

// === impl Usage ===

impl Usage {
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
