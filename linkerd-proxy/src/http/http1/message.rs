//! A message on its way out: its head, and the frames of its body as they come, put together into as
//! few writes as possible.

use super::{Spelling, encode, head::has_no_body};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};
use http_body::{Body, Frame};
use std::{
    io::{IoSlice, Write as _},
    pin::Pin,
    task::{Context, Poll},
};

/// Data up to this is copied behind what else is to be written: that costs less than another piece.
const COPIED: usize = 8 * 1024;

/// What is put together before it is written.
const ENOUGH: usize = 16 * 1024;

/// Room for an ordinary head and a small body.
const USUAL: usize = 1024;

/// A message that is being written.
pub struct Message {
    framing: Framing,
    /// Bytes to be written, and how many of them have been.
    head: Vec<u8>,
    written: usize,
    /// What is to be written after them.
    data: Bytes,
    tail: &'static [u8],
}

/// How the other side is told where the body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// So many more bytes belong to it.
    Length(u64),
    Chunked,
    /// It ends with the connection.
    UntilEnd,
    /// It has ended.
    Over,
}

/// What an answer has to suit.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The method of the request.
    pub method: Method,
    /// The client's version.
    pub version: Version,
}

/// The body broke off, or is not as long as its head says.
#[derive(Debug, thiserror::Error)]
#[error("the body was cut short, or is longer than its head says")]
pub struct Broken;

impl Message {
    /// A request. One without a length whose body has not ended goes in chunks.
    pub fn request<B: Body>(request: &mut Request<B>, spelling: &Spelling) -> Self {
        let framing = match said_length(request.headers()) {
            Some(length) => Framing::Length(length),
            None if request.body().is_end_stream() => Framing::Length(0),
            None => Framing::Chunked,
        };
        if framing == Framing::Chunked {
            say_chunked(request.headers_mut());
        }
        let mut head = Vec::with_capacity(USUAL);
        encode::request(&mut head, request, spelling);
        Self::new(head, framing)
    }

    /// An answer, and whether the connection can be kept: `keep_alive` if it may be.
    pub fn response<B: Body>(
        response: &mut Response<B>,
        spelling: &Spelling,
        asked: &Asked,
        keep_alive: bool,
    ) -> (Self, bool) {
        let framing = response_framing(response, asked);
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let is_1_0 = asked.version == Version::HTTP_10;
        let headers = response.headers_mut();
        let says_close = !switches && headers.contains_key(CONNECTION);
        let keep_alive = keep_alive && !says_close && framing != Framing::UntilEnd;
        let persistence = match keep_alive {
            _ if switches => None,
            false => Some("close"),
            true => is_1_0.then_some("keep-alive"),
        };
        if let Some(persistence) = persistence {
            headers.insert(CONNECTION, HeaderValue::from_static(persistence));
        }
        let mut head = Vec::with_capacity(USUAL);
        encode::response(&mut head, response, asked.version, spelling);
        (Self::new(head, framing), keep_alive)
    }

    /// Tells a client that waits to send its body to go on (RFC 9110, section 15.2.1).
    pub fn go_on() -> Self {
        Self::new(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), Framing::Over)
    }

    /// What goes ahead of an answer, to a client of HTTP/1.1.
    pub fn informational(head: &Response<Spelling>) -> Self {
        let mut message = Self::new(Vec::new(), Framing::Over);
        message.follow_up(head);
        message
    }

    /// Puts another one behind those that go ahead of an answer.
    pub fn follow_up(&mut self, head: &Response<Spelling>) {
        encode::response(&mut self.head, head, Version::HTTP_11, head.body());
    }

    fn new(head: Vec<u8>, framing: Framing) -> Self {
        let framing = match framing {
            Framing::Length(0) => Framing::Over,
            framing => framing,
        };
        Self {
            framing,
            head,
            written: 0,
            data: Bytes::new(),
            tail: b"",
        }
    }

    /// Whether nothing more will come.
    pub fn is_whole(&self) -> bool {
        self.framing == Framing::Over
    }

    /// Whether the end of the connection says that the body is whole.
    pub fn ends_with_connection(&self) -> bool {
        self.framing == Framing::UntilEnd
    }

    /// Whether a part of what there is has been written, and a part has not.
    pub fn has_begun(&self) -> bool {
        self.written > 0
    }

    /// Takes frames of the body until there is something worth writing, or the message is whole.
    ///
    /// # Errors
    ///
    /// [`Broken`]: what was written so far must not be passed off as a whole message.
    pub fn poll_fill<B: Body<Data = Bytes>>(
        &mut self,
        cx: &mut Context<'_>,
        mut body: Pin<&mut B>,
    ) -> Poll<Result<(), Broken>> {
        while self.has_room() {
            if body.is_end_stream() {
                self.end(None)?;
                break;
            }
            match body.as_mut().poll_frame(cx) {
                Poll::Pending if self.is_written() => return Poll::Pending,
                Poll::Pending => break,
                Poll::Ready(None) => self.end(None)?,
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Broken)),
                Poll::Ready(Some(Ok(frame))) => {
                    self.frame(frame)?;
                    if self.is_whole() && !body.is_end_stream() {
                        // All has come, but whoever watches it has not been told so.
                        let _ = body.as_mut().poll_frame(cx);
                    }
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether more can be put behind what is there.
    fn has_room(&self) -> bool {
        let is_in_order = self.data.is_empty() && self.tail.is_empty();
        !self.is_whole() && is_in_order && self.head.len() < ENOUGH
    }

    fn frame(&mut self, frame: Frame<Bytes>) -> Result<(), Broken> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return self.end(frame.into_trailers().ok()),
        };
        if data.is_empty() {
            // A chunk of nothing would end the body.
            return Ok(());
        }
        match &mut self.framing {
            Framing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(Broken)?;
                if *left == 0 {
                    self.framing = Framing::Over;
                }
            }
            Framing::Chunked => {
                // Writing to memory does not fail.
                let _ = write!(self.head, "{:x}\r\n", data.len());
                self.tail = b"\r\n";
            }
            Framing::UntilEnd | Framing::Over => {}
        }
        if data.len() > COPIED {
            self.data = data;
            return Ok(());
        }
        self.head.extend_from_slice(&data);
        self.head.extend_from_slice(self.tail);
        self.tail = b"";
        Ok(())
    }

    fn end(&mut self, trailers: Option<HeaderMap>) -> Result<(), Broken> {
        match std::mem::replace(&mut self.framing, Framing::Over) {
            Framing::Length(1..) => return Err(Broken),
            Framing::Chunked => encode::trailers(&mut self.head, trailers),
            _ => {}
        }
        Ok(())
    }

    /// Whether all there is has been written.
    pub(super) fn is_written(&self) -> bool {
        self.written == self.head.len() && self.data.is_empty() && self.tail.is_empty()
    }

    /// What is to be written next, and how many pieces it is.
    pub(super) fn pieces(&self) -> ([IoSlice<'_>; 3], usize) {
        let head = IoSlice::new(&self.head[self.written..]);
        let (data, tail) = (IoSlice::new(&self.data), IoSlice::new(self.tail));
        match (head.is_empty(), data.is_empty()) {
            (false, false) => ([head, data, tail], 3 - usize::from(tail.is_empty())),
            (false, true) => ([head, tail, data], 2 - usize::from(tail.is_empty())),
            (true, false) => ([data, tail, head], 2 - usize::from(tail.is_empty())),
            (true, true) => ([tail, head, data], 1),
        }
    }

    /// So many bytes of it have been written.
    pub(super) fn advance(&mut self, mut n: usize) {
        let of_head = n.min(self.head.len() - self.written);
        self.written += of_head;
        n -= of_head;
        if self.written == self.head.len() {
            self.head.clear();
            self.written = 0;
        }
        let of_data = n.min(self.data.len());
        drop(self.data.split_to(of_data));
        self.tail = &self.tail[(n - of_data).min(self.tail.len())..];
    }
}

/// How the end of an answer's body is told; the headers are made to say so (RFC 9112, section 6.3).
fn response_framing<B: Body>(response: &mut Response<B>, asked: &Asked) -> Framing {
    let status = response.status();
    let is_end_stream = response.body().is_end_stream();
    let exact = response.body().size_hint().exact();
    let headers = response.headers_mut();
    if has_no_body(&asked.method, status) {
        if !matches!(status, StatusCode::NOT_MODIFIED) && asked.method != Method::HEAD {
            headers.remove(CONTENT_LENGTH);
        }
        // It is said of a body that is there (RFC 9112, section 6.1).
        headers.remove(TRANSFER_ENCODING);
        return Framing::Length(0);
    }
    if let Some(length) = said_length(headers) {
        return Framing::Length(length);
    }
    if let Some(length) = exact.or(is_end_stream.then_some(0)) {
        headers.remove(TRANSFER_ENCODING);
        headers.insert(CONTENT_LENGTH, length.into());
        return Framing::Length(length);
    }
    if asked.version == Version::HTTP_10 {
        headers.remove(TRANSFER_ENCODING);
        return Framing::UntilEnd;
    }
    say_chunked(headers);
    Framing::Chunked
}

fn say_chunked(headers: &mut HeaderMap) {
    let chunked = HeaderValue::from_static("chunked");
    headers.entry(TRANSFER_ENCODING).or_insert(chunked);
}

/// Content-Length, which may not stand beside another framing.
fn said_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
