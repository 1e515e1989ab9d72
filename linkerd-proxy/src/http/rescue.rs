//! What a client is told when the proxy answers in place of an endpoint: one table, for both
//! directions, after Linkerd's (status, gRPC code, whether the connection ends).

use super::{
    Body, Response,
    headers::{L5D_PROXY_CONNECTION, L5D_PROXY_ERROR},
};
use crate::{
    balance::Unavailable,
    error::{ConnectError, Error},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use std::fmt::Write as _;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Longest text in `l5d-proxy-error` and `grpc-message`.
const MAX_MESSAGE: usize = 512;

/// Goes with an answer after which the client's connection ends: an HTTP/1 one at once, an HTTP/2 one
/// when the streams that are open have ended.
#[derive(Clone, Copy, Debug)]
pub struct EndsConnection;

/// How an error is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    grpc: u16,
    ends_connection: bool,
}

/// What matters about the request for how it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The request's version.
    pub version: Version,
    /// Whether it was gRPC.
    pub is_grpc: bool,
    /// Whether the client may know why.
    pub explain: bool,
}

/// The answer to a request that failed with `error`.
pub fn response(error: &Error, context: Context) -> Response {
    let answer = answer(error);
    let mut response = http::Response::new(Body::empty());
    let headers = response.headers_mut();
    let message = message(error);
    if context.is_grpc {
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        );
        headers.insert(GRPC_STATUS, answer.grpc.into());
        if context.explain {
            headers.insert(GRPC_MESSAGE, percent_encoded(&message));
        }
    }
    if context.explain {
        headers.insert(L5D_PROXY_ERROR, message);
        if answer.ends_connection {
            headers.insert(L5D_PROXY_CONNECTION, HeaderValue::from_static("close"));
        }
    }
    if answer.ends_connection {
        response.extensions_mut().insert(EndsConnection);
    }
    if !context.is_grpc {
        *response.status_mut() = answer.status;
    }
    response
}

/// What ends a gRPC answer that broke off: the status of [`Error::Upstream`]. Why it did is told to nobody,
/// for here it is not known who may know.
pub fn grpc_trailers() -> HeaderMap {
    HeaderMap::from_iter([
        (GRPC_STATUS, HeaderValue::from_static("14")),
        (
            GRPC_MESSAGE,
            HeaderValue::from_static("the answer was cut short"),
        ),
    ])
}

/// Whether the client's connection ends after an answer.
pub fn ends_connection<B>(response: &http::Response<B>) -> bool {
    response.extensions().get::<EndsConnection>().is_some()
}

/// Takes note of what the proxy of an endpoint says of its own answer: that it wants the client's
/// connection ended.
pub fn heed_peer<B>(response: &mut http::Response<B>) {
    let said = response.headers().get(L5D_PROXY_CONNECTION);
    if said.is_some_and(|said| said == "close") {
        response.extensions_mut().insert(EndsConnection);
    }
}

fn answer(error: &Error) -> Answer {
    use StatusCode as S;
    let (status, grpc, ends_connection) = match error {
        Error::Unavailable {
            source: Unavailable::FailFast { .. } | Unavailable::Unresolved,
            ..
        }
        | Error::Connect(ConnectError::Timeout { .. }) => (S::GATEWAY_TIMEOUT, 4, true),
        Error::Unavailable {
            source: Unavailable::QueueFull,
            ..
        }
        | Error::MaxInFlight { .. }
        | Error::MaxConnections { .. } => (S::SERVICE_UNAVAILABLE, 14, true),
        Error::Connect(_)
        | Error::Upstream { .. }
        | Error::NoBackend { .. }
        | Error::Unresolved { .. } => (S::BAD_GATEWAY, 14, true),
        Error::Loop { .. } => (S::LOOP_DETECTED, 10, true),
        Error::Unauthorized(_) => (S::FORBIDDEN, 7, false),
        Error::BadRequest(_) => (S::BAD_REQUEST, 13, true),
    };
    Answer {
        status,
        grpc,
        ends_connection,
    }
}

/// The error as a header value: visible ASCII, bounded.
fn message(error: &Error) -> HeaderValue {
    let mut text = String::new();
    // Writing to a string does not fail.
    let _ = write!(text, "{error}");
    let visible = |c: char| if (' '..='~').contains(&c) { c } else { '?' };
    let text: String = text.chars().map(visible).take(MAX_MESSAGE).collect();
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("unexpected error"))
}

/// `grpc-message` is percent-encoded; of what is visible ASCII only `%` needs it.
fn percent_encoded(message: &HeaderValue) -> HeaderValue {
    let text = message.to_str().unwrap_or_default().replace('%', "%25");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Target;
    use std::{io, time::Duration};

    fn target() -> Target {
        Target::Name("web".into(), 80)
    }

    fn context(version: Version, is_grpc: bool, explain: bool) -> Context {
        Context {
            version,
            is_grpc,
            explain,
        }
    }

    #[test]
    fn every_error_has_its_status_and_code() {
        let addr = "127.0.0.1:1".parse().unwrap();
        let io = io::Error::from(io::ErrorKind::ConnectionRefused);
        for (error, status, grpc) in [
            (
                Error::Unavailable {
                    target: target(),
                    source: Unavailable::FailFast { refusal: None },
                },
                504,
                4,
            ),
            (
                Error::Unavailable {
                    target: target(),
                    source: Unavailable::QueueFull,
                },
                503,
                14,
            ),
            (Error::MaxInFlight { limit: 1 }, 503, 14),
            (ConnectError::Io { addr, source: io }.into(), 502, 14),
            (
                ConnectError::Timeout {
                    addr,
                    timeout: Duration::ZERO,
                }
                .into(),
                504,
                4,
            ),
            (Error::NoBackend { target: target() }, 502, 14),
            (Error::Loop { target: target() }, 508, 10),
        ] {
            let http = response(&error, context(Version::HTTP_11, false, true));
            assert_eq!(http.status(), status, "{error}");
            assert!(ends_connection(&http));
            assert!(http.headers().contains_key(L5D_PROXY_ERROR));
            let rpc = response(&error, context(Version::HTTP_2, true, true));
            assert_eq!(rpc.status(), 200);
            assert_eq!(
                rpc.headers()["grpc-status"],
                grpc.to_string().as_str(),
                "{error}"
            );
            assert!(ends_connection(&rpc));
        }
    }

    #[test]
    fn strangers_are_told_nothing() {
        let error = Error::MaxInFlight { limit: 1 };
        let answer = response(&error, context(Version::HTTP_11, false, false));
        assert!(!answer.headers().contains_key(L5D_PROXY_ERROR));
        assert!(!answer.headers().contains_key(L5D_PROXY_CONNECTION));
    }
}
