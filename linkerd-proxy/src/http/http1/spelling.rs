//! How header names were spelled: names are case-insensitive, but there are applications that do not
//! know it, so what came as `X-Request-ID` leaves as that. Trailers are in lower case: they travel as a frame
//! of the body, which has no room for another spelling.

use bytes::Bytes;
use http::HeaderName;

/// The head that a message came in, or nothing for one that is the proxy's own or came over HTTP/2.
#[derive(Clone, Debug, Default)]
pub struct Spelling(Bytes);

/// Finds names in the order in which they mostly are asked for: that of the head.
pub(super) struct Names<'a> {
    head: &'a [u8],
    /// Where the line after the last one found begins.
    next: usize,
}

impl Spelling {
    pub(super) fn new(head: Bytes) -> Self {
        Self(head)
    }

    pub(super) fn names(&self) -> Names<'_> {
        Names {
            head: &self.0,
            next: line_after(&self.0, 0),
        }
    }

    /// The target of a request line (RFC 9112, section 3).
    pub fn target(&self) -> Option<&[u8]> {
        self.0.split(|b| *b == b' ').nth(1)
    }

    /// The reason phrase of a status line (RFC 9112, section 4).
    pub(super) fn reason(&self) -> Option<&[u8]> {
        let end = memchr::memchr2(b'\r', b'\n', &self.0)?;
        let line = &self.0[..end];
        let from = memchr::memchr_iter(b' ', line).nth(1)? + 1;
        Some(&line[from..])
    }
}

impl<'a> Names<'a> {
    /// The name as it was spelled in the head.
    pub(super) fn find(&mut self, name: &HeaderName) -> Option<&'a [u8]> {
        let name = name.as_str().as_bytes();
        self.find_from(self.next, name)
            .or_else(|| self.find_from(line_after(self.head, 0), name))
    }

    fn find_from(&mut self, mut at: usize, name: &[u8]) -> Option<&'a [u8]> {
        while at < self.head.len() {
            let line = &self.head[at..];
            let is_it = line.get(name.len()) == Some(&b':')
                && line[..name.len()].eq_ignore_ascii_case(name);
            let next = line_after(self.head, at);
            if is_it {
                self.next = next;
                return Some(&line[..name.len()]);
            }
            at = next;
        }
        None
    }
}

/// Where the line after the one at `at` begins.
fn line_after(head: &[u8], at: usize) -> usize {
    memchr::memchr(b'\n', &head[at..]).map_or(head.len(), |end| at + end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nX-ID: 1\r\nSet-Cookie: b\r\nx-id: 2\r\n\r\n";

    fn found(names: &mut Names<'_>, name: &'static str) -> Option<String> {
        let name = HeaderName::from_static(name);
        let found = names.find(&name)?;
        Some(String::from_utf8_lossy(found).into_owned())
    }

    #[test]
    fn names_are_found_in_any_order() {
        let spelling = Spelling::new(Bytes::from_static(HEAD));
        let mut names = spelling.names();
        for (name, want) in [
            ("x-id", Some("X-ID")),
            ("set-cookie", Some("Set-Cookie")),
            ("host", Some("Host")),
            ("x-i", None),
            ("get / http/1.1", None),
            ("x-id", Some("X-ID")),
            ("x-id", Some("x-id")),
        ] {
            let Ok(name) = HeaderName::try_from(name) else {
                continue;
            };
            let got = names.find(&name).map(String::from_utf8_lossy);
            assert_eq!(got.as_deref(), want, "{name}");
        }
        assert_eq!(found(&mut Spelling::default().names(), "host"), None);
    }

    #[test]
    fn the_reason_is_what_follows_the_status() {
        for (head, want) in [
            ("HTTP/1.1 200 All is well\r\n\r\n", Some("All is well")),
            ("HTTP/1.1 200 \r\n\r\n", Some("")),
            ("HTTP/1.1 200 OK\nX: a\r\n\r\n", Some("OK")),
            ("HTTP/1.1 200\r\n\r\n", None),
        ] {
            let spelling = Spelling::new(Bytes::copy_from_slice(head.as_bytes()));
            let got = spelling.reason().map(String::from_utf8_lossy);
            assert_eq!(got.as_deref(), want, "{head:?}");
        }
    }
}
