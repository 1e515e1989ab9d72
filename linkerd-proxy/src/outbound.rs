//! The outbound path: from an application's connect() to an endpoint's socket.
//!
//! ```text
//! accept -> discover -> detect -+- http: serve -> route -> backend -> endpoint -+-> dial
//!                               +- tls, opaque:           backend --------------+
//! ```
//!
//! Read from top to bottom: one chapter for each arrow. `dial` is [`crate::dial`] and
//! [`crate::http::client`]; what discovery knows of a target is kept in [`destination`].
//! Everything here belongs to one worker.

mod destination;
mod distribute;
mod endpoint;
mod stack;

use self::{
    destination::{Destination, Destinations},
    endpoint::{Local, OpaqueEndpoint, Outcome},
    stack::{HttpBackend, OpaqueBackend, Protocol, RouteMetrics},
};
use crate::{
    addr::Target,
    balance::Lease,
    config,
    control::Discovery,
    detect::{
        self, detect,
        first::{First, Speaks, first_to_speak, is_silent},
    },
    drain::Signal,
    error::{BoxError, Error, h2_reason},
    http::{
        Body, Request, Response, answer, headers, normalize, rescue,
        server::{Handler, serve_http1, serve_http2},
        upgrade::{self, Switch},
    },
    identity::Identity,
    io::{Conn, copy::copy_both},
    limit::{Limit, Room},
    listen::original_dst,
    metrics::{
        Labels, Registry,
        errors::Errors,
        label,
        labels::{self, Direction, Tls},
        transport::Transport,
    },
};
use http::{Method, Version};
use std::{rc::Rc, sync::Arc};
use tokio::{net::TcpStream, time::Instant};

/// Endpoints a request is offered to, when connections to them cannot be made.
const MAX_ATTEMPTS: usize = 3;

/// The outbound path of one worker.
pub struct Outbound {
    config: config::Outbound,
    destinations: Destinations,
    /// Counts the connections of the forward proxy's clients.
    forwarded: Arc<Transport>,
    http_errors: Errors,
    tcp_errors: Errors,
    in_flight: Limit,
    dialled_ahead: Limit,
    drain: Signal,
}

impl Outbound {
    /// The path by `config`, asking `discovery`.
    pub fn new(
        config: &config::Config,
        discovery: Discovery,
        identity: Identity,
        metrics: Arc<Registry>,
        drain: Signal,
    ) -> Rc<Self> {
        let outbound = config.outbound.clone();
        let local = Local::new(identity, &outbound, &config.inbound);
        Rc::new(Self {
            in_flight: Limit::new(outbound.side.max_in_flight / config.cores),
            dialled_ahead: Limit::new(detect::first::MAX_DIALLED_AHEAD),
            forwarded: Transport::new(&metrics, accepted_by_listener(&outbound.side)),
            http_errors: Errors::new(&metrics, "outbound_http_errors_total"),
            tcp_errors: Errors::new(&metrics, "outbound_tcp_errors_total"),
            destinations: Destinations::new(&outbound, discovery, local, metrics),
            config: outbound,
            drain,
        })
    }

    // === accept ===

    /// Carries one connection of the application: to `mapped` if its listener stands for a target,
    /// to where it was made for if it was redirected, and otherwise as a forward proxy.
    pub async fn accept(self: Rc<Self>, tcp: TcpStream, mapped: Option<Target>) {
        let conn = Conn::new(tcp);
        let target = mapped.or_else(|| original_dst(conn.tcp()).map(Target::Addr));
        let carried = match &target {
            Some(target) => self.carry(conn, target).await,
            None => {
                self.forward_proxy(conn.metered(self.forwarded.open()))
                    .await
            }
        };
        if let Err(error) = carried {
            tracing::debug!(error, "outbound connection ended");
        }
    }

    /// Carries a connection to its target.
    async fn carry(self: &Rc<Self>, conn: Conn, target: &Target) -> Result<(), BoxError> {
        let dst = self
            .discover(target)
            .await
            .inspect_err(|e| self.tcp_errors.count(e.name()))?;
        let conn = conn.metered(dst.accepted());
        let stack = dst.stack();
        match &stack.protocol {
            Protocol::Detect { .. } | Protocol::Http(_) => self.detect(conn, dst).await,
            Protocol::Opaque(_) => Box::pin(self.opaque(conn, &dst, None)).await,
        }
    }

    /// A connection that is for the proxy itself: its requests say where they go.
    async fn forward_proxy(self: &Rc<Self>, mut conn: Conn) -> Result<(), BoxError> {
        match detect(&mut conn, self.config.side.detect_timeout).await? {
            detect::Protocol::Http1 => self.http1(conn, None).await,
            detect::Protocol::Http2 => Box::pin(self.http2(conn, None)).await,
            detect::Protocol::Closed => Ok(()),
            _ => Err("not redirected here, and not HTTP: nothing says where it goes".into()),
        }
    }

    // === discover ===

    async fn discover(&self, target: &Target) -> Result<Rc<Destination>, Error> {
        match target {
            Target::Addr(addr) if self.destinations.is_own_listener(*addr) => Err(Error::Loop {
                target: target.clone(),
            }),
            target => self.destinations.discover(target).await,
        }
    }

    // === detect ===

    /// Finds out what the connection speaks, and goes on accordingly.
    async fn detect(self: &Rc<Self>, mut conn: Conn, dst: Rc<Destination>) -> Result<(), BoxError> {
        let started = Instant::now();
        let ahead = match dst.stack().opaque() {
            Some(_) => Box::pin(self.dial_ahead(&mut conn, &dst)).await?,
            None => None,
        };
        let ahead = match ahead {
            Some((server, First::Server)) => {
                return Box::pin(self.opaque(conn, &dst, Some(server))).await;
            }
            Some((server, First::Client)) => Some(server),
            Some((_, First::HttpServer)) | None => None,
        };
        let detected = detect(&mut conn, self.config.side.detect_timeout).await;
        dst.stack().detect.detected(&detected, started.elapsed());
        let protocol = detected?;
        match protocol {
            detect::Protocol::Http1 | detect::Protocol::Http2 => {
                drop(ahead);
                dst.speaks.set(Speaks::Client);
                match protocol {
                    detect::Protocol::Http1 => self.http1(conn, Some(dst)).await,
                    // Boxed, as the others: an idle HTTP/1 connection does not hold room for it.
                    _ => Box::pin(self.http2(conn, Some(dst))).await,
                }
            }
            _ => Box::pin(self.opaque(conn, &dst, ahead)).await,
        }
    }

    /// When the client stays silent, connects to the server it wants and waits for whichever
    /// speaks first. Returns the connection, if it was made, and who spoke.
    async fn dial_ahead(
        &self,
        conn: &mut Conn,
        dst: &Destination,
    ) -> Result<Option<(Dialled, First)>, BoxError> {
        if !is_silent(conn, dst.speaks.get().patience()).await {
            return Ok(None);
        }
        let Some(_room) = self.dialled_ahead.take() else {
            return Ok(None);
        };
        let mut server = self.connect(dst).await?;
        let first = first_to_speak(conn, &mut server.conn).await?;
        if first == First::Server {
            dst.speaks.set(Speaks::Server);
            tracing::debug!(dst = %dst.target, "server speaks first");
        }
        Ok(Some((server, first)))
    }

    // === http: serve ===

    async fn http1(
        self: &Rc<Self>,
        conn: Conn,
        dst: Option<Rc<Destination>>,
    ) -> Result<(), BoxError> {
        let client = Client {
            outbound: self.clone(),
            dst,
        };
        match serve_http1(conn, client, &self.drain).await? {
            None => Ok(()),
            Some((conn, Switch::Upgrade(endpoint))) => {
                Box::pin(upgrade::forward(conn, endpoint)).await;
                Ok(())
            }
            // Boxed: a tunnel carries a connection within a connection.
            Some((conn, Switch::Tunnel(target))) => Box::pin(self.carry(conn, &target)).await,
        }
    }

    async fn http2(
        self: &Rc<Self>,
        conn: Conn,
        dst: Option<Rc<Destination>>,
    ) -> Result<(), BoxError> {
        let client = Client {
            outbound: self.clone(),
            dst,
        };
        Ok(serve_http2(conn, client, &self.config.side.http2, &self.drain).await?)
    }

    /// Answers one request, whatever happens to it.
    async fn serve(
        self: Rc<Self>,
        dst: Option<Rc<Destination>>,
        request: Request,
    ) -> Result<Response, BoxError> {
        let context = rescue::Context {
            version: request.version(),
            is_grpc: headers::is_grpc(request.headers()),
            explain: self.config.informational_headers,
        };
        let error = match self.route(dst, &mut Some(request)).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        self.http_errors.count(error.name());
        tracing::debug!(%error, "request failed");
        if context.version == Version::HTTP_2 && h2_reason(&error).is_some() {
            // The endpoint reset the stream: so is the client's, for the same reason.
            return Err(error.into());
        }
        Ok(rescue::response(&error, context))
    }

    // === route ===

    /// Finds where a request goes, and takes it there.
    async fn route(
        self: &Rc<Self>,
        dst: Option<Rc<Destination>>,
        request: &mut Option<Request>,
    ) -> Result<Response, Error> {
        let received = Instant::now();
        let limit = self.in_flight.max();
        let room = self.in_flight.take().ok_or(Error::MaxInFlight { limit })?;
        let head = request.as_mut().ok_or(Error::TAKEN)?;
        let dst = match dst {
            Some(dst) => dst,
            None => {
                let target = normalize::proxied_target(head)?;
                let dst = self.discover(&target).await?;
                if head.method() == Method::CONNECT {
                    return tunnel(head, target);
                }
                dst
            }
        };
        normalize::request(head, &dst.target)?;
        let version = head.version();
        let stack = dst.stack();
        let picked = stack.http(version).and_then(|route| route.pick());
        let no_backend = || Error::NoBackend {
            target: dst.target.clone(),
        };
        let (backend, counts) = picked.ok_or_else(no_backend)?;
        let outgoing = Outgoing {
            target: &dst.target,
            request,
            received,
            room,
        };
        self.backend(&backend, &counts, outgoing)
            .await
            .inspect_err(|e| counts.failed(e))
    }

    // === backend ===

    /// Sends a request to an endpoint, and to another one if no connection can be made.
    async fn backend(
        &self,
        backend: &HttpBackend,
        counts: &RouteMetrics,
        outgoing: Outgoing<'_>,
    ) -> Result<Response, Error> {
        let Outgoing {
            target,
            request,
            received,
            room,
        } = outgoing;
        let unavailable = |source| Error::Unavailable {
            target: target.clone(),
            source,
        };
        let mut lease = backend.balance().pick().await.map_err(unavailable)?;
        let mut attempts = 1;
        loop {
            counts.request();
            lease.endpoint.metrics().request();
            let error = match lease.endpoint.send(request).await {
                Ok(sent) => {
                    let metrics = lease.endpoint.metrics().clone();
                    lease.sent(sent.sent);
                    let observer = Outcome::new(lease, counts.clone(), received);
                    let context = answer::Context {
                        observer,
                        metrics,
                        received,
                        room,
                    };
                    return Ok(answer::respond(sent, context));
                }
                Err(error) => error,
            };
            let now = Instant::now();
            let metrics = lease.endpoint.metrics();
            metrics.failed(now.saturating_duration_since(received), error.name());
            match error.blames_endpoint() {
                true => lease.ended(true, now),
                false => lease.forget(),
            }
            // Whoever could not send it tries another endpoint, but does not wait for one.
            let may_retry = request.is_some() && attempts < MAX_ATTEMPTS;
            match may_retry.then(|| backend.balance().try_pick()).flatten() {
                Some(next) => lease = next,
                None => return Err(error),
            }
            attempts += 1;
        }
    }

    // === opaque ===

    /// Copies bytes, over a connection that was dialled ahead if there is one.
    async fn opaque(
        &self,
        mut conn: Conn,
        dst: &Destination,
        ahead: Option<Dialled>,
    ) -> Result<(), BoxError> {
        let mut server = match ahead {
            Some(server) => server,
            None => self
                .connect(dst)
                .await
                .inspect_err(|e| self.tcp_errors.count(e.name()))?,
        };
        Ok(copy_both(&mut conn, &mut server.conn).await?)
    }

    /// Connects to an endpoint, and to another one if that fails.
    async fn connect(&self, dst: &Destination) -> Result<Dialled, Error> {
        let backend = dst.stack().opaque().and_then(|route| route.pick());
        let backend: Rc<OpaqueBackend> = backend.ok_or_else(|| Error::NoBackend {
            target: dst.target.clone(),
        })?;
        let unavailable = |source| Error::Unavailable {
            target: dst.target.clone(),
            source,
        };
        let mut lease = backend.balance().pick().await.map_err(unavailable)?;
        let mut attempts = 1;
        loop {
            let error = match lease.endpoint.connect().await {
                Ok(conn) => {
                    lease.hold();
                    return Ok(Dialled {
                        conn,
                        _lease: lease,
                    });
                }
                Err(error) => error,
            };
            lease.ended(true, Instant::now());
            match (attempts < MAX_ATTEMPTS)
                .then(|| backend.balance().try_pick())
                .flatten()
            {
                Some(next) => lease = next,
                None => return Err(error.into()),
            }
            attempts += 1;
        }
    }
}

/// The client of an HTTP connection: to one target, or, without one, of the forward proxy.
#[derive(Clone)]
struct Client {
    outbound: Rc<Outbound>,
    dst: Option<Rc<Destination>>,
}

impl Handler for Client {
    fn handle(
        self,
        request: Request,
    ) -> impl Future<Output = Result<Response, BoxError>> + 'static {
        self.outbound.serve(self.dst, request)
    }
}

/// A request on its way, with what its answer will need.
struct Outgoing<'a> {
    target: &'a Target,
    request: &'a mut Option<Request>,
    received: Instant,
    room: Room,
}

/// A connection to an endpoint, and the use of it.
struct Dialled {
    conn: Conn,
    _lease: Lease<OpaqueEndpoint>,
}

/// Labels of connections that are for the forward proxy: their target is the listener itself.
fn accepted_by_listener(side: &config::Side) -> Labels {
    let mut labels = vec![Direction::Outbound.label(), label("peer", "src")];
    if let Some(listener) = side.listen.first() {
        labels::target(&mut labels, *listener);
    }
    Tls::Loopback.append(&mut labels);
    labels
}

/// Agrees to a `CONNECT`: the connection becomes one to `target`.
fn tunnel(request: &Request, target: Target) -> Result<Response, Error> {
    if request.version() == Version::HTTP_2 {
        return Err(Error::BadRequest("CONNECT over HTTP/2 is not supported"));
    }
    Ok(Response::new(Body::empty().then(Switch::Tunnel(target))))
}

#[cfg(test)]
mod tests;
