//! Plain TCP: servers with a script, and a client that says what it sends and what it expects.

use crate::{addr, eventually};
use parking_lot::Mutex;
use std::{
    future::Future,
    io,
    net::{Ipv4Addr, SocketAddr},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    task::{JoinHandle, JoinSet},
};

const DEADLINE: Duration = Duration::from_secs(10);

type Handler =
    Arc<dyn Fn(TcpStream) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> + Send + Sync>;

/// A server that handles each connection with one function. Dropping it cuts every connection.
pub struct Server {
    addr: SocketAddr,
    handler: Handler,
    accepted: Arc<AtomicUsize>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// An address of this machine where nothing listens.
pub fn refusing() -> SocketAddr {
    addr::unique(1)
}

// === impl Server ===

impl Server {
    /// Listens on an address of its own.
    pub async fn start<F, Fut>(handler: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        Self::start_at(addr::unique(9000), handler).await
    }

    /// Listens on `addr`.
    pub async fn start_at<F, Fut>(addr: SocketAddr, handler: F) -> Self
    where
        F: Fn(TcpStream) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<()>> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |stream| Box::pin(handler(stream)));
        let (accepted, task) = Default::default();
        let server = Self {
            addr,
            handler,
            accepted,
            task,
        };
        server.listen().await;
        server
    }

    /// Sends back what it gets, until the client is done sending.
    pub async fn echo() -> Self {
        Self::start(|mut stream| async move {
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await?;
            write.shutdown().await
        })
        .await
    }

    /// Greets first, then echoes.
    pub async fn greeting(greeting: &'static str) -> Self {
        Self::start(move |mut stream| async move {
            stream.write_all(greeting.as_bytes()).await?;
            let (mut read, mut write) = stream.split();
            tokio::io::copy(&mut read, &mut write).await?;
            write.shutdown().await
        })
        .await
    }

    /// Accepts and never reads nor answers.
    pub async fn silent() -> Self {
        Self::start(|_stream| std::future::pending()).await
    }

    /// Reads one head (up to an empty line) and answers each with `response`, byte for byte.
    pub async fn canned(response: &'static [u8]) -> Self {
        Self::start(move |mut stream| async move {
            while let Some(_head) = read_head(&mut stream).await? {
                stream.write_all(response).await?;
            }
            Ok(())
        })
        .await
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Stops listening and cuts every connection.
    pub fn kill(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    /// Listens again, on the same address.
    pub async fn listen(&self) {
        let listener = bind(self.addr).await;
        let (handler, accepted) = (self.handler.clone(), self.accepted.clone());
        let task = tokio::spawn(async move {
            // Dropped with this task, and with it every connection.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let _ = stream.set_nodelay(true);
                connections.spawn(handler(stream));
                while connections.try_join_next().is_some() {}
            }
        });
        *self.task.lock() = Some(task);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Binds `addr`, again and again while connections of an earlier life still hold it.
pub(crate) async fn bind(addr: SocketAddr) -> TcpListener {
    eventually::some("the address is free", DEADLINE, || async move {
        TcpListener::bind(addr).await.ok()
    })
    .await
}

/// Connects to `addr` from `ip`, as another workload of the machine would.
///
/// # Errors
/// When nobody listens there.
pub async fn connect_from(ip: Ipv4Addr, addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((ip, 0).into())?;
    let stream = socket.connect(addr).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads up to and including an empty line; `None` at the end of the stream.
pub async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) if head.is_empty() => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(String::from_utf8_lossy(&head).into_owned()))
}

/// A client connection, byte by byte.
pub struct Raw<S = TcpStream> {
    stream: S,
    /// Read and not yet expected.
    ahead: Vec<u8>,
}

/// An HTTP/1 answer as it came.
#[derive(Clone, Debug)]
pub struct RawAnswer {
    /// Status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// Body, framing removed when there was a length, as it came when it was chunked.
    pub body: Vec<u8>,
}

impl RawAnswer {
    /// The value of a header; names compare without regard to case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

// === impl Raw ===

impl Raw {
    /// Connects to `addr`.
    pub async fn connect(addr: SocketAddr) -> Self {
        let connect = TcpStream::connect(addr);
        let stream = eventually::within("connected", DEADLINE, connect)
            .await
            .unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"));
        stream
            .set_nodelay(true)
            .expect("an open socket takes options");
        Self::over(stream)
    }

    /// Connects to `addr` from `ip`.
    pub async fn connect_from(ip: Ipv4Addr, addr: SocketAddr) -> Self {
        let connect = connect_from(ip, addr);
        let stream = eventually::within("connected", DEADLINE, connect).await;
        Self::over(stream.unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}")))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// On what is connected already.
    pub fn over(stream: S) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
        }
    }

    /// The socket itself.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The socket alone, before anything was read ahead.
    pub fn into_stream(self) -> S {
        assert!(self.ahead.is_empty(), "bytes that were read would be lost");
        self.stream
    }

    /// Sends all of `bytes`.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = self.try_send(bytes).await;
        sent.expect("the peer takes what is sent");
    }

    /// [`send`](Self::send) to a peer that may have closed.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let stream = &mut self.stream;
        // What a TLS stream keeps back is sent by the flush.
        let send = async {
            stream.write_all(bytes.as_ref()).await?;
            stream.flush().await
        };
        eventually::within("sent", DEADLINE, send).await
    }

    /// Expects exactly `bytes` next.
    pub async fn expect(&mut self, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        let got = self.take(bytes.len()).await;
        let texts = [&got, bytes].map(|b| String::from_utf8_lossy(b).into_owned());
        assert_eq!(texts[0], texts[1]);
    }

    /// The next `n` bytes.
    pub async fn take(&mut self, n: usize) -> Vec<u8> {
        while self.ahead.len() < n {
            let got = self.ahead.len();
            assert!(
                self.fill().await > 0,
                "the stream ended after {got} of {n} bytes"
            );
        }
        self.ahead.drain(..n).collect()
    }

    /// Everything up to and including `end`.
    pub async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|w| w == end) {
                return self.ahead.drain(..at + end.len()).collect();
            }
            let so_far = String::from_utf8_lossy(&self.ahead).into_owned();
            assert!(self.fill().await > 0, "the stream ended after: {so_far:?}");
        }
    }

    /// Everything up to the end of the stream.
    pub async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await > 0 {}
        std::mem::take(&mut self.ahead)
    }

    /// Expects the end of the stream, or a reset, and nothing before it.
    pub async fn expect_end(&mut self) {
        let rest = self.rest().await;
        assert!(
            rest.is_empty(),
            "expected the end, got {:?}",
            String::from_utf8_lossy(&rest)
        );
    }

    /// Says that nothing more will be sent.
    pub async fn finish_sending(&mut self) {
        self.stream
            .shutdown()
            .await
            .expect("an open socket can be shut down");
    }

    /// The next HTTP/1 answer, with its body if it has one.
    pub async fn answer(&mut self) -> RawAnswer {
        let mut answer = self.answer_head().await;
        if let Some(length) = answer.header("content-length").and_then(|v| v.parse().ok()) {
            answer.body = self.take(length).await;
        } else if answer.header("transfer-encoding") == Some("chunked") {
            answer.body = self.chunks().await;
        }
        answer
    }

    /// The next HTTP/1 answer as far as its headers, as for `HEAD`.
    pub async fn answer_head(&mut self) -> RawAnswer {
        let head = String::from_utf8_lossy(&self.until(b"\r\n\r\n").await).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not an HTTP answer: {head:?}"));
        RawAnswer {
            status,
            head,
            body: Vec::new(),
        }
    }

    /// A chunked body with its framing and trailers.
    async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.until(b"\r\n").await;
            body.extend_from_slice(&line);
            let text = String::from_utf8_lossy(&line);
            let size = text.trim().split(';').next().unwrap_or_default().to_owned();
            let size = usize::from_str_radix(&size, 16).expect("a chunk begins with its size");
            if size == 0 {
                break;
            }
            body.extend(self.take(size + 2).await);
        }
        loop {
            let line = self.until(b"\r\n").await;
            body.extend_from_slice(&line);
            if line == b"\r\n" {
                return body;
            }
        }
    }

    /// Reads some more; 0 at the end, however it came.
    async fn fill(&mut self) -> usize {
        let read = self.stream.read_buf(&mut self.ahead);
        eventually::within("more bytes", DEADLINE, read)
            .await
            .unwrap_or(0)
    }
}
