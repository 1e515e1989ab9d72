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
    let mut request = load.start(false, Instant::now());
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
    let mut trial = load.start(true, Instant::now());
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
    let mut hanging = load.start(false, Instant::now());
    advance(ms(1_100)).await;
    assert!(load.is_ailing(Instant::now()));
    hanging.answered(false, Instant::now());
    assert!(!load.is_ailing(Instant::now()));
}

/// How long, in seconds, until it is due.
async fn rests(load: &Rc<PeakEwma>) -> u64 {
    let since = Instant::now();
    while !load.is_due(Instant::now()) {
        advance(ms(500)).await;
    }
    since.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_is_tried_more_and_more_seldom() {
    let load = endpoint();
    let mut hanging = vec![load.start(false, Instant::now())];
    let mut pauses = Vec::new();
    for _ in 0..7 {
        pauses.push(rests(&load).await);
        hanging.push(load.start(true, Instant::now()));
    }
    assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 64]);
    // It answers one of them: that is a sign of life.
    hanging[3].answered(false, Instant::now());
    assert_eq!(rests(&load).await, 8);
}

#[tokio::test(start_paused = true)]
async fn one_that_hung_is_tried_soon_when_nothing_is_out_any_more() {
    let load = endpoint();
    let mut hanging = vec![load.start(false, Instant::now())];
    for _ in 0..5 {
        rests(&load).await;
        hanging.push(load.start(true, Instant::now()));
    }
    drop(hanging);
    assert_eq!(rests(&load).await, 8);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_later_ones_overtake_is_neither_silence_nor_load() {
    let load = endpoint();
    answer(&load, ms(5), false).await;
    let before = cost(&load);
    let mut poll = load.start(false, Instant::now());
    advance(ms(2_000)).await;
    assert!(cost(&load) > 1.9 && load.is_ailing(Instant::now()));
    let mut trial = load.start(true, Instant::now());
    advance(ms(5)).await;
    trial.answered(false, Instant::now());
    advance(ms(30_000)).await;
    assert!((cost(&load) - before).abs() < 0.001, "{}", cost(&load));
    assert!(!load.is_ailing(Instant::now()));
    // How long it took in the end is no news about the endpoint, nor that nobody waited for it.
    load.vitals.take_window();
    poll.answered(false, Instant::now());
    assert!((cost(&load) - before).abs() < 0.001, "{}", cost(&load));
    assert_eq!(load.vitals.take_window().late, 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_overtaken_may_be_given_up() {
    let load = endpoint();
    let poll = load.start(false, Instant::now());
    advance(ms(2_000)).await;
    answer(&load, ms(5), false).await;
    let before = cost(&load);
    advance(ms(30_000)).await;
    drop(poll);
    assert!((cost(&load) - before).abs() < 0.001, "{}", cost(&load));
}

#[tokio::test(start_paused = true)]
async fn under_steady_load_a_long_poll_soon_costs_nothing() {
    let load = endpoint();
    let _poll = load.start(false, Instant::now());
    for _ in 0..350 {
        answer(&load, ms(10), false).await;
    }
    assert!(cost(&load) < 0.011, "{}", cost(&load));
}

#[tokio::test(start_paused = true)]
async fn what_is_merely_slower_than_another_still_counts() {
    let load = endpoint();
    // A second each, answered out of order.
    let mut out: Vec<_> = (0..8).map(|_| load.start(false, Instant::now())).collect();
    for _ in 0..20 {
        advance(ms(125)).await;
        out.remove(3).answered(false, Instant::now());
        out.push(load.start(false, Instant::now()));
        let young = out.iter().filter(|r| r.start.elapsed() < ms(1_000));
        let counted = load.state.get().requests.out() as usize;
        assert!(counted >= young.count(), "{counted}");
    }
}

#[tokio::test(start_paused = true)]
async fn with_its_head_an_answer_is_there() {
    let load = endpoint();
    answer(&load, ms(5), false).await;
    let before = cost(&load);
    let mut stream = load.start(false, Instant::now());
    stream.answered(false, Instant::now());
    advance(ms(60_000)).await;
    assert!(cost(&load) <= before && !load.is_ailing(Instant::now()));
    stream.ended(false, Instant::now());
    assert!(cost(&load) <= before);
}

#[tokio::test(start_paused = true)]
async fn a_success_that_breaks_is_a_failure() {
    let (broken, failed) = (endpoint(), endpoint());
    for _ in 0..3 {
        let mut request = broken.start(false, Instant::now());
        request.answered(false, Instant::now());
        request.ended(true, Instant::now());
        answer(&failed, ms(0), true).await;
    }
    assert!(broken.is_ailing(Instant::now()));
    let more = broken.params.penalty.as_secs_f64();
    assert!(cost(&broken) > more && cost(&failed) > more);
}

#[tokio::test(start_paused = true)]
async fn what_the_client_broke_off_says_nothing() {
    let load = endpoint();
    answer(&load, ms(5), true).await;
    let before = (cost(&load), load.is_ailing(Instant::now()));
    for after in [0, 30_000] {
        let mut request = load.start(false, Instant::now());
        advance(ms(after)).await;
        request.forget();
        drop(request);
        assert_eq!((cost(&load), load.is_ailing(Instant::now())), before);
    }
}
