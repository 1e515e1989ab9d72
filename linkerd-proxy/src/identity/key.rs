//! The private key, and the request for a certificate for it.
//!
//! A key is made in memory for each request and never leaves it, unless Linkerd's entrypoint has
//! left one in `IDENTITY_DIR`. Bytes of keys are wiped as soon as the TLS library has them.

use crate::tls;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// A key, and a request that it has signed.
pub(super) struct Request {
    pub(super) key: tls::Key,
    /// PKCS #10, DER.
    pub(super) csr: Vec<u8>,
}

/// Why there is no key, or no request.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("{}: {error}", path.display())]
    Unusable { path: PathBuf, error: tls::Error },
    #[error("make a key: {0}")]
    Make(#[from] rcgen::Error),
    #[error("use the key: {0}")]
    Use(#[from] tls::Error),
}

impl Request {
    /// Takes what is in `dir`, or else makes a key for `name`.
    pub(super) fn new(name: &str, dir: Option<&Path>) -> Result<Self, KeyError> {
        match dir.map(Self::read).transpose()?.flatten() {
            Some(given) => Ok(given),
            None => Self::make(name),
        }
    }

    /// `key.p8` and `csr.der`; nothing when there is neither.
    fn read(dir: &Path) -> Result<Option<Self>, KeyError> {
        let (key_path, csr_path) = (dir.join("key.p8"), dir.join("csr.der"));
        if !key_path.exists() && !csr_path.exists() {
            return Ok(None);
        }
        let read = |path: &Path| {
            fs::read(path).map_err(|error| KeyError::File {
                path: path.into(),
                error,
            })
        };
        let der = Zeroizing::new(read(&key_path)?);
        let key = key(&der).map_err(|error| KeyError::Unusable {
            path: key_path,
            error,
        })?;
        let csr = read(&csr_path)?;
        Ok(Some(Self { key, csr }))
    }

    fn make(name: &str) -> Result<Self, KeyError> {
        let pair = Zeroizing::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?);
        let mut params = CertificateParams::new([name.to_owned()])?;
        // The name stands in the SAN; a common name may not be as long (RFC 5280, appendix A.1).
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&*pair)?.der().to_vec();
        let key = key(&Zeroizing::new(pair.serialize_der()))?;
        Ok(Self { key, csr })
    }
}

fn key(der: &[u8]) -> Result<tls::Key, tls::Error> {
    tls::Key::new(&PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(der)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use x509_parser::{
        certification_request::X509CertificationRequest,
        extensions::{GeneralName, ParsedExtension},
        prelude::FromDer,
    };

    const NAME: &str = "a-service-account-with-a-long-name.a-namespace-with-a-long-name.serviceaccount.identity.gossamer.cluster.local";

    #[test]
    fn a_request_asks_for_the_name_and_nothing_else() {
        let request = Request::new(NAME, None).unwrap();
        let (_, csr) = X509CertificationRequest::from_der(&request.csr).unwrap();
        let info = &csr.certification_request_info;
        assert_eq!(info.subject.iter().count(), 0);
        let extensions: Vec<_> = csr.requested_extensions().unwrap().collect();
        let [ParsedExtension::SubjectAlternativeName(san)] = &extensions[..] else {
            panic!("{extensions:?}");
        };
        assert_eq!(san.general_names, [GeneralName::DNSName(NAME)]);
        assert_eq!(format!("{:?}", request.key), "Key");
    }

    #[test]
    fn every_request_has_a_fresh_key() {
        let csr = || Request::new(NAME, None).unwrap().csr;
        let (a, b) = (csr(), csr());
        let public = |der: &[u8]| {
            let (_, csr) = X509CertificationRequest::from_der(der).unwrap();
            csr.certification_request_info.subject_pki.raw.to_vec()
        };
        assert_ne!(public(&a), public(&b));
    }

    #[test]
    fn a_key_that_is_given_is_used() {
        let dir = Dir::new();
        assert!(Request::read(&dir.0).unwrap().is_none());
        let pair = KeyPair::generate().unwrap();
        fs::write(dir.0.join("key.p8"), pair.serialize_der()).unwrap();
        assert!(Request::new(NAME, Some(&dir.0)).is_err(), "half of it");
        fs::write(dir.0.join("csr.der"), b"csr").unwrap();
        let given = Request::new(NAME, Some(&dir.0)).unwrap();
        assert_eq!(given.csr, b"csr");
        fs::write(dir.0.join("key.p8"), b"secret").unwrap();
        let error = Request::new(NAME, Some(&dir.0)).err().unwrap().to_string();
        assert!(
            error.contains("key.p8") && !error.contains("secret"),
            "{error}"
        );
    }

    /// A directory of this test's own.
    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            let dir = std::env::temp_dir().join(format!("gossamer-key-{}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
