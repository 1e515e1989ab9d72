//! The command line of the mesh, as a library so that `main.rs` stays a table of commands.
//!
//! `local` runs a whole mesh as processes of this machine and `demo` shows one; `stat`, `edges`,
//! `identity`, `check` and `diagnostics` look at a running mesh. Proxy and controller are linked in (`parts`), so one
//! binary is everything. What traffic may do and where it goes is decided there, never here.

pub mod args;
pub mod check;
pub mod child;
pub mod completion;
pub mod demo;
pub mod diagnostics;
pub mod edges;
pub mod identity;
pub mod local;
pub mod out;
pub mod parts;
pub mod stat;
pub mod version;

mod api;
mod certificate;
mod http_get;
mod resource;
mod selector;
mod table;
mod tls;
