//! Issuers, fit and unfit, and what they sign.

use super::*;
use crate::identity::{
    csr,
    testing::{self, Ca, Kind, WEB, now},
};
use rcgen::{BasicConstraints, GeneralSubtree, IsCa, NameConstraints};
use rustls_pki_types::ServerName;

const DAY: Terms = Terms {
    lifetime: Duration::from_secs(86_400),
    skew: Duration::from_secs(20),
};

fn anchors(pem: &str) -> Anchors {
    Anchors::read(pem, now()).expect("anchors")
}

fn read(ca: &Ca, anchors_pem: &str) -> Result<Issuer, IssuerError> {
    Issuer::read(
        &ca.chain(),
        &ca.key(),
        &anchors(anchors_pem),
        &identities(),
        now(),
    )
}

fn identities() -> Identities {
    Identities::new("gossamer", "cluster.local").expect("names")
}

fn request() -> Request {
    csr::verify(&testing::csr(WEB), WEB).expect("a request")
}

fn issue(issuer: &Issuer) -> Issued {
    issuer
        .issue(WEB, &request(), DAY, now())
        .expect("a certificate")
}

/// As a proxy would, at that moment.
fn verify(issued: &Issued, anchors: &Anchors, at: OffsetDateTime) -> Result<(), webpki::Error> {
    let trusted = anchors.trusted(now());
    let leaf = EndEntityCert::try_from(&issued.leaf)?;
    for usage in [KeyUsage::server_auth(), KeyUsage::client_auth()] {
        let algorithms = ALL_VERIFICATION_ALGS;
        leaf.verify_for_usage(
            algorithms,
            &trusted,
            &issued.chain,
            unix(at),
            usage,
            None,
            None,
        )?;
    }
    let name = ServerName::try_from(WEB).expect("a name");
    leaf.verify_is_valid_for_subject_name(&name)
}

#[test]
fn every_kind_of_key_signs() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_ED25519,
    ] {
        let root = Ca::root("root");
        let kind = Kind {
            algorithm,
            ..Kind::default()
        };
        let issuer = read(&root.sign_of("identity", kind), root.pem()).expect("an issuer");
        let issued = issue(&issuer);
        assert_eq!(verify(&issued, &anchors(root.pem()), now()), Ok(()));
        assert_eq!(issued.chain.len(), 1, "the issuer without the root");
    }
}

#[test]
fn keys_are_read_in_every_usual_form() {
    for (chain, key) in [
        (
            include_str!("testdata/sec1.crt"),
            include_str!("testdata/sec1.key"),
        ),
        (
            include_str!("testdata/pkcs1.crt"),
            include_str!("testdata/pkcs1.key"),
        ),
    ] {
        let read = Issuer::read(chain, key, &anchors(chain), &identities(), now());
        assert!(read.is_ok(), "{:?}", read.err());
    }
    let (chain, key) = (
        include_str!("testdata/rsa1024.crt"),
        include_str!("testdata/rsa1024.key"),
    );
    let weak = Issuer::read(chain, key, &anchors(chain), &identities(), now()).expect_err("weak");
    assert!(weak.to_string().contains("at least 2048 bits"), "{weak}");
}

#[test]
fn a_leaf_is_what_linkerd_signs() {
    let root = Ca::root("root");
    let issuer = read(&root.sign("identity"), root.pem()).expect("an issuer");
    let issued = issue(&issuer);
    let (_, leaf) = X509Certificate::from_der(&issued.leaf).expect("a certificate");
    let usage = leaf.key_usage().expect("one").expect("one").value;
    assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
    let extended = leaf.extended_key_usage().expect("one").expect("one").value;
    assert!(extended.server_auth && extended.client_auth && !extended.any);
    assert!(!leaf.is_ca() && leaf.subject().as_raw() == [0x30, 0]);
    let validity = &leaf.tbs_certificate.validity;
    let at = |moment: OffsetDateTime| moment.unix_timestamp();
    assert_eq!(validity.not_before.timestamp(), at(now()) - 20);
    assert_eq!(validity.not_after.timestamp(), at(now()) + 86_400 + 20);
    assert_eq!(at(issued.until), validity.not_after.timestamp());
    let other = issue(&issuer);
    assert!(
        issued.serial != other.serial && issued.serial.len() == 47,
        "{}",
        issued.serial
    );

    let named = Request {
        common_name: true,
        ..request()
    };
    let named = issuer
        .issue(WEB, &named, DAY, now())
        .expect("a certificate");
    let (_, named) = X509Certificate::from_der(&named.leaf).expect("a certificate");
    assert_eq!(named.subject().to_string(), format!("CN={WEB}"));
}

#[test]
fn nothing_outlives_what_signed_it() {
    let hour = now() + time::Duration::HOUR;
    let short = Kind {
        until: hour,
        ..Kind::default()
    };
    let long_root = Ca::root("root");
    let short_root = Ca::root_of("root", short);
    let middle = long_root.sign_of("middle", short);
    for (issuer, root) in [
        (long_root.sign_of("identity", short), &long_root),
        (short_root.sign("identity"), &short_root),
        (middle.sign("identity"), &long_root),
    ] {
        // The root is not with the issuer: its end is known from the bundle.
        let chain = issuer.chain().replace(root.pem(), "");
        let anchors = anchors(root.pem());
        let issuer =
            Issuer::read(&chain, &issuer.key(), &anchors, &identities(), now()).expect("an issuer");
        assert_eq!((issuer.until(), issue(&issuer).until), (hour, hour));
        let before = hour - time::Duration::SECOND;
        assert!(issuer.issue(WEB, &request(), DAY, before).is_ok());
        let refused = issuer.issue(WEB, &request(), DAY, hour).expect_err("over");
        assert!(
            refused
                .to_string()
                .contains("expired at 2027-01-15T09:00:00Z"),
            "{refused}"
        );
    }
}

#[test]
fn the_chain_is_sent_without_the_root() {
    let root = Ca::root("root");
    let deep = root.sign("a").sign("b").sign("identity");
    let issuer = read(&deep, root.pem()).expect("an issuer");
    let issued = issue(&issuer);
    assert_eq!(issued.chain.len(), 3);
    assert_eq!(verify(&issued, &anchors(root.pem()), now()), Ok(()));
    // What Linkerd's installer makes: the root signs itself.
    let issuer = read(&root, root.pem()).expect("an issuer");
    let issued = issue(&issuer);
    assert_eq!(issued.chain, []);
    assert_eq!(verify(&issued, &anchors(root.pem()), now()), Ok(()));
}

#[test]
fn with_several_roots_the_right_one_counts() {
    let (old, new) = (Ca::root("old"), Ca::root("new"));
    let both = format!("{}{}", old.pem(), new.pem());
    for root in [&old, &new] {
        let issuer = read(&root.sign("identity"), &both).expect("an issuer");
        assert_eq!(verify(&issue(&issuer), &anchors(root.pem()), now()), Ok(()));
    }
    let issuer = read(&old.sign("identity"), &both).expect("an issuer");
    let by_new = verify(&issue(&issuer), &anchors(new.pem()), now());
    assert_eq!(by_new, Err(webpki::Error::UnknownIssuer));
}

fn refused(chain: &str, key: &str, anchors_pem: &str) -> String {
    let read = Issuer::read(chain, key, &anchors(anchors_pem), &identities(), now());
    read.expect_err("no issuer").to_string()
}

#[test]
fn bad_material_is_refused_and_named() {
    let root = Ca::root("root");
    let good = root.sign("identity");
    let hour = time::Duration::HOUR;
    let expired = Kind {
        until: now() - hour,
        from: now() - hour * 2,
        ..Kind::default()
    };
    let early = Kind {
        from: now() + hour,
        ..Kind::default()
    };
    let leaf = Kind {
        ca: false,
        ..Kind::default()
    };
    let stranger = Ca::root("stranger");
    let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).expect("a key");
    let old_middle = root.sign_of("middle", expired).sign("identity");
    let table = [
        (
            good.chain(),
            stranger.key(),
            "does not belong to the certificate \"CN=identity\"",
        ),
        (good.chain(), "garbage".to_owned(), "key: "),
        (
            good.chain(),
            p521.serialize_pem(),
            "key: neither ECDSA P-256",
        ),
        (
            "garbage".to_owned(),
            good.key(),
            "certificate: no certificate in it",
        ),
        (good.key(), good.key(), "certificate: no certificate in it"),
    ];
    for (chain, key, why) in table {
        let said = refused(&chain, &key, root.pem());
        assert!(said.contains(why), "{said}: {why}");
        assert!(!said.contains("PRIVATE"), "{said}");
    }
    let table = [
        (
            root.sign_of("identity", expired),
            "\"CN=identity\" expired at 2027-01-15T07:00:00Z",
        ),
        (
            root.sign_of("identity", early),
            "\"CN=identity\" is not valid before 2027-01-15T09:00",
        ),
        (
            root.sign_of("identity", leaf),
            "\"CN=identity\" is not a CA certificate",
        ),
        (
            stranger.sign("identity"),
            "does not chain to a trust anchor",
        ),
        (old_middle, "\"CN=middle\" expired"),
    ];
    for (ca, why) in table {
        let said = refused(&ca.chain(), &ca.key(), root.pem());
        assert!(said.contains(why), "{said}: {why}");
    }
    let gap = root.sign("middle").sign("identity");
    let said = refused(gap.pem(), &gap.key(), root.pem());
    assert!(said.contains("does not chain to a trust anchor"), "{said}");
}

#[test]
fn constraints_of_the_issuer_are_heeded() {
    let root = Ca::root("root");
    let constrained = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        change(&mut params);
        let ca = root.sign_params(params, &rcgen::PKCS_ECDSA_P256_SHA256);
        read(&ca, root.pem()).map_err(|error| error.to_string())
    };
    let names = |domain: &str| NameConstraints {
        permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())],
        excluded_subtrees: vec![],
    };
    let ours = constrained(&|p| p.name_constraints = Some(names("gossamer.cluster.local")));
    assert!(ours.is_ok(), "{ours:?}");
    let foreign = constrained(&|p| p.name_constraints = Some(names("example.com")));
    let said = foreign.expect_err("other names");
    assert!(said.contains("NameConstraintViolation"), "{said}");
    let code = vec![ExtendedKeyUsagePurpose::CodeSigning];
    let said = constrained(&|p| p.extended_key_usages = code.clone()).expect_err("not for TLS");
    assert!(said.contains("would not be trusted"), "{said}");

    let mut last = CertificateParams::default();
    last.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let below = root.sign_params(last, &rcgen::PKCS_ECDSA_P256_SHA256);
    assert!(read(&below, root.pem()).is_ok());
    let said = read(&below.sign("identity"), root.pem()).expect_err("too deep");
    assert!(
        said.to_string().contains("PathLenConstraintViolated"),
        "{said}"
    );
}

#[test]
fn a_subject_that_cannot_be_repeated_is_refused() {
    let root = Ca::root("root");
    let (chain, key) = (
        include_str!("testdata/two_units.crt"),
        include_str!("testdata/two_units.key"),
    );
    let said = refused(chain, key, &format!("{}{chain}", root.pem()));
    assert!(said.contains("too unusual to sign with"), "{said}");
}
