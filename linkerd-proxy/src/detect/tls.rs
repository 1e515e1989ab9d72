//! Bytes -> a TLS ClientHello and the server name it asks for. Pure; reachable by anybody.
//!
//! The handshake message may be cut over several records (RFC 8446, section 5.1), and with
//! post-quantum key shares it seldom fits one segment. Every length is checked against what is
//! there, and nothing is copied but the handshake message itself.

/// What the first bytes of a connection say about TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// A ClientHello.
    ClientHello {
        /// The host name of the server name extension (RFC 6066, section 3), in lower case.
        sni: Option<String>,
    },
    /// Something else.
    Not,
    /// Could still be one.
    NeedMore,
}

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Larger than any record may be (2^14, and what TLS 1.2 allows for expansion).
const MAX_RECORD: usize = (1 << 14) + 2048;

/// A ClientHello larger than this is not waited for.
const MAX_HELLO: usize = 1 << 16;

/// Judges the first bytes of a connection.
pub fn detect(bytes: &[u8]) -> Tls {
    let mut hello = Vec::new();
    let mut rest = bytes;
    loop {
        // ContentType, legacy_record_version, length.
        let verdict = record_header(rest);
        let Ok(len) = verdict else {
            return verdict.unwrap_err();
        };
        let available = len.min(rest.len() - 5);
        hello.extend_from_slice(&rest[5..5 + available]);
        match handshake_len(&hello) {
            Err(verdict) => return verdict,
            Ok(Some(total)) if hello.len() >= total => {
                return match parse_hello(&hello[4..total]) {
                    Some(sni) => Tls::ClientHello { sni },
                    None => Tls::Not,
                };
            }
            Ok(_) if available < len => return Tls::NeedMore,
            Ok(_) => rest = &rest[5 + len..],
        }
    }
}

/// The length of the record that `bytes` begin with, or the verdict if they can not be a handshake.
fn record_header(bytes: &[u8]) -> Result<usize, Tls> {
    let starts_well = bytes.iter().zip([HANDSHAKE, 3]).all(|(b, want)| *b == want);
    if !starts_well || bytes.get(2).is_some_and(|minor| *minor > 4) {
        return Err(Tls::Not);
    }
    let [_, _, _, hi, lo, ..] = *bytes else {
        return Err(Tls::NeedMore);
    };
    match usize::from(u16::from_be_bytes([hi, lo])) {
        0 => Err(Tls::Not),
        len if len > MAX_RECORD => Err(Tls::Not),
        len => Ok(len),
    }
}

/// The length of the handshake message with its header, once that is there.
fn handshake_len(hello: &[u8]) -> Result<Option<usize>, Tls> {
    if hello.first().is_some_and(|t| *t != CLIENT_HELLO) {
        return Err(Tls::Not);
    }
    let [_, a, b, c, ..] = *hello else {
        return Ok(None);
    };
    let len = u32::from_be_bytes([0, a, b, c]) as usize;
    if len > MAX_HELLO {
        Err(Tls::Not)
    } else {
        Ok(Some(4 + len))
    }
}

/// Reads a ClientHello; `None` if it is malformed, `Some(None)` if it names no server.
fn parse_hello(body: &[u8]) -> Option<Option<String>> {
    let mut hello = Reader(body);
    hello.take(2 + 32)?; // legacy_version, random
    hello.vec8()?; // legacy_session_id
    let suites = hello.vec16()?;
    if suites.is_empty() || suites.len() % 2 != 0 {
        return None;
    }
    hello.vec8()?; // legacy_compression_methods
    if hello.0.is_empty() {
        return Some(None); // no extensions: allowed up to TLS 1.2
    }
    let mut extensions = Reader(hello.vec16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let data = extensions.vec16()?;
        if kind == SERVER_NAME {
            return host_name(data);
        }
    }
    Some(None)
}

/// The first host name of a server name list.
fn host_name(data: &[u8]) -> Option<Option<String>> {
    let mut list = Reader(Reader(data).vec16()?);
    while !list.0.is_empty() {
        let kind = list.take(1)?[0];
        let name = list.vec16()?;
        if kind == HOST_NAME {
            let valid = !name.is_empty()
                && name.len() <= 253
                && name
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._".contains(b));
            let name = valid.then(|| String::from_utf8_lossy(name).to_ascii_lowercase());
            return Some(Some(name?));
        }
    }
    Some(None)
}

/// Takes parts off a slice; `None` as soon as one is missing.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let bytes = self.take(2)?;
        Some(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vec8(&mut self) -> Option<&'a [u8]> {
        let len = self.take(1)?[0];
        self.take(len.into())
    }

    fn vec16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A ClientHello for `sni`, padded by `padding` bytes, in records of at most `record` bytes.
    pub(crate) fn client_hello(sni: Option<&str>, padding: usize, record: usize) -> Vec<u8> {
        let vec16 = |bytes: Vec<u8>| [(bytes.len() as u16).to_be_bytes().to_vec(), bytes].concat();
        let mut extensions = [vec![0, 21], vec16(vec![0; padding])].concat();
        if let Some(name) = sni {
            let entry = [vec![HOST_NAME], vec16(name.as_bytes().to_vec())].concat();
            extensions.extend([vec![0, 0], vec16(vec16(entry))].concat());
        }
        let body = [
            vec![3, 3],
            vec![7; 32],
            vec![0],
            vec16(vec![0x13, 1]),
            vec![1, 0],
            vec16(extensions),
        ]
        .concat();
        let len = (body.len() as u32).to_be_bytes();
        let message = [vec![CLIENT_HELLO], len[1..].to_vec(), body].concat();
        let records = message
            .chunks(record)
            .map(|c| [vec![HANDSHAKE, 3, 1], vec16(c.to_vec())]);
        records.flatten().flatten().collect()
    }

    fn named(sni: &str) -> Tls {
        Tls::ClientHello {
            sni: Some(sni.into()),
        }
    }

    #[test]
    fn the_server_name_is_read() {
        assert_eq!(
            detect(&client_hello(Some("Web.Example"), 10, 9_999)),
            named("web.example")
        );
        let none = Tls::ClientHello { sni: None };
        assert_eq!(detect(&client_hello(None, 10, 9_999)), none);
    }

    #[test]
    fn a_large_hello_in_many_records_is_put_together() {
        assert_eq!(
            detect(&client_hello(Some("a.b"), 20_000, 100)),
            named("a.b")
        );
    }

    #[test]
    fn every_prefix_asks_for_more() {
        let hello = client_hello(Some("a.b"), 300, 64);
        for n in 0..hello.len() {
            assert_eq!(detect(&hello[..n]), Tls::NeedMore, "{n} bytes");
        }
    }

    #[test]
    fn what_is_not_tls_is_told_at_once() {
        for bytes in [
            &b"GET"[..],
            &[22, 2],
            &[22, 3, 9],
            &[22, 3, 1, 0, 0],
            &[22, 3, 1, 0, 9, 2],
        ] {
            assert_eq!(detect(bytes), Tls::Not, "{bytes:?}");
        }
    }

    #[test]
    fn a_name_that_is_no_host_name_is_refused() {
        assert_eq!(detect(&client_hello(Some("a\nb"), 0, 999)), Tls::Not);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            detect(&bytes);
            let mut hello = client_hello(Some("a.b"), 40, 64);
            for (i, b) in bytes.iter().enumerate().take(20) {
                let at = (i * 31 + *b as usize) % hello.len();
                hello[at] ^= b;
            }
            detect(&hello);
        }
    }
}
