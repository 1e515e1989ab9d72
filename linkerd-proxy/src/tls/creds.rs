//! Our own certificate: its key, whether it may be used, and the configurations made of it.

use super::{Accepted, Client, Clock, Connected, Error, Roots, leaf::Leaf, server::Server, verify};
use crate::metrics::tls::Handshakes;
use mesh_policy::endpoint::TlsIdentity;
use rustls::{
    crypto::aws_lc_rs::sign::any_ecdsa_type,
    sign::{CertifiedKey, SigningKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::{fmt, sync::Arc, time::SystemTime};
use tokio::net::TcpStream;

/// A private key, ready to sign. Its bytes are not to be had.
#[derive(Clone)]
pub struct Key(Arc<dyn SigningKey>);

/// A certificate of this workload, with its key.
#[derive(Clone)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    not_after: SystemTime,
}

/// What this workload proves its identity with, and verifies its peers by: one for each
/// certificate and set of roots.
pub struct Credentials {
    not_after: SystemTime,
    clock: Clock,
    client: Client,
    server: Server,
}

// === impl Key ===

impl Key {
    /// Takes an ECDSA key. What the caller has of it is the caller's to wipe.
    ///
    /// # Errors
    ///
    /// When it is not one; says nothing of its bytes.
    pub fn new(der: &PrivateKeyDer<'_>) -> Result<Self, Error> {
        let not_ours = |_| Error::BadCertificate("the key is not an ECDSA key".into());
        any_ecdsa_type(der).map(Self).map_err(not_ours)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

// === impl Certificate ===

impl Certificate {
    /// Takes a chain, leaf first, that was issued for `name` and `key`.
    ///
    /// # Errors
    ///
    /// A leaf that cannot be parsed, names somebody else, or is for another key.
    pub fn new(
        name: &Arc<str>,
        chain: Vec<CertificateDer<'static>>,
        key: Key,
    ) -> Result<Self, Error> {
        let leaf = Leaf::first_of(Some(&chain))?;
        leaf.check_name(name)?;
        let not_after = leaf.not_after();
        let key = CertifiedKey::new(chain, key.0);
        key.keys_match()
            .map_err(|_| Error::BadCertificate("it is not for our key".into()))?;
        Ok(Self {
            key: Arc::new(key),
            not_after,
        })
    }

    /// Whether it is valid now, and chains to `roots`.
    ///
    /// # Errors
    ///
    /// Why it may not be used.
    pub fn check(&self, roots: &Roots, clock: &Clock) -> Result<(), Error> {
        // The dates first, for the better message.
        Leaf::first_of(Some(&self.key.cert))?.check_dates(clock.now())?;
        verify::verify_chain(&self.key.cert, roots, clock)
    }

    /// When it ends.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    pub(super) fn key(&self) -> &Arc<CertifiedKey> {
        &self.key
    }
}

// === impl Credentials ===

impl Credentials {
    /// Makes the configurations of both sides. The certificate is taken as it is, so that roots
    /// can change under one that chains to the former ones.
    ///
    /// # Errors
    ///
    /// When rustls takes exception to them.
    pub fn new(
        certificate: &Certificate,
        roots: &Roots,
        clock: &Clock,
        metrics: &Arc<Handshakes>,
    ) -> Result<Self, Error> {
        Ok(Self {
            not_after: certificate.not_after,
            clock: clock.clone(),
            client: Client::certified(certificate, roots, clock, metrics)?,
            server: Server::new(certificate, roots, clock, metrics)?,
        })
    }

    /// Opens TLS towards a peer. SNI is `to.server_name`; the peer's leaf has to carry
    /// `to.identity` as DNS or URI name and be valid now, also when a session is resumed.
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
        self.client.connect(tcp, to, offer_transport_header).await
    }

    /// Answers a client's TLS. Its certificate is asked for, not required, verified if given.
    ///
    /// # Errors
    ///
    /// [`Error`]: whatever kept the two from a connection.
    pub async fn accept(&self, tcp: TcpStream) -> Result<Accepted, Error> {
        self.server.accept(tcp).await
    }

    /// The client side alone.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// When the certificate ends.
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whether the certificate has ended.
    pub fn has_expired(&self) -> bool {
        self.clock.now() > self.not_after
    }
}
