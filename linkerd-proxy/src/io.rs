//! A connection as the proxy sees it: in clear or over TLS, bytes already taken off it, counted, and
//! peeked at.
//!
//! [`Conn`] is what every chapter hands on: detection peeks at it, HTTP reads it, the copy loop
//! forwards it. It belongs to one worker's task at a time. Handshakes are [`crate::tls`]'s.

pub mod copy;
mod relay;
pub(crate) mod scratch;

use crate::{metrics::transport::Sensor, tls};
use bytes::{Buf, Bytes};
use rustix::net::RecvFlags;
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

/// Writes up to this are put together into one piece.
const GATHERED: usize = 1024;

/// A connection, with what was read from it too early, and its meter.
pub struct Conn {
    io: Io,
    /// Bytes that come before those in the socket.
    prefix: Bytes,
    sensor: Option<Sensor>,
}

enum Io {
    Tcp(TcpStream),
    /// Boxed: most connections of an unmeshed neighbourhood do not need the room.
    Tls(Box<tls::Stream>),
}

/// Socket options of accepted or dialled connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Idle time before the first keep-alive probe; `None`: the kernel does not probe.
    pub keepalive: Option<Duration>,
    /// How long sent data may stay unacknowledged (TCP_USER_TIMEOUT); `None`: the kernel's.
    pub user_timeout: Option<Duration>,
}

impl SocketOptions {
    /// Applies the options, and TCP_NODELAY: a proxy must not add Nagle's delay to its peers'.
    pub fn apply(&self, tcp: &TcpStream) -> io::Result<()> {
        tcp.set_nodelay(true)?;
        let socket = socket2::SockRef::from(tcp);
        if let Some(idle) = self.keepalive {
            socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(idle))?;
        }
        if self.user_timeout.is_some() {
            socket.set_tcp_user_timeout(self.user_timeout)?;
        }
        Ok(())
    }
}

// === impl Conn ===

impl Conn {
    /// A connection that nobody has read from.
    pub fn new(tcp: TcpStream) -> Self {
        Self::of(Io::Tcp(tcp))
    }

    /// A connection over TLS, after the handshake.
    pub fn tls(stream: tls::Stream) -> Self {
        Self::of(Io::Tls(Box::new(stream)))
    }

    fn of(io: Io) -> Self {
        Self {
            io,
            prefix: Bytes::new(),
            sensor: None,
        }
    }

    /// Counts this connection's bytes, and its close.
    pub fn metered(mut self, sensor: Sensor) -> Self {
        sensor.read(self.prefix.len());
        self.sensor = Some(sensor);
        self
    }

    /// The socket, for a handshake, if nothing was read from it yet.
    ///
    /// # Errors
    ///
    /// `InvalidData` when it is not a bare socket any more.
    pub fn into_socket(self) -> io::Result<TcpStream> {
        match self.io {
            Io::Tcp(tcp) if self.prefix.is_empty() => Ok(tcp),
            _ => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a handshake that came too slowly, or within another",
            )),
        }
    }

    /// Puts bytes back in front of those that are still to be read.
    pub fn unread(mut self, bytes: Bytes) -> Self {
        debug_assert!(self.prefix.is_empty());
        self.prefix = bytes;
        self
    }

    /// The socket.
    pub fn tcp(&self) -> &TcpStream {
        match &self.io {
            Io::Tcp(tcp) => tcp,
            Io::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Whether an unused connection has not ended.
    pub fn is_alive(&self) -> bool {
        match rustix::net::recv(self.tcp(), &mut [0], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Err(e) => e == rustix::io::Errno::AGAIN,
            // Over TLS, tickets come unasked.
            Ok((n, _)) => n > 0 && matches!(self.io, Io::Tls(_)),
        }
    }

    /// Whether an idle connection has neither ended nor brought anything, as far as is known without
    /// asking the kernel.
    pub fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        let mut cx = Context::from_waker(Waker::noop());
        Pin::new(self)
            .poll_read(&mut cx, &mut ReadBuf::new(&mut byte))
            .is_pending()
    }

    /// Waits until there is a byte to be read (`true`) or the stream has ended. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub async fn peekable(&mut self) -> io::Result<bool> {
        if !self.prefix.is_empty() {
            return Ok(true);
        }
        let Io::Tcp(tcp) = &self.io else {
            return Ok(self.decrypt_ahead().await? > 0);
        };
        loop {
            tcp.readable().await?;
            match recv_peeked(tcp, &mut [0]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                n => return Ok(n? > 0),
            }
        }
    }

    /// Shows up to `max` bytes to `f`, without taking them; none at the end of the stream.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when nothing is there yet, and those of the socket.
    pub fn with_peeked<T>(&self, max: usize, f: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let Io::Tcp(tcp) = &self.io else {
            return Ok(f(&self.prefix[..self.prefix.len().min(max)]));
        };
        if self.prefix.is_empty() {
            return scratch::with(|buf| {
                let n = recv_peeked(tcp, &mut buf[..max])?;
                Ok(f(&buf[..n]))
            });
        }
        scratch::with(|buf| {
            let (taken, rest) = buf.split_at_mut(self.prefix.len().min(max));
            taken.copy_from_slice(&self.prefix[..taken.len()]);
            let room = max - taken.len();
            let more = match recv_peeked(tcp, &mut rest[..room]) {
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
                more => more.unwrap_or(0),
            };
            let total = taken.len() + more;
            Ok(f(&buf[..total]))
        })
    }

    /// Like [`Conn::with_peeked`], but waits until more than `seen` bytes are there or no more
    /// will come; yields how many there were. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub async fn peek_past<T>(
        &mut self,
        seen: usize,
        max: usize,
        f: impl Fn(&[u8]) -> T,
    ) -> io::Result<(usize, T)> {
        if matches!(self.io, Io::Tls(_)) {
            while self.prefix.len() <= seen && self.decrypt_ahead().await? > 0 {}
            return Ok((self.prefix.len(), self.with_peeked(max, f)?));
        }
        loop {
            let ready = self.tcp().ready(Interest::READABLE).await?;
            let ended = ready.is_read_closed();
            let peeked = self.tcp().try_io(Interest::READABLE, || {
                let look = |bytes: &[u8]| (bytes.len(), (bytes.len() > seen).then(|| f(bytes)));
                match self.with_peeked(max, look)? {
                    // Clears the readiness, so that only new bytes wake us again.
                    (_, None) if !ended => Err(io::ErrorKind::WouldBlock.into()),
                    found => Ok(found),
                }
            });
            match peeked {
                Ok((n, Some(found))) => return Ok((n, found)),
                Ok((n, None)) => return Ok((n, self.with_peeked(max, &f)?)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// What TLS carries cannot be peeked at: it is read, and put in front of the rest. Yields how
    /// much came. Cancel-safe.
    async fn decrypt_ahead(&mut self) -> io::Result<usize> {
        let Io::Tls(stream) = &mut self.io else {
            return Ok(0);
        };
        let prefix = &mut self.prefix;
        let n = poll_fn(|cx| {
            scratch::with(|buf| {
                let mut buf = ReadBuf::new(buf);
                std::task::ready!(Pin::new(&mut **stream).poll_read(cx, &mut buf))?;
                *prefix = [&prefix[..], buf.filled()].concat().into();
                Poll::Ready(Ok::<_, io::Error>(buf.filled().len()))
            })
        })
        .await?;
        if let Some(sensor) = &self.sensor {
            sensor.read(n);
        }
        Ok(n)
    }

    /// Takes what is there off the socket, to be read first. Whoever reads after a wait for more
    /// than there was would otherwise wait for bytes that have come already.
    ///
    /// # Errors
    ///
    /// Those of the socket.
    pub fn take_ahead(&mut self) -> io::Result<()> {
        let Io::Tcp(tcp) = &self.io else {
            return Ok(());
        };
        let taken = scratch::with(|buf| {
            let (n, _) = rustix::net::recv(tcp, &mut *buf, RecvFlags::empty())?;
            Ok::<_, io::Error>(Bytes::copy_from_slice(&buf[..n]))
        });
        let taken = match taken {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            taken => taken?,
        };
        if let Some(sensor) = &self.sensor {
            sensor.read(taken.len());
        }
        self.prefix = match self.prefix.is_empty() {
            true => taken,
            false => [&self.prefix[..], &taken[..]].concat().into(),
        };
        Ok(())
    }

    /// Makes the coming close a reset, as the other side's was.
    pub fn reset_on_close(&self) {
        // Best effort: the connection is being given up either way.
        let _ = socket2::SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO));
    }

    fn count_read(&mut self, result: &io::Result<usize>) {
        match (&mut self.sensor, result) {
            (Some(sensor), Ok(n)) => sensor.read(*n),
            (Some(sensor), Err(e)) => sensor.failed(e),
            (None, _) => {}
        }
    }

    fn count_write(&mut self, result: &Poll<io::Result<usize>>) {
        match (&mut self.sensor, result) {
            (Some(sensor), Poll::Ready(Ok(n))) => sensor.wrote(*n),
            (Some(sensor), Poll::Ready(Err(e))) => sensor.failed(e),
            _ => {}
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.prefix.is_empty() {
            let n = self.prefix.len().min(buf.remaining());
            buf.put_slice(&self.prefix[..n]);
            self.prefix.advance(n);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let result = std::task::ready!(self.io.poll_read(cx, buf));
        self.count_read(
            &result
                .as_ref()
                .map(|()| buf.filled().len() - before)
                .map_err(copy_error),
        );
        Poll::Ready(result)
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = self.io.poll_write(cx, buf);
        self.count_write(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = match gather(bufs, &mut [0; GATHERED]) {
            Some(bytes) => self.io.poll_write(cx, bytes),
            None => self.io.poll_write_vectored(cx, bufs),
        };
        self.count_write(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            // What was written is in the kernel's hands.
            Io::Tcp(_) => Poll::Ready(Ok(())),
            Io::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Io::Tcp(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Io::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

// === impl Io ===

impl Io {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, buf),
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, bufs),
        }
    }
}

fn recv_peeked(tcp: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    tcp.try_io(Interest::READABLE, || {
        Ok(rustix::net::recv(tcp, buf, RecvFlags::PEEK).map(|(n, _)| n)?)
    })
}

/// Puts small pieces together: `send` of one piece costs the kernel less than `writev` of two, and
/// a head with a small body is what is written most.
fn gather<'a>(bufs: &[IoSlice<'_>], room: &'a mut [u8; GATHERED]) -> Option<&'a [u8]> {
    let mut len = 0;
    for buf in bufs {
        room.get_mut(len..len + buf.len())?.copy_from_slice(buf);
        len += buf.len();
    }
    Some(&room[..len])
}

/// `io::Error` can not be cloned; its number is all that metrics want.
fn copy_error(e: &io::Error) -> io::Error {
    e.raw_os_error()
        .map_or_else(|| e.kind().into(), io::Error::from_raw_os_error)
}
