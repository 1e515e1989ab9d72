//! Who is who in a local mesh: its roots and issuer, and the token that proves each replica.
//!
//! `supervisor` makes one when the mesh starts. The certificates are written once: from then on the
//! files belong to the user, who may replace them while the mesh runs. Tokens are renewed for as
//! long as their replica is there. Certificates of replicas are the controller's affair.

mod authority;

use super::files::{self, Readable};
use super::replica::PodId;
use crate::parts::{Identities, MAX_TOKEN_LIFETIME, ServiceAccount, SignError, Signer};
use authority::Authority;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

/// The namespace that a local mesh's control plane stands for.
pub(crate) const CONTROL_NAMESPACE: &str = "gossamer";
const TRUST_DOMAIN: &str = "cluster.local";

/// How often to look for tokens that have to be renewed.
pub(super) const RENEWAL_PERIOD: Duration = Duration::from_secs(30);
/// The age at which a token is renewed: a proxy that reads it later still has half an hour.
const RENEWAL_AGE: Duration = Duration::from_secs(1800);

/// Why a mesh or a replica has no identity.
#[derive(Debug, thiserror::Error)]
pub(super) enum IdentityError {
    #[error("cannot make the mesh's own certificates: {0}")]
    Certificate(#[from] rcgen::Error),
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, io::Error),
    #[error("cannot make a token for {0}: {1}")]
    Token(String, SignError),
}

/// What signs tokens, and the tokens that are out.
pub(super) struct Identity {
    files: IdentityFiles,
    signer: Signer,
    tokens: BTreeMap<PodId, Token>,
}

/// Where everything is, below a mesh's state directory.
#[derive(Clone, Debug)]
pub(crate) struct IdentityFiles {
    state: PathBuf,
}

struct Token {
    service_account: String,
    issued: SystemTime,
}

/// The identity of a service account; `None` for names that no certificate could carry.
pub(super) fn name(namespace: &str, service_account: &str) -> Option<String> {
    let identities = Identities::new(CONTROL_NAMESPACE, TRUST_DOMAIN)?;
    Some(identities.of(&ServiceAccount::new(namespace, service_account)?))
}

// === impl Identity ===

impl Identity {
    /// Makes and writes all that a new mesh needs.
    pub(super) fn create(state: &Path) -> Result<Self, IdentityError> {
        let files = IdentityFiles::of(state);
        let authority = Authority::create(OffsetDateTime::now_utc())?;
        let signer = Signer::generate();
        let issuer = files.issuer();
        create_dir(&issuer)?;
        for (path, text, readable) in [
            (files.anchors(), &authority.root, Readable::ByAll),
            (issuer.join("crt.pem"), &authority.issuer, Readable::ByAll),
            (
                issuer.join("key.pem"),
                &authority.issuer_key,
                Readable::ByOwner,
            ),
            (
                files.in_identity("root-key.pem"),
                &authority.root_key,
                Readable::ByOwner,
            ),
            (
                files.in_identity("token-key.pem"),
                &signer.private_key_pem(),
                Readable::ByOwner,
            ),
            (files.token_key(), &signer.public_key_pem(), Readable::ByAll),
        ] {
            write(&path, text, readable)?;
        }
        Ok(Self {
            files,
            signer,
            tokens: BTreeMap::new(),
        })
    }

    /// Gives a replica its token, before it starts.
    pub(super) fn admit(&mut self, id: &PodId, account: &str) -> Result<(), IdentityError> {
        create_dir(&self.files.tokens(id))?;
        self.issue(id, account)
    }

    /// Removes what a replica that has ended leaves.
    pub(super) fn forget(&mut self, id: &PodId) {
        self.tokens.remove(id);
        // Nobody reads it any more; it ends by itself, and goes with the mesh at the latest.
        let _ = std::fs::remove_dir_all(self.files.tokens(id));
    }

    /// Renews the tokens that are old enough. One that cannot be is tried again the next time.
    pub(super) fn renew(&mut self, now: SystemTime) -> Result<(), IdentityError> {
        let due = self.tokens.iter().filter(|(_, token)| token.is_due(now));
        let due: Vec<_> = due
            .map(|(id, token)| (id.clone(), token.service_account.clone()))
            .collect();
        let issued = due.iter().map(|(id, account)| self.issue(id, account));
        // All are tried; the first error says what is wrong with the disk.
        issued.collect::<Vec<_>>().into_iter().collect()
    }

    fn issue(&mut self, id: &PodId, account: &str) -> Result<(), IdentityError> {
        let issued = SystemTime::now();
        let token = self
            .signer
            .sign(&id.namespace, account, MAX_TOKEN_LIFETIME)
            .map_err(|error| IdentityError::Token(format!("{}/{account}", id.namespace), error))?;
        write(&self.files.token(id), &token, Readable::ByOwner)?;
        let service_account = account.to_string();
        let token = Token {
            service_account,
            issued,
        };
        self.tokens.insert(id.clone(), token);
        Ok(())
    }
}

// === impl Token ===

impl Token {
    /// Also when it seems to come from the future: the clock was set back.
    fn is_due(&self, now: SystemTime) -> bool {
        now.duration_since(self.issued)
            .map_or(true, |age| age >= RENEWAL_AGE)
    }
}

// === impl IdentityFiles ===

impl IdentityFiles {
    pub(crate) fn of(state: &Path) -> Self {
        Self {
            state: state.to_path_buf(),
        }
    }

    /// The roots that are trusted, as PEM.
    pub(crate) fn anchors(&self) -> PathBuf {
        self.in_identity("trust-anchors.pem")
    }

    /// The directory with the issuer's `crt.pem` and `key.pem`.
    pub(crate) fn issuer(&self) -> PathBuf {
        self.in_identity("issuer")
    }

    /// The public key by which the controller knows tokens.
    pub(super) fn token_key(&self) -> PathBuf {
        self.in_identity("token-key.pub.pem")
    }

    /// The token of a replica.
    pub(super) fn token(&self, id: &PodId) -> PathBuf {
        self.tokens(id).join("token")
    }

    fn tokens(&self, id: &PodId) -> PathBuf {
        let tokens = self.state.join("tokens");
        tokens.join(&id.namespace).join(&id.name)
    }

    fn in_identity(&self, name: &str) -> PathBuf {
        self.state.join("identity").join(name)
    }
}

fn create_dir(path: &Path) -> Result<(), IdentityError> {
    std::fs::create_dir_all(path).map_err(|error| IdentityError::Write(path.to_path_buf(), error))
}

fn write(path: &Path, text: &str, readable: Readable) -> Result<(), IdentityError> {
    files::replace(path, text, readable)
        .map_err(|error| IdentityError::Write(path.to_path_buf(), error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::Certificate;
    use std::os::unix::fs::PermissionsExt;

    fn pod() -> PodId {
        PodId {
            namespace: "demo".to_string(),
            name: "web-0".to_string(),
        }
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn a_new_mesh_has_a_root_and_an_issuer_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::create(dir.path()).unwrap();
        let files = &identity.files;
        let of = |path: PathBuf| Certificate::read_pem(read(&path).as_bytes()).unwrap();
        let (anchors, chain) = (of(files.anchors()), of(files.issuer().join("crt.pem")));
        assert_eq!((anchors.len(), chain.len()), (1, 1));
        assert!(chain[0].is_signed_by(&anchors[0]));
        assert_eq!(anchors[0].subject, "CN=root.gossamer.cluster.local");
        assert_eq!(chain[0].subject, "CN=identity.gossamer.cluster.local");
        assert!(chain[0].to_text().contains("CA:TRUE, pathlen:0"));
        assert!(chain[0].not_after < anchors[0].not_after);
        // Neither is about to end, by the measure of `meshctl check`.
        assert!(chain[0].not_after - OffsetDateTime::now_utc() > time::Duration::days(60));
    }

    #[test]
    fn keys_and_tokens_are_for_the_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut identity = Identity::create(dir.path()).unwrap();
        identity.admit(&pod(), "web").unwrap();
        let secrets = [
            "identity/issuer/key.pem",
            "identity/root-key.pem",
            "identity/token-key.pem",
            "tokens/demo/web-0/token",
        ];
        for secret in secrets {
            let metadata = std::fs::metadata(dir.path().join(secret)).unwrap();
            assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{secret}");
        }
        let public = read(&identity.files.token_key());
        assert!(public.starts_with("-----BEGIN PUBLIC KEY-----"), "{public}");
        identity.forget(&pod());
        assert!(!dir.path().join("tokens/demo/web-0").exists());
    }

    #[test]
    fn a_token_is_renewed_when_half_of_its_time_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut identity = Identity::create(dir.path()).unwrap();
        identity.admit(&pod(), "web").unwrap();
        let path = identity.files.token(&pod());
        let (first, issued) = (read(&path), identity.tokens[&pod()].issued);
        identity.renew(issued + RENEWAL_AGE / 2).unwrap();
        assert_eq!(read(&path), first);
        identity.renew(issued + RENEWAL_AGE).unwrap();
        let second = read(&path);
        assert_ne!(second, first);
        // A clock that was set back must not keep a token until it seems old.
        let issued = identity.tokens[&pod()].issued;
        identity.renew(issued - Duration::from_secs(60)).unwrap();
        assert_ne!(read(&path), second);
        assert!(RENEWAL_AGE + RENEWAL_PERIOD < MAX_TOKEN_LIFETIME);
    }

    #[test]
    fn a_token_is_good_for_its_service_account() {
        let dir = tempfile::tempdir().unwrap();
        let mut identity = Identity::create(dir.path()).unwrap();
        identity.admit(&pod(), "web").unwrap();
        let key = read(&identity.files.token_key());
        let verifier = crate::parts::Verifier::from_pem(&key).unwrap();
        let token = read(&identity.files.token(&pod()));
        let now = rustls_pki_types::UnixTime::now();
        let owner = verifier.verify(&token, now).unwrap();
        assert_eq!(owner.username(), "system:serviceaccount:demo:web");
    }

    #[test]
    fn identities_are_those_of_the_controller() {
        let expected = "web.demo.serviceaccount.identity.gossamer.cluster.local";
        assert_eq!(name("demo", "web").as_deref(), Some(expected));
        assert_eq!(name("de.mo", "web"), None);
    }
}
