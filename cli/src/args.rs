//! Every command and flag, with the help a person reads.
//!
//! `main.rs` parses these and hands each command its arguments. Values are checked here (names,
//! durations, addresses), so the commands start from what is valid.

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Look at what proxies and controller know.
    #[command(subcommand, visible_alias = "dg")]
    Diagnostics(DiagnosticsCommand),
    /// Print the version of this client and of the running mesh.
    Version(VersionArgs),
    /// Print a completion script for a shell.
    Completion(CompletionArgs),
    /// Run a sidecar proxy, configured by LINKERD2_PROXY_* variables.
    #[command(hide = true)]
    Proxy,
    /// Run the controller; `meshctl controller --help` lists its flags.
    #[command(hide = true, disable_help_flag = true, disable_version_flag = true)]
    Controller(ControllerArgs),
    /// Run one part of the demo application.
    #[command(hide = true)]
    DemoApp(DemoAppArgs),
    /// Run a command that ends with the process that started it.
    #[command(hide = true)]
    RunChild(RunChildArgs),
    /// Wait for the end of standard input, then remove what a dead local mesh left.
    #[command(hide = true)]
    Janitor(JanitorArgs),
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

/// A mesh on this machine.
#[derive(Debug, Subcommand)]
pub enum LocalCommand {
    /// Start a mesh from manifests and keep it running.
    #[command(after_long_help = UP_HELP)]
    Up(UpArgs),
    /// Stop a running mesh and remove its state.
    Down(MeshArgs),
    /// Show the replicas of a running mesh.
    Status(StatusArgs),
    /// Print what replicas have written.
    Logs(LogsArgs),
}

const UP_HELP: &str = "\
How manifests become processes:
  Deployments, StatefulSets and Pods run their containers' `command` and `args` on this machine, one
  set of processes per replica, each replica with an IP address of its own (127.64.0.0/10) and a
  sidecar. `meshctl` as the first word of a command means this very program. Services,
  ServiceAccounts, Namespaces and EndpointSlices go to the controller as they are; ConfigMaps and
  Secrets serve as sources of variables. What a process cannot have (images, volumes, resources) is
  reported as a warning. Changed manifests are applied while the mesh runs.

What the application finds in its environment:
  HOST, PORT, PORT_<NAME>       where to listen: the first containerPort, and each named one
  POD_IP, POD_NAME, POD_NAMESPACE
  http_proxy, HTTP_PROXY        its sidecar: plain HTTP to any service, such as http://api.demo:8080/
  no_proxy                      localhost,127.0.0.1
  <SERVICE>_SERVICE_HOST/_PORT[_<NAME>]
                                for every service of its namespace at its start: an address of its
                                sidecar that leads there, for gRPC and plain TCP

A pod annotated or labelled `linkerd.io/inject: disabled` runs without a sidecar: it has to listen on
$HOST:$PORT (its own address and the containerPort), and gets neither http_proxy nor services.";

/// Flags of `local up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// A manifest, or a directory of manifests (*.yaml, *.yml, *.json); may be repeated.
    #[arg(short, long = "filename", value_name = "FILE|DIR", required = true)]
    pub filenames: Vec<PathBuf>,
    /// Name of the mesh, to run several.
    #[arg(long, default_value = "default", value_parser = mesh_name)]
    pub name: String,
    /// Return as soon as the mesh is ready and leave it running.
    #[arg(long)]
    pub detach: bool,
    /// Marks the process that `--detach` leaves running.
    #[arg(long, hide = true, conflicts_with = "detach")]
    pub detached: bool,
}

/// Which local mesh.
#[derive(Debug, Args)]
pub struct MeshArgs {
    /// Name of the mesh; not needed while only one runs.
    #[arg(long = "name", value_name = "NAME", value_parser = mesh_name)]
    pub name: Option<String>,
}

/// Flags of `local status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub mesh: MeshArgs,
    /// A table for people or JSON for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
}

/// Flags of `local logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Start of a pod's name (web, api-0), or controller; all replicas without it.
    pub pod: Option<String>,
    /// Go on printing what is written.
    #[arg(short, long)]
    pub follow: bool,
    #[command(flatten)]
    pub mesh: MeshArgs,
}

/// Where the mesh to look at is.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Name of the local mesh; not needed while only one runs.
    #[arg(long, value_name = "NAME", value_parser = mesh_name, conflicts_with = "api_addr")]
    pub mesh: Option<String>,
    /// Address of the controller's stats API, for a mesh that runs elsewhere.
    #[arg(long, value_name = "HOST:PORT")]
    pub api_addr: Option<SocketAddr>,
}

/// Flags of `stat`.
#[derive(Debug, Args)]
pub struct StatArgs {
    /// deploy, sts, svc, pod or ns, optionally with /NAME [default: deploy and sts].
    #[arg(value_name = "KIND[/NAME]")]
    pub resource: Option<String>,
    /// Only the object of this name.
    pub name: Option<String>,
    /// Only this namespace [default: all; they are told apart when there are several].
    #[arg(short, long, value_name = "NS", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// All namespaces, with a column that names them.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// How far back to look (5s to 10m).
    #[arg(short = 't', long, value_name = "DURATION", default_value = "1m", value_parser = window)]
    pub time_window: Duration,
    /// A table for people, a wide one with bytes per second, or JSON for programs.
    #[arg(short, long, value_enum, default_value_t = StatOutput::Table)]
    pub output: StatOutput,
    /// Print again every two seconds, until Ctrl-C.
    #[arg(short, long)]
    pub watch: bool,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// What `diagnostics` can show.
#[derive(Debug, Subcommand)]
pub enum DiagnosticsCommand {
    /// Ask the controller for the endpoints of authorities, as a proxy does.
    #[command(visible_alias = "ep")]
    Endpoints(EndpointsArgs),
    /// Print the metrics page of the proxies of a pod or workload.
    ProxyMetrics(ProxyMetricsArgs),
}

/// Flags of `diagnostics endpoints`.
#[derive(Debug, Args)]
pub struct EndpointsArgs {
    /// NAME.NAMESPACE.svc.cluster.local:PORT; what follows the namespace may be left out.
    #[arg(required = true, value_name = "AUTHORITY")]
    pub authorities: Vec<String>,
    /// A table for people or JSON for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// Context token sent with the question.
    #[arg(long, default_value = "")]
    pub token: String,
    /// Name of the local mesh; not needed while only one runs.
    #[arg(long, value_name = "NAME", value_parser = mesh_name, conflicts_with = "destination_addr")]
    pub mesh: Option<String>,
    /// Address of the destination service, for a mesh that runs elsewhere.
    #[arg(long, value_name = "HOST:PORT")]
    pub destination_addr: Option<SocketAddr>,
}

/// Flags of `diagnostics proxy-metrics`.
#[derive(Debug, Args)]
pub struct ProxyMetricsArgs {
    /// POD, pod/NAME, deploy/NAME or sts/NAME.
    #[arg(value_name = "POD|KIND/NAME")]
    pub resource: String,
    /// Only this namespace.
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,
    #[command(flatten)]
    pub target: TargetArgs,
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

/// Flags of the hidden `janitor`.
#[derive(Debug, Args)]
pub struct JanitorArgs {
    /// State directory to remove.
    #[arg(long)]
    pub state: PathBuf,
}

/// For whom to print.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Output {
    Table,
    Json,
}

/// For whom to print figures.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum StatOutput {
    Table,
    Json,
    /// The table with bytes per second.
    Wide,
}

/// `90s`, `2m`, `1m30s`, `500ms`, `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let hint = || "give a number with its unit, such as 15s, 2m or 1m30s".to_string();
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(hint)?;
        let number: u64 = rest[..digits].parse().map_err(|_| hint())?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |end| digits + end);
        let millis = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(hint()),
        };
        total += Duration::from_millis(number.checked_mul(millis).ok_or_else(hint)?);
        rest = &rest[unit_end..];
    }
    if total.is_zero() {
        Err(hint())
    } else {
        Ok(total)
    }
}

fn window(text: &str) -> Result<Duration, String> {
    let window = duration(text)?;
    if (Duration::from_secs(5)..=Duration::from_secs(600)).contains(&window) {
        Ok(window)
    } else {
        Err("the controller keeps from 5s to 10m".to_string())
    }
}

/// A mesh's name is a folder's and a log line's, so it is kept to a DNS label.
fn mesh_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=40).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('-') {
        Ok(text.to_string())
    } else {
        Err("up to 40 of a-z, 0-9 and -, not starting with -".to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_need_units_and_add_up() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in [
            "",
            "15",
            "s",
            "1x",
            "0s",
            "1.5s",
            "99999999999999999999h",
            "18446744073709551615h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(window("4s").is_err() && window("11m").is_err() && window("5s").is_ok());
    }

    #[test]
    fn a_mesh_name_cannot_leave_its_directory() {
        assert!(mesh_name("team-a").is_ok());
        for bad in ["", "..", "a/b", "-a", "A", &"x".repeat(41)] {
            assert!(mesh_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_controllers_flags_pass_through() {
        let cli = Cli::parse_from(["meshctl", "controller", "--source", "/x", "--help"]);
        let Command::Controller(args) = cli.command else {
            panic!("controller")
        };
        assert_eq!(args.args, ["--source", "/x", "--help"]);
    }
}
