//! The chunked transfer coding, read (RFC 9112, section 7.1). Strict: lines end with CRLF, sizes have at
//! most 16 digits, and extensions and trailers are bounded.

use super::{Decoded, MAX_HEAD, MAX_HEADERS, Malformed, decode::take};
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use httparse::{EMPTY_HEADER, Status};

/// How far a chunked body has come.
#[derive(Debug, Default)]
pub struct Chunked {
    state: State,
    /// Bytes of extensions so far: they carry nothing, so there is no reason for many.
    extras: usize,
}

#[derive(Debug)]
enum State {
    /// In the size line, before a digit: the size so far, and how many digits it has.
    Size {
        size: u64,
        digits: u8,
    },
    /// Between the size and the end of its line.
    Extension {
        size: u64,
    },
    /// At the LF of a size line.
    SizeLf {
        size: u64,
    },
    /// In the data, with so many bytes left.
    Data {
        left: u64,
    },
    /// At the CR after the data.
    DataCr,
    /// At the LF after the data.
    DataLf,
    /// In the trailers: what came of them, up to the empty line.
    Trailers(Vec<u8>),
    Over,
}

impl Default for State {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Chunked {
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    pub(super) fn decode(&mut self, input: &mut Bytes) -> Result<Decoded, Malformed> {
        loop {
            match &mut self.state {
                State::Over => return Ok(Decoded::End),
                _ if input.is_empty() => return Ok(Decoded::NeedMore),
                State::Data { left } => {
                    let data = take(input, left);
                    if *left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok(Decoded::Data(data));
                }
                State::Trailers(lines) => {
                    let byte = input.get_u8();
                    if byte == b'\n' && lines.last() != Some(&b'\r') {
                        return Err(Malformed::ChunkEnd);
                    }
                    lines.push(byte);
                    if let Some(decoded) = trailers(lines)? {
                        self.state = State::Over;
                        return Ok(decoded);
                    }
                }
                _ => {
                    let byte = input.get_u8();
                    self.step(byte)?;
                }
            }
        }
    }

    /// Takes one byte of what is around the data.
    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        self.state = match (&self.state, byte) {
            (&State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                if digits == 16 {
                    return Err(Malformed::ChunkSize);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                State::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                }
            }
            (State::Size { digits: 0, .. }, _) => return Err(Malformed::ChunkSize),
            (&State::Size { size, .. } | &State::Extension { size }, b'\r') => {
                State::SizeLf { size }
            }
            (&State::Size { size, .. }, b';' | b' ' | b'\t') => State::Extension { size },
            (State::Size { .. }, _) => return Err(Malformed::ChunkSize),
            (State::Extension { .. }, b'\n') => return Err(Malformed::ChunkEnd),
            (&State::Extension { size }, _) => {
                self.extras += 1;
                if self.extras > MAX_HEAD {
                    return Err(Malformed::ChunkExtras);
                }
                State::Extension { size }
            }
            (State::SizeLf { size: 0 }, b'\n') => State::Trailers(Vec::new()),
            (&State::SizeLf { size }, b'\n') => State::Data { left: size },
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::default(),
            _ => return Err(Malformed::ChunkEnd),
        };
        Ok(())
    }
}

/// What the trailers say, if they are whole.
fn trailers(lines: &[u8]) -> Result<Option<Decoded>, Malformed> {
    if lines == b"\r\n" {
        return Ok(Some(Decoded::End));
    }
    if lines.len() > MAX_HEAD {
        return Err(Malformed::ChunkExtras);
    }
    if !lines.ends_with(b"\r\n\r\n") {
        return Ok(None);
    }
    let mut parsed = [EMPTY_HEADER; MAX_HEADERS];
    let Status::Complete((_, parsed)) = httparse::parse_headers(lines, &mut parsed)? else {
        return Ok(None);
    };
    let mut headers = HeaderMap::with_capacity(parsed.len());
    for line in parsed {
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| Malformed::Syntax(httparse::Error::HeaderName))?;
        let value = HeaderValue::from_bytes(line.value)
            .map_err(|_| Malformed::Syntax(httparse::Error::HeaderValue))?;
        headers.append(name, value);
    }
    Ok(Some(Decoded::Trailers(headers)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Decodes `pieces` as they come: the data, and how it ended.
    fn decode(pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<Decoded>, Bytes), Malformed> {
        let (mut chunked, mut data) = (Chunked::default(), Vec::new());
        let mut input = Bytes::new();
        for piece in pieces {
            input = [&input[..], piece].concat().into();
            loop {
                match chunked.decode(&mut input)? {
                    Decoded::Data(more) => data.extend_from_slice(&more),
                    Decoded::NeedMore => break,
                    end => return Ok((data, Some(end), input)),
                }
            }
        }
        Ok((data, None, input))
    }

    #[test]
    fn chunks_are_put_together() {
        let body = b"5\r\nhello\r\n6;a=b\r\n world\r\n0\r\n\r\nGET";
        let (data, end, rest) = decode(&[body]).unwrap();
        assert_eq!(data, b"hello world");
        assert_eq!((end, &rest[..]), (Some(Decoded::End), &b"GET"[..]));
    }

    #[test]
    fn trailers_come_after_the_last_chunk() {
        let (data, end, _) = decode(&[b"1\r\na\r\n0\r\nX-Sum: 5\r\nx-b: c\r\n\r\n"]).unwrap();
        let Some(Decoded::Trailers(trailers)) = end else {
            panic!("{end:?}");
        };
        assert_eq!((data, trailers.len()), (b"a".to_vec(), 2));
        assert_eq!(trailers["x-sum"], "5");
    }

    #[test]
    fn what_could_be_read_differently_is_refused() {
        for (body, want) in [
            (&b"zz\r\n"[..], Malformed::ChunkSize),
            (b"\r\n", Malformed::ChunkSize),
            (b"-1\r\n", Malformed::ChunkSize),
            (b"0x5\r\n", Malformed::ChunkSize),
            (b"ffffffffffffffff1\r\n", Malformed::ChunkSize),
            (b"5\nhello", Malformed::ChunkSize),
            (b"5;a\nhello", Malformed::ChunkEnd),
            (b"5\r\nhelloXX", Malformed::ChunkEnd),
            (b"5\r\nhello\n", Malformed::ChunkEnd),
            (b"0\r\n\nGET / HTTP/1.1\r\n\r\n", Malformed::ChunkEnd),
            (b"0\r\nx: 1\n\nGET / HTTP/1.1\r\n\r\n", Malformed::ChunkEnd),
        ] {
            assert_eq!(decode(&[body]).unwrap_err(), want, "{body:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let long = "a".repeat(MAX_HEAD + 1);
        for body in [format!("5;{long}"), format!("0\r\n{long}")] {
            let refused = decode(&[body.as_bytes()]).unwrap_err();
            assert_eq!(refused, Malformed::ChunkExtras);
        }
        // Extensions add up.
        let many = "1;aaaaaaaaaaaaaaaa\r\na\r\n".repeat(MAX_HEAD / 16 + 1);
        let refused = decode(&[many.as_bytes()]).unwrap_err();
        assert_eq!(refused, Malformed::ChunkExtras);
    }

    proptest! {
        #[test]
        fn where_reads_split_makes_no_difference(
            chunks in proptest::collection::vec("[a-z]{1,40}", 0..6),
            cuts in proptest::collection::vec(0_usize..300, 0..6),
        ) {
            let mut body = Vec::new();
            for chunk in &chunks {
                body.extend(format!("{:x}\r\n{chunk}\r\n", chunk.len()).into_bytes());
            }
            body.extend(b"0\r\nx-end: 1\r\n\r\n");
            let mut cuts: Vec<usize> = cuts.iter().map(|c| c % body.len()).collect();
            cuts.extend([0, body.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &body[w[0]..w[1]]).collect();
            let (data, end, rest) = decode(&pieces).unwrap();
            prop_assert_eq!(data, chunks.concat().into_bytes());
            prop_assert!(matches!(end, Some(Decoded::Trailers(_))));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&[&bytes]);
        }
    }
}
