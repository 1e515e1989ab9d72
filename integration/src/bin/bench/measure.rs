//! Runs every scenario against every peer, interleaved, and collects the figures.

use crate::{
    Args,
    load::Outcome,
    peers::{Group, Kind, Mesh, Peer, Setup, server_id},
    report::{Figure, Results},
    scenario::{Port, Scenario},
};
use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use integration::{
    addr, bins,
    control::{ControlPlane, proto::Policy},
    eventually,
    process::Process,
};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Where everything but the proxies runs.
const CORE: usize = 1;
/// How long a peer may settle before its memory is read.
const SETTLE: Duration = Duration::from_millis(500);
/// How long after the last load memory is read again.
const AFTER: Duration = Duration::from_secs(5);
/// How long connections idle before their memory is read.
const IDLE: Duration = Duration::from_secs(20);
const IDLE_CONNECTIONS: u64 = 1000;

/// What all rounds have in common.
struct Plan {
    setup: Setup,
    kinds: Vec<Kind>,
    scenarios: Vec<Scenario>,
    seconds: u64,
    rate: u64,
}

/// Runs the whole benchmark.
pub(crate) fn run(args: Args) -> Result<()> {
    let repeat = args.repeat.unwrap_or(if args.quick { 1 } else { 3 });
    let wanted = or_all(&args.peers);
    let proxy = match &args.proxy {
        Some(path) => path.clone(),
        None if wanted.iter().any(|kind| kind.is_ours()) => bins::linkerd_proxy().to_owned(),
        None => PathBuf::new(),
    };
    pin_to_other_core()?;

    let (setup, _backend) = setup(&args, proxy)?;
    let plan = Plan {
        kinds: installed(wanted, &setup),
        setup,
        scenarios: or_all(&args.scenarios),
        seconds: args.seconds.unwrap_or(if args.quick { 2 } else { 5 }),
        rate: args.rate,
    };
    let mut results = Results::new(repeat, plan.seconds, args.rate, args.endpoints);
    plan.announce(&mut results)?;
    for round in 1..=repeat {
        eprintln!("round {round} of {repeat}");
        plan.round(&mut results)?;
    }
    results.write(args.out.as_deref())
}

/// What was asked for; everything when nothing was.
fn or_all<T: ValueEnum + Clone>(wanted: &[T]) -> Vec<T> {
    if wanted.is_empty() {
        T::value_variants().to_vec()
    } else {
        wanted.to_vec()
    }
}

// === impl Plan ===

impl Plan {
    /// Columns of the report, and what is known without a run.
    fn announce(&self, results: &mut Results) -> Result<()> {
        for &kind in &self.kinds {
            results.peer(kind, self.setup.version(kind));
            if kind.group() == Group::Single
                && let Some(program) = kind.program()
            {
                let path = self.setup.path(program)?.canonicalize()?;
                let size = std::fs::metadata(path)?.len();
                results.add(kind, Figure::BinaryMb, size as f64 / 1e6);
            }
        }
        Ok(())
    }

    fn round(&self, results: &mut Results) -> Result<()> {
        let mut peers = Vec::new();
        for &kind in &self.kinds {
            let peer = self.setup.start(kind)?;
            if kind != Kind::None {
                results.add(kind, Figure::StartMs, peer.start.as_secs_f64() * 1e3);
            }
            peers.push(peer);
        }
        std::thread::sleep(SETTLE);
        let mut highest = vec![0; peers.len()];
        for &scenario in &self.scenarios {
            for (peer, highest) in peers.iter().zip(&mut highest) {
                let Some(target) = peer.target(scenario) else {
                    continue;
                };
                if scenario == Scenario::Memory {
                    self.idle_memory(peer, target, results)?;
                } else {
                    let rss = self.load(peer, scenario, target, results)?;
                    *highest = rss.max(*highest);
                }
            }
        }
        if self.scenarios.iter().any(|s| *s != Scenario::Memory) {
            memory_after(&peers, &highest, results);
        }
        Ok(())
    }

    /// Memory before any load, and what each idle connection adds to it.
    fn idle_memory(&self, peer: &Peer, target: SocketAddr, results: &mut Results) -> Result<()> {
        let Some(idle) = peer.rss_kib() else {
            return Ok(());
        };
        results.add(peer.kind, Figure::RssIdleMib, idle as f64 / 1024.0);
        let mut command = self.load_command(Scenario::Memory, target)?;
        command.stdout(Stdio::piped());
        let mut holder = Process::spawn("bench load", command);
        let held = eventually::blocking(Duration::from_secs(30), || {
            (holder.output().contains("holding") || !holder.is_running()).then_some(())
        });
        ensure!(
            held.is_some() && holder.is_running(),
            "{} does not hold {IDLE_CONNECTIONS} connections: {}",
            peer.kind.name(),
            holder.output()
        );
        std::thread::sleep(IDLE);
        let full = peer.rss_kib().unwrap_or(idle);
        let each = full.saturating_sub(idle) as f64 / IDLE_CONNECTIONS as f64;
        results.add(peer.kind, Figure::KibPerConnection, each);
        Ok(())
    }

    /// One run; returns the highest memory seen, in KiB.
    fn load(
        &self,
        peer: &Peer,
        scenario: Scenario,
        target: SocketAddr,
        results: &mut Results,
    ) -> Result<u64> {
        let cpu_before = peer.cpu_time(scenario);
        let mut child = self
            .load_command(scenario, target)?
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the load generator")?;
        let mut rss = 0;
        while child.try_wait()?.is_none() {
            rss = rss.max(peer.rss_kib().unwrap_or(0));
            std::thread::sleep(Duration::from_millis(50));
        }
        let output = child.wait_with_output()?;
        let (name, through) = (scenario.name(), peer.kind.name());
        let outcome: Outcome = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("no result of {name} through {through}"))?;
        let cpu = cpu_before
            .zip(peer.cpu_time(scenario))
            .map(|(before, after)| after - before);
        eprintln!("  {name:<22} {through:<13} {outcome:?}");
        results.outcome(peer.kind, scenario, &outcome, cpu);
        Ok(rss)
    }

    fn load_command(&self, scenario: Scenario, target: SocketAddr) -> Result<Command> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("load")
            .args(scenario.load_args(self.rate))
            .args(["--addr", &target.to_string()])
            .args(["--seconds", &self.seconds.to_string()]);
        if scenario.is_handshake() {
            let certificate = &self.setup.mesh.files.client;
            command.arg("--certificate").arg(certificate);
            command.args(["--name", &server_id()]);
        }
        Ok(command)
    }
}

/// The highest memory that was seen, and what is left of it when all load is over for a while.
fn memory_after(peers: &[Peer], highest: &[u64], results: &mut Results) {
    std::thread::sleep(AFTER);
    for (peer, highest) in peers.iter().zip(highest) {
        if let Some(rss) = peer.rss_kib() {
            results.add(peer.kind, Figure::RssLoadMib, *highest as f64 / 1024.0);
            results.add(peer.kind, Figure::RssAfterMib, rss as f64 / 1024.0);
        }
    }
}

/// What serves all peers: control plane, identities, and the backend.
fn setup(args: &Args, proxy: PathBuf) -> Result<(Setup, Process)> {
    let ips: Vec<_> = (0..args.endpoints.max(1))
        .map(|_| addr::unique_ip())
        .collect();
    let backend = backend(&ips)?;
    let dir = tempfile::tempdir()?;
    let setup = Setup {
        control: control(&ips),
        mesh: Mesh::new(dir.path())?,
        backend: ips[0],
        proxy,
        envoy: args.envoy.clone().map(inside),
        dir,
    };
    Ok((setup, backend))
}

fn backend(ips: &[Ipv4Addr]) -> Result<Process> {
    let mut command = Command::new(std::env::current_exe()?);
    let list: Vec<_> = ips.iter().map(ToString::to_string).collect();
    command.args(["backend", "--ips", &list.join(",")]);
    let backend = Process::spawn("bench backend", command);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !backend.output().contains("ready") {
        ensure!(
            Instant::now() < deadline,
            "the backend does not start: {}",
            backend.output()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(backend)
}

/// Knows the Services; endpoints of the meshed ones come with the pairs.
fn control(ips: &[Ipv4Addr]) -> ControlPlane {
    let control = ControlPlane::start();
    for port in Port::ALL {
        let endpoints: Vec<_> = ips
            .iter()
            .map(|ip| SocketAddr::from((*ip, port as u16)))
            .collect();
        control.endpoints(&port.service(), &endpoints);
        for path in [port.service(), port.meshed_service()] {
            // All streams of a run start at once, before the first connection is there.
            let policy = Policy::new(&path).queue(10_000, Duration::from_secs(3));
            control.policy(&path, &policy);
        }
    }
    control
}

/// Where Envoy is when `path` is the directory that holds it.
fn inside(path: PathBuf) -> PathBuf {
    let inside = [path.join("envoy"), path.join("envoy/_bin/envoy")];
    inside.into_iter().find(|p| p.is_file()).unwrap_or(path)
}

/// The peers that were asked for and that are there.
fn installed(wanted: Vec<Kind>, setup: &Setup) -> Vec<Kind> {
    let is_there = |kind: &Kind| match kind.program().map(|program| setup.path(program)) {
        Some(Err(error)) => {
            eprintln!("{} is left out: {error:#}", kind.name());
            false
        }
        _ => true,
    };
    wanted.into_iter().filter(is_there).collect()
}

/// Children inherit it, and proxies are moved to their own core as they start.
pub(crate) fn pin_to_other_core() -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    ensure!(
        cores > CORE,
        "the benchmark needs two cores: one for the proxy, one for the load"
    );
    let mut set = CpuSet::new();
    set.set(CORE);
    sched_setaffinity(None, &set).context("cannot stay on one core")
}
