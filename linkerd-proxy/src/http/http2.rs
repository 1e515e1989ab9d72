//! Bodies over HTTP/2, both ways: h2's streams as frames, and frames sent as fast as the peer takes them.
//!
//! Who opens streams and who answers them is for [`super::client`] and [`super::server`] to know.

mod receiving;
mod sending;

pub use self::{
    receiving::{Received, Receiving},
    sending::send,
};
