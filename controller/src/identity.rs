//! Identities of workloads: whose they are, and certificates that say so.
//!
//! ```text
//! files ──> authority (issuer, anchors, token key) ──watch──> certify   gRPC, 8080
//!                                                    └──────> overview  /identity.json, /metrics
//! proxy: identity, token, CSR ──> csr ──> token | review ──> name ──> issuer ──> certificate
//! ```
//! [`Identity`] is what the rest of the controller sees. Everything that decides is a pure function of
//! texts, bytes and a moment, in the modules below; [`authority`] alone reads files, [`review`] alone
//! talks to a cluster. Endpoints and policies do not come here: all they need is
//! [`name::Identities`], which is part of what configuration says.

pub mod anchors;
pub mod authority;
pub mod certificate;
pub mod certify;
pub mod csr;
pub mod files;
pub mod issuer;
pub mod name;
pub mod review;
#[cfg(test)]
pub(crate) mod testing;
pub mod token;

use self::{
    authority::Authority,
    certificate::Summary,
    certify::Certify,
    files::{Paths, UnreadableFile},
    issuer::Terms,
    name::Identities,
    review::{ApiServer, NoCluster},
    token::Tokens,
};
use crate::metrics::{Metrics, Page};
use serde::Serialize;
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::sync::watch;

/// What the service is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// The names that are given.
    pub identities: Identities,
    /// Where the material is.
    pub paths: Paths,
    /// What certificates are like.
    pub terms: Terms,
}

/// The identity service, for those who run it and show it.
#[derive(Clone)]
pub struct Identity {
    config: Config,
    authority: watch::Receiver<Arc<Authority>>,
    metrics: Arc<Metrics>,
}

/// The service cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file is not there.
    #[error(transparent)]
    File(#[from] UnreadableFile),
    /// There is no key for tokens, and nobody to ask about them.
    #[error("without --identity-token-key tokens are verified by a cluster: {0}")]
    NoCluster(#[from] NoCluster),
}

/// What `/identity.json` shows.
#[derive(Debug, Serialize)]
pub struct Overview {
    trust_domain: Arc<str>,
    namespace: Arc<str>,
    issuer: Option<Summary>,
    trust_anchors: Vec<Summary>,
    errors: Vec<String>,
}

impl Identity {
    /// Reads the material for the first time. Runs until the other part, a loop that watches the
    /// files, is dropped.
    ///
    /// # Errors
    /// When a file cannot be read, or there is nobody to verify tokens.
    pub async fn start(
        config: Config,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, impl Future<Output = ()> + Send + 'static), StartError> {
        let tokens: Option<Arc<dyn Tokens>> = match &config.paths.token_key {
            Some(_) => None,
            None => Some(Arc::new(ApiServer::of_environment().await?)),
        };
        let Config {
            identities, paths, ..
        } = config.clone();
        let files = authority::Files::open(paths, identities, tokens, metrics.clone())?;
        let identity = Self {
            config,
            authority: files.authority(),
            metrics,
        };
        Ok((identity, files.watch()))
    }

    /// The gRPC service.
    pub fn service(&self) -> Certify {
        let Config {
            identities, terms, ..
        } = &self.config;
        let authority = self.authority.clone();
        Certify::new(authority, identities.clone(), *terms, self.metrics.clone())
    }

    /// What is in force, for people.
    pub fn overview(&self) -> Overview {
        let authority = self.authority.borrow().clone();
        let anchors = authority
            .anchors
            .iter()
            .flat_map(|anchors| anchors.certificates());
        Overview {
            trust_domain: self.config.identities.trust_domain().clone(),
            namespace: self.config.identities.control_namespace().clone(),
            issuer: authority
                .issuer
                .as_ref()
                .map(|i| i.certificate().summary.clone()),
            trust_anchors: anchors.map(|c| c.summary.clone()).collect(),
            errors: errors(&authority, OffsetDateTime::now_utc()),
        }
    }

    /// A line for what is in force, and one for each thing that is wrong.
    pub fn lines(&self) -> Vec<String> {
        let authority = self.authority.borrow().clone();
        let errors = errors(&authority, OffsetDateTime::now_utc());
        let errors = errors.into_iter().map(|error| format!("bad: {error}"));
        let issuer = authority.issuer.as_ref().map(|issuer| {
            let Summary {
                subject, not_after, ..
            } = &issuer.certificate().summary;
            format!("issuer {subject} until {not_after}")
        });
        issuer.into_iter().chain(errors).collect()
    }

    /// Writes the numbers of the service.
    pub fn write(&self, page: &mut Page) {
        self.metrics.write_identity(page);
        let Some(issuer) = self.authority.borrow().issuer.clone() else {
            return;
        };
        let until = issuer.certificate().until.unix_timestamp();
        let left = until - OffsetDateTime::now_utc().unix_timestamp();
        let at_least_zero = |seconds: i64| u64::try_from(seconds).unwrap_or(0);
        page.one("issuer_cert_ttl_seconds", "gauge", at_least_zero(left));
        let name = "issuer_cert_expiration_timestamp_seconds";
        page.one(name, "gauge", at_least_zero(until));
    }
}

/// What is wrong with the files, and what time has done to what was good.
fn errors(authority: &Authority, now: OffsetDateTime) -> Vec<String> {
    let mut errors = authority.problems.lines();
    if let Some(issuer) = &authority.issuer
        && issuer.until() <= now
    {
        let until = certificate::rfc3339(issuer.until());
        errors.push(format!("issuer: its certificates expired at {until}"));
    }
    for anchor in authority.anchors.iter().flat_map(|a| a.certificates()) {
        if let Some(problem) = anchor.dates(now) {
            errors.push(format!(
                "trust anchors: {:?} {problem}",
                anchor.summary.subject
            ));
        }
    }
    errors
}

/// Fills `bytes` from the generator that keys come from.
fn random(bytes: &mut [u8]) -> Result<(), rustls::crypto::GetRandomFailed> {
    rustls::crypto::aws_lc_rs::default_provider()
        .secure_random
        .fill(bytes)
}
