//! Chunked bodies: the same data comes of one however it is cut.

#![no_main]

use bytes::Bytes;
use linkerd_proxy::http::http1::{Decoded, Decoder};

/// The data, and whether the body ended well; nothing for a malformed one.
fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<(Vec<u8>, bool)> {
    let (mut decoder, mut data) = (Decoder::chunked(), Vec::new());
    for piece in pieces {
        let mut input = Bytes::copy_from_slice(piece);
        loop {
            match decoder.decode(&mut input).ok()? {
                Decoded::Data(more) => data.extend_from_slice(&more),
                Decoded::NeedMore => break,
                Decoded::End | Decoded::Trailers(_) => return Some((data, true)),
            }
        }
    }
    Some((data, false))
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = decode(std::iter::once(bytes));
    assert_eq!(whole, decode(bytes.chunks(1)));
    assert_eq!(whole, decode(bytes.chunks(3)));
});
