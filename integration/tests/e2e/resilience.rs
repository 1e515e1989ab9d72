//! Endpoints that die, hang, slow down and come back, under load.

use crate::rig::{Outbound, SOON, WEB, web};
use integration::{control::proto::Policy, eventually, load::Load, server::Server, tcp};
use std::time::Duration;

/// "At most a handful."
const HANDFUL: u64 = 8;

fn load(outbound: &Outbound) -> integration::load::Running {
    Load::http1(outbound.addr(), &web("/"))
        .rate(300)
        .connections(32)
        .start()
}

async fn runs(load: &integration::load::Running, more: u64) {
    let before = load.report().ok;
    eventually::holds("load goes on", SOON * 3, || async {
        load.report().ok > before + more
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_replica_costs_a_handful_and_is_used_again_when_it_is_back() {
    let outbound = Outbound::start(3).await;
    let load = load(&outbound);
    runs(&load, 200).await;
    outbound.replicas[0].kill();
    runs(&load, 600).await;
    let failed = load.report().failures;
    assert!(failed.values().sum::<u64>() <= HANDFUL, "{failed:?}");

    outbound.replicas[0].listen().await;
    let before = outbound.replicas[0].requests();
    eventually::holds("it is used again", Duration::from_secs(10), || async {
        outbound.replicas[0].requests() > before + 20
    })
    .await;
    let report = load.stop().await;
    assert!(report.failed() <= HANDFUL, "{:?}", report.failures);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_never_answers_costs_a_handful_and_is_used_again() {
    let outbound = Outbound::start(3).await;
    let load = load(&outbound);
    runs(&load, 200).await;
    let hung = &outbound.replicas[0];
    hung.hang(true);
    runs(&load, 900).await;
    hung.hang(false);
    let before = hung.requests();
    eventually::holds("it is used again", Duration::from_secs(10), || async {
        hung.requests() > before + 20
    })
    .await;
    let report = load.stop().await;
    assert!(
        report.failed() <= HANDFUL,
        "{:?} of {}",
        report.failures,
        report.total()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_accepts_and_is_silent_costs_a_handful() {
    let outbound = Outbound::start(2).await;
    let silent = tcp::Server::silent().await;
    let load = load(&outbound);
    runs(&load, 100).await;
    let mut endpoints = outbound.endpoints();
    endpoints.push(silent.addr());
    outbound.control.endpoints(WEB, &endpoints);
    eventually::holds("it is tried", SOON, || async { silent.accepted() > 0 }).await;
    runs(&load, 900).await;
    let report = load.stop().await;
    assert!(
        report.failed() <= HANDFUL,
        "{:?} of {}",
        report.failures,
        report.total()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_slows_down_is_avoided_and_used_again_when_it_recovers() {
    let outbound = Outbound::start(3).await;
    let quick = Policy::new(WEB).decay(Duration::from_secs(2));
    outbound.control.policy(WEB, &quick);
    let load = load(&outbound);
    runs(&load, 300).await;
    let slow = &outbound.replicas[0];
    slow.delay(Duration::from_millis(400));
    runs(&load, 300).await;
    let (before, all) = (slow.requests() as u64, load.report().ok);
    runs(&load, 900).await;
    let (got, of) = (slow.requests() as u64 - before, load.report().ok - all);
    assert!(got < of / 3 / 5, "{got} of {of} went to the slow one");

    slow.delay(Duration::ZERO);
    let before = slow.requests();
    eventually::holds("it is used again", Duration::from_secs(10), || async {
        slow.requests() > before + 60
    })
    .await;
    load.stop().await.assert_no_failure();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_replica_that_restarts_is_used_as_soon_as_it_listens() {
    let outbound = Outbound::start(1).await;
    let load = load(&outbound);
    runs(&load, 100).await;
    outbound.replicas[0].kill();
    eventually::holds("requests fail or wait", SOON, || async {
        outbound.replicas[0].open() == 0
    })
    .await;
    outbound.replicas[0].listen().await;
    let before = outbound.replicas[0].requests();
    eventually::holds("it is used again", SOON, || async {
        outbound.replicas[0].requests() > before + 100
    })
    .await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replicas_replaced_at_once_cost_no_request() {
    let outbound = Outbound::start(3).await;
    let load = load(&outbound);
    runs(&load, 100).await;
    let next = Server::replicas(3).await;
    let addrs: Vec<_> = next.iter().map(Server::addr).collect();
    outbound.control.endpoints(WEB, &addrs);
    eventually::holds("the new ones serve", SOON, || async {
        // Not each: one whose first answer was slow is avoided for a while, as it should be.
        next.iter().map(Server::requests).sum::<usize>() > 60
    })
    .await;
    load.stop().await.assert_no_failure();
}
