//! What is known of each target: asked of the control plane, followed, and made into a
//! [`Stack`] that carries traffic. Kept while in use and for a while after.

use super::{endpoint::Local, stack::Stack};
use crate::{
    addr::Target,
    balance::Endpoints,
    config::Outbound,
    control::{Discovery, Known, Profile},
    detect::first::Speaks,
    error::Error,
    metrics::{
        Registry, label,
        labels::{self, Direction, Tls},
        transport::{Sensor, Transport},
    },
};
use ahash::AHashMap;
use mesh_policy::{
    Meta,
    endpoint::Endpoint,
    outbound::{self as policy, OutboundPolicy},
};
use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::{Rc, Weak},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{OnceCell as AsyncOnceCell, watch},
    task::{AbortHandle, spawn_local},
    time::{Instant, sleep, timeout_at},
};

/// A target that is not known is answered within a second: this leaves time for the answer. Its
/// endpoints are waited for no longer, once its policy is there.
pub(super) const DISCOVERY_TIMEOUT: Duration = Duration::from_millis(800);

/// Targets a worker remembers; past it the one that was unused for longest goes.
const MAX_DESTINATIONS: usize = 10_000;

/// All targets of a worker.
pub struct Destinations {
    shared: Rc<Shared>,
    known: Rc<RefCell<AHashMap<Target, Rc<Entry>>>>,
    is_swept: Rc<Cell<bool>>,
}

/// What stacks are made with: the same for all of a worker, except for names that only DNS knows.
#[derive(Clone)]
pub struct Shared {
    /// How connections are made.
    pub config: Rc<Outbound>,
    /// Who this workload is, and at which addresses.
    pub local: Rc<Local>,
    /// Where things are counted.
    pub metrics: Arc<Registry>,
    discovery: Discovery,
    /// What DNS says, if the control plane does not know the name.
    resolved: Option<watch::Receiver<Endpoints>>,
}

#[derive(Default)]
struct Entry {
    destination: AsyncOnceCell<Rc<Destination>>,
    last_use: Cell<Option<Instant>>,
}

/// A target. Alive as long as connections to it are, and kept for a while after.
pub struct Destination {
    /// What it was asked for by.
    pub target: Target,
    /// Who speaks first there, as far as seen.
    pub speaks: Cell<Speaks>,
    stack: RefCell<Rc<Stack>>,
    accepted: Arc<Transport>,
    follower: RefCell<Option<AbortHandle>>,
}

// === impl Destinations ===

impl Destinations {
    /// None yet.
    pub fn new(
        config: &Outbound,
        discovery: Discovery,
        local: Local,
        metrics: Arc<Registry>,
    ) -> Self {
        let shared = Shared {
            config: Rc::new(config.clone()),
            local: Rc::new(local),
            metrics,
            discovery,
            resolved: None,
        };
        Self {
            shared: Rc::new(shared),
            known: Rc::default(),
            is_swept: Rc::default(),
        }
    }

    /// The destination that `target` names, asked for if it is not known.
    ///
    /// # Errors
    ///
    /// [`Error::Unresolved`], within a second.
    pub async fn discover(&self, target: &Target) -> Result<Rc<Destination>, Error> {
        let known = self.known.borrow().get(target).cloned();
        let entry = known.unwrap_or_else(|| self.insert(target));
        entry.last_use.set(Some(Instant::now()));
        if let Some(known) = entry.destination.get() {
            return Ok(known.clone());
        }
        // Boxed: it is seldom needed and would make every request in flight larger.
        let made = Box::pin(async {
            let make = || discover(&self.shared, target);
            entry.destination.get_or_try_init(make).await.cloned()
        });
        made.await
    }

    /// Whether this very proxy listens at `addr` for what others send on.
    pub fn is_own_listener(&self, addr: SocketAddr) -> bool {
        self.shared.local.is_own_listener(addr)
    }

    fn insert(&self, target: &Target) -> Rc<Entry> {
        let mut known = self.known.borrow_mut();
        if known.len() >= MAX_DESTINATIONS {
            let oldest = known.iter().min_by_key(|(_, e)| e.last_use.get());
            if let Some(oldest) = oldest.map(|(target, _)| target.clone()) {
                known.remove(&oldest);
            }
        }
        let entry = Rc::<Entry>::default();
        known.insert(target.clone(), entry.clone());
        if !self.is_swept.replace(true) {
            let idle = self.shared.config.side.discovery_idle;
            spawn_local(sweep(
                Rc::downgrade(&self.known),
                self.is_swept.clone(),
                idle,
            ));
        }
        entry
    }
}

/// Forgets destinations that have no connection and were not asked for in `idle`.
async fn sweep(
    known: Weak<RefCell<AHashMap<Target, Rc<Entry>>>>,
    is_swept: Rc<Cell<bool>>,
    idle: Duration,
) {
    loop {
        sleep(idle.max(Duration::from_millis(100)) / 2).await;
        let Some(known) = known.upgrade() else {
            return;
        };
        let mut known = known.borrow_mut();
        known.retain(|_, entry| {
            let in_use = entry
                .destination
                .get()
                .is_none_or(|d| Rc::strong_count(d) > 1);
            let is_recent = entry.last_use.get().is_some_and(|t| t.elapsed() < idle);
            in_use || is_recent
        });
        known.shrink_to_fit();
        if known.is_empty() {
            is_swept.set(false);
            return;
        }
    }
}

// === impl Shared ===

impl Shared {
    /// The addresses behind `path`, a `name:port`.
    pub fn endpoints(&self, path: &Arc<str>) -> watch::Receiver<Endpoints> {
        match &self.resolved {
            Some(resolved) => resolved.clone(),
            None => self.discovery.endpoints(path),
        }
    }
}

// === discovery ===

/// What the control plane says, as it says it.
struct Sources {
    policy: watch::Receiver<Known<Arc<OutboundPolicy>>>,
    profile: watch::Receiver<Known<Arc<Profile>>>,
}

async fn discover(shared: &Rc<Shared>, target: &Target) -> Result<Rc<Destination>, Error> {
    let deadline = Instant::now() + DISCOVERY_TIMEOUT;
    for candidate in candidates(&shared.discovery, target) {
        let mut sources = Sources {
            policy: shared.discovery.outbound(&candidate),
            profile: shared.discovery.profile(&candidate),
        };
        let is_timely = sources.answered(deadline).await;
        if let Some(policy) = sources.policy(&candidate) {
            return Ok(Destination::new(
                shared,
                target,
                &policy,
                Some((candidate, sources)),
            ));
        }
        match (&candidate, is_timely) {
            // An address can be tried as it is; what is known of it later will be followed.
            (Target::Addr(addr), _) => {
                let policy = OutboundPolicy::endpoint(Endpoint::bare(*addr));
                return Ok(Destination::new(
                    shared,
                    target,
                    &policy,
                    Some((candidate, sources)),
                ));
            }
            (Target::Name(..), true) => {}
            (Target::Name(..), false) => {
                let why = "the control plane does not answer".to_owned();
                return Err(Error::Unresolved {
                    target: target.clone(),
                    why,
                });
            }
        }
    }
    resolve(shared, target, deadline).await
}

/// What `target` may stand for: itself, or a short name expanded.
fn candidates(discovery: &Discovery, target: &Target) -> Vec<Target> {
    match target {
        Target::Addr(_) => vec![target.clone()],
        Target::Name(name, port) => {
            let names = discovery.candidates(name);
            names
                .into_iter()
                .map(|name| Target::Name(name.into(), *port))
                .collect()
        }
    }
}

/// A name that is no service: balanced over the addresses that DNS has for it, as they change.
async fn resolve(
    shared: &Rc<Shared>,
    target: &Target,
    deadline: Instant,
) -> Result<Rc<Destination>, Error> {
    let unresolved = |why: String| Error::Unresolved {
        target: target.clone(),
        why,
    };
    let Target::Name(name, port) = target else {
        return Err(unresolved("not a name".into()));
    };
    let found = timeout_at(deadline, shared.discovery.resolve(name, *port)).await;
    let resolved = match found {
        Ok(found) => found.map_err(|e| unresolved(e.to_string()))?,
        Err(_) => {
            return Err(unresolved(
                "neither a service nor a name that DNS answers for".into(),
            ));
        }
    };
    let shared = Rc::new(Shared {
        resolved: Some(resolved),
        ..(**shared).clone()
    });
    let parent = Meta::default_named("endpoint");
    let path = target.to_string().into();
    let policy = OutboundPolicy::service(parent, path, policy::Declared::Unknown, None);
    Ok(Destination::new(&shared, target, &policy, None))
}

impl Sources {
    /// Waits for both answers; whether they came in time.
    async fn answered(&mut self, deadline: Instant) -> bool {
        let policy = self.policy.wait_for(|p| *p != Known::Pending);
        let profile = self.profile.wait_for(|p| *p != Known::Pending);
        timeout_at(deadline, async {
            (policy.await.is_ok(), profile.await.is_ok())
        })
        .await
        .is_ok()
    }

    /// The policy that follows from what was said about `target`, if it is known at all.
    fn policy(&self, target: &Target) -> Option<OutboundPolicy> {
        let profile = match &*self.profile.borrow() {
            Known::Value(profile) => Some(profile.clone()),
            Known::Pending | Known::Absent => None,
        };
        let mut policy = match (&*self.policy.borrow(), target) {
            (Known::Value(policy), _) => (**policy).clone(),
            (Known::Absent, Target::Addr(addr)) => {
                let endpoint = profile.as_ref().and_then(|p| p.endpoint.clone());
                OutboundPolicy::endpoint(endpoint.unwrap_or_else(|| Endpoint::bare(*addr)))
            }
            (Known::Absent | Known::Pending, _) => return None,
        };
        if profile.is_some_and(|p| p.opaque) {
            make_opaque(&mut policy);
        }
        Some(policy)
    }
}

/// The profile says that the port is opaque, whatever the policy would look for.
fn make_opaque(policy: &mut OutboundPolicy) {
    if let policy::Protocol::Detect { opaque, .. } = &policy.protocol {
        policy.protocol = policy::Protocol::Opaque(opaque.clone());
    }
}

// === impl Destination ===

impl Destination {
    fn new(
        shared: &Rc<Shared>,
        target: &Target,
        policy: &OutboundPolicy,
        sources: Option<(Target, Sources)>,
    ) -> Rc<Self> {
        let mut labels = vec![Direction::Outbound.label(), label("peer", "src")];
        if let Target::Addr(addr) = target {
            labels::target(&mut labels, *addr);
        } else {
            labels.push(label("target_addr", target.to_string()));
        }
        Tls::Loopback.append(&mut labels);
        let destination = Rc::new(Self {
            target: target.clone(),
            speaks: Cell::default(),
            stack: RefCell::new(Rc::new(Stack::new(shared, policy, None))),
            accepted: Transport::new(&shared.metrics, labels),
            follower: RefCell::default(),
        });
        if let Some((candidate, sources)) = sources {
            let followed = follow(
                Rc::downgrade(&destination),
                shared.clone(),
                candidate,
                sources,
            );
            *destination.follower.borrow_mut() = Some(spawn_local(followed).abort_handle());
        }
        destination
    }

    /// How traffic is carried now.
    pub fn stack(&self) -> Rc<Stack> {
        self.stack.borrow().clone()
    }

    /// Counts a connection of the application.
    pub fn accepted(&self) -> Sensor {
        self.accepted.open()
    }
}

impl Drop for Destination {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.get_mut() {
            follower.abort();
        }
    }
}

/// Rebuilds the stack whenever there is news; backends that are not news stay as they are.
async fn follow(
    destination: Weak<Destination>,
    shared: Rc<Shared>,
    target: Target,
    mut sources: Sources,
) {
    loop {
        let changed = tokio::select! {
            changed = sources.policy.changed() => changed,
            changed = sources.profile.changed(), if sources.profile.has_changed().is_ok() => changed,
        };
        let (Ok(()), Some(destination)) = (changed, destination.upgrade()) else {
            return;
        };
        if let Some(policy) = sources.policy(&target) {
            let old = destination.stack();
            let new = Stack::new(&shared, &policy, Some(&old));
            *destination.stack.borrow_mut() = Rc::new(new);
        }
    }
}
