//! A root and an issuer for a new mesh.
//!
//! Made once by `identity`. The root signs nothing but issuers, so its key is needed again only
//! when a user wants another one; the issuer may not make further ones.

use super::{CONTROL_NAMESPACE, TRUST_DOMAIN};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, IsCa, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

/// Longer than any mesh on one machine runs, so that nobody is warned of an end.
const ROOT_LIFE: Duration = Duration::days(3650);
const ISSUER_LIFE: Duration = Duration::days(365);
/// For clocks that are set back a little after the start.
const BACKDATED: Duration = Duration::minutes(5);

/// Certificates and private keys (ECDSA P-256), all as PEM.
pub(super) struct Authority {
    pub(super) root: String,
    pub(super) root_key: String,
    pub(super) issuer: String,
    pub(super) issuer_key: String,
}

impl Authority {
    /// Makes everything anew; valid from now on.
    pub(super) fn create(now: OffsetDateTime) -> Result<Self, Error> {
        let any = BasicConstraints::Unconstrained;
        let root =
            CertifiedIssuer::self_signed(ca("root", any, now, ROOT_LIFE), KeyPair::generate()?)?;
        let leaves_only = BasicConstraints::Constrained(0);
        let mut params = ca("identity", leaves_only, now, ISSUER_LIFE);
        params.use_authority_key_identifier_extension = true;
        let issuer = CertifiedIssuer::signed_by(params, KeyPair::generate()?, &root)?;
        Ok(Self {
            root: root.pem(),
            root_key: root.key().serialize_pem(),
            issuer: issuer.pem(),
            issuer_key: issuer.key().serialize_pem(),
        })
    }
}

fn ca(
    name: &str,
    constraints: BasicConstraints,
    now: OffsetDateTime,
    life: Duration,
) -> CertificateParams {
    let name = format!("{name}.{CONTROL_NAMESPACE}.{TRUST_DOMAIN}");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (now - BACKDATED, now + life);
    params
}
