//! Dialling one address: TCP, then TLS if the endpoint has an identity to prove, all within one
//! deadline; with the socket's options and its meter. What is spoken then is the caller's to know,
//! but where the peer wants to be told by a transport header, it is told here.

use crate::{
    config::Connect,
    error::ConnectError,
    identity::Identity,
    io::Conn,
    metrics::transport::Transport,
    transport_header::{self, Session, TransportHeader},
};
use mesh_policy::endpoint::{HintedProtocol, ProtocolHint, TlsIdentity};
use std::{cell::LazyCell, net::SocketAddr, sync::Arc};
use tokio::{net::TcpStream, time::timeout};

/// Counts connections to one address, from the first one on: of the many endpoints that a balancer
/// knows, few may ever be connected to.
pub type Meter = LazyCell<Arc<Transport>, Box<dyn FnOnce() -> Arc<Transport>>>;

/// How one address is reached.
pub struct Dial {
    addr: SocketAddr,
    config: Connect,
    meter: Meter,
    secure: Option<Secure>,
    is_own: bool,
}

/// How an endpoint that is meshed is reached.
pub struct Secure {
    /// What we prove our own identity with.
    pub identity: Identity,
    /// Whom to expect there.
    pub peer: TlsIdentity,
    /// What its proxy can take.
    pub hint: ProtocolHint,
}

/// A connection on which nothing has been said yet.
pub struct Dialled {
    conn: Conn,
    addr: SocketAddr,
    /// Whether the peer wants to be told what the connection is for.
    expects_header: bool,
    /// Whether the peer does not look at what is spoken.
    is_opaque: bool,
}

// === impl Dial ===

impl Dial {
    /// Dials `addr`, in clear unless it is `secure`.
    pub fn new(addr: SocketAddr, config: Connect, meter: Meter, secure: Option<Secure>) -> Self {
        Self {
            addr,
            config,
            meter,
            secure,
            is_own: false,
        }
    }

    /// That there is this very proxy if `is_own`, so that it is not dialled.
    pub fn unless_own(self, is_own: bool) -> Self {
        Self { is_own, ..self }
    }

    /// What is dialled: the workload's address, also where its proxy's own port stands for it.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How connections are dialled.
    pub fn config(&self) -> &Connect {
        &self.config
    }

    /// Whether the peer is meshed and takes HTTP/1 over HTTP/2.
    pub fn takes_http1_over_http2(&self) -> bool {
        let hint = self.secure.as_ref().map(|secure| secure.hint.protocol);
        hint == Some(HintedProtocol::H2)
    }

    /// Connects, to speak `session`; `None`: bytes that are not looked at.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], with the address.
    pub async fn connect(&self, session: Option<Session>) -> Result<Conn, ConnectError> {
        self.in_time(async { self.open().await?.speak(session).await })
            .await
    }

    /// Connects, without saying yet what is to be spoken.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], with the address.
    pub async fn connect_ahead(&self) -> Result<Dialled, ConnectError> {
        self.in_time(self.open()).await
    }

    /// Goes on with a connection that was made ahead.
    ///
    /// # Errors
    ///
    /// [`ConnectError`], with the address.
    pub async fn speak(
        &self,
        ahead: Dialled,
        session: Option<Session>,
    ) -> Result<Conn, ConnectError> {
        self.in_time(ahead.speak(session)).await
    }

    async fn in_time<T>(
        &self,
        connecting: impl Future<Output = Result<T, ConnectError>>,
    ) -> Result<T, ConnectError> {
        let (addr, limit) = (self.addr, self.config.timeout);
        let timed_out = |_| ConnectError::Timeout {
            addr,
            timeout: limit,
        };
        timeout(limit, connecting).await.map_err(timed_out)?
    }

    async fn open(&self) -> Result<Dialled, ConnectError> {
        if self.is_own {
            return Err(ConnectError::Own { addr: self.addr });
        }
        let Some(secure) = &self.secure else {
            let tcp = self.tcp(self.addr).await?;
            return Ok(Dialled {
                conn: Conn::new(tcp).metered(self.meter.open()),
                addr: self.addr,
                expects_header: false,
                is_opaque: false,
            });
        };
        let peer_port = secure.hint.opaque_transport_port;
        let mut at = self.addr;
        at.set_port(peer_port.unwrap_or(at.port()));
        let (addr, tcp) = (self.addr, self.tcp(at).await?);
        let credentials = secure.identity.credentials();
        let credentials = credentials.ok_or(ConnectError::NotCertified { addr })?;
        let connected = credentials
            .connect(tcp, &secure.peer, peer_port.is_some())
            .await
            .inspect_err(|error| {
                let server_id = &secure.peer.identity;
                tracing::warn!(%addr, %server_id, %error, "TLS to endpoint failed");
            })
            .map_err(|source| ConnectError::Tls { addr, source })?;
        Ok(Dialled {
            conn: Conn::tls(connected.stream).metered(self.meter.open()),
            addr,
            expects_header: connected.transport_header,
            is_opaque: secure.hint.protocol == HintedProtocol::Opaque,
        })
    }

    async fn tcp(&self, to: SocketAddr) -> Result<TcpStream, ConnectError> {
        let failed = |source| ConnectError::Io { addr: to, source };
        let tcp = TcpStream::connect(to).await.map_err(failed)?;
        self.config.options.apply(&tcp).map_err(failed)?;
        Ok(tcp)
    }
}

// === impl Dialled ===

impl Dialled {
    /// Whether the connection has not ended meanwhile.
    pub fn is_alive(&self) -> bool {
        self.conn.is_alive()
    }

    async fn speak(mut self, session: Option<Session>) -> Result<Conn, ConnectError> {
        if self.expects_header {
            // To a peer that does not look at what is spoken it is not said.
            let session = session.filter(|_| !self.is_opaque);
            let (port, name) = (self.addr.port(), None);
            let header = TransportHeader {
                port,
                name,
                session,
            };
            let written = transport_header::write(&mut self.conn, &header).await;
            let addr = self.addr;
            written.map_err(|source| ConnectError::Io { addr, source })?;
        }
        Ok(self.conn)
    }
}
