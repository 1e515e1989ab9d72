//! One endpoint of a backend: how requests and connections get to it, and what is counted.

use super::stack::RouteMetrics;
use crate::{
    balance::{Lease, NewEndpoint, gate::Gate},
    config::{Connect, Outbound},
    error::{ConnectError, Error},
    http::{
        Request,
        answer::Observer,
        classify::Class,
        client::{self, Client, Sent},
    },
    io::Conn,
    metrics::{
        Labels, Registry, http, label,
        labels::{self, Direction, Tls},
        transport::Transport,
    },
    tcp::{self, Meter},
};
use ::http::StatusCode;
use mesh_policy::endpoint::Endpoint as Metadata;
use std::{
    cell::LazyCell,
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
};
use tokio::time::Instant;

/// Makes endpoints for one backend.
pub struct NewOutbound {
    config: client::Config,
    registry: Arc<Registry>,
    authority: Option<Arc<str>>,
}

/// An endpoint that requests are sent to.
pub struct HttpEndpoint {
    client: Client,
    connect: Connect,
    gate: Weak<Gate>,
    metrics: LazyCell<Rc<http::Endpoint>, Box<dyn FnOnce() -> Rc<http::Endpoint>>>,
}

/// An endpoint that connections are forwarded to.
pub struct OpaqueEndpoint {
    addr: SocketAddr,
    connect: Connect,
    gate: Weak<Gate>,
    meter: Rc<Meter>,
}

/// Makes HTTP endpoints.
pub struct NewHttp(Rc<NewOutbound>);

/// Makes opaque endpoints.
pub struct NewOpaque(Rc<NewOutbound>);

// === impl NewOutbound ===

impl NewOutbound {
    /// Makes endpoints by `config`; `authority` names what they back, if it has a name.
    pub fn new(config: &Outbound, registry: &Arc<Registry>, authority: Option<Arc<str>>) -> Self {
        let config = client::Config {
            connect: config.side.connect,
            pool: config.side.pool,
            http2: config.http2,
        };
        Self {
            config,
            registry: registry.clone(),
            authority,
        }
    }

    /// Endpoints that requests are sent to.
    pub fn http(self) -> NewHttp {
        NewHttp(Rc::new(self))
    }

    /// Endpoints that connections are forwarded to.
    pub fn opaque(self) -> NewOpaque {
        NewOpaque(Rc::new(self))
    }

    fn labels(&self, metadata: &Metadata) -> Labels {
        let mut labels = vec![Direction::Outbound.label()];
        if let Some(authority) = &self.authority {
            labels.push(label("authority", authority.clone()));
        }
        labels::target(&mut labels, metadata.addr);
        Tls::NotProvidedByServiceDiscovery.append(&mut labels);
        labels::dst(&mut labels, &metadata.labels);
        labels
    }

    /// Counts connections to an endpoint, once there are any.
    fn meter(self: &Rc<Self>, metadata: &Metadata) -> Meter {
        let (new, metadata) = (self.clone(), metadata.clone());
        LazyCell::new(Box::new(move || {
            let mut labels = new.labels(&metadata);
            labels.insert(1, label("peer", "dst"));
            Transport::new(&new.registry, labels)
        }))
    }
}

impl NewEndpoint for NewHttp {
    type Endpoint = HttpEndpoint;

    fn new_endpoint(&self, metadata: &Metadata, gate: &Rc<Gate>) -> HttpEndpoint {
        let (new, labelled) = (self.0.clone(), metadata.clone());
        HttpEndpoint {
            client: Client::new(metadata.addr, new.config, new.meter(metadata)),
            connect: new.config.connect,
            gate: Rc::downgrade(gate),
            metrics: LazyCell::new(Box::new(move || {
                Rc::new(http::Endpoint::new(&new.registry, new.labels(&labelled)))
            })),
        }
    }
}

impl NewEndpoint for NewOpaque {
    type Endpoint = OpaqueEndpoint;

    fn new_endpoint(&self, metadata: &Metadata, gate: &Rc<Gate>) -> OpaqueEndpoint {
        OpaqueEndpoint {
            addr: metadata.addr,
            connect: self.0.config.connect,
            gate: Rc::downgrade(gate),
            meter: Rc::new(self.0.meter(metadata)),
        }
    }
}

// === impl HttpEndpoint ===

impl HttpEndpoint {
    /// Sends a request. When no connection can be made, the endpoint's gate is shut.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub async fn send(&self, request: &mut Option<Request>) -> Result<Sent, Error> {
        let sent = self.client.send(request).await;
        if let Err(Error::Connect(_)) = &sent
            && let Some(gate) = self.gate.upgrade()
        {
            gate.refused(self.connect.backoff, self.client.redial());
        }
        sent
    }

    /// What is counted, registered with the first request.
    pub fn metrics(&self) -> &Rc<http::Endpoint> {
        &self.metrics
    }
}

// === impl OpaqueEndpoint ===

impl OpaqueEndpoint {
    /// Connects. When that fails, the endpoint's gate is shut.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], with the address.
    pub async fn connect(&self) -> Result<Conn, ConnectError> {
        let (addr, config) = (self.addr, self.connect);
        let connected = tcp::connect(addr, &config, &self.meter).await;
        if connected.is_err()
            && let Some(gate) = self.gate.upgrade()
        {
            let meter = self.meter.clone();
            gate.refused(config.backoff, move || {
                let meter = meter.clone();
                async move { tcp::connect(addr, &config, &meter).await.is_ok() }
            });
        }
        connected
    }
}

// === impl Outcome ===

/// What a request's answer means to its endpoint and its route.
pub struct Outcome {
    lease: Lease<HttpEndpoint>,
    routes: RouteMetrics,
    received: Instant,
    sent: Instant,
}

impl Outcome {
    /// Of a request that was received at `received` and sent by `lease`.
    pub fn new(lease: Lease<HttpEndpoint>, routes: RouteMetrics, received: Instant) -> Self {
        let sent = lease.started().unwrap_or(received);
        Self {
            lease,
            routes,
            received,
            sent,
        }
    }
}

impl Observer for Outcome {
    fn first(&mut self, failed: bool, now: Instant) {
        self.lease.answered(failed, now);
    }

    fn over(&mut self, status: StatusCode, class: Class, now: Instant) {
        let since = |then| now.saturating_duration_since(then);
        self.routes
            .answered(status, class, since(self.received), since(self.sent));
        self.lease.ended(class.is_failure(), now);
    }
}
