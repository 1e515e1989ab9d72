//! Flags of the commands that look at a running mesh.
//!
//! Part of `args`; what the commands show is their own affair.

use super::Output;
use super::values::{duration, mesh_name, window};
use clap::{Args, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::time::Duration;

/// Where the mesh to look at is.
#[derive(Debug, Args)]
pub struct TargetArgs {
    /// Name of the local mesh; not needed while only one runs.
    #[arg(long, visible_alias = "name", value_name = "NAME", value_parser = mesh_name, conflicts_with = "api_addr")]
    pub mesh: Option<String>,
    /// Address of the controller's stats API, for a mesh that runs elsewhere.
    #[arg(long, value_name = "IP:PORT")]
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

/// Flags of `edges`.
#[derive(Debug, Args)]
pub struct EdgesArgs {
    /// deploy, sts, pod or ns, optionally with /NAME [default: whatever owns the pods].
    #[arg(value_name = "KIND[/NAME]")]
    pub resource: Option<String>,
    /// Only edges of the object of this name.
    pub name: Option<String>,
    /// Only edges that begin or end in this namespace [default: all].
    #[arg(short, long, value_name = "NS", conflicts_with = "all_namespaces")]
    pub namespace: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// A table for people, a wide one with both identities, or JSON for programs.
    #[arg(short, long, value_enum, default_value_t = StatOutput::Table)]
    pub output: StatOutput,
    #[command(flatten)]
    pub target: TargetArgs,
}

/// Flags of `identity`.
#[derive(Debug, Args)]
pub struct IdentityArgs {
    /// Names of pods [default: every meshed pod].
    #[arg(value_name = "POD", conflicts_with = "selector")]
    pub pods: Vec<String>,
    /// Only this namespace [default: all].
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,
    /// Only pods with these labels, such as app=web,tier!=cache.
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<String>,
    /// Text for people or JSON for programs.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    #[command(flatten)]
    pub target: TargetArgs,
}

pub(super) const IDENTITY_HELP: &str = "\
The certificates are those that a proxy presents to its clients: each pod's inbound port is asked by
TLS for its identity, as another proxy would ask it, but nothing is verified. `meshctl check` says
whether what is shown is in order.";

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// All checks, only those that are not in order, or JSON for programs.
    #[arg(short, long, value_enum, default_value_t = CheckOutput::Table)]
    pub output: CheckOutput,
    /// Check again until nothing fails, for this long (such as 30s or 5m).
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub wait: Option<Duration>,
    /// Name of the local mesh; not needed while only one runs.
    #[arg(long, visible_alias = "name", value_name = "NAME", value_parser = mesh_name)]
    pub mesh: Option<String>,
}

/// For whom to print checks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum CheckOutput {
    Table,
    Short,
    Json,
}

pub(super) const CHECK_HELP: &str = "\
√ is in order, ‼ will become a problem, × is one. Each that is not in order says why, and what to
do next. The exit status is 1 if anything is ×, and 0 otherwise.";

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
    #[arg(long, visible_alias = "name", value_name = "NAME", value_parser = mesh_name, conflicts_with = "destination_addr")]
    pub mesh: Option<String>,
    /// Address of the destination service, for a mesh that runs elsewhere.
    #[arg(long, value_name = "IP:PORT")]
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

/// For whom to print, and how much.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum StatOutput {
    Table,
    Json,
    /// The table with more columns.
    Wide,
}
