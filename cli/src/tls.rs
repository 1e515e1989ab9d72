//! Looks at the certificates that a server presents, and at nothing else.
//!
//! For `identity` and `check`. The handshake proves that the server has the key of what it presents;
//! whether that is to be trusted is decided by whoever asked.

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Why there is nothing to look at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    #[error("{0} does not complete a TLS handshake for {1}: {2}")]
    Handshake(SocketAddr, String, io::Error),
    #[error("{0} does not complete a TLS handshake within {1:?}")]
    Deadline(SocketAddr, Duration),
    #[error("{0:?} cannot be asked for by TLS: it is no DNS name")]
    Name(String),
    #[error("TLS cannot be set up: {0}")]
    Setup(#[from] rustls::Error),
}

/// What `addr` presents to somebody who asks for `name`, the leaf first.
pub(crate) async fn presented(
    addr: SocketAddr,
    name: &str,
    deadline: Duration,
) -> Result<Vec<CertificateDer<'static>>, InspectError> {
    tokio::time::timeout(deadline, handshake(addr, name))
        .await
        .unwrap_or(Err(InspectError::Deadline(addr, deadline)))
}

async fn handshake(
    addr: SocketAddr,
    name: &str,
) -> Result<Vec<CertificateDer<'static>>, InspectError> {
    let no_name = |_| InspectError::Name(name.to_string());
    let server = ServerName::try_from(name.to_string()).map_err(no_name)?;
    let config = client_config()?;
    let tcp = TcpStream::connect(addr).await;
    let tcp = tcp.map_err(|error| InspectError::Connect(addr, error))?;
    let handshake = TlsConnector::from(Arc::new(config)).connect(server, tcp);
    let failed = |error| InspectError::Handshake(addr, name.to_string(), error);
    let mut stream = handshake.await.map_err(failed)?;
    let (_, connection) = stream.get_ref();
    let chain = connection.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|der| der.clone().into_owned()).collect();
    // Said for the server's log; it has told all that was asked.
    let _ = stream.shutdown().await;
    Ok(chain)
}

fn client_config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let inspector = Arc::new(Inspector(provider.clone()));
    Ok(ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(inspector)
        .with_no_client_auth())
}

/// Takes any chain, but no handshake that is signed with another key.
#[derive(Debug)]
struct Inspector(Arc<CryptoProvider>);

impl ServerCertVerifier for Inspector {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Certificate;
    use crate::certificate::tests::{Pki, leaf_server};
    use std::net::Ipv4Addr;
    use tokio::net::TcpListener;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn what_a_server_presents_is_seen_whoever_signed_it() {
        let pki = Pki::new();
        let leaf = pki.leaf("web.demo.id");
        let (addr, _server) = leaf_server(&pki, &leaf).await;
        let chain = presented(addr, "web.demo.id", DEADLINE).await.unwrap();
        let first = Certificate::read(chain[0].clone()).unwrap();
        assert!(first.is_for("web.demo.id"));
        assert_eq!(chain.len(), 2);
    }

    #[tokio::test]
    async fn a_server_without_tls_is_an_error_that_names_it() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let server = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            socket
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .unwrap();
        };
        let (answer, ()) = tokio::join!(presented(addr, "web.demo.id", DEADLINE), server);
        let error = answer.unwrap_err();
        assert!(matches!(error, InspectError::Handshake(..)), "{error}");
        let error = presented(addr, "no name", DEADLINE).await.unwrap_err();
        assert!(matches!(error, InspectError::Name(_)), "{error}");
    }
}
