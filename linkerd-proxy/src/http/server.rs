//! Serves HTTP to a client: hyper on a connection, with the limits hyper does not have.
//!
//! - Memory: a keep-alive connection that idles gives hyper's state back and is a bare socket
//!   again until its next byte; that is some 400 bytes in place of some 17 KiB.
//! - Time: a head has to be complete ten seconds after its first byte.
//! - Framing: heads are checked by [`strict`](super::strict) before hyper reads them.
//!
//! What is done with a request is the [`Handler`]'s to know.

mod http1;
mod http2;
mod watchdog;

use super::{Request, Response, strict::Ambiguous, upgrade::Switch};
use crate::error::BoxError;
use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

pub use self::{http1::serve_http1, http2::serve_http2};

/// How often idle and overdue connections are looked for.
const TICK: Duration = Duration::from_secs(1);

/// Ticks that a head may take.
const HEAD_TICKS: u32 = 10;

/// Answers requests. An error resets the stream, or ends the connection.
pub trait Handler: Clone + 'static {
    /// Answers one request.
    fn handle(
        self,
        request: Request,
        activity: Rc<Activity>,
    ) -> impl Future<Output = Result<Response, BoxError>> + 'static;
}

/// What a connection is doing.
#[derive(Default)]
pub struct Activity {
    /// Requests whose answers have not passed whole.
    in_flight: Cell<usize>,
    served: Cell<bool>,
    /// Bytes of a head that is not complete.
    head: RefCell<Vec<u8>>,
    /// Bytes went in or out since the last tick.
    moved: Cell<bool>,
    is_connect: Cell<bool>,
    /// Why the connection is refused, if it is.
    ambiguous: Cell<Option<Ambiguous>>,
    switch: RefCell<Option<Switch>>,
}

/// Counts a request until its answer has passed.
pub struct InFlight(Rc<Activity>);

impl Activity {
    /// Ends HTTP on this connection after the answer that is being given.
    pub fn switch_to(&self, switch: Switch) {
        *self.switch.borrow_mut() = Some(switch);
    }

    /// Whether the request that is being answered is a `CONNECT`.
    pub fn is_connect(&self) -> bool {
        self.is_connect.get()
    }

    fn enter(self: &Rc<Self>) -> InFlight {
        self.in_flight.set(self.in_flight.get() + 1);
        self.served.set(true);
        let mut head = self.head.borrow_mut();
        if head.capacity() > 0 {
            *head = Vec::new();
        }
        InFlight(self.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

/// Calls the handler, and holds the request in flight until the body of its answer has passed.
fn handle<H: Handler>(
    handler: &H,
    request: Request,
    activity: &Rc<Activity>,
) -> impl Future<Output = Result<Response, BoxError>> + use<H> {
    let in_flight = activity.enter();
    activity
        .is_connect
        .set(request.method() == http::Method::CONNECT);
    let answer = handler.clone().handle(request, activity.clone());
    async move {
        let response = answer.await?;
        Ok(response.map(|body| body.in_flight(in_flight)))
    }
}
