//! An endpoint in use, and its use for one request or connection.

use super::{
    Params,
    ewma::{InFlight, PeakEwma},
    gate::{Gate, Pass},
    vitals::Vitals,
};
use mesh_policy::endpoint::Endpoint as Metadata;
use std::{
    convert::Infallible,
    future::{Ready, ready},
    rc::Rc,
    task::{Context, Poll},
};
use tokio::time::Instant;
use tower::load::Load;

/// The use of an endpoint for one request or connection.
pub struct Lease<E> {
    /// What was picked.
    pub endpoint: Rc<E>,
    gate: Rc<Gate>,
    pass: Pass,
    in_flight: InFlight,
}

/// An endpoint in use.
pub(super) struct Slot<E> {
    endpoint: Rc<E>,
    gate: Rc<Gate>,
    pub(super) load: Rc<PeakEwma>,
    pub(super) weight: u32,
    /// Weight relative to the normal one.
    share: f64,
}

/// An endpoint at one moment, so that the clock is read once for both that are compared.
pub(super) struct At<'a, E>(pub(super) &'a Slot<E>, pub(super) Instant);

// === impl Lease ===

impl<E> Lease<E> {
    /// When the endpoint was picked, or the request was sent if that was later.
    pub fn started(&self) -> Instant {
        self.in_flight.started()
    }

    /// The request was sent later than the endpoint was picked: making a connection is no part of
    /// how fast it answers.
    pub fn sent(&mut self, at: Option<Instant>) {
        if let Some(at) = at {
            self.in_flight.sent(at);
        }
    }

    /// The head of an answer is there at `now`, and `failed` is what it says; what is yet to come of
    /// it is no longer the endpoint's load.
    pub fn answered(&mut self, failed: bool, now: Instant) {
        self.in_flight.answered(failed, now);
    }

    /// The client broke the request off: that says nothing about the endpoint, and decides no probation.
    pub fn forget(&mut self) {
        self.in_flight.forget();
    }

    /// A connection was made, and counts as load until the lease is dropped.
    pub fn hold(&mut self) {
        if !self.in_flight.is_held() {
            self.in_flight.hold();
            self.gate.hold();
        }
        self.gate.outcome(&mut self.pass, false);
    }

    /// The answer is complete at `now`: counts towards failure accrual.
    pub fn ended(&mut self, failed: bool, now: Instant) {
        self.in_flight.ended(failed, now);
        self.gate.outcome(&mut self.pass, failed);
    }
}

impl<E> Drop for Lease<E> {
    fn drop(&mut self) {
        self.gate.leave(self.pass, self.in_flight.is_held());
    }
}

// === impl Slot ===

impl<E> Slot<E> {
    /// Takes an endpoint into use; `make` makes what is leased.
    pub(super) fn new(
        metadata: &Metadata,
        params: &Params,
        vitals: &Rc<Vitals>,
        make: impl FnOnce(&Rc<Gate>) -> E,
    ) -> Self {
        let gate = Gate::new(params.accrual, vitals.clone());
        Self {
            endpoint: Rc::new(make(&gate)),
            gate,
            load: PeakEwma::new(params.load, vitals.clone(), Instant::now()),
            weight: metadata.weight,
            share: f64::from(metadata.weight.max(1)) / f64::from(Metadata::WEIGHT),
        }
    }

    pub(super) fn lease(&self, is_trial: bool, now: Instant) -> Lease<E> {
        Lease {
            pass: self.gate.enter(),
            endpoint: self.endpoint.clone(),
            gate: self.gate.clone(),
            in_flight: self.load.start(is_trial, now),
        }
    }
}

impl<E> Load for At<'_, E> {
    type Metric = f64;

    fn load(&self) -> f64 {
        let Self(slot, now) = self;
        slot.load.cost(slot.share, *now)
    }
}

/// `ReadyCache` wants a service; what it yields is made by [`Slot::lease`], so that a pick costs
/// no future.
impl<E> tower::Service<()> for Slot<E> {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.gate.poll_ready(cx).map(Ok)
    }

    fn call(&mut self, (): ()) -> Self::Future {
        ready(Ok(()))
    }
}
