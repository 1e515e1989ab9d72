//! `io.linkerd.proxy.identity.Identity`: a certificate for whoever proves a service account.
//!
//! A call goes through [`Certify::certify`] in the order of the checks: the request, the CSR, the
//! token, the name, the issuer. What stops it is a [`Refusal`], which is told to the proxy with
//! Linkerd's codes, to the log, and to a metric. What each check means is in the modules that make it.

use super::{
    authority::Authority,
    certificate::{rfc3339, unix},
    csr::{self, CsrError},
    issuer::{IssueError, Issued, Terms},
    name::{Identities, ServiceAccount},
    token::TokenError,
};
use crate::{
    grpc::{Frame, Method, Methods, Pending, Reply, decode},
    metrics::Metrics,
};
use bytes::Bytes;
use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse};
use std::{sync::Arc, time::Duration};
use time::OffsetDateTime;
use tokio::{
    sync::{Semaphore, watch},
    time::timeout,
};
use tonic::{Code, Status, metadata::MetadataMap};

/// How long whoever knows tokens may take.
const TOKEN_DEADLINE: Duration = Duration::from_secs(5);
/// Calls in hand: all proxies of a node that restarts, but not all of a cluster.
const MAX_CALLS: usize = 256;
/// Of a DNS name.
const MAX_NAME: usize = 253;

/// The service.
pub struct Certify(Arc<Shared>);

struct Shared {
    authority: watch::Receiver<Arc<Authority>>,
    identities: Identities,
    terms: Terms,
    calls: Semaphore,
    metrics: Arc<Metrics>,
    clock: fn() -> OffsetDateTime,
}

/// Why somebody gets no certificate.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{MAX_CALLS} certificates are being worked on: try again")]
    Busy,
    #[error("{0}")]
    Malformed(String),
    #[error(transparent)]
    Csr(#[from] CsrError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error("cannot verify the token: no answer in {TOKEN_DEADLINE:?}")]
    Deadline,
    #[error("the token is of {owner}, whose identity is {identity:?}")]
    Mismatch {
        owner: ServiceAccount,
        identity: String,
    },
    #[error("there is no issuer: {0}")]
    NotReady(String),
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl Methods for Certify {
    const NAME: &'static str = "io.linkerd.proxy.identity.Identity";

    fn method(name: &str) -> Option<Method<Self>> {
        (name == "Certify").then_some(Method::Unary(Self::certify))
    }
}

impl Certify {
    /// Certifies with what is in force when it is asked.
    pub fn new(
        authority: watch::Receiver<Arc<Authority>>,
        identities: Identities,
        terms: Terms,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self(Arc::new(Shared {
            authority,
            identities,
            terms,
            calls: Semaphore::new(MAX_CALLS),
            metrics,
            clock: OffsetDateTime::now_utc,
        }))
    }

    fn certify(&self, request: Bytes) -> Pending {
        let shared = self.0.clone();
        Box::pin(async move { shared.answer(request).await })
    }
}

// === impl Shared ===

impl Shared {
    async fn answer(&self, request: Bytes) -> Result<Reply, Status> {
        let request: CertifyRequest = match decode(request) {
            Ok(request) => request,
            Err(status) => {
                self.metrics.certified("malformed");
                return Err(status);
            }
        };
        let identity = &*request.identity;
        match self.certify(&request).await {
            Ok(Issued {
                leaf,
                chain,
                until,
                serial,
            }) => {
                self.metrics.certified("ok");
                let until_text = rfc3339(until);
                tracing::info!(identity, serial, until = until_text, "identity: certified");
                let response = CertifyResponse {
                    leaf_certificate: leaf.to_vec(),
                    intermediate_certificates: chain.iter().map(|c| c.to_vec()).collect(),
                    valid_until: Some(timestamp(until)),
                };
                let frame = Frame::of(&response);
                Ok(Reply {
                    frame,
                    metadata: self.metadata(),
                })
            }
            Err(refusal) => {
                self.metrics.certified(refusal.reason());
                // It may be anything, of any length that a request has.
                let identity: String = identity.chars().take(MAX_NAME).collect();
                tracing::warn!(
                    ?identity,
                    reason = refusal.reason(),
                    "identity: refused: {refusal}"
                );
                Err(Status::new(refusal.code(), refusal.to_string()))
            }
        }
    }

    async fn certify(&self, request: &CertifyRequest) -> Result<Issued, Refusal> {
        let _call = self.calls.try_acquire().map_err(|_| Refusal::Busy)?;
        let CertifyRequest {
            identity,
            token,
            certificate_signing_request,
        } = request;
        let token = check(identity, token)?;
        let csr = csr::verify(certificate_signing_request, identity)?;

        let tokens = self.authority.borrow().tokens.clone();
        let owner = timeout(TOKEN_DEADLINE, tokens.owner(token)).await;
        let owner = owner.map_err(|_| Refusal::Deadline)??;
        let derived = self.identities.of(&owner);
        if derived != *identity {
            return Err(Refusal::Mismatch {
                owner,
                identity: derived,
            });
        }

        // As it is by now: it may have been replaced in the meantime.
        let authority = self.authority.borrow().clone();
        let problem = || authority.problems.lines().join("; ");
        let issuer = authority
            .issuer
            .as_ref()
            .ok_or_else(|| Refusal::NotReady(problem()))?;
        Ok(issuer.issue(identity, &csr, self.terms, (self.clock)())?)
    }

    fn metadata(&self) -> MetadataMap {
        let anchors = self.authority.borrow().anchors.clone();
        anchors
            .map(|anchors| anchors.metadata().clone())
            .unwrap_or_default()
    }
}

/// The token, of a request in which something stands everywhere.
fn check<'a>(identity: &str, token: &'a [u8]) -> Result<&'a str, Refusal> {
    if identity.is_empty() || identity.len() > MAX_NAME {
        let problem = format!("identity: expected a DNS name of 1 to {MAX_NAME} bytes");
        return Err(Refusal::Malformed(problem));
    }
    if token.is_empty() {
        return Err(Refusal::Malformed("token: missing".to_owned()));
    }
    str::from_utf8(token).map_err(|_| Refusal::Malformed("token: it is not text".to_owned()))
}

fn timestamp(moment: OffsetDateTime) -> prost_types::Timestamp {
    prost_types::Timestamp {
        // Certificates do not go back beyond 1970.
        seconds: i64::try_from(unix(moment).as_secs()).unwrap_or(i64::MAX),
        nanos: 0,
    }
}

// === impl Refusal ===

impl Refusal {
    /// Linkerd's, and those it has no use for.
    fn code(&self) -> Code {
        match self {
            Self::Busy => Code::ResourceExhausted,
            Self::Malformed(_)
            | Self::Csr(CsrError::Malformed(_))
            | Self::Token(TokenError::Malformed(_)) => Code::InvalidArgument,
            Self::Token(TokenError::Unavailable(_)) => Code::Internal,
            Self::Csr(_) | Self::Token(_) | Self::Mismatch { .. } => Code::FailedPrecondition,
            Self::Deadline => Code::DeadlineExceeded,
            Self::NotReady(_) | Self::Issue(IssueError::Expired(_)) => Code::Unavailable,
            Self::Issue(_) => Code::Internal,
        }
    }

    /// For metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Malformed(_) => "malformed",
            Self::Csr(error) => error.reason(),
            Self::Token(error) => error.reason(),
            Self::Deadline => "token_deadline",
            Self::Mismatch { .. } => "identity_mismatch",
            Self::NotReady(_) => "no_issuer",
            Self::Issue(IssueError::Expired(_)) => "issuer_expired",
            Self::Issue(_) => "signing",
        }
    }
}

#[cfg(test)]
mod tests;
