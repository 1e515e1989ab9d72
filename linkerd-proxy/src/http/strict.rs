//! Refuses request heads whose framing two parsers could read differently (RFC 9112, sections
//! 6.1 to 6.3): `Transfer-Encoding` together with `Content-Length`, more than one
//! `Content-Length`, and header lines that are folded (5.2) or spaced before the colon (5.1).
//!
//! hyper settles most of these silently and safely; an intermediary has to do more: such a message
//! is an attack on whoever is next to us, or a bug, so it is refused. Pure.

/// Why a head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// Both ways of framing at once.
    #[error("both transfer-encoding and content-length")]
    BothFramings,
    /// Content-Length more than once.
    #[error("more than one content-length")]
    ManyLengths,
    /// A header line that starts with white space.
    #[error("folded header line")]
    Folded,
    /// White space before the colon.
    #[error("white space before the colon of a header line")]
    SpaceBeforeColon,
}

/// What is at the start of some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// A whole head of this many bytes.
    Whole {
        /// With the empty lines before it, and the one that ends it.
        len: usize,
        /// Whether a body follows.
        has_body: bool,
    },
    /// Not a whole one yet.
    Partial,
}

/// Judges the head at the start of `bytes`. What is not a head is left to the parser.
///
/// # Errors
///
/// [`Ambiguous`], as soon as it shows.
pub fn check(bytes: &[u8]) -> Result<Head, Ambiguous> {
    let (mut lengths, mut has_encoding, mut len) = (0, false, 0);
    let mut in_head = false;
    for end in memchr::memchr_iter(b'\n', bytes) {
        let line = &bytes[len..end];
        len = end + 1;
        match (in_head, is_empty(line)) {
            (false, true) => continue,
            (false, false) => in_head = true,
            (true, true) => {
                let has_body = lengths > 0 || has_encoding;
                return Ok(Head::Whole { len, has_body });
            }
            (true, false) => {
                header_line(line, &mut lengths, &mut has_encoding)?;
                if has_encoding && lengths > 0 {
                    return Err(Ambiguous::BothFramings);
                }
            }
        }
    }
    Ok(Head::Partial)
}

fn header_line(line: &[u8], lengths: &mut u32, has_encoding: &mut bool) -> Result<(), Ambiguous> {
    // The initial settles it for nearly every header.
    match line[0] | 0x20 {
        b'c' | b't' => {}
        // Both a space and a tab are one of these with the bit set.
        b' ' | b')' if matches!(line[0], b' ' | b'\t') => return Err(Ambiguous::Folded),
        _ => return Ok(()),
    }
    let Some(colon) = line.iter().position(|b| *b == b':') else {
        return Ok(());
    };
    let name = &line[..colon];
    if matches!(name.last(), Some(b' ' | b'\t')) {
        return Err(Ambiguous::SpaceBeforeColon);
    }
    *has_encoding |= name.eq_ignore_ascii_case(b"transfer-encoding");
    if name.eq_ignore_ascii_case(b"content-length") {
        *lengths += 1;
        if *lengths > 1 {
            return Err(Ambiguous::ManyLengths);
        }
    }
    Ok(())
}

fn is_empty(line: &[u8]) -> bool {
    line.is_empty() || line == b"\r"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head(lines: &[&str]) -> Vec<u8> {
        format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\nbody: x",
            lines.join("\r\n")
        )
        .into_bytes()
    }

    #[test]
    fn one_framing_passes() {
        for (lines, want) in [
            (&["Content-Length: 4"][..], true),
            (&["Transfer-Encoding: chunked", "TE: trailers"], true),
            (&["Cookie: a"], false),
        ] {
            let bytes = head(lines);
            let Ok(Head::Whole { len, has_body }) = check(&bytes) else {
                panic!("{lines:?}");
            };
            assert_eq!(
                (&bytes[len..], has_body),
                (&b"body: x"[..], want),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn ambiguous_framing_is_refused() {
        use Ambiguous::*;
        for (lines, want) in [
            (
                &["Content-Length: 4", "transfer-encoding: chunked"][..],
                BothFramings,
            ),
            (
                &["TRANSFER-ENCODING: chunked", "content-length: 4"],
                BothFramings,
            ),
            (&["Content-Length: 4", "Content-Length: 4"], ManyLengths),
            (&["X: a", " b"], Folded),
            (&["X: a", "\tb"], Folded),
            (&["Transfer-Encoding : chunked"], SpaceBeforeColon),
        ] {
            assert_eq!(check(&head(lines)), Err(want), "{lines:?}");
        }
    }

    #[test]
    fn what_follows_the_head_is_not_looked_at() {
        let mut bytes = head(&["Content-Length: 99"]);
        bytes.extend(b"\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n");
        assert!(check(&bytes).is_ok());
    }

    #[test]
    fn a_part_of_a_head_is_partial() {
        let bytes = b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
        for n in 0..bytes.len() {
            assert_eq!(check(&bytes[..n]), Ok(Head::Partial), "{n} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = check(&bytes);
        }
    }
}
