//! Whether certificates lead to the roots that are trusted.
//!
//! Pure; for `rules`. Proxies verify each other by the same library.

use crate::certificate::Certificate;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::aws_lc_rs;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::{ServerName, UnixTime};
use std::sync::Arc;
use std::time::Duration;
use time::OffsetDateTime;

/// Whether a leaf and what was presented with it lead to one of `anchors`. Its own validity and
/// name are other questions: they do not count here.
pub(super) fn verify(
    chain: &[Certificate],
    anchors: &[Certificate],
    now: OffsetDateTime,
) -> Result<(), String> {
    let (leaf, rest) = chain.split_first().ok_or("there is no certificate")?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(anchors.iter().map(|anchor| anchor.der.clone()));
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    let rest: Vec<_> = rest
        .iter()
        .map(|certificate| certificate.der.clone())
        .collect();
    let at = now.clamp(leaf.not_before, leaf.not_after.max(leaf.not_before));
    let at = u64::try_from(at.unix_timestamp()).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
    // A name that no leaf has: it is looked at last, when all else is in order.
    let nobody = ServerName::try_from("nobody.invalid").map_err(|error| error.to_string())?;
    match verifier.verify_server_cert(&leaf.der, &rest, &nobody, &[], at) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InvalidCertificate(problem)) => match problem {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Ok(())
            }
            // A root that was replaced by another of the same name ends as a bad signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Err(format!("{} is vouched for by no trust anchor", leaf.issuer))
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                Err("what signed it has expired".to_string())
            }
            other => Err(other.to_string()),
        },
        Err(other) => Err(other.to_string()),
    }
}

/// Whether the issuer (the first of its chain) was signed by one of `anchors`, perhaps through the
/// others of the chain, or is one of them.
pub(super) fn is_issued_by(issuer: &[Certificate], anchors: &[Certificate]) -> bool {
    let mut chain = issuer.iter();
    let Some(mut current) = chain.next() else {
        return false;
    };
    loop {
        let vouches =
            |anchor: &Certificate| anchor.der == current.der || current.is_signed_by(anchor);
        if anchors.iter().any(vouches) {
            return true;
        }
        match chain.next() {
            Some(next) if current.is_signed_by(next) => current = next,
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::{NOW, Pki};

    #[test]
    fn a_chain_has_to_lead_to_an_anchor() {
        let (pki, other) = (Pki::new(), Pki::new());
        let chain = [pki.leaf("web.demo.id").certificate, pki.issuer()];
        assert_eq!(verify(&chain, &[pki.anchor()], NOW), Ok(()));
        assert_eq!(verify(&chain, &[other.anchor(), pki.anchor()], NOW), Ok(()));
        let unknown = Err("CN=issuer is vouched for by no trust anchor".to_string());
        assert_eq!(verify(&chain, &[other.anchor()], NOW), unknown);
        assert_eq!(verify(&chain[..1], &[pki.anchor()], NOW), unknown);
        assert!(verify(&[], &[pki.anchor()], NOW).is_err());
        assert!(verify(&chain, &[], NOW).is_err());
    }

    #[test]
    fn the_end_of_the_leaf_is_another_question_but_not_that_of_the_issuer() {
        let day = time::Duration::DAY;
        let pki = Pki::lasting(day * 100, day / 2);
        let leaf = |from| pki.leaf_from("web.demo.id", from).certificate;
        let verify_at = |from, now| verify(&[leaf(from), pki.issuer()], &[pki.anchor()], now);
        let ended = NOW - day;
        assert_eq!(verify_at(ended, NOW + day * 50), Ok(()));
        let expired = Err("what signed it has expired".to_string());
        assert_eq!(verify_at(NOW, NOW + day * 3 / 4), expired);
    }

    #[test]
    fn an_issuer_may_be_a_root_or_be_signed_through_others() {
        let (pki, other) = (Pki::new(), Pki::new());
        let anchors = [pki.anchor()];
        assert!(is_issued_by(&[pki.issuer()], &anchors));
        assert!(is_issued_by(&[pki.anchor()], &anchors));
        assert!(is_issued_by(
            &[pki.leaf("x.id").certificate, pki.issuer()],
            &anchors
        ));
        assert!(!is_issued_by(&[pki.leaf("x.id").certificate], &anchors));
        assert!(!is_issued_by(
            &[pki.leaf("x.id").certificate, other.issuer()],
            &anchors
        ));
        assert!(!is_issued_by(&[other.issuer()], &anchors));
        assert!(!is_issued_by(&[], &anchors));
    }
}
