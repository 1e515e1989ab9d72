//! So many endpoints that not all are in use.

use super::{
    super::aperture::{ALL, LEAST},
    *,
};
use futures::future::join_all;
use std::collections::HashSet;

/// Of a thousand.
const MANY: usize = 1_000;

impl Fixture {
    fn many(n: usize) -> Self {
        Self::new(&vec![NORMAL; n])
    }

    /// Endpoints in use: ready, and shut.
    fn in_use(&self) -> (usize, usize) {
        let counts = self.balance.inner.pool.borrow().counts();
        (counts.ready, counts.in_use - counts.ready)
    }

    /// Which have been made so far.
    fn made(&self) -> HashSet<u16> {
        self.gates.0.borrow().keys().map(SocketAddr::port).collect()
    }

    /// Sends `at_once` requests together, each answered after what `serve` says.
    async fn burst(&self, at_once: usize, serve: impl Fn(u16) -> u64) -> HashSet<u16> {
        let leases = join_all((0..at_once).map(|_| self.balance.pick())).await;
        let answered = leases.into_iter().map(|lease| async {
            let mut lease = lease.unwrap();
            let port = lease.endpoint.port();
            sleep(Duration::from_millis(serve(port))).await;
            lease.ended(false, Instant::now());
            port
        });
        join_all(answered).await.into_iter().collect()
    }

    /// As many at a time as given, for so long.
    async fn load(&self, at_once: usize, time: Duration, serve: impl Fn(u16) -> u64) {
        let end = Instant::now() + time;
        let clients = (0..at_once).map(|_| async {
            while Instant::now() < end {
                let mut lease = self.balance.pick().await.unwrap();
                sleep(Duration::from_millis(serve(lease.endpoint.port()))).await;
                lease.ended(false, Instant::now());
            }
        });
        join_all(clients).await;
    }
}

/// Endpoints that do one thing at a time, in order.
#[derive(Default)]
struct Serial(RefCell<HashMap<u16, Instant>>);

impl Serial {
    /// In how many milliseconds one more request will be done.
    fn serve(&self, port: u16, ms: u64) -> u64 {
        let mut busy_until = self.0.borrow_mut();
        let now = Instant::now();
        let until = busy_until.entry(port).or_insert(now);
        *until = (*until).max(now) + Duration::from_millis(ms);
        (*until - now).as_millis() as u64
    }
}

#[tokio::test(start_paused = true)]
async fn up_to_a_modest_number_all_are_in_use() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(ALL);
            yield_now().await;
            assert_eq!(f.in_use(), (ALL, 0));
            assert_eq!(f.run(2_000, |_| (1, false)).await.len(), ALL);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn of_many_a_few_carry_little_load_and_the_others_are_not_even_made() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(MANY);
            let served = f.run(2_000, |_| (5, false)).await;
            assert_eq!(served.len(), LEAST, "{served:?}");
            assert_eq!(f.made().len(), LEAST);
            yield_now().await;
            f.assert_counted(&[
                "b_p2c_endpoints 1000",
                "b_endpoints{endpoint_state=\"ready\"} 12",
                "b_endpoints{endpoint_state=\"pending\"} 0",
                "b_endpoints{endpoint_state=\"unused\"} 988",
            ]);
            // An hour later they are the same.
            sleep(Duration::from_secs(3_600)).await;
            f.run(100, |_| (5, false)).await;
            assert_eq!(f.made().len(), LEAST);
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn no_two_balancers_use_the_same() {
    LocalSet::new()
        .run_until(async {
            let (one, other) = (Fixture::many(MANY), Fixture::many(MANY));
            yield_now().await;
            let both: HashSet<_> = one.made().union(&other.made()).copied().collect();
            assert!(both.len() > LEAST + LEAST / 2, "{both:?}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_burst_takes_more_into_use_and_they_go_by_and_by() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(MANY);
            f.run(100, |_| (5, false)).await;
            let served = f.burst(16 * 100, |_| 50).await;
            assert_eq!(f.in_use(), (100, 0), "sixteen each");
            assert!(served.len() > 80, "{}", served.len());
            let mut widths = vec![f.in_use().0];
            for _ in 0..30 {
                sleep(Duration::from_secs(5)).await;
                widths.push(f.in_use().0);
            }
            assert!(widths.iter().all(|w| *w >= LEAST), "{widths:?}");
            assert!(widths.windows(2).all(|w| w[0] - w[1] <= w[0] / 8 + 1));
            assert_eq!(widths.last(), Some(&LEAST), "{widths:?}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn endpoints_that_do_one_thing_at_a_time_are_not_made_to_queue() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(MANY);
            let serial = Serial::default();
            let serve = |port| serial.serve(port, 20);
            f.load(100, Duration::from_secs(5), serve).await;
            let times = RefCell::new(Vec::new());
            f.load(100, Duration::from_secs(60), |port| {
                let ms = serve(port);
                times.borrow_mut().push(ms);
                ms
            })
            .await;
            let (width, _) = f.in_use();
            assert!((50..=250).contains(&width), "{width}");
            let mut times = times.take();
            times.sort_unstable();
            let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
            assert!(
                p50 <= 40 && p99 <= 100,
                "{p50} and {p99} ms, for work of 20"
            );
            f.load(1, Duration::from_secs(600), serve).await;
            assert!(f.in_use().0 <= 30, "{:?}", f.in_use());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn slow_answers_that_load_is_not_the_reason_of_widen_nothing() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(MANY);
            let n = Cell::new(0);
            let serve = |_| {
                n.set(n.get() + 1);
                if n.get() % 2 == 0 { 200 } else { 2 }
            };
            f.load(3, Duration::from_secs(30), serve).await;
            assert_eq!(f.in_use(), (LEAST, 0));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn connections_have_an_endpoint_each() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(MANY);
            yield_now().await;
            let mut connections = Vec::new();
            for _ in 0..300 {
                let mut lease = f.balance.pick().await.unwrap();
                lease.hold();
                connections.push(lease);
            }
            assert!((300..=301).contains(&f.in_use().0), "{:?}", f.in_use());
            drop(connections);
            sleep(Duration::from_secs(300)).await;
            assert_eq!(f.in_use(), (LEAST, 0));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_shut_is_replaced_at_once_and_gives_way_when_it_is_back() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(100);
            f.run(500, |_| (1, false)).await;
            let first = f.made();
            let (now, later): (Vec<u16>, Vec<u16>) = first.iter().partition(|port| *port % 2 == 0);
            now.iter().for_each(|port| f.restart(*port));
            drop(f.balance.pick().await);
            assert_eq!(f.in_use(), (LEAST, now.len()), "with the very next pick");
            later.iter().for_each(|port| f.restart(*port));
            let served = f.run(500, |_| (1, false)).await;
            assert!(served.keys().all(|port| !first.contains(port)));
            assert_eq!(f.in_use(), (LEAST, LEAST));
            sleep(Duration::from_millis(1_100)).await;
            assert_eq!(f.in_use(), (LEAST, 0));
            let served = f.run(500, |_| (1, false)).await;
            assert!(served.keys().all(|port| first.contains(port)));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn while_one_can_serve_it_does() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(200);
            yield_now().await;
            for _ in 0..199 {
                let lease = f.balance.pick().await.unwrap();
                f.shut(lease.endpoint.port());
            }
            assert_eq!(f.run(50, |_| (1, false)).await.len(), 1);
            assert_eq!(f.in_use(), (1, 199));
            assert!(f.balance.can_serve());
            let port = f.balance.pick().await.unwrap().endpoint.port();
            f.shut(port);
            assert!(!f.balance.can_serve());
            let error = f.balance.pick().await.err();
            assert_eq!(error, failfast(Some(REFUSED)));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn who_was_refused_gets_one_that_was_not_in_use() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(100);
            f.run(500, |_| (1, false)).await;
            // All in use are dead, but nobody knows yet.
            let dead = f.made();
            let refused: Vec<_> = join_all((0..50).map(|_| f.balance.pick())).await;
            for lease in refused {
                let port = lease.unwrap().endpoint.port();
                if dead.contains(&port) {
                    f.shut(port);
                    let other = f.balance.try_pick().unwrap();
                    assert!(!dead.contains(&other.endpoint.port()));
                }
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_tried_once_does_not_stay_in_use_while_all_are_well() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(100);
            f.run(500, |_| (1, false)).await;
            let first = f.made();
            for _ in 0..20 {
                let other = f.balance.try_pick().unwrap();
                assert!(!first.contains(&other.endpoint.port()));
                yield_now().await;
                assert_eq!(f.in_use(), (LEAST, 0));
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn those_that_only_fail_get_company() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(100);
            f.run(500, |_| (1, false)).await;
            let bad = f.made();
            f.run(2_000, |port| (1, bad.contains(&port))).await;
            let counts = f.run(1_000, |port| (1, bad.contains(&port))).await;
            let failed: usize = bad.iter().filter_map(|port| counts.get(port)).sum();
            assert!(failed < 40, "{failed} of {counts:?}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn newcomers_have_the_same_chance_and_a_rollout_replaces_all() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(100);
            f.run(500, |_| (1, false)).await;
            // Endpoints 1 to 100 are replaced by 101 to 200, five at a time.
            let mut ports: Vec<_> = (1..=100).collect();
            for new in 101..=200 {
                ports.remove(0);
                ports.push(new);
                if new % 5 == 0 {
                    f.endpoints.send_replace(known_at(&ports));
                    yield_now().await;
                    f.run(20, |_| (1, false)).await;
                    assert_eq!(f.in_use(), (LEAST, 0));
                }
            }
            let served = f.run(500, |_| (1, false)).await;
            assert_eq!(served.len(), LEAST);
            assert!(served.keys().all(|port| *port > 100));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_changes_leaves_those_in_use_alone() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(MANY);
            f.run(100, |_| (1, false)).await;
            let (before, mut ports): (_, Vec<_>) = (f.made(), (1..=MANY as u16).collect());
            for step in 0..300 {
                ports.rotate_left(7);
                let gone = ports.iter().position(|p| !before.contains(p)).unwrap();
                ports[gone] = MANY as u16 + step;
                f.endpoints.send_replace(known_at(&ports));
                yield_now().await;
            }
            f.run(100, |_| (1, false)).await;
            let made = f.made();
            // Some newcomers have their place among the first.
            assert!(made.len() < LEAST + 20, "{} were made", made.len());
            assert!(made.is_superset(&before));
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn weights_are_honoured_over_many_balancers() {
    LocalSet::new()
        .run_until(async {
            // A tenth has half of all weight.
            let weights: Vec<_> = (0..100).map(|n| if n % 10 == 0 { 9 } else { 1 }).collect();
            let weights: Vec<_> = weights.iter().map(|w| w * NORMAL / 9).collect();
            let mut heavy = 0;
            for _ in 0..40 {
                let f = Fixture::new(&weights);
                let counts = f.run(100, |_| (5, false)).await;
                let of = |(port, n): (u16, usize)| if port % 10 == 1 { n } else { 0 };
                heavy += counts.into_iter().map(of).sum::<usize>();
            }
            let share = heavy as f64 / 4_000.0;
            assert!((0.4..0.6).contains(&share), "{share}");
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn growing_past_the_modest_number_drops_nothing_at_once() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::many(ALL);
            f.run(500, |_| (1, false)).await;
            f.endpoints.send_replace(known(&[NORMAL; ALL + 1]));
            yield_now().await;
            assert_eq!(f.in_use(), (ALL, 0));
            sleep(Duration::from_secs(120)).await;
            assert_eq!(f.in_use(), (LEAST, 0));
            f.endpoints.send_replace(known(&[NORMAL; ALL]));
            yield_now().await;
            assert_eq!(f.in_use(), (ALL, 0));
        })
        .await;
}

fn known_at(ports: &[u16]) -> Endpoints {
    let endpoints = ports.iter().map(|p| (addr(*p), Metadata::bare(addr(*p))));
    Endpoints::Known(Arc::new(endpoints.collect()))
}
