//! Copies bytes between two connections of which one at least is TLS. The other way, between two
//! bare sockets, is [`copy`](super::copy)'s.
//!
//! Bytes pass through the worker's scratch buffer; only what the receiving side does not take at
//! once needs memory of its own, so an idle connection costs none.

use super::{Conn, scratch};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Rounds after which a direction that never has to wait lets others run.
const ROUNDS: usize = 16;

/// One direction.
#[derive(Default)]
struct OneWay {
    /// What the receiving side has not taken yet.
    rest: Vec<u8>,
    /// How much of `rest` it has taken.
    taken: usize,
    needs_flush: bool,
    is_read: bool,
    is_done: bool,
}

/// Copies until both directions ended.
///
/// # Errors
///
/// The first error of either side.
pub async fn relay(a: &mut Conn, b: &mut Conn) -> io::Result<()> {
    let (mut there, mut back) = (OneWay::default(), OneWay::default());
    poll_fn(|cx| {
        let is_there = there.poll(cx, a, b)?.is_ready();
        let is_back = back.poll(cx, b, a)?.is_ready();
        match is_there && is_back {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    })
    .await
}

// === impl OneWay ===

impl OneWay {
    /// Ready when the end of `from` was passed on to `to`.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Conn,
        to: &mut Conn,
    ) -> Poll<io::Result<()>> {
        if self.is_done {
            return Poll::Ready(Ok(()));
        }
        for _ in 0..ROUNDS {
            ready!(self.poll_write_rest(cx, to))?;
            if self.is_read {
                // The peer may have gone already: then there is nobody left to tell.
                let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
                self.is_done = true;
                return Poll::Ready(Ok(()));
            }
            if self.poll_copy(cx, from, to)?.is_pending() {
                if self.needs_flush {
                    ready!(Pin::new(&mut *to).poll_flush(cx))?;
                    self.needs_flush = false;
                }
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_write_rest(&mut self, cx: &mut Context<'_>, to: &mut Conn) -> Poll<io::Result<()>> {
        while self.taken < self.rest.len() {
            let written = Pin::new(&mut *to).poll_write(cx, &self.rest[self.taken..]);
            self.taken += ready!(written)?;
            self.needs_flush = true;
        }
        (self.rest, self.taken) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Passes on what one read yields.
    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Conn,
        to: &mut Conn,
    ) -> Poll<io::Result<()>> {
        scratch::with(|buf| {
            let mut buf = ReadBuf::new(buf);
            ready!(Pin::new(from).poll_read(cx, &mut buf))?;
            let bytes = buf.filled();
            if bytes.is_empty() {
                self.is_read = true;
                return Poll::Ready(Ok(()));
            }
            let written = match Pin::new(to).poll_write(cx, bytes) {
                Poll::Ready(written) => written?,
                Poll::Pending => 0,
            };
            self.needs_flush |= written > 0;
            self.rest.extend_from_slice(&bytes[written..]);
            Poll::Ready(Ok(()))
        })
    }
}
