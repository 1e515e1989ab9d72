//! The inbound path: from the network to the local application, nothing forwarded without a
//! [`Permit`].
//!
//! ```text
//! accept -> policy(port) -> detect -+- tls: terminate -> detect -+- http: serve -> authorize -> route -+-> connect(local)
//!                                   +----------------------------+- opaque, foreign tls: authorize ----+
//! accept on our own port -> tls required -> transport header -> http | opaque
//! ```
//!
//! Read from top to bottom: one chapter for each arrow. The connection to the application is
//! [`App`]'s, whose every method takes a permit, and only the authorization decision makes one.
//! Everything here belongs to one worker.

mod app;
mod direct;
mod peer;
mod port;

use self::{
    app::App,
    peer::{Access, Peer},
    port::{Counted, Port, Ports},
};
use crate::{
    addr::Target,
    config,
    control::Discovery,
    detect::{
        self, detect,
        first::{First, Speaks, first_to_speak, is_silent},
    },
    drain::Signal,
    error::{BoxError, Error, h2_reason},
    http::{
        Request, Response, headers, normalize, orig_proto, rescue,
        server::{Handler, serve_http1, serve_http2},
        upgrade::{self, Switch},
    },
    identity::Identity,
    io::{Conn, copy::copy_both},
    limit::Limit,
    listen::original_dst,
    metrics::{Registry, errors::Errors, labels::Tls},
    tls,
};
use http::Version;
use mesh_policy::{
    authz::{Deny, Permit},
    inbound::Protocol,
};
use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

/// The inbound path of one worker.
pub struct Inbound {
    config: config::Inbound,
    identity: Identity,
    ports: Ports,
    metrics: Arc<Registry>,
    tcp_errors: Errors,
    in_flight: Limit,
    dialled_ahead: Limit,
    drain: Signal,
}

/// A listener that stands for a port of the application.
#[derive(Clone, Copy, Debug)]
pub struct Mapped {
    /// The address that clients connect to; its port is the one that policy speaks of.
    pub listen: SocketAddr,
    /// Where the application listens.
    pub app: SocketAddr,
}

impl Inbound {
    /// The path by `config`, asking `discovery`.
    pub fn new(
        config: &config::Config,
        discovery: Discovery,
        identity: Identity,
        metrics: Arc<Registry>,
        drain: Signal,
    ) -> Rc<Self> {
        let inbound = config.inbound.clone();
        Rc::new(Self {
            in_flight: Limit::new(inbound.side.max_in_flight / config.cores),
            dialled_ahead: Limit::new(detect::first::MAX_DIALLED_AHEAD),
            metrics: metrics.clone(),
            tcp_errors: Errors::new(&metrics, "inbound_tcp_errors_total"),
            ports: Ports::new(&inbound, discovery, metrics),
            config: inbound,
            identity,
            drain,
        })
    }

    // === accept ===

    /// Carries one connection from the network to the application, if it may.
    pub async fn accept(self: Rc<Self>, tcp: TcpStream, mapped: Option<Mapped>) {
        if let Err(error) = self.carry(Conn::new(tcp), mapped).await {
            tracing::debug!(error, "inbound connection ended");
        }
    }

    async fn carry(self: &Rc<Self>, conn: Conn, mapped: Option<Mapped>) -> Result<(), BoxError> {
        let client = conn.tcp().peer_addr()?.ip();
        let mapped = mapped.or_else(|| self.redirected(&conn));
        let Some(mapped) = mapped else {
            return Box::pin(self.direct(conn, client)).await;
        };
        if !self.config.ips.is_empty() && !self.config.ips.contains(&mapped.listen.ip()) {
            return Err(
                format!("{} is not an address of this workload", mapped.listen.ip()).into(),
            );
        }
        // === policy(port) ===
        let port = self.ports.get(mapped);
        let peer = |tls| Peer::new(client, tls);
        match port.policy().protocol {
            Protocol::Opaque => {
                Box::pin(self.opaque(conn, peer(Tls::PortSkipped), port, None)).await
            }
            Protocol::Detect { timeout } => {
                self.detect(conn, peer(Tls::NoTlsFromRemote), port, timeout)
                    .await
            }
            Protocol::Http1 | Protocol::Http2 | Protocol::Grpc | Protocol::Tls => {
                let timeout = self.config.side.detect_timeout;
                self.detect(conn, peer(Tls::NoTlsFromRemote), port, timeout)
                    .await
            }
        }
    }

    /// Where a connection was made for, if netfilter brought it here.
    fn redirected(&self, conn: &Conn) -> Option<Mapped> {
        let addr = original_dst(conn.tcp())?;
        let own_port = conn.tcp().local_addr().ok()?.port();
        (addr.port() != own_port).then_some(Mapped {
            listen: addr,
            app: addr,
        })
    }

    // === detect ===

    /// Finds out what the connection speaks, and goes on accordingly.
    async fn detect(
        self: &Rc<Self>,
        mut conn: Conn,
        peer: Peer,
        port: Rc<Port>,
        timeout: Duration,
    ) -> Result<(), BoxError> {
        // Another proxy begins with TLS, also where the server is the one to speak first.
        let may_be_meshed = !peer.is_meshed() && self.identity.name().is_some();
        let speaks = port.speaks.get();
        let patience = match may_be_meshed {
            true => speaks.patience_with_proxies(),
            false => speaks.patience(),
        };
        let ahead = match port.is_detected() {
            true => Box::pin(self.dial_ahead(&mut conn, &peer, &port, patience)).await?,
            false => None,
        };
        let ahead = match ahead {
            Some((app, First::Server)) => {
                return Box::pin(self.opaque(conn, peer, port, Some(app))).await;
            }
            Some((app, First::Client)) => Some(app),
            Some((_, First::HttpServer)) | None => None,
        };
        let peer = match detect(&mut conn, timeout).await? {
            detect::Protocol::Http1 => {
                drop(ahead);
                return self.http1(conn, peer, port).await;
            }
            detect::Protocol::Http2 => {
                drop(ahead);
                // Boxed, as the others: an idle HTTP/1 connection does not hold room for it.
                return Box::pin(self.http2(conn, peer, port)).await;
            }
            detect::Protocol::Tls { sni } if may_be_meshed && self.is_own(sni.as_deref()) => {
                drop(ahead);
                return Box::pin(self.secured(conn, peer, port, timeout)).await;
            }
            detect::Protocol::Tls { sni } if !peer.is_meshed() => peer.with(Tls::Opaque {
                sni: sni.unwrap_or_default(),
            }),
            _ => peer,
        };
        Box::pin(self.opaque(conn, peer, port, ahead)).await
    }

    /// When the client stays silent, connects to the application and waits for whichever speaks
    /// first. Returns the connection, if it was made, and who spoke.
    async fn dial_ahead(
        &self,
        conn: &mut Conn,
        peer: &Peer,
        port: &Port,
        patience: Duration,
    ) -> Result<Option<(Conn, First)>, BoxError> {
        if !is_silent(conn, patience).await {
            return Ok(None);
        }
        let Some(_room) = self.dialled_ahead.take() else {
            return Ok(None);
        };
        let permit = self.authorize_tcp(peer, port)?;
        let mut app = port.app.connect(&permit).await?;
        let first = first_to_speak(conn, &mut app).await?;
        if first == First::Server {
            port.speaks.set(Speaks::Server);
        }
        Ok(Some((app, first)))
    }

    // === tls: terminate ===

    fn is_own(&self, sni: Option<&str>) -> bool {
        self.identity
            .name()
            .is_some_and(|name| sni == Some(&**name))
    }

    /// Another proxy's connection to a port: what it speaks is found out within.
    async fn secured(
        self: &Rc<Self>,
        conn: Conn,
        peer: Peer,
        port: Rc<Port>,
        timeout: Duration,
    ) -> Result<(), BoxError> {
        let ip = conn.tcp().local_addr()?.ip();
        let accepted = self.terminate(conn, peer.ip()).await?;
        if accepted.transport_header {
            return self.after_header(accepted, peer.ip(), ip).await;
        }
        let tls = Tls::Client {
            id: accepted.client_id,
        };
        let conn = Conn::tls(accepted.stream);
        self.detect(conn, peer.with(tls), port, timeout).await
    }

    /// Answers the client's TLS, within the time that detection may take.
    async fn terminate(&self, conn: Conn, client: IpAddr) -> Result<tls::Accepted, BoxError> {
        let credentials = self.identity.credentials();
        let credentials = credentials.ok_or("mesh TLS before there is a certificate")?;
        let tcp = conn.into_socket()?;
        let deadline = Instant::now() + self.config.side.detect_timeout;
        let accepted: Result<_, BoxError> =
            match timeout_at(deadline, credentials.accept(tcp)).await {
                Ok(Ok(accepted)) => return Ok(accepted),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => Err("TLS handshake took too long".into()),
            };
        accepted.inspect_err(|error| {
            tracing::info!(%client, error, "TLS handshake refused");
            self.tcp_errors.count("tls");
        })
    }

    // === http: serve ===

    async fn http1(
        self: &Rc<Self>,
        conn: Conn,
        peer: Peer,
        port: Rc<Port>,
    ) -> Result<(), BoxError> {
        let (conn, client) = self.client(conn, peer, port);
        if let Some((conn, Switch::Upgrade(app))) = serve_http1(conn, client, &self.drain).await? {
            // Boxed, as above.
            Box::pin(upgrade::forward(conn, app)).await;
        }
        Ok(())
    }

    async fn http2(
        self: &Rc<Self>,
        conn: Conn,
        peer: Peer,
        port: Rc<Port>,
    ) -> Result<(), BoxError> {
        let (conn, client) = self.client(conn, peer, port);
        Ok(serve_http2(conn, client, &self.config.side.http2, &self.drain).await?)
    }

    fn client(self: &Rc<Self>, conn: Conn, peer: Peer, port: Rc<Port>) -> (Conn, Client) {
        port.speaks.set(Speaks::Client);
        let conn = conn.metered(port.accepted(peer.tls()));
        let client = Client {
            inbound: self.clone(),
            access: Rc::new(Access::new(port, peer)),
        };
        (conn, client)
    }

    /// Answers one request, whatever happens to it.
    async fn serve(
        self: Rc<Self>,
        access: Rc<Access>,
        request: Request,
    ) -> Result<Response, BoxError> {
        let context = rescue::Context {
            version: request.version(),
            is_grpc: headers::is_grpc(request.headers()),
            // Only a peer that has proved its identity may know why.
            explain: access.client_id().is_some(),
        };
        let error = match self.route(&access, &mut Some(request)).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        tracing::debug!(%error, "request failed");
        if !matches!(error, Error::Unauthorized(_)) {
            access.port().count(Counted::HttpError(error.name()));
        }
        if context.version == Version::HTTP_2 && h2_reason(&error).is_some() {
            // The application reset the stream: so is the client's, for the same reason.
            return Err(error.into());
        }
        Ok(rescue::response(&error, context))
    }

    // === route ===

    /// Takes a request to the application, if it may.
    async fn route(
        &self,
        access: &Access,
        request: &mut Option<Request>,
    ) -> Result<Response, Error> {
        let received = Instant::now();
        let limit = self.in_flight.max();
        let room = self.in_flight.take().ok_or(Error::MaxInFlight { limit })?;
        let (permit, granted) = access.authorize()?;
        let head = request.as_mut().ok_or(Error::TAKEN)?;
        let is_carried = access.peer().is_meshed() && orig_proto::uncarry_if_carried(head);
        normalize::request(head, &Target::Addr(access.port().listen()))?;
        if let Some(id) = access.client_id() {
            head.headers_mut()
                .insert(headers::L5D_CLIENT_ID, id.clone());
        }
        let app = &access.port().app;
        let sent = app.send(&permit, &granted, request, received, room);
        let mut response = sent.await?;
        if is_carried {
            orig_proto::carry_response(&mut response);
        }
        Ok(response)
    }

    // === opaque, foreign tls: authorize ===

    /// Copies bytes for as long as policy allows the client.
    async fn opaque(
        &self,
        conn: Conn,
        peer: Peer,
        port: Rc<Port>,
        ahead: Option<Conn>,
    ) -> Result<(), BoxError> {
        let mut conn = conn.metered(port.accepted(peer.tls()));
        let mut policy = port.follow();
        let permit = self.authorize_tcp(&peer, &port)?;
        let mut app = match ahead {
            Some(app) => app,
            None => port
                .app
                .connect(&permit)
                .await
                .inspect_err(|_| self.tcp_errors.count("i/o"))?,
        };
        let mut copying = std::pin::pin!(copy_both(&mut conn, &mut app));
        loop {
            tokio::select! {
                copied = &mut copying => return Ok(copied?),
                // Without a sender the last policy stays in force.
                Ok(()) = policy.changed() => {
                    if let Err(deny) = peer.authorize(&policy.borrow_and_update()) {
                        port.count(Counted::Tcp("inbound_tcp_authz_terminate_total", peer.tls().clone(), None));
                        return Err(deny.into());
                    }
                }
            }
        }
    }

    fn authorize_tcp(&self, peer: &Peer, port: &Port) -> Result<Permit, Deny> {
        let decided = peer.authorize(&port.policy());
        match &decided {
            Ok(permit) => {
                let (tls, by) = (peer.tls().clone(), permit.authorization().clone());
                port.count(Counted::Tcp("inbound_tcp_authz_allow_total", tls, Some(by)));
            }
            Err(deny) => {
                port.count(Counted::Tcp(
                    "inbound_tcp_authz_deny_total",
                    peer.tls().clone(),
                    None,
                ));
                tracing::info!(%deny, "connection denied");
            }
        }
        decided
    }
}

/// The client of an HTTP connection to one port.
#[derive(Clone)]
struct Client {
    inbound: Rc<Inbound>,
    access: Rc<Access>,
}

impl Handler for Client {
    fn handle(
        self,
        request: Request,
    ) -> impl Future<Output = Result<Response, BoxError>> + 'static {
        self.inbound.serve(self.access, request)
    }
}

#[cfg(test)]
mod tests;
