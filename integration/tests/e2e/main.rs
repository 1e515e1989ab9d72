//! The promises of the mesh, each as a test against the real binaries.
//!
//! One target, so that it is linked once; a module for each kind of promise. [`rig`] puts together
//! what most tests need.

mod admin;
mod balancing;
mod config;
mod controller;
mod detection;
mod discovery;
mod errors;
mod grpc;
mod hostile;
mod http1;
mod http2;
mod local;
mod memory;
mod metrics;
mod overload;
mod resilience;
mod rig;
mod shutdown;
mod tcp;
mod transparent;
