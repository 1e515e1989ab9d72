//! One connection that speaks HTTP/1: what was read from it and not used yet, and messages written to
//! it. Between messages it holds no buffer.

use super::{Decoded, Decoder, Error, Head, MAX_HEAD, Malformed, Message};
use crate::io::{Conn, scratch};
use bytes::Bytes;
use http_body::Frame;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection, and what was read ahead of use: at most what one read yields, or a head.
pub struct Wire {
    conn: Conn,
    input: Bytes,
    /// How much of `input` is known to be no whole head.
    searched: usize,
}

impl Wire {
    /// A connection at the beginning of a message.
    pub fn new(conn: Conn) -> Self {
        Self {
            conn,
            input: Bytes::new(),
            searched: 0,
        }
    }

    /// The connection, with what was read ahead put back.
    pub fn into_conn(self) -> Conn {
        match self.input.is_empty() {
            true => self.conn,
            false => self.conn.unread(self.input),
        }
    }

    /// Whether an idle connection has neither ended nor brought anything.
    pub fn is_quiet(&mut self) -> bool {
        self.input.is_empty() && self.conn.is_quiet()
    }

    /// Makes the coming close a reset.
    pub fn reset_on_close(&self) {
        self.conn.reset_on_close();
    }

    /// Whether something was read that nobody has used.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Reads a head; nothing if the connection ends before the first byte of it.
    ///
    /// # Errors
    ///
    /// [`Error`]; the connection is of no more use for reading.
    pub fn poll_head<M>(
        &mut self,
        cx: &mut Context<'_>,
        parse: impl Fn(&Bytes) -> Result<Option<Head<M>>, Malformed>,
    ) -> Poll<Result<Option<Head<M>>, Error>> {
        loop {
            if self.may_hold_head() {
                if let Some(head) = parse(&self.input)? {
                    drop(self.input.split_to(head.len));
                    self.searched = 0;
                    return Poll::Ready(Ok(Some(head)));
                }
                if self.input.len() > MAX_HEAD {
                    return Poll::Ready(Err(Malformed::TooLarge.into()));
                }
                self.searched = self.input.len();
            }
            if ready!(self.poll_fill(cx))? == 0 {
                return Poll::Ready(match self.input.is_empty() {
                    true => Ok(None),
                    false => Err(Error::Incomplete),
                });
            }
        }
    }

    /// Whether it is worth parsing: parsing a long head anew for each byte of it would cost
    /// whoever serves it more than whoever sends it.
    fn may_hold_head(&self) -> bool {
        match self.searched {
            0 => !self.input.is_empty(),
            searched => {
                let new = &self.input[searched.saturating_sub(3)..];
                let has_end = memchr::memmem::find(new, b"\n\r\n").is_some()
                    || memchr::memmem::find(new, b"\n\n").is_some();
                has_end || self.input.len() > MAX_HEAD
            }
        }
    }

    /// Reads the next frame of a body; nothing when it has ended.
    ///
    /// # Errors
    ///
    /// [`Error`]; what came so far is not the whole body.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        decoder: &mut Decoder,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        loop {
            match self.decode(decoder)? {
                Decoded::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Decoded::Trailers(t) => return Poll::Ready(Some(Ok(Frame::trailers(t)))),
                Decoded::End => return Poll::Ready(None),
                Decoded::NeedMore => {}
            }
            if ready!(self.poll_fill(cx)).map_err(Error::Io)? == 0 {
                return Poll::Ready(decoder.connection_ended().err().map(Err));
            }
        }
    }

    /// What has come of a body already.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when it is not framed as it should be.
    pub fn decode(&mut self, decoder: &mut Decoder) -> Result<Decoded, Malformed> {
        let decoded = decoder.decode(&mut self.input);
        if self.input.is_empty() {
            // An empty rest would keep the whole of what was read.
            self.input = Bytes::new();
        }
        decoded
    }

    /// Ready when the other side has ended the connection, or it broke. What it sends instead is
    /// read ahead once; then nothing is seen until that is used.
    pub fn poll_ended(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_input() {
            return Poll::Pending;
        }
        match ready!(self.poll_fill(cx)) {
            Ok(0) | Err(_) => Poll::Ready(()),
            Ok(_) => Poll::Pending,
        }
    }

    /// Reads more; how much came, nothing at the end.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        scratch::with(|buf| {
            let mut read = ReadBuf::new(buf);
            ready!(Pin::new(&mut self.conn).poll_read(cx, &mut read))?;
            let new = read.filled();
            self.input = match self.input.is_empty() {
                true => Bytes::copy_from_slice(new),
                false => [&self.input[..], new].concat().into(),
            };
            Poll::Ready(Ok(new.len()))
        })
    }

    /// Writes all there is of a message.
    ///
    /// # Errors
    ///
    /// Those of the connection.
    pub fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        message: &mut Message,
    ) -> Poll<io::Result<()>> {
        let mut conn = Pin::new(&mut self.conn);
        while !message.is_written() {
            let (pieces, n) = message.pieces();
            let written = match &pieces[..n] {
                [piece] => ready!(conn.as_mut().poll_write(cx, piece))?,
                pieces => ready!(conn.as_mut().poll_write_vectored(cx, pieces))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            message.advance(written);
        }
        conn.poll_flush(cx)
    }
}
