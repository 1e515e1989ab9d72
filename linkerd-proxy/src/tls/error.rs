//! Why a handshake failed: as text for logs, as one word for metrics.

use super::clock::{self, rfc3339};
use rustls::{CertificateError, PeerIncompatible};
use std::{io, sync::Arc, time::SystemTime};

/// Why there is no verified connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The peer is somebody else.
    #[error("the peer proved to be {found:?}, not {expected}")]
    IdentityMismatch {
        /// Who was wanted.
        expected: Arc<str>,
        /// The names in the peer's certificate, with commas.
        found: String,
    },
    /// The peer's certificate, or one it chains to, has ended.
    #[error("the certificate ended at {}, by our clock it is {}", rfc3339(*.not_after), rfc3339(*.now))]
    Expired {
        /// Its end.
        not_after: SystemTime,
        /// Our time.
        now: SystemTime,
    },
    /// The peer's certificate, or one it chains to, has not begun.
    #[error(
        "the certificate is not valid before {}, by our clock it is {}: are the clocks right?",
        rfc3339(*.not_before), rfc3339(*.now)
    )]
    NotYetValid {
        /// Its beginning.
        not_before: SystemTime,
        /// Our time.
        now: SystemTime,
    },
    /// The peer's certificate does not chain to the roots.
    #[error("the certificate does not chain to the trust anchors of the mesh")]
    UnknownIssuer,
    /// The peer showed none.
    #[error("the peer showed no certificate")]
    NoCertificate,
    /// The peer's certificate is wrong in some other way.
    #[error("the certificate cannot be used: {0}")]
    BadCertificate(String),
    /// Our own certificate has ended; any peer would refuse it.
    #[error("our own certificate ended at {}", rfc3339(*.0))]
    OwnExpired(SystemTime),
    /// What to ask the peer for is no server name.
    #[error("{0:?} is not a server name")]
    BadServerName(Arc<str>),
    /// The two speak no common version of TLS.
    #[error("the peer does not speak TLS 1.3")]
    ProtocolVersion,
    /// The two have no suite, group or signature scheme in common.
    #[error("the peer shares no cryptography with us: {0}")]
    Incompatible(String),
    /// The peer refused the handshake.
    #[error("the peer refused the handshake: {0}")]
    Alert(String),
    /// The peer broke the protocol.
    #[error("the handshake went wrong: {0}")]
    Protocol(String),
    /// The connection broke.
    #[error(transparent)]
    Io(io::Error),
}

impl Error {
    /// One word for metrics; there are no more of them than kinds of errors.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::IdentityMismatch { .. } => "identity_mismatch",
            Self::Expired { .. } => "expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::UnknownIssuer => "unknown_issuer",
            Self::NoCertificate => "no_certificate",
            Self::BadCertificate(_) => "bad_certificate",
            Self::OwnExpired(_) => "own_certificate_expired",
            Self::BadServerName(_) => "bad_server_name",
            Self::ProtocolVersion => "protocol_version",
            Self::Incompatible(_) => "incompatible",
            Self::Alert(_) => "alert",
            Self::Protocol(_) => "protocol",
            Self::Io(_) => "io",
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        let inner = error.get_ref();
        match inner.and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(tls) => Self::from(tls.clone()),
            None => Self::Io(error),
        }
    }
}

impl From<rustls::Error> for Error {
    fn from(error: rustls::Error) -> Self {
        use rustls::Error as E;
        match error {
            E::InvalidCertificate(error) => Self::from_certificate(error),
            E::NoCertificatesPresented => Self::NoCertificate,
            E::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            )
            | E::AlertReceived(rustls::AlertDescription::ProtocolVersion) => Self::ProtocolVersion,
            E::PeerIncompatible(what) => Self::Incompatible(format!("{what:?}")),
            E::AlertReceived(alert) => Self::Alert(format!("{alert:?}")),
            error => Self::Protocol(error.to_string()),
        }
    }
}

impl Error {
    fn from_certificate(error: CertificateError) -> Self {
        match error {
            CertificateError::ExpiredContext { time, not_after } => Self::Expired {
                not_after: clock::from_unix(not_after),
                now: clock::from_unix(time),
            },
            CertificateError::NotValidYetContext { time, not_before } => Self::NotYetValid {
                not_before: clock::from_unix(not_before),
                now: clock::from_unix(time),
            },
            // Nothing chains to an anchor whose key did not sign it.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => Self::UnknownIssuer,
            error => Self::BadCertificate(error.to_string()),
        }
    }
}
