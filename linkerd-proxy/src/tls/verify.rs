//! Verification of chains: to the roots of the mesh, without looking at names.
//!
//! Names are compared after the handshake (`leaf`), because what a peer is asked for by SNI may
//! differ from the identity it has to prove.

use super::{clock::Clock, error::Error, provider::provider, roots::Roots};
use rustls::{
    DigitallySignedStruct, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature},
    server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::Arc;

/// Verifies servers.
#[derive(Debug)]
pub(super) struct ServerVerifier {
    roots: Roots,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerVerifier {
    pub(super) fn new(roots: &Roots) -> Self {
        Self {
            roots: roots.clone(),
            algorithms: provider().signature_verification_algorithms,
        }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            self.roots.store(),
            intermediates,
            now,
            self.algorithms.all,
        )
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verify(leaf, intermediates, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A verifier of clients: a certificate is asked for, not required, verified if given.
pub(super) fn client_verifier(roots: &Roots) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    WebPkiClientVerifier::builder_with_provider(roots.store().clone(), provider())
        .allow_unauthenticated()
        // A workload has one certificate, so hints help nobody.
        .clear_root_hint_subjects()
        .build()
        .map_err(|e| Error::BadCertificate(e.to_string()))
}

/// Whether a chain holds for both sides of a handshake, at this time.
pub(super) fn verify_chain(
    chain: &[CertificateDer<'_>],
    roots: &Roots,
    clock: &Clock,
) -> Result<(), Error> {
    let (leaf, intermediates) = chain.split_first().ok_or(Error::NoCertificate)?;
    let now = clock.unix();
    ServerVerifier::new(roots).verify(leaf, intermediates, now)?;
    client_verifier(roots)?.verify_client_cert(leaf, intermediates, now)?;
    Ok(())
}
