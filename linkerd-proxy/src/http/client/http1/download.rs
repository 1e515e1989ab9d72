//! The body of an answer over HTTP/1, which drives what is left of its request, and frees the connection
//! when both are over.

use super::{
    Connection,
    sending::{Failed, Sending},
};
use crate::{
    http::{
        client::REST_TIMEOUT,
        http1::{Decoded, Decoder, Error, Malformed, Spelling},
    },
    io::Conn,
};
use bytes::Bytes;
use http_body::Frame;
use std::{
    future::poll_fn,
    task::{Context, Poll, ready},
};
use tokio::{task::spawn_local, time::timeout};

/// The body of an answer.
pub struct Download {
    /// What came with the head.
    first: Option<Bytes>,
    rest: Rest,
    spelling: Spelling,
}

enum Rest {
    /// All has come.
    Over,
    Coming(Box<Coming>),
    /// There is no body: the connection speaks something else now.
    Switched(Box<Connection>),
}

struct Coming {
    connection: Connection,
    decoder: Decoder,
    sending: Option<Sending>,
    is_request_broken: bool,
    keep_alive: bool,
}

impl Download {
    /// What follows a head that was just read.
    ///
    /// # Errors
    ///
    /// [`Malformed`] when what has come of it is not framed as the head says.
    pub(super) fn new(
        mut connection: Connection,
        (mut decoder, spelling): (Decoder, Spelling),
        sending: Option<Sending>,
        keep_alive: bool,
    ) -> Result<Self, Malformed> {
        let first = match decoder {
            Decoder::Length(1..) => connection.wire.decode(&mut decoder)?,
            _ => Decoded::NeedMore,
        };
        let coming = Coming {
            connection,
            decoder,
            sending,
            is_request_broken: false,
            keep_alive,
        };
        Ok(Self {
            first: match first {
                Decoded::Data(data) => Some(data),
                _ => None,
            },
            rest: match coming.decoder.is_over() {
                true => {
                    // It came whole: the connection is free before the answer is passed on.
                    coming.end();
                    Rest::Over
                }
                false => Rest::Coming(Box::new(coming)),
            },
            spelling,
        })
    }

    /// An answer after which the connection is not HTTP's any more.
    pub(super) fn switched(connection: Connection, spelling: Spelling) -> Self {
        Self {
            first: None,
            rest: Rest::Switched(Box::new(connection)),
            spelling,
        }
    }

    /// The connection, if it speaks something else now.
    pub fn take_switched(&mut self) -> Option<Conn> {
        match std::mem::replace(&mut self.rest, Rest::Over) {
            Rest::Switched(connection) => Some(connection.wire.into_conn()),
            rest => {
                self.rest = rest;
                None
            }
        }
    }

    /// How the answer's header names were spelled.
    pub fn take_spelling(&mut self) -> Spelling {
        std::mem::take(&mut self.spelling)
    }

    /// Whether nothing more will come.
    pub fn is_end_stream(&self) -> bool {
        self.first.is_none() && !matches!(self.rest, Rest::Coming(_))
    }

    /// Goes on with the request while nobody takes the answer: who sends it may do that first.
    pub fn go_on_sending(&mut self, cx: &mut Context<'_>) {
        if let Rest::Coming(coming) = &mut self.rest {
            coming.go_on_sending(cx);
        }
    }

    /// The next frame.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if let Some(data) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        let Rest::Coming(coming) = &mut self.rest else {
            return Poll::Ready(None);
        };
        let frame = ready!(coming.poll_frame(cx));
        let is_broken = matches!(frame, Some(Err(_)));
        if (is_broken || frame.is_none() || coming.decoder.is_over())
            && let Rest::Coming(coming) = std::mem::replace(&mut self.rest, Rest::Over)
            && !is_broken
        {
            coming.end();
        }
        Poll::Ready(frame)
    }
}

impl Coming {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.go_on_sending(cx);
        if self.is_request_broken {
            return Poll::Ready(Some(Err(Error::Incomplete)));
        }
        self.connection.wire.poll_frame(cx, &mut self.decoder)
    }

    fn go_on_sending(&mut self, cx: &mut Context<'_>) {
        let Some(sending) = &mut self.sending else {
            return;
        };
        if let Poll::Ready(sent) = sending.poll(cx, &mut self.connection.wire) {
            self.sending = None;
            match sent {
                Ok(()) => {}
                Err(Failed::Body) => self.is_request_broken = true,
                // The answer may come whole all the same.
                Err(Failed::Write(_)) => self.keep_alive = false,
            }
        }
    }

    /// The answer has come whole. The rest of the request may take some more time.
    fn end(self) {
        let Self {
            mut connection,
            sending,
            keep_alive,
            ..
        } = self;
        let Some(mut sending) = sending else {
            if keep_alive {
                connection.release();
            }
            return;
        };
        spawn_local(async move {
            let rest = poll_fn(|cx| sending.poll(cx, &mut connection.wire));
            if let Ok(Ok(())) = timeout(REST_TIMEOUT, rest).await
                && keep_alive
            {
                connection.release();
            }
        });
    }
}
