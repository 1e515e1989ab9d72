//! Requests to one address: HTTP/1 over a pool of connections, HTTP/2 over as many connections as
//! its stream limit makes necessary.
//!
//! The request is taken out of its place when it is sent, unless it may be sent again: what is still
//! there after an error can go to another endpoint. Whether the endpoint failed is for the caller to
//! say. Belongs to one worker.
//!
//! To a meshed endpoint HTTP/1 rides on HTTP/2 while much is in flight: one TLS record then carries
//! many requests. While little is, a connection of its own costs less than multiplexing. Neither
//! application can tell, but for the case of header names, which HTTP/2 does not have.

mod body;
mod http1;
mod http2;

use super::{Request, orig_proto};
use crate::{
    config::{Http2Client, Pool},
    dial::{Dial, Dialled},
    error::{ConnectError, Error},
    io::Conn,
    transport_header::Session,
};
use http::Version;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};
use tokio::time::Instant;

pub use self::body::Answer;

/// Requests in flight to one endpoint from which on HTTP/1 rides on HTTP/2, and below which it
/// does not any more: between loads of which it is known that they want one or the other, 50 busy
/// connections and 2,000 requests a second.
const CARRIED: (usize, usize) = (8, 3);

/// How long an endpoint that has answered may take the rest of the request.
const REST_TIMEOUT: Duration = Duration::from_secs(30);

/// How connections are kept.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Idle HTTP/1 connections.
    pub pool: Pool,
    /// HTTP/2 windows.
    pub http2: Http2Client,
}

/// Requests to one address.
pub struct Client {
    dialer: Rc<Dialer>,
    http1: Rc<http1::Pool>,
    http2: Rc<http2::Connections>,
    /// Whether HTTP/1 rides on HTTP/2 just now.
    is_carrying: Cell<bool>,
}

/// An answer.
pub struct Sent {
    /// Its head, and its body, which occupies a connection or a stream until it has ended.
    pub response: http::Response<Answer>,
    /// When it was sent, if a connection had to be made for it first.
    pub sent: Option<Instant>,
}

/// Makes connections to one address.
pub(crate) struct Dialer {
    dial: Dial,
    config: Config,
    /// A connection that was made to see whether the endpoint answers again.
    spare: RefCell<Option<Dialled>>,
}

// === impl Client ===

impl Client {
    /// A client without connections.
    pub fn new(dial: Dial, config: Config) -> Self {
        let dialer = Rc::new(Dialer {
            dial,
            config,
            spare: RefCell::new(None),
        });
        Self {
            http1: Rc::new(http1::Pool::new(config.pool)),
            http2: Rc::new(http2::Connections::default()),
            dialer,
            is_carrying: Cell::new(false),
        }
    }

    /// Sends a request by its version and waits for the head of the answer.
    ///
    /// # Errors
    ///
    /// Why there is no answer; a request that is still in its place can be sent to somebody else.
    pub async fn send(&self, request: &mut Option<Request>) -> Result<Sent, Error> {
        match request.as_ref().map(Request::version) {
            Some(Version::HTTP_2) => self.http2.send(&self.dialer, request).await,
            _ if self.is_to_be_carried(request) => self.carry(request).await,
            _ => self.http1.send(&self.dialer, request).await,
        }
    }

    fn is_to_be_carried(&self, request: &Option<Request>) -> bool {
        if !self.dialer.dial.takes_http1_over_http2() {
            return false;
        }
        let in_flight = self.http1.in_use() + self.http2.in_use();
        let (from, below) = CARRIED;
        let is_carrying = match self.is_carrying.get() {
            true => in_flight >= below,
            false => in_flight >= from,
        };
        self.is_carrying.set(is_carrying);
        is_carrying
            && request.as_ref().is_some_and(orig_proto::can_be_carried)
            // Until there is a connection nobody has to wait for one.
            && self.http2.is_open_or_opens(&self.dialer)
    }

    /// Sends an HTTP/1 request over HTTP/2.
    async fn carry(&self, request: &mut Option<Request>) -> Result<Sent, Error> {
        if let Some(request) = request {
            orig_proto::carry(request);
        }
        let sent = self.http2.send(&self.dialer, request).await;
        // What was not sent may go elsewhere, and otherwise.
        if let Some(request) = request {
            orig_proto::uncarry(request);
        }
        let mut sent = sent?;
        orig_proto::uncarry_response(&mut sent.response);
        Ok(sent)
    }

    /// A function that connects once and keeps the connection for the next request; tells
    /// whether that worked.
    pub fn redial(&self) -> impl Fn() -> futures::future::LocalBoxFuture<'static, bool> + 'static {
        let dialer = Rc::downgrade(&self.dialer);
        move || {
            let dialer = dialer.clone();
            Box::pin(async move {
                let Some(dialer) = dialer.upgrade() else {
                    return true;
                };
                let connected = dialer.dial.connect_ahead().await.ok();
                let is_connected = connected.is_some();
                *dialer.spare.borrow_mut() = connected;
                is_connected
            })
        }
    }
}

// === impl Dialer ===

impl Dialer {
    async fn dial(&self, session: Session) -> Result<Conn, ConnectError> {
        let spare = self.spare.borrow_mut().take().filter(Dialled::is_alive);
        match spare {
            Some(spare) => self.dial.speak(spare, Some(session)).await,
            None => self.dial.connect(Some(session)).await,
        }
    }
}
