//! More load than the backends can take.

use crate::rig::{Outbound, web};
use integration::{client, load::Load};
use std::time::{Duration, Instant};

/// 10 at a time, 20 ms each: 500/s. Twice as many are admitted as are worked on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_times_the_load_is_refused_fast_and_the_rest_is_served() {
    let outbound = Outbound::with(1, |builder| {
        builder.env("LINKERD2_PROXY_OUTBOUND_MAX_IN_FLIGHT", "20")
    })
    .await;
    outbound.replicas[0].at_once(10);
    outbound.replicas[0].delay(Duration::from_millis(20));
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(2500)
        .connections(400)
        .start();
    let mut highest = 0;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(5) {
        highest = highest.max(outbound.proxy.rss_kib());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let report = load.stop().await;

    assert!(
        report.failures.keys().all(|what| what.starts_with("503 ")),
        "{:?}",
        report.failures
    );
    assert!(report.failed() > report.ok, "most are refused: {report:?}");
    assert!(
        report.ok > 1000,
        "what can be served is: {} in 5 s",
        report.ok
    );
    let admitted = report.quantile(0.9);
    assert!(
        admitted < Duration::from_secs(2),
        "what is admitted does not queue: {admitted:?}"
    );
    let refused = Duration::from_micros(report.failure_latency.value_at_quantile(0.5));
    assert!(
        refused < report.quantile(0.5),
        "refused sooner than served: {refused:?}"
    );
    assert!(highest < 30 << 10, "{highest} KiB at the height of it");

    let begun = Instant::now();
    assert_eq!(client::get(outbound.addr(), &web("/")).await.status, 200);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "the first one after it is normal"
    );
}
