//! Connections to the proxy's own inbound port: those of other proxies, which say by a transport
//! header which port of the workload they are for. Nobody else may use it. What follows the header
//! is the inbound path's again.

use super::{Inbound, Mapped, peer::Peer};
use crate::{
    detect::{self, detect},
    error::BoxError,
    io::Conn,
    metrics::labels::Tls,
    tls,
    transport_header::{self, Session, TransportHeader},
};
use mesh_policy::inbound::Protocol;
use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
};
use tokio::time::{Instant, timeout_at};

impl Inbound {
    /// A connection to this proxy itself: another proxy's, which says what it is for.
    pub(super) async fn direct(
        self: &Rc<Self>,
        mut conn: Conn,
        client: IpAddr,
    ) -> Result<(), BoxError> {
        let ip = conn.tcp().local_addr()?.ip();
        match detect(&mut conn, self.config.side.detect_timeout).await? {
            detect::Protocol::Tls { sni } if self.is_own(sni.as_deref()) => {}
            _ => {
                tracing::info!(%client, "direct connection without mesh TLS refused");
                self.count_tcp_error("no mesh tls");
                return Err("direct connection without mesh TLS refused".into());
            }
        }
        let accepted = self.terminate(conn, client).await?;
        if !accepted.transport_header || accepted.client_id.is_none() {
            tracing::info!(%client, "direct connection without identity or transport header refused");
            self.count_tcp_error("no transport header");
            return Err("direct connection without identity or transport header refused".into());
        }
        self.after_header(accepted, client, ip).await
    }

    /// Goes where the transport header says.
    pub(super) async fn after_header(
        self: &Rc<Self>,
        accepted: tls::Accepted,
        client: IpAddr,
        ip: IpAddr,
    ) -> Result<(), BoxError> {
        let id = accepted.client_id;
        let mut conn = Conn::tls(accepted.stream);
        let deadline = Instant::now() + self.config.side.detect_timeout;
        let header = timeout_at(deadline, transport_header::read(&mut conn)).await;
        let header = header
            .map_err(|_| "no transport header in time".into())
            .and_then(|header| Ok::<_, BoxError>(header?));
        let header = header.inspect_err(|error| {
            tracing::info!(%client, error, "refused");
            self.count_tcp_error("transport header");
        })?;
        let mapped = self.of_header(&header, ip).inspect_err(|error| {
            tracing::info!(%client, error, "refused");
            self.count_tcp_error("transport header");
        })?;
        let port = self.ports.get(mapped);
        let peer = Peer::new(client, Tls::Client { id });
        match header.session {
            // Whatever is spoken, nobody is to look at it.
            _ if port.policy().protocol == Protocol::Opaque => {
                self.opaque(conn, peer, port, None).await
            }
            Some(Session::Http1) => self.http1(conn, peer, port).await,
            Some(Session::Http2) => self.http2(conn, peer, port).await,
            None => self.opaque(conn, peer, port, None).await,
        }
    }

    /// The port of this workload that a header speaks of. `ip` is what the proxy was reached by.
    fn of_header(&self, header: &TransportHeader, ip: IpAddr) -> Result<Mapped, BoxError> {
        if let Some(name) = &header.name {
            return Err(format!("{name}: this proxy is no gateway").into());
        }
        let mapped = &self.config.ports;
        if let Some((listen, app)) = mapped.iter().find(|(at, _)| at.port() == header.port) {
            return Ok(Mapped {
                listen: *listen,
                app: *app,
            });
        }
        if !mapped.is_empty()
            || self
                .config
                .side
                .listen
                .iter()
                .any(|l| l.port() == header.port)
        {
            return Err(format!("port {} is not one of this workload's", header.port).into());
        }
        let addr = SocketAddr::new(ip, header.port);
        Ok(Mapped {
            listen: addr,
            app: addr,
        })
    }
}
