//! The end-entity certificate of a peer, or our own: whom it names, and when it is valid.
//!
//! The chain is verified elsewhere (`verify`); what is here is checked after every handshake, full
//! or resumed, because a resumed session verifies no chain.

use super::{clock, error::Error};
use rustls_pki_types::CertificateDer;
use std::{sync::Arc, time::SystemTime};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer};

/// A parsed certificate.
pub(super) struct Leaf<'a>(X509Certificate<'a>);

/// A name that stands in a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum San<'a> {
    Dns(&'a str),
    Uri(&'a str),
}

impl<'a> Leaf<'a> {
    /// Parses the first of `chain`.
    pub(super) fn first_of(chain: Option<&'a [CertificateDer<'_>]>) -> Result<Self, Error> {
        let der = chain.and_then(<[_]>::first).ok_or(Error::NoCertificate)?;
        match X509Certificate::from_der(der) {
            Ok((_, cert)) => Ok(Self(cert)),
            Err(e) => Err(Error::BadCertificate(e.to_string())),
        }
    }

    /// The end of its validity.
    pub(super) fn not_after(&self) -> SystemTime {
        clock::from_asn1(self.0.validity().not_after)
    }

    /// The start of its validity.
    fn not_before(&self) -> SystemTime {
        clock::from_asn1(self.0.validity().not_before)
    }

    /// Whether it is valid at `now`; the very second of its end included (RFC 5280, 4.1.2.5).
    pub(super) fn check_dates(&self, now: SystemTime) -> Result<(), Error> {
        let (not_before, not_after) = (self.not_before(), self.not_after());
        if now < not_before {
            return Err(Error::NotYetValid { not_before, now });
        }
        // The notation has no fractions.
        if now >= not_after + std::time::Duration::from_secs(1) {
            return Err(Error::Expired { not_after, now });
        }
        Ok(())
    }

    /// Whether it names `expected`.
    pub(super) fn check_name(&self, expected: &Arc<str>) -> Result<(), Error> {
        if self.sans().any(|san| san.is(expected)) {
            return Ok(());
        }
        let found: Vec<_> = self.sans().map(San::as_str).collect();
        Err(Error::IdentityMismatch {
            expected: expected.clone(),
            found: found.join(", "),
        })
    }

    /// The first identity it names.
    pub(super) fn identity(&self) -> Option<Arc<str>> {
        self.sans().next().map(|san| match san {
            San::Dns(name) => name.to_ascii_lowercase().into(),
            San::Uri(uri) => uri.into(),
        })
    }

    fn sans(&self) -> impl Iterator<Item = San<'_>> {
        // A certificate with two such extensions is refused by the chain's verification.
        let extension = self.0.subject_alternative_name().ok().flatten();
        let names = extension.map_or(&[][..], |e| &e.value.general_names);
        names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(San::Dns(name)),
            GeneralName::URI(uri) => Some(San::Uri(uri)),
            _ => None,
        })
    }
}

impl<'a> San<'a> {
    /// No wildcards: an identity is one workload's.
    fn is(self, expected: &str) -> bool {
        match self {
            Self::Dns(name) => name.eq_ignore_ascii_case(expected),
            Self::Uri(uri) => uri == expected,
        }
    }

    fn as_str(self) -> &'a str {
        match self {
            Self::Dns(name) | Self::Uri(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names_have_no_case_and_uris_have() {
        assert!(San::Dns("Web.Demo").is("web.demo"));
        assert!(San::Uri("spiffe://x/Web").is("spiffe://x/Web"));
        assert!(!San::Uri("spiffe://x/Web").is("spiffe://x/web"));
        assert!(!San::Dns("*.demo").is("web.demo"));
        assert!(!San::Dns("web.demo.evil").is("web.demo"));
    }
}
