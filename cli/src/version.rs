//! `meshctl version`: of this binary and of the mesh that runs on this machine.
//!
//! A mesh that cannot be asked is told of as unavailable, with the reason.

use crate::args::VersionArgs;
use crate::local;
use crate::out;

/// The version of this build.
pub(crate) const CLIENT: &str = env!("CARGO_PKG_VERSION");

/// Prints both versions; a mesh that cannot be asked is `unavailable`, which is a failure only if it
/// was named.
pub fn run(args: VersionArgs) -> anyhow::Result<()> {
    out::print(&format!("Client version: {CLIENT}\n"))?;
    if args.client {
        return Ok(());
    }
    let name = args.mesh.name.as_deref();
    let reason = match out::runtime()?.block_on(local::find(name)) {
        Ok(mesh) => return out::print(&format!("Server version: {}\n", mesh.version)),
        Err(reason) => reason,
    };
    out::print("Server version: unavailable\n")?;
    if name.is_some() {
        return Err(reason);
    }
    out::note(&format!("{reason:#}"));
    Ok(())
}
