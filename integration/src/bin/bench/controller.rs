//! The controller under many proxies: its memory, and how long a change takes to reach them all.
//!
//! The controller runs on core 0; the proxies are streams of this process, on core 1: each follows
//! a handful of services and its own port, as a sidecar does.

use crate::{measure::pin_to_other_core, runtime};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use hdrhistogram::Histogram;
use integration::controller::Controller;
use linkerd2_proxy_api::{
    destination::{GetDestination, destination_client::DestinationClient},
    inbound::{PortSpec, inbound_server_policies_client::InboundServerPoliciesClient},
    outbound::{
        TrafficSpec, outbound_policies_client::OutboundPoliciesClient, traffic_spec::Target,
    },
};
use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::timeout};
use tonic::transport::Channel;

/// How long a step may take before it counts as failed.
const DEADLINE: Duration = Duration::from_secs(60);

/// Until what only the start took was given back.
const SETTLE: Duration = Duration::from_secs(15);

/// Between changes, so that each finds an idle machine.
const PAUSE: Duration = Duration::from_millis(300);

/// Services that each proxy follows; the first is the same for all.
const FOLLOWED: usize = 5;

/// Measures the controller: memory with many proxies, and how soon they learn of a change
///
/// Each proxy takes two connections: the limit on open files has to be high enough (`ulimit -n`).
#[derive(Parser)]
pub(crate) struct Args {
    /// Proxies that follow it
    #[arg(long, default_value_t = 1000)]
    proxies: usize,
    /// Services it knows
    #[arg(long, default_value_t = 1000)]
    services: usize,
    /// Endpoints of each service
    #[arg(long, default_value_t = 10)]
    endpoints: usize,
    /// Changes that are timed
    #[arg(long, default_value_t = 20)]
    changes: usize,
}

/// Runs it and prints what it found.
pub(crate) fn run(args: Args) -> Result<()> {
    pin_to_other_core()?;
    let services =
        (0..args.services).map(|n| (format!("svc-{n}.yaml"), service(n, args.endpoints)));
    let clients: Vec<_> = (0..args.proxies).map(client).collect();
    let manifests: Vec<_> = services
        .chain([("clients.yaml".to_owned(), clients.join("---\n"))])
        .collect();
    let manifests: Vec<_> = manifests
        .iter()
        .map(|(n, m)| (n.as_str(), m.as_str()))
        .collect();
    let controller = Controller::start(&manifests);
    let pinned = Command::new("taskset")
        .args(["-apc", "0", &controller.pid().to_string()])
        .stdout(Stdio::null())
        .status();
    ensure!(pinned?.success(), "cannot pin the controller");
    println!(
        "RSS with {} services, MiB: {:.1}",
        args.services,
        mib(&controller)
    );
    runtime()?.block_on(measure(&args, &controller))
}

async fn measure(args: &Args, controller: &Controller) -> Result<()> {
    let (tell, mut told) = mpsc::unbounded_channel();
    for n in 0..args.proxies {
        Proxy::connect(controller, n)
            .await?
            .follow(args.services, &tell)
            .await
            .with_context(|| format!("proxy {n}"))?;
    }
    all(&mut told, args.proxies)
        .await
        .context("first answers")?;
    tokio::time::sleep(SETTLE).await;
    println!(
        "RSS with {} proxies, MiB: {:.1}",
        args.proxies,
        mib(controller)
    );
    let mut latencies = Histogram::<u64>::new(3)?;
    let mut highest = 0.0_f64;
    for change in 1..=args.changes {
        let begun = Instant::now();
        controller.write("svc-0.yaml", &service(0, args.endpoints + change % 2));
        for at in all(&mut told, args.proxies).await.context("a change")? {
            let micros = at.duration_since(begun).as_micros();
            latencies.record(u64::try_from(micros)?)?;
        }
        highest = highest.max(mib(controller));
        tokio::time::sleep(PAUSE).await;
    }
    let ms = |q| latencies.value_at_quantile(q) as f64 / 1e3;
    println!(
        "change to proxies, ms: p50 {:.1}, p99 {:.1}",
        ms(0.5),
        ms(0.99)
    );
    println!("RSS at its highest, MiB: {highest:.1}");
    Ok(())
}

fn mib(controller: &Controller) -> f64 {
    controller.rss_kib() as f64 / 1024.0
}

/// When each of so many proxies learned of something.
async fn all(told: &mut mpsc::UnboundedReceiver<Instant>, n: usize) -> Result<Vec<Instant>> {
    let mut times = Vec::with_capacity(n);
    while times.len() < n {
        let next = timeout(DEADLINE, told.recv()).await;
        let next = next.with_context(|| format!("only {} of {n} proxies heard", times.len()))?;
        times.push(next.context("all proxies are gone")?);
    }
    Ok(times)
}

/// What a sidecar is to the controller: two connections, and streams on them.
struct Proxy {
    n: usize,
    destination: Channel,
    policy: Channel,
}

impl Proxy {
    async fn connect(controller: &Controller, n: usize) -> Result<Self> {
        let channel = |port| {
            let url = format!("http://{}", controller.addr(port));
            Ok::<_, anyhow::Error>(Channel::from_shared(url)?)
        };
        Ok(Self {
            n,
            destination: channel(8086)?.connect().await?,
            policy: channel(8090)?.connect().await?,
        })
    }

    /// Follows its services for ever; tells of each update of the first one.
    async fn follow(self, services: usize, tell: &mpsc::UnboundedSender<Instant>) -> Result<()> {
        let workload = format!(r#"{{"ns":"bench","pod":"client-{}"}}"#, self.n);
        for i in 0..FOLLOWED {
            let service = if i == 0 {
                0
            } else {
                (self.n * 7 + i * 131) % services
            };
            let path = format!("svc-{service}.bench.svc.cluster.local:80");
            let get = GetDestination {
                path: path.clone(),
                context_token: workload.clone(),
                ..GetDestination::default()
            };
            let updates = DestinationClient::new(self.destination.clone())
                .get(get)
                .await?;
            let tell = (i == 0).then(|| tell.clone());
            tokio::spawn(drain(updates.into_inner(), tell));
            let spec = TrafficSpec {
                source_workload: workload.clone(),
                target: Some(Target::Authority(path)),
            };
            let policies = OutboundPoliciesClient::new(self.policy.clone())
                .watch(spec)
                .await?;
            tokio::spawn(drain(policies.into_inner(), None));
        }
        let port = PortSpec {
            workload,
            port: 8080,
        };
        let servers = InboundServerPoliciesClient::new(self.policy)
            .watch_port(port)
            .await?;
        tokio::spawn(drain(servers.into_inner(), None));
        Ok(())
    }
}

async fn drain<T>(mut updates: tonic::Streaming<T>, tell: Option<mpsc::UnboundedSender<Instant>>) {
    while let Ok(Some(_)) = updates.message().await {
        // Nobody listens at the end.
        let _ = tell.as_ref().map(|tell| tell.send(Instant::now()));
    }
}

/// The pod of a proxy, as a manifest.
fn client(n: usize) -> String {
    let (high, low) = (n / 256, n % 256);
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: client-{n}, namespace: bench}}, \
         spec: {{containers: []}}, status: {{podIP: 10.200.{high}.{low}, phase: Running}}}}\n"
    )
}

/// A service with so many endpoints, as manifests.
fn service(n: usize, endpoints: usize) -> String {
    let addresses: Vec<_> = (0..endpoints)
        .map(|i| {
            format!(
                r#"{{addresses: ["10.{}.{}.{i}"], conditions: {{ready: true}}}}"#,
                n / 256,
                n % 256
            )
        })
        .collect();
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: svc-{n}, namespace: bench}}, \
         spec: {{ports: [{{port: 80, targetPort: 8080}}]}}}}\n---\n\
         {{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, \
         metadata: {{name: svc-{n}-a, namespace: bench, labels: {{kubernetes.io/service-name: svc-{n}}}}}, \
         ports: [{{port: 8080, protocol: TCP}}], endpoints: [{}]}}\n",
        addresses.join(", ")
    )
}
