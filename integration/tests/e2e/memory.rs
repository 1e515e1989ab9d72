//! What the sidecar costs in memory, and that it gives it back.

use crate::rig::{
    Both, Outbound, SOON, WEB,
    mesh::{Plan, Way},
    web,
};
use futures::future::join_all;
use integration::{
    client::{self, Client},
    eventually,
    load::Load,
    proxy::Proxy,
    server::Server,
    tcp::{self, Raw},
};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// Per idle connection. The budget of the release build is 8, which the benchmark measures; futures of
/// the build under test are not optimized.
const KIB_PER_CONNECTION: u64 = 16;

fn over_http2(path: &str) -> http::Request<client::Body> {
    let mut request = client::request(&web(path));
    request.headers_mut().remove(http::header::HOST);
    request
}

/// Raises the soft limit of open files to the hard one; `false` when that is less than `n`.
fn can_open(n: u64) -> bool {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // When it cannot be raised, what is there has to do.
    let _ = setrlimit(Resource::Nofile, limit);
    getrlimit(Resource::Nofile)
        .current
        .is_none_or(|current| current >= n)
}

/// Waits until the sidecar needs no more than `limit` KiB, and says what it needs if it does not.
async fn settles(proxy: &Proxy, limit: u64, deadline: Duration) {
    let begun = Instant::now();
    loop {
        let now = proxy.rss_kib();
        if now <= limit {
            return;
        }
        assert!(
            begun.elapsed() < deadline,
            "{now} KiB, which is more than {limit} KiB"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_returns_after_a_burst_of_a_hundred_times_the_load() {
    let outbound = Outbound::start(3).await;
    let usual = Load::http1(outbound.addr(), &web("/"))
        .rate(15)
        .connections(4);
    usual
        .clone()
        .run(Duration::from_secs(3))
        .await
        .assert_no_failure();
    let idle = outbound.proxy.rss_kib();

    let burst = Load::http1(outbound.addr(), &web("/bytes/10000"))
        .rate(1500)
        .connections(300);
    burst.run(Duration::from_secs(5)).await.assert_no_failure();
    settles(&outbound.proxy, idle * 12 / 10, Duration::from_secs(30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_cost_a_bounded_buffer_each_and_disturb_nobody() {
    const READERS: u64 = 50;
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        assert_eq!(client::get(addr, &web("/")).await.status, 200);
        let before = both.proxy.rss_kib();
        let mut readers = Vec::new();
        for _ in 0..READERS {
            let mut raw = Raw::connect(addr).await;
            raw.send("GET /bytes/50000000 HTTP/1.1\r\nhost: web.demo.svc.cluster.local\r\n\r\n")
                .await;
            raw.answer_head().await;
            readers.push(raw);
        }
        let load = Load::http1(addr, &web("/")).rate(200).connections(8);
        let report = load.run(Duration::from_secs(3)).await;
        report.assert_no_failure();
        assert!(
            report.quantile(0.9) < Duration::from_millis(250),
            "{path}: {report:?}"
        );
        let grown = both.proxy.rss_kib().saturating_sub(before);
        assert!(
            grown < READERS * 512,
            "{path}: {grown} KiB for {READERS} slow readers"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_of_http2_cost_their_window_each_and_disturb_nobody() {
    const READERS: u64 = 50;
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let mut other = Client::http2(addr).await;
        assert_eq!(other.send(over_http2("/")).await.status, 200, "{path}");
        let before = both.proxy.rss_kib();
        let mut readers = Vec::new();
        for _ in 0..READERS {
            // Each has a connection of its own; what they share is the way to the endpoint.
            let mut client = Client::http2(addr).await;
            let answer = client.open(over_http2("/bytes/50000000")).await;
            readers.push((client, answer.expect("an answer")));
        }
        for _ in 0..20 {
            let answer = other.send(over_http2("/bytes/200000")).await;
            assert_eq!(answer.body.len(), 200_000, "{path}");
        }
        let grown = both.proxy.rss_kib().saturating_sub(before);
        // The window towards the application is one MiB.
        assert!(
            grown < READERS * 1536,
            "{path}: {grown} KiB for {READERS} slow readers"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_readers_disturb_nobody_whose_requests_are_carried() {
    const READERS: usize = 50;
    let app = Server::start("app").await;
    let mesh = Plan::new(Way::Port).patient().start(app.addr());
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut raw = Raw::connect(mesh.addr()).await;
        raw.send("GET /bytes/50000000 HTTP/1.1\r\nhost: web.demo.svc.cluster.local\r\n\r\n")
            .await;
        raw.answer_head().await;
        readers.push(raw);
    }
    let mut other = Client::http1(mesh.addr()).await;
    for _ in 0..20 {
        let answer = other.send(client::request(&web("/bytes/200000"))).await;
        assert_eq!(answer.body.len(), 200_000);
    }
    assert_eq!(readers.len(), READERS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uploads_that_stand_still_cost_their_window_each_and_disturb_nobody() {
    const STANDING: usize = 20;
    let server = taking_nothing_of("/hold").await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let stream = TcpStream::connect(addr).await.expect("the proxy listens");
        let (mut send, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        let before = both.proxy.rss_kib();
        let mut held = Vec::new();
        for n in 0..=STANDING {
            send = send.ready().await.expect("open");
            let uri = if n < STANDING { "/hold" } else { "/take" };
            let request = http::Request::post(web(uri)).body(()).expect("valid");
            let (answer, mut body) = send.send_request(request, false).expect("it can be sent");
            let data = bytes::Bytes::from(vec![b'x'; 3 << 20]);
            body.send_data(data, true).expect("it can be sent");
            held.push((answer, body));
        }
        let (answer, _) = held.pop().expect("the last one");
        let answer = eventually::within("an answer to the last upload", SOON * 2, answer).await;
        assert_eq!(answer.expect("an answer").status(), 200, "{path}");
        let grown = both.proxy.rss_kib().saturating_sub(before);
        assert!(
            grown < STANDING as u64 * 1536,
            "{path}: {grown} KiB for {STANDING} uploads"
        );
    }
}

/// An endpoint with ample room on its connections that reads no request for `path`, and all others.
async fn taking_nothing_of(path: &'static str) -> tcp::Server {
    tcp::Server::start(move |stream| async move {
        let mut connection = h2::server::Builder::new()
            .initial_connection_window_size(1 << 30)
            .handshake::<_, bytes::Bytes>(stream)
            .await
            .map_err(std::io::Error::other)?;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::spawn(async move {
                if request.uri().path() == path {
                    std::future::pending::<()>().await;
                }
                let mut body = request.into_body();
                while let Some(Ok(data)) = body.data().await {
                    let _ = body.flow_control().release_capacity(data.len());
                }
                let _ = respond.send_response(http::Response::new(()), true);
            });
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections_stay_within_their_budget() {
    const CONNECTIONS: usize = 10_000;
    if !can_open(CONNECTIONS as u64 + 2_000) {
        eprintln!("skipped: the hard limit of open files is below 12,000");
        return;
    }
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    let addr = both.paths()[0].1;
    assert_eq!(client::get(addr, &web("/")).await.status, 200);
    let before = both.proxy.rss_kib();
    let mut held = Vec::with_capacity(CONNECTIONS);
    while held.len() < CONNECTIONS {
        let batch = join_all((0..50).map(|_| async {
            let mut raw = Raw::connect(addr).await;
            raw.send("GET / HTTP/1.1\r\nhost: web.demo.svc.cluster.local\r\n\r\n")
                .await;
            assert_eq!(raw.answer().await.status, 200);
            raw
        }));
        held.extend(batch.await);
    }
    settles(
        &both.proxy,
        before + CONNECTIONS as u64 * KIB_PER_CONNECTION,
        SOON * 2,
    )
    .await;
    // They are still good.
    let last = held.last_mut().expect("there are some");
    last.send("GET / HTTP/1.1\r\nhost: web.demo.svc.cluster.local\r\n\r\n")
        .await;
    assert_eq!(last.answer().await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_endpoints_in_storms_of_changes_cost_little() {
    // Series of vanished endpoints stay for ten minutes otherwise.
    let outbound = Outbound::with(2, |builder| {
        builder.env("LINKERD2_PROXY_METRICS_RETAIN_IDLE", "1s")
    })
    .await;
    assert_eq!(client::get(outbound.addr(), &web("/")).await.status, 200);
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(100)
        .connections(8)
        .start();
    eventually::holds("load runs", SOON, || async { load.report().ok > 50 }).await;
    let before = outbound.proxy.rss_kib();
    // Two listeners, a thousand addresses: what is not there refuses and is left alone.
    let real = outbound.endpoints();
    for round in 0..50_u16 {
        let mut endpoints = real.clone();
        endpoints.extend((0..1000).map(|n| {
            let [a, b] = (n + round * 20).to_be_bytes();
            std::net::SocketAddr::from(([127, 100, a, b], 1))
        }));
        outbound.control.endpoints(WEB, &endpoints);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    outbound.control.endpoints(WEB, &real);
    eventually::holds("it settles on what is there", SOON * 2, || async {
        let before = load.report();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let after = load.report();
        after.failed() == before.failed() && after.ok > before.ok + 20
    })
    .await;
    load.stop().await;
    settles(&outbound.proxy, before + (6 << 10), SOON * 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_gone_leave_no_descriptor_behind() {
    let mut outbound = Outbound::start(2).await;
    assert_eq!(client::get(outbound.addr(), &web("/")).await.status, 200);
    let before = outbound.proxy.process().open_files();
    let clients = join_all((0..200).map(|_| Client::http1(outbound.addr()))).await;
    drop(clients);
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(500)
        .connections(100);
    load.run(Duration::from_secs(2)).await.assert_no_failure();
    // Pooled connections idle out after three seconds.
    let proxy = &mut outbound.proxy;
    let closed = eventually::blocking(SOON * 4, || {
        (proxy.process().open_files() <= before + 4).then_some(())
    });
    assert!(
        closed.is_some(),
        "{} files, {before} before",
        proxy.process().open_files()
    );
}
