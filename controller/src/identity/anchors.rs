//! Trust anchors: the roots that every proxy of the mesh verifies its peers with.
//!
//! A bundle of several is how roots are replaced without a gap, so it is served whole, with every
//! certificate, to whoever asks for one. Which of them the issuer hangs on is not asked here.

use super::certificate::{self, Certificate, CertificateError};
use rustls_pki_types::TrustAnchor;
use time::OffsetDateTime;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use webpki::anchor_from_trusted_cert;

/// The key of the answer's metadata, with a value in DER for each anchor.
pub const METADATA: &str = "gossamer-trust-anchors-bin";

/// Clients take 16 KiB of metadata, in base64 and with other things in it.
const MAX_METADATA: usize = 10 * 1024;

/// A bundle in which at least one certificate is good.
#[derive(Debug)]
pub struct Anchors {
    certificates: Vec<Certificate>,
    metadata: MetadataMap,
}

/// A bundle cannot be used.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum AnchorsError {
    /// It is not a bundle.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// One of them is the certificate of a server or a client.
    #[error("{0:?} is not a CA certificate")]
    NotCa(String),
    /// There is none that anybody would trust now.
    #[error("{0:?} {1}, and there is no other")]
    Dates(String, String),
}

impl Anchors {
    /// Reads a PEM bundle.
    ///
    /// # Errors
    /// When it holds no certificates, others than of CAs, or none that is valid now.
    pub fn read(pem: &str, now: OffsetDateTime) -> Result<Self, AnchorsError> {
        let certificates = certificate::read(pem)?;
        if let Some(leaf) = certificates.iter().find(|certificate| !certificate.ca) {
            return Err(AnchorsError::NotCa(leaf.summary.subject.clone()));
        }
        let wrong = |certificate: &Certificate| {
            let subject = certificate.summary.subject.clone();
            Some(AnchorsError::Dates(subject, certificate.dates(now)?))
        };
        let wrong: Option<Vec<_>> = certificates.iter().map(wrong).collect();
        if let Some(first) = wrong.into_iter().flatten().next() {
            return Err(first);
        }
        let size: usize = certificates.iter().map(|c| c.der.len()).sum();
        let mut metadata = MetadataMap::new();
        if size <= MAX_METADATA {
            for certificate in &certificates {
                let value = BinaryMetadataValue::from_bytes(&certificate.der);
                metadata.append_bin(METADATA, value);
            }
        } else {
            tracing::warn!(size, "too many trust anchors to send with certificates");
        }
        Ok(Self {
            certificates,
            metadata,
        })
    }

    /// All of them.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// All of them, as an answer carries them.
    pub fn metadata(&self) -> &MetadataMap {
        &self.metadata
    }

    /// Those that are valid at that moment, as chains are verified with them.
    pub fn trusted(&self, now: OffsetDateTime) -> Vec<TrustAnchor<'_>> {
        let good = self.certificates.iter().filter(|c| c.holds(now));
        // One that cannot be read in this way was read in another before.
        good.filter_map(|c| anchor_from_trusted_cert(&c.der).ok())
            .collect()
    }

    /// The certificate of an anchor that [`trusted`](Self::trusted) gave; of those with the same name
    /// and key the one that ends last.
    pub fn certificate(
        &self,
        anchor: &TrustAnchor<'_>,
        now: OffsetDateTime,
    ) -> Option<&Certificate> {
        let same = |certificate: &&Certificate| {
            certificate.holds(now)
                && anchor_from_trusted_cert(&certificate.der).is_ok_and(|other| {
                    other.subject == anchor.subject
                        && other.subject_public_key_info == anchor.subject_public_key_info
                })
        };
        self.certificates
            .iter()
            .filter(same)
            .max_by_key(|c| c.until)
    }
}
