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
    tcp,
};
use ::http::StatusCode;
use mesh_policy::endpoint::Endpoint as Metadata;
use std::{
    cell::OnceCell,
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
    labels: EndpointLabels,
    metrics: OnceCell<Rc<http::Endpoint>>,
}

/// An endpoint that connections are forwarded to.
pub struct OpaqueEndpoint {
    metadata: Metadata,
    connect: Connect,
    gate: Weak<Gate>,
    transport: Arc<Transport>,
}

/// What makes HTTP endpoints of [`NewOutbound`].
pub struct NewHttp(pub NewOutbound);

/// What makes opaque endpoints of [`NewOutbound`].
pub struct NewOpaque(pub NewOutbound);

struct EndpointLabels {
    registry: Arc<Registry>,
    labels: Labels,
}

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

    fn labels(&self, metadata: &Metadata) -> Labels {
        let mut labels = vec![Direction::Outbound.label()];
        if let Some(authority) = &self.authority {
            labels.push(label("authority", authority.to_string()));
        }
        labels::target(&mut labels, metadata.addr);
        Tls::NotProvidedByServiceDiscovery.append(&mut labels);
        labels::dst(&mut labels, &metadata.labels);
        labels
    }

    fn transport(&self, labels: &Labels) -> Arc<Transport> {
        let mut labels = labels.clone();
        labels.insert(1, label("peer", "dst"));
        Transport::new(&self.registry, labels)
    }
}

impl NewEndpoint for NewHttp {
    type Endpoint = HttpEndpoint;

    fn new_endpoint(&self, metadata: &Metadata, gate: &Rc<Gate>) -> HttpEndpoint {
        let new = &self.0;
        let labels = new.labels(metadata);
        let transport = new.transport(&labels);
        HttpEndpoint {
            client: Client::new(metadata.addr, new.config, transport),
            connect: new.config.connect,
            gate: Rc::downgrade(gate),
            labels: EndpointLabels {
                registry: new.registry.clone(),
                labels,
            },
            metrics: OnceCell::new(),
        }
    }
}

impl NewEndpoint for NewOpaque {
    type Endpoint = OpaqueEndpoint;

    fn new_endpoint(&self, metadata: &Metadata, gate: &Rc<Gate>) -> OpaqueEndpoint {
        OpaqueEndpoint {
            metadata: metadata.clone(),
            connect: self.0.config.connect,
            gate: Rc::downgrade(gate),
            transport: self.0.transport(&self.0.labels(metadata)),
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
        self.metrics.get_or_init(|| {
            let EndpointLabels { registry, labels } = &self.labels;
            Rc::new(http::Endpoint::new(registry, labels.clone()))
        })
    }
}

// === impl OpaqueEndpoint ===

impl OpaqueEndpoint {
    /// Connects. When that fails, the endpoint's gate is shut.
    pub async fn connect(&self) -> Result<Conn, ConnectError> {
        let connected = dial(&self.metadata, &self.connect, &self.transport).await;
        if connected.is_err()
            && let Some(gate) = self.gate.upgrade()
        {
            let (metadata, connect) = (self.metadata.clone(), self.connect);
            let transport = self.transport.clone();
            gate.refused(connect.backoff, move || {
                let (metadata, transport) = (metadata.clone(), transport.clone());
                async move { dial(&metadata, &connect, &transport).await.is_ok() }
            });
        }
        connected
    }
}

async fn dial(
    metadata: &Metadata,
    config: &Connect,
    transport: &Arc<Transport>,
) -> Result<Conn, ConnectError> {
    tcp::connect(metadata.addr, config, transport).await
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
