//! Certificates as a test needs them: roots, issuers and leaves with any names, dates and keys.
//!
//! An [`Authority`] is a certificate that signs others, with the chain up to its root; a [`Leaf`]
//! is what a workload, or somebody who pretends to be one, presents. [`Bundle`] is a file of trust
//! anchors that a proxy watches.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SubjectPublicKeyInfo,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{
    fmt::Write,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509CertificationRequest};

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// ECDSA on P-256, what Linkerd uses everywhere.
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA with 2048 bits.
    Rsa,
    /// Ed25519.
    Ed25519,
}

/// From when until when a certificate is valid, to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first second.
    pub from: OffsetDateTime,
    /// The last second.
    pub until: OffsetDateTime,
}

/// A certificate that signs others.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate first, its root's last.
    chain: Vec<CertificateDer<'static>>,
}

/// A certificate of somebody, its intermediates, and its key.
#[derive(Debug)]
pub struct Leaf {
    /// The certificate itself first; no root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// A file with trust anchors.
pub struct Bundle {
    dir: TempDir,
}

/// The identity of a service account of namespace `demo`, as the control plane names it.
pub fn identity(service_account: &str) -> String {
    format!("{service_account}.demo.serviceaccount.identity.gossamer.cluster.local")
}

/// The public key (SubjectPublicKeyInfo) that `csr` is about, both in DER.
///
/// # Panics
/// When `csr` is none.
pub fn key_of_request(csr: &[u8]) -> Vec<u8> {
    let (_, request) = X509CertificationRequest::from_der(csr).expect("a CSR in DER");
    request.certification_request_info.subject_pki.raw.to_vec()
}

/// `certificates` as a PEM bundle.
pub fn pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates
        .iter()
        .map(|certificate| pem_block("CERTIFICATE", certificate))
        .collect()
}

// === impl Key ===

impl Key {
    fn generate(self) -> KeyPair {
        let algorithm = match self {
            Self::P256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Self::P384 => &rcgen::PKCS_ECDSA_P384_SHA384,
            Self::Rsa => &rcgen::PKCS_RSA_SHA256,
            Self::Ed25519 => &rcgen::PKCS_ED25519,
        };
        KeyPair::generate_for(algorithm).expect("keys of this kind can be made")
    }
}

// === impl Validity ===

impl Validity {
    /// From a second ago for `time` from now.
    pub fn lasting(time: Duration) -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            from: now - Duration::from_secs(1),
            until: now + time,
        }
    }

    /// A day, and begun.
    pub fn day() -> Self {
        Self::lasting(Duration::from_secs(24 * 3600))
    }

    /// Over for an hour.
    pub fn over() -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            from: now - Duration::from_secs(7200),
            until: now - Duration::from_secs(3600),
        }
    }

    /// Begins in an hour.
    pub fn to_come() -> Self {
        let now = OffsetDateTime::now_utc();
        Self {
            from: now + Duration::from_secs(3600),
            until: now + Duration::from_secs(7200),
        }
    }
}

// === impl Authority ===

impl Authority {
    /// A root on P-256, valid for a day.
    pub fn root(name: &str) -> Self {
        Self::root_with(name, Key::P256, Validity::day())
    }

    /// A root with its kind of key and its dates.
    pub fn root_with(name: &str, key: Key, validity: Validity) -> Self {
        let key = key.generate();
        let params = authority_params(name, validity);
        let certificate = params.self_signed(&key).expect("a root signs itself");
        Self {
            issuer: Issuer::new(params, key),
            chain: vec![certificate.der().clone()],
        }
    }

    /// An authority signed by this one, on P-256, valid for a day.
    pub fn issuer(&self, name: &str) -> Self {
        self.issuer_with(name, Key::P256, Validity::day())
    }

    /// [`issuer`](Self::issuer) with its kind of key and its dates.
    pub fn issuer_with(&self, name: &str, key: Key, validity: Validity) -> Self {
        let key = key.generate();
        let params = authority_params(name, validity);
        let certificate = params
            .signed_by(&key, &self.issuer)
            .expect("an authority signs");
        let mut chain = vec![certificate.der().clone()];
        chain.extend(self.chain.iter().cloned());
        Self {
            issuer: Issuer::new(params, key),
            chain,
        }
    }

    /// A leaf for `name` on P-256, valid for a day.
    pub fn leaf(&self, name: &str) -> Leaf {
        self.leaf_with(&[name], Key::P256, Validity::day())
    }

    /// A leaf with its names (`spiffe://` ones as URIs), kind of key and dates.
    pub fn leaf_with(&self, names: &[&str], key: Key, validity: Validity) -> Leaf {
        let key = key.generate();
        let certificate = self.sign(&key, names, validity);
        let mut chain = vec![certificate];
        chain.extend(self.intermediates().iter().cloned());
        Leaf {
            chain,
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }

    /// Signs what `csr` (DER) holds the key of, for `names`, whatever it asks for.
    ///
    /// # Panics
    /// When `csr` is none.
    pub fn sign_request(
        &self,
        csr: &[u8],
        names: &[&str],
        validity: Validity,
    ) -> CertificateDer<'static> {
        let key = SubjectPublicKeyInfo::from_der(&key_of_request(csr));
        let key = key.expect("a key that is known");
        self.sign(&key, names, validity)
    }

    /// Between a leaf and the root.
    pub fn intermediates(&self) -> &[CertificateDer<'static>] {
        &self.chain[..self.chain.len() - 1]
    }

    /// The root above, or this one.
    pub fn anchor(&self) -> CertificateDer<'static> {
        self.chain.last().expect("it has its own").clone()
    }

    /// [`anchor`](Self::anchor) in PEM.
    pub fn anchor_pem(&self) -> String {
        pem(&[self.anchor()])
    }

    /// This certificate and the intermediates above, in PEM.
    pub fn chain_pem(&self) -> String {
        match self.intermediates() {
            [] => pem(&self.chain),
            intermediates => pem(intermediates),
        }
    }

    /// Its key, in PEM.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    fn sign(
        &self,
        key: &impl PublicKeyData,
        names: &[&str],
        validity: Validity,
    ) -> CertificateDer<'static> {
        let mut params = params("", validity);
        params.subject_alt_names = names.iter().map(|name| san(name)).collect();
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let certificate = params.signed_by(key, &self.issuer);
        certificate.expect("an authority signs").der().clone()
    }
}

// === impl Leaf ===

impl Leaf {
    /// The chain in PEM.
    pub fn chain_pem(&self) -> String {
        pem(&self.chain)
    }

    /// The key in PEM (PKCS#8).
    pub fn key_pem(&self) -> String {
        pem_block("PRIVATE KEY", self.key.secret_der())
    }

    /// A second handle of it.
    pub fn share(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

// === impl Bundle ===

impl Bundle {
    /// With the roots of `authorities`.
    pub fn new(authorities: &[&Authority]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let bundle = Self { dir };
        bundle.write(authorities);
        bundle
    }

    /// Replaces what it holds by the roots of `authorities`.
    pub fn write(&self, authorities: &[&Authority]) {
        let anchors: Vec<_> = authorities.iter().map(|a| a.anchor()).collect();
        self.write_text(&pem(&anchors));
    }

    /// Replaces what it holds by `text`.
    pub fn write_text(&self, text: &str) {
        replace(&self.path(), text);
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("trust-anchors.pem")
    }
}

/// Writes `text` beside `path` and then puts it there, so that no reader sees half of it.
pub fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, path))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

fn authority_params(name: &str, validity: Validity) -> CertificateParams {
    let mut params = params(name, validity);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn params(name: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if !name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    params.not_before = validity.from;
    params.not_after = validity.until;
    params.use_authority_key_identifier_extension = true;
    params
}

fn san(name: &str) -> SanType {
    let text = name.try_into().expect("names are ASCII");
    if name.contains("://") {
        SanType::URI(text)
    } else {
        SanType::DnsName(text)
    }
}

fn pem_block(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut base64 = String::new();
    for group in der.chunks(3) {
        let bits = group
            .iter()
            .fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for n in 0..4 {
            let sextet = bits >> (18 - 6 * n) & 63;
            let is_padding = n > group.len();
            base64.push(if is_padding {
                '='
            } else {
                ALPHABET[sextet as usize].into()
            });
        }
    }
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64.as_bytes().chunks(64) {
        let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
    }
    let _ = writeln!(text, "-----END {label}-----");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls_pki_types::pem::PemObject;

    #[test]
    fn chains_end_at_the_root() {
        for key in [Key::P256, Key::P384, Key::Rsa, Key::Ed25519] {
            let root = Authority::root_with("root", key, Validity::day());
            let issuer = root.issuer_with("issuer", key, Validity::day());
            let leaf = issuer.leaf(&identity("web"));
            assert_eq!(leaf.chain.len(), 2, "{key:?}");
            assert_eq!(issuer.anchor(), root.anchor());
        }
    }

    #[test]
    fn pem_reads_back() {
        let leaf = Authority::root("root").leaf("a.example");
        let read = CertificateDer::from_pem_slice(leaf.chain_pem().as_bytes());
        assert_eq!(read.expect("PEM"), leaf.chain[0]);
        let key = PrivateKeyDer::from_pem_slice(leaf.key_pem().as_bytes()).expect("PEM");
        assert_eq!(key.secret_der(), leaf.key.secret_der());
    }
}
