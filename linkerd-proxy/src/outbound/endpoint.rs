//! One endpoint of a backend: how requests and connections get to it, and what is counted.

use super::{destination::Shared, stack::RouteMetrics};
use crate::{
    balance::{Lease, NewEndpoint, gate::Gate},
    config::{self, Connect},
    dial::{Dial, Meter, Secure},
    error::{ConnectError, Error},
    http::{
        Request,
        answer::Observer,
        classify::Class,
        client::{self, Client, Sent},
        rescue,
    },
    identity::Identity,
    io::Conn,
    metrics::{
        Labels, http, label,
        labels::{self, Direction, Tls},
        transport::Transport,
    },
};
use ::http::StatusCode;
use mesh_policy::endpoint::Endpoint as Metadata;
use std::{
    cell::LazyCell,
    collections::HashSet,
    net::{IpAddr, SocketAddr, UdpSocket},
    rc::{Rc, Weak},
    sync::Arc,
};
use tokio::time::Instant;

/// Makes endpoints for one backend.
pub struct NewOutbound {
    shared: Rc<Shared>,
    authority: Option<Arc<str>>,
}

/// Who this workload is, and at which addresses: what is there is not reached over TLS.
pub struct Local {
    identity: Identity,
    ips: HashSet<IpAddr>,
    /// Listeners of this very proxy, which are reached as any other's.
    mapped: HashSet<SocketAddr>,
    /// Listeners of this very proxy that take what others send on: calls to them would come back.
    own: Vec<SocketAddr>,
}

/// An endpoint that requests are sent to.
pub struct HttpEndpoint {
    client: Client,
    connect: Connect,
    gate: Weak<Gate>,
    /// Whether its proxy may end the client's connection: there is no other endpoint for the client to be
    /// sent to.
    ends_connections: bool,
    metrics: LazyCell<Rc<http::Endpoint>, Box<dyn FnOnce() -> Rc<http::Endpoint>>>,
}

/// An endpoint that connections are forwarded to.
pub struct OpaqueEndpoint {
    dial: Rc<Dial>,
    gate: Weak<Gate>,
}

/// Makes HTTP endpoints.
pub struct NewHttp(Rc<NewOutbound>);

/// Makes opaque endpoints.
pub struct NewOpaque(Rc<NewOutbound>);

// === impl NewOutbound ===

impl NewOutbound {
    /// Makes endpoints; `authority` names what they back, if it has a name.
    pub fn new(shared: &Rc<Shared>, authority: Option<Arc<str>>) -> Self {
        Self {
            shared: shared.clone(),
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
        self.shared.local.tls(metadata).append(&mut labels);
        labels::dst(&mut labels, &metadata.labels);
        labels
    }

    fn dial(self: &Rc<Self>, metadata: &Metadata) -> Dial {
        let connect = self.shared.config.side.connect;
        let secure = self.shared.local.secure(metadata);
        let is_own = self.shared.local.is_own_listener(metadata.addr);
        Dial::new(metadata.addr, connect, self.meter(metadata), secure).unless_own(is_own)
    }

    /// Counts connections to an endpoint, once there are any.
    fn meter(self: &Rc<Self>, metadata: &Metadata) -> Meter {
        let (new, metadata) = (self.clone(), metadata.clone());
        LazyCell::new(Box::new(move || {
            let mut labels = new.labels(&metadata);
            labels.insert(1, label("peer", "dst"));
            Transport::new(&new.shared.metrics, labels)
        }))
    }
}

impl NewEndpoint for NewHttp {
    type Endpoint = HttpEndpoint;

    fn new_endpoint(&self, metadata: &Metadata, gate: &Rc<Gate>) -> HttpEndpoint {
        let (new, labelled) = (self.0.clone(), metadata.clone());
        let config = &new.shared.config;
        let (connect, kept) = (
            config.side.connect,
            client::Config {
                pool: config.side.pool,
                http2: config.http2,
            },
        );
        HttpEndpoint {
            client: Client::new(new.dial(metadata), kept),
            connect,
            gate: Rc::downgrade(gate),
            ends_connections: new.authority.is_none() && new.shared.local.is_meshed(metadata),
            metrics: LazyCell::new(Box::new(move || {
                let labels = new.labels(&labelled);
                Rc::new(http::Endpoint::new(&new.shared.metrics, labels))
            })),
        }
    }
}

impl NewEndpoint for NewOpaque {
    type Endpoint = OpaqueEndpoint;

    fn new_endpoint(&self, metadata: &Metadata, gate: &Rc<Gate>) -> OpaqueEndpoint {
        OpaqueEndpoint {
            dial: Rc::new(self.0.dial(metadata)),
            gate: Rc::downgrade(gate),
        }
    }
}

// === impl Local ===

impl Local {
    /// A workload that is `identity`, with the addresses and listeners of both sides.
    pub fn new(identity: Identity, outbound: &config::Outbound, inbound: &config::Inbound) -> Self {
        let own = outbound.side.listen.iter().chain(&inbound.side.listen);
        Self {
            identity,
            ips: inbound.ips.clone(),
            mapped: inbound.ports.iter().map(|(listen, _)| *listen).collect(),
            own: own.copied().collect(),
        }
    }

    /// Whether this very proxy listens at `addr` for what others send on.
    pub fn is_own_listener(&self, addr: SocketAddr) -> bool {
        self.own.iter().any(|own| {
            let is_any = own.ip().is_unspecified() && own.port() == addr.port();
            *own == addr || (is_any && is_of_this_host(addr.ip()))
        })
    }

    /// How an endpoint is reached if it is meshed, and so are we.
    fn secure(&self, endpoint: &Metadata) -> Option<Secure> {
        match self.tls(endpoint) {
            Tls::Server { .. } => Some(Secure {
                identity: self.identity.clone(),
                peer: endpoint.tls.clone()?,
                hint: endpoint.hint,
            }),
            _ => None,
        }
    }

    fn is_meshed(&self, endpoint: &Metadata) -> bool {
        matches!(self.tls(endpoint), Tls::Server { .. })
    }

    fn tls(&self, endpoint: &Metadata) -> Tls {
        // Where netfilter redirects, it spares what a workload sends to itself.
        let is_local = self.ips.contains(&endpoint.addr.ip());
        match &endpoint.tls {
            _ if is_local && !self.mapped.contains(&endpoint.addr) => Tls::Loopback,
            None => Tls::NotProvidedByServiceDiscovery,
            Some(_) if self.identity.name().is_none() => Tls::Disabled,
            Some(peer) => Tls::Server {
                id: peer.identity.clone(),
            },
        }
    }
}

/// Only addresses of the host itself can be bound.
fn is_of_this_host(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}

// === impl HttpEndpoint ===

impl HttpEndpoint {
    /// Sends a request. When no connection can be made, the endpoint's gate is shut.
    ///
    /// # Errors
    ///
    /// As [`Client::send`].
    pub async fn send(&self, request: &mut Option<Request>) -> Result<Sent, Error> {
        let mut sent = self.client.send(request).await;
        if let Ok(sent) = &mut sent
            && self.ends_connections
        {
            rescue::heed_peer(&mut sent.response);
        }
        if let Err(Error::Connect(error)) = &sent
            && let Some(gate) = self.gate.upgrade()
        {
            gate.refused(error, self.connect.backoff, self.client.redial());
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
        let connected = self.dial.connect(None).await;
        if let Err(error) = &connected
            && let Some(gate) = self.gate.upgrade()
        {
            let dial = self.dial.clone();
            gate.refused(error, self.dial.config().backoff, move || {
                let dial = dial.clone();
                async move { dial.connect(None).await.is_ok() }
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
        Self {
            sent: lease.started(),
            lease,
            routes,
            received,
        }
    }
}

impl Observer for Outcome {
    fn head(&mut self, failed: bool) {
        self.lease.answered(failed, Instant::now());
    }

    fn over(&mut self, status: StatusCode, class: Class, now: Instant) {
        let since = |then| now.saturating_duration_since(then);
        self.routes
            .answered(status, class, since(self.received), since(self.sent));
        self.lease.ended(class.is_failure(), now);
    }
}
