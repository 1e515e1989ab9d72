//! Copies bytes between two connections, both ways, until both have ended.
//!
//! Small reads go through the worker's scratch buffer, so an idle connection costs no memory.
//! When reads fill that buffer the transfer is a bulk one, and the bytes are spliced through a
//! pipe of the worker's pool instead: they never come up to user space. An end of stream is passed
//! on as one (half-close); a reset is passed on as a reset. Where one side is TLS, [`relay`] copies.

use super::{Conn, Io, relay, scratch};
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use std::{cell::RefCell, io, os::fd::OwnedFd, task::Poll};
use tokio::{io::Interest, net::TcpStream, task::yield_now};

/// Pipes a worker keeps for the next bulk transfer.
const POOLED_PIPES: usize = 16;

/// Rounds after which a transfer that never has to wait lets others run.
const ROUNDS: usize = 16;

/// Copies until both directions ended.
///
/// # Errors
///
/// The first error of either side. The other side is then reset too, so that its peer does not
/// take the end for a clean one.
pub async fn copy_both(a: &mut Conn, b: &mut Conn) -> io::Result<()> {
    let result = match (&a.io, &b.io) {
        (Io::Tcp(a_tcp), Io::Tcp(b_tcp)) => {
            let (a_meter, b_meter) = (Meter(&a.sensor), Meter(&b.sensor));
            let (a_prefix, b_prefix) = (&mut a.prefix, &mut b.prefix);
            let there = one_way(a_tcp, b_tcp, std::mem::take(a_prefix), a_meter, b_meter);
            let back = one_way(b_tcp, a_tcp, std::mem::take(b_prefix), b_meter, a_meter);
            // Ends at the first error; otherwise when both are done.
            futures::future::try_join(there, back).await.map(drop)
        }
        _ => relay::relay(a, b).await,
    };
    if let Err(error) = &result {
        for conn in [a, b] {
            conn.reset_on_close();
            if let Some(sensor) = &mut conn.sensor {
                sensor.failed(error);
            }
        }
    }
    result
}

#[derive(Clone, Copy)]
struct Meter<'a>(&'a Option<super::Sensor>);

impl Meter<'_> {
    fn read(self, n: usize) {
        if let Some(sensor) = self.0 {
            sensor.read(n);
        }
    }

    fn wrote(self, n: usize) {
        if let Some(sensor) = self.0 {
            sensor.wrote(n);
        }
    }
}

async fn one_way(
    from: &TcpStream,
    to: &TcpStream,
    prefix: bytes::Bytes,
    read: Meter<'_>,
    wrote: Meter<'_>,
) -> io::Result<()> {
    write_all(to, &prefix).await?;
    wrote.wrote(prefix.len());
    drop(prefix);
    let mut rounds = 0;
    loop {
        let copied = copy_once(from, to).await?;
        read.read(copied);
        wrote.wrote(copied);
        if copied == 0 {
            // The peer may have gone already: then there is nobody left to tell.
            let _ = socket2::SockRef::from(to).shutdown(std::net::Shutdown::Write);
            return Ok(());
        }
        if copied == scratch::SIZE {
            splice_burst(from, to, read, wrote).await?;
        }
        rounds += 1;
        if rounds % ROUNDS == 0 {
            yield_now().await;
        }
    }
}

/// Copies what one read yields; 0 at the end of the stream.
async fn copy_once(from: &TcpStream, to: &TcpStream) -> io::Result<usize> {
    loop {
        // What does not fit into the socket at once is all that ever needs memory of its own.
        let step = scratch::with(|buf| {
            let n = match from.try_read(buf) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(Poll::Pending),
                n => n?,
            };
            let written = match to.try_write(&buf[..n]) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                written => written?,
            };
            Ok::<_, io::Error>(Poll::Ready((n, buf[written..n].to_vec())))
        })?;
        match step {
            Poll::Pending => from.readable().await?,
            Poll::Ready((n, rest)) => {
                write_all(to, &rest).await?;
                return Ok(n);
            }
        }
    }
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Splices while bytes keep coming; returns, with the pipe empty, when the source has to be
/// waited for or has ended.
async fn splice_burst(
    from: &TcpStream,
    to: &TcpStream,
    read: Meter<'_>,
    wrote: Meter<'_>,
) -> io::Result<()> {
    let pipe = Pipe::take()?;
    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
    for round in 1.. {
        let filled = from.try_io(Interest::READABLE, || {
            Ok(splice(from, None, &pipe.write, None, scratch::SIZE, flags)?)
        });
        let mut pending = match filled {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) => return Err(e),
        };
        read.read(pending);
        while pending > 0 {
            let drained = to.try_io(Interest::WRITABLE, || {
                Ok(splice(&pipe.read, None, to, None, pending, flags)?)
            });
            match drained {
                Ok(n) => {
                    pending -= n;
                    wrote.wrote(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
                Err(e) => return Err(e),
            }
        }
        if round % ROUNDS == 0 {
            yield_now().await;
        }
    }
    pipe.give_back();
    Ok(())
}

/// A pipe that is empty whenever it is in the pool.
struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
}

thread_local! {
    static PIPES: RefCell<Vec<Pipe>> = const { RefCell::new(Vec::new()) };
}

impl Pipe {
    fn take() -> io::Result<Self> {
        if let Some(pipe) = PIPES.with_borrow_mut(Vec::pop) {
            return Ok(pipe);
        }
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        Ok(Self { read, write })
    }

    /// Only of an empty pipe: after an error it is dropped instead.
    fn give_back(self) {
        PIPES.with_borrow_mut(|pool| {
            if pool.len() < POOLED_PIPES {
                pool.push(self);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// Two connected sockets.
    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(addr), listener.accept());
        (client.unwrap(), server.unwrap().0)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_and_half_close_is_kept() {
        let (mut client, near) = pair().await;
        let (far, mut server) = pair().await;
        let (mut near, mut far) = (Conn::new(near).unread("pre".into()), Conn::new(far));
        let copy = async { copy_both(&mut near, &mut far).await.unwrap() };
        let talk = async {
            client.write_all(b"fix").await.unwrap();
            client.shutdown().await.unwrap();
            let mut got = String::new();
            server.read_to_string(&mut got).await.unwrap();
            assert_eq!(got, "prefix");
            server
                .write_all(b"answer after the client's end")
                .await
                .unwrap();
            drop(server);
            got.clear();
            client.read_to_string(&mut got).await.unwrap();
            assert_eq!(got, "answer after the client's end");
        };
        tokio::join!(copy, talk);
    }

    #[tokio::test]
    async fn a_bulk_transfer_arrives_whole_and_in_order() {
        let (mut client, near) = pair().await;
        let (far, mut server) = pair().await;
        let (mut near, mut far) = (Conn::new(near), Conn::new(far));
        let sent: Vec<u8> = (0..8_000_000u32).map(|i| (i * 7 + i / 251) as u8).collect();
        let copy = async { copy_both(&mut near, &mut far).await.unwrap() };
        let write = async {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let read = async {
            let mut got = Vec::new();
            server.read_to_end(&mut got).await.unwrap();
            drop(server);
            assert!(got == sent);
        };
        tokio::join!(copy, write, read);
    }

    #[tokio::test]
    async fn a_reset_is_passed_on() {
        let (client, near) = pair().await;
        let (far, mut server) = pair().await;
        let (mut near, mut far) = (Conn::new(near), Conn::new(far));
        socket2::SockRef::from(&client)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
        drop(client);
        copy_both(&mut near, &mut far).await.unwrap_err();
        drop((near, far));
        let error = server.read(&mut [0; 8]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
