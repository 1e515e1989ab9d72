//! The trust anchors of the mesh: what every certificate has to chain to.

use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{fmt, sync::Arc};

/// A bundle has no more; a rotation needs two or three.
const MAX_ANCHORS: usize = 64;

/// Trust anchors, at least one. Equal when they hold the same certificates.
#[derive(Clone)]
pub struct Roots {
    /// Sorted, each once.
    ders: Vec<CertificateDer<'static>>,
    store: Arc<RootCertStore>,
}

/// Why a bundle cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadRoots {
    /// No certificate in it.
    #[error("no certificate in the bundle")]
    Empty,
    /// More than a bundle may have.
    #[error("more than {MAX_ANCHORS} certificates in the bundle")]
    TooMany,
    /// Not PEM.
    #[error("certificate {n} of the bundle is not PEM: {why}")]
    Pem {
        /// Which one, from 1.
        n: usize,
        /// What is wrong with it.
        why: String,
    },
    /// Not a certificate that others can chain to.
    #[error("certificate {n} of the bundle is not a trust anchor: {why}")]
    Anchor {
        /// Which one, from 1.
        n: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl Roots {
    /// Reads a PEM bundle.
    ///
    /// # Errors
    ///
    /// [`BadRoots`]: one bad certificate spoils the bundle, so that a rotation that was only half
    /// written is not taken.
    pub fn from_pem(pem: &[u8]) -> Result<Self, BadRoots> {
        let mut ders = Vec::new();
        for (n, der) in CertificateDer::pem_slice_iter(pem).enumerate() {
            let why = |e: rustls_pki_types::pem::Error| BadRoots::Pem {
                n: n + 1,
                why: e.to_string(),
            };
            ders.push(der.map_err(why)?);
            if ders.len() > MAX_ANCHORS {
                return Err(BadRoots::TooMany);
            }
        }
        Self::from_ders(ders)
    }

    /// Takes certificates.
    ///
    /// # Errors
    ///
    /// [`BadRoots`].
    pub fn from_ders(mut ders: Vec<CertificateDer<'static>>) -> Result<Self, BadRoots> {
        match ders.len() {
            0 => return Err(BadRoots::Empty),
            1..=MAX_ANCHORS => {}
            _ => return Err(BadRoots::TooMany),
        }
        let mut store = RootCertStore::empty();
        for (n, der) in ders.iter().enumerate() {
            let why = |e: rustls::Error| BadRoots::Anchor {
                n: n + 1,
                why: e.to_string(),
            };
            store.add(der.clone()).map_err(why)?;
        }
        ders.sort_unstable_by(|a, b| a.as_ref().cmp(b.as_ref()));
        ders.dedup();
        Ok(Self {
            ders,
            store: Arc::new(store),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.ders.len()
    }

    pub(super) fn store(&self) -> &Arc<RootCertStore> {
        &self.store
    }
}

impl PartialEq for Roots {
    fn eq(&self, other: &Self) -> bool {
        self.ders == other.ders
    }
}

impl fmt::Debug for Roots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Roots({})", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::Authority;

    #[test]
    fn a_bundle_is_the_same_in_any_order() {
        let (a, b) = (Authority::new("a"), Authority::new("b"));
        let ab = Roots::from_pem((a.pem() + &b.pem()).as_bytes()).unwrap();
        let ba = Roots::from_pem((b.pem() + &a.pem() + &b.pem()).as_bytes()).unwrap();
        assert_eq!(ab, ba);
        assert_eq!(ba.count(), 2);
        assert_ne!(ab, a.roots());
    }

    #[test]
    fn one_bad_certificate_spoils_the_bundle() {
        let good = Authority::new("a").pem();
        assert_eq!(Roots::from_pem(b"").unwrap_err(), BadRoots::Empty);
        assert_eq!(Roots::from_pem(b"nothing").unwrap_err(), BadRoots::Empty);
        let half = good.clone() + &good[..good.len() / 2];
        let error = Roots::from_pem(half.as_bytes()).unwrap_err();
        assert!(matches!(error, BadRoots::Pem { n: 2, .. }), "{error}");
        let empty = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let error = Roots::from_pem((good + empty).as_bytes()).unwrap_err();
        assert!(matches!(error, BadRoots::Anchor { n: 2, .. }), "{error}");
    }
}
