//! An HTTP server that behaves as the path asks, and misbehaves as the test asks.
//!
//! It speaks HTTP/1 and HTTP/2 with prior knowledge on one port. Every answer tells by `x-server`
//! who gave it. What each path does is in `server/routes.rs`.

mod routes;

use crate::{addr, tcp::bind};
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::{JoinHandle, JoinSet},
};

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One replica. Dropping it cuts every connection.
pub struct Server {
    addr: SocketAddr,
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What can be changed while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Behaviour {
    delay: Duration,
    status: Option<u16>,
    at_once: Option<usize>,
}

struct Shared {
    name: String,
    behaviour: Mutex<Behaviour>,
    hanging: watch::Sender<bool>,
    requests: AtomicUsize,
    accepted: AtomicUsize,
    open: AtomicUsize,
    busy: AtomicUsize,
    max_streams: Option<u32>,
}

impl Server {
    /// A replica called `name` on an address of its own.
    pub async fn start(name: &str) -> Self {
        Self::start_at(name, addr::unique(8080), None).await
    }

    /// One that allows `max` concurrent streams on an HTTP/2 connection.
    pub async fn with_max_streams(name: &str, max: u32) -> Self {
        Self::start_at(name, addr::unique(8080), Some(max)).await
    }

    /// `n` replicas, called `r0`, `r1` and so on.
    pub async fn replicas(n: usize) -> Vec<Self> {
        futures::future::join_all(
            (0..n).map(|i| async move { Self::start(&format!("r{i}")).await }),
        )
        .await
    }

    async fn start_at(name: &str, addr: SocketAddr, max_streams: Option<u32>) -> Self {
        let (behaviour, hanging, requests, accepted, open, busy) = Default::default();
        let name = name.to_owned();
        let shared = Arc::new(Shared {
            name,
            behaviour,
            hanging,
            requests,
            accepted,
            open,
            busy,
            max_streams,
        });
        let server = Self {
            addr,
            shared,
            task: Mutex::default(),
        };
        server.listen().await;
        server
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Every answer from now on takes this much longer.
    pub fn delay(&self, delay: Duration) {
        self.shared.behaviour.lock().delay = delay;
    }

    /// Every answer from now on has this status; `None`: as the path asks.
    pub fn status(&self, status: Option<u16>) {
        self.shared.behaviour.lock().status = status;
    }

    /// From now on requests are taken and left alone; or, with `false`, they and what came
    /// meanwhile are answered.
    pub fn hang(&self, is_hanging: bool) {
        self.shared.hanging.send_replace(is_hanging);
    }

    /// Works on at most `n` requests at a time; the others wait.
    pub fn at_once(&self, n: usize) {
        self.shared.behaviour.lock().at_once = Some(n);
    }

    /// Requests it has seen.
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }

    /// Connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Stops listening and cuts every connection, as a crash would.
    pub fn kill(&self) {
        if let Some(task) = self.task.lock().take() {
            task.abort();
        }
    }

    /// Listens again, on the same address.
    pub async fn listen(&self) {
        let listener = bind(self.addr).await;
        let shared = self.shared.clone();
        let task = tokio::spawn(async move {
            // Dropped with this task, and with it every connection.
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                connections.spawn(connection(stream, shared.clone()));
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

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    let _open = Count::up(&shared.open);
    let _ = stream.set_nodelay(true);
    let Ok(is_http2) = is_http2(&stream).await else {
        return;
    };
    let max_streams = shared.max_streams;
    let service = service_fn({
        let shared = shared.clone();
        move |request: Request<Incoming>| {
            let shared = shared.clone();
            async move { Ok::<_, Infallible>(routes::answer(request, &shared).await) }
        }
    });
    let io = TokioIo::new(stream);
    // How a connection ends is for the test's client to judge.
    if is_http2 {
        let mut server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        let _ = server
            .max_concurrent_streams(max_streams)
            .serve_connection(io, service)
            .await;
    } else {
        let mut server = hyper::server::conn::http1::Builder::new();
        server.header_read_timeout(None).preserve_header_case(true);
        let _ = server.serve_connection(io, service).with_upgrades().await;
    }
}

/// Looks at the first bytes without taking them.
async fn is_http2(stream: &TcpStream) -> std::io::Result<bool> {
    let mut bytes = [0; PREFACE.len()];
    loop {
        let n = stream.peek(&mut bytes).await?;
        if n == 0 || bytes[..n] != PREFACE[..n] {
            return Ok(false);
        }
        if n == PREFACE.len() {
            return Ok(true);
        }
        tokio::task::yield_now().await;
    }
}

/// Counts as long as it lives.
struct Count<'a>(&'a AtomicUsize);

impl<'a> Count<'a> {
    fn up(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
