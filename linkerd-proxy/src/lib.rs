//! The sidecar: carries every call of one workload instance, both ways.
//!
//! ```text
//!                      +--------------------------- linkerd-proxy --------------------------+
//!   application  ----> | outbound: accept -> discover -> detect -> route -> backend -> dial | ----> endpoint
//!   application  <---- | inbound:  dial <- route <- authorize <- detect <- policy <- accept | <---- client
//!                      | control:  discovery, policy, DNS, admin, metrics                   | <---> control plane
//!                      +---------------------------------------------------------------------+
//! ```
//!
//! Where to start: [`outbound`] and [`inbound`] are the two paths, each to be read from top to
//! bottom; [`app`] puts the process together. The rest are rooms along the way:
//!
//! | module | what it owns |
//! |---|---|
//! | [`config`] | the environment, typed |
//! | [`listen`], [`serve`], [`drain`] | sockets, accept loops, the end |
//! | [`io`], [`dial`], [`transport_header`] | connections, copying, dialling |
//! | [`detect`] | what a connection speaks, by its first bytes |
//! | [`http`] | HTTP as a server and as a client |
//! | [`balance`] | which endpoint gets the next request |
//! | [`control`], [`dns`] | what the control plane and DNS say |
//! | [`identity`], [`tls`] | who this workload is, and how it and its peers prove it |
//! | [`metrics`], [`admin`], [`log`] | what can be seen |
//!
//! A worker is a thread with everything of its own: nothing on the path of a request is `Send`,
//! locked, or shared, but for counters.

pub mod addr;
mod admin;
pub mod app;
pub mod balance;
pub mod config;
pub mod control;
pub mod detect;
pub mod dial;
pub mod dns;
pub mod drain;
pub mod error;
pub mod http;
pub mod identity;
pub mod inbound;
pub mod io;
pub mod limit;
pub mod listen;
pub mod log;
pub mod metrics;
pub mod outbound;
pub mod serve;
pub mod tls;
pub mod transport_header;

use std::{collections::HashMap, process::ExitCode};

/// Exit code for a configuration that cannot be used (`EX_USAGE`).
const EX_USAGE: u8 = 64;

/// Runs the proxy by the environment of the process; 64 for a bad configuration, 1 when it
/// cannot start, 0 when it was told to stop and did.
pub fn main() -> ExitCode {
    let env: HashMap<String, String> = std::env::vars().collect();
    let (log, config) = (log::init(&env), config::Config::from_env(env.clone()));
    let (log, config) = match (log, config) {
        (Ok(log), Ok(config)) => (log, config),
        (log, config) => {
            let problems = [log.err(), config.err()].into_iter().flatten();
            eprintln!("linkerd-proxy: invalid configuration:");
            problems.for_each(|invalid| eprintln!("{invalid}"));
            return ExitCode::from(EX_USAGE);
        }
    };
    match app::run(config, env, log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("linkerd-proxy: cannot start: {error:#}");
            ExitCode::FAILURE
        }
    }
}
