//! The demo's application: ordinary programs that know nothing of a mesh.
//!
//! They listen where PORT says, call others through `http_proxy` and `<SERVICE>_SERVICE_HOST/PORT`
//! as any application would, and end gracefully on SIGTERM. `demo.yaml` starts one per container.

mod api;
mod http_client;
mod http_server;
mod store;
mod traffic;
mod voting;
mod web;

use crate::args::DemoRole;
use crate::local::interrupted;
use crate::out;
use anyhow::Context;
use std::net::SocketAddr;

/// Runs one part until it is told to end.
pub(super) fn run(role: DemoRole) -> anyhow::Result<()> {
    let runtime = out::runtime()?;
    match role {
        DemoRole::Traffic => runtime.block_on(traffic::run()),
        DemoRole::Web => runtime.block_on(web::run()),
        DemoRole::Api => runtime.block_on(api::run()),
        DemoRole::Voting => runtime.block_on(voting::run()),
        DemoRole::Store => runtime.block_on(store::run()),
    }
}

fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set; `meshctl demo` sets it"))
}

/// Where this program has to listen.
fn listen_addr() -> anyhow::Result<SocketAddr> {
    let text = format!("{}:{}", variable("HOST")?, variable("PORT")?);
    text.parse()
        .with_context(|| format!("HOST:PORT is no address: {text}"))
}

/// Where a service of the own namespace is reached.
fn service(name: &str) -> anyhow::Result<String> {
    let part = |part| variable(&format!("{name}_SERVICE_{part}"));
    Ok(format!("{}:{}", part("HOST")?, part("PORT")?))
}
