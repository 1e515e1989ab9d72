//! What all ends of HTTP/2 need: bodies both ways, as frames of h2's streams and sent as fast as the peer
//! takes them; and PINGs.
//!
//! Who opens streams and who answers them is for [`super::client`] and [`super::server`] to know.

pub mod ping;
mod receiving;
mod sending;

pub use self::{receiving::Receiving, sending::send};
