//! Roots, issuers and requests for tests, made on the spot with whatever is wrong about them.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SignatureAlgorithm,
};
use time::{Duration, OffsetDateTime};

pub(crate) const WEB: &str = "web.demo.serviceaccount.identity.gossamer.cluster.local";

/// The moment of tests.
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_800_000_000).expect("a moment")
}

/// A certificate that signs others, with its key and what lies between it and its root.
pub(crate) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    own: String,
    above: String,
}

/// What a CA is to be like.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) algorithm: &'static SignatureAlgorithm,
    pub(crate) from: OffsetDateTime,
    pub(crate) until: OffsetDateTime,
    pub(crate) ca: bool,
}

impl Default for Kind {
    /// From an hour ago for a year, ECDSA P-256.
    fn default() -> Self {
        Self {
            algorithm: &rcgen::PKCS_ECDSA_P256_SHA256,
            from: now() - Duration::HOUR,
            until: now() + Duration::days(365),
            ca: true,
        }
    }
}

impl Kind {
    fn params(self, name: &str) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = self.from;
        params.not_after = self.until;
        if self.ca {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        }
        params
    }
}

impl Ca {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_of(name, Kind::default())
    }

    pub(crate) fn root_of(name: &str, kind: Kind) -> Self {
        Self::self_signed(kind.params(name), kind.algorithm)
    }

    pub(crate) fn self_signed(
        params: CertificateParams,
        algorithm: &'static SignatureAlgorithm,
    ) -> Self {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let own = params.self_signed(&key).expect("a certificate").pem();
        Self {
            issuer: Issuer::new(params, key),
            own,
            above: String::new(),
        }
    }

    pub(crate) fn sign(&self, name: &str) -> Self {
        self.sign_of(name, Kind::default())
    }

    pub(crate) fn sign_of(&self, name: &str, kind: Kind) -> Self {
        self.sign_params(kind.params(name), kind.algorithm)
    }

    pub(crate) fn sign_params(
        &self,
        params: CertificateParams,
        algorithm: &'static SignatureAlgorithm,
    ) -> Self {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let own = params.signed_by(&key, &self.issuer);
        Self {
            issuer: Issuer::new(params, key),
            own: own.expect("a certificate").pem(),
            above: self.chain(),
        }
    }

    /// Its own certificate.
    pub(crate) fn pem(&self) -> &str {
        &self.own
    }

    /// Its own certificate and all above, the root's included.
    pub(crate) fn chain(&self) -> String {
        format!("{}{}", self.own, self.above)
    }

    pub(crate) fn key(&self) -> String {
        self.issuer.key().serialize_pem()
    }
}

/// A proper request for a name.
pub(crate) fn csr(identity: &str) -> Vec<u8> {
    let mut params = CertificateParams::new([identity.to_owned()]).expect("a name");
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate().expect("a key");
    let csr = params.serialize_request(&key).expect("a request");
    csr.der().to_vec()
}
