//! Flags of `meshctl local`, and how manifests become a mesh, in words.
//!
//! Part of `args`; nothing is read or started here.

use super::Output;
use super::values::mesh_name;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// A mesh on this machine.
#[derive(Debug, Subcommand)]
pub enum LocalCommand {
    /// Start a mesh from manifests and keep it running.
    #[command(after_long_help = UP_HELP)]
    Up(UpArgs),
    /// Stop a running mesh and remove its state.
    Down(RunningArgs),
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
  Secrets serve as sources of variables. A List, as `kubectl get -o yaml` writes it, counts as its
  items. What a process cannot have (images, volumes, resources) is reported as a warning. Changed
  manifests are applied while the mesh runs.

What the application finds in its environment:
  HOST, PORT, PORT_<NAME>       where to listen: the first containerPort, and each named one
  POD_IP, POD_NAME, POD_NAMESPACE
  http_proxy, HTTP_PROXY        its sidecar: plain HTTP to any service, such as http://api.demo:8080/
  no_proxy                      localhost,127.0.0.1
  <SERVICE>_SERVICE_HOST/_PORT[_<NAME>]
                                for every service of its namespace at its start: an address of its
                                sidecar that leads there, for gRPC and plain TCP

Identity:
  Sidecars speak mutual TLS to each other, with nothing to configure. The mesh makes a root and an
  issuer of its own when it starts; a replica is who its serviceAccountName says (or `default`). To
  bring other ones, replace these files below the state directory (`meshctl local status -o json`)
  while the mesh runs; they are in force within two seconds, and no connection is lost if old and
  new roots overlap:
    identity/trust-anchors.pem         roots that are trusted: add the new one, later drop the old
    identity/issuer/{crt,key}.pem      what signs the certificates of replicas, for 24 h each
    identity/root-key.pem              key of the mesh's own root, to sign another issuer with

A pod annotated or labelled `linkerd.io/inject: disabled` runs without a sidecar: it has to listen on
$HOST:$PORT (its own address and the containerPort), and gets neither http_proxy nor services.";

/// Flags of `local up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// A manifest, or a directory of manifests (*.yaml, *.yml, *.json); may be repeated.
    #[arg(short, long = "filename", value_name = "FILE|DIR", required = true)]
    pub filenames: Vec<PathBuf>,
    /// Name of the mesh, to run several.
    #[arg(long, visible_alias = "mesh", default_value = "default", value_parser = mesh_name)]
    pub name: String,
    /// Return as soon as the mesh is ready and leave it running.
    #[arg(long)]
    pub detach: bool,
}

/// Which local mesh.
#[derive(Debug, Args)]
pub struct MeshArgs {
    /// Name of the mesh; not needed while only one runs.
    #[arg(long, visible_alias = "mesh", value_name = "NAME", value_parser = mesh_name)]
    pub name: Option<String>,
}

/// Which running mesh; also by what `up` was given.
#[derive(Debug, Args)]
pub struct RunningArgs {
    #[command(flatten)]
    pub mesh: MeshArgs,
    /// The manifests that it runs, instead of its name.
    #[arg(
        short,
        long = "filename",
        value_name = "FILE|DIR",
        conflicts_with = "name"
    )]
    pub filenames: Vec<PathBuf>,
}

/// Flags of `local status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    pub mesh: RunningArgs,
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

/// Flags of the hidden `janitor`.
#[derive(Debug, Args)]
pub struct JanitorArgs {
    /// State directory to remove.
    #[arg(long)]
    pub state: PathBuf,
}
