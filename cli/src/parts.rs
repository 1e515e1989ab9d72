//! The two programs linked into this one: the only place that calls into proxy or controller.
//!
//! `main.rs` comes here for the hidden commands that a local mesh starts as its children,
//! `local::identity` for what its tokens have to agree on with the controller, and
//! `local::manifest`, `local::changes`, `local::plan` and `args` for how it reads and follows files, objects
//! and values.

use crate::args::ControllerArgs;
pub(crate) use mesh_controller::args::millis;
pub(crate) use mesh_controller::identity::name::{Identities, ServiceAccount};
#[cfg(test)]
pub(crate) use mesh_controller::identity::token::Verifier;
pub(crate) use mesh_controller::identity::token::{
    MAX_LIFETIME as MAX_TOKEN_LIFETIME, SignError, Signer,
};
pub(crate) use mesh_controller::object::{self, Labels, PROXY_ANNOTATIONS, SERVICE_ANNOTATIONS};
pub(crate) use mesh_controller::source::{
    directory::is_manifest, document, manifest::parse as manifest, watch,
};
use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the sidecar, configured by its environment alone.
pub fn proxy() -> ExitCode {
    linkerd_proxy::main()
}

/// Runs the controller with its own flags.
pub fn controller(args: ControllerArgs) -> ExitCode {
    let program = OsString::from("meshctl controller");
    mesh_controller::main_with_args(std::iter::once(program).chain(args.args))
}
