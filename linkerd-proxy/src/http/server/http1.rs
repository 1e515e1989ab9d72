//! HTTP/1 to a client: one request after the other, each answered in the task of the connection.
//!
//! Between requests a connection is its socket and little more: what a request needs is boxed and goes
//! with it.

mod receiving;

pub use self::receiving::Receiving;

use self::receiving::Shared;
use super::{Handler, TICK};
use crate::{
    drain::{self, Signal},
    error::BoxError,
    http::{
        Response, Upload,
        http1::{self, Asked, Broken, Error, Head, Malformed, Message},
        interim::Interim,
        rescue,
        upgrade::Switch,
    },
    io::Conn,
};
use http::Version;
use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Sleep, sleep, timeout},
};

/// How long a head may take from its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves until the client or the drain ends the connection, or it switches protocols; then it is
/// handed back, with what it switches to.
///
/// # Errors
///
/// Those of the connection, after the client was told if it can be.
pub async fn serve_http1<H: Handler>(
    conn: Conn,
    handler: H,
    drain: &Signal,
) -> io::Result<Option<(Conn, Switch)>> {
    let (client, interim) = (Shared::new(conn), Interim::default());
    let mut waiting = Waiting::new(drain);
    loop {
        let served = match poll_fn(|cx| waiting.poll_head(cx, &client)).await {
            Ok(None) => return Ok(None),
            // Boxed, so that an idle connection does not hold the room for it.
            Ok(Some(head)) => {
                Box::pin(serve_one(&client, head, &interim, handler.clone(), drain)).await
            }
            Err(failed) => Err(failed),
        };
        match served {
            Ok(Next::Request) => {}
            Ok(Next::Switch(switch)) => return Ok(client.into_conn().map(|conn| (conn, switch))),
            Ok(Next::End) => {
                Box::pin(linger(client.into_conn())).await;
                return Ok(None);
            }
            Err(failed) => return Err(Box::pin(refuse(client, failed)).await),
        }
    }
}

/// What follows an answer.
enum Next {
    Request,
    Switch(Switch),
    End,
}

/// Why serving a connection ended early.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Head(Error),
    #[error("request head took too long")]
    HeadOverdue,
    #[error("client went away before its answer")]
    Gone,
    #[error(transparent)]
    Handler(BoxError),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Answers one request.
async fn serve_one<H: Handler>(
    client: &Shared,
    head: Head<http::Request<()>>,
    interim: &Interim,
    handler: H,
    drain: &Signal,
) -> Result<Next, Failed> {
    let asked = Asked {
        method: head.message.method().clone(),
        version: head.message.version(),
    };
    let keep_alive = head.keep_alive;
    let body = client.receive(head.decoder, head.expects_continue);
    interim.begin();
    // HTTP/1.0 knows of no answers ahead of the answer.
    let informed = (asked.version == Version::HTTP_11).then(|| interim.clone());
    let body = Upload::http1(body, head.spelling).informed(informed);
    let request = head.message.map(|()| body);
    let mut answering = pin!(handler.handle(request));
    let response = poll_fn(|cx| {
        let response = answering.as_mut().poll(cx);
        client.inform(interim.take());
        if let Poll::Ready(response) = response {
            return Poll::Ready(response.map_err(Failed::Handler));
        }
        ready!(client.poll_inform(cx))?;
        client.poll_ended(cx).map(|()| Err(Failed::Gone))
    })
    .await?;
    let keep_alive = keep_alive && !drain.is_draining() && !client.is_body_abandoned();
    let keep_alive = keep_alive && !rescue::ends_connection(&response);
    let (kept, switch) = answer(client, response, &asked, keep_alive).await?;
    if let Some(switch) = switch {
        return Ok(Next::Switch(switch));
    }
    // The rest of the request may still be on its way to where the answer came from.
    match client.body_ended().await && kept {
        true => Ok(Next::Request),
        false => Ok(Next::End),
    }
}

/// Writes an answer; whether the connection can be kept after it, and what it switches to.
async fn answer(
    client: &Shared,
    mut response: Response,
    asked: &Asked,
    keep_alive: bool,
) -> Result<(bool, Option<Switch>), Failed> {
    client.answered();
    let switch = response.body_mut().take_switch();
    let spelling = response.body_mut().take_spelling();
    let (mut message, kept) = Message::response(&mut response, &spelling, asked, keep_alive);
    drop(spelling);
    let mut body = pin!(response.into_body());
    poll_fn(|cx| {
        loop {
            match message.poll_fill(cx, body.as_mut()) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(broken)) => {
                    if message.ends_with_connection() {
                        client.reset_on_close();
                    }
                    return Poll::Ready(Err(broken.into()));
                }
                Poll::Pending => {
                    // TLS may hold what was written before.
                    ready!(client.poll_write(cx, &mut message))?;
                    return client.poll_ended(cx).map(|()| Err(Failed::Gone));
                }
            }
            if client.poll_write(cx, &mut message)?.is_pending() {
                body.go_on_sending(cx);
                return Poll::Pending;
            }
            if message.is_whole() {
                return Poll::Ready(Ok(()));
            }
        }
    })
    .await?;
    Ok((kept, switch))
}

/// Tells the client what was wrong, if it can be told, and ends the connection.
async fn refuse(client: Shared, failed: Failed) -> io::Error {
    let status = match &failed {
        Failed::Head(Error::Malformed(Malformed::TooLarge)) => {
            Some("431 Request Header Fields Too Large")
        }
        Failed::Head(Error::Malformed(_)) => Some("400 Bad Request"),
        Failed::HeadOverdue => Some("408 Request Timeout"),
        _ => None,
    };
    if let (Some(status), Some(mut conn)) = (status, client.into_conn()) {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        // The client may be gone; then there is nobody to tell.
        let _ = timeout(TICK, conn.write_all(answer.as_bytes())).await;
        linger(Some(conn)).await;
    }
    io::Error::other(failed)
}

/// Ends our side and reads what the client still sends for a moment, so that its unread bytes do
/// not turn our close into a reset that destroys the answer on its way.
async fn linger(conn: Option<Conn>) {
    let Some(mut conn) = conn else {
        return;
    };
    let read_out = async {
        conn.shutdown().await?;
        let mut rest = [0; 1024];
        while conn.read(&mut rest).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Whatever comes of it, the connection ends here.
    let _ = timeout(TICK, read_out).await;
}

/// What a connection without a request waits for.
struct Waiting {
    drain: Option<drain::Waiting>,
    /// Runs once the drain has begun: a request may be on its way, and closing would fail it.
    farewell: Option<Pin<Box<Sleep>>>,
    /// Runs while there is a part of a head.
    overdue: Option<Pin<Box<Sleep>>>,
}

impl Waiting {
    fn new(drain: &Signal) -> Self {
        Self {
            drain: Some(drain.waiting()),
            farewell: None,
            overdue: None,
        }
    }

    /// The next head; nothing at the end of the connection, whoever ended it.
    fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        client: &Shared,
    ) -> Poll<Result<Option<Head<http::Request<()>>>, Failed>> {
        // Bytes that are there win over the drain: the client did not know of it yet.
        if let Poll::Ready(head) = client.poll_head(cx, http1::request) {
            self.overdue = None;
            return Poll::Ready(head.map_err(Failed::Head));
        }
        if client.has_input() {
            let overdue = self
                .overdue
                .get_or_insert_with(|| Box::pin(sleep(HEAD_TIMEOUT)));
            return overdue.as_mut().poll(cx).map(|()| Err(Failed::HeadOverdue));
        }
        if let Some(drain) = &mut self.drain {
            ready!(drain.poll(cx));
            self.drain = None;
        }
        let farewell = self.farewell.get_or_insert_with(|| Box::pin(sleep(TICK)));
        farewell.as_mut().poll(cx).map(|()| Ok(None))
    }
}
