//! The application behind one port. Every way to it takes a [`Permit`].

use super::port::Granted;
use crate::{
    config::{Http2Client, Side},
    dial::{Dial, Meter},
    error::{ConnectError, Error},
    http::{
        Request, Response, answer,
        client::{Client, Config},
        http2::CONNECTION_WINDOW,
    },
    io::Conn,
    limit::Room,
    metrics::{
        Registry, label,
        labels::{Direction, Tls},
        transport::Transport,
    },
};
use mesh_policy::authz::Permit;
use std::{cell::LazyCell, net::SocketAddr, sync::Arc};
use tokio::time::Instant;

/// Windows towards the application, which is near: a stream's is far more than what is on its way there,
/// and small enough for a connection to carry a few hundred streams.
const HTTP2: Http2Client = Http2Client {
    stream_window: 1 << 18,
    connection_window: CONNECTION_WINDOW,
};

/// The application behind one port.
pub struct App {
    client: Client,
    dial: Dial,
}

impl App {
    /// An application that listens at `addr`.
    pub fn new(addr: SocketAddr, side: &Side, registry: &Arc<Registry>) -> Self {
        let registry = registry.clone();
        let meter = move || -> Meter {
            let registry = registry.clone();
            LazyCell::new(Box::new(move || {
                let mut labels = vec![Direction::Inbound.label(), label("peer", "dst")];
                Tls::Loopback.append(&mut labels);
                Transport::new(&registry, labels)
            }))
        };
        let config = Config {
            pool: side.pool,
            http2: HTTP2,
        };
        let dial = || Dial::new(addr, side.connect, meter(), None);
        Self {
            client: Client::new(dial(), config),
            dial: dial(),
        }
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], with the address.
    pub async fn connect(&self, _: &Permit) -> Result<Conn, ConnectError> {
        self.dial.connect(None).await
    }

    /// Sends a request that was received at `received` and counts for `granted`; `room` is held
    /// until its answer has passed.
    ///
    /// # Errors
    ///
    /// When the application cannot be reached, or does not answer.
    pub async fn send(
        &self,
        _: &Permit,
        granted: &Granted,
        request: &mut Option<Request>,
        received: Instant,
        room: Room,
    ) -> Result<Response, Error> {
        let metrics = granted.http.clone();
        metrics.request();
        match self.client.send(request).await {
            Ok(sent) => {
                let context = answer::Context {
                    observer: (),
                    metrics,
                    received,
                    room,
                };
                Ok(answer::respond(sent, context))
            }
            Err(error) => {
                metrics.failed(received.elapsed(), error.name());
                Err(error)
            }
        }
    }
}
