//! Serves HTTP to a client: HTTP/1 with our own reader and writer ([`super::http1`]), HTTP/2 with
//! h2, and the limits in memory and time that belong to either.
//!
//! What is done with a request is the [`Handler`]'s to know.

mod http1;
mod http2;

use super::{Request, Response};
use crate::error::BoxError;
use std::time::Duration;

pub use self::{
    http1::{Receiving, serve_http1},
    http2::serve_http2,
};

/// How long a client may still say something that it was about to say.
const TICK: Duration = Duration::from_secs(1);

/// Answers requests. An error resets the stream, or ends the connection.
pub trait Handler: Clone + 'static {
    /// Answers one request.
    fn handle(self, request: Request)
    -> impl Future<Output = Result<Response, BoxError>> + 'static;
}
