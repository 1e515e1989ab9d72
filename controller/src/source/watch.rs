//! When files have changed, and whether what they hold by now is whole.
//!
//! The controller and `meshctl local` follow their manifests through it. inotify says when to look;
//! because it can lose events and does not see through symbolic links, there is a look every few
//! seconds, too. A file that is written in place is empty for a while and then half there, which may
//! well be good YAML. So a change counts when its writer has closed the file or moved it into place,
//! or, where nothing tells of that, when it has stayed the same for a while. What files hold is not
//! asked here.

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, ModifyKind, RenameMode},
};
use parking_lot::Mutex;
use std::{
    collections::{BTreeSet, HashMap},
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::{sync::Notify, time};

/// How often there is a look without an event.
const RESCAN: Duration = Duration::from_secs(3);
/// How long a change that nobody vouches for has to stay as it is.
pub const SETTLE: Duration = Duration::from_millis(300);
/// A file that is kept open and not written for so long counts as it is.
const WRITER_RESTS: Duration = Duration::from_secs(10);
/// A file that changed this recently may change again without its times telling.
const RACY: Duration = Duration::from_secs(1);
/// Files that are remembered to have been written. Past it all are forgotten, and have to settle.
const MAX_SAID: usize = 8192;

/// Directories that are watched.
pub struct Watch {
    events: Arc<Events>,
    watcher: Option<RecommendedWatcher>,
    /// What the directories were when they were last watched.
    watched: Vec<Option<FileId>>,
    /// Changes come in bursts: how long to wait for more.
    pause: Duration,
    look_at: time::Instant,
    /// There was an event, and no look since.
    pending: bool,
    /// That there are no events was said.
    told: bool,
}

/// What changes when a file does, whatever times a tool gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Stays when it is renamed; another file in its place has another.
    pub id: FileId,
    size: u64,
    modified: (i64, i64),
    /// Nobody but the kernel sets it.
    changed: (i64, i64),
}

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId(u64, u64);

/// A change that is not in force yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pending<T> {
    /// How it looks.
    pub state: T,
    /// Since when it looks like that.
    pub since: Instant,
}

/// What the kernel told, for the next look to find.
struct Events {
    dirs: Vec<PathBuf>,
    changed: Notify,
    files: Mutex<HashMap<PathBuf, Said>>,
    /// A directory was replaced, or events were lost.
    lost: AtomicBool,
}

/// What was last said of a file.
enum Said {
    /// Written to, and not closed since.
    Open(Instant),
    /// Closed or moved into place, when it was like this.
    Whole(Stamp),
}

// === impl Watch ===

impl Watch {
    /// Begins to watch the files directly in `dirs`, which are absolute and need not exist.
    pub fn new(dirs: Vec<PathBuf>, pause: Duration) -> Self {
        let mut watch = Self {
            events: Arc::new(Events {
                dirs,
                changed: Notify::new(),
                files: Mutex::default(),
                lost: AtomicBool::new(false),
            }),
            watcher: None,
            watched: Vec::new(),
            pause,
            look_at: time::Instant::now() + RESCAN,
            pending: false,
            told: false,
        };
        watch.renew();
        watch
    }

    /// Waits until it is time to look. Cancel-safe: what was told is kept.
    pub async fn changed(&mut self) {
        if !self.pending {
            tokio::select! {
                () = self.events.changed.notified() => self.pending = true,
                () = time::sleep_until(self.look_at) => {}
            }
        }
        if self.pending {
            time::sleep(self.pause).await;
        }
        self.pending = false;
        self.look_at = time::Instant::now() + RESCAN;
    }

    /// Has the next look soon, at what has to settle.
    pub fn look_again(&mut self) {
        self.look_at = time::Instant::now() + SETTLE;
    }

    /// Watches again where a directory is another than it was; to be called before each look.
    /// Tells whether it had to.
    pub fn renew(&mut self) -> bool {
        let id = |dir: &PathBuf| Some(Stamp::of(dir).ok()?.id);
        let present: Vec<_> = self.events.dirs.iter().map(id).collect();
        let lost = self.events.lost.swap(false, Relaxed);
        if self.watcher.is_some() && !lost && present == self.watched {
            return false;
        }
        let again = self.watcher.take().is_some();
        // What was told may be of files that are gone.
        self.events.files.lock().clear();
        self.watched = present;
        match self.events.clone().listen(&self.watched) {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                self.told = false;
            }
            Err(error) if !self.told => {
                self.told = true;
                tracing::warn!(%error, "no file events, looking every {RESCAN:?}");
            }
            Err(_) => {}
        }
        again
    }

    /// Whether the file at `path`, whose stamp has been `stamp` since `since`, is not half written.
    pub fn whole(&self, path: &Path, stamp: &Stamp, since: Instant, now: Instant) -> bool {
        let lasted = |since: Instant, time| now.saturating_duration_since(since) >= time;
        match self.events.files.lock().get(path) {
            Some(Said::Whole(then)) if then == stamp => true,
            Some(Said::Open(at)) => lasted(*at, WRITER_RESTS) && lasted(since, SETTLE),
            _ => lasted(since, SETTLE),
        }
    }
}

// === impl Events ===

impl Events {
    fn listen(self: Arc<Self>, present: &[Option<FileId>]) -> notify::Result<RecommendedWatcher> {
        let events = self.clone();
        let mut watcher = notify::recommended_watcher(move |event| events.take(event))?;
        let mode = RecursiveMode::NonRecursive;
        for (dir, _) in self.dirs.iter().zip(present).filter(|(_, id)| id.is_some()) {
            watcher.watch(dir, mode)?;
        }
        let dirs: BTreeSet<_> = self.dirs.iter().map(PathBuf::as_path).collect();
        let parents: BTreeSet<_> = dirs.iter().filter_map(|dir| dir.parent()).collect();
        for parent in parents.difference(&dirs) {
            // It tells at once when a directory is replaced; a look does so, too.
            let _ = watcher.watch(parent, mode);
        }
        Ok(watcher)
    }

    fn take(&self, event: notify::Result<Event>) {
        let event = match event {
            Ok(event) if !event.need_rescan() => event,
            _ => return self.start_over(),
        };
        let Some(path) = event.paths.first() else {
            return;
        };
        let here = |dir: &PathBuf| path.parent() == Some(dir);
        if self.dirs.contains(path) {
            let renamed = matches!(event.kind, EventKind::Modify(ModifyKind::Name(_)));
            if renamed || event.kind.is_create() || event.kind.is_remove() {
                self.start_over();
            }
        } else if self.dirs.iter().any(here) && self.note(path, event.kind) {
            self.changed.notify_one();
        }
    }

    /// Whether it is worth a look.
    fn note(&self, path: &Path, kind: EventKind) -> bool {
        let mut files = self.files.lock();
        if files.len() >= MAX_SAID {
            files.clear();
        }
        let whole = |files: &mut HashMap<_, _>| match Stamp::of(path) {
            Ok(stamp) => _ = files.insert(path.to_owned(), Said::Whole(stamp)),
            Err(_) => _ = files.remove(path),
        };
        match kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => whole(&mut files),
            // Our own reading is an access, too.
            EventKind::Access(_) => return false,
            EventKind::Modify(ModifyKind::Name(RenameMode::To)) => whole(&mut files),
            // Both names were told of before.
            EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => return false,
            EventKind::Modify(ModifyKind::Name(_)) | EventKind::Remove(_) => {
                files.remove(path);
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => {
                // What is set once a file is closed, as its times, changes nothing in it.
                if let Some(Said::Whole(_)) = files.get(path) {
                    whole(&mut files);
                }
            }
            EventKind::Modify(_) => {
                files.insert(path.to_owned(), Said::Open(Instant::now()));
                return false;
            }
            _ => {}
        }
        true
    }

    fn start_over(&self) {
        self.lost.store(true, Relaxed);
        self.changed.notify_one();
    }
}

// === impl Stamp ===

impl Stamp {
    /// Of the file that `path` leads to.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(path: &Path) -> io::Result<Self> {
        let meta = fs::metadata(path)?;
        Ok(Self {
            id: FileId(meta.dev(), meta.ino()),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    /// Whether a later change is sure to show in it.
    pub fn settled(&self) -> bool {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = u64::try_from(self.changed.0).unwrap_or_default();
        let nanos = u32::try_from(self.changed.1).unwrap_or_default();
        now.is_ok_and(|now| now > Duration::new(seconds, nanos) + RACY)
    }
}

// === impl Pending ===

impl<T: PartialEq> Pending<T> {
    /// The change that looks like `state` by now; one that still does keeps its age.
    pub fn at(before: Option<Self>, state: T, now: Instant) -> Self {
        let same = before.filter(|before| before.state == state);
        same.unwrap_or(Self { state, since: now })
    }
}

#[cfg(test)]
mod tests;
