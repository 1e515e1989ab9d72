//! HTTP/1 messages as applications understand them, to be compared with one another.

use integration::tcp::read_head;
use std::io;
use tokio::{io::AsyncReadExt, net::TcpStream};

/// A message: the order of headers with different names and the size of chunks do not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    pub(crate) trailers: Vec<String>,
}

/// What the message is, for that says whether it has a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Answer,
    AnswerToHead,
}

impl Message {
    /// The next message of `stream`; `None` at its end.
    pub(crate) async fn read(stream: &mut TcpStream, kind: Kind) -> io::Result<Option<Self>> {
        let Some(head) = read_head(stream).await? else {
            return Ok(None);
        };
        let (start, rest) = head.split_once("\r\n").unwrap_or((&head, ""));
        let mut headers: Vec<_> = rest.split("\r\n").filter_map(header).collect();
        // One is the mesh's to add, the other says when.
        headers.retain(|(name, _)| !matches!(&**name, "l5d-client-id" | "date"));
        headers.sort_by(|a, b| a.0.cmp(&b.0));
        let mut message = Self {
            start: start.to_owned(),
            headers,
            body: String::new(),
            trailers: Vec::new(),
        };
        if message.may_have_body(kind) {
            message.read_body(stream, kind).await?;
        }
        Ok(Some(message))
    }

    /// The first value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    fn may_have_body(&self, kind: Kind) -> bool {
        let status = self.start.split(' ').nth(1).unwrap_or_default();
        match kind {
            Kind::Request => true,
            Kind::Answer => !matches!(status, "100" | "101" | "204" | "304"),
            Kind::AnswerToHead => false,
        }
    }

    async fn read_body(&mut self, stream: &mut TcpStream, kind: Kind) -> io::Result<()> {
        let mut body = Vec::new();
        if self.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = line(stream).await?;
                let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
                if size == 0 {
                    break;
                }
                let mut chunk = vec![0; size + 2];
                stream.read_exact(&mut chunk).await?;
                body.extend_from_slice(&chunk[..size]);
            }
            loop {
                match line(stream).await? {
                    end if end.is_empty() => break,
                    trailer => self.trailers.push(trailer.to_ascii_lowercase()),
                }
            }
        } else if let Some(length) = self.header("content-length") {
            body = vec![0; length.parse().map_err(io::Error::other)?];
            stream.read_exact(&mut body).await?;
        } else if kind == Kind::Answer {
            stream.read_to_end(&mut body).await?;
        }
        self.body = String::from_utf8_lossy(&body).into_owned();
        Ok(())
    }
}

fn header(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once(':')?;
    Some((name.to_ascii_lowercase(), value.trim().to_owned()))
}

async fn line(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n") {
        bytes.push(stream.read_u8().await?);
    }
    bytes.truncate(bytes.len() - 2);
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
