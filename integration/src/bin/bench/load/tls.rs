//! TLS as a client's sidecar opens it: a new connection for each request, with a certificate.
//!
//! What is measured is the server's end, so this one saves what it can: that the server is who it
//! should be has been verified by the other half of the pair when it was started. All peers get the
//! same offer, one suite and one group, so that all do the same work.

use super::{Mode, Pace, Shared, http1};
use anyhow::{Context, Result, ensure};
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider,
        aws_lc_rs::{
            cipher_suite::TLS13_AES_128_GCM_SHA256,
            default_provider,
            kx_group::{X25519, X25519MLKEM768},
        },
    },
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use std::{net::SocketAddr, path::Path, sync::Arc};
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsConnector;

/// One client. Sessions are its own, so that each that it resumes is one that it has opened.
pub(super) struct Client {
    connector: TlsConnector,
    name: ServerName<'static>,
    resumes: bool,
}

/// Opens connections and asks once on each, as long as the run lasts.
pub(super) async fn connections(
    addr: SocketAddr,
    client: &Client,
    pace: &Pace,
    stats: &Shared,
) -> Result<()> {
    let mut buffer = Vec::new();
    let mut expected = HandshakeKind::Full;
    while let Some(due) = pace.next().await {
        let kind = client.ask(addr, &mut buffer).await?;
        ensure!(kind == Some(expected), "{kind:?} and not {expected:?}");
        stats.borrow_mut().done(due, 1);
        if client.resumes {
            expected = HandshakeKind::Resumed;
        }
    }
    Ok(())
}

// === impl Client ===

impl Client {
    /// One with the certificate in the file at `path` that wants to reach `name`.
    pub(super) fn new(mode: Mode, path: &Path, name: &str) -> Result<Self> {
        let at = || format!("cannot read {}", path.display());
        let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
            .with_context(at)?
            .collect();
        let key = PrivateKeyDer::from_pem_file(path).with_context(at)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider(mode)))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified))
            .with_client_auth_cert(chain?, key)?;
        let resumes = mode == Mode::HandshakeResumed;
        config.resumption = if resumes {
            Resumption::in_memory_sessions(1)
        } else {
            Resumption::disabled()
        };
        Ok(Self {
            connector: Arc::new(config).into(),
            name: name.to_owned().try_into()?,
            resumes,
        })
    }

    /// A connection from its handshake to its end.
    async fn ask(&self, addr: SocketAddr, buffer: &mut Vec<u8>) -> Result<Option<HandshakeKind>> {
        let tcp = http1::connect(addr).await?;
        let mut stream = self.connector.connect(self.name.clone(), tcp).await?;
        http1::ask(&mut stream, buffer).await?;
        stream.shutdown().await?;
        Ok(stream.get_ref().1.handshake_kind())
    }
}

fn provider(mode: Mode) -> CryptoProvider {
    let group = match mode {
        Mode::HandshakePostQuantum => X25519MLKEM768,
        _ => X25519,
    };
    CryptoProvider {
        cipher_suites: vec![TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![group],
        ..default_provider()
    }
}

/// Takes every server.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
