//! What the task of a client's connection and the body of its request share: the connection. The body
//! is read by whoever passes it on, mostly in that same task.

use crate::{
    http::http1::{Decoder, Error, Head, Malformed, Message, Spelling, Wire},
    io::Conn,
};
use bytes::Bytes;
use http_body::Frame;
use std::{
    cell::RefCell,
    future::poll_fn,
    io,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

/// A client's connection.
pub(super) struct Shared(Rc<RefCell<State>>);

/// The body of a request on its way from an HTTP/1 client. Once it is over it has no part in the
/// connection any more, which may carry the next request by then.
pub struct Receiving(Option<Rc<RefCell<State>>>);

struct State {
    wire: Wire,
    decoder: Decoder,
    body: Body,
    /// The answer to `Expect: 100-continue` on its way; the client waits for it.
    go_on: Option<Message>,
    /// Informational answers on their way.
    interim: Option<Box<Message>>,
    /// The connection's task, when it waits for the body.
    server: Option<Waker>,
    /// Whoever reads the body, when it waits for `go_on` to be written.
    reader: Option<Waker>,
}

/// How far the body of the request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Coming,
    /// Whole.
    Over,
    /// Nobody wants the rest.
    Abandoned,
}

impl Shared {
    pub fn new(conn: Conn) -> Self {
        Self(Rc::new(RefCell::new(State {
            wire: Wire::new(conn),
            decoder: Decoder::Length(0),
            body: Body::Over,
            go_on: None,
            interim: None,
            server: None,
            reader: None,
        })))
    }

    /// The bare connection, unless the body of a request still uses it.
    pub fn into_conn(self) -> Option<Conn> {
        let state = Rc::into_inner(self.0)?.into_inner();
        Some(state.wire.into_conn())
    }

    /// The body of the next request, if it has one.
    pub fn receive(&self, decoder: Decoder, expects_continue: bool) -> Option<Receiving> {
        if decoder.is_over() {
            return None;
        }
        let mut state = self.0.borrow_mut();
        state.decoder = decoder;
        state.body = Body::Coming;
        // A client that has begun to send does not wait.
        let is_waiting = expects_continue && !state.wire.has_input();
        state.go_on = is_waiting.then(Message::go_on);
        Some(Receiving(Some(self.0.clone())))
    }

    pub fn poll_head(
        &self,
        cx: &mut Context<'_>,
        parse: impl Fn(&Bytes) -> Result<Option<Head<http::Request<()>>>, Malformed>,
    ) -> Poll<Result<Option<Head<http::Request<()>>>, Error>> {
        self.0.borrow_mut().wire.poll_head(cx, parse)
    }

    pub fn has_input(&self) -> bool {
        self.0.borrow().wire.has_input()
    }

    /// There is an answer: with it the client learns more than that it may go on.
    pub fn answered(&self) {
        let mut state = self.0.borrow_mut();
        if !state.go_on.as_ref().is_some_and(Message::has_begun) {
            state.forget_go_on();
        }
    }

    /// Puts informational answers on their way.
    pub fn inform(&self, heads: Vec<http::Response<Spelling>>) {
        let mut state = self.0.borrow_mut();
        for head in heads {
            match &mut state.interim {
                Some(before) => before.follow_up(&head),
                None => state.interim = Some(Box::new(Message::informational(&head))),
            }
        }
    }

    /// Writes what there is of informational answers.
    pub fn poll_inform(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_inform(cx)
    }

    /// Writes what there is of an answer.
    pub fn poll_write(&self, cx: &mut Context<'_>, answer: &mut Message) -> Poll<io::Result<()>> {
        let mut state = self.0.borrow_mut();
        ready!(state.poll_inform(cx))?;
        let State { wire, go_on, .. } = &mut *state;
        if let Some(begun) = go_on {
            ready!(wire.poll_write(cx, begun))?;
            state.forget_go_on();
        }
        state.wire.poll_write(cx, answer)
    }

    /// Ready when the client has gone. While its request is coming that is for the body to notice.
    pub fn poll_ended(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.0.borrow_mut();
        match state.body {
            Body::Coming => {
                state.wait(cx);
                Poll::Pending
            }
            Body::Over | Body::Abandoned => state.wire.poll_ended(cx),
        }
    }

    /// Makes the end of the connection look like what it is when the end would complete an answer.
    pub fn reset_on_close(&self) {
        self.0.borrow().wire.reset_on_close();
    }

    pub fn is_body_abandoned(&self) -> bool {
        self.0.borrow().body == Body::Abandoned
    }

    /// Waits until the body of the request has passed; whether it has done so whole.
    pub async fn body_ended(&self) -> bool {
        poll_fn(|cx| {
            let mut state = self.0.borrow_mut();
            if state.body == Body::Coming {
                state.wait(cx);
                return Poll::Pending;
            }
            Poll::Ready(state.body == Body::Over)
        })
        .await
    }
}

impl State {
    /// Has the connection's task woken when the body ends.
    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.server {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.server = Some(cx.waker().clone()),
        }
    }

    fn poll_inform(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(interim) = &mut self.interim else {
            return Poll::Ready(Ok(()));
        };
        if let Some(begun) = self.go_on.as_mut().filter(|go_on| go_on.has_begun()) {
            ready!(self.wire.poll_write(cx, begun))?;
            self.forget_go_on();
            return self.poll_inform(cx);
        }
        ready!(self.wire.poll_write(cx, interim))?;
        self.interim = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(()))
    }

    fn forget_go_on(&mut self) {
        self.go_on = None;
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// The body has ended, one way or the other; `reader` is who found out, if anybody did.
    fn ended(&mut self, body: Body, reader: Option<&Waker>) {
        if self.body != Body::Coming {
            return;
        }
        self.body = body;
        // In the same task the server has its turn after the reader.
        let is_same_task = |server: &Waker| reader.is_some_and(|r| r.will_wake(server));
        if let Some(server) = self.server.take().filter(|server| !is_same_task(server)) {
            server.wake();
        }
    }
}

impl Receiving {
    /// Whether all of it has been read.
    pub fn is_over(&self) -> bool {
        self.0.is_none()
    }

    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(shared) = &self.0 else {
            return Poll::Ready(None);
        };
        let mut state = shared.borrow_mut();
        let State {
            wire,
            decoder,
            go_on,
            interim,
            reader,
            ..
        } = &mut *state;
        if let Some(message) = go_on {
            if interim.as_ref().is_some_and(|begun| begun.has_begun()) {
                // The server has begun to write that, and will wake us.
                *reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            // The server may write it instead, or something better.
            *reader = Some(cx.waker().clone());
            ready!(wire.poll_write(cx, message)).map_err(Error::Io)?;
            (*go_on, *reader) = (None, None);
        }
        let frame = ready!(wire.poll_frame(cx, decoder));
        let body = match &frame {
            Some(Err(_)) => Body::Abandoned,
            Some(Ok(_)) if !decoder.is_over() => Body::Coming,
            _ => Body::Over,
        };
        state.ended(body, Some(cx.waker()));
        drop(state);
        if body == Body::Over {
            self.0 = None;
        }
        Poll::Ready(frame)
    }
}

impl Drop for Receiving {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.borrow_mut().ended(Body::Abandoned, None);
        }
    }
}
