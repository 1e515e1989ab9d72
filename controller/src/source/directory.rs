//! A directory of manifests, watched.
//!
//! Files directly inside that end in `.yaml`, `.yml` or `.json` count, hidden ones do not, and
//! symbolic links are followed. inotify says when to look; because it can lose events (and does
//! not see through links), the directory is also looked at every few seconds. A look is cheap:
//! only files whose size or times changed are read, and only changed content is parsed.

use super::{File, Load, ManifestError, Manifests, manifest};
use crate::metrics::Metrics;
use futures::FutureExt;
use notify::{EventKind, Watcher, event::AccessKind, event::AccessMode};
use std::{
    collections::BTreeMap,
    fs, hash, io,
    io::Read,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, SystemTime},
};
use tokio::{sync::Notify, sync::watch, time};

/// Changes come in bursts: editors write twice, tools write many files.
const DEBOUNCE: Duration = Duration::from_millis(20);
const RESCAN: Duration = Duration::from_secs(3);
/// A file that changed this recently may change again without its times telling.
const RACY: Duration = Duration::from_secs(1);

/// Largest manifest file that is read, in bytes.
pub const MAX_FILE_SIZE: u64 = 8 * 1024 * 1024;
/// How many manifest files are read.
pub const MAX_FILES: usize = 4096;

/// A directory and what is known of it.
pub struct Directory {
    path: PathBuf,
    seen: BTreeMap<Arc<str>, Seen>,
    /// What is wrong with the directory itself.
    problem: Option<String>,
    metrics: Arc<Metrics>,
}

#[derive(Clone)]
struct Seen {
    /// `None`: has to be read again whatever its times say.
    stamp: Option<Stamp>,
    /// Of the content, to tell a touch from a change.
    hash: u64,
    file: File,
}

/// What changes when a file does.
#[derive(Clone, Copy, PartialEq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

impl Directory {
    /// Nothing is read until [`load`](Self::load).
    pub fn new(path: PathBuf, metrics: Arc<Metrics>) -> Self {
        Self {
            path,
            metrics,
            seen: BTreeMap::new(),
            problem: None,
        }
    }

    /// Reads what changed since the last time. Blocks on the disk. A directory that cannot be read
    /// leaves things as they were.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn load(&mut self) -> io::Result<()> {
        let names = self.names()?;
        self.seen
            .retain(|name, _| names.binary_search(name).is_ok());
        for name in names {
            let before = self.seen.remove(&name);
            let was_bad = before.as_ref().map(|seen| seen.file.error.clone());
            let now = look(&self.path.join(&*name), &name, before);
            if now.file.error.is_some() && was_bad.as_ref() != Some(&now.file.error) {
                self.metrics.source_errors.fetch_add(1, Relaxed);
            }
            self.seen.insert(name, now);
        }
        Ok(())
    }

    /// All files as last read.
    pub fn snapshot(&self) -> Load {
        let files = self.seen.iter();
        Load {
            files: files
                .map(|(n, seen)| (n.clone(), seen.file.clone()))
                .collect(),
            problem: self.problem.clone(),
        }
    }

    /// Watches until dropped, and publishes what changed. Not meant to return.
    pub async fn watch(mut self, publish: watch::Sender<Arc<Load>>) {
        let changed = Arc::new(Notify::new());
        // Dropped with this future; without it, looking every few seconds remains.
        let _watcher = notify_on_change(&self.path, changed.clone())
            .inspect_err(|error| tracing::warn!(%error, "no file events, looking every 3 s"));
        loop {
            // Either way the directory is looked at, so it does not matter which comes first.
            tokio::select! {
                () = changed.notified() => time::sleep(DEBOUNCE).await,
                () = time::sleep(RESCAN) => {}
            }
            // What was said while waiting is covered by the look that follows.
            let _ = changed.notified().now_or_never();
            let look = tokio::task::spawn_blocking(move || {
                let result = self.load();
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
        }
        self.problem = problem;
    }

    /// Sorted.
    fn names(&self) -> io::Result<Vec<Arc<str>>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            if let Some(name) = name.to_str().filter(|name| is_manifest(name)) {
                names.push(Arc::<str>::from(name));
            }
        }
        names.sort();
        if names.len() > MAX_FILES {
            let (count, max) = (names.len(), MAX_FILES);
            return Err(io::Error::other(format!(
                "{count} manifests are more than {max}"
            )));
        }
        Ok(names)
    }
}

/// Whether a file of that name in a directory counts; editors' hidden temporary files do not.
pub fn is_manifest(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json"))
}

fn notify_on_change(path: &Path, changed: Arc<Notify>) -> notify::Result<impl Watcher + use<>> {
    let wake = move |event: notify::Result<notify::Event>| {
        // Our own reading is an access, too.
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        let idle = |event: &notify::Event| event.kind.is_access() && event.kind != written;
        if !event.as_ref().is_ok_and(idle) {
            changed.notify_one();
        }
    };
    let mut watcher = notify::recommended_watcher(wake)?;
    watcher.watch(path, notify::RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Reads and parses a file unless it is what it was.
fn look(path: &Path, name: &str, before: Option<Seen>) -> Seen {
    let stamp = fs::metadata(path).map(|meta| Stamp {
        size: meta.len(),
        modified: meta.modified().ok(),
    });
    if let (Some(before), Ok(stamp)) = (&before, &stamp)
        && before.stamp == Some(*stamp)
    {
        return before.clone();
    }
    let content = stamp.and_then(|stamp| read(path).map(|text| (stamp, text)));
    let (stamp, hash, outcome) = match content {
        Ok((stamp, text)) => {
            let hash = hash_of(&text);
            let settled = stamp.settled().then_some(stamp);
            if let Some(before) = before.as_ref().filter(|before| before.hash == hash) {
                return Seen {
                    stamp: settled,
                    ..before.clone()
                };
            }
            (settled, hash, manifest::parse(&text))
        }
        Err(error) => {
            let problem = format!("cannot read the file: {error}");
            (None, hash_of(&problem), Err(whole_file(problem)))
        }
    };
    let known = before.as_ref().is_some_and(|before| before.hash == hash);
    Seen {
        stamp,
        hash,
        file: judge(name, outcome, before.map(|before| before.file), known),
    }
}

/// A file that turned bad keeps what it held; that is said once.
fn judge(
    name: &str,
    outcome: Result<Manifests, ManifestError>,
    before: Option<File>,
    known: bool,
) -> File {
    match outcome {
        Ok(manifests) => {
            for warning in &manifests.warnings {
                tracing::warn!(file = name, "{warning}");
            }
            File {
                manifests: Arc::new(manifests),
                error: None,
            }
        }
        Err(error) => {
            if !known {
                tracing::error!(file = name, %error, "bad manifest, what it held before stays");
            }
            File {
                manifests: before.map(|file| file.manifests).unwrap_or_default(),
                error: Some(error),
            }
        }
    }
}

fn read(path: &Path) -> io::Result<String> {
    // Looked at before it is opened: a pipe would keep its reader waiting for ever.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a file"));
    }
    let mut text = String::new();
    // The size may have changed since it was asked for.
    fs::File::open(path)?
        .take(MAX_FILE_SIZE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_SIZE {
        return Err(io::Error::other(format!("more than {MAX_FILE_SIZE} bytes")));
    }
    Ok(text)
}

fn hash_of(text: &str) -> u64 {
    use hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
    BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
}

fn whole_file(problem: String) -> ManifestError {
    ManifestError {
        line: None,
        field: None,
        problem,
    }
}

impl Stamp {
    /// Whether a later change is sure to show in it.
    fn settled(&self) -> bool {
        let age = self.modified.and_then(|at| at.elapsed().ok());
        age.is_some_and(|age| age > RACY)
    }
}

#[cfg(test)]
mod tests;
