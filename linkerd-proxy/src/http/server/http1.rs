//! HTTP/1 to a client.

use super::{
    Activity, Handler, TICK, handle,
    watchdog::{Alarm, Watchdog},
};
use crate::{
    drain::Signal,
    http::{
        strict::{self, Head},
        upgrade::Switch,
    },
    io::Conn,
};
use hyper::{server::conn::http1 as conn, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::timeout,
};

/// Largest head that is taken; more is answered with 431.
const MAX_HEAD: usize = 60 * 1024;

/// What is read ahead, and what is held for a slow reader; a head has to fit into it.
const MAX_BUFFER: usize = 64 * 1024;

const MAX_HEADERS: usize = 128;

const BAD_REQUEST: &str =
    "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
const REQUEST_TIMEOUT: &str =
    "HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// Serves until the client or the drain ends the connection, or it switches protocols; then it is
/// handed back, with what it switches to.
///
/// # Errors
///
/// Those of the connection, after the client was told if it can be.
pub async fn serve_http1<H: Handler>(
    mut conn: Conn,
    handler: H,
    drain: &Signal,
) -> io::Result<Option<(Conn, Switch)>> {
    loop {
        let has_bytes = tokio::select! {
            // Bytes that are there win over the drain: the client did not know of it yet.
            biased;
            has_bytes = conn.peekable() => has_bytes?,
            // A request may be on its way: closing at once would fail it.
            () = drain.drained() => timeout(TICK, conn.peekable()).await.unwrap_or(Ok(false))?,
        };
        if !has_bytes {
            return Ok(None);
        }
        // Boxed, so that an idle connection does not hold the room for it.
        match Box::pin(serve_while_active(conn, handler.clone(), drain)).await? {
            Outcome::Idle(idle) => conn = idle,
            Outcome::Switched(conn, switch) => return Ok(Some((conn, switch))),
            Outcome::Ended => return Ok(None),
        }
    }
}

enum Outcome {
    Idle(Conn),
    Switched(Conn, Switch),
    Ended,
}

/// Why hyper's connection was left.
enum Left {
    Done(hyper::Result<()>),
    Idle,
    HeadOverdue,
}

async fn serve_while_active<H: Handler>(
    conn: Conn,
    handler: H,
    drain: &Signal,
) -> io::Result<Outcome> {
    let activity = Rc::<Activity>::default();
    let service = service_fn({
        let activity = activity.clone();
        move |request| handle(&handler, request, &activity)
    });
    let io = TokioIo::new(GuardedIo {
        conn,
        activity: activity.clone(),
    });
    let mut http = conn::Builder::new()
        .preserve_header_case(true)
        .auto_date_header(false)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(io, service);
    let mut watchdog = Watchdog::new(&activity, drain);
    let mut is_leaving = false;
    let left = poll_fn(|cx| {
        loop {
            if let Poll::Ready(done) = Pin::new(&mut http).poll(cx) {
                return Poll::Ready(Left::Done(done));
            }
            if is_leaving && activity.in_flight.get() > 0 {
                // With a request in flight its answer says `connection: close`; without one hyper
                // would close at once, and fail a request that is on its way.
                is_leaving = false;
                Pin::new(&mut http).graceful_shutdown();
                continue;
            }
            match ready!(watchdog.poll(cx)) {
                Alarm::Drain => is_leaving = true,
                Alarm::Idle => return Poll::Ready(Left::Idle),
                Alarm::HeadOverdue => return Poll::Ready(Left::HeadOverdue),
            }
        }
    })
    .await;
    if matches!(left, Left::Idle) {
        // hyper lets go of a connection between requests at once, without closing it.
        Pin::new(&mut http).graceful_shutdown();
        poll_fn(|cx| Pin::new(&mut http).poll(cx))
            .await
            .map_err(io::Error::other)?;
    }
    let parts = http.into_parts();
    let mut conn = parts.io.into_inner().conn.unread(parts.read_buf);
    if let Some(why) = activity.ambiguous.get() {
        refuse(&mut conn, BAD_REQUEST).await;
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    match left {
        Left::Idle => Ok(Outcome::Idle(conn)),
        Left::HeadOverdue => {
            refuse(&mut conn, REQUEST_TIMEOUT).await;
            Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "request head took too long",
            ))
        }
        Left::Done(Ok(())) => {
            if let Some(switch) = activity.switch.take() {
                return Ok(Outcome::Switched(conn, switch));
            }
            linger(&mut conn).await;
            Ok(Outcome::Ended)
        }
        Left::Done(Err(error)) => Err(io::Error::other(error)),
    }
}

async fn refuse(conn: &mut Conn, answer: &str) {
    // The client may be gone; then there is nobody to tell.
    let _ = timeout(TICK, conn.write_all(answer.as_bytes())).await;
    linger(conn).await;
}

/// Ends our side and reads what the client still sends for a moment, so that its unread bytes do
/// not turn our close into a reset that destroys the answer on its way.
async fn linger(conn: &mut Conn) {
    let read_out = async {
        conn.shutdown().await?;
        let mut rest = [0; 1024];
        while tokio::io::AsyncReadExt::read(conn, &mut rest).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Whatever comes of it, the connection ends here.
    let _ = timeout(TICK, read_out).await;
}

// === impl GuardedIo ===

/// The client's connection below hyper: notes that bytes move and checks heads.
struct GuardedIo {
    conn: Conn,
    activity: Rc<Activity>,
}

impl GuardedIo {
    /// Checks bytes that arrive while no request is in flight, so they belong to heads.
    fn check(&self, bytes: &[u8]) -> io::Result<()> {
        let mut head = self.activity.head.borrow_mut();
        if head.is_empty() {
            return self.check_whole(bytes, &mut head);
        }
        head.extend_from_slice(bytes);
        // Only the end of a head makes it worth looking at again.
        let tail = &head[head.len().saturating_sub(bytes.len() + 3)..];
        let may_be_whole = tail.windows(2).any(|w| w == b"\n\n" || w == b"\n\r");
        if may_be_whole || head.len() > MAX_HEAD {
            let bytes = std::mem::take(&mut *head);
            return self.check_whole(&bytes, &mut head);
        }
        Ok(())
    }

    /// Checks one head after the other, up to one that is not whole or has a body.
    fn check_whole(&self, mut bytes: &[u8], head: &mut Vec<u8>) -> io::Result<()> {
        while !bytes.is_empty() {
            match strict::check(bytes) {
                Ok(Head::Whole { has_body: true, .. }) => break,
                Ok(Head::Whole { len, .. }) => bytes = &bytes[len..],
                Ok(Head::Partial) if bytes.len() > MAX_HEAD => break,
                Ok(Head::Partial) => {
                    head.extend_from_slice(bytes);
                    break;
                }
                Err(why) => {
                    self.activity.ambiguous.set(Some(why));
                    return Err(io::Error::new(io::ErrorKind::InvalidData, why));
                }
            }
        }
        Ok(())
    }
}

impl AsyncRead for GuardedIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(pin!(&mut self.conn).poll_read(cx, buf))?;
        self.activity.moved.set(true);
        if self.activity.in_flight.get() == 0 {
            self.check(&buf.filled()[before..])?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for GuardedIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.activity.moved.set(true);
        pin!(&mut self.conn).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.activity.moved.set(true);
        pin!(&mut self.conn).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.conn.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.conn).poll_flush(cx)
    }

    /// Not hyper's to do: the connection may go on without HTTP, or idle as a bare socket.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
