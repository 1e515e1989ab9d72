//! Puts the process together, in order: listeners, control thread, workers, admin; and takes it
//! apart again.
//!
//! The calling thread is the control thread: discovery, DNS, admin and metrics live there. Each
//! worker is a thread with a runtime, listeners and stacks of its own ([`worker`]).

mod worker;

use crate::{
    admin::{self, Admin},
    config::Config,
    control::{Discovery, IdentityService},
    dns::Resolver,
    drain::{self, Drain},
    identity::Identity,
    listen, log,
    metrics::{Registry, process::Process},
    tls::Clock,
};
use anyhow::Context;
use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    runtime::LocalOptions,
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, watch},
    task::spawn_local,
    time::{sleep, timeout},
};

/// The most series the metrics page may have.
const MAX_SERIES: usize = 50_000;

/// How often series of vanished targets are looked for, at most and at least.
const SWEEP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// Runs the proxy until it is told to stop.
///
/// # Errors
///
/// What keeps it from starting.
pub fn run(config: Config, env: HashMap<String, String>, log: log::Handle) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(control(config, env, log))
}

async fn control(
    config: Config,
    env: HashMap<String, String>,
    log: log::Handle,
) -> anyhow::Result<()> {
    let registry = Registry::new(config.metrics_retain_idle, MAX_SERIES);
    let resolver = Resolver::new(config.control.dns_ttl)?;
    let handle = tokio::runtime::Handle::current();
    let identity = identify(&config, &resolver, &registry);
    let discovery = Discovery::new(&config, handle, resolver, &identity, &registry);
    // What clients will ask for first should be known when they come.
    let _watched: Vec<_> = config
        .inbound
        .policy_ports
        .iter()
        .map(|port| discovery.server(*port))
        .collect();

    let admin = Arc::new(Admin {
        process: Process::new(&registry),
        ready: AtomicBool::new(false),
        identity: identity.clone(),
        log,
        env,
        shutdown_enabled: config.shutdown_endpoint,
        shutdown: Notify::new(),
    });
    for addr in &config.admin_listen {
        let listener = listen::adopt(listen::bind(*addr, 128)?)?;
        tracing::info!(%addr, "admin listens");
        spawn_local(admin::serve(listener, admin.clone()));
    }

    let (inbound, inbound_signal) = drain::channel();
    let (outbound, outbound_signal) = drain::channel();
    let (stop, stopped) = watch::channel(false);
    let shared = worker::Shared {
        config: Arc::new(config.clone()),
        discovery,
        identity: identity.clone(),
        registry: registry.clone(),
        inbound: inbound_signal,
        outbound: outbound_signal,
        stopped,
    };
    let workers = worker::spawn(shared).context("start workers")?;

    let (min, max) = SWEEP;
    let pause = (config.metrics_retain_idle / 4).clamp(min, max);
    tokio::spawn(sweep(registry, pause));
    let mut signals = Signals::new()?;
    tokio::select! {
        never = run_ready(&admin) => match never {},
        name = signals.next() => tracing::info!(signal = name, "shutting down"),
        () = admin.shutdown.notified() => tracing::info!("shutting down as asked"),
    }
    admin.ready.store(false, Ordering::Relaxed);
    tokio::select! {
        () = drain_all(inbound, outbound, config.shutdown_grace) => {}
        name = signals.next() => tracing::warn!(signal = name, "ending at once"),
    }
    stop.send_replace(true);
    for worker in workers {
        // A worker that panicked has said so.
        let _ = worker.join();
    }
    Ok(())
}

/// Starts to ask for a certificate, if the workload is to have one.
fn identify(config: &Config, resolver: &Resolver, registry: &Arc<Registry>) -> Identity {
    let Some(config) = &config.identity else {
        return Identity::disabled();
    };
    let (identity, runner) = Identity::new(config, Clock::system(), registry);
    let service = IdentityService::new(config, resolver.clone(), identity.clone());
    tokio::spawn(runner.run(service));
    identity
}

/// Says that the proxy is ready as soon as it is.
async fn run_ready(admin: &Admin) -> Infallible {
    admin.identity.certified().await;
    admin.ready.store(true, Ordering::Relaxed);
    tracing::info!("ready");
    std::future::pending().await
}

/// First what comes from outside ends, while the application may still call out; then the rest.
async fn drain_all(mut inbound: Drain, mut outbound: Drain, grace: Duration) {
    let drained = timeout(grace, async {
        inbound.drain().await;
        outbound.drain().await;
    });
    match drained.await {
        Ok(()) => tracing::info!("drained"),
        Err(_) => tracing::warn!(?grace, "the grace period is over: ending what is in flight"),
    }
}

async fn sweep(registry: Arc<Registry>, pause: Duration) {
    loop {
        sleep(pause).await;
        registry.sweep();
    }
}

/// The signals that end the process.
struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.term.recv() => "SIGTERM",
            _ = self.int.recv() => "SIGINT",
        }
    }
}
