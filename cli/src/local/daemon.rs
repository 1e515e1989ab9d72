//! Processes that outlive the command that started them: a detached mesh, and the janitor.
//!
//! `local up --detach` starts itself again in a session of its own and waits until that mesh is
//! ready. Every mesh has a janitor: it waits for the supervisor's end, whatever that is, and
//! removes what is left.

use super::control::{self, Question, Status};
use super::state;
use crate::args::UpArgs;
use anyhow::Context;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where a detached mesh writes what it would have shown.
pub(super) const LOG: &str = "supervisor.log";

const READY_DEADLINE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
const LAST_LINES: usize = 20;

/// The janitor's process, waiting at the other end of a pipe.
pub(super) struct Janitor {
    child: Child,
}

/// Starts a detached mesh and waits until it is ready.
pub(super) async fn detach(args: &UpArgs) -> anyhow::Result<Status> {
    let root = state::root();
    if state::running(&root)?.contains(&args.name) {
        return Err(state::StateError::Running(args.name.clone()).into());
    }
    let dir = state::prepare(&root, &args.name)?;
    let log_path = dir.join(LOG);
    let mut options = OpenOptions::new();
    options.create(true).truncate(true).read(true).write(true);
    let mut log = options
        .open(&log_path)
        .with_context(|| format!("cannot write {}", log_path.display()))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["detached-mesh", "--name", &args.name]);
    for file in &args.filenames {
        command.arg("-f").arg(std::path::absolute(file)?);
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?);
    let mut child = command.spawn().context("cannot start the detached mesh")?;
    let started = Instant::now();
    loop {
        if child.try_wait()?.is_some() {
            let _ = std::fs::remove_dir_all(&dir);
            let _ = std::fs::remove_dir(&root);
            anyhow::bail!("the mesh has ended:\n{}", last_lines(&mut log)?);
        }
        if let Ok(status) = control::ask(&dir, Question::Status).await
            && status.ready
        {
            return Ok(status);
        }
        anyhow::ensure!(
            started.elapsed() < READY_DEADLINE,
            "the mesh is not ready after {READY_DEADLINE:?} and keeps trying; see `meshctl local \
             status` and `meshctl local logs`, or stop it with `meshctl local down`"
        );
        tokio::time::sleep(POLL).await;
    }
}

/// Leaves the terminal's session, so that closing it does not end the mesh.
pub(super) fn enter_own_session() -> anyhow::Result<()> {
    rustix::process::setsid().context("cannot leave the terminal's session")?;
    Ok(())
}

/// The janitor itself: waits for the end of standard input, then sweeps.
pub(super) fn wait_and_sweep(path: &Path) -> anyhow::Result<()> {
    // Nothing is ever written: this returns when the last writer, the supervisor, is gone.
    io::copy(&mut io::stdin().lock(), &mut io::sink())?;
    let started = Instant::now();
    // A lock may outlast its process for a moment; a directory that is gone was left in order.
    while !state::sweep(path)? && started.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(POLL);
    }
    Ok(())
}

// === impl Janitor ===

impl Janitor {
    pub(super) fn start(program: &Path, path: &Path) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command.arg("janitor").arg("--state").arg(path);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Not in the supervisor's group: what kills that must not kill this.
        let child = command
            .process_group(0)
            .spawn()
            .context("cannot start the janitor")?;
        Ok(Self { child })
    }

    /// Lets it end, after everything was removed in order.
    pub(super) async fn finish(mut self) {
        drop(self.child.stdin.take());
        let started = Instant::now();
        while matches!(self.child.try_wait(), Ok(None))
            && started.elapsed() < Duration::from_secs(6)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn last_lines(log: &mut File) -> io::Result<String> {
    log.rewind()?;
    let mut text = String::new();
    log.take(1024 * 1024).read_to_string(&mut text)?;
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(LAST_LINES)..].join("\n"))
}
