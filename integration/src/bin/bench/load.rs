//! The load generator: one thread, closed loop or open loop at a fixed rate.
//!
//! In an open loop requests fall due on a high-resolution timer, whether or not earlier ones have
//! been answered, and a latency counts from the moment a request was due: a stall of the proxy
//! hides nothing. The result goes to stdout as one line of JSON.

mod http1;
mod http2;
mod pace;
mod tcp;
mod tls;

use self::pace::Pace;
use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use std::{
    cell::RefCell,
    net::SocketAddr,
    path::PathBuf,
    rc::Rc,
    time::{Duration, Instant},
};
use tokio::task::LocalSet;

#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Args {
    mode: Mode,
    #[arg(long)]
    addr: SocketAddr,
    #[arg(long)]
    connections: usize,
    #[arg(long, default_value_t = 1)]
    streams: usize,
    /// Requests per second over all connections; 0: as fast as answers come
    #[arg(long, default_value_t = 0)]
    rate: u64,
    #[arg(long)]
    seconds: u64,
    /// Certificates and key of a client that opens TLS, in PEM
    #[arg(long)]
    certificate: Option<PathBuf>,
    /// Whom it wants to reach
    #[arg(long)]
    name: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Mode {
    Http1,
    Http2,
    Pingpong,
    Bulk,
    /// Opens TLS, asks once, closes
    Handshake,
    HandshakeResumed,
    HandshakePostQuantum,
    /// Opens connections, asks once on each, and holds them until it is killed
    Idle,
}

/// What one run found.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct Outcome {
    /// Everything that was done, warm-up included: the divisor for CPU time.
    pub(crate) total: u64,
    /// Done in the measured time; bytes for bulk.
    pub(crate) measured: u64,
    /// Length of the measured time.
    pub(crate) seconds: f64,
    /// Connections or requests that failed.
    pub(crate) errors: u64,
    /// The first failure.
    pub(crate) error: Option<String>,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Counters that all connections of the run share.
struct Stats {
    from: Instant,
    until: Instant,
    outcome: Outcome,
    /// In steps of 0.1 µs, up to a minute.
    latency: Histogram<u64>,
}

type Shared = Rc<RefCell<Stats>>;

/// Runs the load and prints an [`Outcome`].
pub(crate) fn run(args: Args) -> Result<()> {
    crate::runtime()?.block_on(LocalSet::new().run_until(async {
        if args.mode == Mode::Idle {
            let _held = http1::idle(args.addr, args.connections).await?;
            println!("holding");
            return std::future::pending().await;
        }
        let outcome = drive(&args).await?;
        println!("{}", serde_json::to_string(&outcome)?);
        Ok(())
    }))
}

async fn drive(args: &Args) -> Result<Outcome> {
    let seconds = Duration::from_secs(args.seconds);
    let from = Instant::now() + seconds / 8;
    let until = from + seconds;
    let stats = Rc::new(RefCell::new(Stats {
        from,
        until,
        outcome: Outcome {
            seconds: seconds.as_secs_f64(),
            ..Outcome::default()
        },
        latency: Histogram::new_with_max(600_000_000, 3)?,
    }));
    let pace = Rc::new(Pace::new(args.rate, until)?);
    let mut workers = Vec::new();
    for _ in 0..args.connections {
        let (args, pace, stats) = (args.clone(), pace.clone(), stats.clone());
        workers.push(tokio::task::spawn_local(async move {
            if let Err(error) = work(&args, pace, &stats).await {
                stats.borrow_mut().failed(&format!("{error:#}"));
            }
        }));
    }
    pace.clone().run().await?;
    for worker in workers {
        let _ = tokio::time::timeout(Duration::from_secs(5), worker).await;
    }
    Ok(stats.borrow().finish())
}

/// What one connection does as long as the run lasts.
async fn work(args: &Args, pace: Rc<Pace>, stats: &Shared) -> Result<()> {
    let addr = args.addr;
    match args.mode {
        Mode::Http1 | Mode::Idle => http1::connection(addr, &pace, stats).await,
        Mode::Http2 => http2::connection(addr, args.streams, pace, stats.clone()).await,
        Mode::Pingpong => tcp::pingpong(addr, &pace, stats).await,
        Mode::Bulk => tcp::bulk(addr, &pace, stats).await,
        Mode::Handshake | Mode::HandshakeResumed | Mode::HandshakePostQuantum => {
            let certificate = args.certificate.as_deref();
            let certificate = certificate.context("--certificate is missing")?;
            let name = args.name.as_deref().context("--name is missing")?;
            let client = tls::Client::new(args.mode, certificate, name)?;
            tls::connections(addr, &client, &pace, stats).await
        }
    }
}

impl Stats {
    /// One answer to a request that was due at `due`, or `amount` bytes.
    fn done(&mut self, due: Instant, amount: u64) {
        let now = Instant::now();
        self.outcome.total += amount;
        if now >= self.from && now < self.until {
            self.outcome.measured += amount;
            self.latency
                .saturating_record((now - due).as_nanos() as u64 / 100);
        }
    }

    fn failed(&mut self, error: &str) {
        self.outcome.errors += 1;
        self.outcome.error.get_or_insert_with(|| error.to_owned());
    }

    fn finish(&self) -> Outcome {
        let us = |quantile| self.latency.value_at_quantile(quantile) as f64 / 10.0;
        Outcome {
            p50_us: us(0.5),
            p99_us: us(0.99),
            ..self.outcome.clone()
        }
    }
}
