//! Whether an answer was a success, by Linkerd's default rules: an HTTP status of 500 or more, or
//! a gRPC status that blames the server, is a failure. Pure.

use http::{HeaderMap, StatusCode};

/// The verdict on an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It counts as a success.
    Success {
        /// The gRPC status, when it was a gRPC answer.
        grpc: Option<u16>,
    },
    /// It counts as a failure.
    Failure {
        /// The gRPC status, when it was a gRPC answer.
        grpc: Option<u16>,
        /// The error that took the place of an answer, or cut it short.
        error: &'static str,
    },
}

impl Class {
    /// Classifies an answer by its status and by the headers or trailers that end it.
    pub fn of(status: StatusCode, end: Option<&HeaderMap>) -> Self {
        match end.and_then(grpc_status) {
            Some(code) => Self::of_grpc(code),
            None if status.is_server_error() => Self::Failure {
                grpc: None,
                error: "",
            },
            None => Self::Success { grpc: None },
        }
    }

    /// Classifies a gRPC answer by its status.
    pub fn of_grpc(code: u16) -> Self {
        let grpc = Some(code);
        if is_grpc_failure(code) {
            Self::Failure { grpc, error: "" }
        } else {
            Self::Success { grpc }
        }
    }

    /// What became of a request that `error` ended.
    pub fn error(self) -> &'static str {
        match self {
            Self::Success { .. } => "",
            Self::Failure { error, .. } => error,
        }
    }

    /// `success` or `failure`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Success { .. } => "success",
            Self::Failure { .. } => "failure",
        }
    }

    /// The gRPC status, when there is one.
    pub fn grpc_status(self) -> Option<u16> {
        match self {
            Self::Success { grpc } | Self::Failure { grpc, .. } => grpc,
        }
    }

    /// Whether this is a failure.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::Failure { .. })
    }
}

/// The `grpc-status` of headers or trailers; a malformed one counts as UNKNOWN (2).
pub fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    let value = headers.get("grpc-status")?;
    let code = value.to_str().ok().and_then(|v| v.parse().ok());
    Some(code.filter(|&c| c <= 16).unwrap_or(2))
}

/// UNKNOWN, DEADLINE_EXCEEDED, PERMISSION_DENIED, INTERNAL, UNAVAILABLE, DATA_LOSS.
fn is_grpc_failure(code: u16) -> bool {
    matches!(code, 2 | 4 | 7 | 13 | 14 | 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grpc(code: &str) -> HeaderMap {
        HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())])
    }

    #[test]
    fn http_fails_from_500_on() {
        assert!(!Class::of(StatusCode::NOT_FOUND, None).is_failure());
        assert!(Class::of(StatusCode::INTERNAL_SERVER_ERROR, None).is_failure());
    }

    #[test]
    fn grpc_is_judged_by_its_own_status() {
        for (code, failure) in [
            ("0", false),
            ("5", false),
            ("14", true),
            ("2", true),
            ("x", true),
        ] {
            let class = Class::of(StatusCode::OK, Some(&grpc(code)));
            assert_eq!(class.is_failure(), failure, "grpc-status {code}");
        }
        assert_eq!(
            Class::of(StatusCode::OK, Some(&grpc("99"))).grpc_status(),
            Some(2)
        );
    }
}
