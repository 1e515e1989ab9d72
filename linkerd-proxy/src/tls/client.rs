//! The client side: towards a peer that has to prove an identity.

use super::{
    Certificate, Clock, Connected, Error, Roots, TRANSPORT_HEADER, agreed,
    leaf::Leaf,
    provider::provider,
    sessions::{Peer, Peers},
    verify::ServerVerifier,
};
use crate::metrics::tls::Handshakes;
use mesh_policy::endpoint::TlsIdentity;
use rustls::{ClientConfig, sign::SingleCertAndKey, version::TLS13};
use rustls_pki_types::ServerName;
use std::{sync::Arc, time::SystemTime};
use tokio::net::TcpStream;

/// Opens TLS, with a certificate or without. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    peers: Arc<Peers>,
    /// When our own certificate ends, if we have one.
    not_after: Option<SystemTime>,
    clock: Clock,
    metrics: Arc<Handshakes>,
}

impl Client {
    /// One that shows no certificate.
    ///
    /// # Errors
    ///
    /// When rustls takes exception to the roots.
    pub fn anonymous(
        roots: &Roots,
        clock: &Clock,
        metrics: &Arc<Handshakes>,
    ) -> Result<Self, Error> {
        Self::new(None, roots, clock, metrics)
    }

    pub(super) fn certified(
        certificate: &Certificate,
        roots: &Roots,
        clock: &Clock,
        metrics: &Arc<Handshakes>,
    ) -> Result<Self, Error> {
        Self::new(Some(certificate), roots, clock, metrics)
    }

    fn new(
        certificate: Option<&Certificate>,
        roots: &Roots,
        clock: &Clock,
        metrics: &Arc<Handshakes>,
    ) -> Result<Self, Error> {
        let builder = ClientConfig::builder_with_details(provider(), Arc::new(clock.clone()))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(ServerVerifier::new(roots)));
        let template = match certificate {
            Some(certificate) => {
                let resolver = SingleCertAndKey::from(certificate.key().clone());
                builder.with_client_cert_resolver(Arc::new(resolver))
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Self {
            peers: Arc::new(Peers::new(template)),
            not_after: certificate.map(Certificate::not_after),
            clock: clock.clone(),
            metrics: metrics.clone(),
        })
    }

    /// See [`Credentials::connect`](super::Credentials::connect).
    ///
    /// # Errors
    ///
    /// [`Error`]: whatever kept the two from a verified connection.
    pub async fn connect(
        &self,
        tcp: TcpStream,
        to: &TlsIdentity,
        offer_transport_header: bool,
    ) -> Result<Connected, Error> {
        let attempt = self.metrics.outbound.attempt();
        let connected = self.handshake(tcp, to, offer_transport_header).await;
        match &connected {
            Ok(connected) => attempt.succeeded(agreed(connected.stream.get_ref().1)),
            Err(error) => attempt.failed(error.reason()),
        }
        connected
    }

    async fn handshake(
        &self,
        tcp: TcpStream,
        to: &TlsIdentity,
        offer_transport_header: bool,
    ) -> Result<Connected, Error> {
        // The peer would refuse it, in words that only its log has.
        if let Some(not_after) = self.not_after.filter(|end| *end < self.clock.now()) {
            return Err(Error::OwnExpired(not_after));
        }
        let name = ServerName::try_from(to.server_name.to_string())
            .map_err(|_| Error::BadServerName(to.server_name.clone()))?;
        let connector = self.peers.connector(Peer {
            addr: tcp.peer_addr()?,
            server_name: to.server_name.clone(),
            offers_header: offer_transport_header,
        });
        let stream = connector.connect(name, tcp).await?;
        let (_, session) = stream.get_ref();
        let leaf = Leaf::first_of(session.peer_certificates())?;
        leaf.check_dates(self.clock.now())?;
        leaf.check_name(&to.identity)?;
        Ok(Connected {
            transport_header: session.alpn_protocol() == Some(TRANSPORT_HEADER),
            stream: stream.into(),
        })
    }
}
