//! One file of the directory: what of it is in force, and why not its present content.
//!
//! Whatever is wrong with a file, it keeps what it held before. That it is half written is for the
//! caller to tell.

use super::{
    super::{
        File, ManifestError, Manifests, manifest,
        watch::{FileId, Pending, Stamp},
    },
    MAX_FILE_SIZE,
};
use std::{
    fs, hash, io,
    io::Read,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

/// A file that is not whole for longer is reported.
const LONG: Duration = Duration::from_secs(1);
const HELD: &str =
    "is being written; what it held before stays until it is closed or left alone for a while";
/// A disk that is full, or a tool that died, leaves such files.
const EMPTIED: &str = "is empty; what it held before stays: write the manifests, remove the file, or \
     leave a comment in it to have nothing";

/// A file as last looked at.
#[derive(Clone, Default)]
pub(super) struct Seen {
    /// `None`: has to be read again whatever its times say.
    stamp: Option<Stamp>,
    id: Option<FileId>,
    /// Of the content, to tell a touch from a change.
    hash: u64,
    file: File,
    /// Its present content is not whole.
    held: Option<Held>,
}

#[derive(Clone)]
struct Held {
    change: Pending<Stamp>,
    since: Instant,
    told: bool,
}

impl Seen {
    /// To know it again under another name.
    pub(super) fn id(&self) -> Option<FileId> {
        self.id
    }

    /// Whether it has to be looked at again soon.
    pub(super) fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// What is in force of it, and what is wrong with it.
    pub(super) fn shown(&self) -> File {
        let mut file = self.file.clone();
        if self.held.as_ref().is_some_and(|held| held.told) {
            file.error = Some(whole_file(HELD.to_owned()));
        }
        file
    }

    /// Reads and parses the file unless it is what it was, or is not whole.
    pub(super) fn look(
        mut self,
        path: &Path,
        name: &str,
        now: Instant,
        whole: impl Fn(&Stamp, Instant) -> bool,
    ) -> Self {
        let stamp = match Stamp::of(path) {
            Ok(stamp) => stamp,
            Err(error) => return self.unreadable(name, &error),
        };
        self.id = Some(stamp.id);
        let held = self.held.take();
        if self.stamp == Some(stamp) {
            return self;
        }
        let held = Held::at(held, stamp, now);
        if !whole(&stamp, held.change.since) {
            self.held = Some(held.tell(name, now));
            return self;
        }
        let text = match read(path) {
            Ok(text) => text,
            Err(error) => return self.unreadable(name, &error),
        };
        if Stamp::of(path).ok() != Some(stamp) {
            // Written to meanwhile.
            self.held = Some(held);
            return self;
        }
        self.stamp = stamp.settled().then_some(stamp);
        let emptied = text.is_empty() && !self.file.manifests.objects.is_empty();
        self.judge(name, hash_of(&text), || match emptied {
            true => Err(whole_file(EMPTIED.to_owned())),
            false => manifest::parse(&text),
        });
        self
    }

    fn unreadable(mut self, name: &str, error: &io::Error) -> Self {
        let problem = format!("cannot read the file: {error}");
        self.stamp = None;
        self.held = None;
        self.judge(name, hash_of(&problem), || Err(whole_file(problem.clone())));
        self
    }

    /// Takes what the file holds by now, unless it is what it held.
    fn judge(
        &mut self,
        name: &str,
        hash: u64,
        outcome: impl FnOnce() -> Result<Manifests, ManifestError>,
    ) {
        if self.hash == hash {
            return;
        }
        self.hash = hash;
        match outcome() {
            Ok(manifests) => {
                let known = &self.file.manifests.warnings;
                let warnings = manifests.warnings.iter();
                for warning in warnings.filter(|warning| !known.contains(warning)) {
                    tracing::warn!(file = name, "{warning}");
                }
                self.file.manifests = Arc::new(manifests);
                self.file.error = None;
            }
            Err(error) => {
                tracing::error!(file = name, %error, "bad manifest, what it held before stays");
                self.file.error = Some(error);
            }
        }
    }
}

// === impl Held ===

impl Held {
    fn at(before: Option<Self>, stamp: Stamp, now: Instant) -> Self {
        let (since, told) = before
            .as_ref()
            .map_or((now, false), |it| (it.since, it.told));
        let change = Pending::at(before.map(|it| it.change), stamp, now);
        Self {
            change,
            since,
            told,
        }
    }

    fn tell(mut self, name: &str, now: Instant) -> Self {
        if !self.told && now.saturating_duration_since(self.since) >= LONG {
            tracing::warn!(file = name, "{HELD}");
            self.told = true;
        }
        self
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
