//! The header that one proxy writes to another in front of a connection's bytes, as Linkerd's
//! proxies do (ALPN `transport.l5d.io/v1`).

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The protocol's name in ALPN.
pub const ALPN: &[u8] = b"transport.l5d.io/v1";

const PREFACE: &[u8] = b"transport.l5d.io/v1\r\n\r\n";

/// What the bytes after the header are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Where a connection is bound for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportHeader {
    /// Port of the workload.
    pub port: u16,
    /// Name of another destination, for gateways.
    pub name: String,
    /// The protocol, when the sender knows it.
    pub session: Option<Session>,
}

impl TransportHeader {
    /// For a port, of which no protocol is known.
    pub fn port(port: u16) -> Self {
        Self {
            port,
            ..Self::default()
        }
    }

    /// For a port that is to read `session`.
    pub fn session(port: u16, session: Session) -> Self {
        Self {
            session: Some(session),
            ..Self::port(port)
        }
    }

    /// As it goes over the wire.
    pub fn encode(&self) -> Vec<u8> {
        let mut message = vec![0x08];
        varint(&mut message, self.port.into());
        if !self.name.is_empty() {
            message.push(0x12);
            varint(&mut message, self.name.len());
            message.extend(self.name.as_bytes());
        }
        match self.session {
            // A message with one empty message in it.
            Some(Session::Http1) => message.extend([0x1a, 2, 0x0a, 0]),
            Some(Session::Http2) => message.extend([0x1a, 2, 0x12, 0]),
            None => {}
        }
        framed(message.len() as u32, &message)
    }

    /// Reads one.
    ///
    /// # Errors
    /// When what comes is none.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let mut preface = [0; PREFACE.len()];
        from.read_exact(&mut preface).await?;
        if preface != PREFACE {
            return Err(io::Error::other(format!(
                "no transport header: {preface:?}"
            )));
        }
        let length = from.read_u32().await?;
        if length > 1024 {
            return Err(io::Error::other(format!("a header of {length} bytes")));
        }
        let mut message = vec![0; length as usize];
        from.read_exact(&mut message).await?;
        decode(&message).ok_or_else(|| io::Error::other(format!("no header: {message:?}")))
    }
}

/// A preface, `length`, and `message`, whether or not they fit together.
pub fn framed(length: u32, message: &[u8]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(length.to_be_bytes());
    bytes.extend(message);
    bytes
}

fn decode(mut message: &[u8]) -> Option<TransportHeader> {
    let mut header = TransportHeader::default();
    while let Some((tag, rest)) = message.split_first() {
        message = rest;
        let value = take_varint(&mut message)?;
        match tag {
            0x08 => header.port = u16::try_from(value).ok()?,
            0x12 => header.name = String::from_utf8(take(&mut message, value)?.to_vec()).ok()?,
            0x1a => {
                header.session = match take(&mut message, value)?.first() {
                    Some(0x0a) => Some(Session::Http1),
                    Some(0x12) => Some(Session::Http2),
                    _ => None,
                }
            }
            _ => return None,
        }
    }
    Some(header)
}

fn take<'a>(message: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, rest) = message.split_at_checked(n)?;
    *message = rest;
    Some(head)
}

fn take_varint(message: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = take(message, 1)?[0];
        value |= usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn varint(bytes: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn headers_read_back() {
        for header in [
            TransportHeader::port(80),
            TransportHeader::session(65_535, Session::Http1),
            TransportHeader {
                port: 8443,
                name: "web.demo.svc.cluster.local".to_owned(),
                session: Some(Session::Http2),
            },
        ] {
            let bytes = header.encode();
            let read = TransportHeader::read(&mut &bytes[..]).await;
            assert_eq!(read.expect("a header"), header);
        }
    }
}
