//! Who this workload is: a certificate that is asked for, kept fresh, and handed to whoever needs
//! it.
//!
//! [`Identity`] is the handle that workers and control-plane clients hold. The work is a task on
//! the control thread: [`Runner::run`], in `certify`, with its times in `schedule`, its keys in
//! `key` and its roots of trust in `anchors`. What is done with a certificate is `tls`'s.

mod anchors;
mod certify;
mod key;
mod schedule;
#[cfg(test)]
mod tests;

pub use self::certify::{Answer, Ask, Authority};

use crate::{
    config,
    metrics::{Registry, identity::Certificates, tls::Handshakes},
    tls::{self, Certificate, Client, Clock, Credentials, Roots, rfc3339},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};

/// How often it is said that there is no certificate yet.
const WARN_EVERY: Duration = Duration::from_secs(15);

/// The workload's identity, or that it has none. Cheap to clone; safe to use from any worker.
#[derive(Clone)]
pub struct Identity(Option<Handle>);

#[derive(Clone)]
struct Handle {
    name: Arc<str>,
    state: watch::Receiver<State>,
}

/// What is in force.
#[derive(Clone, Default)]
struct State {
    credentials: Option<Arc<Credentials>>,
    /// For peers that need no certificate of ours.
    anonymous: Option<Client>,
}

/// Makes configurations and puts them in force.
struct Publisher {
    state: watch::Sender<State>,
    clock: Clock,
    handshakes: Arc<Handshakes>,
}

/// The task that keeps the certificate fresh.
pub struct Runner {
    config: config::Identity,
    clock: Clock,
    metrics: Certificates,
    publisher: Publisher,
    identity: Identity,
}

impl Identity {
    /// Identity is off: nothing is ever proved or verified.
    pub fn disabled() -> Self {
        Self(None)
    }

    /// Identity is on. There is a certificate some time after the runner was started.
    pub fn new(
        config: &config::Identity,
        clock: Clock,
        registry: &Arc<Registry>,
    ) -> (Self, Runner) {
        let (sender, receiver) = watch::channel(State::default());
        let identity = Self(Some(Handle {
            name: config.name.clone(),
            state: receiver,
        }));
        let runner = Runner {
            config: config.clone(),
            metrics: Certificates::new(registry),
            publisher: Publisher {
                state: sender,
                clock: clock.clone(),
                handshakes: Handshakes::new(registry),
            },
            clock,
            identity: identity.clone(),
        };
        (identity, runner)
    }

    /// What is in force from the start and for ever.
    #[cfg(test)]
    pub(crate) fn fixed(
        name: &str,
        credentials: Option<Arc<Credentials>>,
        anonymous: Option<Client>,
    ) -> Self {
        let state = State {
            credentials,
            anonymous,
        };
        Self(Some(Handle {
            name: name.into(),
            state: watch::channel(state).1,
        }))
    }

    /// The name for which inbound terminates TLS; `None`: identity is off.
    pub fn name(&self) -> Option<&Arc<str>> {
        self.0.as_ref().map(|handle| &handle.name)
    }

    /// The current credentials; `None` when identity is off or there is no certificate yet.
    pub fn credentials(&self) -> Option<Arc<Credentials>> {
        self.0.as_ref()?.state.borrow().credentials.clone()
    }

    /// Completes when there is a certificate; at once when identity is off. Cancel-safe.
    pub async fn certified(&self) {
        if let Some(handle) = &self.0 {
            let mut state = handle.state.clone();
            let waiting = state.wait_for(|state| state.credentials.is_some());
            let certified = waiting.await.is_ok();
            if !certified {
                // The runner has ended, so there will never be one.
                std::future::pending().await
            }
        }
    }

    /// What opens TLS without showing a certificate, for the service that issues them; `None` when
    /// identity is off or there are no trust anchors yet.
    pub fn anonymous(&self) -> Option<Client> {
        self.0.as_ref()?.state.borrow().anonymous.clone()
    }

    /// Why the workload cannot be reached or reach others, if so.
    pub fn problem(&self) -> Option<String> {
        let state = self.0.as_ref()?.state.borrow();
        match &state.credentials {
            None if state.anonymous.is_none() => Some("no trust anchors yet".into()),
            None => Some("no identity certificate yet".into()),
            Some(credentials) => credentials.has_expired().then(|| {
                let end = rfc3339(credentials.not_after());
                format!("identity certificate expired at {end}")
            }),
        }
    }
}

// === impl Runner ===

impl Runner {
    /// Keeps the certificate fresh until dropped.
    pub async fn run<A: Authority>(self, authority: A) {
        let source = anchors::Source::new(&self.config.anchors, self.metrics.bad_anchors());
        let certifier = certify::Certifier {
            may_be_replaced: source.may_be_replaced(),
            authority,
            due: self.clock.now(),
            clock: self.clock,
            config: self.config,
            metrics: self.metrics,
            publisher: self.publisher,
            current: None,
            roots: None,
            failures: 0,
        };
        tokio::join!(certifier.run(source), warn_until_certified(&self.identity));
    }
}

async fn warn_until_certified(identity: &Identity) {
    while timeout(WARN_EVERY, identity.certified()).await.is_err() {
        let problem = identity.problem().unwrap_or_default();
        tracing::warn!(problem, "not ready: nothing is accepted yet");
    }
}

// === impl Publisher ===

impl Publisher {
    /// Puts this certificate and these roots in force for all connections that begin from now on.
    fn publish(&self, certificate: Option<&Certificate>, roots: &Roots) -> Result<(), tls::Error> {
        let credentials = |c| Credentials::new(c, roots, &self.clock, &self.handshakes);
        let state = State {
            credentials: certificate.map(credentials).transpose()?.map(Arc::new),
            anonymous: Some(Client::anonymous(roots, &self.clock, &self.handshakes)?),
        };
        self.state.send_replace(state);
        Ok(())
    }
}
