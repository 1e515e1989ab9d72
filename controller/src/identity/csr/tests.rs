//! Requests, proper and otherwise.

use super::*;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};

const WEB: &str = "web.demo.serviceaccount.identity.gossamer.cluster.local";

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.distinguished_name = DistinguishedName::new();
    params
}

fn request(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
    let mut params = params(&[WEB]);
    change(&mut params);
    let key = KeyPair::generate().expect("a key");
    let csr = params.serialize_request(&key).expect("a request");
    csr.der().to_vec()
}

fn signed_with(key: &KeyPair) -> Vec<u8> {
    let csr = params(&[WEB]).serialize_request(key).expect("a request");
    csr.der().to_vec()
}

#[test]
fn a_proper_request_passes() {
    let plain = request(|_| {});
    assert!(!verify(&plain, WEB).expect("proper").common_name);
    let named = request(|p| p.distinguished_name.push(DnType::CommonName, WEB));
    assert!(verify(&named, WEB).expect("proper").common_name);
    let as_others_write_it = request(|p| {
        p.is_ca = IsCa::ExplicitNoCa;
        p.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        p.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
    });
    assert!(verify(&as_others_write_it, WEB).is_ok());
}

#[test]
fn every_good_kind_of_key_is_certified() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let key = KeyPair::generate_for(algorithm).expect("a key");
        let request = verify(&signed_with(&key), WEB).expect("proper");
        assert_eq!(
            rcgen::PublicKeyData::der_bytes(&request.key),
            key.public_key_raw()
        );
    }
}

#[test]
fn weak_and_strange_keys_are_refused() {
    // `openssl req -new -newkey rsa:1024`, and `-newkey ec` on secp521r1 and secp256k1.
    let rsa_1024 = include_bytes!("testdata/rsa1024.der");
    let p521 = include_bytes!("testdata/p521.der");
    let k256 = include_bytes!("testdata/k256.der");
    for (der, why) in [
        (&rsa_1024[..], "RSA of 1024 bits"),
        (&p521[..], "of elliptic curve 1.3.132.0.35"),
        (&k256[..], "of elliptic curve 1.3.132.0.10"),
    ] {
        assert_eq!(verify(der, WEB), Err(CsrError::Key(why.to_owned())));
    }
}

#[test]
fn whoever_has_no_key_is_refused() {
    let good = request(|_| {});
    let other = request(|_| {});
    let (_, parsed) = X509CertificationRequest::from_der(&good).expect("a request");
    let (_, foreign) = X509CertificationRequest::from_der(&other).expect("a request");
    let ours = parsed.certification_request_info.subject_pki.raw;
    let theirs = foreign.certification_request_info.subject_pki.raw;
    let at = good
        .windows(ours.len())
        .position(|w| w == ours)
        .expect("a key");
    let mut stolen = good.clone();
    stolen[at..at + ours.len()].copy_from_slice(theirs);
    assert_eq!(verify(&stolen, WEB), Err(CsrError::Signature));
    let name = good.windows(3).position(|w| w == b"web").expect("a name");
    let mut renamed = good.clone();
    renamed[name..name + 3].copy_from_slice(b"api");
    let api = WEB.replace("web", "api");
    assert_eq!(verify(&renamed, &api), Err(CsrError::Signature));
}

#[test]
fn only_the_asked_name_is_certified() {
    let ip = SanType::IpAddress([10, 0, 0, 1].into());
    let mail = SanType::Rfc822Name("a@b.c".try_into().expect("ascii"));
    let uri = SanType::URI("spiffe://x/y".try_into().expect("ascii"));
    let api = SanType::DnsName(WEB.replace("web", "api").try_into().expect("ascii"));
    let twice = SanType::DnsName(WEB.try_into().expect("ascii"));
    let wild = SanType::DnsName(WEB.replace("web", "*").try_into().expect("ascii"));
    for (more, why) in [
        (ip, "IPAddress"),
        (mail, "RFC822Name"),
        (uri, "URI"),
        (api.clone(), "DNS:api.demo"),
        (twice, "DNS:web.demo"),
        (wild, "DNS:*.demo"),
    ] {
        let der = request(|p| p.subject_alt_names.push(more));
        let refused = verify(&der, WEB).expect_err(why);
        let said = refused.to_string();
        assert_eq!(refused.reason(), "csr_name");
        assert!(
            said.contains(why) && said.ends_with(&format!("{WEB:?}")),
            "{said}"
        );
    }
    let other = request(|p| p.subject_alt_names = vec![api]);
    assert_eq!(
        verify(&other, WEB).expect_err("another").reason(),
        "csr_name"
    );
    let nobody = request(|p| p.subject_alt_names.clear());
    let refused = verify(&nobody, WEB).expect_err("nobody").to_string();
    assert!(refused.contains("is for no name"), "{refused}");
}

#[test]
fn the_subject_says_nothing_else() {
    let mut other_name = DistinguishedName::new();
    other_name.push(DnType::CommonName, "admin");
    let mut more = DistinguishedName::new();
    more.push(DnType::CommonName, WEB);
    more.push(DnType::OrganizationName, "system:masters");
    for subject in [other_name, more] {
        let der = request(|p| p.distinguished_name = subject);
        assert!(matches!(verify(&der, WEB), Err(CsrError::Subject(_))));
    }
}

#[test]
fn nothing_but_a_leaf_is_asked_for() {
    let oid = [1, 3, 6, 1, 4, 1, 99999, 1];
    type Change = fn(&mut CertificateParams);
    let table: [(Change, &str); 5] = [
        (
            |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained),
            "a CA's certificate",
        ),
        (
            |p| p.key_usages = vec![KeyUsagePurpose::KeyCertSign],
            "extension 2.5.29.15",
        ),
        (
            |p| p.key_usages = vec![KeyUsagePurpose::CrlSign],
            "extension 2.5.29.15",
        ),
        (
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::Any],
            "extension 2.5.29.37",
        ),
        (
            |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
            "extension 2.5.29.37",
        ),
    ];
    for (change, why) in table {
        assert_eq!(
            verify(&request(change), WEB),
            Err(CsrError::Extension(why.to_owned()))
        );
    }
    let custom = request(|p| {
        let extension = CustomExtension::from_oid_content(&oid, vec![5, 0]);
        p.custom_extensions.push(extension);
    });
    let refused = verify(&custom, WEB).expect_err("custom").to_string();
    assert!(
        refused.contains("extension 1.3.6.1.4.1.99999.1"),
        "{refused}"
    );
    // `openssl req` with a challengePassword.
    let challenge = include_bytes!("testdata/challenge.der");
    let refused = verify(challenge, WEB).expect_err("a password").to_string();
    assert!(
        refused.contains("attribute 1.2.840.113549.1.9.7"),
        "{refused}"
    );
}

#[test]
fn garbage_is_refused() {
    let good = request(|_| {});
    let longer = [&good[..], &[0]].concat();
    for bad in [
        &[][..],
        &[0x30],
        b"-----BEGIN CERTIFICATE REQUEST-----",
        &longer,
    ] {
        assert!(matches!(verify(bad, WEB), Err(CsrError::Malformed(_))));
    }
    for length in 0..good.len() {
        assert!(matches!(
            verify(&good[..length], WEB),
            Err(CsrError::Malformed(_))
        ));
    }
    let (_, parsed) = X509CertificationRequest::from_der(&good).expect("a request");
    let signed = parsed.certification_request_info.raw;
    let start = signed.as_ptr() as usize - good.as_ptr() as usize;
    for at in start..start + signed.len() {
        let mut flipped = good.clone();
        flipped[at] ^= 1;
        assert!(verify(&flipped, WEB).is_err(), "byte {at}");
    }
}
