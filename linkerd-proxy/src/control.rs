//! What the control plane says: one stream for each question per process, kept alive, and its
//! latest answer handed to whoever asks.
//!
//! Runs on the control thread. A worker calls [`Discovery`], which starts a stream if there is none
//! yet, and gets a `watch` receiver; when the last receiver is dropped the stream ends. While the
//! control plane is away nothing is forgotten: what is known stays known.

mod channel;
mod client;
mod destination;
mod identity;
mod names;
mod policy;
mod profile;
mod stream;

use self::{
    client::{Client, Security},
    stream::Followed,
};
use crate::{
    addr::Target,
    balance::Endpoints,
    config::{self, Config, Control, Service},
    dns::{ResolveError, Resolver},
    identity::Identity,
    metrics::Registry,
};
use mesh_policy::{inbound::ServerPolicy, outbound::OutboundPolicy};
use std::{hash::Hash, sync::Arc};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};

pub use self::{identity::IdentityService, policy::PortRules, profile::Profile};

/// An answer of the control plane.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Known<T> {
    /// None yet.
    #[default]
    Pending,
    /// It knows of no such thing.
    Absent,
    /// The latest one.
    Value(T),
}

/// Asks the control plane. Cheap to clone; safe to use from any worker.
#[derive(Clone)]
pub struct Discovery(Arc<Inner>);

struct Inner {
    config: Control,
    control: Handle,
    resolver: Resolver,
    destination: Arc<Client>,
    policy: Arc<Client>,
    port_rules: PortRules,
    streams: stream::Context,
    outbound: Followed<Target, Known<Arc<OutboundPolicy>>>,
    profiles: Followed<Target, Known<Arc<Profile>>>,
    endpoints: Followed<Arc<str>, Endpoints>,
    servers: Followed<u16, Arc<ServerPolicy>>,
}

impl Discovery {
    /// Asks the control plane of `config`, on the runtime of `control`.
    pub fn new(
        config: &Config,
        control: Handle,
        resolver: Resolver,
        identity: &Identity,
        registry: &Registry,
    ) -> Self {
        let client = |service: &Service| {
            let security = Security::Mutual(identity.clone());
            Arc::new(Client::new(service.clone(), resolver.clone(), security))
        };
        Self(Arc::new(Inner {
            destination: client(&config.control.destination),
            policy: client(&config.control.policy),
            port_rules: PortRules::new(&config.inbound),
            streams: stream::Context::new(&config.control, registry),
            config: config.control.clone(),
            control,
            resolver,
            outbound: Followed::default(),
            profiles: Followed::default(),
            endpoints: Followed::default(),
            servers: Followed::default(),
        }))
    }

    /// How traffic to `target` is to be treated.
    pub fn outbound(&self, target: &Target) -> watch::Receiver<Known<Arc<OutboundPolicy>>> {
        self.follow(&self.0.outbound, target.clone(), |inner| {
            policy::Outbound::new(inner.policy.clone(), &inner.config.workload, target)
        })
    }

    /// What the destination service says of `target`; nothing when it is not to be asked.
    pub fn profile(&self, target: &Target) -> watch::Receiver<Known<Arc<Profile>>> {
        if !self.0.config.has_profile(target) {
            return watch::channel(Known::Absent).1;
        }
        self.follow(&self.0.profiles, target.clone(), |inner| {
            profile::Feed::new(inner.destination.clone(), &inner.config.context, target)
        })
    }

    /// The addresses behind `path`, a `name:port`.
    pub fn endpoints(&self, path: &Arc<str>) -> watch::Receiver<Endpoints> {
        self.follow(&self.0.endpoints, path.clone(), |inner| {
            destination::Feed::new(inner.destination.clone(), &inner.config.context, path)
        })
    }

    /// What this workload accepts on `port`.
    pub fn server(&self, port: u16) -> watch::Receiver<Arc<ServerPolicy>> {
        self.follow(&self.0.servers, port, |inner| {
            let (client, workload) = (inner.policy.clone(), &inner.config.workload);
            policy::Inbound::new(client, workload, port, &inner.port_rules)
        })
    }

    /// The addresses of a name that the control plane does not know, kept up to date for as long as
    /// there is a receiver.
    ///
    /// # Errors
    ///
    /// Those of the resolver, when it finds none at first.
    pub async fn resolve(
        &self,
        name: &str,
        port: u16,
    ) -> Result<watch::Receiver<Endpoints>, ResolveError> {
        let (tx, rx) = oneshot::channel();
        let (resolver, name) = (self.0.resolver.clone(), Arc::<str>::from(name));
        let look_up = move || {
            let (resolver, name) = (resolver.clone(), name.clone());
            async move { resolver.resolve(&name, port).await }
        };
        // Sockets of the resolver belong to the control thread.
        self.0.control.spawn(names::follow(look_up, tx));
        rx.await.unwrap_or_else(|_| Err(ResolveError::stopping()))
    }

    /// Names that `name` may stand for, most specific first.
    pub fn candidates(&self, name: &str) -> Vec<String> {
        self.0.config.candidates(name)
    }

    fn follow<K, F>(
        &self,
        followed: &Followed<K, F::Value>,
        key: K,
        feed: impl FnOnce(&Inner) -> F,
    ) -> watch::Receiver<F::Value>
    where
        K: Hash + Eq + Clone + Send + 'static,
        F: stream::Feed,
    {
        followed.get(key, &self.0.control, &self.0.streams, || feed(&self.0))
    }
}

// === impl IdentityService ===

impl IdentityService {
    /// The service of `config`, verified by the trust anchors of `identity`.
    pub fn new(config: &config::Identity, resolver: Resolver, identity: Identity) -> Self {
        let security = Security::Anonymous(identity);
        Self(Client::new(config.service.clone(), resolver, security))
    }
}

// === impl Control ===

impl Control {
    /// Whether the destination service may be asked for the profile of a target.
    fn has_profile(&self, target: &Target) -> bool {
        match target {
            Target::Name(name, _) => self.profile_suffixes.iter().any(|s| has_suffix(name, s)),
            Target::Addr(addr) => self
                .profile_networks
                .iter()
                .any(|net| net.contains(&addr.ip())),
        }
    }

    /// The search list of a pod's resolver, applied to `name` (`ndots:5`): its namespace, services,
    /// the cluster, and the name itself; without those that cannot name a service.
    fn candidates(&self, name: &str) -> Vec<String> {
        let services = match self.profile_suffixes.iter().find(|s| s.starts_with("svc.")) {
            Some(suffix) => suffix.as_str(),
            None => "svc.cluster.local",
        };
        if has_suffix(name, services) {
            return vec![name.to_owned()];
        }
        let cluster = services.trim_start_matches("svc.");
        let mut candidates = Vec::new();
        let dots = name.matches('.').count();
        // `service`, or `pod.service`.
        if let (Some(ns), 0 | 1) = (&self.namespace, dots) {
            candidates.push(format!("{name}.{ns}.{services}"));
        }
        match dots {
            0 => {}
            _ if name.ends_with(".svc") => candidates.push(format!("{name}.{cluster}")),
            // `service.namespace` or `pod.service.namespace`.
            1 | 2 => candidates.push(format!("{name}.{services}")),
            _ => {}
        }
        candidates.push(name.to_owned());
        candidates
    }
}

fn has_suffix(name: &str, suffix: &str) -> bool {
    let rest = name.strip_suffix(suffix);
    suffix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn control() -> Control {
        let vars = [
            ("LINKERD2_PROXY_DESTINATION_SVC_ADDR", "127.0.0.1:1"),
            ("LINKERD2_PROXY_POLICY_SVC_ADDR", "127.0.0.1:1"),
            ("LINKERD2_PROXY_POLICY_WORKLOAD", "w"),
            ("LINKERD2_PROXY_DESTINATION_CONTEXT", r#"{"ns":"demo"}"#),
        ];
        let vars: HashMap<_, _> = vars.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        Config::from_env(vars).unwrap().control
    }

    #[test]
    fn short_names_are_expanded_as_in_a_pod() {
        let control = control();
        for (name, want) in [
            ("api", &["api.demo.svc.cluster.local", "api"][..]),
            (
                "api.prod",
                &[
                    "api.prod.demo.svc.cluster.local",
                    "api.prod.svc.cluster.local",
                    "api.prod",
                ],
            ),
            (
                "api.prod.svc",
                &["api.prod.svc.cluster.local", "api.prod.svc"],
            ),
            (
                "db-0.db.prod",
                &["db-0.db.prod.svc.cluster.local", "db-0.db.prod"],
            ),
            (
                "api.prod.svc.cluster.local",
                &["api.prod.svc.cluster.local"],
            ),
            ("a.b.example.com", &["a.b.example.com"]),
        ] {
            assert_eq!(control.candidates(name), want, "{name}");
        }
    }

    #[test]
    fn profiles_are_asked_for_names_with_the_suffix_only() {
        let control = control();
        let has = |t| control.has_profile(&Target::parse(t).unwrap());
        assert!(has("a.b.svc.cluster.local:80"));
        assert!(!has("a.b.notsvc.cluster.local:80"));
        assert!(!has("10.0.0.1:80"));
    }
}
