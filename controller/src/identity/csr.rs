//! What a workload asks to be certified: a PKCS #10 request, RFC 2986, read and judged.
//!
//! [`verify`] is pure. Of a request that passes only the public key is used, and that there was a
//! common name: the certificate is made of what the controller knows, never of what it was sent.
//! Even so a request that asks for anything beyond one name is refused, because whoever sent it
//! expects something that it would not get.

use rcgen::SubjectPublicKeyInfo;
use x509_parser::{
    certification_request::{X509CertificationRequest, X509CertificationRequestInfo},
    cri_attributes::ParsedCriAttribute,
    extensions::{ExtendedKeyUsage, GeneralName, KeyUsage, ParsedExtension},
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_SIG_ED25519,
        OID_X509_COMMON_NAME,
    },
    prelude::FromDer,
    public_key::{PublicKey, RSAPublicKey},
    x509::{SubjectPublicKeyInfo as Spki, X509Name},
};

/// Of RSA keys, in bits: below is weak, above costs whoever verifies too much.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A request that may be certified.
#[derive(Debug, PartialEq)]
pub struct Request {
    /// Whose private half the workload has.
    pub key: SubjectPublicKeyInfo,
    /// Whether the identity is to be the common name, too.
    pub common_name: bool,
}

/// Why a request is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum CsrError {
    /// It is no request.
    #[error("the CSR is malformed: {0}")]
    Malformed(&'static str),
    /// Others can break the key, or cannot use it.
    #[error(
        "the CSR's key is {0}: expected ECDSA P-256 or P-384, Ed25519 or RSA of 2048 to 8192 bits"
    )]
    Key(String),
    /// Whoever made it does not have the key.
    #[error("the CSR is not signed with its own key")]
    Signature,
    /// It names somebody else, nobody, or more than one.
    #[error("the CSR is for {found}: expected the one DNS name {identity:?}")]
    Names {
        /// What it names.
        found: String,
        /// What it should have named.
        identity: String,
    },
    /// The subject says something else than the name.
    #[error("the CSR's subject is {0:?}: expected no more than the identity as common name")]
    Subject(String),
    /// It asks for more than a name.
    #[error("the CSR asks for {0}, which workloads do not get")]
    Extension(String),
}

/// Judges a request in DER for `identity`.
///
/// # Errors
/// When it is not a proper request for exactly that identity.
pub fn verify(der: &[u8], identity: &str) -> Result<Request, CsrError> {
    let (rest, csr) = X509CertificationRequest::from_der(der)
        .map_err(|_| CsrError::Malformed("it is not a PKCS #10 request in DER"))?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed("something follows it"));
    }
    let info = &csr.certification_request_info;
    // Before the signature, which says less about what is wrong with a weak key.
    let key = key(&info.subject_pki)?;
    csr.verify_signature().map_err(|_| CsrError::Signature)?;
    let common_name = common_name(&info.subject, identity)?;
    let names = names(info)?;
    if names != [format!("DNS:{identity}")] {
        return Err(CsrError::Names {
            found: if names.is_empty() {
                "no name".to_owned()
            } else {
                names.join(", ")
            },
            identity: identity.to_owned(),
        });
    }
    Ok(Request { key, common_name })
}

fn key(spki: &Spki<'_>) -> Result<SubjectPublicKeyInfo, CsrError> {
    let refuse = |what: String| Err(CsrError::Key(what));
    let kind = &spki.algorithm.algorithm;
    match spki.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let bits = bits(&rsa);
            if !RSA_BITS.contains(&bits) {
                return refuse(format!("RSA of {bits} bits"));
            }
        }
        Ok(PublicKey::EC(_)) if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY => {
            let curve = spki.algorithm.parameters.as_ref();
            let curve = curve.and_then(|curve| curve.as_oid().ok());
            match curve {
                Some(oid) if oid == OID_EC_P256 || oid == OID_NIST_EC_P384 => {}
                Some(oid) => return refuse(format!("of elliptic curve {oid}")),
                None => return refuse("of no named elliptic curve".to_owned()),
            }
        }
        _ if *kind == OID_SIG_ED25519 => {}
        Ok(_) => return refuse(format!("of kind {kind}")),
        Err(_) => return Err(CsrError::Malformed("its key cannot be read")),
    }
    SubjectPublicKeyInfo::from_der(spki.raw).or_else(|_| refuse(format!("an unusual {kind}")))
}

fn bits(rsa: &RSAPublicKey<'_>) -> usize {
    let zeros = rsa.modulus.iter().take_while(|byte| **byte == 0).count();
    let significant = &rsa.modulus[zeros..];
    let first = significant.first().map_or(0, |byte| byte.leading_zeros());
    significant.len() * 8 - first as usize
}

/// Whether there is one.
fn common_name(subject: &X509Name<'_>, identity: &str) -> Result<bool, CsrError> {
    let parts: Vec<_> = subject.iter_attributes().collect();
    match parts.as_slice() {
        [] => Ok(false),
        [name] if *name.attr_type() == OID_X509_COMMON_NAME && name.as_str() == Ok(identity) => {
            Ok(true)
        }
        _ => Err(CsrError::Subject(subject.to_string())),
    }
}

/// All names that are asked for, having seen to it that nothing else is.
fn names(info: &X509CertificationRequestInfo<'_>) -> Result<Vec<String>, CsrError> {
    let mut names = Vec::new();
    for attribute in info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(request) = attribute.parsed_attribute() else {
            return Err(CsrError::Extension(format!("attribute {}", attribute.oid)));
        };
        for extension in &request.extensions {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(san) => {
                    names.extend(san.general_names.iter().map(described));
                }
                ParsedExtension::BasicConstraints(constraints) if !constraints.ca => {}
                ParsedExtension::BasicConstraints(_) => {
                    return Err(CsrError::Extension("a CA's certificate".to_owned()));
                }
                ParsedExtension::KeyUsage(usage) if is_leafs(usage) => {}
                ParsedExtension::ExtendedKeyUsage(usage) if is_tls(usage) => {}
                _ => return Err(CsrError::Extension(format!("extension {}", extension.oid))),
            }
        }
    }
    Ok(names)
}

fn described(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::DNSName(name) => format!("DNS:{name}"),
        // Never equal to a DNS name, whatever it holds.
        other => format!("{other:?}"),
    }
}

fn is_leafs(usage: &KeyUsage) -> bool {
    !usage.key_cert_sign() && !usage.crl_sign()
}

fn is_tls(usage: &ExtendedKeyUsage<'_>) -> bool {
    let others = usage.any
        || usage.code_signing
        || usage.email_protection
        || usage.time_stamping
        || usage.ocsp_signing;
    !others && usage.other.is_empty()
}

// === impl CsrError ===

impl CsrError {
    /// For metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "csr_malformed",
            Self::Key(_) => "csr_key",
            Self::Signature => "csr_signature",
            Self::Names { .. } | Self::Subject(_) => "csr_name",
            Self::Extension(_) => "csr_extension",
        }
    }
}

#[cfg(test)]
mod tests;
