//! `meshctl completion`: scripts for shells, made from the same description as the help.
//!
//! A script goes to stdout; where it belongs is the shell's affair.

use crate::args::{Cli, CompletionArgs};
use crate::out;
use clap::CommandFactory;
use clap_complete::Shell;

/// Prints the script of one shell.
pub fn run(args: CompletionArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(
        Shell::from(args.shell),
        &mut Cli::command(),
        "meshctl",
        &mut script,
    );
    out::print(&String::from_utf8(script)?)
}
