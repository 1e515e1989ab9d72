//! What can go wrong with a request or a connection, as values: each knows what it is called in
//! metrics and whether the request was sent. What the client is told is in [`crate::http::rescue`].

use crate::{addr::Target, balance::Unavailable, http::http1, tls};
use mesh_policy::authz::Deny;
use std::{error::Error as StdError, io, net::SocketAddr, time::Duration};

/// An error of any kind.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a request or connection was not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No endpoint.
    #[error("{target}: {source}")]
    Unavailable {
        /// What it was addressed to.
        target: Target,
        /// Waited too long, or too many waited.
        source: Unavailable,
    },
    /// As many requests are in flight as may be.
    #[error("max-concurrency exhausted: {limit} requests are in flight")]
    MaxInFlight {
        /// The limit.
        limit: usize,
    },
    /// As many connections to an endpoint are open as may be.
    #[error("too many connections to {addr}")]
    MaxConnections {
        /// The endpoint.
        addr: SocketAddr,
    },
    /// A connection could not be made.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection broke before the answer came, or the stream was reset.
    #[error("{addr}: {source}")]
    Upstream {
        /// The endpoint.
        addr: SocketAddr,
        /// What was wrong.
        source: HttpError,
    },
    /// Policy names no backend.
    #[error("{target}: policy names no backend")]
    NoBackend {
        /// What it was addressed to.
        target: Target,
    },
    /// Nobody knows the target.
    #[error("{target}: {why}")]
    Unresolved {
        /// What it was addressed to.
        target: Target,
        /// What was tried.
        why: String,
    },
    /// The request would come back to this very proxy.
    #[error("{target}: request loop detected")]
    Loop {
        /// What it was addressed to.
        target: Target,
    },
    /// The client may not.
    #[error(transparent)]
    Unauthorized(#[from] Deny),
    /// The request says where it goes in a way that makes no sense.
    #[error("invalid request: {0}")]
    BadRequest(&'static str),
}

/// What became of HTTP on a connection.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// HTTP/1.
    #[error("{0}")]
    Http1(#[source] http1::Error),
    /// h2's account of it.
    #[error("{0}")]
    Http2(#[source] h2::Error),
}

/// A connection that was not made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kernel said no.
    #[error("connect {addr}: {source}")]
    Io {
        /// Where to.
        addr: SocketAddr,
        /// The error of the socket.
        source: io::Error,
    },
    /// Nothing was heard in time.
    #[error("connect {addr}: timed out after {timeout:?}")]
    Timeout {
        /// Where to.
        addr: SocketAddr,
        /// The deadline.
        timeout: Duration,
    },
    /// TLS did not come about, or the peer is not who it should be.
    #[error("connect {addr}: {source}")]
    Tls {
        /// Where to.
        addr: SocketAddr,
        /// What was wrong.
        source: tls::Error,
    },
    /// The endpoint is meshed, but there is no certificate to show it.
    #[error("connect {addr}: this workload has no certificate (see /ready)")]
    NotCertified {
        /// Where to.
        addr: SocketAddr,
    },
    /// The endpoint is this very proxy: what is sent there would come back.
    #[error("connect {addr}: this very proxy listens there; name the application's port instead")]
    Own {
        /// Where to.
        addr: SocketAddr,
    },
    /// HTTP/2 did not come about on the connection.
    #[error("connect {addr}: {source}")]
    Handshake {
        /// Where to.
        addr: SocketAddr,
        /// What was wrong.
        source: HttpError,
    },
}

impl Error {
    /// A request whose place is empty: it was sent already, so it is not sent again.
    pub const TAKEN: Self = Self::BadRequest("sent already");

    /// A request whose body ended before it was whole.
    pub const BROKEN_BODY: Self = Self::BadRequest("the body is malformed or was cut short");

    /// Whether the endpoint that was asked is to blame.
    pub fn blames_endpoint(&self) -> bool {
        !matches!(self, Self::BadRequest(_))
    }

    /// The name in `outbound_http_errors_total`, `inbound_http_errors_total` and `response_total`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Unavailable {
                source: Unavailable::FailFast { .. } | Unavailable::Unresolved,
                ..
            } => "failfast",
            Self::Unavailable {
                source: Unavailable::QueueFull,
                ..
            }
            | Self::MaxInFlight { .. }
            | Self::MaxConnections { .. } => "loadshed",
            Self::Connect(_) | Self::Upstream { .. } => "i/o",
            Self::Loop { .. } => "gateway loop",
            Self::Unauthorized(_) => "unauthorized",
            Self::NoBackend { .. } | Self::Unresolved { .. } | Self::BadRequest(_) => "unexpected",
        }
    }

    /// The name in the `error` label of `outbound_http_route_*`.
    pub fn route_name(&self) -> &'static str {
        match self {
            Self::Unavailable {
                source: Unavailable::FailFast { .. } | Unavailable::Unresolved,
                ..
            } => "FAIL_FAST",
            Self::Unavailable {
                source: Unavailable::QueueFull,
                ..
            }
            | Self::MaxInFlight { .. }
            | Self::MaxConnections { .. } => "LOAD_SHED",
            Self::Upstream { source, .. } => reset_name(source),
            Self::Connect(_) => "IO",
            _ => "UNKNOWN",
        }
    }
}

/// How the peer ended a stream, if it did.
fn reset_name(error: &HttpError) -> &'static str {
    match h2_reason(error) {
        Some(h2::Reason::CANCEL) => "CANCEL",
        Some(h2::Reason::REFUSED_STREAM) => "REFUSED",
        Some(h2::Reason::ENHANCE_YOUR_CALM) => "ENHANCE_YOUR_CALM",
        Some(_) => "RESET",
        None => "IO",
    }
}

/// The HTTP/2 error code behind an error, if there is one.
pub fn h2_reason(error: &(dyn StdError + 'static)) -> Option<h2::Reason> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return match h2.reason() {
                // What a peer that goes away has not looked at (RFC 9113, section 6.8).
                Some(h2::Reason::NO_ERROR) if h2.is_go_away() => Some(h2::Reason::REFUSED_STREAM),
                reason => reason,
            };
        }
        cause = error.source();
    }
    None
}
