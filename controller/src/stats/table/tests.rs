//! Rows from pages.

use super::*;
use crate::testing::{cluster, pod, service};

fn responses(labels: &str, success: u64, failure: u64) -> String {
    let of = |class: &str, count| {
        format!("response_total{{{labels},classification=\"{class}\"}} {count}\n")
    };
    of("success", success) + &of("failure", failure)
}

/// Ten seconds of a proxy, from one page to another.
fn history(now: Instant, before: &str, after: &str) -> History {
    let mut history = History::new(now);
    let later = now + Duration::from_secs(10);
    history.observe(before, now).expect("a page");
    history.observe(after, later).expect("a page");
    history
}

fn query(kind: Kind) -> Query {
    Query {
        kind,
        namespace: None,
        name: None,
        window: Duration::from_secs(60),
    }
}

fn rows(query: &Query) -> Vec<String> {
    let manifests = [
        service("web", "", "{selector: {app: web}, ports: [{port: 80}]}"),
        pod("web-0", "web", "10.0.0.1"),
        pod("web-1", "web", "10.0.0.2"),
        pod("plain", "web", "10.0.0.3").replace("gossamer", "another"),
    ];
    let now = Instant::now();
    let inbound = "direction=\"inbound\"";
    let outbound = "direction=\"outbound\",dst_namespace=\"demo\",dst_service=\"web\"";
    let histories = [
        (
            Key::new("demo", "web-0"),
            history(now, &responses(inbound, 0, 0), &responses(inbound, 90, 10)),
        ),
        (
            Key::new("demo", "web-1"),
            history(now, &responses(outbound, 5, 5), &responses(outbound, 25, 5)),
        ),
    ];
    let sources = Sources {
        cluster: &cluster(&manifests.concat()),
        histories: &histories.into_iter().collect(),
        stale: Duration::from_secs(3),
        now: now + Duration::from_secs(10),
    };
    let rows = sources.rows(query);
    rows.iter()
        .map(|r| {
            let Row {
                kind, name, meshed, ..
            } = r;
            format!("{kind} {name} {meshed} {:?} {:?}", r.success, r.rps)
        })
        .collect()
}

#[test]
fn pods_tell_of_themselves_and_services_are_told_of() {
    let pods = [
        "pod plain 0/1 None None",
        "pod web-0 1/1 Some(0.9) Some(10.0)",
        "pod web-1 1/1 None None",
    ];
    assert_eq!(rows(&query(Kind::Pod)), pods);
    assert_eq!(
        rows(&query(Kind::Namespace)),
        ["namespace demo 2/3 Some(0.9) Some(10.0)"]
    );
    assert_eq!(
        rows(&query(Kind::Service)),
        ["service web 2/3 Some(1.0) Some(2.0)"]
    );
    assert_eq!(rows(&query(Kind::Deployment)), [""; 0]);
    let one = Query {
        name: Some("web-0".to_owned()),
        ..query(Kind::Pod)
    };
    assert_eq!(rows(&one).len(), 1);
    let nowhere = Query {
        namespace: Some("other".to_owned()),
        ..query(Kind::Pod)
    };
    assert_eq!(rows(&nowhere), [""; 0]);
}

#[test]
fn quantiles_are_linear_within_a_bucket() {
    let mut buckets = [0.0; BUCKETS];
    assert_eq!(quantile(&buckets, 0.5), None);
    buckets[0] = 10.0;
    assert_eq!(quantile(&buckets, 0.5), Some(0.5));
    buckets[5] = 10.0;
    assert_eq!(quantile(&buckets, 0.5), Some(1.0));
    assert_eq!(quantile(&buckets, 0.75), Some(7.5));
    buckets[BUCKETS - 1] = 100.0;
    assert_eq!(quantile(&buckets, 0.99), Some(50_000.0));
}
