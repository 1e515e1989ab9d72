//! Where trust begins: anchors that are given once, or a file that is watched.
//!
//! A bundle that cannot be read changes nothing: the last good one stays, and the log and a metric
//! say so, once for each bad bundle.

use crate::{
    config::Anchors,
    tls::{BadRoots, Roots},
};
use metrics::Counter;
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::sleep;

/// How often a file is looked at. It is taken when it looks the same twice, so that one that is
/// just being written is not taken half.
const POLL: Duration = Duration::from_millis(500);

/// Larger files are refused.
const MAX_BYTES: u64 = 1 << 20;

/// Yields trust anchors, and again whenever they change.
pub(super) enum Source {
    Given(Option<Roots>),
    File(Watched),
}

pub(super) struct Watched {
    path: PathBuf,
    /// What the file held when it was last looked at.
    seen: Option<Content>,
    /// What it held when it was last judged.
    judged: Option<Content>,
    /// What was last yielded.
    roots: Option<Roots>,
    failures: Counter,
}

/// The bytes, or why there are none.
type Content = Result<Vec<u8>, String>;

impl Source {
    pub(super) fn new(anchors: &Anchors, failures: Counter) -> Self {
        match anchors {
            Anchors::Given(roots) => Self::Given(Some(roots.clone())),
            Anchors::File(path) => Self::File(Watched {
                path: path.clone(),
                seen: None,
                judged: None,
                roots: None,
                failures,
            }),
        }
    }

    /// Whether others may replace the anchors: those of a file are its owner's to change.
    pub(super) fn may_be_replaced(&self) -> bool {
        matches!(self, Self::Given(_))
    }

    /// The next anchors. Cancel-safe.
    pub(super) async fn changed(&mut self) -> Roots {
        match self {
            Self::Given(roots) => match roots.take() {
                Some(roots) => roots,
                None => std::future::pending().await,
            },
            Self::File(file) => file.changed().await,
        }
    }
}

impl Watched {
    async fn changed(&mut self) -> Roots {
        loop {
            if self.seen.is_some() {
                sleep(POLL).await;
            }
            let now = read(&self.path).map_err(|e| e.to_string());
            if let Some(roots) = self.look(now) {
                return roots;
            }
        }
    }

    /// Takes note of what the file holds now; yields anchors if they are new.
    fn look(&mut self, now: Content) -> Option<Roots> {
        let is_first = self.seen.is_none();
        let is_settled = is_first || self.seen.as_ref() == Some(&now);
        if is_settled && self.judged.as_ref() != Some(&now) {
            self.judged = Some(now.clone());
            self.seen = Some(now);
            return self.judge();
        }
        self.seen = Some(now);
        None
    }

    fn judge(&mut self) -> Option<Roots> {
        let content = self.judged.as_ref()?;
        let roots = match content {
            Ok(pem) => Roots::from_pem(pem).map_err(|e: BadRoots| e.to_string()),
            Err(error) => Err(error.clone()),
        };
        match roots {
            Ok(roots) if self.roots.as_ref() == Some(&roots) => None,
            Ok(roots) => {
                self.roots = Some(roots.clone());
                Some(roots)
            }
            Err(error) => {
                self.failures.increment(1);
                let (path, in_force) = (
                    self.path.display(),
                    self.roots.as_ref().map_or(0, Roots::count),
                );
                tracing::error!(%path, error, in_force, "trust anchors refused; the last good ones stay");
                None
            }
        }
    }
}

/// Reads a small file, on the spot: the control thread can wait for that.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other(format!("larger than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{metrics::Registry, tls::testing::Authority};

    fn watched() -> (Watched, std::sync::Arc<Registry>) {
        let registry = Registry::new(Duration::from_secs(60), 10);
        let failures = registry.counter("failures", vec![]);
        let anchors = Anchors::File("/nowhere/anchors.pem".into());
        let Source::File(watched) = Source::new(&anchors, failures) else {
            panic!("not watched");
        };
        (watched, registry)
    }

    fn pem(authority: &Authority) -> Content {
        Ok(authority.pem().into_bytes())
    }

    #[test]
    fn the_first_bundle_is_taken_at_once_and_others_when_they_have_settled() {
        let (mut file, _) = watched();
        let (a, b) = (Authority::new("a"), Authority::new("b"));
        assert_eq!(file.look(pem(&a)), Some(a.roots()));
        assert_eq!(file.look(pem(&a)), None);
        assert_eq!(file.look(pem(&b)), None, "just being written?");
        assert_eq!(file.look(pem(&b)), Some(b.roots()));
        assert_eq!(file.look(pem(&b)), None);
    }

    #[test]
    fn a_bad_bundle_changes_nothing_and_is_counted_once() {
        let (mut file, registry) = watched();
        let a = Authority::new("a");
        assert_eq!(file.look(pem(&a)), Some(a.roots()));
        for bad in [Ok(b"no PEM".to_vec()), Err("gone".to_owned())] {
            for _ in 0..4 {
                assert_eq!(file.look(bad.clone()), None);
            }
        }
        assert!(registry.render().contains("failures 2"));
        // The same as before is nothing new.
        assert_eq!((file.look(pem(&a)), file.look(pem(&a))), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_appears_is_in_force_within_two_seconds() {
        let dir = std::env::temp_dir();
        let path = dir.join(format!("gossamer-anchors-{}.pem", std::process::id()));
        let a = Authority::new("a");
        let mut source = Source::new(&Anchors::File(path.clone()), Counter::noop());
        assert!(!source.may_be_replaced());
        let early = tokio::time::timeout(Duration::from_secs(5), source.changed()).await;
        assert!(early.is_err());
        std::fs::write(&path, a.pem()).unwrap();
        let soon = tokio::time::timeout(Duration::from_secs(2), source.changed()).await;
        std::fs::remove_file(&path).unwrap();
        assert_eq!(soon.unwrap(), a.roots());
    }

    #[tokio::test(start_paused = true)]
    async fn anchors_that_are_given_are_yielded_once() {
        let a = Authority::new("a");
        let mut source = Source::new(&Anchors::Given(a.roots()), Counter::noop());
        assert_eq!(source.changed().await, a.roots());
        let again = tokio::time::timeout(Duration::from_secs(60), source.changed()).await;
        assert!(again.is_err());
    }
}
