//! The transport header: what a proxy says first on a mesh TLS connection to the inbound port of
//! another, so that one port serves all ports of the workload (Linkerd's `transport.l5d.io/v1`).
//!
//! On the wire: a preamble, the length of what follows as a big-endian `u32`, and a protobuf
//! message. Whether it may be said is agreed on by ALPN, which is [`crate::tls`]'s.

use prost::Message;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const PREAMBLE: &[u8] = b"transport.l5d.io/v1\r\n\r\n";

/// Longest message that is taken: a port, a DNS name and a few tags need far less.
const MAX_LEN: usize = 4 * 1024;

/// What the connection is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportHeader {
    /// The workload's port.
    pub port: u16,
    /// The name of another destination, for gateways; `None` for the workload itself.
    pub name: Option<String>,
    /// What is spoken on the connection; `None`: bytes that are not looked at.
    pub session: Option<Session>,
}

/// What is spoken behind a transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// Why a header was refused.
#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    /// It starts with something else.
    #[error(
        "no transport header: the preamble is not {:?}",
        String::from_utf8_lossy(PREAMBLE)
    )]
    Preamble,
    /// It is longer than any header needs to be.
    #[error("transport header of {0} bytes, more than {MAX_LEN}")]
    TooLong(usize),
    /// It is not the message it should be.
    #[error("transport header: {0}")]
    Message(#[from] prost::DecodeError),
    /// Its port is none.
    #[error("transport header: port {0} is not between 1 and 65535")]
    Port(i32),
    /// The connection failed or ended within it.
    #[error("transport header: {0}")]
    Io(#[from] io::Error),
}

/// Reads a header off `io`, and not a byte more. Has no deadline of its own.
///
/// # Errors
///
/// [`HeaderError`], as soon as it shows.
pub async fn read(io: &mut (impl AsyncRead + Unpin)) -> Result<TransportHeader, HeaderError> {
    let mut preamble = [0; PREAMBLE.len()];
    io.read_exact(&mut preamble).await?;
    if preamble != PREAMBLE {
        return Err(HeaderError::Preamble);
    }
    let len = usize::try_from(io.read_u32().await?).unwrap_or(usize::MAX);
    if len > MAX_LEN {
        return Err(HeaderError::TooLong(len));
    }
    let mut message = vec![0; len];
    io.read_exact(&mut message).await?;
    wire::Header::decode(&message[..])?.try_into()
}

/// Writes a header to `io`, in one piece.
///
/// # Errors
///
/// Those of the connection.
pub async fn write(io: &mut (impl AsyncWrite + Unpin), header: &TransportHeader) -> io::Result<()> {
    let message = wire::Header::from(header).encode_to_vec();
    let mut bytes = PREAMBLE.to_vec();
    let len = u32::try_from(message.len()).map_err(io::Error::other)?;
    bytes.extend(len.to_be_bytes());
    bytes.extend(message);
    io.write_all(&bytes).await?;
    io.flush().await
}

/// The message, as `transport-header.proto` of Linkerd's proxy has it.
mod wire {
    use super::{HeaderError, Session, TransportHeader};

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Header {
        #[prost(int32, tag = "1")]
        port: i32,
        #[prost(string, tag = "2")]
        name: String,
        #[prost(message, optional, tag = "3")]
        session_protocol: Option<SessionProtocol>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct SessionProtocol {
        #[prost(oneof = "Kind", tags = "1, 2")]
        kind: Option<Kind>,
    }

    #[derive(Clone, PartialEq, prost::Oneof)]
    enum Kind {
        #[prost(message, tag = "1")]
        Http1(Empty),
        #[prost(message, tag = "2")]
        Http2(Empty),
    }

    #[derive(Clone, PartialEq, prost::Message)]
    struct Empty {}

    impl From<&TransportHeader> for Header {
        fn from(header: &TransportHeader) -> Self {
            let kind = header.session.map(|session| match session {
                Session::Http1 => Kind::Http1(Empty {}),
                Session::Http2 => Kind::Http2(Empty {}),
            });
            Self {
                port: header.port.into(),
                name: header.name.clone().unwrap_or_default(),
                session_protocol: kind.map(|kind| SessionProtocol { kind: Some(kind) }),
            }
        }
    }

    impl TryFrom<Header> for TransportHeader {
        type Error = HeaderError;

        fn try_from(header: Header) -> Result<Self, HeaderError> {
            let port = u16::try_from(header.port).ok().filter(|port| *port != 0);
            let session = header.session_protocol.and_then(|session| session.kind);
            Ok(Self {
                port: port.ok_or(HeaderError::Port(header.port))?,
                name: Some(header.name).filter(|name| !name.is_empty()),
                session: session.map(|kind| match kind {
                    Kind::Http1(_) => Session::Http1,
                    Kind::Http2(_) => Session::Http2,
                }),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(session: Option<Session>) -> TransportHeader {
        let (port, name) = (4321, None);
        TransportHeader {
            port,
            name,
            session,
        }
    }

    async fn written(header: &TransportHeader) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, header).await.unwrap();
        bytes
    }

    #[tokio::test]
    async fn what_is_written_is_what_linkerd_writes() {
        let bytes = written(&header(Some(Session::Http2))).await;
        let want = b"transport.l5d.io/v1\r\n\r\n\x00\x00\x00\x07\x08\xe1\x21\x1a\x02\x12\x00";
        assert_eq!(bytes, want);
    }

    #[tokio::test]
    async fn what_was_written_is_read_and_not_a_byte_more() {
        let gateway = TransportHeader {
            name: Some("web.demo.svc.cluster.local".into()),
            ..header(None)
        };
        for header in [
            header(None),
            header(Some(Session::Http1)),
            header(Some(Session::Http2)),
            gateway,
        ] {
            let mut bytes = written(&header).await;
            bytes.extend(b"GET /");
            let mut rest = &bytes[..];
            assert_eq!(read(&mut rest).await.unwrap(), header);
            assert_eq!(rest, b"GET /");
        }
    }

    #[tokio::test]
    async fn a_header_that_is_cut_short_is_an_error() {
        let bytes = written(&header(Some(Session::Http1))).await;
        for len in 0..bytes.len() {
            let error = read(&mut &bytes[..len]).await.unwrap_err();
            assert!(matches!(error, HeaderError::Io(_)), "{len} bytes: {error}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_by_its_first_fault() {
        let with = |rest: &[u8]| [PREAMBLE, rest].concat();
        for (bytes, want) in [
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), "preamble"),
            (with(b"\xff\xff\xff\xff"), "4294967295 bytes"),
            (with(b"\0\0\0\x02\x08\0"), "port 0"),
            (with(b"\0\0\0\x04\x08\x80\x80\x04"), "port 65536"),
            (with(b"\0\0\0\x01\x08"), "transport header"),
        ] {
            let error = read(&mut &bytes[..]).await.unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
