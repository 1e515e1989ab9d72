//! Stopping without losing anything.

use crate::rig::{
    Both, Outbound, SOON, WEB,
    mesh::{Mesh, Way},
    web,
};
use integration::{
    client::{self, Client},
    eventually,
    load::Load,
    scrape,
    server::Server,
    tcp::{self, Raw},
};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_under_load_fails_no_request() {
    let mut outbound = Outbound::start(2).await;
    for server in &outbound.replicas {
        server.delay(Duration::from_millis(20));
    }
    let addr = outbound.addr();
    let http1 = Load::http1(addr, &web("/"))
        .rate(200)
        .connections(16)
        .start();
    let http2 = Load::http2(addr, &web("/")).rate(200).start();
    eventually::holds("load runs", SOON, || async {
        http1.report().ok > 100 && http2.report().ok > 100
    })
    .await;
    outbound.proxy.terminate();
    // Outbound carries on while the application finishes.
    let before = (http1.report().ok, http2.report().ok);
    eventually::holds("load goes on", SOON, || async {
        http1.report().ok > before.0 + 100 && http2.report().ok > before.1 + 100
    })
    .await;
    http1.stop().await.assert_no_failure();
    http2.stop().await.assert_no_failure();
    let status = outbound
        .proxy
        .wait(SOON * 3)
        .expect("it ends when all is done");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_drains_under_load_costs_no_request() {
    let app = Server::start("app").await;
    app.delay(Duration::from_millis(20));
    let other = Server::start("other").await;
    let mut mesh = Mesh::start(Way::Port, app.addr());
    let addr = mesh.addr();
    let http1 = Load::http1(addr, &web("/"))
        .rate(100)
        .connections(16)
        .start();
    let http2 = Load::http2(addr, &web("/")).rate(100).start();
    eventually::holds("load runs", SOON, || async {
        http1.report().ok > 50 && http2.report().ok > 50
    })
    .await;
    // As in a rollout: the other one is there, then this one is told to go.
    mesh.control.endpoints(WEB, &[other.addr()]);
    mesh.server.terminate();
    let status = mesh
        .server
        .wait(SOON * 3)
        .expect("it ends when all is done");
    assert_eq!(status.code(), Some(0));
    eventually::holds("the other one serves", SOON, || async {
        other.requests() > 50
    })
    .await;
    http1.stop().await.assert_no_failure();
    http2.stop().await.assert_no_failure();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inbound_stops_accepting_and_ready_says_so() {
    let server = Server::start("app").await;
    let mut both = Both::start(server.addr());
    let inbound = both.paths()[1].1;
    // Something in flight keeps the proxy alive.
    let slow = tokio::spawn(async move { client::get(inbound, &web("/delay/2000")).await });
    eventually::holds("it is on its way", SOON, || async {
        server.requests() == 1
    })
    .await;
    both.proxy.terminate();
    eventually::holds("not ready", SOON, || async {
        scrape::get(both.proxy.admin(), "/ready").is_ok_and(|answer| answer.status == 503)
    })
    .await;
    assert_eq!(both.proxy.ask("GET", "/live", "").status, 200);
    eventually::holds("nothing is accepted inbound", SOON, || async {
        TcpStream::connect(inbound).await.is_err()
    })
    .await;
    let outbound = client::get(both.paths()[0].1, &web("/")).await;
    assert_eq!(outbound.status, 200, "the application may still call out");

    let answer = slow.await.expect("no panic");
    assert_eq!(answer.status, 200, "what was in flight is finished");
    assert_eq!(
        both.proxy.wait(SOON * 2).and_then(|status| status.code()),
        Some(0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_told_to_go_elsewhere() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    let inbound = both.paths()[1].1;
    let mut http1 = Client::http1(inbound).await;
    let http2 = Client::http2(inbound).await;
    assert_eq!(http1.send(client::request(&web("/"))).await.status, 200);
    let mut shared = http2.share().expect("HTTP/2");
    let slow = tokio::spawn(async move {
        let mut request = client::request(&web("/delay/1000"));
        request.headers_mut().remove(http::header::HOST);
        shared.try_send(request).await
    });
    let in_flight = tokio::spawn(async move {
        let answer = http1.try_send(client::request(&web("/delay/1000"))).await;
        (answer, http1)
    });
    eventually::holds("both are on their way", SOON, || async {
        server.requests() == 3
    })
    .await;
    both.proxy.terminate();
    eventually::holds("GOAWAY", SOON, || {
        let mut handle = http2.share().expect("HTTP/2");
        async move { handle.ready().await.is_err() }
    })
    .await;
    let answer = slow
        .await
        .expect("no panic")
        .expect("the stream is finished");
    assert_eq!(answer.status, 200);
    let (answer, http1) = in_flight.await.expect("no panic");
    let answer = answer.expect("the request is finished");
    assert_eq!(
        (answer.status.as_u16(), answer.header("connection")),
        (200, "close")
    );
    eventually::holds("closed", SOON, || async { http1.is_closed() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_proxy_ends_at_once() {
    let server = Server::start("app").await;
    let mut both = Both::start(server.addr());
    // Idle keep-alive connections hold nothing up.
    let mut clients = Vec::new();
    for (_, addr) in both.paths() {
        let mut client = Client::http1(addr).await;
        assert_eq!(client.send(client::request(&web("/"))).await.status, 200);
        clients.push(client);
    }
    both.proxy.terminate();
    let begun = Instant::now();
    let status = both.proxy.wait(SOON * 2).expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_grace_period_bounds_the_drain() {
    let server = tcp::Server::echo().await;
    let mut both = Both::with(server.addr(), |builder| {
        builder.env("LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD", "1s")
    });
    let mut raw = Raw::connect(both.paths()[1].1).await;
    raw.send("\x01").await;
    raw.expect("\x01").await;
    both.proxy.terminate();
    let begun = Instant::now();
    let status = both.proxy.wait(SOON * 2).expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert!(
        begun.elapsed() > Duration::from_millis(900),
        "the connection had its time"
    );
    raw.rest().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_connection_still_works_during_the_drain() {
    let server = tcp::Server::echo().await;
    let mut both = Both::start(server.addr());
    let mut raw = Raw::connect(both.paths()[1].1).await;
    raw.send("\x01").await;
    raw.expect("\x01").await;
    both.proxy.terminate();
    eventually::holds("not ready", SOON, || async {
        scrape::get(both.proxy.admin(), "/ready").is_ok_and(|answer| answer.status == 503)
    })
    .await;
    raw.send("still here").await;
    raw.expect("still here").await;
    raw.finish_sending().await;
    raw.expect_end().await;
    assert_eq!(
        both.proxy.wait(SOON * 2).and_then(|status| status.code()),
        Some(0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_signal_ends_it_at_once() {
    let server = tcp::Server::echo().await;
    let mut both = Both::start(server.addr());
    let mut raw = Raw::connect(both.paths()[1].1).await;
    raw.send("\x01").await;
    raw.expect("\x01").await;
    both.proxy.terminate();
    eventually::holds("it drains", SOON, || async {
        scrape::get(both.proxy.admin(), "/ready").is_ok_and(|answer| answer.status == 503)
    })
    .await;
    both.proxy.terminate();
    let begun = Instant::now();
    both.proxy.wait(SOON * 2).expect("it ends");
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "{:?}",
        begun.elapsed()
    );
}
