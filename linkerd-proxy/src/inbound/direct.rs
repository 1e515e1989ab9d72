//! Connections to the proxy's own inbound port: those of other proxies, which say by a transport
//! header which port of the workload they are for. Nobody else may use it. What follows the header
//! is the inbound path's again.

use super::{Inbound, Mapped, peer::Peer};
use crate::{
    detect::{self, detect},
    error::BoxError,
    io::Conn,
    metrics::{label, labels::Tls},
    tls,
    transport_header::{self, Session, TransportHeader},
};
use mesh_policy::inbound::Protocol;
use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
};
use tokio::time::timeout;

impl Inbound {
    /// A connection to this proxy itself: another proxy's, which says what it is for.
    pub(super) async fn direct(
        self: &Rc<Self>,
        mut conn: Conn,
        client: IpAddr,
    ) -> Result<(), BoxError> {
        let ip = conn.tcp().local_addr()?.ip();
        // Whoever is right here speaks first, and at once.
        let within = self.config.side.detect_timeout;
        let detected = timeout(within, detect(&mut conn, within)).await;
        match detected.unwrap_or(Ok(detect::Protocol::Undecided))? {
            detect::Protocol::Tls { sni } if self.is_own(sni.as_deref()) => {}
            _ => return Err(self.refuse(client, "direct connection without mesh TLS")),
        }
        let accepted = self.terminate(conn, client).await?;
        if !accepted.transport_header || accepted.client_id.is_none() {
            let why = "direct connection without an identity, or without a transport header";
            return Err(self.refuse(client, why));
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
        let read = transport_header::read(&mut conn);
        let header = match timeout(self.config.side.detect_timeout, read).await {
            Ok(header) => header.map_err(|error| self.refuse(client, error))?,
            Err(_) => return Err(self.refuse(client, "no transport header in time")),
        };
        let mapped = self.of_header(&header, ip);
        let mapped = mapped.map_err(|error| self.refuse(client, error))?;
        self.count_header(&header, id.as_deref());
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

    fn refuse(&self, client: IpAddr, why: impl Into<BoxError>) -> BoxError {
        let why = why.into();
        tracing::info!(%client, why, "refused");
        self.tcp_errors.count("direct");
        why
    }

    fn count_header(&self, header: &TransportHeader, client_id: Option<&str>) {
        let session = match header.session {
            Some(Session::Http1) => "http/1",
            Some(Session::Http2) => "http/2",
            None => "",
        };
        let labels = vec![
            label("session_protocol", session),
            label("target_port", header.port.to_string()),
            label("target_name", header.name.clone().unwrap_or_default()),
            label("client_id", client_id.unwrap_or_default().to_owned()),
        ];
        self.metrics
            .counter("inbound_tcp_transport_header_connections_total", labels)
            .increment(1);
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
