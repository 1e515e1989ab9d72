//! The shim in front of every process of a local mesh: it ends when its parent does.
//!
//! A death signal can only be asked for by the process itself, before it becomes the command, so
//! the supervisor starts `meshctl run-child -- COMMAND` and not the command.

use crate::args::RunChildArgs;
use anyhow::Context;
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Becomes the command; returns only if that fails.
pub fn run(args: RunChildArgs) -> anyhow::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot set the death signal")?;
    // The parent may have died before the signal was set: then nobody waits for this command.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get());
    anyhow::ensure!(
        parent == Some(args.parent),
        "process {} has ended",
        args.parent
    );
    let (program, rest) = args.command.split_first().context("no command given")?;
    let error = Command::new(program).args(rest).exec();
    Err(anyhow::anyhow!(
        "cannot run {}: {error}; is it installed and on PATH?",
        program.to_string_lossy()
    ))
}
