//! Bytes -> HTTP/1, HTTP/2, neither, or "need more". Pure; reachable by anybody who can connect.
//!
//! A verdict is given as soon as the bytes allow one: the HTTP/2 preface by its first wrong byte,
//! HTTP/1 by its request line (RFC 9112, section 3), which has to name its version.

/// The line that every HTTP/2 client sends first (RFC 9113, section 3.4): no HTTP/1 request has it.
const PREFACE_LINE: &[u8] = b"PRI * HTTP/2.0";

/// A longer method than any in IANA's registry is not taken for one.
const MAX_METHOD: usize = 32;

/// What the first bytes of a connection say about HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Something else.
    Not,
    /// Could still be either.
    NeedMore,
}

/// Judges the first bytes of a connection; `full` says that there is no room for more of them.
pub fn detect(bytes: &[u8], full: bool) -> Http {
    let n = bytes.len().min(PREFACE_LINE.len());
    if bytes[..n] == PREFACE_LINE[..n] {
        return match n {
            _ if n == PREFACE_LINE.len() => Http::Http2,
            _ if full => Http::Not,
            _ => Http::NeedMore,
        };
    }
    match request_line(bytes) {
        Http::NeedMore if full && has_known_method(bytes) => Http::Http1,
        Http::NeedMore if full => Http::Not,
        verdict => verdict,
    }
}

/// Judges `METHOD SP TARGET SP HTTP/1.x CRLF`.
fn request_line(bytes: &[u8]) -> Http {
    // Empty lines before a request are to be ignored (RFC 9112, section 2.2).
    let bytes = skip_empty_lines(bytes);
    if bytes == b"\r" {
        return Http::NeedMore;
    }
    let Some(method_end) = bytes.iter().position(|b| !is_token(*b)) else {
        return if bytes.len() > MAX_METHOD {
            Http::Not
        } else {
            Http::NeedMore
        };
    };
    if method_end == 0 || method_end > MAX_METHOD || bytes[method_end] != b' ' {
        return Http::Not;
    }
    let rest = &bytes[method_end + 1..];
    let Some(target_end) = rest.iter().position(|b| *b <= b' ') else {
        return Http::NeedMore;
    };
    if target_end == 0 || rest[target_end] != b' ' {
        return Http::Not;
    }
    version(&rest[target_end + 1..])
}

/// Judges what follows the target: `HTTP/1.x` and the end of the line.
fn version(bytes: &[u8]) -> Http {
    const NAME: &[u8] = b"HTTP/1.";
    let n = bytes.len().min(NAME.len());
    if bytes[..n] != NAME[..n] {
        return Http::Not;
    }
    match &bytes[n..] {
        [] | [b'0' | b'1'] | [b'0' | b'1', b'\r'] => Http::NeedMore,
        [b'0' | b'1', b'\n', ..] | [b'0' | b'1', b'\r', b'\n', ..] => Http::Http1,
        _ => Http::Not,
    }
}

fn skip_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let Some(rest) = bytes.strip_prefix(b"\r\n") {
        bytes = rest;
    }
    bytes
}

/// `tchar` of RFC 9110, section 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

/// For request lines that are longer than what is looked at.
fn has_known_method(bytes: &[u8]) -> bool {
    const KNOWN: [&[u8]; 9] = [
        b"GET ",
        b"POST ",
        b"PUT ",
        b"HEAD ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"TRACE ",
        b"CONNECT ",
    ];
    KNOWN.iter().any(|m| bytes.starts_with(m))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn http1_is_known_by_its_request_line() {
        for line in [
            "GET / HTTP/1.1\r\n",
            "M-SEARCH * HTTP/1.0\r\n",
            "\r\nPUT /a?b HTTP/1.1\nx",
        ] {
            assert_eq!(detect(line.as_bytes(), false), Http::Http1, "{line:?}");
        }
    }

    #[test]
    fn http2_is_known_by_its_preface() {
        assert_eq!(
            detect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false),
            Http::Http2
        );
        assert_eq!(detect(b"PRI * HTTP/2.0", false), Http::Http2);
        assert_eq!(detect(b"PRI * HTTP/2.0\r\n\r\nB", false), Http::Http2);
        assert_eq!(detect(b"PRI * HT", false), Http::NeedMore);
        assert_eq!(detect(b"PRI * HX", false), Http::Not);
        assert_eq!(detect(b"PRI * HX\r\n", false), Http::Not);
    }

    #[test]
    fn other_protocols_are_told_at_once() {
        for bytes in [
            &b"*1\r\n$4\r\nPING\r\n"[..],        // Redis
            b"EHLO example.org\r\n",             // SMTP
            b"get key\r\n",                      // memcached
            b"\x16\x03\x01\x02\x00\x01",         // TLS
            b"\x00\x00\x00\x08\x04\xd2\x16\x2f", // PostgreSQL
            b"SSH-2.0-OpenSSH_9.2\r\n",          // SSH
            b"GET \x00\x01",
            b"three words without end",
            b"GET / HTTP/3.0\r\n",
        ] {
            assert_eq!(detect(bytes, false), Http::Not, "{bytes:?}");
        }
    }

    #[test]
    fn a_part_of_a_request_line_waits_for_the_rest() {
        let line = b"DELETE /some/path HTTP/1.1\r\n";
        for n in 0..line.len() {
            assert_eq!(detect(&line[..n], false), Http::NeedMore, "{n} bytes");
        }
    }

    #[test]
    fn a_line_that_never_ends_is_settled_by_its_method() {
        let mut line = b"GET /".to_vec();
        line.resize(10_000, b'a');
        assert_eq!(detect(&line, true), Http::Http1);
        assert_eq!(detect(&line[4..], true), Http::Not);
    }

    proptest! {
        /// More bytes never turn one verdict into another one.
        #[test]
        fn verdicts_are_stable(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let mut verdict = Http::NeedMore;
            let bytes = [b"\r\nG /".as_slice(), &bytes].concat();
            for n in 0..=bytes.len() {
                let now = detect(&bytes[..n], false);
                prop_assert!(verdict == Http::NeedMore || verdict == now);
                verdict = now;
            }
        }
    }
}
