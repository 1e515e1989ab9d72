//! What all ends of HTTP/2 need: bodies both ways, as frames of h2's streams and sent as fast as the peer
//! takes them; and PINGs.
//!
//! Who opens streams and who answers them is for [`super::client`] and [`super::server`] to know.

pub mod ping;
mod receiving;
mod sending;

pub use self::{
    receiving::Receiving,
    sending::{Broken, send},
};

/// Window of a connection to an endpoint, in bytes, when nothing else is configured.
///
/// What nobody takes of a stream is held, up to that stream's window, and counts for the connection's
/// until it is taken. So where the connection's is but a few streams', a few slow readers stop all others.
/// This one is room for 1024 of 64 KiB or 256 of 256 KiB to stand still; more go on another connection
/// (`super::client`). A window is a promise and no memory: only what stands still is held.
pub const CONNECTION_WINDOW: u32 = 64 << 20;
