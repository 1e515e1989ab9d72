//! Tells when manifests have changed on disk, and are whole.
//!
//! `supervisor` reads them again then; whether anything is different is for `reconcile` to see. When
//! to look, and whether a file is half written, is for the controller's `watch` to say: manifests are
//! taken together, so one that is not whole holds up all.

use super::manifest::{Source, files};
use crate::parts::watch::{FileId, Pending, SETTLE, Stamp, Watch};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Editors and git write in several steps: so long they are waited for.
const PAUSE: Duration = Duration::from_millis(150);

/// Watches the manifests of a source.
pub(super) struct Changes {
    paths: Vec<PathBuf>,
    /// `None` for a source that cannot change.
    watch: Option<Watch>,
    /// As they were read.
    known: State,
    pending: Option<Pending<State>>,
}

/// What manifests look like from outside.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    /// `None` for one that cannot be read.
    files: BTreeMap<PathBuf, Option<Stamp>>,
    dirs: Vec<Option<FileId>>,
    /// Why there are no files.
    trouble: Option<String>,
}

impl Changes {
    /// Starts to watch; files through their directory, since editors replace them. What changes from
    /// now on is told.
    pub(super) fn of(source: &Source) -> io::Result<Self> {
        let Source::Paths(paths) = source else {
            return Ok(Self {
                paths: Vec::new(),
                watch: None,
                known: State::default(),
                pending: None,
            });
        };
        let paths = paths.iter().map(std::path::absolute);
        let paths = paths.collect::<io::Result<Vec<_>>>()?;
        let dirs: BTreeSet<_> = paths.iter().map(|path| directory(path)).collect();
        let watch = Watch::new(dirs.into_iter().map(Path::to_owned).collect(), PAUSE);
        Ok(Self {
            known: State::of(&paths),
            paths,
            watch: Some(watch),
            pending: None,
        })
    }

    /// Waits for the next change. Cancel-safe: what was seen is kept.
    pub(super) async fn next(&mut self) {
        loop {
            match &mut self.watch {
                Some(watch) => watch.changed().await,
                None => std::future::pending().await,
            }
            if self.look(Instant::now()) {
                return;
            }
        }
    }

    /// Whether there is a change, and it is whole.
    fn look(&mut self, now: Instant) -> bool {
        let Some(watch) = &mut self.watch else {
            return false;
        };
        watch.renew();
        let state = State::of(&self.paths);
        if state == self.known {
            self.pending = None;
            return false;
        }
        let pending = Pending::at(self.pending.take(), state, now);
        let told = |path: &Path, stamp: &Stamp| watch.whole(path, stamp, pending.since, now);
        let settled = now.saturating_duration_since(pending.since) >= SETTLE;
        if pending.state.is_whole(&self.known, settled, told) {
            self.known = pending.state;
            return true;
        }
        self.pending = Some(pending);
        watch.look_again();
        false
    }
}

/// What has to be watched to see changes of `path`.
fn directory(path: &Path) -> &Path {
    let parent = path.parent().filter(|_| !path.is_dir());
    parent.unwrap_or(path)
}

// === impl State ===

impl State {
    fn of(paths: &[PathBuf]) -> Self {
        let id = |path: &PathBuf| Some(Stamp::of(directory(path)).ok()?.id);
        let (files, trouble) = match files(paths) {
            Ok(files) => (files, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let stamped = |path: PathBuf| {
            let stamp = Stamp::of(&path).ok();
            (path, stamp)
        };
        Self {
            files: files.into_iter().map(stamped).collect(),
            dirs: paths.iter().map(id).collect(),
            trouble,
        }
    }

    /// Whether each file that is not as `before` is `told` to be whole; of directories nobody tells.
    fn is_whole(&self, before: &Self, settled: bool, told: impl Fn(&Path, &Stamp) -> bool) -> bool {
        let as_before = |path| before.files.get(path);
        let changed = self
            .files
            .iter()
            .filter(|(path, stamp)| as_before(*path) != Some(*stamp));
        let mut changed = changed.map(|(path, stamp)| match stamp {
            Some(stamp) => told(path, stamp),
            None => settled,
        });
        let listed = self.trouble.is_none() && self.dirs == before.dirs;
        (listed || settled) && changed.all(|whole| whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// One look after another, with nobody but the disk to ask.
    struct Looks {
        temp: tempfile::TempDir,
        changes: Changes,
        now: Instant,
    }

    impl Looks {
        fn at(make: impl FnOnce(&Path) -> PathBuf) -> Self {
            let temp = tempfile::tempdir().unwrap();
            let paths = vec![make(temp.path())];
            let changes = Changes {
                known: State::of(&paths),
                paths,
                watch: Some(Watch::new(Vec::new(), PAUSE)),
                pending: None,
            };
            Self {
                temp,
                changes,
                now: Instant::now(),
            }
        }

        /// What the next looks see, each a while after the one before.
        fn see(&mut self) -> [bool; 3] {
            [(); 3].map(|()| {
                let seen = self.changes.look(self.now);
                self.now += SETTLE;
                seen
            })
        }
    }

    #[test]
    fn a_change_is_told_once_when_it_has_settled() {
        let mut looks = Looks::at(Path::to_owned);
        let path = looks.temp.path().join("app.yaml");
        assert_eq!(looks.see(), [false; 3]);
        for text in ["half", "and half"] {
            fs::write(&path, text).unwrap();
            assert!(!looks.changes.look(looks.now));
        }
        assert_eq!(looks.see(), [false, true, false]);
        fs::remove_file(&path).unwrap();
        fs::write(looks.temp.path().join("other.yaml"), "x").unwrap();
        assert_eq!(looks.see(), [false, true, false]);
    }

    #[test]
    fn a_link_is_followed_to_what_it_leads_to() {
        let mut looks = Looks::at(|dir| {
            fs::write(dir.join("target"), "x").unwrap();
            std::os::unix::fs::symlink("target", dir.join("link.yaml")).unwrap();
            dir.join("link.yaml")
        });
        fs::write(looks.temp.path().join("target"), "longer").unwrap();
        assert_eq!(looks.see(), [false, true, false]);
    }

    #[test]
    fn a_directory_that_is_missing_for_a_while_is_found_again() {
        let dir = |temp: &Path| {
            fs::create_dir(temp.join("d")).unwrap();
            fs::write(temp.join("d/app.yaml"), "x").unwrap();
            temp.join("d")
        };
        let mut looks = Looks::at(dir);
        let temp = looks.temp.path().to_owned();
        fs::rename(temp.join("d"), temp.join("old")).unwrap();
        assert_eq!(looks.see(), [false, true, false], "that it is missing");
        dir(&temp);
        assert_eq!(looks.see(), [false, true, false], "and that it is there");
    }
}
