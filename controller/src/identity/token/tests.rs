//! Tokens, real ones, old ones and forged ones.

use super::*;
use serde_json::{Value, json};

const NOW: u64 = 1_800_000_000;

fn at(secs: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(secs))
}

fn pair() -> (Signer, Verifier) {
    let signer = Signer::generate();
    let verifier = Verifier::from_pem(&signer.public_key_pem()).expect("a public key");
    (signer, verifier)
}

fn token(signer: &Signer) -> String {
    let minute = Duration::from_secs(60);
    let token = signer.sign_at(at(NOW), "demo", "web", minute);
    token.expect("a token")
}

/// A token that says anything.
fn forged(signer: &Signer, header: &Header, change: impl FnOnce(&mut Value)) -> String {
    let mut claims = json!({
        "iss": ISSUER, "aud": [AUDIENCE], "sub": "system:serviceaccount:demo:web",
        "iat": NOW, "nbf": NOW, "exp": NOW + 60, "jti": "1",
    });
    change(&mut claims);
    jsonwebtoken::encode(header, &claims, &signer.key).expect("a token")
}

#[test]
fn what_was_signed_is_verified() {
    let (signer, verifier) = pair();
    let owner = verifier.verify(&token(&signer), at(NOW));
    assert_eq!(
        owner.expect("good"),
        ServiceAccount::new("demo", "web").expect("names")
    );
    let again = Signer::from_pem(&signer.private_key_pem()).expect("the same key");
    assert!(verifier.verify(&token(&again), at(NOW)).is_ok());
    assert_ne!(token(&signer), token(&signer), "ids differ");
}

#[test]
fn a_token_has_its_time() {
    let (signer, verifier) = pair();
    let token = token(&signer);
    let told = |now| {
        verifier
            .verify(&token, at(now))
            .map_err(|error| error.to_string())
    };
    assert!(told(NOW - LEEWAY).is_ok());
    assert!(told(NOW + 60 + LEEWAY).is_ok());
    let expired = told(NOW + 61 + LEEWAY).expect_err("expired");
    assert_eq!(expired, "the token expired 11 s ago");
    let early = told(NOW - 1 - LEEWAY).expect_err("not yet valid");
    assert_eq!(early, "the token is not valid before 11 s from now");
}

#[test]
fn what_others_made_is_refused() {
    let (signer, verifier) = pair();
    let foreign = token(&Signer::generate());
    let good = token(&signer);
    let (start, _) = good.rsplit_once('.').expect("three parts");
    let another = token(&signer);
    let (_, signature) = another.rsplit_once('.').expect("three parts");
    let header = Header::new(Algorithm::ES256);
    let table = [
        ("", "malformed"),
        ("x", "malformed"),
        ("a.b.c", "malformed"),
        (&foreign, "its signature is wrong"),
        (start, "malformed"),
        (&format!("{start}."), "signature"),
        (&format!("{start}.AAAA"), "signature"),
        (&format!("{start}.{signature}"), "signature"),
        (
            &forged(&signer, &header, |c| c["iss"] = json!("x")),
            "not made by gossamer.dev/local",
        ),
        (
            &forged(&signer, &header, |c| c["aud"] = json!(["x"])),
            "not meant for identity.l5d.io",
        ),
        (
            &forged(&signer, &header, |c| c["aud"] = json!([])),
            "not meant for identity.l5d.io",
        ),
        (
            &forged(&signer, &header, |c| c["aud"] = json!(null)),
            "malformed",
        ),
        (
            &forged(&signer, &header, |c| c["exp"] = json!("soon")),
            "malformed",
        ),
        (
            &forged(&signer, &header, |c| c["exp"] = json!(null)),
            "malformed",
        ),
        (
            &forged(&signer, &header, |c| c["exp"] = json!(NOW + 3601)),
            "more than an hour",
        ),
        (
            &forged(&signer, &header, |c| c["exp"] = json!(u64::MAX)),
            "more than an hour",
        ),
        (
            &forged(&signer, &header, |c| c["nbf"] = json!(null)),
            "malformed",
        ),
        (
            &forged(&signer, &header, |c| c["sub"] = json!("system:node:x")),
            "system:node:x",
        ),
        (
            &forged(&signer, &header, |c| {
                c["sub"] = json!("system:serviceaccount:a.b:c")
            }),
            "a.b:c",
        ),
    ];
    for (token, why) in table {
        let refused = verifier.verify(token, at(NOW)).expect_err(why).to_string();
        assert!(refused.contains(why), "{refused}: {why}");
        assert!(token.len() < 9 || !refused.contains(token), "{refused}");
    }
}

#[test]
fn only_es256_is_taken() {
    let (signer, verifier) = pair();
    let public = signer.public_key_pem();
    let claims = json!({
        "iss": ISSUER, "aud": [AUDIENCE], "sub": "system:serviceaccount:demo:web",
        "iat": NOW, "nbf": NOW, "exp": NOW + 60, "jti": "1",
    });
    // The classic: the public key as a shared secret.
    let secret = EncodingKey::from_secret(public.as_bytes());
    let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &secret);
    let refused = verifier
        .verify(&token.expect("a token"), at(NOW))
        .expect_err("HS256");
    assert!(
        refused.to_string().contains("not signed with ES256"),
        "{refused}"
    );
    let none = forged(&signer, &Header::new(Algorithm::ES256), |_| {});
    let (_, rest) = none.split_once('.').expect("a header");
    // {"alg":"none"}
    let none = format!("eyJhbGciOiJub25lIn0.{rest}");
    assert!(verifier.verify(&none, at(NOW)).is_err());
}

#[test]
fn what_cannot_be_signed() {
    let signer = Signer::generate();
    let hour = Duration::from_secs(3600);
    for (namespace, name, lifetime) in [
        ("demo", "web", hour + Duration::from_secs(1)),
        ("demo", "web", Duration::ZERO),
        ("de.mo", "web", hour),
        ("demo", "", hour),
    ] {
        let refused = signer.sign_at(at(NOW), namespace, name, lifetime);
        assert!(refused.is_err(), "{namespace} {name} {lifetime:?}");
    }
    assert!(signer.sign_at(at(NOW), "demo", "web", hour).is_ok());
}

#[test]
fn other_keys_are_refused() {
    for algorithm in [&rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
        let pair = KeyPair::generate_for(algorithm).expect("a key");
        let public = Verifier::from_pem(&pair.public_key_pem());
        assert!(matches!(public, Err(KeyError::NotP256)));
        assert!(matches!(
            Signer::from_pem(&pair.serialize_pem()),
            Err(KeyError::NotP256)
        ));
    }
    for garbage in [
        "",
        "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
    ] {
        assert!(Verifier::from_pem(garbage).is_err() && Signer::from_pem(garbage).is_err());
    }
}
