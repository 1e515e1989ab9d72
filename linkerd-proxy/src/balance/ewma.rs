//! Peak-EWMA, with three corrections that a proxy needs (the `Load` of one endpoint).
//!
//! The cost of an endpoint is its latency times what it has in flight. The latency estimate jumps
//! up with every slower answer and comes down by exponential decay, as in Finagle and
//! `tower::load::PeakEwma`. On top of that:
//!
//! - **A failure never looks fast.** The share of recent requests that failed adds
//!   `p / (1 - p) x penalty`: what one would wait for a success, were each failure to cost the
//!   penalty.
//! - **Silence is not speed.** While requests are out and nothing comes back, the latency is at
//!   least the age of that silence, so an endpoint that hangs is left after a few requests.
//! - **What is avoided is tried again.** The estimate does not fade by itself; instead an endpoint
//!   that got no request for a while is due for a trial, whose outcome replaces what was known.
//!   The pause doubles from 2 s to 8 s while trials do not win it back, so an endpoint that
//!   recovered is in use within ten seconds, and one that did not costs next to nothing.

use mesh_policy::outbound::Load as Params;
use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::time::Instant;

/// First pause before an endpoint without traffic is tried.
const TRIAL_MIN: Duration = Duration::from_secs(2);

/// Longest pause; below the ten seconds in which a returned endpoint has to be in use.
const TRIAL_MAX: Duration = Duration::from_secs(8);

/// Failures never cost more than this many penalties.
const MAX_PENALTIES: f64 = 100.0;

/// The load of one endpoint. Belongs to one worker.
pub struct PeakEwma {
    params: Params,
    state: Cell<State>,
}

#[derive(Clone, Copy)]
struct State {
    /// Seconds.
    rtt: f64,
    /// Requests and failures, decayed.
    total: f64,
    failed: f64,
    /// When the three above were last decayed; `None` before the first answer.
    updated: Option<Instant>,
    pending: u32,
    /// Of those pending, the ones that have their answer and stay (connections).
    held: u32,
    /// When something last came back, or the first of those in flight left.
    moved: Instant,
    /// When a request was last sent here; `None` before the first.
    picked: Option<Instant>,
    trial_pause: Duration,
}

/// A request in flight. Dropping it without an outcome says that nobody knows.
pub struct InFlight {
    load: Rc<PeakEwma>,
    start: Instant,
    is_trial: bool,
    is_held: bool,
    is_over: bool,
}

// === impl PeakEwma ===

impl PeakEwma {
    /// An endpoint that has not been used.
    pub fn new(params: Params, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            state: Cell::new(State {
                rtt: params.default_rtt.as_secs_f64(),
                total: 0.0,
                failed: 0.0,
                updated: None,
                pending: 0,
                held: 0,
                moved: now,
                picked: None,
                trial_pause: TRIAL_MIN,
            }),
            params,
        })
    }

    /// How costly a request would be now; lower is better.
    pub fn cost(&self, weight: f64, now: Instant) -> f64 {
        let s = self.state.get();
        let silence = match s.pending - s.held {
            0 => 0.0,
            _ => now.saturating_duration_since(s.moved).as_secs_f64(),
        };
        let latency = s.rtt.max(silence) + s.failure_cost(self.params.penalty);
        latency * (f64::from(s.pending) / weight + 1.0)
    }

    /// Whether it has had no request for so long that its cost says little.
    pub fn is_due(&self, now: Instant) -> bool {
        let s = self.state.get();
        let rested = s
            .picked
            .is_none_or(|p| now.saturating_duration_since(p) >= s.trial_pause);
        // One that hangs is not tried while what it holds may still come back.
        rested && s.pending == s.held
    }

    /// How many requests are in flight.
    pub fn pending(&self) -> u32 {
        self.state.get().pending
    }

    /// Counts a request that leaves now, as a trial or because of its cost.
    pub fn start(self: &Rc<Self>, is_trial: bool, now: Instant) -> InFlight {
        let mut s = self.state.get();
        if s.pending == s.held {
            s.moved = now;
        }
        s.pending += 1;
        s.picked = Some(now);
        s.trial_pause = if is_trial {
            (s.trial_pause * 2).min(TRIAL_MAX)
        } else {
            TRIAL_MIN
        };
        self.state.set(s);
        InFlight {
            load: self.clone(),
            start: now,
            is_trial,
            is_held: false,
            is_over: false,
        }
    }

    fn end(&self, started: Instant, failed: bool, is_trial: bool, now: Instant) {
        let rtt = now.saturating_duration_since(started);
        let mut s = self.state.get();
        s.pending = s.pending.saturating_sub(1);
        s.moved = now;
        s.learn(rtt.as_secs_f64(), failed, is_trial, self.params.decay, now);
        self.state.set(s);
    }

    /// The answer came, but what it belongs to stays in flight.
    fn hold(&self, started: Instant, is_trial: bool) {
        self.end(started, false, is_trial, Instant::now());
        let mut s = self.state.get();
        s.pending += 1;
        s.held += 1;
        self.state.set(s);
    }

    fn release(&self) {
        let mut s = self.state.get();
        s.pending = s.pending.saturating_sub(1);
        s.held = s.held.saturating_sub(1);
        self.state.set(s);
    }

    /// Nobody waited for the answer: all that is known is that it took longer than this.
    fn give_up(&self, waited: Duration) {
        let mut s = self.state.get();
        s.pending = s.pending.saturating_sub(1);
        s.moved = Instant::now();
        s.rtt = s.rtt.max(waited.as_secs_f64());
        self.state.set(s);
    }
}

// === impl State ===

impl State {
    fn failure_cost(&self, penalty: Duration) -> f64 {
        // Half a success is assumed, so that a lone failure is not taken for certainty.
        let odds = self.failed / (self.total - self.failed + 0.5);
        odds.min(MAX_PENALTIES) * penalty.as_secs_f64()
    }

    fn learn(&mut self, rtt: f64, failed: bool, replace: bool, decay: Duration, now: Instant) {
        let weight = match self.updated {
            Some(then) if !replace => {
                let elapsed = now.saturating_duration_since(then).as_secs_f64();
                (-elapsed / decay.as_secs_f64().max(1e-3)).exp()
            }
            _ => 0.0,
        };
        self.updated = Some(now);
        self.total = self.total * weight + 1.0;
        self.failed = self.failed * weight + f64::from(u8::from(failed));
        self.rtt = match () {
            // A failure says nothing about how long a success takes.
            () if failed => self.rtt.max(rtt),
            () if rtt > self.rtt => rtt,
            () => self.rtt * weight + rtt * (1.0 - weight),
        };
    }
}

// === impl InFlight ===

impl InFlight {
    /// When the request left.
    pub fn started(&self) -> Instant {
        self.start
    }

    /// The request leaves only now.
    pub fn sent(&mut self, at: Instant) {
        self.start = at;
    }

    /// A connection was made: its latency is known, and it stays in flight until this is dropped.
    pub fn hold(&mut self) {
        if !std::mem::replace(&mut self.is_held, true) {
            self.load.hold(self.start, self.is_trial);
        }
    }

    /// The answer came at `now`, good or bad.
    pub fn answered(mut self, failed: bool, now: Instant) {
        self.is_over = true;
        self.load.end(self.start, failed, self.is_trial, now);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.is_held {
            self.load.release();
        } else if !self.is_over {
            self.load.give_up(self.start.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn endpoint() -> Rc<PeakEwma> {
        PeakEwma::new(Params::default(), Instant::now())
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
    async fn one_that_hangs_is_not_tried() {
        let load = endpoint();
        let _hanging = load.start(false, Instant::now());
        advance(ms(60_000)).await;
        assert!(!load.is_due(Instant::now()));
    }
}
