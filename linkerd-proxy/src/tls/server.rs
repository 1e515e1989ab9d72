//! The server side: answers clients that asked for our name.

use super::{
    Accepted, Certificate, Clock, Error, Roots, TRANSPORT_HEADER, agreed, leaf::Leaf,
    provider::provider, verify::client_verifier,
};
use crate::metrics::tls::Handshakes;
use rustls::{
    ServerConfig, crypto::aws_lc_rs::Ticketer, server::NoServerSessionStorage,
    sign::SingleCertAndKey, version::TLS13,
};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

/// What foreign clients may offer besides; the protocol is told by what they then speak. Without
/// these, a client that offers nothing else would have to be refused (RFC 7301, section 3.2).
const FOREIGN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Answers TLS.
pub(super) struct Server {
    acceptor: TlsAcceptor,
    clock: Clock,
    metrics: Arc<Handshakes>,
}

impl Server {
    pub(super) fn new(
        certificate: &Certificate,
        roots: &Roots,
        clock: &Clock,
        metrics: &Arc<Handshakes>,
    ) -> Result<Self, Error> {
        let resolver = SingleCertAndKey::from(certificate.key().clone());
        let mut config = ServerConfig::builder_with_details(provider(), Arc::new(clock.clone()))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(client_verifier(roots)?)
            .with_cert_resolver(Arc::new(resolver));
        let protocols = [TRANSPORT_HEADER].into_iter().chain(FOREIGN);
        config.alpn_protocols = protocols.map(<[u8]>::to_vec).collect();
        // Tickets hold the session, so that nothing is kept here. Their keys end with this
        // configuration, and so with the certificate and the roots.
        config.ticketer = Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 1;
        Ok(Self {
            acceptor: Arc::new(config).into(),
            clock: clock.clone(),
            metrics: metrics.clone(),
        })
    }

    /// See [`Credentials::accept`](super::Credentials::accept).
    pub(super) async fn accept(&self, tcp: TcpStream) -> Result<Accepted, Error> {
        let attempt = self.metrics.inbound.attempt();
        let accepted = self.handshake(tcp).await;
        match &accepted {
            Ok(accepted) => attempt.succeeded(agreed(accepted.stream.get_ref().1)),
            Err(error) => attempt.failed(error.reason()),
        }
        accepted
    }

    async fn handshake(&self, tcp: TcpStream) -> Result<Accepted, Error> {
        let stream = self.acceptor.accept(tcp).await?;
        let (_, session) = stream.get_ref();
        let client_id = match session.peer_certificates() {
            None => None,
            // A resumed session was verified when the certificate was still valid.
            chain => {
                let leaf = Leaf::first_of(chain)?;
                leaf.check_dates(self.clock.now())?;
                leaf.identity()
            }
        };
        Ok(Accepted {
            transport_header: session.alpn_protocol() == Some(TRANSPORT_HEADER),
            client_id,
            stream: stream.into(),
        })
    }
}
