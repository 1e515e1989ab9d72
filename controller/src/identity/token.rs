//! Tokens by which workloads prove their service account.
//!
//! [`Tokens`] is the one question asked of whoever knows them: whose token is this? Two answer it. On
//! one machine [`Verifier`] reads tokens that `meshctl` made with the [`Signer`] here, signed with
//! ECDSA P-256 (`ES256`), so that whoever can verify them cannot make them. In a cluster the API
//! server is asked ([`super::review`]). No error and no log line holds a token.

use super::name::ServiceAccount;
use futures::future::BoxFuture;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use rcgen::KeyPair;
use rustls_pki_types::{
    PrivateKeyDer, SubjectPublicKeyInfoDer, UnixTime,
    pem::{self, PemObject},
};
use serde::{Deserialize, Serialize};
use std::{fmt::Write, time::Duration};
use x509_parser::{
    prelude::FromDer, public_key::PublicKey as Parsed, x509::SubjectPublicKeyInfo as Spki,
};

/// Whom tokens of workloads are for; those for anybody else are refused.
pub const AUDIENCE: &str = "identity.l5d.io";
/// Who makes the tokens of one machine.
pub const ISSUER: &str = "gossamer.dev/local";
/// How long a token of one machine may be good for.
pub const MAX_LIFETIME: Duration = Duration::from_secs(3600);

/// Clocks of one machine agree; suspended ones jump.
const LEEWAY: u64 = 10;

/// Whoever can tell whose token it is.
pub trait Tokens: Send + Sync {
    /// The owner of `token`. May take its time: callers set the deadline.
    fn owner<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ServiceAccount, TokenError>>;
}

/// Why a token does not say who asks.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It is nothing that could be a token.
    #[error("the token is malformed: {0}")]
    Malformed(String),
    /// Nobody known made it, or it is for somebody else.
    #[error("the token is not authentic: {0}")]
    Refused(String),
    /// Its time is over.
    #[error("the token expired {0} s ago")]
    Expired(u64),
    /// Its time has not come.
    #[error("the token is not valid before {0} s from now")]
    NotYetValid(u64),
    /// It is of somebody who is not a service account.
    #[error(
        "the token is of {0:?}: expected system:serviceaccount:NAMESPACE:NAME with names of \
         Kubernetes"
    )]
    NotAServiceAccount(String),
    /// Whoever knows could not be asked.
    #[error("cannot verify the token: {0}")]
    Unavailable(String),
}

/// A key cannot be used for tokens.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The PEM text holds none.
    #[error("no {kind} in the PEM text: {source}")]
    Pem {
        /// What was looked for.
        kind: &'static str,
        /// What was found.
        source: pem::Error,
    },
    /// It is a key for something else.
    #[error("not an ECDSA P-256 key")]
    NotP256,
}

/// A token cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// It would never end, or at once.
    #[error("a token for {0:?}: expected from 1 s to 1 h")]
    Lifetime(Duration),
    /// A workload of that name cannot have an identity.
    #[error("{0:?} is not the name of a service account")]
    Name(String),
    /// The key failed.
    #[error("cannot sign a token: {0}")]
    Key(#[from] jsonwebtoken::errors::Error),
    /// There was no entropy for its id.
    #[error("no random numbers")]
    Random,
}

/// Makes the tokens of one machine.
pub struct Signer {
    pair: KeyPair,
    key: EncodingKey,
}

/// Verifies what a [`Signer`] made, by its public key.
pub struct Verifier {
    key: DecodingKey,
    validation: Validation,
}

/// What a token of one machine says.
#[derive(Debug, Deserialize, Serialize)]
struct Claims {
    iss: String,
    aud: Vec<String>,
    sub: String,
    /// Seconds since 1970, as the two below.
    iat: u64,
    nbf: u64,
    exp: u64,
    /// Never the same twice, to tell tokens apart in an audit.
    jti: String,
}

// === impl Signer ===

impl Signer {
    /// With a new key.
    ///
    /// # Panics
    /// When the system has no random numbers.
    pub fn generate() -> Self {
        let pair = KeyPair::generate().expect("the system has random numbers");
        Self::new(pair)
    }

    /// With the key that [`private_key_pem`](Self::private_key_pem) gave.
    ///
    /// # Errors
    /// When the text holds no private key, or one that is not ECDSA P-256.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let kind = "private key";
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes());
        let key = key.map_err(|source| KeyError::Pem { kind, source })?;
        let pair = KeyPair::from_der_and_sign_algo(&key, &rcgen::PKCS_ECDSA_P256_SHA256);
        let pair = pair.map_err(|_| KeyError::NotP256)?;
        Ok(Self::new(pair))
    }

    fn new(pair: KeyPair) -> Self {
        let key = EncodingKey::from_ec_der(pair.serialized_der());
        Self { pair, key }
    }

    /// What a [`Verifier`] needs. Not secret.
    pub fn public_key_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// The key itself, to be kept where only its owner can read it.
    pub fn private_key_pem(&self) -> String {
        self.pair.serialize_pem()
    }

    /// A token of the service account, good from now on and for `lifetime`.
    ///
    /// # Errors
    /// When `lifetime` is more than [`MAX_LIFETIME`] or less than a second, or the names cannot be
    /// those of a service account.
    pub fn sign(
        &self,
        namespace: &str,
        service_account: &str,
        lifetime: Duration,
    ) -> Result<String, SignError> {
        let now = UnixTime::now();
        self.sign_at(now, namespace, service_account, lifetime)
    }

    fn sign_at(
        &self,
        now: UnixTime,
        namespace: &str,
        service_account: &str,
        lifetime: Duration,
    ) -> Result<String, SignError> {
        if lifetime > MAX_LIFETIME || lifetime.as_secs() == 0 {
            return Err(SignError::Lifetime(lifetime));
        }
        let name = || SignError::Name(format!("{namespace}:{service_account}"));
        let owner = ServiceAccount::new(namespace, service_account).ok_or_else(name)?;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: vec![AUDIENCE.to_owned()],
            sub: owner.username(),
            iat: now.as_secs(),
            nbf: now.as_secs(),
            exp: now.as_secs() + lifetime.as_secs(),
            jti: random_id()?,
        };
        let header = Header::new(Algorithm::ES256);
        Ok(jsonwebtoken::encode(&header, &claims, &self.key)?)
    }
}

fn random_id() -> Result<String, SignError> {
    let mut bytes = [0; 16];
    super::random(&mut bytes).map_err(|_| SignError::Random)?;
    let mut id = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    Ok(id)
}

// === impl Verifier ===

impl Verifier {
    /// Of the key that [`Signer::public_key_pem`] gave.
    ///
    /// # Errors
    /// When the text holds no public key, or one that is not ECDSA P-256.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let kind = "public key";
        let spki = SubjectPublicKeyInfoDer::from_pem_slice(text.as_bytes());
        let spki = spki.map_err(|source| KeyError::Pem { kind, source })?;
        let (_, spki) = Spki::from_der(&spki).map_err(|_| KeyError::NotP256)?;
        match spki.parsed() {
            Ok(Parsed::EC(point)) if point.key_size() == 256 => {
                let key = DecodingKey::from_ec_der(point.data());
                Ok(Self::new(key))
            }
            _ => Err(KeyError::NotP256),
        }
    }

    fn new(key: DecodingKey) -> Self {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[ISSUER]);
        validation.set_required_spec_claims(&["iss", "aud", "sub", "nbf", "exp"]);
        // Times are compared here, with a clock that tests can set.
        validation.validate_exp = false;
        Self { key, validation }
    }

    /// The owner of a token, if it is good now.
    ///
    /// # Errors
    /// When it is not.
    pub fn verify(&self, token: &str, now: UnixTime) -> Result<ServiceAccount, TokenError> {
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation);
        let claims = decoded.map_err(refused)?.claims;
        let now = now.as_secs();
        if claims.exp.saturating_add(LEEWAY) < now {
            return Err(TokenError::Expired(now - claims.exp));
        }
        if claims.nbf > now.saturating_add(LEEWAY) {
            return Err(TokenError::NotYetValid(claims.nbf - now));
        }
        if claims.exp.saturating_sub(claims.nbf) > MAX_LIFETIME.as_secs() {
            let problem = "it would be good for more than an hour";
            return Err(TokenError::Refused(problem.to_owned()));
        }
        ServiceAccount::of_username(&claims.sub).ok_or(TokenError::NotAServiceAccount(claims.sub))
    }
}

impl TokenError {
    /// For metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "token_malformed",
            Self::Refused(_) => "token_refused",
            Self::Expired(_) => "token_expired",
            Self::NotYetValid(_) => "token_not_yet_valid",
            Self::NotAServiceAccount(_) => "token_owner",
            Self::Unavailable(_) => "token_unavailable",
        }
    }
}

impl Tokens for Verifier {
    fn owner<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ServiceAccount, TokenError>> {
        Box::pin(async { self.verify(token, UnixTime::now()) })
    }
}

/// None of the texts of these errors holds a part of the token.
fn refused(error: jsonwebtoken::errors::Error) -> TokenError {
    match error.kind() {
        ErrorKind::InvalidToken | ErrorKind::Base64(_) | ErrorKind::Utf8(_) => {
            TokenError::Malformed("it is not a JWT".to_owned())
        }
        ErrorKind::Json(_) => TokenError::Malformed("its claims are not what is asked".to_owned()),
        ErrorKind::MissingRequiredClaim(claim) => TokenError::Malformed(format!("no {claim}")),
        ErrorKind::InvalidIssuer => TokenError::Refused(format!("not made by {ISSUER}")),
        ErrorKind::InvalidAudience => TokenError::Refused(format!("not meant for {AUDIENCE}")),
        ErrorKind::InvalidAlgorithm => TokenError::Refused("not signed with ES256".to_owned()),
        _ => TokenError::Refused("its signature is wrong".to_owned()),
    }
}

#[cfg(test)]
mod tests;
