//! HTTP/1 on the wire (RFC 9112), for both sides: heads are read and written, bodies framed.
//!
//! Our own, on httparse, because this is where a sidecar's time goes: no task and no channel stands
//! between the two connections of a request, a connection that idles holds no buffer, and the case
//! of header names is kept by keeping the head they came in. What a message means is decided in
//! [`super::server`] and [`super::client`]; nothing here knows the other side.
//!
//! Strict, because an intermediary has to be: what two parsers could read differently is refused.

mod chunked;
mod decode;
mod encode;
mod head;
mod message;
mod spelling;
mod wire;

pub use self::{
    decode::{Decoded, Decoder},
    head::{Head, request, response},
    message::{Asked, Broken, Message},
    spelling::Spelling,
    wire::Wire,
};

use std::io;

/// Largest head that is taken, in bytes.
pub const MAX_HEAD: usize = 60 * 1024;

/// Most header lines that are taken, in a head or in trailers.
const MAX_HEADERS: usize = 128;

/// What became of a message.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection broke.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It is not HTTP/1, or not clearly so.
    #[error("malformed HTTP/1: {0}")]
    Malformed(#[from] Malformed),
    /// The connection ended in the middle of it.
    #[error("connection closed before the message was complete")]
    Incomplete,
}

/// Why a message is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// By the grammar.
    #[error("{0}")]
    Syntax(httparse::Error),
    /// The target of a request is no URI.
    #[error("invalid request target")]
    Target,
    /// More than [`MAX_HEAD`], or than 128 lines.
    #[error("head too large")]
    TooLarge,
    /// Both ways of framing at once (RFC 9112, section 6.3).
    #[error("both transfer-encoding and content-length")]
    BothFramings,
    /// Content-Length more than once.
    #[error("more than one content-length")]
    ManyLengths,
    /// Content-Length is no number.
    #[error("content-length is not a number")]
    Length,
    /// Not `chunked`, or more than that.
    #[error("unknown transfer-encoding")]
    Coding,
    /// HTTP/1.0 has no transfer codings.
    #[error("transfer-encoding in HTTP/1.0")]
    CodingInHttp10,
    /// `101` to a request that did not ask for another protocol.
    #[error("protocol switched unasked")]
    Switch,
    /// The size of a chunk is no number, or too large a one.
    #[error("invalid chunk size")]
    ChunkSize,
    /// A chunk does not end where it should.
    #[error("invalid end of a chunk")]
    ChunkEnd,
    /// More than [`MAX_HEAD`] of chunk extensions or of trailers.
    #[error("chunk extensions or trailers too large")]
    ChunkExtras,
}
