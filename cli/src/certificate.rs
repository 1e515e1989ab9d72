//! Certificates as people and checks read them.
//!
//! `identity` prints what proxies present, `check` judges it together with the files of the mesh.
//! Nothing here decides whether a certificate is to be trusted.

mod text;

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Serialize, Serializer};
use std::fmt;
use std::net::IpAddr;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_SIG_ED25519};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Certificate {
    pub(crate) subject: String,
    pub(crate) issuer: String,
    /// Hexadecimal, with colons.
    pub(crate) serial: String,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) not_before: OffsetDateTime,
    #[serde(serialize_with = "rfc3339")]
    pub(crate) not_after: OffsetDateTime,
    #[serde(serialize_with = "displayed")]
    pub(crate) key_algorithm: Key,
    /// `DNS:name`, `URI:...`, `IP Address:...`, as openssl writes them.
    pub(crate) subject_alt_names: Vec<String>,
    pub(crate) is_ca: bool,
    /// Of the whole certificate: hexadecimal, in lower case.
    pub(crate) sha256: String,
    #[serde(skip)]
    pub(crate) der: CertificateDer<'static>,
}

/// The kind of a public key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Key {
    P256,
    P384,
    Ed25519,
    /// With so many bits.
    Rsa(usize),
    /// Of this object identifier.
    Other(String),
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("is not PEM: {0}")]
    Pem(rustls_pki_types::pem::Error),
    #[error("holds no certificate")]
    Empty,
    #[error("holds a certificate that cannot be read: {0}")]
    Der(String),
}

// === impl Certificate ===

impl Certificate {
    /// Reads all certificates of a PEM text, of which there is at least one.
    pub(crate) fn read_pem(text: &[u8]) -> Result<Vec<Self>, CertificateError> {
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
        let found = found.map_err(CertificateError::Pem)?;
        if found.is_empty() {
            return Err(CertificateError::Empty);
        }
        found.into_iter().map(Self::read).collect()
    }

    /// Reads one.
    pub(crate) fn read(der: CertificateDer<'static>) -> Result<Self, CertificateError> {
        let parsed = parse(&der)?;
        let time = |seconds| {
            OffsetDateTime::from_unix_timestamp(seconds)
                .map_err(|error| CertificateError::Der(error.to_string()))
        };
        let names = parsed.subject_alternative_name();
        let names = names.map_err(|error| CertificateError::Der(error.to_string()))?;
        let names = names.iter().flat_map(|names| &names.value.general_names);
        Ok(Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            serial: parsed.raw_serial_as_string(),
            not_before: time(parsed.validity().not_before.timestamp())?,
            not_after: time(parsed.validity().not_after.timestamp())?,
            key_algorithm: Key::of(parsed.public_key()),
            subject_alt_names: names.map(general_name).collect(),
            is_ca: parsed.is_ca(),
            sha256: sha256(&der),
            der,
        })
    }

    /// What to call it: workloads have no subject, only another name.
    pub(crate) fn label(&self) -> &str {
        match self.subject_alt_names.first() {
            Some(name) if self.subject.is_empty() => name,
            _ => &self.subject,
        }
    }

    /// Whether it is made out to a DNS name or URI.
    pub(crate) fn is_for(&self, identity: &str) -> bool {
        let names = self.subject_alt_names.iter();
        let mut names = names.filter_map(|name| name.split_once(':'));
        names.any(|(kind, name)| matches!(kind, "DNS" | "URI") && name == identity)
    }

    /// Whether the key of `issuer` has signed it, and it says so itself.
    pub(crate) fn is_signed_by(&self, issuer: &Self) -> bool {
        let (Ok(own), Ok(issuer)) = (parse(&self.der), parse(&issuer.der)) else {
            return false;
        };
        let named = own.issuer().as_raw() == issuer.subject().as_raw();
        named && own.verify_signature(Some(issuer.public_key())).is_ok()
    }
}

fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, CertificateError> {
    let parsed = X509Certificate::from_der(der);
    let (_, parsed) = parsed.map_err(|error| CertificateError::Der(error.to_string()))?;
    Ok(parsed)
}

fn general_name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        GeneralName::URI(uri) => format!("URI:{uri}"),
        GeneralName::RFC822Name(name) => format!("email:{name}"),
        GeneralName::IPAddress(bytes) => match ip(bytes) {
            Some(ip) => format!("IP Address:{ip}"),
            None => "IP Address:<invalid>".to_string(),
        },
        other => format!("othername:{other:?}"),
    }
}

fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// The hash that the TLS library has anyway.
fn sha256(bytes: &[u8]) -> String {
    let suite = TLS13_AES_128_GCM_SHA256.tls13();
    let hash = suite.map(|suite| suite.common.hash_provider.hash(bytes));
    let bytes = hash.iter().flat_map(|hash| hash.as_ref());
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn rfc3339<S: Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    let text = time.format(&Rfc3339).map_err(serde::ser::Error::custom)?;
    serializer.serialize_str(&text)
}

fn displayed<T: fmt::Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

// === impl Key ===

impl Key {
    fn of(info: &SubjectPublicKeyInfo<'_>) -> Self {
        let algorithm = &info.algorithm;
        let curve = algorithm.parameters.as_ref();
        let curve = curve.and_then(|parameters| parameters.as_oid().ok());
        match (info.parsed(), curve) {
            (Ok(PublicKey::EC(_)), Some(curve)) if curve == OID_EC_P256 => Self::P256,
            (Ok(PublicKey::EC(_)), Some(curve)) if curve == OID_NIST_EC_P384 => Self::P384,
            (Ok(PublicKey::EC(_)), Some(curve)) => Self::Other(curve.to_id_string()),
            (Ok(PublicKey::RSA(key)), _) => Self::Rsa(key.key_size()),
            _ if algorithm.algorithm == OID_SIG_ED25519 => Self::Ed25519,
            _ => Self::Other(algorithm.algorithm.to_id_string()),
        }
    }

    /// Whether the mesh takes issuers and roots with such a key.
    pub(crate) fn is_supported(&self) -> bool {
        match self {
            Key::P256 | Key::P384 | Key::Ed25519 => true,
            Key::Rsa(bits) => *bits >= 2048,
            Key::Other(_) => false,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::P256 => f.write_str("ECDSA P-256"),
            Key::P384 => f.write_str("ECDSA P-384"),
            Key::Ed25519 => f.write_str("Ed25519"),
            Key::Rsa(bits) => write!(f, "RSA {bits}"),
            Key::Other(oid) => f.write_str(oid),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
