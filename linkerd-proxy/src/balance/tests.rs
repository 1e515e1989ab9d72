//! Balancing on virtual time, with endpoints that are nothing but an address; few of them here, many
//! in [`many`]. How those that are not well bear on the shares of others is in [`shares`].

mod many;
mod shares;

use super::*;
use crate::metrics::Registry;
use mesh_policy::outbound::{Backoff, FailureAccrual};
use std::{collections::HashMap, time::Duration};
use tokio::{
    task::{LocalSet, yield_now},
    time::sleep,
};

/// Endpoints that are nothing but their address, and gates that the test can reach.
#[derive(Clone, Default)]
struct Fake(Rc<RefCell<HashMap<SocketAddr, Rc<Gate>>>>);

impl NewEndpoint for Fake {
    type Endpoint = SocketAddr;

    fn new_endpoint(&self, metadata: &Metadata, gate: &Rc<Gate>) -> SocketAddr {
        self.0.borrow_mut().insert(metadata.addr, gate.clone());
        metadata.addr
    }
}

struct Fixture {
    balance: Rc<Balance<Fake>>,
    gates: Fake,
    endpoints: watch::Sender<Endpoints>,
    registry: Arc<Registry>,
}

impl Fixture {
    fn new(weights: &[u32]) -> Self {
        Self::with(known(weights))
    }

    fn with(endpoints: Endpoints) -> Self {
        Self::with_accrual(endpoints, None)
    }

    fn with_accrual(endpoints: Endpoints, accrual: Option<FailureAccrual>) -> Self {
        let (endpoints, rx) = watch::channel(endpoints);
        let gates = Fake::default();
        let params = Params {
            queue: Queue {
                capacity: 2,
                failfast_timeout: Duration::from_secs(3),
            },
            discovery_timeout: Duration::from_millis(800),
            load: LoadParams::default(),
            accrual,
        };
        let registry = Registry::new(Duration::from_secs(60), 100);
        let metrics = Metrics::new(&registry, "b", vec![]);
        let balance = Rc::new(Balance::new(gates.clone(), params, metrics, rx));
        Self {
            balance,
            gates,
            endpoints,
            registry,
        }
    }

    fn assert_counted(&self, lines: &[&str]) {
        let page = self.registry.render();
        for line in lines {
            assert!(page.lines().any(|l| l == *line), "{line} not in {page}");
        }
    }

    /// Sends one request after another, each answered after what `serve` says, and counts them.
    async fn run(&self, n: usize, serve: impl Fn(u16) -> (u64, bool)) -> HashMap<u16, usize> {
        let mut counts = HashMap::new();
        for _ in 0..n {
            let mut lease = self.balance.pick().await.unwrap();
            let port = lease.endpoint.port();
            let (ms, failed) = serve(port);
            sleep(Duration::from_millis(ms)).await;
            lease.ended(failed, Instant::now());
            *counts.entry(port).or_default() += 1;
        }
        counts
    }

    fn shut(&self, port: u16) {
        let never = || std::future::ready(false);
        self.gates.0.borrow()[&addr(port)].refused(&REFUSED, A_SECOND, never);
    }

    /// Shuts it for a second.
    fn restart(&self, port: u16) {
        let at_once = || std::future::ready(true);
        self.gates.0.borrow()[&addr(port)].refused(&REFUSED, A_SECOND, at_once);
    }
}

fn addr(port: u16) -> SocketAddr {
    ([127, 0, 0, 1], port).into()
}

fn known(weights: &[u32]) -> Endpoints {
    let endpoints = weights.iter().zip(1..).map(|(weight, port)| {
        let metadata = Metadata {
            weight: *weight,
            ..Metadata::bare(addr(port))
        };
        (addr(port), metadata)
    });
    Endpoints::Known(Arc::new(endpoints.collect()))
}

/// Pauses that are always the same.
const A_SECOND: Backoff = Backoff {
    min: Duration::from_secs(1),
    max: Duration::from_secs(1),
    jitter: 0.0,
};

const NORMAL: u32 = Metadata::WEIGHT;

const REFUSED: &str = "connect 127.0.0.1:1: refused";

fn failfast(refusal: Option<&str>) -> Option<Unavailable> {
    let refusal = refusal.map(Into::into);
    Some(Unavailable::FailFast { refusal })
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_gets_little() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[NORMAL; 3]);
            let counts = f
                .run(2_000, |port| (if port == 1 { 100 } else { 5 }, false))
                .await;
            assert!(counts[&1] < 2_000 / 3 / 5, "{counts:?}");
            assert!(counts[&2] > 600 && counts[&3] > 600, "{counts:?}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_fast_failing_endpoint_gets_little() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[NORMAL; 2]);
            let counts = f
                .run(
                    1_000,
                    |port| if port == 1 { (1, true) } else { (20, false) },
                )
                .await;
            assert!(counts[&1] < 20, "{counts:?}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_recovered_endpoint_is_used_within_ten_seconds() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[NORMAL; 3]);
            f.run(6_000, |port| (if port == 1 { 500 } else { 5 }, false))
                .await;
            let counts = f.run(2_000, |_| (5, false)).await;
            assert!(counts[&1] > 1, "ten seconds later: {counts:?}");
            let counts = f.run(600, |_| (5, false)).await;
            assert!(counts[&1] > 100, "{counts:?}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn weights_are_honoured() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[NORMAL, NORMAL / 4, NORMAL]);
            let counts = f.run(4_000, |_| (5, false)).await;
            let light = counts[&2] as f64 / 4_000.0;
            assert!((0.05..0.2).contains(&light), "a ninth is due: {counts:?}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_come_and_go() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[NORMAL; 2]);
            f.run(10, |_| (1, false)).await;
            f.endpoints.send_replace(known(&[NORMAL]));
            yield_now().await;
            let counts = f.run(10, |_| (1, false)).await;
            assert_eq!(counts[&1], 10);
            // News without news about an endpoint leaves it as it is.
            let before = f.gates.0.borrow()[&addr(1)].clone();
            f.endpoints.send_replace(known(&[NORMAL; 3]));
            yield_now().await;
            assert!(Rc::ptr_eq(&before, &f.gates.0.borrow()[&addr(1)]));
            assert_eq!(f.run(300, |_| (1, false)).await.len(), 3);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_shut_endpoint_is_left_alone_while_others_serve() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[NORMAL; 2]);
            f.run(10, |_| (1, false)).await;
            f.shut(2);
            let counts = f.run(100, |_| (1, false)).await;
            assert_eq!(counts[&1], 100);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn with_none_ready_a_request_waits_then_all_fail_at_once() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[]);
            yield_now().await;
            let start = Instant::now();
            assert_eq!(f.balance.pick().await.err(), failfast(None));
            assert_eq!(start.elapsed(), Duration::from_secs(3));
            assert_eq!(f.balance.pick().await.err(), failfast(None));
            assert_eq!(
                start.elapsed(),
                Duration::from_secs(3),
                "the second did not wait"
            );
            f.endpoints.send_replace(known(&[NORMAL]));
            yield_now().await;
            assert!(f.balance.pick().await.is_ok());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_discovery_may_take_for_its_first_word() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::with(Endpoints::Unknown);
            let (start, millis) = (Instant::now(), Duration::from_millis);
            assert_eq!(f.balance.pick().await.err(), Some(Unavailable::Unresolved));
            assert_eq!(start.elapsed(), millis(800));
            assert_eq!(f.balance.pick().await.err(), Some(Unavailable::Unresolved));
            assert_eq!(start.elapsed(), millis(800), "the second did not wait");
            f.endpoints.send_replace(known(&[NORMAL]));
            yield_now().await;
            assert!(f.balance.pick().await.is_ok());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn once_discovery_has_spoken_the_failfast_timeout_holds() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::with(Endpoints::Unknown);
            let start = Instant::now();
            let balance = f.balance.clone();
            let waiter = spawn_local(async move { balance.pick().await.err() });
            sleep(Duration::from_millis(700)).await;
            f.endpoints.send_replace(Endpoints::DoesNotExist);
            assert_eq!(waiter.await.unwrap(), failfast(None));
            assert_eq!(start.elapsed(), Duration::from_secs(3));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_fails_fast_is_told_why_the_last_connection_was_not_made() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[NORMAL]);
            f.run(1, |_| (1, false)).await;
            f.shut(1);
            let error = f.balance.pick().await.err();
            assert_eq!(error, failfast(Some(REFUSED)));
            assert_eq!(
                error.unwrap().to_string(),
                format!("no endpoint is available: failing fast (last error: {REFUSED})")
            );
            // What was wrong with endpoints that are gone is of no interest.
            f.endpoints.send_replace(known(&[]));
            yield_now().await;
            assert_eq!(f.balance.pick().await.err(), failfast(None));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_waiting_request_gets_the_endpoint_that_comes() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[]);
            let balance = f.balance.clone();
            let waiter = spawn_local(async move { balance.pick().await.is_ok() });
            yield_now().await;
            f.endpoints.send_replace(known(&[NORMAL]));
            assert!(waiter.await.unwrap());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn more_than_the_queue_holds_are_shed() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[]);
            for _ in 0..2 {
                let balance = f.balance.clone();
                spawn_local(async move { balance.pick().await.is_ok() });
            }
            yield_now().await;
            assert_eq!(f.balance.pick().await.err(), Some(Unavailable::QueueFull));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn it_can_serve_while_an_endpoint_is_ready() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[]);
            assert!(!f.balance.can_serve(), "nothing is known yet");
            f.endpoints.send_replace(known(&[NORMAL; 2]));
            yield_now().await;
            assert!(f.balance.can_serve());
            f.shut(1);
            assert!(f.balance.can_serve(), "the other one is ready");
            f.restart(2);
            assert!(!f.balance.can_serve());
            assert!(f.balance.try_pick().is_none());
            // Nobody picks meanwhile: it has to be seen nevertheless.
            sleep(Duration::from_millis(1_100)).await;
            assert!(f.balance.can_serve());
            assert_eq!(f.balance.try_pick().unwrap().endpoint.port(), 2);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn on_probation_a_request_that_its_client_breaks_off_decides_nothing() {
    LocalSet::new()
        .run_until(async {
            let accrual = FailureAccrual {
                max_failures: 1,
                backoff: A_SECOND,
            };
            let f = Fixture::with_accrual(known(&[NORMAL]), Some(accrual));
            let pick = || f.balance.try_pick();
            yield_now().await;
            pick().unwrap().ended(true, Instant::now());
            assert!(pick().is_none());
            sleep(Duration::from_millis(1_100)).await;
            let mut trial = pick().unwrap();
            assert!(pick().is_none(), "one at a time");
            trial.forget();
            drop(trial);
            yield_now().await;
            let _next = pick().unwrap();
            assert!(pick().is_none(), "still one at a time");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_is_in_flight_until_its_answer_has_ended() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[NORMAL]);
            yield_now().await;
            let vitals = &f.balance.inner.vitals;
            let in_flight = || (vitals.requests(), vitals.connections());
            let now = Instant::now();
            let [mut answered, mut held, given_up] =
                [(); 3].map(|()| f.balance.try_pick().unwrap());
            assert_eq!(in_flight(), (3, 0));
            answered.answered(false, now);
            assert_eq!(in_flight(), (3, 0), "its body is yet to come");
            answered.ended(false, now);
            drop((answered, given_up));
            held.hold();
            held.hold();
            assert_eq!(in_flight(), (0, 1));
            drop(held);
            assert_eq!(in_flight(), (0, 0));
            assert_eq!((vitals.take_peak(), vitals.take_peak()), (3, 0));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn updates_are_counted_by_what_they_do() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[NORMAL; 2]);
            yield_now().await;
            f.assert_counted(&[
                "b_p2c_endpoints 2",
                "b_p2c_updates_total{op=\"Reset\"} 1",
                "b_p2c_updates_total{op=\"Add\"} 0",
                "b_endpoints{endpoint_state=\"ready\"} 2",
            ]);
            f.endpoints
                .send_replace(known(&[NORMAL, NORMAL / 2, NORMAL]));
            yield_now().await;
            f.endpoints.send_replace(Endpoints::DoesNotExist);
            yield_now().await;
            f.assert_counted(&[
                "b_p2c_endpoints 0",
                "b_p2c_updates_total{op=\"Reset\"} 1",
                "b_p2c_updates_total{op=\"Add\"} 2",
                "b_p2c_updates_total{op=\"Remove\"} 3",
                "b_endpoints{endpoint_state=\"ready\"} 0",
            ]);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn only_requests_that_wait_are_counted_by_the_queue() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[NORMAL]);
            // The first comes before the endpoints are known.
            f.run(3, |_| (1, false)).await;
            f.shut(1);
            let balance = f.balance.clone();
            let waiter = spawn_local(async move { balance.pick().await.is_ok() });
            yield_now().await;
            f.assert_counted(&["b_queue_length 1", "b_queue_requests_total 2"]);
            assert!(!waiter.await.unwrap());
            f.assert_counted(&[
                "b_queue_length 0",
                "b_queue_latency_seconds_bucket{le=\"0.0005\"} 1",
                "b_queue_latency_seconds_bucket{le=\"1\"} 1",
                "b_queue_latency_seconds_bucket{le=\"3\"} 2",
                "b_queue_gate_shut_total 1",
                "b_queue_gate_open_total 0",
            ]);
            f.endpoints.send_replace(known(&[NORMAL; 2]));
            yield_now().await;
            f.assert_counted(&["b_queue_gate_shut_total 1", "b_queue_gate_open_total 1"]);
        })
        .await;
}
