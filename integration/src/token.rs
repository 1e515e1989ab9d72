//! Tokens with which a workload of one machine proves its service account.

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::KeyPair;
use serde::Serialize;
use std::time::{SystemTime, UNIX_EPOCH};

/// Whoever makes the tokens of a machine.
pub struct Signer {
    key: KeyPair,
}

/// What a token says; the fields are claims of RFC 7519.
#[derive(Clone, Debug, Serialize)]
pub struct Claims {
    /// Who made it.
    pub iss: String,
    /// Whom it is for.
    pub aud: Vec<String>,
    /// Whom it is about.
    pub sub: String,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// From when on it holds.
    pub nbf: u64,
    /// Until when it holds.
    pub exp: u64,
    /// A name of its own.
    pub jti: String,
}

// === impl Signer ===

impl Signer {
    /// With a new key.
    pub fn new() -> Self {
        Self {
            key: KeyPair::generate().expect("keys can be made"),
        }
    }

    /// The key that its tokens are verified with, in PEM.
    pub fn public_key_pem(&self) -> String {
        self.key.public_key_pem()
    }

    /// A good token for a service account of namespace `demo`.
    pub fn token(&self, service_account: &str) -> String {
        self.sign(&Claims::of(service_account))
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Claims) -> String {
        let key = EncodingKey::from_ec_pem(self.key.serialize_pem().as_bytes());
        let key = key.expect("an ECDSA key");
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), claims, &key)
            .expect("claims are plain JSON")
    }
}

impl Default for Signer {
    fn default() -> Self {
        Self::new()
    }
}

// === impl Claims ===

impl Claims {
    /// Good ones, for ten minutes, for a service account of namespace `demo`.
    pub fn of(service_account: &str) -> Self {
        let now = now();
        Self {
            iss: "gossamer.dev/local".to_owned(),
            aud: vec!["identity.l5d.io".to_owned()],
            sub: format!("system:serviceaccount:demo:{service_account}"),
            iat: now,
            nbf: now,
            exp: now + 600,
            jti: format!("{:032x}", rand::random::<u128>()),
        }
    }

    /// The same, over for ten minutes.
    pub fn expired(mut self) -> Self {
        let now = now();
        (self.iat, self.nbf, self.exp) = (now - 1200, now - 1200, now - 600);
        self
    }

    /// The same, beginning in ten minutes.
    pub fn early(mut self) -> Self {
        let now = now();
        (self.nbf, self.exp) = (now + 600, now + 1200);
        self
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is past 1970").as_secs()
}
