//! Certificates that the controller was given: read once, described to people.
//!
//! Used for issuers and for trust anchors, whatever signed them; whether they may be used is the
//! business of [`issuer`](super::issuer) and [`anchors`](super::anchors).

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use serde::Serialize;
use std::{fmt::Write, time::Duration};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use x509_parser::{
    certificate::X509Certificate,
    oid_registry::{OID_EC_P256, OID_NIST_EC_P384, OID_SIG_ED25519},
    prelude::FromDer,
    public_key::PublicKey,
    x509::{SubjectPublicKeyInfo, X509Version},
};

/// A certificate and what matters of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Certificate {
    /// As it is sent.
    pub der: CertificateDer<'static>,
    /// Its name, in DER.
    pub subject: Vec<u8>,
    /// The name of whoever signed it, in DER.
    pub issuer: Vec<u8>,
    /// The bits of its public key, as keys give theirs.
    pub public_key: Vec<u8>,
    /// Whether it says that it may sign others.
    pub ca: bool,
    /// Not before.
    pub from: OffsetDateTime,
    /// Not after.
    pub until: OffsetDateTime,
    /// For people.
    pub summary: Summary,
}

/// What a page shows of a certificate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Whom it is about.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// In hexadecimal, bytes divided by colons.
    pub serial: String,
    /// RFC 3339.
    pub not_before: String,
    /// RFC 3339.
    pub not_after: String,
    /// For example `ECDSA P-256`.
    pub key_algorithm: String,
    /// Of the DER, in hexadecimal.
    pub sha256: String,
}

/// A text is not a list of certificates.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum CertificateError {
    /// It is not PEM.
    #[error("not PEM: {0}")]
    Pem(String),
    /// There is none.
    #[error("no certificate in it")]
    None,
    /// More than anybody means.
    #[error("more than {MAX} certificates")]
    TooMany,
    /// One of them is not a certificate.
    #[error("certificate {0} cannot be read")]
    Unreadable(usize),
}

/// How many certificates a file may hold.
const MAX: usize = 64;

/// Reads a PEM text with one certificate or several.
///
/// # Errors
/// When there is none, or one of them cannot be read.
pub fn read(pem: &str) -> Result<Vec<Certificate>, CertificateError> {
    let mut certificates = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let der = der.map_err(|error| CertificateError::Pem(error.to_string()))?;
        if certificates.len() == MAX {
            return Err(CertificateError::TooMany);
        }
        let number = certificates.len() + 1;
        let certificate = Certificate::of(der).ok_or(CertificateError::Unreadable(number))?;
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(CertificateError::None);
    }
    Ok(certificates)
}

/// A moment as the verifier of chains takes it.
pub fn unix(moment: OffsetDateTime) -> UnixTime {
    let seconds = u64::try_from(moment.unix_timestamp()).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_secs(seconds))
}

/// A moment as people read it, to the second.
pub fn rfc3339(moment: OffsetDateTime) -> String {
    let second = moment.truncate_to_second();
    // Fails for years beyond 9999 only, which certificates cannot hold.
    second.format(&Rfc3339).unwrap_or_default()
}

// === impl Certificate ===

impl Certificate {
    fn of(der: CertificateDer<'static>) -> Option<Self> {
        let (rest, x509) = X509Certificate::from_der(&der).ok()?;
        let tbs = &x509.tbs_certificate;
        let (from, until) = (tbs.validity.not_before, tbs.validity.not_after);
        let (from, until) = (from.to_datetime(), until.to_datetime());
        let certificate = Self {
            subject: tbs.subject.as_raw().to_vec(),
            issuer: tbs.issuer.as_raw().to_vec(),
            public_key: tbs.subject_pki.subject_public_key.data.to_vec(),
            // Old roots had no way to say so.
            ca: x509.is_ca() || tbs.version == X509Version::V1,
            from,
            until,
            summary: Summary {
                subject: tbs.subject.to_string(),
                issuer: tbs.issuer.to_string(),
                serial: tbs.raw_serial_as_string(),
                not_before: rfc3339(from),
                not_after: rfc3339(until),
                key_algorithm: key_algorithm(&tbs.subject_pki),
                sha256: hex(&sha256(&der)),
            },
            der: der.clone(),
        };
        rest.is_empty().then_some(certificate)
    }

    /// Whether it is good at that moment, as far as its dates go.
    pub fn holds(&self, now: OffsetDateTime) -> bool {
        self.from <= now && now <= self.until
    }

    /// What is wrong with its dates at that moment.
    pub fn dates(&self, now: OffsetDateTime) -> Option<String> {
        let Summary {
            not_before,
            not_after,
            ..
        } = &self.summary;
        if now < self.from {
            return Some(format!("is not valid before {not_before}"));
        }
        (now > self.until).then(|| format!("expired at {not_after}"))
    }
}

fn key_algorithm(spki: &SubjectPublicKeyInfo<'_>) -> String {
    let parameters = spki.algorithm.parameters.as_ref();
    let curve = parameters.and_then(|curve| curve.as_oid().ok());
    match spki.parsed() {
        Ok(PublicKey::RSA(rsa)) => format!("RSA {}", rsa.key_size()),
        Ok(PublicKey::EC(_)) if curve == Some(OID_EC_P256) => "ECDSA P-256".to_owned(),
        Ok(PublicKey::EC(_)) if curve == Some(OID_NIST_EC_P384) => "ECDSA P-384".to_owned(),
        _ if spki.algorithm.algorithm == OID_SIG_ED25519 => "Ed25519".to_owned(),
        _ => spki.algorithm.algorithm.to_string(),
    }
}

/// The hash that this suite brings along.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    let suite = TLS13_AES_128_GCM_SHA256.tls13();
    let hash = suite.map(|suite| suite.common.hash_provider.hash(bytes));
    hash.map(|hash| hash.as_ref().to_vec()).unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
