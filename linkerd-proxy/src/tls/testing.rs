//! Certificates, clocks and connections for tests, made on the spot.

use super::{Accepted, Certificate, Clock, Connected, Credentials, Error, Key, Roots};
use crate::metrics::{Registry, tls::Handshakes};
use mesh_policy::endpoint::TlsIdentity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::net::{TcpListener, TcpStream};

/// The length of a day.
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

/// Something that signs: a root, or an issuer below one.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    /// What leaves are handed out with.
    intermediates: Vec<CertificateDer<'static>>,
    pem: String,
}

/// A clock that stands still until it is told otherwise.
#[derive(Clone)]
pub(crate) struct Hands(Arc<AtomicU64>);

impl Authority {
    /// A root.
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority_params(name);
        let cert = params.self_signed(&key).unwrap();
        Self {
            der: cert.der().clone(),
            pem: cert.pem(),
            issuer: Issuer::new(params, key),
            intermediates: Vec::new(),
        }
    }

    /// An issuer that this one has signed.
    pub(crate) fn subordinate(&self, name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = authority_params(name);
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        Self {
            der: cert.der().clone(),
            pem: cert.pem(),
            issuer: Issuer::new(params, key),
            intermediates: vec![cert.der().clone()],
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.pem.clone()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.der.clone()
    }

    pub(crate) fn roots(&self) -> Roots {
        Roots::from_ders(vec![self.der()]).unwrap()
    }

    /// Signs a leaf for a key.
    pub(crate) fn sign(
        &self,
        name: &str,
        (from, to): (SystemTime, SystemTime),
        key: &impl rcgen::PublicKeyData,
    ) -> Vec<CertificateDer<'static>> {
        let mut params = CertificateParams::default();
        let name = name.to_owned().try_into().unwrap();
        let san = match String::from(AsRef::<str>::as_ref(&name)) {
            uri if uri.contains("://") => SanType::URI(name),
            _ => SanType::DnsName(name),
        };
        params.subject_alt_names = vec![san];
        (params.not_before, params.not_after) = (from.into(), to.into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let leaf = params.signed_by(key, &self.issuer).unwrap();
        [vec![leaf.der().clone()], self.intermediates.clone()].concat()
    }

    /// A certificate for `name` with a key of its own.
    pub(crate) fn certificate(
        &self,
        name: &str,
        validity: (SystemTime, SystemTime),
    ) -> Certificate {
        let pair = KeyPair::generate().unwrap();
        let chain = self.sign(name, validity, &pair);
        let der = PrivateKeyDer::Pkcs8(pair.serialize_der().into());
        Certificate::new(&name.into(), chain, Key::new(&der).unwrap()).unwrap()
    }

    /// Credentials for `name`, for a day from an hour ago, that trust `roots`.
    pub(crate) fn credentials(&self, name: &str, roots: &Roots, hands: &Hands) -> Credentials {
        let from = hands.now() - Duration::from_secs(3_600);
        self.credentials_for(name, (from, from + DAY), roots, hands)
    }

    /// Credentials for `name` that trust `roots`.
    pub(crate) fn credentials_for(
        &self,
        name: &str,
        validity: (SystemTime, SystemTime),
        roots: &Roots,
        hands: &Hands,
    ) -> Credentials {
        let certificate = self.certificate(name, validity);
        Credentials::new(&certificate, roots, &hands.clock(), &handshakes()).unwrap()
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Hands {
    /// Some time in 2030.
    pub(crate) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_900_000_000)))
    }

    pub(crate) fn clock(&self) -> Clock {
        let hands = self.clone();
        Clock::new(move || hands.now())
    }

    pub(crate) fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(self.0.load(Relaxed))
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Relaxed);
    }
}

/// Metrics that nobody reads.
pub(crate) fn handshakes() -> Arc<Handshakes> {
    Handshakes::new(&Registry::new(DAY, 1_000))
}

/// A peer whose SNI is its identity.
pub(crate) fn peer(name: &str) -> TlsIdentity {
    TlsIdentity {
        server_name: name.into(),
        identity: name.into(),
    }
}

/// Two ends of a connection, always to the same address within a test.
pub(crate) async fn sockets() -> (TcpStream, TcpStream) {
    thread_local! {
        static SERVER: std::net::TcpListener = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
    }
    let listener = SERVER.with(std::net::TcpListener::try_clone).unwrap();
    sockets_at(&TcpListener::from_std(listener).unwrap()).await
}

/// Two ends of a connection to `listener`.
pub(crate) async fn sockets_at(listener: &TcpListener) -> (TcpStream, TcpStream) {
    let addr = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(addr), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

/// What both sides make of a handshake.
pub(crate) async fn shake(
    client: &Credentials,
    server: &Credentials,
    to: &TlsIdentity,
) -> (Result<Connected, Error>, Result<Accepted, Error>) {
    let (c, s) = sockets().await;
    tokio::join!(client.connect(c, to, false), server.accept(s))
}
