//! The control plane of a Gossamer mesh, in one process.
//!
//! ```text
//! source ──> store ──> index ──> watch ──> destination   gRPC, 8086
//!  files     objects   cluster   answers   policy        gRPC, 8090
//!  in a      and what  and its             stats         JSON, 8085 (scrapes the proxies)
//!  directory changed   questions           admin         HTTP, 9990
//!
//! issuer, trust anchors, tokens ────────> identity      gRPC, 8080
//! ```
//! A [`source`] yields objects; the [`store`] tells what changed; the [`index`] keeps the
//! [`cluster`] and answers questions about it, again and again as it changes; the services turn calls
//! into questions and streams. Everything left of a service is the same whatever the source is.
//! [`identity`] stands apart: it gives certificates to whoever proves a service account, and shares
//! with the others only how identities are named.
//!
//! One thread runs it all, but for reading files. What waits for a slow proxy is one answer, the
//! latest; nothing that matters lives only here, so a controller that restarts is as good as new.

pub mod accept;
pub mod admin;
pub mod app;
pub mod args;
pub mod cluster;
pub mod destination;
pub mod grpc;
pub mod http;
pub mod identity;
pub mod index;
pub mod metrics;
pub mod names;
pub mod object;
pub mod policy;
pub mod source;
pub mod stats;
pub mod store;
#[cfg(test)]
mod testing;

use clap::Parser;
use std::{ffi::OsString, process::ExitCode};

/// Runs the controller with the arguments of a command line, the program's name first, until a
/// signal stops it.
///
/// Exit codes: 0 after SIGTERM or SIGINT, 1 when it cannot start, 64 for arguments that are wrong.
pub fn main_with_args(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match args::Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 64 } else { 0 });
        }
    };
    if let Err(error) = app::log_to_stderr(&args) {
        eprintln!("mesh-controller: {error:#}");
        return ExitCode::from(64);
    }
    match app::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
