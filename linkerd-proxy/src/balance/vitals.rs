//! What happens to the endpoints of a balancer, as far as it concerns all of them: how much is in
//! flight, how much of what comes back is late, whether a gate was shut, and why.
//!
//! The loads and gates of endpoints write it as it happens, which has to cost next to nothing; the
//! pool reads it. What follows from it is decided in `aperture`. Belongs to one worker.

use std::{
    cell::{Cell, Ref, RefCell},
    fmt::Display,
    rc::Rc,
    sync::Arc,
    task::Waker,
};

/// Why a connection could not be made, as text: at most so many characters.
const MAX_REFUSAL: usize = 200;

/// Shared by all endpoints of a balancer.
pub struct Vitals {
    requests: Cell<usize>,
    held: Cell<usize>,
    peak: Cell<usize>,
    window: Cell<Window>,
    shut: Cell<bool>,
    refusal: RefCell<Option<Arc<str>>>,
    driver: RefCell<Waker>,
}

/// What was counted in a while.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    /// Requests that left.
    pub(super) requests: usize,
    /// The sum of what each of them found in flight, itself included.
    pub(super) in_flight: usize,
    /// Good answers.
    pub(super) answers: usize,
    /// Those that took far longer than the best of their endpoint.
    pub(super) late: usize,
}

// === impl Vitals ===

impl Vitals {
    /// Nothing has happened yet.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            requests: Cell::new(0),
            held: Cell::new(0),
            peak: Cell::new(0),
            window: Cell::default(),
            shut: Cell::new(false),
            refusal: RefCell::new(None),
            driver: RefCell::new(Waker::noop().clone()),
        })
    }

    // What endpoints tell.

    /// A request leaves. It is in flight until its answer has ended.
    pub(super) fn started(&self) {
        let requests = self.requests.get() + 1;
        self.requests.set(requests);
        self.peak.set(self.peak.get().max(requests));
        let mut window = self.window.get();
        window.requests += 1;
        window.in_flight += requests;
        self.window.set(window);
    }

    /// It is over.
    pub(super) fn ended(&self) {
        self.requests.set(self.requests.get().saturating_sub(1));
    }

    /// It was answered well, if late.
    pub(super) fn answered(&self, is_late: bool) {
        let mut window = self.window.get();
        window.answers += 1;
        window.late += usize::from(is_late);
        self.window.set(window);
    }

    /// It was to make a connection, which now stays.
    pub(super) fn held(&self) {
        self.ended();
        self.held.set(self.held.get() + 1);
    }

    /// The connection has ended.
    pub(super) fn released(&self) {
        self.held.set(self.held.get().saturating_sub(1));
    }

    /// A gate was shut: the driver is to see to it.
    pub(super) fn shut(&self) {
        self.shut.set(true);
        self.driver.borrow().wake_by_ref();
    }

    /// A connection could not be made.
    pub(super) fn refused(&self, why: &dyn Display) {
        let text: String = why.to_string().chars().take(MAX_REFUSAL).collect();
        *self.refusal.borrow_mut() = Some(text.into());
    }

    // What the balancer asks.

    /// Requests in flight; not connections that are held.
    pub(super) fn requests(&self) -> usize {
        self.requests.get()
    }

    /// Connections that are held.
    pub(super) fn connections(&self) -> usize {
        self.held.get()
    }

    /// The most requests that were in flight at once since this was last asked.
    pub(super) fn take_peak(&self) -> usize {
        self.peak.replace(self.requests.get())
    }

    /// What has been counted since this was last asked.
    pub(super) fn take_window(&self) -> Window {
        self.window.take()
    }

    /// How many good answers have been counted since then.
    pub(super) fn answers(&self) -> usize {
        self.window.get().answers
    }

    /// Whether a gate was shut since this was last asked.
    pub(super) fn take_shut(&self) -> bool {
        self.shut.get() && self.shut.replace(false)
    }

    /// Why a connection could not be made, the last time.
    pub(super) fn refusal(&self) -> Option<Arc<str>> {
        self.refusal.borrow().clone()
    }

    /// All endpoints can be reached.
    pub(super) fn forget_refusal(&self) {
        self.refusal.take();
    }

    /// The task that keeps the endpoints ready.
    pub(super) fn driver(&self) -> Ref<'_, Waker> {
        self.driver.borrow()
    }

    /// It is this one.
    pub(super) fn driven_by(&self, waker: &Waker) {
        self.driver.borrow_mut().clone_from(waker);
    }
}
