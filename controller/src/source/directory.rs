//! A directory of manifests, watched.
//!
//! Files directly inside that end in `.yaml`, `.yml` or `.json` count, hidden ones do not, and
//! symbolic links are followed. [`Watch`] says when to look, [`Seen`] what a file holds. A directory
//! in the place of another may be filled yet, so it has to settle before it counts.

mod seen;

use self::seen::Seen;
use super::{
    Load,
    watch::{FileId, Pending, SETTLE, Stamp, Watch},
};
use crate::metrics::Metrics;
use std::{
    collections::{BTreeMap, HashMap},
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Changes come in bursts: editors write twice, tools write many files.
const DEBOUNCE: Duration = Duration::from_millis(20);

/// A directory in the place of another counts by then, though it goes on changing.
const FILLED: Duration = Duration::from_secs(10);

/// Largest manifest file that is read, in bytes.
pub const MAX_FILE_SIZE: u64 = 8 * 1024 * 1024;
/// How many manifest files are read.
pub const MAX_FILES: usize = 4096;

/// A directory and what is known of it.
pub struct Directory {
    path: PathBuf,
    watch: Watch,
    /// As it was when it was last listed; `None`: it never was.
    listed: Option<Stamp>,
    /// It could not be found since.
    gone: bool,
    /// Another directory in its place, and since when there is one.
    replaced: Option<(Instant, Pending<Stamp>)>,
    seen: BTreeMap<Arc<str>, Seen>,
    /// What is wrong with the directory itself.
    problem: Option<String>,
    metrics: Arc<Metrics>,
}

impl Directory {
    /// Begins to watch. Nothing is read until [`load`](Self::load).
    ///
    /// # Errors
    /// When `path` is relative to nothing.
    pub fn new(path: &Path, metrics: Arc<Metrics>) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let watch = Watch::new(vec![path.clone()], DEBOUNCE);
        Ok(Self::watched(path, watch, metrics))
    }

    fn watched(path: PathBuf, watch: Watch, metrics: Arc<Metrics>) -> Self {
        Self {
            path,
            watch,
            metrics,
            listed: None,
            gone: false,
            replaced: None,
            seen: BTreeMap::new(),
            problem: None,
        }
    }

    /// Reads what changed since the last time, and is whole by `now`. Blocks on the disk. A directory
    /// that cannot be read leaves things as they were.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn load(&mut self, now: Instant) -> io::Result<()> {
        if self.watch.renew() {
            tracing::info!("watching the directory of manifests anew");
            self.metrics.source_rewatches.fetch_add(1, Relaxed);
        }
        // At first there is nothing that a file half there could take away.
        let first = self.listed.is_none();
        if !self.has_settled(now)? {
            self.watch.look_again();
            return Ok(());
        }
        let names = self.names()?;
        let mut before = std::mem::take(&mut self.seen);
        let gone = gone(&before, &names);
        for (name, path) in names {
            let renamed =
                |before: &mut BTreeMap<_, _>| before.remove(gone.get(&Stamp::of(&path).ok()?.id)?);
            let known = before.remove(&name).or_else(|| renamed(&mut before));
            let was_bad = known.as_ref().and_then(|seen| seen.shown().error);
            let whole = |stamp: &Stamp, since| first || self.watch.whole(&path, stamp, since, now);
            let seen = known.unwrap_or_default().look(&path, &name, now, whole);
            let bad = seen.shown().error;
            if bad.is_some() && was_bad != bad {
                self.metrics.source_errors.fetch_add(1, Relaxed);
            }
            if seen.is_held() {
                self.watch.look_again();
            }
            self.seen.insert(name, seen);
        }
        Ok(())
    }

    /// Whether this is the directory that was listed before, or no longer changes.
    fn has_settled(&mut self, now: Instant) -> io::Result<bool> {
        let stamp = Stamp::of(&self.path).inspect_err(|_| self.gone = true)?;
        if self
            .listed
            .is_some_and(|before| self.gone || before.id != stamp.id)
        {
            let (first, before) = self.replaced.take().unzip();
            let first = first.unwrap_or(now);
            let replaced = Pending::at(before, stamp, now);
            let lasted = |since| now.saturating_duration_since(since);
            if lasted(replaced.since) < SETTLE && lasted(first) < FILLED {
                self.replaced = Some((first, replaced));
                return Ok(false);
            }
        }
        self.replaced = None;
        self.gone = false;
        self.listed = Some(stamp);
        Ok(true)
    }

    /// All files as last read.
    pub fn snapshot(&self) -> Load {
        let files = self.seen.iter();
        Load {
            files: files.map(|(n, seen)| (n.clone(), seen.shown())).collect(),
            problem: self.problem.clone(),
        }
    }

    /// Watches until dropped, and publishes what changed. Not meant to return.
    pub async fn watch(mut self, publish: watch::Sender<Arc<Load>>) {
        loop {
            self.watch.changed().await;
            let look = tokio::task::spawn_blocking(move || {
                let result = self.load(Instant::now());
                (self, result)
            });
            let Ok((directory, result)) = look.await else {
                tracing::error!("reading the manifests panicked: they are not watched any more");
                return std::future::pending().await;
            };
            self = directory;
            self.note(result);
            let load = self.snapshot();
            publish.send_if_modified(|current| {
                let news = !current.same(&load);
                if news {
                    *current = Arc::new(load);
                }
                news
            });
        }
    }

    fn note(&mut self, result: io::Result<()>) {
        let problem = result.err().map(|error| {
            let path = self.path.display();
            format!("cannot list {path}: {error}; what was read before stays in force")
        });
        if let Some(problem) = problem.as_ref().filter(|_| self.problem.is_none()) {
            tracing::error!("{problem}");
            self.metrics.source_errors.fetch_add(1, Relaxed);
        }
        self.problem = problem;
    }

    fn names(&self) -> io::Result<BTreeMap<Arc<str>, PathBuf>> {
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = shown(&entry.file_name());
            if is_manifest(&name) {
                names.insert(name.into(), entry.path());
            }
        }
        if names.len() > MAX_FILES {
            let (count, max) = (names.len(), MAX_FILES);
            return Err(io::Error::other(format!(
                "{count} manifests are more than {max}"
            )));
        }
        Ok(names)
    }
}

/// Names of files that are there no more. What moved to another name keeps what is known of it.
fn gone(
    before: &BTreeMap<Arc<str>, Seen>,
    names: &BTreeMap<Arc<str>, PathBuf>,
) -> HashMap<FileId, Arc<str>> {
    let gone = before.iter().filter(|(name, _)| !names.contains_key(*name));
    gone.filter_map(|(name, seen)| Some((seen.id()?, name.clone())))
        .collect()
}

/// A name that can be shown; what is no UTF-8 in it is escaped.
fn shown(name: &OsStr) -> String {
    let escaped = || format!("{name:?}").trim_matches('"').to_owned();
    name.to_str().map_or_else(escaped, str::to_owned)
}

/// Whether a file of that name in a directory counts; editors' hidden temporary files do not.
pub fn is_manifest(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
}

#[cfg(test)]
mod tests;
