//! `meshctl`: one arm per command; what each does lives in the library module of its name.
//!
//! Hidden commands are what a local mesh starts as its own processes.

use clap::Parser;
use meshctl::args::{Cli, Command, Internal, InternalCommand, LocalCommand};
use meshctl::{
    check, child, completion, demo, diagnostics, edges, identity, local, out, parts, stat, version,
};
use std::process::ExitCode;

// Sidecars and controller run from this binary too: their memory goes back after a burst.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    if Internal::is_meant(std::env::args_os()) {
        return internal(Internal::parse().command);
    }
    match Cli::parse().command {
        Command::Demo(args) => out::exit(demo::run(args)),
        Command::Local(LocalCommand::Up(args)) => out::exit(local::up(args)),
        Command::Local(LocalCommand::Down(args)) => out::exit(local::down(args)),
        Command::Local(LocalCommand::Status(args)) => out::exit(local::status(args)),
        Command::Local(LocalCommand::Logs(args)) => out::exit(local::logs(args)),
        Command::Stat(args) => out::exit(stat::run(args)),
        Command::Edges(args) => out::exit(edges::run(args)),
        Command::Identity(args) => out::exit(identity::run(args)),
        Command::Check(args) => out::exit_with(check::run(args)),
        Command::Diagnostics(command) => out::exit(diagnostics::run(command)),
        Command::Version(args) => out::exit(version::run(args)),
        Command::Completion(args) => out::exit(completion::run(args)),
    }
}

fn internal(command: InternalCommand) -> ExitCode {
    match command {
        InternalCommand::Proxy => parts::proxy(),
        InternalCommand::Controller(args) => parts::controller(args),
        InternalCommand::DetachedMesh(args) => out::exit(local::detached(args)),
        InternalCommand::DemoApp(args) => out::exit(demo::app(args)),
        InternalCommand::RunChild(args) => out::exit(child::run(args)),
        InternalCommand::Janitor(args) => out::exit(local::janitor(args)),
    }
}
