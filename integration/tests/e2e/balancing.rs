//! Who gets how much of the traffic.

use crate::rig::{Outbound, SOON, WEB, web};
use integration::{
    control::proto::{Endpoint, Policy, WEIGHT},
    eventually,
    load::Load,
    server::Server,
};
use std::time::Duration;

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
    eventually::holds("the new one is used", SOON, || async {
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
