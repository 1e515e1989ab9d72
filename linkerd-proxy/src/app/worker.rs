//! A worker: one thread, one runtime, its own listeners, stacks, pools and balancers.

use crate::{
    addr::Target,
    config::Config,
    control::Discovery,
    drain::Signal,
    identity::Identity,
    inbound::{Inbound, Mapped},
    listen,
    metrics::Registry,
    outbound::Outbound,
    serve::serve,
};
use std::{net::SocketAddr, sync::Arc, thread};
use tokio::{
    runtime::{Builder, LocalOptions},
    sync::watch,
    task::spawn_local,
};

/// What workers are made with.
#[derive(Clone)]
pub struct Shared {
    /// The configuration.
    pub config: Arc<Config>,
    /// The control plane.
    pub discovery: Discovery,
    /// Who this workload is.
    pub identity: Identity,
    /// Where things are counted.
    pub registry: Arc<Registry>,
    /// When to drain inbound traffic.
    pub inbound: Signal,
    /// When to drain outbound traffic.
    pub outbound: Signal,
    /// When to end.
    pub stopped: watch::Receiver<bool>,
}

/// Listeners that are bound but not served yet.
struct Bound {
    outbound: Vec<(std::net::TcpListener, Option<Target>)>,
    inbound: Vec<(std::net::TcpListener, Option<Mapped>)>,
}

/// Binds all listeners of all workers, then starts them, so that a port that is taken keeps the
/// process from starting.
///
/// # Errors
///
/// A listener that could not be bound, or a thread that could not be started.
pub fn spawn(shared: Shared) -> anyhow::Result<Vec<thread::JoinHandle<()>>> {
    let cores = shared.config.cores;
    let bound: Vec<_> = (0..cores)
        .map(|_| Bound::new(&shared.config))
        .collect::<Result<_, _>>()?;
    let mut workers = Vec::new();
    for (n, bound) in bound.into_iter().enumerate() {
        let shared = shared.clone();
        let thread = thread::Builder::new().name(format!("worker-{n}"));
        workers.push(thread.spawn(move || run(shared, bound))?);
    }
    Ok(workers)
}

fn run(shared: Shared, bound: Bound) {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(work(shared, bound)),
        Err(error) => tracing::error!(%error, "a worker has no runtime"),
    }
}

/// Serves until the process stops.
async fn work(shared: Shared, bound: Bound) {
    let Shared {
        config,
        discovery,
        identity,
        registry,
        inbound,
        outbound,
        mut stopped,
    } = shared;
    // Clients may connect already, and wait: without a certificate nobody could be trusted.
    tokio::select! {
        () = identity.certified() => {}
        _ = stopped.wait_for(|stopped| *stopped) => return,
    }
    let out = Outbound::new(
        &config,
        discovery.clone(),
        identity.clone(),
        registry.clone(),
        outbound.clone(),
    );
    for (listener, target) in bound.outbound {
        let out = out.clone();
        let handle = move |tcp| out.clone().accept(tcp, target.clone());
        // The application may call out until the very end.
        start(
            listener,
            config.outbound.side.accept,
            outbound.clone(),
            std::future::pending(),
            handle,
        );
    }
    let inb = Inbound::new(&config, discovery, identity, registry, inbound.clone());
    for (listener, mapped) in bound.inbound {
        let (inb, signal) = (inb.clone(), inbound.clone());
        let handle = move |tcp| inb.clone().accept(tcp, mapped);
        let stop = async move { signal.drained().await };
        start(
            listener,
            config.inbound.side.accept,
            inbound.clone(),
            stop,
            handle,
        );
    }
    drop((inbound, outbound));
    // The sender going away means the same.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

fn start<F: Future<Output = ()> + 'static>(
    listener: std::net::TcpListener,
    options: crate::io::SocketOptions,
    drain: Signal,
    stop: impl Future<Output = ()> + 'static,
    handle: impl Fn(tokio::net::TcpStream) -> F + 'static,
) {
    match listen::adopt(listener) {
        Ok(listener) => drop(spawn_local(serve(listener, options, drain, stop, handle))),
        Err(error) => tracing::error!(%error, "a listener cannot be served"),
    }
}

// === impl Bound ===

impl Bound {
    fn new(config: &Config) -> Result<Self, listen::BindError> {
        let (outbound, inbound) = (&config.outbound, &config.inbound);
        let bind = |addr: &SocketAddr, backlog| listen::bind(*addr, backlog);
        let mut bound = Self {
            outbound: Vec::new(),
            inbound: Vec::new(),
        };
        for addr in &outbound.side.listen {
            bound
                .outbound
                .push((bind(addr, outbound.side.backlog)?, None));
        }
        for (addr, target) in &outbound.ports {
            bound
                .outbound
                .push((bind(addr, outbound.side.backlog)?, Some(target.clone())));
        }
        for addr in &inbound.side.listen {
            bound
                .inbound
                .push((bind(addr, inbound.side.backlog)?, None));
        }
        for (listen, app) in &inbound.ports {
            let mapped = Mapped {
                listen: *listen,
                app: *app,
            };
            bound
                .inbound
                .push((bind(listen, inbound.side.backlog)?, Some(mapped)));
        }
        Ok(bound)
    }
}
