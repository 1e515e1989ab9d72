//! Wires the parts together, in the order data flows, and takes them down again.

use crate::{
    admin::{Admin, Sizes},
    args::{Args, LogFormat, Service},
    cluster::Cluster,
    destination::{Destination, endpoints::Endpoints, profile::Profile},
    grpc::{self, Services},
    http,
    identity::Identity,
    index::{Index, Live},
    metrics::Metrics,
    policy::{InboundServerPolicies, OutboundPolicies, inbound::Inbound, outbound::Outbound},
    source::{Load, directory::Directory},
    stats,
};
use anyhow::Context;
use axum::Router;
use std::{
    io::IsTerminal,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time,
};
use tracing_subscriber::EnvFilter;

/// How long open streams may take to end after a signal.
const DRAIN: Duration = Duration::from_millis(1500);

/// Sends logs to standard error.
///
/// # Errors
/// When the levels cannot be read.
pub fn log_to_stderr(args: &Args) -> anyhow::Result<()> {
    let level = &args.log_level;
    let filter = EnvFilter::try_new(level).with_context(|| format!("--log-level {level}"))?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // Whoever runs this as a part of something else may log already.
    let _ = match args.log_format {
        LogFormat::Plain => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    Ok(())
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When it cannot start: an address is taken, or the directory cannot be read.
pub fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let app = App::start(args).await?;
        // Whichever comes first means the same.
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        app.stop().await;
        Ok(())
    });
    // A thread that reads a slow disk must not hold the process up.
    runtime.shutdown_background();
    result
}

/// A controller that runs.
pub struct App {
    addrs: Addrs,
    answers: Answers,
    stopping: watch::Sender<bool>,
    servers: JoinSet<()>,
    /// Loops that have nothing to finish.
    _loops: JoinSet<()>,
}

/// Where it listens; `None` for parts that are switched off.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addrs {
    /// Destinations.
    pub destination: Option<SocketAddr>,
    /// Policies.
    pub policy: Option<SocketAddr>,
    /// Certificates.
    pub identity: Option<SocketAddr>,
    /// Live statistics.
    pub stats: Option<SocketAddr>,
    /// Admin.
    pub admin: Option<SocketAddr>,
}

impl App {
    /// Reads the source, then serves. Everything that can fail does so before it returns.
    ///
    /// # Errors
    /// When an address is taken, or the directory or the identity's files cannot be read.
    pub async fn start(args: Args) -> anyhow::Result<Self> {
        let mut index = Index::new(Cluster::new(args.settings()));
        let metrics = Arc::new(Metrics::default());
        let answers = Answers::new(&mut index);
        let cluster = index.cluster();
        let stopping = watch::Sender::new(false);
        let (ready, is_ready) = watch::channel(false);
        let (source, loads) = watch::channel(Arc::new(Load::default()));
        let mut app = Self {
            addrs: Addrs::default(),
            answers: answers.clone(),
            stopping,
            servers: JoinSet::new(),
            _loops: JoinSet::new(),
        };
        let identity = app.identity(&args, metrics.clone()).await?;
        let admin = Admin {
            source: loads.clone(),
            duplicates: index.duplicates(),
            identity: identity.clone(),
            cluster: cluster.clone(),
            metrics: metrics.clone(),
            questions: answers.sizes(),
            ready: is_ready,
        };
        // Up before the first load, to tell that there was none yet.
        app.addrs.admin = Some(app.http(args.admin_addr, "admin", admin.router()).await?);
        let directory = first_load(&args, metrics.clone()).await?;
        source.send_replace(Arc::new(directory.snapshot()));
        // In force before anybody can ask: no proxy is told that nothing exists.
        index.load(&directory.snapshot());
        ready.send_replace(true);
        app._loops.spawn(index.follow(loads));
        app._loops.spawn(directory.watch(source));

        app.serve(&args, answers, metrics.clone()).await?;
        if let Some(identity) = identity {
            let services = Services::default().with(identity.service());
            let addr = app.grpc(args.identity_addr, "identity", services);
            app.addrs.identity = Some(addr.await?);
        }
        if args.enabled(Service::Stats) {
            let stats = stats::Stats::new(cluster, metrics, args.scrape_interval);
            let addr = app.http(args.metrics_api_addr, "stats", stats.router());
            app.addrs.stats = Some(addr.await?);
            app._loops.spawn(stats.scrape());
        }
        tracing::info!(addrs = ?app.addrs, "serving");
        Ok(app)
    }

    async fn identity(
        &mut self,
        args: &Args,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Option<Identity>> {
        let Some(config) = args.identity() else {
            tracing::info!("certificates are not signed here: no --identity-issuer, or disabled");
            return Ok(None);
        };
        let (identity, watching) = Identity::start(config, metrics).await?;
        self._loops.spawn(watching);
        Ok(Some(identity))
    }

    async fn serve(
        &mut self,
        args: &Args,
        answers: Answers,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<()> {
        let domain = args.settings().cluster_domain;
        if args.enabled(Service::Destination) {
            let services = Services::default().with(Destination {
                endpoints: answers.endpoints,
                profiles: answers.profiles,
                cluster_domain: domain.clone(),
                metrics: metrics.clone(),
            });
            let addr = self.grpc(args.destination_addr, "destination", services);
            self.addrs.destination = Some(addr.await?);
        }
        if args.enabled(Service::Policy) {
            let inbound = InboundServerPolicies {
                policies: answers.inbound,
                metrics: metrics.clone(),
            };
            let outbound = OutboundPolicies {
                policies: answers.outbound,
                cluster_domain: domain,
                metrics,
            };
            let services = Services::default().with(inbound).with(outbound);
            let addr = self.grpc(args.policy_addr, "policy", services);
            self.addrs.policy = Some(addr.await?);
        }
        Ok(())
    }

    /// Where it listens.
    pub fn addrs(&self) -> Addrs {
        self.addrs
    }

    /// Lets streams end, for a while, then returns.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        self.answers.close();
        let drained = async { while self.servers.join_next().await.is_some() {} };
        if time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("some connections did not end in time");
        }
    }

    async fn grpc(
        &mut self,
        addr: SocketAddr,
        name: &'static str,
        services: Services,
    ) -> anyhow::Result<SocketAddr> {
        let (listener, addr) = listen(addr, name).await?;
        let stopping = self.stopping.subscribe();
        self.servers
            .spawn(grpc::serve(services, listener, stopping));
        Ok(addr)
    }

    async fn http(
        &mut self,
        addr: SocketAddr,
        name: &'static str,
        router: Router,
    ) -> anyhow::Result<SocketAddr> {
        let (listener, addr) = listen(addr, name).await?;
        let stopping = self.stopping.subscribe();
        self.servers.spawn(http::serve(router, listener, stopping));
        Ok(addr)
    }
}

async fn first_load(args: &Args, metrics: Arc<Metrics>) -> anyhow::Result<Directory> {
    let mut directory = Directory::new(&args.source, metrics)?;
    let load = move || directory.load(Instant::now()).map(|()| directory);
    let directory = tokio::task::spawn_blocking(load).await?;
    directory.with_context(|| format!("--source {}", args.source.display()))
}

async fn listen(addr: SocketAddr, name: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(addr).await;
    let listener = listener.with_context(|| format!("cannot listen on {addr} ({name})"))?;
    let addr = listener.local_addr()?;
    Ok((listener, addr))
}

/// Everything that proxies may ask.
#[derive(Clone)]
struct Answers {
    endpoints: Arc<Live<Endpoints>>,
    profiles: Arc<Live<Profile>>,
    inbound: Arc<Live<Inbound>>,
    outbound: Arc<Live<Outbound>>,
}

impl Answers {
    fn new(index: &mut Index) -> Self {
        Self {
            endpoints: index.live(),
            profiles: index.live(),
            inbound: index.live(),
            outbound: index.live(),
        }
    }

    /// Ends the streams that follow them.
    fn close(&self) {
        self.endpoints.close();
        self.profiles.close();
        self.inbound.close();
        self.outbound.close();
    }

    /// How many questions of each kind are followed, whenever it is asked.
    fn sizes(&self) -> Sizes {
        let answers = self.clone();
        Arc::new(move || {
            vec![
                ("endpoints", answers.endpoints.followed() as u64),
                ("profile", answers.profiles.followed() as u64),
                ("inbound", answers.inbound.followed() as u64),
                ("outbound", answers.outbound.followed() as u64),
            ]
        })
    }
}
