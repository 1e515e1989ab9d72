//! Load at a fixed rate, and what became of every request.
//!
//! The loop is open: requests fall due whether or not earlier ones were answered, and a latency
//! counts from then. Every failure is counted under a name that says what it was; which replica
//! answered is counted too.

use crate::client::{Answer, Client, request};
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use std::{
    collections::{BTreeMap, VecDeque},
    error::Error,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};

/// A request without an answer for this long has failed.
const DEADLINE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(2);

/// How often a request is sent that was not processed.
const TRIES: usize = 3;

/// The connection of a worker, when it is not in use or can be shared.
type Slot = tokio::sync::Mutex<Option<Client>>;

/// A load to be run.
#[derive(Clone, Debug)]
pub struct Load {
    addr: SocketAddr,
    uri: String,
    rate: u64,
    connections: usize,
    streams: usize,
    is_http2: bool,
}

/// A load that runs.
pub struct Running {
    due: Arc<Due>,
    report: Arc<Mutex<Report>>,
    pacer: JoinHandle<()>,
    workers: JoinSet<()>,
}

/// What became of the requests.
#[derive(Clone, Debug)]
pub struct Report {
    /// Answered with success.
    pub ok: u64,
    /// Everything else, by what it was: a status with its `l5d-proxy-error`, or what broke.
    pub failures: BTreeMap<String, u64>,
    /// Successes by replica.
    pub by_server: BTreeMap<String, u64>,
    /// Of successes, in microseconds.
    pub latency: Histogram<u64>,
    /// Of failures, in microseconds.
    pub failure_latency: Histogram<u64>,
}

/// Moments at which requests are due.
#[derive(Debug)]
struct Due {
    moments: Mutex<VecDeque<Instant>>,
    ready: Semaphore,
}

// === impl Load ===

impl Load {
    /// `GET uri` through `addr` over HTTP/1.1: 100/s over 16 connections unless told otherwise.
    pub fn http1(addr: SocketAddr, uri: &str) -> Self {
        let uri = uri.to_owned();
        Self {
            addr,
            uri,
            rate: 100,
            connections: 16,
            streams: 1,
            is_http2: false,
        }
    }

    /// The same over HTTP/2: two connections with 16 streams each.
    pub fn http2(addr: SocketAddr, uri: &str) -> Self {
        Self {
            connections: 2,
            streams: 16,
            is_http2: true,
            ..Self::http1(addr, uri)
        }
    }

    /// Requests per second.
    pub fn rate(mut self, rate: u64) -> Self {
        self.rate = rate;
        self
    }

    /// Connections.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections;
        self
    }

    /// Runs for `time`.
    pub async fn run(self, time: Duration) -> Report {
        let running = self.start();
        tokio::time::sleep(time).await;
        running.stop().await
    }

    /// Runs until it is stopped.
    pub fn start(self) -> Running {
        let due = Arc::new(Due {
            moments: Mutex::default(),
            ready: Semaphore::new(0),
        });
        let report = Arc::new(Mutex::new(Report::new()));
        let mut workers = JoinSet::new();
        for _ in 0..self.connections {
            workers.spawn(worker(self.clone(), due.clone(), report.clone()));
        }
        let pacer = tokio::spawn(pace(self.rate, due.clone()));
        Running {
            due,
            report,
            pacer,
            workers,
        }
    }

    async fn connect(&self) -> anyhow::Result<Client> {
        if self.is_http2 {
            Client::try_http2(self.addr).await
        } else {
            Client::try_http1(self.addr).await
        }
    }
}

// === impl Running ===

impl Running {
    /// What became of the requests so far.
    pub fn report(&self) -> Report {
        self.report.lock().clone()
    }

    /// Stops, waits for what is in flight, and returns what became of all.
    pub async fn stop(mut self) -> Report {
        self.pacer.abort();
        self.due.ready.close();
        while self.workers.join_next().await.is_some() {}
        let report = self.report.lock();
        report.clone()
    }
}

// === impl Report ===

impl Report {
    fn new() -> Self {
        let histogram = || Histogram::new_with_max(60_000_000, 3).expect("bounds are in order");
        Self {
            ok: 0,
            failures: BTreeMap::new(),
            by_server: BTreeMap::new(),
            latency: histogram(),
            failure_latency: histogram(),
        }
    }

    /// Number of failures.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Number of requests.
    pub fn total(&self) -> u64 {
        self.ok + self.failed()
    }

    /// Requests that `server` answered with success.
    pub fn of(&self, server: &str) -> u64 {
        self.by_server.get(server).copied().unwrap_or(0)
    }

    /// A latency of successes.
    pub fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latency.value_at_quantile(quantile))
    }

    /// Panics with what failed, if anything did, or if nothing was asked at all.
    pub fn assert_no_failure(&self) {
        assert!(self.ok > 0, "no request was answered: {:?}", self.failures);
        assert!(
            self.failures.is_empty(),
            "of {} requests: {:?}",
            self.total(),
            self.failures
        );
    }

    fn count(&mut self, due: Instant, result: Result<Answer, String>) {
        let micros = due.elapsed().as_micros() as u64;
        match result {
            Ok(answer) if answer.status.is_success() => {
                self.ok += 1;
                *self
                    .by_server
                    .entry(answer.server().to_owned())
                    .or_default() += 1;
                self.latency.saturating_record(micros);
            }
            Ok(answer) => {
                let status = answer.status.as_u16();
                let what = format!("{status} {}", answer.header("l5d-proxy-error"));
                self.fail(what.trim_end().to_owned(), micros);
            }
            Err(error) => self.fail(error, micros),
        }
    }

    fn fail(&mut self, what: String, micros: u64) {
        *self.failures.entry(what).or_default() += 1;
        self.failure_latency.saturating_record(micros);
    }
}

// === impl Due ===

impl Due {
    /// The next moment; `None` when the load has been stopped.
    async fn next(&self) -> Option<Instant> {
        self.ready.acquire().await.ok()?.forget();
        self.moments.lock().pop_front()
    }
}

async fn pace(rate: u64, due: Arc<Due>) {
    let start = Instant::now();
    let mut sent = 0;
    loop {
        let target = start.elapsed().as_millis() as u64 * rate / 1000;
        let now = Instant::now();
        due.moments.lock().extend((sent..target).map(|_| now));
        due.ready
            .add_permits(usize::try_from(target - sent).unwrap_or(0));
        sent = target;
        tokio::time::sleep(TICK).await;
    }
}

/// One connection, opened again whenever it is closed, with a task for each stream.
async fn worker(load: Load, due: Arc<Due>, report: Arc<Mutex<Report>>) {
    let shared: Arc<Slot> = Arc::default();
    let mut streams = JoinSet::new();
    for _ in 0..load.streams {
        let (load, due, report, shared) =
            (load.clone(), due.clone(), report.clone(), shared.clone());
        streams.spawn(async move {
            while let Some(moment) = due.next().await {
                let asked = tokio::time::timeout(DEADLINE, ask(&load, &shared)).await;
                let result = asked.unwrap_or_else(|_| Err("no answer".to_owned()));
                report.lock().count(moment, result);
            }
        });
    }
    while streams.join_next().await.is_some() {}
}

/// Asks, and asks again what the peer has certainly not begun to process: every HTTP client does.
async fn ask(load: &Load, shared: &Slot) -> Result<Answer, String> {
    let mut failure = String::new();
    for _ in 0..TRIES {
        let client = take(load, shared).await?;
        match ask_once(load, client, shared).await {
            Ok(answer) => return Ok(answer),
            Err(error) => {
                failure = describe(&error);
                if !was_unprocessed(&error) {
                    break;
                }
                shared.lock().await.take();
            }
        }
    }
    Err(failure)
}

/// A usable connection: the one that is there, or a new one.
async fn take(load: &Load, shared: &Slot) -> Result<Client, String> {
    let mut slot = shared.lock().await;
    if let Some(mut client) = slot.take()
        && client.ready().await.is_ok()
    {
        *slot = client.share();
        return Ok(client);
    }
    let connected = load.connect().await;
    let client = connected.map_err(|error| format!("connect: {error:#}"))?;
    *slot = client.share();
    Ok(client)
}

async fn ask_once(load: &Load, mut client: Client, shared: &Slot) -> hyper::Result<Answer> {
    let mut request = request(&load.uri);
    if load.is_http2 {
        request.headers_mut().remove(http::header::HOST);
        return client.try_send(request).await;
    }
    let answer = client.try_send(request).await?;
    *shared.lock().await = Some(client);
    Ok(answer)
}

/// Never sent, or beyond the last stream of an orderly GOAWAY (RFC 9113, section 6.8).
fn was_unprocessed(error: &hyper::Error) -> bool {
    let cause = error
        .source()
        .and_then(|cause| cause.downcast_ref::<h2::Error>());
    let is_goaway =
        |e: &h2::Error| e.is_go_away() && e.is_remote() && e.reason() == Some(h2::Reason::NO_ERROR);
    error.is_canceled() || cause.is_some_and(is_goaway)
}

fn describe(error: &hyper::Error) -> String {
    let cause = error
        .source()
        .map(|cause| format!(": {cause}"))
        .unwrap_or_default();
    format!("{error}{cause}")
}
