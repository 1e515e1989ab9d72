//! HTTP/1 connections to one address: last used, first reused, and closed when idle for too long.
//!
//! Nobody watches a connection that idles: whether the peer has closed it shows when it is taken again,
//! or swept. What happens on one that is in use is [`Exchange`]'s.

mod download;
mod exchange;
mod sending;

pub use self::download::Download;

use self::exchange::{Broken, Exchange};
use super::{Answer, Dialer, Sent};
use crate::{
    config,
    error::{Error, HttpError},
    http::{Request, http1::Wire},
    transport_header::Session,
};
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

/// A connection, and where it goes when it is free again.
struct Connection {
    wire: Wire,
    pool: Weak<Pool>,
    _open: Open,
}

/// Counts an open connection.
struct Open(Rc<Cell<usize>>);

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
            let (connection, connected) = match self.take() {
                Some(connection) => (connection, None),
                // Boxed: it is seldom needed and would make every request in flight larger.
                None => (Box::pin(self.connect(dialer)).await?, Some(Instant::now())),
            };
            let sent = request.as_mut().ok_or(Error::TAKEN)?;
            let mut exchange = Exchange::new(connection, sent);
            if connected.is_some() || !exchange.may_be_repeated() {
                *request = None;
            }
            let answer = match exchange.run(request).await {
                Ok(head) => exchange.answer(head).map_err(Into::into),
                // The peer closed it while it idled, or at that moment; that is nobody's failure.
                Err(_) if request.is_some() => continue,
                Err(Broken::Body) => return Err(Error::BROKEN_BODY),
                Err(Broken::Connection(error)) => Err(error),
            };
            let (addr, sent) = (dialer.dial.addr(), connected);
            return answer
                .map(|response| Sent {
                    response: response.map(Answer::Http1),
                    sent,
                })
                .map_err(|error| Error::Upstream {
                    addr,
                    source: HttpError::Http1(error),
                });
        }
    }

    /// Connections that an answer occupies.
    pub(crate) fn in_use(&self) -> usize {
        self.open.get().saturating_sub(self.idle.borrow().len())
    }

    /// The connection that was used last and can be used again.
    fn take(&self) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(Idle { mut connection, .. }) = idle.pop_back() {
            if connection.wire.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    async fn connect(self: &Rc<Self>, dialer: &Dialer) -> Result<Connection, Error> {
        if self.open.get() >= MAX_CONNECTIONS {
            let addr = dialer.dial.addr();
            return Err(Error::MaxConnections { addr });
        }
        let open = Open::new(&self.open);
        let conn = dialer.dial(Session::Http1).await?;
        Ok(Connection {
            wire: Wire::new(conn),
            pool: Rc::downgrade(self),
            _open: open,
        })
    }

    fn put(self: &Rc<Self>, connection: Connection) {
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
        idle.retain_mut(|i| i.connection.wire.is_quiet());
        while let Some(oldest) = idle.front() {
            let expiry = oldest.since + self.config.idle_timeout;
            if expiry > now {
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

// === impl Connection ===

impl Connection {
    /// A message has been exchanged, whole: the connection can carry the next one.
    fn release(self) {
        // What comes unasked belongs to no request.
        if let Some(pool) = self.pool.upgrade()
            && !self.wire.has_input()
        {
            pool.put(self);
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
