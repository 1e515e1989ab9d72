//! TLS peers that are no proxies of ours: a client and a server of which names, certificates,
//! protocols and versions can be chosen.
//!
//! They are as strict or as careless as the test asks; [`hello`] writes first messages that no
//! library would send.

pub mod hello;

use crate::{
    pki::{Authority, Leaf},
    tcp,
};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    version::{TLS12, TLS13},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::{
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

/// The client's end of a connection.
pub type ClientStream = client::TlsStream<TcpStream>;

/// The server's end of a connection.
pub type ServerStream = server::TlsStream<TcpStream>;

/// A TLS client. Without roots it takes any server.
#[derive(Clone)]
pub struct Client {
    config: ClientConfig,
    name: ServerName<'static>,
    from: Option<Ipv4Addr>,
}

/// A TLS server's side of a handshake.
#[derive(Clone)]
pub struct Acceptor(TlsAcceptor);

// === impl Client ===

impl Client {
    /// One that says it wants `name`, and takes whoever answers.
    pub fn new(name: &str) -> Self {
        let verifier = Arc::new(Anyone);
        Self::with(name, &[&TLS13, &TLS12], |builder| {
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        })
    }

    /// One that insists on `name` and a chain to the root of `authority`.
    pub fn strict(name: &str, authority: &Authority) -> Self {
        let roots = roots(authority);
        Self::with(name, &[&TLS13, &TLS12], |builder| {
            builder.with_root_certificates(roots)
        })
    }

    /// One that speaks nothing but TLS 1.2, and takes whoever answers.
    pub fn tls_1_2(name: &str) -> Self {
        let verifier = Arc::new(Anyone);
        Self::with(name, &[&TLS12], |builder| {
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        })
    }

    fn with<F>(name: &str, versions: &[&'static SupportedProtocolVersion], verify: F) -> Self
    where
        F: FnOnce(
            rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>,
        ) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>,
    {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .expect("the provider has these versions");
        Self {
            config: verify(builder).with_no_client_auth(),
            name: name.to_owned().try_into().expect("a name for SNI"),
            from: None,
        }
    }

    /// Presents `leaf` when it is asked to.
    pub fn certificate(mut self, leaf: &Leaf) -> Self {
        let key = provider()
            .key_provider
            .load_private_key(leaf.key.clone_key());
        let key = rustls::sign::CertifiedKey::new(leaf.chain.clone(), key.expect("a key"));
        let resolver = rustls::sign::SingleCertAndKey::from(key);
        self.config.client_auth_cert_resolver = Arc::new(resolver);
        self
    }

    /// Offers these protocols.
    pub fn alpn(mut self, protocols: &[&[u8]]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
        self
    }

    /// Does not say which name it wants.
    pub fn without_sni(mut self) -> Self {
        self.config.enable_sni = false;
        self
    }

    /// Comes from `ip`, a host of its own.
    pub fn from(mut self, ip: Ipv4Addr) -> Self {
        self.from = Some(ip);
        self
    }

    /// A connection with its handshake done, as far as the client can tell: a server refuses a
    /// client's certificate only after that.
    ///
    /// # Errors
    /// When either side refuses the other.
    pub async fn connect(&self, addr: SocketAddr) -> io::Result<ClientStream> {
        let from = self.from.unwrap_or(Ipv4Addr::UNSPECIFIED);
        self.connect_over(tcp::connect_from(from, addr).await?)
            .await
    }

    /// [`connect`](Self::connect) on a socket that is connected.
    ///
    /// # Errors
    /// When either side refuses the other.
    pub async fn connect_over(&self, tcp: TcpStream) -> io::Result<ClientStream> {
        let connector = TlsConnector::from(Arc::new(self.config.clone()));
        connector.connect(self.name.clone(), tcp).await
    }
}

// === impl Acceptor ===

impl Acceptor {
    /// Presents `leaf` and asks for no certificate.
    pub fn new(leaf: &Leaf) -> Self {
        Self::with(leaf, WebPkiClientVerifier::no_client_auth(), &[])
    }

    /// Presents `leaf` and insists on a certificate of `authority`.
    pub fn mutual(leaf: &Leaf, authority: &Authority, alpn: &[&[u8]]) -> Self {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)), provider());
        Self::with(leaf, verifier.build().expect("there is a root"), alpn)
    }

    /// Presents `leaf` and takes any certificate.
    pub fn careless(leaf: &Leaf, alpn: &[&[u8]]) -> Self {
        Self::with(leaf, Arc::new(Anyone), alpn)
    }

    fn with(leaf: &Leaf, verifier: Arc<dyn ClientCertVerifier>, alpn: &[&[u8]]) -> Self {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("the provider has these versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(leaf.chain.clone(), leaf.key.clone_key())
            .expect("the key is the certificate's");
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        Self(TlsAcceptor::from(Arc::new(config)))
    }

    /// The handshake on an accepted socket.
    ///
    /// # Errors
    /// When either side refuses the other.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<ServerStream> {
        self.0.accept(tcp).await
    }

    /// A server that handles each connection with `handler` once its handshake is done.
    pub async fn serve<F, Fut>(self, addr: SocketAddr, handler: F) -> tcp::Server
    where
        F: Fn(ServerStream) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        tcp::Server::start_at(addr, move |tcp| {
            let (acceptor, handler) = (self.clone(), handler.clone());
            async move { handler(acceptor.accept(tcp).await?).await }
        })
        .await
    }

    /// A server that passes on, in clear, what it gets to `to`.
    pub async fn front(self, addr: SocketAddr, to: SocketAddr) -> tcp::Server {
        self.serve(addr, move |mut stream| async move {
            let mut plain = TcpStream::connect(to).await?;
            tokio::io::copy_bidirectional(&mut stream, &mut plain)
                .await
                .map(|_| ())
        })
        .await
    }
}

/// The one crypto library there is.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots
        .add(authority.anchor())
        .expect("a root is a certificate");
    roots
}

/// Takes every certificate that comes with its key.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = provider().signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, &known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = provider().signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, &known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ClientCertVerifier for Anyone {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}
