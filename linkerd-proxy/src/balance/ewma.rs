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
//!   least the age of that silence, so an endpoint that hangs is left after a few requests. A request
//!   that was overtaken by later ones is no silence, and no load: it is slow by its nature ([`quiet`]).
//!   An answer has come back when its head has, however long its body takes.
//! - **What is avoided is tried again.** The estimate does not fade by itself; instead an endpoint
//!   that got no request for a while is due for a trial, whose outcome replaces what was known.
//!   The pause doubles from 2 s to 8 s while trials do not win it back, so an endpoint that
//!   recovered is in use within ten seconds, and one that did not costs next to nothing. It goes on
//!   doubling to about a minute while all that is out at the endpoint stays out, or an endpoint that
//!   hangs would be given one request after another.
//!
//! An answer that took far longer than the best of its endpoint is late; that is for the balancer's
//! [`Vitals`] to know.

mod quiet;

use self::quiet::Generations;
use super::vitals::Vitals;
use mesh_policy::outbound::Load as Params;
use std::{cell::Cell, rc::Rc, time::Duration};
use tokio::time::Instant;

/// First pause before an endpoint without traffic is tried.
const TRIAL_MIN: Duration = Duration::from_secs(2);

/// Longest pause; below the ten seconds in which a returned endpoint has to be in use.
const TRIAL_MAX: Duration = Duration::from_secs(8);

/// Longest pause for one that has answered nothing since the last trials.
const TRIAL_MAX_SILENT: Duration = Duration::from_secs(64);

/// Failures never cost more than this many penalties.
const MAX_PENALTIES: f64 = 100.0;

/// An answer is late from twice its endpoint's best on, and this much more: below it, queueing
/// matters to nobody. In seconds.
const LATENESS: f64 = 0.005;

/// What is silent for twice its best and this long hangs. In seconds.
const MAX_SILENCE: f64 = 1.0;

/// In which the best grows e-fold while it is not reached again: what it was many minutes ago says
/// little. In seconds.
const BEST_FADES: f64 = 60.0;

/// The load of one endpoint. Belongs to one worker.
pub struct PeakEwma {
    params: Params,
    state: Cell<State>,
    vitals: Rc<Vitals>,
}

#[derive(Clone, Copy)]
struct State {
    /// Seconds.
    rtt: f64,
    /// The fastest answer lately; infinite before the first. Seconds.
    best: f64,
    /// Requests and failures, decayed.
    total: f64,
    failed: f64,
    /// When the three above were last decayed; `None` before the first answer.
    updated: Option<Instant>,
    /// Requests without an answer.
    requests: Generations,
    /// Connections that were made and stay.
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
    generation: u32,
    is_trial: bool,
    stage: Stage,
}

/// How far a request has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// There is no answer.
    Out,
    /// A connection was made, and stays.
    Held,
    /// The answer is, or begins as, a success.
    Succeeded,
    /// It is a failure.
    Failed,
    /// There will be none, by no fault of the endpoint.
    Forgotten,
}

// === impl PeakEwma ===

impl PeakEwma {
    /// An endpoint that has not been used.
    pub fn new(params: Params, vitals: Rc<Vitals>, now: Instant) -> Rc<Self> {
        Rc::new(Self {
            state: Cell::new(State {
                rtt: params.default_rtt.as_secs_f64(),
                best: f64::INFINITY,
                total: 0.0,
                failed: 0.0,
                updated: None,
                requests: Generations::new(now),
                held: 0,
                moved: now,
                picked: None,
                trial_pause: TRIAL_MIN,
            }),
            params,
            vitals,
        })
    }

    /// How costly a request would be now; lower is better.
    pub fn cost(&self, weight: f64, now: Instant) -> f64 {
        let s = self.state.get();
        let latency = s.rtt.max(s.silence(now)) + s.failure_cost(self.params.penalty);
        latency * (f64::from(s.requests.out() + s.held) / weight + 1.0)
    }

    /// Whether it has had no request for so long that its cost says little.
    pub fn is_due(&self, now: Instant) -> bool {
        let s = self.state.get();
        let pause = match s.requests.out() {
            0 => s.trial_pause.min(TRIAL_MAX),
            _ => s.trial_pause,
        };
        s.picked
            .is_none_or(|p| now.saturating_duration_since(p) >= pause)
    }

    /// Whether most of what it answers are failures, or it hangs.
    pub fn is_ailing(&self, now: Instant) -> bool {
        let s = self.state.get();
        let fails = s.failed > 1.0 && s.failed * 2.0 > s.total;
        let expected = if s.best.is_finite() {
            s.expected()
        } else {
            0.0
        };
        fails || s.silence(now) > expected + MAX_SILENCE
    }

    /// Whether nothing was ever sent here.
    pub fn is_new(&self) -> bool {
        self.state.get().picked.is_none()
    }

    /// Counts a request that leaves now, as a trial or because of its cost.
    pub fn start(self: &Rc<Self>, is_trial: bool, now: Instant) -> InFlight {
        let mut s = self.state.get();
        if s.requests.out() == 0 {
            s.moved = now;
        }
        let generation = s.requests.leave(now);
        s.picked = Some(now);
        s.trial_pause = if is_trial {
            (s.trial_pause * 2).min(TRIAL_MAX_SILENT)
        } else {
            TRIAL_MIN
        };
        self.state.set(s);
        InFlight {
            load: self.clone(),
            start: now,
            generation,
            is_trial,
            stage: Stage::Out,
        }
    }

    fn end(&self, request: &InFlight, failed: bool, now: Instant) {
        let rtt = now.saturating_duration_since(request.start).as_secs_f64();
        let mut s = self.state.get();
        let was_quiet = s.requests.over(request.generation);
        s.requests.answered(request.generation, now);
        s.moved = now;
        s.trial_pause = s.trial_pause.min(TRIAL_MAX);
        if was_quiet {
            s.count(failed, s.weight(self.params.decay, now), now);
        } else {
            if !failed {
                self.vitals.answered(rtt > s.expected() + LATENESS);
            }
            let weight = match request.is_trial {
                true => 0.0,
                false => s.weight(self.params.decay, now),
            };
            s.learn(rtt, failed, weight, now);
        }
        self.state.set(s);
    }

    /// What began as a success ended as a failure.
    fn revoke(&self) {
        let mut s = self.state.get();
        s.failed = (s.failed + 1.0).min(s.total);
        self.state.set(s);
    }

    /// The answer came, but what it belongs to stays in flight.
    fn hold(&self, request: &InFlight) {
        self.end(request, false, Instant::now());
        let mut s = self.state.get();
        s.held += 1;
        self.state.set(s);
    }

    fn release(&self) {
        let mut s = self.state.get();
        s.held = s.held.saturating_sub(1);
        self.state.set(s);
    }

    /// Nothing is known.
    fn forget(&self, request: &InFlight) {
        let mut s = self.state.get();
        s.requests.over(request.generation);
        self.state.set(s);
    }

    /// Nobody waited for the answer: all that is known is that it took longer than this, which says
    /// nothing of a request that is quiet.
    fn give_up(&self, request: &InFlight) {
        let now = Instant::now();
        let waited = now.saturating_duration_since(request.start).as_secs_f64();
        let mut s = self.state.get();
        if !s.requests.over(request.generation) {
            s.moved = now;
            s.rtt = s.rtt.max(waited);
            if waited > s.expected() + LATENESS {
                self.vitals.answered(true);
            }
        }
        self.state.set(s);
    }
}

// === impl State ===

impl State {
    /// How long nothing has come back, though something is out.
    fn silence(&self, now: Instant) -> f64 {
        match self.requests.out() {
            0 => 0.0,
            _ => now.saturating_duration_since(self.moved).as_secs_f64(),
        }
    }

    /// An answer may take this long, by the best there was; forever before the first.
    fn expected(&self) -> f64 {
        2.0 * self.best
    }

    fn failure_cost(&self, penalty: Duration) -> f64 {
        // Half a success is assumed, so that a lone failure is not taken for certainty.
        let odds = self.failed / (self.total - self.failed + 0.5);
        odds.min(MAX_PENALTIES) * penalty.as_secs_f64()
    }

    /// What remains of what was known.
    fn weight(&self, decay: Duration, now: Instant) -> f64 {
        match self.updated {
            None => 0.0,
            Some(_) => libm::exp(-self.age(now) / decay.as_secs_f64().max(1e-3)),
        }
    }

    /// Seconds since something was learned.
    fn age(&self, now: Instant) -> f64 {
        self.updated.map_or(0.0, |then| {
            now.saturating_duration_since(then).as_secs_f64()
        })
    }

    /// Counts an answer, however long it took.
    fn count(&mut self, failed: bool, weight: f64, now: Instant) {
        self.best *= 1.0 + self.age(now) / BEST_FADES;
        self.updated = Some(now);
        self.total = self.total * weight + 1.0;
        self.failed = self.failed * weight + f64::from(u8::from(failed));
    }

    fn learn(&mut self, rtt: f64, failed: bool, weight: f64, now: Instant) {
        self.count(failed, weight, now);
        self.rtt = match () {
            // A failure says nothing about how long a success takes.
            () if failed => self.rtt.max(rtt),
            () if rtt > self.rtt => rtt,
            () => self.rtt * weight + rtt * (1.0 - weight),
        };
        if !failed {
            self.best = self.best.min(rtt);
        }
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

    /// Whether it is a connection that was made.
    pub fn is_held(&self) -> bool {
        self.stage == Stage::Held
    }

    /// A connection was made: its latency is known, and it stays in flight until this is dropped.
    pub fn hold(&mut self) {
        if self.stage == Stage::Out {
            self.stage = Stage::Held;
            self.load.hold(self);
        }
    }

    /// The head of the answer came at `now`, and says good or bad. Only the first time counts.
    pub fn answered(&mut self, failed: bool, now: Instant) {
        if self.stage == Stage::Out {
            self.stage = Stage::of(failed);
            self.load.end(self, failed, now);
        }
    }

    /// The client broke the request off: that says nothing about the endpoint.
    pub fn forget(&mut self) {
        if self.stage == Stage::Out {
            self.stage = Stage::Forgotten;
            self.load.forget(self);
        }
    }

    /// The answer has ended at `now`, and is good or bad after all.
    pub fn ended(&mut self, failed: bool, now: Instant) {
        self.answered(failed, now);
        if failed && self.stage == Stage::Succeeded {
            self.stage = Stage::Failed;
            self.load.revoke();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        match self.stage {
            Stage::Out => self.load.give_up(self),
            Stage::Held => self.load.release(),
            Stage::Succeeded | Stage::Failed | Stage::Forgotten => {}
        }
    }
}

// === impl Stage ===

impl Stage {
    fn of(failed: bool) -> Self {
        match failed {
            true => Self::Failed,
            false => Self::Succeeded,
        }
    }
}

#[cfg(test)]
mod tests;
