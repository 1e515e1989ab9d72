//! One request over HTTP/1, and the head of its answer, in the task of whoever serves the client.

use super::{
    Connection, Download,
    sending::{Failed, Sending},
};
use crate::http::{
    Request,
    http1::{self, Error, Head, Malformed},
    interim::Interim,
};
use http::{Method, Response, StatusCode, header::UPGRADE};
use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};

/// Why a request brought no answer.
pub(super) enum Broken {
    /// The client did not send it whole.
    Body,
    /// The connection, or what came over it.
    Connection(Error),
}

/// A request on its way over a connection.
pub(super) struct Exchange {
    connection: Connection,
    sending: Option<Sending>,
    method: Method,
    upgrades: bool,
    interim: Option<Interim>,
    /// Why the request could not be sent whole; there may be an answer all the same.
    unsent: Option<Error>,
}

impl Exchange {
    /// Takes the body out of a request, and the connection for it.
    pub fn new(connection: Connection, request: &mut Request) -> Self {
        let method = request.method().clone();
        Self {
            connection,
            upgrades: method == Method::CONNECT || request.headers().contains_key(UPGRADE),
            interim: request.body().interim().cloned(),
            sending: Some(Sending::new(request)),
            method,
            unsent: None,
        }
    }

    /// Whether a second try cannot do harm: for a method that may be repeated (RFC 9110, section
    /// 9.2.2), without a body.
    pub fn may_be_repeated(&self) -> bool {
        let is_head_only = self.sending.as_ref().is_some_and(Sending::is_without_body);
        is_head_only && self.method.is_idempotent()
    }

    /// Sends the request and waits for the head of the answer; as soon as there is a byte of one the
    /// request is taken out of its place, if it is still there.
    ///
    /// # Errors
    ///
    /// [`Broken`]: if the request is in its place, it can be sent again.
    pub async fn run(
        &mut self,
        request: &mut Option<Request>,
    ) -> Result<Head<Response<()>>, Broken> {
        loop {
            let head = poll_fn(|cx| self.poll_head(cx)).await;
            if !matches!(head, Ok(None)) && (head.is_ok() || self.connection.wire.has_input()) {
                *request = None;
            }
            let incomplete = || Broken::Connection(self.unsent.take().unwrap_or(Error::Incomplete));
            let head = head?.ok_or_else(incomplete)?;
            match head.message.status() {
                StatusCode::SWITCHING_PROTOCOLS if self.upgrades => return Ok(head),
                StatusCode::SWITCHING_PROTOCOLS => {
                    return Err(Broken::Connection(Malformed::Switch.into()));
                }
                StatusCode::CONTINUE => self.go_on(),
                status if status.is_informational() => {
                    if let Some(interim) = &self.interim {
                        interim.put(head.message.map(|()| head.spelling));
                    }
                }
                _ => {
                    // A client that sends the body after this does so for a reason.
                    self.go_on();
                    return Ok(head);
                }
            }
        }
    }

    /// The answer that begins with `head`.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when what has come of its body is not framed as the head says, or the protocol was
    /// switched in the middle of the request.
    pub fn answer(self, head: Head<Response<()>>) -> Result<Response<Download>, Malformed> {
        let status = head.message.status();
        let switches = status == StatusCode::SWITCHING_PROTOCOLS
            || self.method == Method::CONNECT && status.is_success();
        if switches && self.sending.is_some() {
            // What follows would be the rest of the request, to somebody who speaks something else.
            return Err(Malformed::Switch);
        }
        let body = match switches {
            true => Download::switched(self.connection, head.spelling),
            false => {
                let keep_alive = head.keep_alive && self.unsent.is_none();
                let parts = (head.decoder, head.spelling);
                Download::new(self.connection, parts, self.sending, keep_alive)?
            }
        };
        Ok(head.message.map(|()| body))
    }

    fn go_on(&mut self) {
        if let Some(sending) = &mut self.sending {
            sending.go_on();
        }
    }

    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Head<Response<()>>>, Broken>> {
        let wire = &mut self.connection.wire;
        if let Some(sending) = &mut self.sending
            && let Poll::Ready(sent) = sending.poll(cx, wire)
        {
            self.sending = None;
            match sent {
                Ok(()) => {}
                Err(Failed::Body) => return Poll::Ready(Err(Broken::Body)),
                Err(Failed::Write(error)) => self.unsent = Some(error.into()),
            }
        }
        let head = ready!(wire.poll_head(cx, |bytes| http1::response(bytes, &self.method)));
        Poll::Ready(head.map_err(Broken::Connection))
    }
}
