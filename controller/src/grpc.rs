//! gRPC, server side, with answers that are encoded once.
//!
//! tonic's server would encode every message for every stream, keep a buffer of 8 KiB for each, and
//! a stack of layers for each connection. Ours hands out [`Frame`]s, which all streams that send
//! the same message share, so a change that a thousand proxies follow is encoded once, and an open
//! stream holds little more than its receiver. Of gRPC only what Linkerd's API uses is here: one
//! message asks, one or many answer, nothing is compressed.

mod call;
mod server;
mod updates;

pub use self::{
    call::{Method, Methods, Pending, Reply, Services, decode},
    server::serve,
    updates::{Encoded, Updates},
};

use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::BoxStream;
use tonic::Status;

/// A message as it goes over the wire, with its length before it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Frame(Bytes);

/// What answers a call: messages, until the end or an error.
pub type Frames = BoxStream<'static, Result<Frame, Status>>;

impl Frame {
    /// Encodes `message`.
    pub fn of(message: &impl prost::Message) -> Self {
        let length = message.encoded_len();
        let mut frame = BytesMut::with_capacity(PREFIX + length);
        frame.put_u8(0);
        // Ours are bounded far below four gigabytes.
        frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        // The buffer grows as it has to, so this cannot fail.
        let _ = message.encode(&mut frame);
        Self(frame.freeze())
    }
}

/// A flag (compressed or not) and the length, before every message.
const PREFIX: usize = 5;
