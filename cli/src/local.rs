//! `meshctl local`: a whole mesh as processes of this machine.
//!
//! The commands are here; `supervisor` is the mesh, the modules around it are its parts: manifests
//! are read (`manifest`), become processes (`plan`, `replica`), are compared with what runs
//! (`reconcile`) and run (`pod`, `component`, `process`). `demo` uses the same supervisor.

mod addresses;
mod changes;
mod component;
mod control;
mod daemon;
mod env;
mod files;
mod identity;
mod logs;
mod manifest;
mod mesh;
mod plan;
mod pod;
mod pods;
mod process;
mod progress;
mod readiness;
mod reconcile;
mod replica;
mod state;
mod supervisor;

use crate::args::{JanitorArgs, LogsArgs, Output, RunningArgs, StatusArgs, UpArgs};
use crate::{out, table};
use anyhow::Context;
pub(crate) use control::{PodStatus, Status};
use control::{Question, ask};
pub(crate) use identity::{CONTROL_NAMESPACE, IdentityFiles};
pub(crate) use logs::last_lines;
pub(crate) use manifest::Source;
pub(crate) use progress::{ONE_REQUEST, interrupted};
use state::StateDir;
use std::time::{Duration, Instant};
pub(crate) use supervisor::{Handle, Supervisor};

/// The environment variable that every process of a mesh carries, with its state directory.
const STATE_MARK: &str = "GOSSAMER_STATE_DIR";
/// The one node of a local mesh.
const NODE_NAME: &str = "local";

/// How long `down` waits for pods to end before it says that they do not.
const DOWN_DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Runs manifests until Ctrl-C, or leaves them running.
pub fn up(args: UpArgs) -> anyhow::Result<()> {
    out::runtime()?.block_on(async {
        if args.detach {
            let status = daemon::detach(&args).await?;
            return out::print(&progress::detached(&status));
        }
        supervise(args).await
    })
}

/// Runs manifests apart from the terminal.
pub fn detached(args: UpArgs) -> anyhow::Result<()> {
    out::runtime()?.block_on(async {
        daemon::enter_own_session()?;
        supervise(args).await
    })
}

async fn supervise(args: UpArgs) -> anyhow::Result<()> {
    let mesh = claim(Source::Paths(args.filenames), &args.name).await?;
    let handle = mesh.handle();
    tokio::select! {
        result = mesh.run() => result,
        // The mesh ends by what this asks of it, not by this ending.
        never = progress::show_until_stopped(handle) => match never {},
    }
}

/// Stops a mesh and waits until nothing of it is left.
pub fn down(args: RunningArgs) -> anyhow::Result<()> {
    out::runtime()?.block_on(async {
        let mesh = find_running(&args).await?;
        ask(&mesh.state_dir, Question::Stop).await?;
        let asked = Instant::now();
        while !state::sweep(&mesh.state_dir)? || state::is_running(mesh.pid) {
            anyhow::ensure!(
                asked.elapsed() < DOWN_DEADLINE,
                "the mesh {} (process {}) does not end; `kill -9 {}` ends it and its processes",
                mesh.name,
                mesh.pid,
                mesh.pid
            );
            tokio::time::sleep(POLL).await;
        }
        out::print(&format!("mesh {} stopped\n", mesh.name))
    })
}

/// Shows the controller and the replicas of a mesh.
pub fn status(args: StatusArgs) -> anyhow::Result<()> {
    let mesh = out::runtime()?.block_on(find_running(&args.mesh))?;
    match args.output {
        Output::Json => out::print_json(&mesh),
        Output::Table => {
            out::print(&table::local_status(&mesh))?;
            mesh.warnings
                .iter()
                .for_each(|warning| out::note(&format!("warning: {warning}")));
            if let Some(error) = &mesh.trouble {
                out::note(&format!(
                    "error: what runs is not what the manifests say:\n       {error}"
                ));
            }
            Ok(())
        }
    }
}

/// Prints logs of replicas.
pub fn logs(args: LogsArgs) -> anyhow::Result<()> {
    out::runtime()?.block_on(async {
        let mesh = find(args.mesh.name.as_deref()).await?;
        let print = logs::print(&mesh.state_dir, args.pod.as_deref(), args.follow);
        tokio::select! {
            result = print => result,
            () = interrupted() => Ok(()),
        }
    })
}

/// Waits for the end of a mesh's supervisor and removes what is left.
pub fn janitor(args: JanitorArgs) -> anyhow::Result<()> {
    daemon::wait_and_sweep(&args.state)
}

/// Claims a name and sets a mesh up under it; `Supervisor::run` starts it.
pub(crate) async fn claim(source: Source, name: &str) -> anyhow::Result<Supervisor> {
    let root = state::root();
    // Before there is anything to remove: from here on this process may be killed at any time.
    let program = std::env::current_exe().context("cannot find this program")?;
    let janitor = daemon::Janitor::start(&program, &root.join(name))?;
    let state = StateDir::claim(&root, name, daemon::LOG).await?;
    Supervisor::new(source, name, program, state, janitor)
}

/// Names of the running meshes of this user.
pub(crate) fn running() -> anyhow::Result<Vec<String>> {
    Ok(state::running(&state::root())?)
}

/// The mesh that runs these manifests; without any, the one of this name or the only one.
async fn find_running(args: &RunningArgs) -> anyhow::Result<Status> {
    if args.filenames.is_empty() {
        return find(args.mesh.name.as_deref()).await;
    }
    let wanted = manifest::absolute(&args.filenames);
    let names = running()?;
    for name in &names {
        // One that does not answer may still be named.
        if let Ok(mesh) = find(Some(name)).await
            && wanted.iter().all(|path| mesh.manifests.contains(path))
        {
            return Ok(mesh);
        }
    }
    match names.as_slice() {
        [] => anyhow::bail!("no mesh is running on this machine; {START}"),
        names => anyhow::bail!(
            "no mesh runs these manifests; there is {}: say which with --name instead",
            names.join(", ")
        ),
    }
}

/// The mesh of this name, or the only one there is.
pub(crate) async fn find(name: Option<&str>) -> anyhow::Result<Status> {
    let names = running()?;
    let name = match (name, names.as_slice()) {
        (Some(name), names) if names.iter().any(|running| running == name) => name,
        (Some(name), []) => anyhow::bail!("no mesh named {name} is running; {START}"),
        (Some(name), names) => {
            anyhow::bail!(
                "no mesh named {name} is running; there is {}",
                names.join(", ")
            )
        }
        (None, [name]) => name,
        (None, []) => anyhow::bail!("no mesh is running on this machine; {START}"),
        (None, names) => anyhow::bail!(
            "several meshes are running: {}; say which with --mesh NAME",
            names.join(", ")
        ),
    };
    ask(&state::root().join(name), Question::Status)
        .await
        .with_context(|| format!("mesh {name} cannot be asked"))
}

/// What the controller of a mesh reads besides the pods; empty if it cannot be read.
pub(crate) fn manifests_of(mesh: &Status) -> String {
    let path = supervisor::objects(&mesh.state_dir);
    std::fs::read_to_string(path).unwrap_or_default()
}

const START: &str = "start one with `meshctl demo` or `meshctl local up -f MANIFESTS`";

/// Names of the workloads a source runs, and what it warns of.
#[cfg(test)]
pub(crate) fn check(source: &Source) -> (Vec<String>, Vec<String>) {
    let plan = plan::plan(manifest::load(source).expect("valid manifests"));
    let names = plan.workloads.into_iter().map(|workload| workload.key.name);
    (names.collect(), plan.warnings)
}
