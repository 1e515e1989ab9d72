//! The harness of the end-to-end tests and of the benchmark: real binaries, real sockets.
//!
//! A test starts what it needs as values and drops them: [`proxy`] (the real sidecar), [`control`]
//! (a control plane whose every answer the test holds) or [`controller`] (the real one), [`server`]
//! and [`tcp`] (backends that can be slow, broken, silent or dead), [`client`] and [`load`]
//! (callers). Identities come from [`identity`] (a service whose every answer the test holds) with
//! certificates of [`pki`]; [`tls`] has peers that are no proxies of ours. Each gets an address of
//! its own ([`addr`]), so tests run side by side; each is gone when its value is. [`eventually`]
//! waits for what must become true.

pub mod addr;
pub mod bins;
pub mod client;
pub mod control;
pub mod controller;
pub mod eventually;
pub mod identity;
pub mod load;
pub mod names;
pub mod pki;
pub mod process;
pub mod proxy;
pub mod scrape;
pub mod server;
pub mod tcp;
pub mod tls;
pub mod token;
pub mod transport_header;
