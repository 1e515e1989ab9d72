//! Who gets how much of the traffic.

use crate::rig::{Outbound, SOON, WEB, WEB_PORT, web};
use futures::future::join_all;
use integration::{
    client,
    control::{
        ControlPlane,
        proto::{Endpoint, Policy, WEIGHT},
    },
    eventually,
    load::Load,
    proxy,
    server::Server,
    tcp,
};
use std::time::Duration;

/// So many replicas that not all are in use under little load.
const MANY: usize = 80;
/// That many are.
const IN_USE: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_replica_gets_less_than_a_fifth_of_its_equal_share() {
    let outbound = Outbound::start(3).await;
    outbound.replicas[0].delay(Duration::from_millis(300));
    for server in &outbound.replicas[1..] {
        server.delay(Duration::from_millis(2));
    }
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(200)
        .connections(32);
    let report = load.run(Duration::from_secs(5)).await;
    report.assert_no_failure();
    let equal = report.total() / 3;
    assert!(report.of("r0") < equal / 5, "{:?}", report.by_server);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn equal_replicas_get_equal_shares() {
    let outbound = Outbound::start(3).await;
    for server in &outbound.replicas {
        server.delay(Duration::from_millis(5));
    }
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(300)
        .connections(32);
    let report = load.run(Duration::from_secs(4)).await;
    report.assert_no_failure();
    for name in ["r0", "r1", "r2"] {
        let share = report.of(name) as f64 * 3.0 / report.total() as f64;
        assert!((0.4..1.8).contains(&share), "{:?}", report.by_server);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_fails_fast_attracts_no_traffic() {
    let outbound = Outbound::start(3).await;
    outbound.replicas[0].status(Some(500));
    for server in &outbound.replicas[1..] {
        server.delay(Duration::from_millis(20));
    }
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(200)
        .connections(32);
    let report = load.run(Duration::from_secs(4)).await;
    let failing = outbound.replicas[0].requests() as u64;
    assert!(
        failing < report.total() / 3 / 2,
        "{failing} of {}",
        report.total()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_are_honoured() {
    let outbound = Outbound::start(2).await;
    let endpoints: Vec<_> = outbound
        .endpoints()
        .into_iter()
        .zip([WEIGHT, 4 * WEIGHT])
        .map(|(addr, weight)| Endpoint {
            weight,
            ..Endpoint::from(addr)
        })
        .collect();
    outbound.control.weighted_endpoints(WEB, &endpoints);
    for server in &outbound.replicas {
        server.delay(Duration::from_millis(5));
    }
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(200)
        .connections(32);
    let report = load.run(Duration::from_secs(4)).await;
    report.assert_no_failure();
    let ratio = report.of("r1") as f64 / report.of("r0").max(1) as f64;
    assert!(
        (2.0..10.0).contains(&ratio),
        "four times the weight: {:?}",
        report.by_server
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consecutive_failures_take_a_replica_out_until_it_proves_itself() {
    let outbound = Outbound::start(1).await;
    let accrual = Policy::new(WEB)
        .accrual(5, Duration::from_millis(500))
        .queue(100, Duration::from_millis(100));
    outbound.control.policy(WEB, &accrual);
    let broken = &outbound.replicas[0];
    broken.status(Some(503));
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(100)
        .connections(16)
        .start();
    eventually::holds("the broken one is tripped", SOON, || async {
        broken.requests() >= 5
    })
    .await;
    let before = broken.requests();
    let report = Load::http1(outbound.addr(), &web("/"))
        .run(Duration::from_secs(2))
        .await;
    let reached = broken.requests() - before;
    assert!(
        reached <= 20,
        "{reached} of {} requests were let through",
        report.total()
    );

    broken.status(None);
    eventually::holds("it is used again", SOON * 2, || async {
        load.report().ok > 100
    })
    .await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_refuses_is_left_alone_while_others_serve() {
    let outbound = Outbound::start(3).await;
    outbound.replicas[0].kill();
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(200)
        .connections(16);
    let report = load.run(Duration::from_secs(3)).await;
    // Refused connects are no failures: the request has not been sent.
    report.assert_no_failure();
    assert_eq!(report.of("r0"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_requests_are_balanced_one_by_one() {
    let outbound = Outbound::start(3).await;
    for server in &outbound.replicas {
        server.delay(Duration::from_millis(5));
    }
    let load = Load::http2(outbound.addr(), &web("/"))
        .rate(200)
        .connections(1);
    let report = load.run(Duration::from_secs(3)).await;
    report.assert_no_failure();
    for server in &outbound.replicas {
        assert!(server.requests() > 30, "{:?}", report.by_server);
    }
}

/// While a request for `path` is out at one of three replicas, each of them gets its share of the others.
async fn starves_nobody(path: &str, answer: &str) {
    let outbound = Outbound::start(3).await;
    for server in &outbound.replicas {
        server.delay(Duration::from_millis(5));
    }
    let load = || {
        Load::http1(outbound.addr(), &web("/"))
            .rate(100)
            .connections(16)
    };
    load().run(Duration::from_secs(1)).await.assert_no_failure();
    let before: usize = outbound.replicas.iter().map(Server::requests).sum();
    let mut quiet = tcp::Raw::connect(outbound.addr()).await;
    quiet
        .send(&format!(
            "GET {path} HTTP/1.1\r\nhost: web.demo.svc.cluster.local\r\n\r\n"
        ))
        .await;
    eventually::holds("it is out", SOON, || async {
        outbound
            .replicas
            .iter()
            .map(Server::requests)
            .sum::<usize>()
            > before
    })
    .await;
    quiet.expect(answer).await;
    let report = load().run(Duration::from_secs(10)).await;
    report.assert_no_failure();
    let equal = report.total() / 3;
    for name in ["r0", "r1", "r2"] {
        assert!(report.of(name) > equal / 3, "{:?}", report.by_server);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_does_not_starve_its_replica() {
    starves_nobody("/hang", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_quiet_does_not_starve_its_replica() {
    starves_nobody("/events", "HTTP/1.1 200").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_replica_gets_its_share() {
    let outbound = Outbound::start(2).await;
    let new = Server::start("new").await;
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(200)
        .connections(16)
        .start();
    eventually::holds("load runs", SOON, || async { load.report().ok > 100 }).await;
    let mut endpoints = outbound.endpoints();
    endpoints.push(new.addr());
    outbound.control.endpoints(WEB, &endpoints);
    // Should its first answers be late by chance, it is tried again after 2 s and 4 s.
    eventually::holds("the new one is used", SOON * 3, || async {
        new.requests() > 50
    })
    .await;
    load.stop().await.assert_no_failure();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fallback_serves_while_the_first_backend_cannot() {
    const SPARE: &str = "spare.demo.svc.cluster.local:80";
    let outbound = Outbound::start(1).await;
    let spare = Server::start("spare").await;
    outbound.control.endpoints(SPARE, &[spare.addr()]);
    let policy = Policy::new(WEB).fallback(SPARE);
    outbound.control.policy(WEB, &policy);
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(100)
        .connections(8)
        .start();
    let first = &outbound.replicas[0];
    // Until it is known where the first is, the spare one may serve.
    eventually::holds("the first is used", SOON, || async {
        first.requests() > 50
    })
    .await;
    let before = spare.requests();
    eventually::holds("it still is", SOON, || async { first.requests() > 100 }).await;
    assert_eq!(spare.requests(), before, "the first can serve");

    // Without endpoints, and with one that refuses.
    outbound.control.endpoints(WEB, &[]);
    eventually::holds("the spare one serves", SOON, || async {
        spare.requests() > 50
    })
    .await;
    let before = first.requests();
    outbound.control.endpoints(WEB, &[first.addr()]);
    eventually::holds("the first is back", SOON, || async {
        first.requests() > before + 50
    })
    .await;
    let before = spare.requests();
    first.kill();
    eventually::holds("the spare one serves again", SOON, || async {
        spare.requests() > before + 50
    })
    .await;
    // What was on its way to the one that was killed.
    let report = load.stop().await;
    assert!(report.failed() <= 8, "{:?}", report.failures);
}

/// Replicas that have seen requests.
fn used(outbound: &Outbound) -> Vec<&Server> {
    let all = outbound.replicas.iter();
    all.filter(|server| server.requests() > 0).collect()
}

fn endpoints_in(outbound: &Outbound, state: &str) -> f64 {
    let labels = [("endpoint_state", state)];
    let name = "outbound_http_balancer_endpoints";
    outbound.proxy.metric(name, &labels)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn little_load_uses_a_few_of_many_replicas() {
    let outbound = Outbound::start(MANY).await;
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(300)
        .connections(4);
    let report = load.run(Duration::from_secs(3)).await;
    report.assert_no_failure();
    assert_eq!(report.by_server.len(), IN_USE, "{:?}", report.by_server);
    let unused = outbound.replicas.iter().filter(|s| s.requests() == 0);
    let accepted: usize = unused.map(Server::accepted).sum();
    assert_eq!(accepted, 0, "nobody connects to what is not in use");
    let states = ["ready", "pending", "unused"].map(|state| endpoints_in(&outbound, state));
    assert_eq!(states, [12.0, 0.0, (MANY - IN_USE) as f64]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_all_in_use_die_others_serve() {
    let outbound = Outbound::start(MANY).await;
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(200)
        .connections(4)
        .start();
    eventually::holds("load runs", SOON, || async { load.report().ok > 200 }).await;
    let dead = used(&outbound);
    assert_eq!(dead.len(), IN_USE);
    dead.iter().for_each(|server| server.kill());
    let before = load.report().ok;
    eventually::holds("others serve", SOON, || async {
        load.report().ok > before + 400
    })
    .await;
    let report = load.stop().await;
    // What was on its way to those that died.
    assert!(report.failed() <= 8, "{:?}", report.failures);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_work_on_one_request_at_a_time_get_company() {
    let outbound = Outbound::start(MANY).await;
    for server in &outbound.replicas {
        server.delay(Duration::from_millis(50));
        server.at_once(1);
    }
    // Twelve would manage 240.
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(500)
        .connections(64)
        .start();
    eventually::holds("more are in use", SOON * 2, || async {
        used(&outbound).len() > 2 * IN_USE
    })
    .await;
    load.stop().await.assert_no_failure();
    let report = Load::http1(outbound.addr(), &web("/"))
        .rate(500)
        .connections(64)
        .run(Duration::from_secs(3))
        .await;
    report.assert_no_failure();
    let median = report.latency.value_at_quantile(0.5);
    assert!(median < 400_000, "{median} us, for work of 50 ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_spread_over_many_replicas() {
    let servers = join_all((0..MANY).map(|_| tcp::Server::echo())).await;
    let control = ControlPlane::start();
    let addrs: Vec<_> = servers.iter().map(tcp::Server::addr).collect();
    control.service(WEB, &addrs);
    control.policy(WEB, &Policy::new(WEB).opaque());
    let proxy = proxy::with(&control).outbound(WEB_PORT, WEB).start();
    let mut held = Vec::new();
    for _ in 0..60 {
        let mut raw = tcp::Raw::connect(proxy.port(WEB_PORT)).await;
        raw.send("hello").await;
        raw.expect("hello").await;
        held.push(raw);
    }
    let most = servers.iter().map(tcp::Server::accepted).max();
    let used = servers.iter().filter(|server| server.accepted() > 0);
    assert!(used.count() > 2 * IN_USE && most <= Some(5), "{most:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_fails_fast_is_told_what_went_wrong_last() {
    let outbound = Outbound::start(0).await;
    let refusing = tcp::refusing();
    outbound.control.endpoints(WEB, &[refusing]);
    let policy = Policy::new(WEB).queue(10, Duration::from_millis(100));
    outbound.control.policy(WEB, &policy);
    eventually::holds("requests fail fast", SOON, || async {
        let answer = client::get(outbound.addr(), &web("/")).await;
        let error = answer.header("l5d-proxy-error");
        let told = format!("failing fast (last error: connect {refusing}: ");
        answer.status == 504 && error.contains(&told)
    })
    .await;
}
