//! The directory of a running mesh: claimed, found by name, removed, and swept when its owner died.
//!
//! A mesh is alive for exactly as long as its supervisor holds the lock on `DIR/lock`: the kernel
//! gives it back whatever ends that process. Everything below the directory belongs to the mesh.

use super::control;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, getuid, kill_process};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Another command may hold the lock for a moment to see whether the mesh is alive.
const CLAIM_TRIES: u32 = 20;
const CLAIM_PAUSE: Duration = Duration::from_millis(50);

/// What `sockaddr_un` holds before its last NUL.
const MAX_SOCKET_PATH: usize = 107;

/// Why state could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    #[error("a mesh named {0} is already running; stop it with `meshctl local down --name {0}`")]
    Running(String),
    #[error("{0} belongs to somebody else; set XDG_RUNTIME_DIR to a directory of yours")]
    Foreign(PathBuf),
    #[error("{0} is no directory; remove it, or set XDG_RUNTIME_DIR to another directory")]
    NoDirectory(PathBuf),
    #[error(
        "{0} can be written by others; `chmod go-w {0}`, or set XDG_RUNTIME_DIR to another directory"
    )]
    Writable(PathBuf),
    #[error(
        "{0} is too long for a socket by {1} bytes; set XDG_RUNTIME_DIR to a shorter directory of \
         yours"
    )]
    TooLong(PathBuf, usize),
    #[error("state directory {0}: {1}")]
    Io(PathBuf, io::Error),
}

/// The claimed directory of one mesh. Dropping it removes it.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// Where the meshes of this user live.
pub(super) fn root() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => PathBuf::from(dir).join("gossamer"),
        None => PathBuf::from(format!("/tmp/gossamer-{}", getuid().as_raw())),
    }
}

/// Names of the running meshes. What dead ones left is removed on the way.
pub(super) fn running(root: &Path) -> Result<Vec<String>, StateError> {
    let mut names = Vec::new();
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        Err(error) => return Err(StateError::Io(root.to_path_buf(), error)),
    };
    for entry in entries.filter_map(Result::ok) {
        let path = entry.path();
        if !path.is_dir() || sweep(&path)? {
            continue;
        }
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Removes a directory whose owner is dead, and its processes; `false` if the owner lives.
pub(super) fn sweep(path: &Path) -> Result<bool, StateError> {
    let Some(lock) = try_lock(path)? else {
        let unowned = !path.join("lock").exists();
        if unowned {
            // Fails, as it should, while something is in it: a mesh that is about to start.
            let _ = std::fs::remove_dir(path);
            let _ = path.parent().map(std::fs::remove_dir);
        }
        return Ok(unowned);
    };
    drop(StateDir {
        path: path.to_path_buf(),
        _lock: lock,
    });
    Ok(true)
}

/// Whether a process runs; one that has ended and waits to be reaped does not.
pub(super) fn is_running(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which stands in parentheses and may contain anything.
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Makes the directory, for whoever needs a place in it before the mesh claims it.
pub(super) fn prepare(root: &Path, name: &str) -> Result<PathBuf, StateError> {
    let path = root.join(name);
    let socket = control::socket(&path);
    let length = socket.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        return Err(StateError::TooLong(socket, length - MAX_SOCKET_PATH));
    }
    for dir in [root, &path] {
        let failed = |error| StateError::Io(dir.to_path_buf(), error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed)?;
        let metadata = std::fs::symlink_metadata(dir).map_err(failed)?;
        // In /tmp anybody could have made it first, to read or to replace what is written here.
        if metadata.uid() != getuid().as_raw() {
            return Err(StateError::Foreign(dir.to_path_buf()));
        }
        if !metadata.is_dir() {
            return Err(StateError::NoDirectory(dir.to_path_buf()));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(StateError::Writable(dir.to_path_buf()));
        }
    }
    Ok(path)
}

// === impl StateDir ===

impl StateDir {
    /// Claims the directory of a mesh, cleared of what a dead one left; `keep` stays.
    pub(super) async fn claim(root: &Path, name: &str, keep: &str) -> Result<Self, StateError> {
        for _ in 0..CLAIM_TRIES {
            let path = prepare(root, name)?;
            if let Some(lock) = create_lock(&path)? {
                end_processes(&path);
                clear(&path, &["lock", keep]);
                for dir in ["manifests", "logs"] {
                    let dir = path.join(dir);
                    std::fs::create_dir(&dir).map_err(|error| StateError::Io(dir, error))?;
                }
                return Ok(Self { path, _lock: lock });
            }
            tokio::time::sleep(CLAIM_PAUSE).await;
        }
        Err(StateError::Running(name.to_string()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        end_processes(&self.path);
        // The lock goes last: as long as anything is left, it says whose it is.
        clear(&self.path, &["lock"]);
        let _ = std::fs::remove_dir_all(&self.path);
        // The last mesh takes the common directory with it; with others in it this fails.
        if let Some(root) = self.path.parent() {
            let _ = std::fs::remove_dir(root);
        }
    }
}

/// The lock of a directory, if it exists and nobody holds it.
fn try_lock(path: &Path) -> Result<Option<File>, StateError> {
    match File::open(path.join("lock")) {
        Ok(file) => Ok(locked(path, file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateError::Io(path.to_path_buf(), error)),
    }
}

fn create_lock(path: &Path) -> Result<Option<File>, StateError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path.join("lock"));
    match file {
        Ok(file) => Ok(locked(path, file)),
        // Removed by a mesh that just ended, together with its directory.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StateError::Io(path.to_path_buf(), error)),
    }
}

/// The file locked, if it is free and still the one in the directory.
fn locked(path: &Path, file: File) -> Option<File> {
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    let own = file.metadata().ok()?;
    let there = std::fs::metadata(path.join("lock")).ok()?;
    (own.ino() == there.ino()).then_some(file)
}

/// Kills every process that carries this directory's mark: also grandchildren that left their
/// process group, which no death signal reaches.
fn end_processes(path: &Path) {
    let mut mark = super::STATE_MARK.as_bytes().to_vec();
    mark.push(b'=');
    mark.extend(path.as_os_str().as_bytes());
    let processes = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok);
    for process in processes {
        let Some(pid) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        let marked = environment
            .split(|byte| *byte == 0)
            .any(|entry| entry == mark);
        if marked && pid.unsigned_abs() != std::process::id() {
            let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        }
    }
}

fn clear(path: &Path, keep: &[&str]) {
    for entry in std::fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
    {
        if keep.iter().any(|name| entry.file_name() == *name) {
            continue;
        }
        let path = entry.path();
        let _ = if path.is_dir() {
            std::fs::remove_dir_all(path)
        } else {
            std::fs::remove_file(path)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_name_is_claimed_once_and_freed_on_drop() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("gossamer");
        let state = StateDir::claim(&root, "a", "").await.unwrap();
        assert!(matches!(
            StateDir::claim(&root, "a", "").await,
            Err(StateError::Running(_))
        ));
        assert_eq!(running(&root).unwrap(), ["a"]);
        drop(state);
        assert!(!root.exists(), "nothing is left");
        StateDir::claim(&root, "a", "").await.unwrap();
    }

    #[tokio::test]
    async fn what_a_dead_mesh_left_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("gossamer");
        let path = prepare(&root, "dead").unwrap();
        std::fs::write(path.join("lock"), "").unwrap();
        std::fs::write(path.join("control.sock"), "").unwrap();
        assert_eq!(running(&root).unwrap(), Vec::<String>::new());
        assert!(!root.exists());
    }

    #[tokio::test]
    async fn a_claim_clears_all_but_what_it_keeps() {
        let dir = tempfile::tempdir().unwrap();
        let path = prepare(dir.path(), "a").unwrap();
        std::fs::write(path.join("old"), "").unwrap();
        std::fs::write(path.join("supervisor.log"), "").unwrap();
        let _state = StateDir::claim(dir.path(), "a", "supervisor.log")
            .await
            .unwrap();
        assert!(!path.join("old").exists() && path.join("supervisor.log").exists());
    }

    #[test]
    fn a_process_runs_until_it_has_ended() {
        assert!(is_running(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(!is_running(child.id()));
    }

    #[test]
    fn a_directory_open_to_others_is_refused() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("gossamer");
        std::fs::create_dir(&root).unwrap();
        std::fs::set_permissions(&root, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(prepare(&root, "a"), Err(StateError::Writable(_))));
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_told_before_anything_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("x".repeat(100));
        let Err(StateError::TooLong(path, by)) = prepare(&root, "a") else {
            panic!("it was taken");
        };
        assert_eq!(path.as_os_str().len() - by, MAX_SOCKET_PATH);
        assert!(!root.exists());
        let fits = &path.as_os_str().to_string_lossy()[..MAX_SOCKET_PATH];
        assert!(std::os::unix::net::SocketAddr::from_pathname(fits).is_ok());
    }
}
