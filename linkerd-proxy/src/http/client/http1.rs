//! HTTP/1 connections to one address: last used, first reused, and closed when idle for too long.

use super::{Answer, Dialer, Sent};
use crate::{
    config,
    error::{ConnectError, Error, HttpError},
    http::Request,
    transport_header::Session,
};
use hyper::{body::Incoming, client::conn::http1 as conn};
use hyper_util::rt::TokioIo;
use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::{Rc, Weak},
};
use tokio::{
    task::spawn_local,
    time::{Instant, sleep_until},
};

/// Connections to one endpoint, in use and idle; the next request is shed.
const MAX_CONNECTIONS: usize = 4_096;

/// Largest head that is taken.
const MAX_HEAD: usize = 60 * 1024;

/// What is read ahead of a slow reader; a head has to fit into it.
const MAX_BUFFER: usize = 64 * 1024;

pub(crate) struct Pool {
    config: config::Pool,
    idle: RefCell<VecDeque<Idle>>,
    open: Rc<Cell<usize>>,
    is_swept: Cell<bool>,
}

struct Idle {
    connection: Connection,
    since: Instant,
}

struct Connection {
    sender: conn::SendRequest<Incoming>,
    _open: Open,
}

/// Counts an open connection.
struct Open(Rc<Cell<usize>>);

/// A connection that an answer occupies.
pub struct InUse {
    connection: Connection,
    pool: Weak<Pool>,
}

// === impl Pool ===

impl Pool {
    pub(crate) fn new(config: config::Pool) -> Self {
        Self {
            config,
            idle: RefCell::default(),
            open: Rc::default(),
            is_swept: Cell::new(false),
        }
    }

    pub(crate) async fn send(
        self: &Rc<Self>,
        dialer: &Dialer,
        request: &mut Option<Request>,
    ) -> Result<Sent, Error> {
        loop {
            let (mut connection, connected) = match self.take() {
                Some(connection) => (connection, None),
                // Boxed: it is seldom needed and would make every request in flight larger.
                None => (Box::pin(self.connect(dialer)).await?, Some(Instant::now())),
            };
            let sent = request.take().ok_or(Error::TAKEN)?;
            match connection.sender.try_send_request(sent).await {
                Ok(response) => {
                    let response = response.map(Answer::Http1);
                    let pool = Rc::downgrade(self);
                    let connection = super::InUse::Http1(InUse { connection, pool });
                    return Ok(Sent {
                        response,
                        connection,
                        sent: connected,
                    });
                }
                Err(mut failed) => {
                    *request = failed.take_message();
                    // The peer closed it while it was idle; that is nobody's failure.
                    if request.is_none() || connected.is_some() {
                        return Err(dialer.upstream(failed.into_error()));
                    }
                }
            }
        }
    }

    /// Connections that an answer occupies.
    pub(crate) fn in_use(&self) -> usize {
        self.open.get().saturating_sub(self.idle.borrow().len())
    }

    /// The connection that was used last and can be used again.
    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { connection, .. }) = idle.pop_back() {
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    async fn connect(&self, dialer: &Dialer) -> Result<Connection, Error> {
        if self.open.get() >= MAX_CONNECTIONS {
            let addr = dialer.dial.addr();
            return Err(Error::MaxConnections { addr });
        }
        let open = Open::new(&self.open);
        let io = dialer.dial(Session::Http1).await?;
        let (sender, connection) = conn::Builder::new()
            .preserve_header_case(true)
            .max_header_size(MAX_HEAD)
            .max_buf_size(MAX_BUFFER)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|source| ConnectError::Handshake {
                addr: dialer.dial.addr(),
                source: HttpError::Http1(source),
            })?;
        spawn_local(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "HTTP/1 connection to endpoint ended");
            }
        });
        Ok(Connection {
            sender,
            _open: open,
        })
    }

    fn put(self: &Rc<Self>, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() >= self.config.max_idle {
            idle.pop_front();
        }
        idle.push_back(Idle {
            connection,
            since: Instant::now(),
        });
        if !self.is_swept.replace(true) {
            spawn_local(sweep(
                Rc::downgrade(self),
                Instant::now() + self.config.idle_timeout,
            ));
        }
    }

    /// Closes what has idled too long; tells when the next one will have.
    fn expire(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut idle = self.idle.borrow_mut();
        while let Some(oldest) = idle.front() {
            let expiry = oldest.since + self.config.idle_timeout;
            if expiry > now && !oldest.connection.sender.is_closed() {
                return Some(expiry);
            }
            idle.pop_front();
        }
        idle.shrink_to_fit();
        None
    }
}

/// Expires connections while there are idle ones.
async fn sweep(pool: Weak<Pool>, mut next: Instant) {
    loop {
        sleep_until(next).await;
        let Some(pool) = pool.upgrade() else {
            return;
        };
        match pool.expire() {
            Some(expiry) => next = expiry,
            None => {
                pool.is_swept.set(false);
                return;
            }
        }
    }
}

// === impl InUse ===

impl InUse {
    /// The body has ended: the connection can carry the next request.
    pub(crate) fn release(self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.put(self.connection);
        }
    }
}

// === impl Open ===

impl Open {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Self(count.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
