//! Whether an endpoint may be used: shut by refused connections and by failures in a row.
//!
//! The balancer asks through `poll_ready`; tasks here open the gate again. Two things shut it:
//!
//! - A connection that was refused: after a pause the endpoint is dialled again, on nobody's
//!   request, until it answers; then the gate is as open as it was: to be reached is no answer to a
//!   request.
//! - Failure accrual (`consecutive failures`): after a pause one request is let through, the
//!   probation; its outcome opens the gate or shuts it for the next, longer pause. What comes of
//!   requests that left before the gate was shut decides nothing then.
//!
//! Pauses are what they are configured to be ([`super::backoff`]): those between dials by
//! `*_CONNECT_EXP_BACKOFF_*`, whose default is short enough for an endpoint to be in use within ten
//! seconds of its return; those before a probation by the policy.

use super::{backoff::Pauses, vitals::Vitals};
use mesh_policy::outbound::{Backoff, FailureAccrual};
use std::{
    cell::{Cell, RefCell},
    fmt::Display,
    future::Future,
    rc::{Rc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};
use tokio::{task::spawn_local, time::sleep};

/// The gate of one endpoint. Belongs to one worker.
pub struct Gate {
    state: Cell<State>,
    failures: Cell<u32>,
    accrual: Option<FailureAccrual>,
    pauses: Cell<Option<Pauses>>,
    waiting: RefCell<Option<Waker>>,
    vitals: Rc<Vitals>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In use.
    Open,
    /// Out of use, until a task opens it.
    Shut,
    /// One request may pass.
    Probation,
    /// That request is out.
    OnTrial,
}

/// What a request passed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// One of many.
    Ordinary,
    /// The one whose outcome decides.
    Trial,
}

// === impl Gate ===

impl Gate {
    /// An open gate, which tells `vitals` when it is shut.
    pub fn new(accrual: Option<FailureAccrual>, vitals: Rc<Vitals>) -> Rc<Self> {
        Rc::new(Self {
            state: Cell::new(State::Open),
            failures: Cell::new(0),
            accrual,
            pauses: Cell::new(None),
            waiting: RefCell::new(None),
            vitals,
        })
    }

    /// Ready when a request may pass; otherwise wakes `cx` when that may have changed.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.state.get() {
            State::Open | State::Probation => Poll::Ready(()),
            State::Shut | State::OnTrial => {
                *self.waiting.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// A request passes.
    pub fn enter(&self) -> Pass {
        self.vitals.started();
        if self.state.get() != State::Probation {
            return Pass::Ordinary;
        }
        self.state.set(State::OnTrial);
        Pass::Trial
    }

    /// A request that passed has its answer; counts towards failure accrual, and uses up the pass.
    pub fn outcome(self: &Rc<Self>, pass: &mut Pass, failed: bool) {
        let Some(accrual) = self.accrual else {
            return;
        };
        let pass = std::mem::replace(pass, Pass::Ordinary);
        match (self.state.get(), pass, failed) {
            (State::Open, _, false) => self.failures.set(0),
            (State::Open, _, true) => {
                self.failures.set(self.failures.get() + 1);
                if self.failures.get() >= accrual.max_failures {
                    self.trip(accrual.backoff);
                }
            }
            (State::OnTrial, Pass::Trial, false) => self.open(),
            (State::OnTrial, Pass::Trial, true) => self.trip(accrual.backoff),
            // Left before the gate was shut.
            (State::OnTrial, Pass::Ordinary, _) | (State::Shut | State::Probation, _, _) => {}
        }
    }

    /// A request that passed is a connection now.
    pub fn hold(&self) {
        self.vitals.held();
    }

    /// A request that passed, or a connection that was held, is over. If that was on trial and had no
    /// answer, the next one is.
    pub fn leave(&self, pass: Pass, was_held: bool) {
        match was_held {
            true => self.vitals.released(),
            false => self.vitals.ended(),
        }
        if pass == Pass::Trial && self.state.get() == State::OnTrial {
            self.change(State::Probation);
        }
    }

    /// A connection failed, for this reason: shuts the gate until `dial` succeeds.
    pub fn refused<F>(
        self: &Rc<Self>,
        why: &dyn Display,
        backoff: Backoff,
        dial: impl Fn() -> F + 'static,
    ) where
        F: Future<Output = bool> + 'static,
    {
        self.vitals.refused(why);
        if self.state.get() != State::Shut {
            self.shut();
            spawn_local(redial(Rc::downgrade(self), Pauses::new(backoff), dial));
        }
    }

    /// Whether it is open for everybody.
    pub fn is_open(&self) -> bool {
        self.state.get() == State::Open
    }

    fn trip(self: &Rc<Self>, backoff: Backoff) {
        let mut pauses = self.pauses.get().unwrap_or_else(|| Pauses::new(backoff));
        let pause = pauses.pause();
        self.pauses.set(Some(pauses));
        self.shut();
        spawn_local(probation(Rc::downgrade(self), pause));
    }

    fn shut(&self) {
        self.state.set(State::Shut);
        self.vitals.shut();
    }

    fn open(&self) {
        self.failures.set(0);
        self.pauses.set(None);
        self.change(State::Open);
    }

    fn change(&self, state: State) {
        self.state.set(state);
        if let Some(waker) = self.waiting.borrow_mut().take() {
            waker.wake();
        }
    }
}

/// Dials after each pause until that succeeds or nobody wants the endpoint any more.
async fn redial<F: Future<Output = bool>>(
    gate: Weak<Gate>,
    mut pauses: Pauses,
    dial: impl Fn() -> F,
) {
    loop {
        sleep(pauses.pause()).await;
        if gate.strong_count() == 0 {
            return;
        }
        if dial().await {
            break;
        }
    }
    if let Some(gate) = gate.upgrade() {
        match gate.pauses.get() {
            None => gate.open(),
            Some(_) => gate.change(State::Probation),
        }
    }
}

/// Lets one request through after `pause`.
async fn probation(gate: Weak<Gate>, pause: Duration) {
    sleep(pause).await;
    if let Some(gate) = gate.upgrade() {
        gate.change(State::Probation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{task::LocalSet, time::advance};
    use tokio_test::{assert_pending, assert_ready, task};

    fn backoff() -> Backoff {
        Backoff {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter: 0.0,
        }
    }

    fn accrual() -> Rc<Gate> {
        let accrual = FailureAccrual {
            max_failures: 3,
            backoff: backoff(),
        };
        Gate::new(Some(accrual), Vitals::new())
    }

    fn trip(gate: &Rc<Gate>) {
        (0..3).for_each(|_| gate.outcome(&mut Pass::Ordinary, true));
        assert!(!is_ready(gate));
    }

    fn is_ready(gate: &Rc<Gate>) -> bool {
        task::spawn(()).enter(|cx, _| gate.poll_ready(cx).is_ready())
    }

    async fn pass(time: Duration) {
        // Let tasks arm their timers, pass the time, let them run.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        advance(time).await;
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_shut_it_and_one_success_on_probation_opens_it() {
        LocalSet::new()
            .run_until(async {
                let gate = accrual();
                for failed in [true, true, false, true, true] {
                    gate.outcome(&mut Pass::Ordinary, failed);
                    assert!(is_ready(&gate));
                }
                gate.outcome(&mut Pass::Ordinary, true);
                assert!(!is_ready(&gate));
                pass(Duration::from_secs(1)).await;
                assert!(is_ready(&gate));
                let mut pass = gate.enter();
                assert!(!is_ready(&gate), "only one request on probation");
                gate.outcome(&mut pass, false);
                assert!(gate.is_open());
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probation_doubles_the_pause() {
        LocalSet::new()
            .run_until(async {
                let gate = accrual();
                trip(&gate);
                pass(Duration::from_secs(1)).await;
                let mut trial = gate.enter();
                gate.outcome(&mut trial, true);
                gate.leave(trial, false);
                pass(Duration::from_millis(1_900)).await;
                assert!(!is_ready(&gate));
                pass(Duration::from_millis(200)).await;
                assert!(is_ready(&gate));
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn to_be_reached_again_is_no_success_on_probation() {
        LocalSet::new()
            .run_until(async {
                let gate = accrual();
                trip(&gate);
                pass(Duration::from_secs(1)).await;
                let mut trial = gate.enter();
                gate.refused(&"refused", backoff(), || std::future::ready(true));
                gate.outcome(&mut trial, true);
                gate.leave(trial, false);
                pass(Duration::from_secs(1)).await;
                assert!(is_ready(&gate) && !gate.is_open());
                let mut trial = gate.enter();
                gate.outcome(&mut trial, true);
                pass(Duration::from_millis(1_900)).await;
                assert!(!is_ready(&gate), "the pause still doubles");
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_dialled_as_seldom_as_is_configured() {
        LocalSet::new()
            .run_until(async {
                let gate = Gate::new(None, Vitals::new());
                let since = tokio::time::Instant::now();
                let dials = Rc::new(RefCell::new(Vec::new()));
                let noted = dials.clone();
                gate.refused(&"refused", backoff(), move || {
                    noted.borrow_mut().push(since.elapsed().as_secs());
                    std::future::ready(false)
                });
                for _ in 0..200 {
                    pass(Duration::from_secs(1)).await;
                }
                assert_eq!(*dials.borrow(), [1, 3, 7, 15, 31, 63, 123, 183]);
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_left_before_decides_nothing_on_probation() {
        LocalSet::new()
            .run_until(async {
                let gate = accrual();
                let mut old = [(); 3].map(|()| gate.enter());
                trip(&gate);
                pass(Duration::from_secs(1)).await;
                let mut trial = gate.enter();
                for (pass, failed) in old.iter_mut().zip([false, true]) {
                    gate.outcome(pass, failed);
                    gate.leave(*pass, false);
                    assert!(!gate.is_open() && !is_ready(&gate), "{failed}");
                }
                gate.leave(old[2], false);
                assert!(!is_ready(&gate), "one is on trial still");
                gate.outcome(&mut trial, false);
                assert!(gate.is_open());
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_without_an_answer_is_followed_by_another() {
        LocalSet::new()
            .run_until(async {
                let gate = accrual();
                trip(&gate);
                pass(Duration::from_secs(1)).await;
                let trial = gate.enter();
                assert!(!is_ready(&gate));
                gate.leave(trial, false);
                assert!(is_ready(&gate) && !gate.is_open());
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusing_endpoint_is_dialled_until_it_answers() {
        LocalSet::new()
            .run_until(async {
                let gate = Gate::new(None, Vitals::new());
                let dials = Rc::new(Cell::new(0));
                let counted = dials.clone();
                gate.refused(&"refused", backoff(), move || {
                    counted.set(counted.get() + 1);
                    std::future::ready(counted.get() == 3)
                });
                let mut waiter = task::spawn(std::future::poll_fn(|cx| gate.poll_ready(cx)));
                assert_pending!(waiter.poll());
                pass(Duration::from_secs(1)).await;
                pass(Duration::from_secs(2)).await;
                assert_eq!(dials.get(), 2);
                assert_pending!(waiter.poll());
                pass(Duration::from_secs(4)).await;
                assert!(waiter.is_woken());
                assert_ready!(waiter.poll());
            })
            .await;
    }
}
