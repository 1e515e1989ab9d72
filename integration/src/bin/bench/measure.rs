//! Runs every scenario against every peer, interleaved, and collects the figures.

use crate::{
    Args,
    load::Outcome,
    peers::{Kind, Peer, Setup},
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
    net::SocketAddr,
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

/// Runs the whole benchmark.
pub(crate) fn run(args: Args) -> Result<()> {
    let repeat = args.repeat.unwrap_or(if args.quick { 1 } else { 3 });
    let seconds = args.seconds.unwrap_or(if args.quick { 2 } else { 5 });
    let wanted = if args.peers.is_empty() {
        Kind::value_variants().to_vec()
    } else {
        args.peers.clone()
    };
    let proxy = match &args.proxy {
        Some(path) => path.clone(),
        None if wanted.iter().any(|kind| kind.is_ours()) => bins::linkerd_proxy().to_owned(),
        None => PathBuf::new(),
    };
    pin_to_other_core()?;

    let (setup, _backend) = setup(&args, proxy)?;
    let kinds = installed(wanted, &setup);
    let scenarios = if args.scenarios.is_empty() {
        Scenario::all()
    } else {
        args.scenarios.clone()
    };

    let mut results = Results::new(repeat, seconds, args.rate, args.endpoints);
    for &kind in &kinds {
        results.peer(kind, setup.version(kind));
        if let Ok(program) = setup.program(kind) {
            let size = std::fs::metadata(program.canonicalize()?)?.len();
            results.add(kind, Figure::BinaryMb, size as f64 / 1e6);
        }
    }
    for round in 1..=repeat {
        eprintln!("round {round} of {repeat}");
        one_round(&setup, &kinds, &scenarios, seconds, args.rate, &mut results)?;
    }
    results.write(args.out.as_deref())
}

fn one_round(
    setup: &Setup,
    kinds: &[Kind],
    scenarios: &[Scenario],
    seconds: u64,
    rate: u64,
    results: &mut Results,
) -> Result<()> {
    let mut peers = Vec::new();
    for &kind in kinds {
        let peer = setup.start(kind)?;
        if kind != Kind::None {
            results.add(kind, Figure::StartMs, peer.start.as_secs_f64() * 1e3);
        }
        peers.push(peer);
    }
    std::thread::sleep(SETTLE);
    let mut highest = vec![0; peers.len()];
    for &scenario in scenarios {
        for (peer, highest) in peers.iter().zip(&mut highest) {
            if scenario == Scenario::Memory {
                idle_memory(peer, results)?;
            } else if let Some(target) = peer.target(scenario.port()) {
                let rss = load(peer, scenario, target, seconds, rate, results)?;
                *highest = rss.max(*highest);
            }
        }
    }
    if scenarios
        .iter()
        .any(|scenario| *scenario != Scenario::Memory)
    {
        std::thread::sleep(AFTER);
        for (peer, highest) in peers.iter().zip(highest) {
            if let Some(rss) = peer.rss_kib() {
                results.add(peer.kind, Figure::RssLoadMib, highest as f64 / 1024.0);
                results.add(peer.kind, Figure::RssAfterMib, rss as f64 / 1024.0);
            }
        }
    }
    Ok(())
}

/// Memory before any load, and what each idle connection adds to it.
fn idle_memory(peer: &Peer, results: &mut Results) -> Result<()> {
    let (Some(idle), Some(target)) = (peer.rss_kib(), peer.target(Port::Http1)) else {
        return Ok(());
    };
    results.add(peer.kind, Figure::RssIdleMib, idle as f64 / 1024.0);
    let mut command = load_command(Scenario::Memory, target, 0, 0)?;
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
    peer: &Peer,
    scenario: Scenario,
    target: SocketAddr,
    seconds: u64,
    rate: u64,
    results: &mut Results,
) -> Result<u64> {
    let cpu_before = peer.cpu_time();
    let mut child = load_command(scenario, target, seconds, rate)?
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the load generator")?;
    let mut rss = 0;
    while child.try_wait()?.is_none() {
        rss = rss.max(peer.rss_kib().unwrap_or(0));
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output()?;
    let outcome: Outcome = serde_json::from_slice(&output.stdout).with_context(|| {
        format!(
            "no result of {} through {}",
            scenario.name(),
            peer.kind.name()
        )
    })?;
    let cpu = cpu_before
        .zip(peer.cpu_time())
        .map(|(before, after)| after - before);
    eprintln!(
        "  {:<11} {:<13} {outcome:?}",
        scenario.name(),
        peer.kind.name()
    );
    results.outcome(peer.kind, scenario, &outcome, cpu);
    Ok(rss)
}

fn load_command(
    scenario: Scenario,
    target: SocketAddr,
    seconds: u64,
    rate: u64,
) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("load").args(scenario.load_args(rate)).args([
        "--addr",
        &target.to_string(),
        "--seconds",
        &seconds.to_string(),
    ]);
    Ok(command)
}

/// The control plane and the backend, which serve all peers.
fn setup(args: &Args, proxy: PathBuf) -> Result<(Setup, Process)> {
    let ips: Vec<_> = (0..args.endpoints.max(1))
        .map(|_| addr::unique_ip())
        .collect();
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

    let control = ControlPlane::start();
    for port in Port::ALL {
        let endpoints: Vec<_> = ips
            .iter()
            .map(|ip| SocketAddr::from((*ip, port as u16)))
            .collect();
        // All streams of a run start at once, before the first connection is there.
        let policy = Policy::new(&port.service()).queue(10_000, Duration::from_secs(3));
        control.policy(&port.service(), &policy);
        control.endpoints(&port.service(), &endpoints);
    }
    let envoy = args.envoy.clone().map(|path| {
        let inside = [path.join("envoy"), path.join("envoy/_bin/envoy")];
        inside
            .into_iter()
            .find(|path| path.is_file())
            .unwrap_or(path)
    });
    let dir = tempfile::tempdir()?;
    Ok((
        Setup {
            control,
            backend: ips[0],
            proxy,
            envoy,
            dir,
        },
        backend,
    ))
}

/// The peers that were asked for and that are there.
fn installed(wanted: Vec<Kind>, setup: &Setup) -> Vec<Kind> {
    let is_there = |kind: &Kind| match setup.program(*kind) {
        Err(error) if *kind != Kind::None => {
            eprintln!("{} is left out: {error:#}", kind.name());
            false
        }
        _ => true,
    };
    wanted.into_iter().filter(is_there).collect()
}

/// Children inherit it, and proxies are moved to their own core as they start.
fn pin_to_other_core() -> Result<()> {
    let cores = std::thread::available_parallelism()?.get();
    ensure!(
        cores > CORE,
        "the benchmark needs two cores: one for the proxy, one for the load"
    );
    let mut set = CpuSet::new();
    set.set(CORE);
    sched_setaffinity(None, &set).context("cannot stay on one core")
}
