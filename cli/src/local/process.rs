//! Starts commands as children that cannot outlive the mesh, with their output in bounded logs.
//!
//! Used by `component`, which decides when. Every child is the leader of a process group of its
//! own: a Ctrl-C at the terminal reaches the supervisor alone, and a group ends as a whole.

use super::replica::ProcessSpec;
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

/// A log begins anew at this size; one older part is kept beside it.
const LOG_LIMIT: u64 = 8 * 1024 * 1024;

/// Starts the processes of one mesh.
#[derive(Debug)]
pub(super) struct Launcher {
    program: PathBuf,
    logs: PathBuf,
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    group: Pid,
}

/// How long to wait before a crashed process is started again: Kubernetes' doubling, but from
/// 200 ms, as a restart on one machine costs nothing.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

/// Output of a process, of limited size.
struct LogFile {
    path: PathBuf,
    file: File,
    written: u64,
}

// === impl Launcher ===

impl Launcher {
    pub(super) fn new(program: PathBuf, logs: PathBuf) -> Self {
        Self { program, logs }
    }

    pub(super) fn log_path(&self, spec: &ProcessSpec) -> PathBuf {
        self.logs.join(format!("{}.log", spec.log))
    }

    /// Starts `spec` behind the shim that ties it to this process.
    pub(super) fn spawn(&self, spec: &ProcessSpec) -> io::Result<Process> {
        let log = LogFile::open(self.log_path(spec))?;
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(&self.program);
        command
            .args([
                "run-child",
                "--parent",
                &std::process::id().to_string(),
                "--",
            ])
            .args(&spec.argv)
            .env_clear()
            .envs(inherited())
            .envs(&spec.env)
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0)
            .kill_on_drop(true);
        if let Some(dir) = &spec.working_dir {
            command.current_dir(dir);
        }
        let child = command.spawn()?;
        // The command holds the pipe's writing end until it is dropped; then the log can end.
        drop(command);
        let reader = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        tokio::spawn(copy(reader, log));
        let pid = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let group = pid.ok_or_else(|| io::Error::other("the process has no id"))?;
        Ok(Process { child, group })
    }
}

/// What the supervisor was given, without what would configure a proxy by accident.
fn inherited() -> impl Iterator<Item = (OsString, OsString)> {
    let foreign = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.starts_with("LINKERD2_PROXY_")
            || name.starts_with("GOSSAMER_")
            || name.to_ascii_lowercase().ends_with("_proxy")
    };
    std::env::vars_os().filter(move |(name, _)| !foreign(name))
}

async fn copy(mut reader: pipe::Receiver, mut log: LogFile) {
    let mut buffer = vec![0; 8 * 1024];
    loop {
        match reader.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            // A full disk must not stop the process: what cannot be written is dropped.
            Ok(n) => _ = log.append(&buffer[..n]),
        }
    }
}

// === impl Process ===

impl Process {
    pub(super) fn id(&self) -> u32 {
        self.group.as_raw_nonzero().get().unsigned_abs()
    }

    /// Waits for the end of the command, then ends what it left behind. Cancel-safe.
    pub(super) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.kill();
        status
    }

    pub(super) fn terminate(&self) {
        let _ = kill_process_group(self.group, Signal::TERM);
    }

    pub(super) fn kill(&self) {
        let _ = kill_process_group(self.group, Signal::KILL);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

// === impl Backoff ===

impl Backoff {
    const FIRST: Duration = Duration::from_millis(200);
    const LAST: Duration = Duration::from_secs(60);
    /// A process that ran this long starts from the first delay again.
    const FORGIVEN: Duration = Duration::from_secs(600);

    pub(super) fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// The delay after a run of this length.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= Self::FORGIVEN {
            self.next = Self::FIRST;
        }
        let delay = self.next;
        self.next = (delay * 2).min(Self::LAST);
        delay
    }
}

// === impl LogFile ===

impl LogFile {
    fn open(path: PathBuf) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(&path)?;
        let written = file.metadata()?.len();
        Ok(Self {
            path,
            file,
            written,
        })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.written + bytes.len() as u64 > LOG_LIMIT {
            std::fs::rename(&self.path, older(&self.path))?;
            *self = Self::open(self.path.clone())?;
        }
        self.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

/// Where the part before the last is kept: `web.log.1`.
fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(".1");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_a_minute_and_forgives() {
        let mut backoff = Backoff::new();
        let short = Duration::from_secs(1);
        let delays: Vec<u128> = (0..11).map(|_| backoff.after(short).as_millis()).collect();
        assert_eq!(delays[..4], [200, 400, 800, 1600]);
        assert_eq!(delays[9..], [60_000, 60_000]);
        assert_eq!(backoff.after(Duration::from_secs(600)).as_millis(), 200);
    }

    #[test]
    fn a_log_keeps_one_older_part() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.log");
        let mut log = LogFile::open(path.clone()).unwrap();
        let chunk = vec![b'x'; LOG_LIMIT as usize / 2];
        for _ in 0..5 {
            log.append(&chunk).unwrap();
        }
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert_eq!(size(&path), LOG_LIMIT / 2);
        assert_eq!(size(&older(&path)), LOG_LIMIT);
    }
}
