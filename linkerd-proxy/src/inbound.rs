//! The inbound path: from the network to the local application, nothing forwarded without a
//! [`Permit`].
//!
//! ```text
//! accept -> policy(port) -> detect -+- http: serve -> authorize -> route -+-> connect(local)
//!                                   +- opaque, tls: authorize ------------+
//! ```
//!
//! Read from top to bottom: one chapter for each arrow. The connection to the application is
//! [`App`]'s, whose every method takes a permit, and only the authorization decision makes one.
//! Everything here belongs to one worker.

mod app;
mod port;

use self::{
    app::App,
    port::{Port, Ports},
};
use crate::{
    config,
    control::Discovery,
    detect::{
        self, detect,
        first::{First, Speaks, first_to_speak, is_silent},
    },
    drain::Signal,
    error::{BoxError, Error, h2_reason},
    http::{
        Request, Response, headers, normalize, rescue,
        server::{Activity, Handler, serve_http1, serve_http2},
        upgrade::{self, Switch},
    },
    io::{Conn, copy::copy_both},
    limit::Limit,
    listen::original_dst,
    metrics::{Registry, label, labels::Tls},
};
use http::Version;
use mesh_policy::{
    authz::{ClientTls, Deny, Permit, authorize},
    inbound::Protocol,
};
use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::Arc,
    time::Duration,
};
use tokio::{net::TcpStream, time::Instant};

/// The inbound path of one worker.
pub struct Inbound {
    config: config::Inbound,
    ports: Ports,
    metrics: Arc<Registry>,
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
        metrics: Arc<Registry>,
        drain: Signal,
    ) -> Rc<Self> {
        let inbound = config.inbound.clone();
        Rc::new(Self {
            in_flight: Limit::new(inbound.side.max_in_flight / config.cores),
            dialled_ahead: Limit::new(detect::first::MAX_DIALLED_AHEAD),
            ports: Ports::new(&inbound, discovery, metrics.clone()),
            config: inbound,
            metrics,
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
        let redirected = || {
            original_dst(conn.tcp()).map(|addr| Mapped {
                listen: addr,
                app: addr,
            })
        };
        let Some(mapped) = mapped.or_else(redirected) else {
            // Only proxies speak to this port itself, over mesh TLS.
            return Err("direct connection without mesh TLS refused".into());
        };
        if !self.config.ips.is_empty() && !self.config.ips.contains(&mapped.listen.ip()) {
            return Err(
                format!("{} is not an address of this workload", mapped.listen.ip()).into(),
            );
        }
        // === policy(port) ===
        let port = self.ports.get(mapped);
        match port.policy().protocol {
            Protocol::Opaque => {
                Box::pin(self.opaque(conn, client, port, Tls::PortSkipped, None)).await
            }
            Protocol::Detect { timeout } => self.detect(conn, client, port, timeout).await,
            Protocol::Http1 | Protocol::Http2 | Protocol::Grpc | Protocol::Tls => {
                port.speaks.set(Speaks::Client);
                let timeout = self.config.side.detect_timeout;
                self.detect(conn, client, port, timeout).await
            }
        }
    }

    // === detect ===

    /// Finds out what the connection speaks, and goes on accordingly.
    async fn detect(
        self: &Rc<Self>,
        mut conn: Conn,
        client: IpAddr,
        port: Rc<Port>,
        timeout: Duration,
    ) -> Result<(), BoxError> {
        let ahead = match port.speaks.get() {
            Speaks::Client => None,
            Speaks::Server => {
                let opaque = self.opaque(conn, client, port, Tls::NoTlsFromRemote, None);
                return Box::pin(opaque).await;
            }
            Speaks::Unknown => Box::pin(self.dial_ahead(&conn, client, &port)).await?,
        };
        if port.speaks.get() == Speaks::Server {
            let opaque = self.opaque(conn, client, port, Tls::NoTlsFromRemote, ahead);
            return Box::pin(opaque).await;
        }
        let tls = match detect(&mut conn, timeout).await? {
            detect::Protocol::Http1 => {
                drop(ahead);
                return self.http1(conn, client, port).await;
            }
            detect::Protocol::Http2 => {
                drop(ahead);
                // Boxed, as the others: an idle HTTP/1 connection does not hold room for it.
                return Box::pin(self.http2(conn, client, port)).await;
            }
            detect::Protocol::Tls { sni } => Tls::Opaque {
                sni: sni.unwrap_or_default(),
            },
            detect::Protocol::Opaque | detect::Protocol::Closed => Tls::NoTlsFromRemote,
        };
        Box::pin(self.opaque(conn, client, port, tls, ahead)).await
    }

    /// When the client stays silent, connects to the application and waits for whichever speaks
    /// first. Returns the connection, if it was made.
    async fn dial_ahead(
        &self,
        conn: &Conn,
        client: IpAddr,
        port: &Port,
    ) -> Result<Option<Conn>, BoxError> {
        if !is_silent(conn).await {
            return Ok(None);
        }
        let Some(_room) = self.dialled_ahead.take() else {
            return Ok(None);
        };
        let permit = self.authorize_tcp(client, port, &Tls::NoTlsFromRemote)?;
        let app = port.app.connect(&permit).await?;
        if first_to_speak(conn, &app).await? == First::Server {
            port.speaks.set(Speaks::Server);
        }
        Ok(Some(app))
    }

    // === http: serve ===

    async fn http1(
        self: &Rc<Self>,
        conn: Conn,
        client: IpAddr,
        port: Rc<Port>,
    ) -> Result<(), BoxError> {
        port.speaks.set(Speaks::Client);
        let conn = conn.metered(port.accepted(&Tls::NoTlsFromRemote));
        let client = Client {
            inbound: self.clone(),
            client,
            port,
        };
        if let Some((conn, Switch::Upgrade(app))) = serve_http1(conn, client, &self.drain).await? {
            upgrade::forward(conn, app).await;
        }
        Ok(())
    }

    async fn http2(
        self: &Rc<Self>,
        conn: Conn,
        client: IpAddr,
        port: Rc<Port>,
    ) -> Result<(), BoxError> {
        port.speaks.set(Speaks::Client);
        let conn = conn.metered(port.accepted(&Tls::NoTlsFromRemote));
        let client = Client {
            inbound: self.clone(),
            client,
            port,
        };
        Ok(serve_http2(conn, client, &self.config.side.http2, &self.drain).await?)
    }

    /// Answers one request, whatever happens to it.
    async fn serve(
        self: Rc<Self>,
        from: Client,
        request: Request,
        activity: Rc<Activity>,
    ) -> Result<Response, BoxError> {
        let context = rescue::Context {
            version: request.version(),
            is_grpc: headers::is_grpc(request.headers()),
            // Only a peer that has proved its identity may know why.
            explain: false,
        };
        let error = match self.route(&from, &mut Some(request), &activity).await {
            Ok(response) => return Ok(response),
            Err(error) => error,
        };
        tracing::debug!(%error, "request failed");
        if !matches!(error, Error::Unauthorized(_)) {
            from.port.count_http_error(error.name());
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
        from: &Client,
        request: &mut Option<Request>,
        activity: &Rc<Activity>,
    ) -> Result<Response, Error> {
        let received = Instant::now();
        let limit = self.in_flight.max();
        let room = self.in_flight.take().ok_or(Error::MaxInFlight { limit })?;
        let permit = authorize_http(from)?;
        let keep_upgrade = normalize::request(request.as_mut().ok_or(Error::TAKEN)?)?;
        let upgrade = keep_upgrade.then_some(activity);
        from.port
            .app
            .send(&permit, &from.port, request, received, room, upgrade)
            .await
    }

    // === opaque, tls: authorize ===

    /// Copies bytes for as long as policy allows the client.
    async fn opaque(
        &self,
        conn: Conn,
        client: IpAddr,
        port: Rc<Port>,
        tls: Tls,
        ahead: Option<Conn>,
    ) -> Result<(), BoxError> {
        let mut conn = conn.metered(port.accepted(&tls));
        let mut policy = port.follow();
        let permit = self.authorize_tcp(client, &port, &tls)?;
        let mut app = match ahead {
            Some(app) => app,
            None => port
                .app
                .connect(&permit)
                .await
                .inspect_err(|_| self.count_tcp_error("i/o"))?,
        };
        let mut copying = std::pin::pin!(copy_both(&mut conn, &mut app));
        loop {
            tokio::select! {
                copied = &mut copying => return Ok(copied?),
                // Without a sender the last policy stays in force.
                Ok(()) = policy.changed() => {
                    if let Err(deny) = authorize(&policy.borrow_and_update(), client, &ClientTls::None) {
                        port.count_tcp_authz("inbound_tcp_authz_terminate_total", &tls, None);
                        return Err(deny.into());
                    }
                }
            }
        }
    }

    fn authorize_tcp(&self, client: IpAddr, port: &Port, tls: &Tls) -> Result<Permit, Deny> {
        let decided = authorize(&port.policy(), client, &ClientTls::None);
        match &decided {
            Ok(permit) => {
                let by = Some(&**permit.authorization());
                port.count_tcp_authz("inbound_tcp_authz_allow_total", tls, by);
            }
            Err(deny) => {
                port.count_tcp_authz("inbound_tcp_authz_deny_total", tls, None);
                tracing::info!(%deny, "connection denied");
            }
        }
        decided
    }

    fn count_tcp_error(&self, error: &'static str) {
        self.metrics
            .counter("inbound_tcp_errors_total", vec![label("error", error)])
            .increment(1);
    }
}

/// Decides on one request; the policy may have changed since the last one.
fn authorize_http(from: &Client) -> Result<Permit, Deny> {
    let decided = authorize(&from.port.policy(), from.client, &ClientTls::None);
    match &decided {
        Ok(permit) => from.port.allowed(permit).increment(1),
        Err(deny) => {
            from.port.denied().increment(1);
            tracing::info!(%deny, "request denied");
        }
    }
    decided
}

/// The client of an HTTP connection to one port.
#[derive(Clone)]
struct Client {
    inbound: Rc<Inbound>,
    client: IpAddr,
    port: Rc<Port>,
}

impl Handler for Client {
    fn handle(
        self,
        request: Request,
        activity: Rc<Activity>,
    ) -> impl Future<Output = Result<Response, BoxError>> + 'static {
        self.inbound.clone().serve(self, request, activity)
    }
}
