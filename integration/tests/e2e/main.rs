//! The promises of the mesh, each as a test against the real binaries.
//!
//! One target, so that it is linked once; a module for each kind of promise. [`rig`] puts together
//! what most tests need.

mod admin;
mod balancing;
mod certify;
mod client_hello;
mod client_id;
mod config;
mod controller;
mod demo;
mod detection;
mod discovery;
mod errors;
mod foreign_tls;
mod grpc;
mod handshakes;
mod hostile;
mod http1;
mod http1_forms;
mod http2;
mod http2_limits;
mod identity;
mod local;
mod look;
mod memory;
mod metrics;
mod mtls;
mod mtls_refusals;
mod orig_proto;
mod overload;
mod resilience;
mod rig;
mod rotation;
mod shutdown;
mod source;
mod stock;
mod strict_ports;
mod tcp;
mod transparent;
mod transport_header;
