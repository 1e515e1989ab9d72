//! The life of a certificate: asked for, checked, published, renewed, and asked for again when
//! that fails. One task on the control thread.
//!
//! ```text
//!            +---------- pause (schedule::retry) <----------+
//!            v                                              |
//!   wait -> ask -> check -> publish -> wait (schedule::renewal) -> ask ...
//!            ^                          |
//!            +--- it no longer chains --+-- anchors changed: published at once
//! ```
//!
//! A certificate that is in force stays in force until its end, whatever fails.

use super::{
    Publisher,
    anchors::{self, Source},
    key, schedule,
};
use crate::{
    config,
    metrics::identity::Certificates,
    tls::{self, Certificate, Clock, Roots, rfc3339},
};
use rustls_pki_types::CertificateDer;
use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};
use tokio::time::{sleep, timeout};

/// A request and its answer take no longer.
const DEADLINE: Duration = Duration::from_secs(10);

/// The wall clock is looked at so often while waiting: it may be set, or the machine may sleep.
const GLANCE: Duration = Duration::from_secs(60);

/// Who certifies workloads.
pub trait Authority: Send + Sync + 'static {
    /// Asks for a certificate; each call may go to another replica. Its caller sets a deadline.
    ///
    /// # Errors
    ///
    /// Why there is none, for the log.
    fn certify(&self, ask: Ask) -> impl Future<Output = Result<Answer, String>> + Send;
}

/// A request for a certificate. The token is a secret.
pub struct Ask {
    /// The name that is asked for.
    pub identity: String,
    /// What proves the service account.
    pub token: Vec<u8>,
    /// PKCS #10, DER.
    pub csr: Vec<u8>,
}

/// A certificate, not checked yet.
pub struct Answer {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The trust anchors in force; only from a service that has proved its own name, otherwise
    /// none.
    pub anchors: Vec<CertificateDer<'static>>,
}

/// Why there is no new certificate.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("read the token {}: {error}", path.display())]
    Token { path: PathBuf, error: io::Error },
    #[error(transparent)]
    Key(#[from] key::KeyError),
    #[error("no answer of the identity service within {DEADLINE:?}")]
    Late,
    #[error("{0}")]
    Refused(String),
    #[error("the trust anchors that came with the certificate: {0}")]
    Anchors(#[from] tls::BadRoots),
    #[error("the certificate that was issued: {0}")]
    Unusable(#[from] tls::Error),
}

/// Keeps the certificate fresh.
pub(super) struct Certifier<A> {
    pub(super) config: config::Identity,
    pub(super) authority: A,
    pub(super) clock: Clock,
    pub(super) metrics: Certificates,
    pub(super) publisher: Publisher,
    pub(super) current: Option<Certificate>,
    pub(super) roots: Option<Roots>,
    /// Whether the identity service may replace the roots.
    pub(super) may_be_replaced: bool,
    /// When to ask next.
    pub(super) due: SystemTime,
    /// Attempts in a row that failed.
    pub(super) failures: u32,
}

enum Event {
    Anchors(Roots),
    Attempt(Result<(Certificate, Roots), Failure>),
}

impl<A: Authority> Certifier<A> {
    /// Runs until dropped.
    pub(super) async fn run(mut self, mut source: Source) {
        loop {
            let event = tokio::select! {
                // An attempt under way is given up: its answer would be judged by the old anchors.
                biased;
                roots = source.changed() => Event::Anchors(roots),
                attempt = self.attempt_when_due() => Event::Attempt(attempt),
            };
            match event {
                Event::Anchors(roots) => self.adopt(roots),
                Event::Attempt(Ok((certificate, roots))) => self.take(certificate, roots),
                Event::Attempt(Err(failure)) => self.failed(&failure),
            }
        }
    }

    async fn attempt_when_due(&self) -> Result<(Certificate, Roots), Failure> {
        let Some(roots) = &self.roots else {
            return std::future::pending().await;
        };
        while let Some(left) = until(self.due, self.clock.now()) {
            sleep(left.min(GLANCE)).await;
        }
        self.attempt(roots).await
    }

    /// Asks once, with a token read just now and a key made just now.
    async fn attempt(&self, roots: &Roots) -> Result<(Certificate, Roots), Failure> {
        let path = &self.config.token_file;
        let token = anchors::read(path).and_then(not_empty);
        let token = token.map_err(|error| Failure::Token {
            path: path.clone(),
            error,
        })?;
        let name = &self.config.name;
        let key::Request { key, csr } = key::Request::new(name, self.config.dir.as_deref())?;
        let asked = self.authority.certify(Ask {
            identity: name.to_string(),
            token,
            csr,
        });
        let answer = timeout(DEADLINE, asked).await;
        let answer = answer
            .map_err(|_| Failure::Late)?
            .map_err(Failure::Refused)?;
        let roots = match self.may_be_replaced && !answer.anchors.is_empty() {
            true => Roots::from_ders(answer.anchors)?,
            false => roots.clone(),
        };
        let certificate = Certificate::new(name, answer.chain, key)?;
        certificate.check(&roots, &self.clock)?;
        Ok((certificate, roots))
    }

    fn take(&mut self, certificate: Certificate, roots: Roots) {
        if let Err(error) = self.publisher.publish(Some(&certificate), &roots) {
            return self.failed(&error.into());
        }
        let (now, not_after) = (self.clock.now(), certificate.not_after());
        let left = until(not_after, now).unwrap_or_default();
        let wait = schedule::renewal(left, self.config.refresh, rand::random());
        self.due = now + wait;
        self.failures = 0;
        self.metrics.renewed(now, not_after);
        let (until, renewal) = (rfc3339(not_after), rfc3339(self.due));
        tracing::info!(name = %self.config.name, until, renewal, "certified");
        if self.roots.as_ref().is_some_and(|known| *known != roots) {
            tracing::info!(
                anchors = roots.count(),
                "trust anchors replaced by the identity service"
            );
        }
        self.current = Some(certificate);
        self.roots = Some(roots);
    }

    fn failed(&mut self, failure: &Failure) {
        self.failures = self.failures.saturating_add(1);
        self.metrics.failed();
        let now = self.clock.now();
        let end = self.current.as_ref().map(Certificate::not_after);
        let left = end.and_then(|end| until(end, now));
        let pause = schedule::retry(self.failures, left.unwrap_or_default(), rand::random());
        self.due = now + pause;
        let current = match (end, left) {
            (None, _) => "there is none yet".to_owned(),
            (Some(end), None) => format!("the last one ended at {}", rfc3339(end)),
            (Some(end), Some(_)) => format!("the current one ends at {}", rfc3339(end)),
        };
        tracing::warn!(%failure, current, retry_in = ?pause, "no new certificate");
    }

    /// Puts anchors in force with the certificate there is.
    fn adopt(&mut self, roots: Roots) {
        if let Err(error) = self.publisher.publish(self.current.as_ref(), &roots) {
            tracing::error!(%error, "trust anchors refused; the last ones stay");
            return;
        }
        if self.roots.is_some() {
            tracing::info!(anchors = roots.count(), "trust anchors changed");
        }
        let still_chains = match &self.current {
            Some(certificate) => certificate.check(&roots, &self.clock),
            None => Ok(()),
        };
        self.roots = Some(roots);
        if let Err(error) = still_chains {
            tracing::warn!(%error, "the certificate does not hold any more: asking for another");
            self.due = self.clock.now();
            self.failures = 0;
        }
    }
}

/// The time from `now` to `then`, if that is still to come.
fn until(then: SystemTime, now: SystemTime) -> Option<Duration> {
    then.duration_since(now).ok().filter(|left| !left.is_zero())
}

fn not_empty(token: Vec<u8>) -> io::Result<Vec<u8>> {
    match token.is_empty() {
        true => Err(io::Error::other("is empty")),
        false => Ok(token),
    }
}
