//! Bodies on their way in: how much of what was read belongs to one (RFC 9112, section 6).

use super::{Error, Malformed, chunked::Chunked};
use bytes::Bytes;
use http::HeaderMap;

/// Where a body ends, and how far it has come.
#[derive(Debug)]
pub enum Decoder {
    /// After so many more bytes.
    Length(u64),
    /// After the last chunk.
    Chunked(Chunked),
    /// With the connection.
    UntilEnd,
}

/// What some bytes of a body are.
#[derive(Debug, PartialEq)]
pub enum Decoded {
    /// Content.
    Data(Bytes),
    /// What follows the content, which ends with it.
    Trailers(HeaderMap),
    /// Nothing more: the body has ended.
    End,
    /// Not enough to say.
    NeedMore,
}

impl Decoder {
    /// A body in chunks.
    pub fn chunked() -> Self {
        Self::Chunked(Chunked::default())
    }

    /// Takes what belongs to the body off `input`, as much as can be taken without copying.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when it is not framed as it should be.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Decoded, Malformed> {
        match self {
            Self::Length(0) => Ok(Decoded::End),
            _ if input.is_empty() => Ok(Decoded::NeedMore),
            Self::Length(left) => Ok(Decoded::Data(take(input, left))),
            Self::Chunked(chunked) => chunked.decode(input),
            Self::UntilEnd => Ok(Decoded::Data(std::mem::take(input))),
        }
    }

    /// Whether nothing more belongs to the body.
    pub fn is_over(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_over(),
            Self::UntilEnd => false,
        }
    }

    /// The connection has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Incomplete`] when the body has not.
    pub fn connection_ended(&self) -> Result<(), Error> {
        match self {
            Self::UntilEnd => Ok(()),
            _ if self.is_over() => Ok(()),
            _ => Err(Error::Incomplete),
        }
    }
}

/// The next `left` bytes, or as many of them as there are.
pub(super) fn take(input: &mut Bytes, left: &mut u64) -> Bytes {
    let n = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
    *left -= n as u64;
    input.split_to(n)
}
