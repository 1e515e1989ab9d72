//! Tells when manifests may have changed on disk.
//!
//! `supervisor` reads them again then; whether anything is different is for `reconcile` to see.

use super::manifest::{Source, is_manifest};
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::watch;

/// Editors and git write in several steps: changes are read when they have paused this long.
const SETTLE: Duration = Duration::from_millis(150);

/// Watches the manifests of a source.
pub(super) struct Changes {
    seen: watch::Receiver<u64>,
    /// A change was seen that has not settled.
    pending: bool,
    /// `None` for a source that cannot change.
    _watcher: Option<RecommendedWatcher>,
}

impl Changes {
    /// Starts to watch; files through their directory, since editors replace them.
    pub(super) fn of(source: &Source) -> notify::Result<Self> {
        let (sender, seen) = watch::channel(0);
        let Source::Paths(paths) = source else {
            return Ok(Self {
                seen,
                pending: false,
                _watcher: None,
            });
        };
        let named: Vec<PathBuf> = paths
            .iter()
            .filter_map(|path| std::path::absolute(path).ok())
            .collect();
        let relevant = named.clone();
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let changed = event.map_or(true, |event| {
                let ours = |path: &PathBuf| relevant.contains(path) || is_manifest(path);
                writes(event.kind) && event.paths.iter().any(ours)
            });
            if changed {
                sender.send_modify(|count| *count = count.wrapping_add(1));
            }
        })?;
        for path in named {
            let dir = if path.is_dir() {
                Some(path.as_path())
            } else {
                path.parent()
            };
            watcher.watch(dir.unwrap_or(&path), RecursiveMode::NonRecursive)?;
        }
        Ok(Self {
            seen,
            pending: false,
            _watcher: Some(watcher),
        })
    }

    /// Waits for the next change that has settled. Cancel-safe: what was seen is kept.
    pub(super) async fn next(&mut self) {
        if !self.pending {
            if self.seen.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            self.pending = true;
        }
        while let Ok(Ok(())) = tokio::time::timeout(SETTLE, self.seen.changed()).await {}
        self.pending = false;
    }
}

/// Reading the manifests is an event as well, and must not lead to reading them again.
fn writes(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}
