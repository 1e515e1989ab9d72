//! TLS over a socket: rustls' unbuffered connections, driven over tokio's sockets.
//!
//! rustls' own buffers, and tokio-rustls over them, take 4 KiB off the socket at a time and keep as
//! much for each connection. Here one read takes as many records as are there, through a buffer
//! that all connections of a worker share, so that bulk costs a fraction of the system calls and
//! an idle connection holds no buffer at all. What may be read and written when, and every byte of
//! the protocol, is rustls' to know.

use rustls::{
    CommonState, Error,
    client::UnbufferedClientConnection,
    server::UnbufferedServerConnection,
    unbuffered::{
        ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
    },
};
use std::{
    cell::RefCell,
    io::{self, IoSlice},
    ops::Deref,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// What is read at once: four records of the largest size, or many small ones.
const READ: usize = 64 * 1024;

/// What is encrypted at once; as much as the copy loop has at once.
const WRITE: usize = 64 * 1024;

/// Room for what encryption adds to that.
const SEALED_WRITE: usize = WRITE + 4 * 1024;

/// More than any handshake may be; rustls itself stops at 64 KiB a message.
const MAX_INCOMING: usize = 128 * 1024;

/// The longest record that there can be, with its header.
const MAX_RECORD: usize = 16 * 1024 + 256 + 5;

thread_local! {
    static CIPHERTEXT: RefCell<Box<[u8]>> = RefCell::new(vec![0; MAX_RECORD + READ].into());
    static PLAINTEXT: RefCell<Vec<u8>> = RefCell::new(Vec::with_capacity(WRITE));
    static SEALED: RefCell<Box<[u8]>> = RefCell::new(vec![0; SEALED_WRITE].into());
}

/// A TLS connection.
pub struct Stream {
    tcp: TcpStream,
    session: Session,
    /// A record that is not complete yet.
    incoming: Vec<u8>,
    /// Decrypted, and not asked for yet.
    plain: Rest,
    /// Encrypted, and not taken by the socket yet.
    outgoing: Rest,
    peer_closed: bool,
    closed: bool,
}

/// One side of a connection.
pub enum Session {
    /// The side that opened it.
    Client(UnbufferedClientConnection),
    /// The side that accepted it.
    Server(UnbufferedServerConnection),
}

/// Bytes of which some have passed; holds no memory when all have.
#[derive(Default)]
struct Rest {
    bytes: Vec<u8>,
    passed: usize,
}

/// What is to be said, when rustls is ready for it.
struct Say<'a> {
    /// `None`: that nothing more will be said.
    data: Option<&'a [u8]>,
    /// What it is sealed into.
    room: &'a mut [u8],
}

/// What became of a step.
enum Step {
    /// There may be more to do.
    Again,
    /// The peer has to speak, or we have to.
    Blocked,
    /// What was to be said was sealed; so many bytes.
    Said(usize),
    PeerClosed,
}

// === impl Stream ===

impl Stream {
    /// Shakes hands. Has no deadline of its own.
    ///
    /// # Errors
    ///
    /// Those of the socket, and rustls' as their inner error, after the peer was told.
    pub async fn handshake(tcp: TcpStream, session: Session) -> io::Result<Self> {
        let mut stream = Self {
            tcp,
            session,
            incoming: Vec::new(),
            plain: Rest::default(),
            outgoing: Rest::default(),
            peer_closed: false,
            closed: false,
        };
        std::future::poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    /// The socket.
    pub fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// What was agreed on.
    pub fn session(&self) -> &CommonState {
        &self.session
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut incoming = std::mem::take(&mut self.incoming);
            let taken = self.absorb(&mut incoming, &mut ReadBuf::new(&mut []));
            let taken = taken.inspect_err(|_| {
                // The alert is a courtesy.
                let _ = self.poll_send(cx);
            })?;
            incoming.drain(..taken);
            self.incoming = incoming;
            ready!(self.poll_send(cx))?;
            if !self.session.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_read_more(cx))?;
        }
    }

    /// Reads what there is of a handshake.
    fn poll_read_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        CIPHERTEXT.with_borrow_mut(|room| {
            let mut room = ReadBuf::new(room);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut room))?;
            if room.filled().is_empty() {
                return Poll::Ready(Err(cut_short("the connection ended in the handshake")));
            }
            if self.incoming.len() + room.filled().len() > MAX_INCOMING {
                return Poll::Ready(Err(io::Error::other("a handshake that is too long")));
            }
            self.incoming.extend_from_slice(room.filled());
            Poll::Ready(Ok(()))
        })
    }

    /// Reads records, and decrypts what is complete of them into `buf`. What does not fit is kept.
    fn poll_decrypt(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        CIPHERTEXT.with_borrow_mut(|room| {
            let held = self.incoming.len();
            if held > MAX_RECORD {
                return Poll::Ready(Err(io::Error::other("a message that is too long")));
            }
            room[..held].copy_from_slice(&self.incoming);
            // A reader that takes little is not to have much kept for it.
            let at_once = (buf.remaining() + MAX_RECORD).min(READ);
            let mut read = ReadBuf::new(&mut room[held..held + at_once]);
            ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut read))?;
            let filled = read.filled().len();
            if filled == 0 {
                return Poll::Ready(Err(cut_short("the connection ended without close_notify")));
            }
            let room = &mut room[..held + filled];
            let taken = self.absorb(room, buf).inspect_err(|_| {
                // The alert is a courtesy.
                let _ = self.poll_send(cx);
            })?;
            self.incoming = room[taken..].to_vec();
            Poll::Ready(Ok(()))
        })
    }

    /// Has rustls process `incoming`; yields how much of it is done with.
    fn absorb(&mut self, incoming: &mut [u8], buf: &mut ReadBuf<'_>) -> io::Result<usize> {
        let mut taken = 0;
        loop {
            let (discard, step) = self.step(&mut incoming[taken..], None, buf);
            taken += discard;
            match step {
                Ok(Step::Again | Step::Said(_)) => {}
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(Step::Blocked) => return Ok(taken),
                Err(error) => {
                    self.collect_alert(&mut incoming[taken..]);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
    }

    /// After an error rustls has an alert for the peer.
    fn collect_alert(&mut self, incoming: &mut [u8]) {
        let mut none = ReadBuf::new(&mut []);
        while self.session.wants_write()
            && let (_, Ok(Step::Again)) = self.step(incoming, None, &mut none)
        {}
    }

    fn step(
        &mut self,
        incoming: &mut [u8],
        say: Option<Say<'_>>,
        buf: &mut ReadBuf<'_>,
    ) -> (usize, Result<Step, Error>) {
        let (plain, outgoing) = (&mut self.plain, &mut self.outgoing.bytes);
        let decrypted = |bytes: &[u8]| {
            let fits = match plain.is_empty() {
                true => bytes.len().min(buf.remaining()),
                false => 0,
            };
            buf.put_slice(&bytes[..fits]);
            plain.bytes.extend_from_slice(&bytes[fits..]);
        };
        match &mut self.session {
            Session::Client(c) => take(c.process_tls_records(incoming), say, decrypted, outgoing),
            Session::Server(s) => take(s.process_tls_records(incoming), say, decrypted, outgoing),
        }
    }

    /// Seals `data`, or the end if there is none, into `room`; yields how much it takes there. What
    /// rustls itself has to say comes before it.
    fn seal(&mut self, data: Option<&[u8]>, room: &mut [u8]) -> io::Result<usize> {
        let mut incoming = std::mem::take(&mut self.incoming);
        let (mut taken, mut none) = (0, ReadBuf::new(&mut []));
        let sealed = loop {
            let room = &mut *room;
            let say = Some(Say { data, room });
            let (discard, step) = self.step(&mut incoming[taken..], say, &mut none);
            taken += discard;
            match step {
                Ok(Step::Again) => {}
                Ok(Step::PeerClosed) => self.peer_closed = true,
                Ok(Step::Said(sealed)) => break Ok(sealed),
                Ok(Step::Blocked) => break Err(io::ErrorKind::NotConnected.into()),
                Err(error) => break Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        };
        incoming.drain(..taken);
        self.incoming = incoming;
        sealed
    }

    /// Seals `data` and sends what the socket takes; the rest is kept.
    fn seal_and_send(&mut self, cx: &mut Context<'_>, data: Option<&[u8]>) -> io::Result<()> {
        SEALED.with_borrow_mut(|room| {
            let sealed = self.seal(data, room)?;
            let sent = match self.outgoing.is_empty() {
                true => Pin::new(&mut self.tcp).poll_write(cx, &room[..sealed]),
                false => Poll::Ready(Ok(0)),
            };
            let sent = match sent {
                Poll::Ready(sent) => sent?,
                Poll::Pending => 0,
            };
            self.outgoing.bytes.extend_from_slice(&room[sent..sealed]);
            Ok(())
        })
    }

    /// Sends what is encrypted.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let sent = Pin::new(&mut self.tcp).poll_write(cx, self.outgoing.rest());
            match ready!(sent)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.outgoing.pass(sent),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        while buf.remaining() > 0 {
            this.plain.pass_into(buf);
            if buf.filled().len() > before || this.peer_closed {
                break;
            }
            ready!(this.poll_decrypt(cx, buf))?;
            // What rustls has to answer goes out when it can; reading does not wait for it.
            let _: Poll<()> = this.poll_send(cx)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx))?;
        let taken = buf.len().min(WRITE);
        if taken > 0 {
            this.seal_and_send(cx, Some(&buf[..taken]))?;
        }
        Poll::Ready(Ok(taken))
    }

    /// A head and its body become one record.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [only] = bufs {
            return self.poll_write(cx, only);
        }
        PLAINTEXT.with_borrow_mut(|gathered| {
            gathered.clear();
            for buf in bufs {
                let room = WRITE - gathered.len();
                gathered.extend_from_slice(&buf[..buf.len().min(room)]);
            }
            self.as_mut().poll_write(cx, gathered)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_send(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closed {
            this.closed = true;
            this.seal_and_send(cx, None)?;
        }
        ready!(this.poll_send(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}

// === impl Session ===

impl Deref for Session {
    type Target = CommonState;

    fn deref(&self) -> &CommonState {
        match self {
            Self::Client(client) => client,
            Self::Server(server) => server,
        }
    }
}

/// Takes what rustls has, and says what there is to say if it is time for that. Yields how much of
/// the ciphertext is done with.
fn take<D>(
    status: UnbufferedStatus<'_, '_, D>,
    say: Option<Say<'_>>,
    mut decrypted: impl FnMut(&[u8]),
    outgoing: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let mut discard = status.discard;
    let step = status.state.and_then(|state| match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                let record = record?;
                discard += record.discard;
                decrypted(record.payload);
            }
            Ok(Step::Again)
        }
        ConnectionState::EncodeTlsData(data) => encode(data, outgoing),
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Step::Again)
        }
        ConnectionState::PeerClosed => Ok(Step::PeerClosed),
        ConnectionState::WriteTraffic(traffic) => match say {
            Some(say) => say_it(traffic, say),
            None => Ok(Step::Blocked),
        },
        // Early data is off on both sides.
        _ => Ok(Step::Blocked),
    });
    (discard, step)
}

fn encode<D>(mut data: EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> Result<Step, Error> {
    let start = outgoing.len();
    match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => outgoing.resize(start + size.required_size, 0),
        Ok(_) | Err(EncodeError::AlreadyEncoded) => return Ok(Step::Again),
    }
    match data.encode(&mut outgoing[start..]) {
        Ok(_) => Ok(Step::Again),
        Err(error) => Err(Error::General(error.to_string())),
    }
}

fn say_it<D>(mut traffic: WriteTraffic<'_, D>, say: Say<'_>) -> Result<Step, Error> {
    let said = match say.data {
        Some(data) => traffic.encrypt(data, say.room),
        None => traffic.queue_close_notify(say.room),
    };
    said.map(Step::Said).map_err(|error| match error {
        EncryptError::EncryptExhausted => Error::EncryptError,
        EncryptError::InsufficientSize(_) => Error::General(error.to_string()),
    })
}

// === impl Rest ===

impl Rest {
    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.passed..]
    }

    fn pass(&mut self, n: usize) {
        self.passed += n;
        if self.passed >= self.bytes.len() {
            *self = Self::default();
        }
    }

    fn pass_into(&mut self, buf: &mut ReadBuf<'_>) {
        let n = self.rest().len().min(buf.remaining());
        if n > 0 {
            buf.put_slice(&self.rest()[..n]);
            self.pass(n);
        }
    }
}

fn cut_short(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, why)
}

#[cfg(test)]
mod tests;
