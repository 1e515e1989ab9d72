//! What all ends of HTTP/2 need: bodies both ways, as frames of h2's streams and sent as fast as the peer
//! takes them; and PINGs.
//!
//! Who opens streams and who answers them is for [`super::client`] and [`super::server`] to know.

pub mod ping;
mod receiving;
mod sending;

pub use self::{receiving::Receiving, sending::send};

/// Window of a connection, in bytes, when nothing else is configured.
///
/// What nobody takes of a stream is held, up to that stream's window, and counts for the connection's
/// until it is taken. So where the connection's is but a few streams', a few slow readers stop all others.
/// This one is room for 1024 of 64 KiB or 64 of 1 MiB to stand still. A window is a promise and no memory:
/// only what stands still is held, and a connection never holds more than this. It has to end somewhere
/// far below 2^31: towards endpoints more streams go on another connection (`super::client`), and a
/// client with more uploads that stand still holds up its own.
pub const CONNECTION_WINDOW: u32 = 64 << 20;
