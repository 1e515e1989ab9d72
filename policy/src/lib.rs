//! What traffic may do, as data: the model shared by the proxy and the controller.
//!
//! This crate owns the types that say how a connection or request is to be carried
//! ([`outbound`]), what a workload accepts ([`inbound`]), which addresses back a service
//! ([`endpoint`]), and the pure decisions over them ([`authz`]). With the feature `proto` it also
//! owns their wire form in Linkerd's proxy API, both ways ([`proto`]), so that the two sides can
//! not drift apart.
//!
//! It does no I/O, keeps no time and knows no runtime: every decision is a function of its
//! arguments.

pub mod authz;
pub mod endpoint;
pub mod inbound;
mod meta;
pub mod outbound;
#[cfg(feature = "proto")]
pub mod proto;

pub use self::meta::Meta;

use std::time::Duration;

/// How long undecided bytes may hold a connection up when a policy does not say; Linkerd's value.
pub const DETECT_TIMEOUT: Duration = Duration::from_secs(10);
