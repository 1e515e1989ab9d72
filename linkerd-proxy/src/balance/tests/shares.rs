//! What quiet requests, weights and endpoints that ail do to the shares of endpoints.

use super::*;

/// A request every ten milliseconds for fifteen seconds, while as many as `quiet` are not answered;
/// how many each endpoint got.
async fn with_long_polls(f: &Fixture, quiet: usize) -> HashMap<u16, usize> {
    let counts = Rc::new(RefCell::new(HashMap::new()));
    f.run(30, |_| (5, false)).await;
    let _polls: Vec<_> = (0..quiet).map(|_| f.balance.try_pick().unwrap()).collect();
    for _ in 0..1_500 {
        let mut lease = f.balance.try_pick().unwrap();
        let port = lease.endpoint.port();
        *counts.borrow_mut().entry(port).or_default() += 1;
        spawn_local(async move {
            sleep(Duration::from_millis(5)).await;
            lease.ended(false, Instant::now());
        });
        sleep(Duration::from_millis(10)).await;
    }
    counts.take()
}

#[tokio::test(start_paused = true)]
async fn long_polls_starve_nobody() {
    LocalSet::new()
        .run_until(async {
            for quiet in [1, 2, 20] {
                let counts = with_long_polls(&Fixture::new(&[NORMAL; 3]), quiet).await;
                let least = counts.values().min();
                assert!(
                    counts.len() == 3 && least > Some(&250),
                    "{quiet}: {counts:?}"
                );
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn weights_make_nobody_use_what_is_slow_or_fails() {
    LocalSet::new()
        .run_until(async {
            for weights in [&[NORMAL, NORMAL / 4][..], &[NORMAL, NORMAL - 1, NORMAL]] {
                let f = Fixture::new(weights);
                let counts = f
                    .run(2_000, |port| if port == 1 { (1, true) } else { (5, false) })
                    .await;
                assert!(counts[&1] < 20, "{counts:?}");
                let f = Fixture::new(weights);
                let counts = f
                    .run(2_000, |port| (if port == 1 { 500 } else { 5 }, false))
                    .await;
                assert!(counts[&1] < 40, "{counts:?}");
            }
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn while_one_is_well_those_that_ail_get_little() {
    LocalSet::new()
        .run_until(async {
            let f = Fixture::new(&[NORMAL; 4]);
            let counts = f
                .run(2_000, |port| if port == 1 { (5, false) } else { (1, true) })
                .await;
            // Half of all pairs ail; five are looked at.
            assert!(counts[&1] > 1_850, "{counts:?}");
            // Of those that all ail, each is as good as any other.
            let counts = f.run(2_000, |_| (1, true)).await;
            assert!(counts.values().all(|n| *n > 100), "{counts:?}");
        })
        .await;
}
