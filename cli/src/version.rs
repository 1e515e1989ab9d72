//! `meshctl version`: of this binary and of the mesh that runs on this machine.
//!
//! A mesh that cannot be asked is told of as unavailable.

use crate::args::VersionArgs;
use crate::local;
use crate::out;

/// The version of this build.
pub(crate) const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// Prints both versions; a mesh that cannot be asked is `unavailable`, which is no failure.
pub fn run(args: VersionArgs) -> anyhow::Result<()> {
    out::print(&format!("Client version: {CLIENT}\n"))?;
    if args.client {
        return Ok(());
    }
    let server = out::runtime()?
        .block_on(local::find(args.mesh.name.as_deref()))
        .map_or_else(|_| "unavailable".to_string(), |mesh| mesh.version);
    out::print(&format!("Server version: {server}\n"))
}
