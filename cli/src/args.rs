//! Every command and flag, with the help a person reads.
//!
//! `main.rs` parses these and hands each command its arguments. Values are checked here (names,
//! durations, addresses), so the commands start from what is valid. Flags of `local` and of the
//! commands that look at a running mesh have files of their own.

mod local;
mod look;
mod values;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
pub use local::{JanitorArgs, LocalCommand, LogsArgs, MeshArgs, RunningArgs, StatusArgs, UpArgs};
pub use look::{
    CheckArgs, CheckOutput, DiagnosticsCommand, EdgesArgs, EndpointsArgs, IdentityArgs,
    ProxyMetricsArgs, StatArgs, StatOutput, TargetArgs,
};
use std::ffi::{OsStr, OsString};
use std::time::Duration;
use values::duration;

/// Gossamer, an ultralight service mesh.
#[derive(Debug, Parser)]
#[command(
    name = "meshctl",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a built-in application in a mesh on this machine and watch its traffic.
    Demo(DemoArgs),
    /// Run Kubernetes manifests as processes of this machine, each replica with its sidecar.
    #[command(subcommand)]
    Local(LocalCommand),
    /// Show success rate, requests per second and latency of workloads and services.
    Stat(StatArgs),
    /// Show who talks to whom, and whether it is secured by mutual TLS.
    Edges(EdgesArgs),
    /// Show the certificates that proxies present.
    #[command(after_long_help = look::IDENTITY_HELP)]
    Identity(IdentityArgs),
    /// Check that the mesh is in order: controller, clocks, roots, issuer, every proxy.
    #[command(after_long_help = look::CHECK_HELP)]
    Check(CheckArgs),
    /// Look at what proxies and controller know.
    #[command(subcommand, visible_alias = "dg")]
    Diagnostics(DiagnosticsCommand),
    /// Print the version of this client and of the running mesh.
    Version(VersionArgs),
    /// Print a completion script for a shell.
    Completion(CompletionArgs),
}

/// What a local mesh starts as its own processes: a command line apart, so that neither help nor
/// completions nor tips about typing errors offer it to people.
#[derive(Debug, Parser)]
#[command(name = "meshctl", version, propagate_version = true)]
pub struct Internal {
    #[command(subcommand)]
    pub command: InternalCommand,
}

/// Which process of a local mesh to be.
#[derive(Debug, Subcommand)]
pub enum InternalCommand {
    /// Run a sidecar proxy, configured by LINKERD2_PROXY_* variables.
    Proxy,
    /// Run the controller; `meshctl controller --help` lists its flags.
    #[command(disable_help_flag = true, disable_version_flag = true)]
    Controller(ControllerArgs),
    /// Run a mesh apart from the terminal: what `local up --detach` leaves running.
    DetachedMesh(UpArgs),
    /// Run one part of the demo application.
    DemoApp(DemoAppArgs),
    /// Run a command that ends with the process that started it.
    RunChild(RunChildArgs),
    /// Wait for the end of standard input, then remove what a dead local mesh left.
    Janitor(JanitorArgs),
}

impl Internal {
    /// Whether a command line, the program first, is one of these.
    pub fn is_meant(args: impl IntoIterator<Item = OsString>) -> bool {
        let command = args.into_iter().nth(1);
        let command = command.as_deref().and_then(OsStr::to_str);
        command.is_some_and(InternalCommand::has_subcommand)
    }
}

/// Flags of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Stop by itself after this long (such as 15s or 2m); without it, run until Ctrl-C.
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub run_for: Option<Duration>,
    /// Requests per second of the load generator.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=2000))]
    pub rps: u32,
    /// table is redrawn in place while the demo runs; json prints the last figures only.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Flags of `version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Only the version of this client.
    #[arg(long)]
    pub client: bool,
    #[command(flatten)]
    pub mesh: MeshArgs,
}

/// Flags of `completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// The shell to print a script for.
    #[arg(value_enum)]
    pub shell: CompletionShell,
}

/// Shells with a completion script.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum CompletionShell {
    Bash,
    Zsh,
    Fish,
}

impl From<CompletionShell> for Shell {
    fn from(shell: CompletionShell) -> Self {
        match shell {
            CompletionShell::Bash => Shell::Bash,
            CompletionShell::Zsh => Shell::Zsh,
            CompletionShell::Fish => Shell::Fish,
        }
    }
}

/// The controller's own flags, passed on untouched.
#[derive(Debug, Args)]
pub struct ControllerArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
}

/// Flags of the hidden `demo-app`.
#[derive(Debug, Args)]
pub struct DemoAppArgs {
    #[arg(value_enum)]
    pub role: DemoRole,
}

/// The parts of the demo application.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DemoRole {
    Traffic,
    Web,
    Api,
    Voting,
    Store,
}

/// Flags of the hidden `run-child`.
#[derive(Debug, Args)]
pub struct RunChildArgs {
    /// Process id of the parent to end with.
    #[arg(long)]
    pub parent: i32,
    #[arg(last = true, required = true)]
    pub command: Vec<OsString>,
}

/// For whom to print.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
        Internal::command().debug_assert();
    }

    #[test]
    fn commands_that_look_at_a_mesh_are_read() {
        let parse = |args: &[&str]| Cli::try_parse_from(["meshctl"].iter().chain(args));
        let Ok(Command::Check(check)) =
            parse(&["check", "-o", "short", "--wait", "5m"]).map(|it| it.command)
        else {
            panic!("check")
        };
        assert_eq!(check.wait, Some(Duration::from_secs(300)));
        assert_eq!(check.output, CheckOutput::Short);
        for fine in [
            &["edges"][..],
            &["edges", "deploy/web", "-n", "demo", "-o", "wide"],
            &["edges", "pod", "-A", "--mesh", "demo"],
            &["stat", "--name", "demo"],
            &["check", "--name", "demo"],
            &["diagnostics", "endpoints", "web.demo:80", "--name", "demo"],
            &["version", "--mesh", "demo"],
            &["local", "up", "-f", "x", "--mesh", "demo"],
            &["local", "logs", "--mesh", "demo"],
            &["local", "down", "-f", "x", "-f", "y"],
            &["local", "status", "-f", "x", "-o", "json"],
            &["identity", "web-0", "api-0", "-n", "demo"],
            &["identity", "-l", "app=web", "-o", "json"],
        ] {
            assert!(parse(fine).is_ok(), "{fine:?}");
        }
        for bad in [
            &["edges", "-A", "-n", "demo"][..],
            &["identity", "web-0", "-l", "app=web"],
            &["check", "--wait", "soon"],
            &["check", "-o", "wide"],
            &["local", "down", "-f", "x", "--name", "demo"],
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_typing_error_is_never_answered_with_a_process_of_the_mesh() {
        for typed in ["janitr", "prox", "contoller", "demo-ap", "run-chil"] {
            assert!(!Internal::is_meant(["meshctl", typed].map(OsString::from)));
            let error = Cli::try_parse_from(["meshctl", typed]).unwrap_err();
            let error = error.to_string();
            for name in ["janitor", "proxy'", "controller", "demo-app", "run-child"] {
                assert!(!error.contains(name), "{error}");
            }
        }
    }

    #[test]
    fn the_controllers_flags_pass_through() {
        let args = ["meshctl", "controller", "--source", "/x", "--help"];
        assert!(Internal::is_meant(args.map(OsString::from)));
        let internal = Internal::parse_from(args);
        let InternalCommand::Controller(args) = internal.command else {
            panic!("controller")
        };
        assert_eq!(args.args, ["--source", "/x", "--help"]);
    }
}
