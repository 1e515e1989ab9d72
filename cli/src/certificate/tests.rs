//! Certificates made for tests, and how they are read.
//!
//! Other tests of this program take their certificates from [`Pki`].

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use time::Duration;
use time::macros::datetime;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The time in tests.
pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-20 12:00:00 UTC);

/// A root, and an issuer that it has signed.
pub(crate) struct Pki {
    pub(crate) root: CertifiedIssuer<'static, KeyPair>,
    pub(crate) issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate of a workload, and its key.
pub(crate) struct Leaf {
    pub(crate) certificate: Certificate,
    key: KeyPair,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let year = Duration::days(365);
        Self::lasting(year * 10, year)
    }

    /// Root and issuer that end so long after [`NOW`].
    pub(crate) fn lasting(root: Duration, issuer: Duration) -> Self {
        let root = CertifiedIssuer::self_signed(ca("root", root), key()).unwrap();
        let issuer = CertifiedIssuer::signed_by(ca("issuer", issuer), key(), &root).unwrap();
        Self { root, issuer }
    }

    pub(crate) fn anchor(&self) -> Certificate {
        Certificate::read(self.root.der().clone()).unwrap()
    }

    pub(crate) fn issuer(&self) -> Certificate {
        Certificate::read(self.issuer.der().clone()).unwrap()
    }

    /// Valid for the day that began an hour before [`NOW`].
    pub(crate) fn leaf(&self, name: &str) -> Leaf {
        self.leaf_from(name, NOW - Duration::HOUR)
    }

    pub(crate) fn leaf_from(&self, name: &str, from: OffsetDateTime) -> Leaf {
        let key = key();
        let mut params = CertificateParams::new(vec![name.to_string()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (from, from + Duration::DAY);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let certificate = Certificate::read(signed.der().clone()).unwrap();
        Leaf { certificate, key }
    }
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn ca(name: &str, lasts: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = (NOW - Duration::DAY, NOW + lasts);
    params
}

/// A TLS server with this certificate, for as long as what is returned lives.
pub(crate) async fn leaf_server(pki: &Pki, leaf: &Leaf) -> (SocketAddr, impl Sized + use<>) {
    let chain = vec![leaf.certificate.der.clone(), pki.issuer.der().clone()];
    let key = rustls_pki_types::PrivatePkcs8KeyDer::from(leaf.key.serialize_der());
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key.into())
        .unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        while let Ok((socket, _)) = listener.accept().await {
            let _ = acceptor.accept(socket).await;
        }
    });
    (addr, tasks)
}

#[test]
fn a_certificate_says_who_it_is_for_and_who_made_it() {
    let pki = Pki::new();
    let leaf = pki.leaf("web.demo.id").certificate;
    assert_eq!(
        (leaf.subject.as_str(), leaf.issuer.as_str()),
        ("CN=web.demo.id", "CN=issuer")
    );
    assert!(leaf.is_for("web.demo.id") && !leaf.is_for("demo.id") && !leaf.is_ca);
    let nameless = Certificate {
        subject: String::new(),
        ..leaf.clone()
    };
    assert_eq!(
        (leaf.label(), nameless.label()),
        ("CN=web.demo.id", "DNS:web.demo.id")
    );
    assert_eq!(leaf.key_algorithm, Key::P256);
    assert_eq!(leaf.not_after - leaf.not_before, Duration::DAY);
    assert!(leaf.is_signed_by(&pki.issuer()) && pki.issuer().is_signed_by(&pki.anchor()));
    assert!(!leaf.is_signed_by(&pki.anchor()) && !leaf.is_signed_by(&Pki::new().issuer()));
    assert!(pki.anchor().is_signed_by(&pki.anchor()) && pki.anchor().is_ca);
}

#[test]
fn bundles_are_read_whole_or_not_at_all() {
    let (one, two) = (Pki::new(), Pki::new());
    let text = format!("a comment\n{}\n{}", one.root.pem(), two.root.pem());
    let found = Certificate::read_pem(text.as_bytes()).unwrap();
    assert_eq!(found, [one.anchor(), two.anchor()]);
    let broken = text.replace("MII", "AAA");
    assert!(matches!(
        Certificate::read_pem(broken.as_bytes()),
        Err(CertificateError::Der(_))
    ));
    assert!(matches!(
        Certificate::read_pem(b"nothing"),
        Err(CertificateError::Empty)
    ));
}

#[test]
fn keys_are_told_apart() {
    let of = |algorithm| {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let made = CertificateParams::default().self_signed(&key).unwrap();
        Certificate::read(made.der().clone()).unwrap().key_algorithm
    };
    for (algorithm, key, text) in [
        (&rcgen::PKCS_ECDSA_P256_SHA256, Key::P256, "ECDSA P-256"),
        (&rcgen::PKCS_ECDSA_P384_SHA384, Key::P384, "ECDSA P-384"),
        (&rcgen::PKCS_ED25519, Key::Ed25519, "Ed25519"),
    ] {
        assert_eq!(
            (of(algorithm), key.to_string().as_str()),
            (key.clone(), text)
        );
        assert!(key.is_supported());
    }
    assert!(Key::Rsa(2048).is_supported() && !Key::Rsa(1024).is_supported());
    assert!(!Key::Other("1.3.132.0.10".into()).is_supported());
}

#[test]
fn the_text_is_much_like_openssls() {
    let pki = Pki::new();
    let text = pki.leaf("web.demo.id").certificate.to_text();
    for line in [
        "        Signature Algorithm: ecdsa-with-SHA256\n",
        "        Issuer: CN=issuer\n",
        "            Not Before: Nov 20 11:00:00 2026 GMT\n",
        "            Not After : Nov 21 11:00:00 2026 GMT\n",
        "        Subject: CN=web.demo.id\n",
        "            Public Key Algorithm: ECDSA P-256\n",
        "                TLS Web Server Authentication, TLS Web Client Authentication\n",
        "                DNS:web.demo.id\n",
    ] {
        assert!(text.contains(line), "{line} not in {text}");
    }
    assert!(pki.issuer().to_text().contains("CA:TRUE"));
    let json = serde_json::to_value(pki.anchor()).unwrap();
    assert_eq!(json["not_before"], "2026-11-19T12:00:00Z");
    assert_eq!(json["sha256"].as_str().map(str::len), Some(64));
}

#[test]
fn the_fingerprint_is_that_of_the_standard() {
    // FIPS 180-2, appendix B.1.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256(b"abc"), abc);
}
