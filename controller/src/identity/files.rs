//! The files that identities are made with, as texts.
//!
//! Both layouts of an issuer's directory are known: Linkerd's (`crt.pem`, `key.pem`) and that of
//! Secrets of type `kubernetes.io/tls` (`tls.crt`, `tls.key`). What the texts mean is not asked here.

use std::{
    fs,
    io::Read,
    path::{Path, PathBuf},
};

/// Of any of the files, in bytes.
const MAX_SIZE: u64 = 256 * 1024;

const LAYOUTS: [(&str, &str); 2] = [("crt.pem", "key.pem"), ("tls.crt", "tls.key")];

/// Where they are.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The directory of the issuer.
    pub issuer: PathBuf,
    /// The bundle of trust anchors.
    pub anchors: PathBuf,
    /// The public key of whoever makes the tokens of one machine.
    pub token_key: Option<PathBuf>,
}

/// What they hold, or why they cannot be read. Not to be shown: a private key is in it.
#[derive(Clone, PartialEq)]
pub struct Texts {
    /// The issuer.
    pub issuer: Result<PairText, String>,
    /// The trust anchors.
    pub anchors: Result<String, String>,
    /// `None`: there is no such file.
    pub token_key: Option<Result<String, String>>,
}

/// A certificate, its chain and its key.
#[derive(Clone, PartialEq)]
pub struct PairText {
    /// PEM certificates, the issuer's first.
    pub chain: String,
    /// A PEM private key.
    pub key: String,
}

/// Without this file there is nothing to begin with.
#[derive(Debug, thiserror::Error)]
pub enum UnreadableFile {
    /// Of `--identity-issuer`.
    #[error("--identity-issuer: {0}")]
    Issuer(String),
    /// Of `--identity-trust-anchors`.
    #[error("--identity-trust-anchors: {0}")]
    Anchors(String),
    /// Of `--identity-token-key`.
    #[error("--identity-token-key: {0}")]
    TokenKey(String),
    /// There is neither a key nor a cluster.
    #[error("tokens cannot be verified: expected --identity-token-key, or a cluster")]
    NoTokens,
}

// === impl Paths ===

impl Paths {
    /// Reads them all. Blocks on the disk.
    pub fn read(&self) -> Texts {
        Texts {
            issuer: pair(&self.issuer),
            anchors: text(&self.anchors),
            token_key: self.token_key.as_deref().map(text),
        }
    }
}

fn pair(dir: &Path) -> Result<PairText, String> {
    let is_there = |(chain, _): &&(&str, &str)| dir.join(chain).exists();
    let Some((chain, key)) = LAYOUTS.iter().find(is_there) else {
        return Err(format!(
            "neither crt.pem nor tls.crt is in {}",
            dir.display()
        ));
    };
    Ok(PairText {
        chain: text(&dir.join(chain))?,
        key: text(&dir.join(key))?,
    })
}

fn text(path: &Path) -> Result<String, String> {
    let read = || {
        let mut text = String::new();
        fs::File::open(path)?
            .take(MAX_SIZE + 1)
            .read_to_string(&mut text)?;
        Ok::<_, std::io::Error>(text)
    };
    let text = read().map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if text.len() as u64 > MAX_SIZE {
        return Err(format!(
            "{} is larger than {MAX_SIZE} bytes",
            path.display()
        ));
    }
    Ok(text)
}

// === impl Texts ===

impl Texts {
    /// That everything could be read.
    ///
    /// # Errors
    /// For the first file that could not.
    pub fn complete(&self) -> Result<(), UnreadableFile> {
        if let Err(error) = &self.issuer {
            return Err(UnreadableFile::Issuer(error.clone()));
        }
        if let Err(error) = &self.anchors {
            return Err(UnreadableFile::Anchors(error.clone()));
        }
        match &self.token_key {
            Some(Err(error)) => Err(UnreadableFile::TokenKey(error.clone())),
            _ => Ok(()),
        }
    }
}

impl Default for Texts {
    /// Of nothing.
    fn default() -> Self {
        Self {
            issuer: Err("not read".to_owned()),
            anchors: Err("not read".to_owned()),
            token_key: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn paths(dir: &Path) -> Paths {
        Paths {
            issuer: dir.join("issuer"),
            anchors: dir.join("anchors.pem"),
            token_key: None,
        }
    }

    fn put(path: PathBuf, text: &str) {
        fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn both_layouts_are_read() {
        for (chain, key) in LAYOUTS {
            let dir = tempfile::tempdir().expect("a directory");
            put(dir.path().join("issuer").join(chain), "chain");
            put(dir.path().join("issuer").join(key), "key");
            put(dir.path().join("anchors.pem"), "anchors");
            let texts = paths(dir.path()).read();
            assert!(texts.complete().is_ok());
            let pair = texts.issuer.expect("a pair");
            assert_eq!((&*pair.chain, &*pair.key), ("chain", "key"));
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let said = |paths: &Paths| paths.read().complete().expect_err("missing").to_string();
        let mut paths = paths(dir.path());
        assert!(said(&paths).starts_with("--identity-issuer: neither crt.pem nor tls.crt is in"));
        put(dir.path().join("issuer/tls.crt"), "");
        assert!(said(&paths).contains("issuer/tls.key: No such file"));
        put(dir.path().join("issuer/tls.key"), "");
        assert!(said(&paths).starts_with("--identity-trust-anchors: cannot read"));
        put(dir.path().join("anchors.pem"), &"x".repeat(300_000));
        assert!(said(&paths).ends_with("is larger than 262144 bytes"));
        put(dir.path().join("anchors.pem"), "");
        paths.token_key = Some(dir.path().join("key"));
        assert!(said(&paths).starts_with("--identity-token-key: cannot read"));
    }

    #[test]
    fn a_swap_of_links_shows() {
        let dir = tempfile::tempdir().expect("a directory");
        let issuer = dir.path().join("issuer");
        put(dir.path().join("anchors.pem"), "");
        for version in ["1", "2"] {
            put(issuer.join(format!("..{version}/tls.crt")), version);
            put(issuer.join(format!("..{version}/tls.key")), version);
        }
        symlink("..1", issuer.join("..data")).expect("a link");
        symlink("..data/tls.crt", issuer.join("tls.crt")).expect("a link");
        symlink("..data/tls.key", issuer.join("tls.key")).expect("a link");
        let paths = paths(dir.path());
        let before = paths.read();
        symlink("..2", issuer.join("..new")).expect("a link");
        fs::rename(issuer.join("..new"), issuer.join("..data")).expect("swapped");
        let after = paths.read();
        assert!(before != after);
        assert_eq!(after.issuer.expect("a pair").key, "2");
    }
}
