//! The certificate and key that sign the certificates of workloads.
//!
//! An [`Issuer`] exists only of material that works: its key matches, it may sign, it is valid now,
//! and a certificate of its making was verified up to a trust anchor, just as a proxy would. What it
//! signs is made of the identity and the key of the request alone. Reading files and replacing one
//! issuer by another is done by [`authority`](super::authority).

use super::{
    anchors::Anchors,
    certificate::{self, Certificate, CertificateError, rfc3339, unix},
    csr::Request,
    name::Identities,
};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::time::Duration;
use time::OffsetDateTime;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// Signs.
#[derive(Debug)]
pub struct Issuer {
    signer: rcgen::Issuer<'static, KeyPair>,
    certificate: Certificate,
    /// What links a leaf to the root: sent with it. Neither the leaf nor the root is in it.
    chain: Vec<CertificateDer<'static>>,
    /// When the first certificate from here to the root ends.
    until: OffsetDateTime,
}

/// For how long certificates are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// From now on.
    pub lifetime: Duration,
    /// How far clocks may be apart: certificates begin earlier and end later by that.
    pub skew: Duration,
}

/// A certificate for a workload.
#[derive(Debug)]
pub struct Issued {
    /// Its own certificate.
    pub leaf: CertificateDer<'static>,
    /// The others, up to the root but without it.
    pub chain: Vec<CertificateDer<'static>>,
    /// When it ends.
    pub until: OffsetDateTime,
    /// In hexadecimal.
    pub serial: String,
}

/// Material that an issuer cannot be made of.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum IssuerError {
    /// The chain is not a list of certificates.
    #[error("certificate: {0}")]
    Certificates(#[from] CertificateError),
    /// The key cannot be read.
    #[error("key: {0}")]
    Key(String),
    /// It is the key of something else.
    #[error("the key does not belong to the certificate {0:?}")]
    Mismatch(String),
    /// It must not sign.
    #[error("{0:?} is not a CA certificate")]
    NotCa(String),
    /// It is not its time.
    #[error("{0:?} {1}")]
    Dates(String, String),
    /// Its name cannot be written as it is.
    #[error("the subject {0:?} is too unusual to sign with: expected each kind of part once")]
    Subject(String),
    /// Nobody would believe what it signs.
    #[error("certificates that {subject:?} signs would not be trusted: {problem}")]
    Chain {
        /// The issuer.
        subject: String,
        /// What a verifier says.
        problem: String,
    },
}

/// Why a certificate is not signed.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// It, its chain or its root ended.
    #[error("the issuer's certificates expired at {}", rfc3339(*.0))]
    Expired(OffsetDateTime),
    /// Out of memory, entropy or luck.
    #[error("cannot sign: {0}")]
    Sign(#[from] rcgen::Error),
    /// There was no entropy for its serial number.
    #[error("cannot sign: no random numbers")]
    Random,
}

impl Issuer {
    /// Reads a PEM chain, the issuer's own certificate first, and its PEM key; then tries them out.
    ///
    /// # Errors
    /// When proxies that trust `anchors` would not trust what it signs now.
    pub fn read(
        chain: &str,
        key: &str,
        anchors: &Anchors,
        identities: &Identities,
        now: OffsetDateTime,
    ) -> Result<Self, IssuerError> {
        let mut certificates = certificate::read(chain)?;
        let key = read_key(key)?;
        let certificate = certificates[0].clone();
        let subject = || certificate.summary.subject.clone();
        if certificate.public_key != key.der_bytes() {
            return Err(IssuerError::Mismatch(subject()));
        }
        if !certificate.ca {
            return Err(IssuerError::NotCa(subject()));
        }
        for certificate in &certificates {
            if let Some(problem) = certificate.dates(now) {
                return Err(IssuerError::Dates(
                    certificate.summary.subject.clone(),
                    problem,
                ));
            }
        }
        let signer = rcgen::Issuer::from_ca_cert_der(&certificate.der, key);
        let signer = signer.map_err(|_| IssuerError::Subject(subject()))?;
        let until = certificates.iter().map(|c| c.until).min();
        let until = until.unwrap_or(certificate.until);
        // Whoever verifies has the root, or does not trust it.
        let anchor = |c: &Certificate| anchors.certificates().iter().any(|a| a.der == c.der);
        certificates.retain(|c| c.subject != c.issuer && !anchor(c));
        let mut issuer = Self {
            signer,
            chain: certificates.into_iter().map(|c| c.der).collect(),
            until,
            certificate,
        };
        issuer.until = issuer.try_out(anchors, &identities.example(), now)?;
        Ok(issuer)
    }

    /// Signs a certificate that nobody gets, and verifies it. Tells when the chain ends.
    fn try_out(
        &self,
        anchors: &Anchors,
        name: &str,
        now: OffsetDateTime,
    ) -> Result<OffsetDateTime, IssuerError> {
        let problem = |problem: String| IssuerError::Chain {
            subject: self.certificate.summary.subject.clone(),
            problem,
        };
        let failed = |error: rcgen::Error| problem(error.to_string());
        let key = KeyPair::generate().map_err(failed)?;
        let params = params(name, false, now, now + Duration::from_secs(60));
        let params = params.map_err(|error| problem(error.to_string()))?;
        let leaf = params.signed_by(&key, &self.signer).map_err(failed)?;
        let leaf = leaf.der();
        let written = X509Certificate::from_der(leaf);
        if !written.is_ok_and(|(_, x509)| x509.issuer().as_raw() == self.certificate.subject) {
            return Err(IssuerError::Subject(
                self.certificate.summary.subject.clone(),
            ));
        }
        let trusted = anchors.trusted(now);
        let end = EndEntityCert::try_from(leaf).map_err(|error| problem(error.to_string()))?;
        let path = end.verify_for_usage(
            ALL_VERIFICATION_ALGS,
            &trusted,
            &self.chain,
            unix(now),
            KeyUsage::server_auth(),
            None,
            None,
        );
        let path = path.map_err(|error| match error {
            webpki::Error::UnknownIssuer => {
                problem("it does not chain to a trust anchor".to_owned())
            }
            error => problem(error.to_string()),
        })?;
        let root = anchors.certificate(path.anchor(), now);
        Ok(root.map_or(self.until, |root| root.until.min(self.until)))
    }

    /// Signs a certificate for `identity` and the key of `request`.
    ///
    /// # Errors
    /// When there is no time left to give.
    pub fn issue(
        &self,
        identity: &str,
        request: &Request,
        terms: Terms,
        now: OffsetDateTime,
    ) -> Result<Issued, IssueError> {
        if now >= self.until {
            return Err(IssueError::Expired(self.until));
        }
        let now = now.truncate_to_second();
        let until = (now + terms.lifetime + terms.skew).min(self.until);
        let params = params(identity, request.common_name, now - terms.skew, until)?;
        let serial = params.serial_number.as_ref().map(ToString::to_string);
        let leaf = params.signed_by(&request.key, &self.signer)?;
        Ok(Issued {
            leaf: leaf.into(),
            chain: self.chain.clone(),
            until,
            serial: serial.unwrap_or_default(),
        })
    }

    /// Its own certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// When the first certificate from here to the root ends: nothing it signs outlives that.
    pub fn until(&self) -> OffsetDateTime {
        self.until
    }
}

fn params(
    identity: &str,
    common_name: bool,
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<CertificateParams, IssueError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if common_name {
        params.distinguished_name.push(DnType::CommonName, identity);
    }
    params.subject_alt_names = vec![SanType::DnsName(identity.try_into()?)];
    params.not_before = from;
    params.not_after = until;
    params.serial_number = Some(serial()?);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// 128 random bits, so that no two controllers ever give the same.
fn serial() -> Result<SerialNumber, IssueError> {
    let mut bytes = [0; 16];
    super::random(&mut bytes).map_err(|_| IssueError::Random)?;
    Ok(SerialNumber::from_slice(&bytes))
}

fn read_key(pem: &str) -> Result<KeyPair, IssuerError> {
    // The text of these errors holds nothing of the key.
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes());
    let der = der.map_err(|error| IssuerError::Key(error.to_string()))?;
    let unknown = "neither ECDSA P-256 or P-384, nor Ed25519, nor RSA of at least 2048 bits";
    let refused = || IssuerError::Key(unknown.to_owned());
    let key = KeyPair::try_from(&der).map_err(|_| refused())?;
    // Weak RSA keys were not read at all.
    let accepted = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ];
    match accepted.contains(&key.algorithm()) {
        true => Ok(key),
        false => Err(refused()),
    }
}

#[cfg(test)]
mod tests;
