//! Names to addresses, by the system's resolver configuration and hosts file.

use crate::addr::Target;
use hickory_resolver::{
    TokioResolver,
    config::ResolverConfig,
    proto::rr::{RData, RecordType},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// Answers are asked for again no sooner than this, whatever they and the configuration say.
pub const MIN_TTL: Duration = Duration::from_secs(5);

/// A look-up takes no longer.
const DEADLINE: Duration = Duration::from_secs(5);

/// A name that has no addresses, or none that could be found.
#[derive(Clone, Debug, thiserror::Error)]
#[error("resolve {name}: {why}")]
pub struct ResolveError {
    name: String,
    why: String,
}

impl ResolveError {
    /// The process ends, so nothing is resolved any more.
    pub fn stopping() -> Self {
        Self {
            name: String::new(),
            why: "the proxy is stopping".into(),
        }
    }
}

/// Addresses, and for how long they hold.
#[derive(Clone, Debug)]
pub struct Answer {
    /// At least one.
    pub addrs: Vec<SocketAddr>,
    /// After this they should be asked for again.
    pub ttl: Duration,
}

/// The resolver. Cheap to clone; knows nothing of clusters.
#[derive(Clone)]
pub struct Resolver {
    inner: Arc<TokioResolver>,
    ttl: (Option<Duration>, Option<Duration>),
}

impl Resolver {
    /// A resolver by `/etc/resolv.conf`; without one, only the hosts file is known.
    ///
    /// # Errors
    ///
    /// When the configuration of the system cannot be used at all.
    pub fn new(ttl: (Option<Duration>, Option<Duration>)) -> Result<Self, ResolveError> {
        let builder = TokioResolver::builder_tokio().unwrap_or_else(|error| {
            tracing::warn!(%error, "no usable resolver configuration: only the hosts file is used");
            TokioResolver::builder_with_config(ResolverConfig::default(), Default::default())
        });
        let inner = builder.build().map_err(|e| ResolveError {
            name: "/etc/resolv.conf".into(),
            why: e.to_string(),
        })?;
        Ok(Self {
            inner: Arc::new(inner),
            ttl,
        })
    }

    /// The addresses of a host.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when there is none, or no answer in time.
    pub async fn resolve(&self, name: &str, port: u16) -> Result<Answer, ResolveError> {
        let error = |why: String| ResolveError {
            name: name.to_owned(),
            why,
        };
        // A final dot keeps the resolver's own search list out of it.
        let lookup = self.inner.lookup_ip(format!("{name}."));
        let found = timeout(DEADLINE, lookup)
            .await
            .map_err(|_| error(format!("no answer within {DEADLINE:?}")))?
            .map_err(|e| error(e.to_string()))?;
        let addrs: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, port)).collect();
        if addrs.is_empty() {
            return Err(error("no addresses".into()));
        }
        Ok(Answer {
            addrs,
            ttl: self.clamp(found.valid_until()),
        })
    }

    /// The addresses of a control-plane service: those of its SRV records, which name each
    /// replica, or else those of its name.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] when there is none, or no answer in time.
    pub async fn resolve_service(&self, target: &Target) -> Result<Answer, ResolveError> {
        let (name, port) = match target {
            Target::Addr(addr) => {
                return Ok(Answer {
                    addrs: vec![*addr],
                    ttl: Duration::MAX,
                });
            }
            Target::Name(name, port) => (name, *port),
        };
        match timeout(DEADLINE, self.resolve_srv(name)).await {
            Ok(Some(answer)) => Ok(answer),
            _ => self.resolve(name, port).await,
        }
    }

    async fn resolve_srv(&self, name: &str) -> Option<Answer> {
        let found = self
            .inner
            .lookup(format!("{name}."), RecordType::SRV)
            .await
            .ok()?;
        let mut addrs = Vec::new();
        for record in found.answers() {
            let RData::SRV(srv) = &record.data else {
                continue;
            };
            let host = srv.target.to_utf8();
            match pod_ip(&host) {
                Some(ip) => addrs.push(SocketAddr::new(ip, srv.port)),
                None => addrs.extend(
                    self.resolve(host.trim_end_matches('.'), srv.port)
                        .await
                        .ok()?
                        .addrs,
                ),
            }
        }
        (!addrs.is_empty()).then(|| Answer {
            addrs,
            ttl: self.clamp(found.valid_until()),
        })
    }

    fn clamp(&self, valid_until: Instant) -> Duration {
        clamp(
            valid_until.saturating_duration_since(Instant::now()),
            self.ttl,
        )
    }
}

/// For how long an answer is used that holds for `ttl`.
fn clamp(ttl: Duration, (min, max): (Option<Duration>, Option<Duration>)) -> Duration {
    ttl.max(min.unwrap_or_default())
        .min(max.unwrap_or(Duration::MAX))
        .max(MIN_TTL)
}

/// The address that Kubernetes writes into the first label of a pod's SRV target: `10-1-2-3.`,
/// or an IPv6 address with dashes for its colons.
fn pod_ip(host: &str) -> Option<IpAddr> {
    let label = host.split('.').next()?;
    let v4 = label.replace('-', ".").parse().map(IpAddr::V4);
    v4.or_else(|_| label.replace('-', ":").parse().map(IpAddr::V6))
        .ok()
}

#[cfg(test)]
mod tests;
