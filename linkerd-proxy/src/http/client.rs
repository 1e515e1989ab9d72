//! Requests to one address: HTTP/1 over a pool of connections, HTTP/2 over as many connections as
//! its stream limit makes necessary.
//!
//! The request is taken out of its place only when it is sent: what is still there after an error
//! can go to another endpoint. Whether the endpoint failed is for the caller to say. Belongs to one
//! worker.

mod http1;
mod http2;

use super::Request;
use crate::{
    config::{Connect, Http2Client, Pool},
    error::{ConnectError, Error},
    tcp::{self, Meter},
};
use http::Version;
use hyper::body::Incoming;
use std::{cell::RefCell, net::SocketAddr, rc::Rc};
use tokio::{net::TcpStream, time::Instant};

/// How connections are made and kept.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Dialling.
    pub connect: Connect,
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
}

/// An answer, and the connection it comes over.
pub struct Sent {
    /// The answer.
    pub response: http::Response<Incoming>,
    /// To be kept until the body has ended.
    pub connection: InUse,
    /// When it was sent, if a connection had to be made for it first.
    pub sent: Option<Instant>,
}

/// A connection or stream that an answer occupies.
pub enum InUse {
    /// To be reused once the body has ended.
    Http1(http1::InUse),
    /// Counts the stream.
    Http2(http2::Stream),
}

/// Makes connections to one address.
pub(crate) struct Dialer {
    addr: SocketAddr,
    config: Config,
    meter: Meter,
    /// A connection that was made to see whether the endpoint answers again.
    spare: RefCell<Option<crate::io::Conn>>,
}

// === impl Client ===

impl Client {
    /// A client without connections.
    pub fn new(addr: SocketAddr, config: Config, meter: Meter) -> Self {
        let spare = RefCell::new(None);
        let dialer = Rc::new(Dialer {
            addr,
            config,
            meter,
            spare,
        });
        Self {
            http1: Rc::new(http1::Pool::new(config.pool)),
            http2: Rc::new(http2::Connections::default()),
            dialer,
        }
    }

    /// Sends a request by its version and waits for the head of the answer.
    ///
    /// # Errors
    ///
    /// Why there is no answer; if the request is still in its place, no byte of it was sent.
    pub async fn send(&self, request: &mut Option<Request>) -> Result<Sent, Error> {
        match request.as_ref().map(Request::version) {
            Some(Version::HTTP_2) => self.http2.send(&self.dialer, request).await,
            _ => self.http1.send(&self.dialer, request).await,
        }
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
                let connected = dialer.dial().await.ok();
                let is_connected = connected.is_some();
                *dialer.spare.borrow_mut() = connected;
                is_connected
            })
        }
    }
}

// === impl InUse ===

impl InUse {
    /// The body has ended: the connection is free.
    pub fn release(self) {
        match self {
            Self::Http1(connection) => connection.release(),
            Self::Http2(stream) => drop(stream),
        }
    }
}

// === impl Dialer ===

impl Dialer {
    async fn dial(&self) -> Result<crate::io::Conn, ConnectError> {
        if let Some(spare) = self.spare.borrow_mut().take().filter(|c| is_alive(c.tcp())) {
            return Ok(spare);
        }
        tcp::connect(self.addr, &self.config.connect, &self.meter).await
    }

    fn upstream(&self, source: hyper::Error) -> Error {
        if source.is_user() {
            // What hyper calls its user is who sent the body.
            return Error::BadRequest("the body is malformed or was cut short");
        }
        Error::Upstream {
            addr: self.addr,
            source,
        }
    }
}

/// Whether an unused connection has neither ended nor been spoken on.
fn is_alive(tcp: &TcpStream) -> bool {
    let nothing = tcp.try_read(&mut [0]);
    matches!(nothing, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock)
}
