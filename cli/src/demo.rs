//! `meshctl demo`: a built-in application in a local mesh, and a live table of its traffic.
//!
//! It is `local up` on an embedded manifest, watched through the controller's stats API like any
//! other mesh: `meshctl stat` in a second terminal shows the same.

mod apps;
mod screen;

use crate::api::{ApiError, Kind};
use crate::args::{DemoAppArgs, DemoArgs, Output};
use crate::local::{self, Handle, Source, Status, interrupted};
use crate::{edges, out, stat};
use screen::{Figures, Screen};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

const MANIFEST: &str = include_str!("demo/demo.yaml");
const NAMESPACE: &str = "demo";
/// The load generator.
const LOAD: &str = "traffic";
const STATS_PORT: u16 = 8085;

const START_DEADLINE: Duration = Duration::from_secs(30);
/// Restarts of one process after which waiting for it is no use.
const HOPELESS: u32 = 4;
const LOG_LINES: usize = 15;
const REFRESH: Duration = Duration::from_secs(1);
/// Figures of a shorter time than `stat` shows: what changes is seen at once.
const WINDOW: Duration = Duration::from_secs(10);
/// The longest the controller remembers.
const LONGEST_WINDOW: Duration = Duration::from_secs(600);

/// Runs the demo.
pub fn run(args: DemoArgs) -> anyhow::Result<()> {
    out::runtime()?.block_on(async {
        let text = MANIFEST.replace("{{rps}}", &args.rps.to_string());
        let mesh = local::claim(
            Source::Embedded {
                name: "demo.yaml",
                text,
            },
            &free_name()?,
        )
        .await?;
        let handle = mesh.handle();
        let mesh = tokio::spawn(mesh.run());
        let shown = show(&args, &handle).await;
        // The mesh ends in order first, then it is told how the demo went.
        let ended = stop(mesh, &handle).await;
        // Why it ended says more than that it did.
        ended?;
        let figures = shown?;
        match args.output {
            Output::Json => out::print_json(&figures.rows),
            Output::Table => Ok(()),
        }
    })
}

/// Runs one part of the demo application.
pub fn app(args: DemoAppArgs) -> anyhow::Result<()> {
    apps::run(args.role)
}

/// `demo`, or with a process id while another demo runs.
fn free_name() -> anyhow::Result<String> {
    let taken = local::running()?.iter().any(|name| name == "demo");
    Ok(if taken {
        format!("demo-{}", std::process::id())
    } else {
        "demo".to_string()
    })
}

/// Draws until the time is up or somebody interrupts; gives the figures of all of it.
async fn show(args: &DemoArgs, handle: &Handle) -> anyhow::Result<Figures> {
    let mut screen = Screen::new(args.output == Output::Table);
    screen.line("starting the demo: web calls api (HTTP/1.1), voting (gRPC) and store (TCP)")?;
    let started = Instant::now();
    let status = tokio::select! {
        status = ready(handle) => status?,
        () = interrupted() => return Ok(Figures::default()),
    };
    let ip = status
        .controller_ip
        .map(|ip| ip.to_string())
        .unwrap_or_default();
    screen.line(&format!(
        "{} replicas with sidecars are up after {:.1}s; controller at {ip}",
        status.pods.len(),
        started.elapsed().as_secs_f64(),
    ))?;
    screen.line("api-2 is slow and fails often: see how little traffic it gets; Ctrl-C stops\n")?;
    let addr = SocketAddr::new(ip.parse()?, STATS_PORT);
    let begun = Instant::now();
    let mut figures = Figures::default();
    let end = async {
        match args.run_for {
            Some(run_for) => sleep(run_for).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        drawn = draw(&mut screen, addr, &mut figures) => return drawn.map(|never| match never {}),
        () = end => {}
        () = interrupted() => {}
        () = crashed(handle) => anyhow::bail!("the mesh has ended by itself"),
    }
    let window = begun.elapsed().clamp(WINDOW, LONGEST_WINDOW);
    figures.update(self::figures(addr, window).await);
    screen.last(&figures, begun.elapsed())?;
    Ok(figures)
}

/// Draws for as long as it is polled; ends only when nobody can see it.
async fn draw(
    screen: &mut Screen,
    addr: SocketAddr,
    latest: &mut Figures,
) -> anyhow::Result<Infallible> {
    loop {
        latest.update(figures(addr, WINDOW).await);
        screen.draw(latest)?;
        sleep(REFRESH).await;
    }
}

/// Stops the mesh; a further signal stops it at once.
async fn stop(mut mesh: JoinHandle<anyhow::Result<()>>, handle: &Handle) -> anyhow::Result<()> {
    handle.stop();
    let asked = Instant::now();
    loop {
        tokio::select! {
            ended = &mut mesh => return ended?,
            () = interrupted() => if asked.elapsed() > local::ONE_REQUEST {
                handle.stop();
            },
        }
    }
}

/// Waits until everything is ready, and says why it never will be.
async fn ready(handle: &Handle) -> anyhow::Result<Status> {
    let mut status = handle.status.clone();
    let deadline = Instant::now() + START_DEADLINE;
    loop {
        let current = status.borrow_and_update().clone();
        if current.ready {
            return Ok(current);
        }
        if let Some(reason) = failure(&current, HOPELESS) {
            anyhow::bail!("the demo cannot start: {reason}");
        }
        match timeout_at(deadline, status.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => anyhow::bail!("the mesh has ended before it was ready"),
            Err(_) => {
                let reason = failure(&current, 0).unwrap_or_default();
                anyhow::bail!("the demo is not ready after {START_DEADLINE:?}: {reason}");
            }
        }
    }
}

/// What the first process with at least so many restarts that is not ready says, and its log.
fn failure(status: &Status, restarts: u32) -> Option<String> {
    let of_pods = status.pods.iter().flat_map(|pod| {
        pod.processes
            .iter()
            .map(move |process| (format!("{}.{}", pod.name, process.name), process))
    });
    let all = std::iter::once(("controller".to_string(), &status.controller)).chain(of_pods);
    let mut failing = all.filter(|(_, process)| !process.ready && process.restarts >= restarts);
    let (log, process) = failing.next()?;
    let lines = local::last_lines(&status.state_dir, &log, LOG_LINES);
    let again = process.restarts;
    Some(format!(
        "{log} {} ({again} restarts); its last lines:\n{lines}",
        process.reason
    ))
}

async fn crashed(handle: &Handle) {
    let mut status = handle.status.clone();
    while status.changed().await.is_ok() {}
}

/// Of all but the load generator: nobody sends it anything that could be counted.
async fn figures(addr: SocketAddr, window: Duration) -> Result<Figures, ApiError> {
    let workloads = [Kind::Deployment, Kind::StatefulSet];
    let mut rows = stat::fetch(addr, &workloads, Some(NAMESPACE), None, window).await?;
    rows.retain(|row| row.name != LOAD);
    let pods = stat::fetch(addr, &[Kind::Pod], Some(NAMESPACE), None, window).await?;
    rows.extend(pods.into_iter().filter(|row| row.name.starts_with("api-")));
    let edges = edges::of_namespace(addr, NAMESPACE).await?;
    Ok(Figures {
        rows,
        edges,
        away: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_manifest_is_complete() {
        let text = MANIFEST.replace("{{rps}}", "50");
        assert!(!text.contains("{{"));
        let (workloads, warnings) = local::check(&Source::Embedded {
            name: "demo.yaml",
            text,
        });
        assert_eq!(workloads, ["traffic", "web", "voting", "store", "api"]);
        assert_eq!(warnings, Vec::<String>::new());
    }
}
