//! One endpoint's load, on virtual time.

use super::*;
use tokio::time::advance;

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn endpoint() -> Rc<PeakEwma> {
    PeakEwma::new(Params::default(), Vitals::new(), Instant::now())
}

fn cost(load: &PeakEwma) -> f64 {
    load.cost(1.0, Instant::now())
}

async fn answer(load: &Rc<PeakEwma>, after: Duration, failed: bool) {
    let request = load.start(false, Instant::now());
    advance(after).await;
    request.answered(failed, Instant::now());
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_counts_at_once_and_fades_with_faster_ones() {
    let load = endpoint();
    answer(&load, ms(5), false).await;
    assert!(cost(&load) < 0.006);
    answer(&load, ms(200), false).await;
    assert!(cost(&load) > 0.19);
    for _ in 0..3_000 {
        answer(&load, ms(10), false).await;
    }
    assert!(cost(&load) < 0.03);
}

#[tokio::test(start_paused = true)]
async fn a_fast_failure_costs_more_than_a_slow_success() {
    let (broken, slow) = (endpoint(), endpoint());
    answer(&broken, ms(1), true).await;
    answer(&slow, ms(1_000), false).await;
    assert!(cost(&broken) > cost(&slow));
}

#[tokio::test(start_paused = true)]
async fn rare_failures_cost_little() {
    let load = endpoint();
    for i in 0..1_000 {
        answer(&load, ms(1), i % 100 == 0).await;
    }
    assert!(cost(&load) < 0.15, "{}", cost(&load));
}

#[tokio::test(start_paused = true)]
async fn silence_costs_as_much_as_it_lasts() {
    let load = endpoint();
    answer(&load, ms(1), false).await;
    let hanging = load.start(false, Instant::now());
    advance(ms(500)).await;
    assert!(cost(&load) >= 1.0, "half a second, and one in flight");
    drop(hanging);
    assert!(
        cost(&load) >= 0.5,
        "a request that was given up is not forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_in_flight_weighs_by_weight() {
    let load = endpoint();
    answer(&load, ms(10), false).await;
    let now = Instant::now();
    let _held: Vec<_> = (0..4).map(|_| load.start(false, now)).collect();
    assert!((load.cost(1.0, now) / load.cost(4.0, now) - 2.5).abs() < 0.01);
}

#[tokio::test(start_paused = true)]
async fn a_trial_replaces_what_was_known() {
    let load = endpoint();
    answer(&load, ms(900), true).await;
    assert!(!load.is_due(Instant::now()));
    advance(TRIAL_MIN).await;
    assert!(load.is_due(Instant::now()));
    let trial = load.start(true, Instant::now());
    advance(ms(2)).await;
    trial.answered(false, Instant::now());
    assert!(cost(&load) < 0.003);
}

#[tokio::test(start_paused = true)]
async fn trials_that_win_nothing_back_become_rarer() {
    let load = endpoint();
    let mut pauses = Vec::new();
    load.start(false, Instant::now())
        .answered(false, Instant::now());
    for _ in 0..5 {
        let since = Instant::now();
        while !load.is_due(Instant::now()) {
            advance(ms(500)).await;
        }
        pauses.push(since.elapsed().as_secs());
        load.start(true, Instant::now())
            .answered(true, Instant::now());
    }
    assert_eq!(pauses, [2, 4, 8, 8, 8]);
}

#[tokio::test(start_paused = true)]
async fn what_is_far_above_the_best_is_late() {
    let load = endpoint();
    for (after, is_late) in [(20, 0), (44, 0), (46, 1), (2, 0), (8, 0), (10, 1)] {
        answer(&load, ms(after), false).await;
        let window = load.vitals.take_window();
        assert_eq!((window.answers, window.late), (1, is_late), "{after} ms");
    }
    // In minutes it is forgotten how good it was.
    for _ in 0..400 {
        answer(&load, ms(1_000), false).await;
    }
    load.vitals.take_window();
    answer(&load, ms(1_000), false).await;
    assert_eq!(load.vitals.take_window().late, 0);
}

#[tokio::test(start_paused = true)]
async fn one_that_fails_or_hangs_ails_until_it_answers() {
    let load = endpoint();
    answer(&load, ms(1), true).await;
    assert!(!load.is_ailing(Instant::now()), "one failure says little");
    answer(&load, ms(1), true).await;
    assert!(load.is_ailing(Instant::now()));
    load.start(true, Instant::now())
        .answered(false, Instant::now());
    assert!(!load.is_ailing(Instant::now()));
    let hanging = load.start(false, Instant::now());
    advance(ms(1_100)).await;
    assert!(load.is_ailing(Instant::now()));
    hanging.answered(false, Instant::now());
    assert!(!load.is_ailing(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_not_tried() {
    let load = endpoint();
    let _hanging = load.start(false, Instant::now());
    advance(ms(60_000)).await;
    assert!(!load.is_due(Instant::now()));
}
