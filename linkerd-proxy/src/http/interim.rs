//! Informational answers on their way from the endpoint to the client, ahead of the answer: a proxy passes
//! them on (RFC 9110, section 15.2), but `100` and `101` have a meaning for each connection of their own.
//!
//! Whoever waits for the answer does so in the task that serves the client, so what is put here is found by
//! it right after, and nobody has to be woken.

use super::{headers, http1::Spelling};
use http::{
    Response, StatusCode,
    header::{CONTENT_LENGTH, TRANSFER_ENCODING},
};
use std::{cell::RefCell, rc::Rc};

/// Of one request; an endpoint that sends more is heard, but they end here.
const MAX: usize = 8;

/// The way of such answers to one client. Cheap to clone.
#[derive(Clone, Default)]
pub struct Interim(Rc<RefCell<Kept>>);

#[derive(Default)]
struct Kept {
    heads: Vec<Response<Spelling>>,
    passed: usize,
}

impl Interim {
    /// Begins anew, for the next request.
    pub fn begin(&self) {
        *self.0.borrow_mut() = Kept::default();
    }

    /// Takes what an endpoint sent ahead of its answer.
    pub fn put(&self, mut head: Response<Spelling>) {
        let mut kept = self.0.borrow_mut();
        let status = head.status();
        let is_ours = status == StatusCode::CONTINUE || status == StatusCode::SWITCHING_PROTOCOLS;
        if is_ours || kept.passed == MAX {
            return;
        }
        kept.passed += 1;
        headers::strip_response(head.headers_mut(), false);
        // It has no body that they could be about.
        head.headers_mut().remove(CONTENT_LENGTH);
        head.headers_mut().remove(TRANSFER_ENCODING);
        kept.heads.push(head);
    }

    /// What has not been passed on yet.
    pub fn take(&self) -> Vec<Response<Spelling>> {
        std::mem::take(&mut self.0.borrow_mut().heads)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16) -> Response<Spelling> {
        let builder = Response::builder().status(status);
        let builder = builder.header("connection", "x-a").header("x-a", "1");
        let builder = builder.header("content-length", "5").header("link", "b");
        builder.body(Spelling::default()).unwrap()
    }

    #[test]
    fn what_passes_is_bounded_and_has_no_hop_by_hop_headers() {
        let interim = Interim::default();
        interim.put(head(100));
        interim.put(head(101));
        assert!(interim.take().is_empty());
        for _ in 0..100 {
            interim.put(head(103));
        }
        let passed = interim.take();
        assert_eq!(passed.len(), MAX);
        let names: Vec<_> = passed[0].headers().keys().collect();
        assert_eq!(names, ["link"]);
        interim.put(head(103));
        assert!(interim.take().is_empty());
        interim.begin();
        interim.put(head(103));
        assert_eq!(interim.take().len(), 1);
    }
}
