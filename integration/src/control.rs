//! A control plane whose every answer the test holds.
//!
//! It serves Linkerd's proxy API (`Destination`, `OutboundPolicies`, `InboundServerPolicies`) on
//! one address, from a thread with a runtime of its own, so that a test can stop it as a whole and
//! start it again on the same port. Names it was not told of are unknown, as they are to the real
//! one. The gRPC side is in `control/services.rs`, the messages are in [`proto`].

pub mod proto;
mod services;

use self::proto::{Endpoint, Policy};
use linkerd2_proxy_api::{
    destination::{DestinationProfile, Update},
    inbound::Server,
    outbound::OutboundPolicy,
};
use parking_lot::Mutex;
use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{runtime::Runtime, sync::mpsc};
use tonic::Status;

/// What a stream may be behind before the test is told that the proxy does not read.
const STREAM_BUFFER: usize = 4096;

/// The fake control plane. Dropping it ends all its streams.
pub struct ControlPlane {
    addr: SocketAddr,
    state: Arc<Mutex<State>>,
    runtime: Option<Runtime>,
}

/// How calls are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// At once.
    #[default]
    Normal,
    /// After this time.
    After(Duration),
    /// Never: calls are accepted and left alone.
    Never,
    /// With `UNAVAILABLE`.
    Unavailable,
    /// With `NOT_FOUND`, whatever the question.
    NotFound,
}

type Stream<T> = mpsc::Sender<Result<T, Status>>;

#[derive(Default)]
struct State {
    answers: Answers,
    withholds_endpoints: bool,
    endpoints: HashMap<String, Vec<Endpoint>>,
    policies: HashMap<String, OutboundPolicy>,
    profiles: HashMap<String, DestinationProfile>,
    servers: HashMap<u16, Server>,
    destination_streams: Vec<(String, Stream<Update>)>,
    policy_streams: Vec<(String, Stream<OutboundPolicy>)>,
    server_streams: Vec<(u16, Stream<Server>)>,
    profile_streams: Vec<(String, Stream<DestinationProfile>)>,
    lookups: Vec<String>,
}

impl ControlPlane {
    /// Starts one on an address of its own.
    pub fn start() -> Self {
        let addr = crate::addr::unique(8086);
        let mut control = Self {
            addr,
            state: Arc::default(),
            runtime: None,
        };
        control.listen();
        control
    }

    /// Where it listens, for all services.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Begins to listen, on the same port as ever.
    pub fn listen(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("fake-control")
            .enable_all()
            .build()
            .expect("a runtime can be built");
        let listener = {
            let _inside = runtime.enter();
            let socket = std::net::TcpListener::bind(self.addr)
                .unwrap_or_else(|error| panic!("cannot listen on {}: {error}", self.addr));
            socket
                .set_nonblocking(true)
                .expect("sockets can be non-blocking");
            tokio::net::TcpListener::from_std(socket).expect("a runtime is there")
        };
        runtime.spawn(services::serve(listener, self.state.clone()));
        self.runtime = Some(runtime);
    }

    /// Stops listening and cuts every connection.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        self.state.lock().forget_streams();
    }

    /// Cuts every stream with an error; the proxy may come back at once.
    pub fn drop_streams(&self) {
        let mut state = self.state.lock();
        let gone = || Status::unavailable("stream cut by the test");
        state
            .destination_streams
            .drain(..)
            .for_each(|(_, s)| drop(s.try_send(Err(gone()))));
        state
            .policy_streams
            .drain(..)
            .for_each(|(_, s)| drop(s.try_send(Err(gone()))));
        state
            .server_streams
            .drain(..)
            .for_each(|(_, s)| drop(s.try_send(Err(gone()))));
        state.forget_streams();
    }

    /// How calls are answered from now on.
    pub fn answers(&self, answers: Answers) {
        self.state.lock().answers = answers;
    }

    /// Whether `Destination.Get` is left alone from now on, whatever becomes of other calls. Those that
    /// wait are answered once it no longer is.
    pub fn withhold_endpoints(&self, withhold: bool) {
        self.state.lock().withholds_endpoints = withhold;
    }

    /// A Service port with the ordinary policy, known as `name:port`.
    pub fn service(&self, path: &str, endpoints: &[SocketAddr]) {
        self.policy(path, &Policy::new(path));
        self.endpoints(path, endpoints);
    }

    /// The policy of a target, `name:port` or `ip:port`; sent to whoever watches it.
    pub fn policy(&self, target: &str, policy: &Policy) {
        self.raw_policy(target, policy.to_proto());
    }

    /// A policy as it goes over the wire. Streams see it; a malformed one is not kept for new ones.
    pub fn send_policy(&self, target: &str, policy: OutboundPolicy) {
        let state = self.state.lock();
        let streams = state.policy_streams.iter().filter(|(to, _)| to == target);
        streams.for_each(|(_, stream)| send(stream, policy.clone()));
    }

    fn raw_policy(&self, target: &str, policy: OutboundPolicy) {
        self.state
            .lock()
            .policies
            .insert(target.to_owned(), policy.clone());
        self.send_policy(target, policy);
    }

    /// The profile of a target, `name:port` or `ip:port`; sent to whoever follows it.
    pub fn profile(&self, target: &str, profile: DestinationProfile) {
        let mut state = self.state.lock();
        let streams = state.profile_streams.iter().filter(|(to, _)| to == target);
        streams.for_each(|(_, stream)| send(stream, profile.clone()));
        state.profiles.insert(target.to_owned(), profile);
    }

    /// The endpoints of `path`, ordinary ones; what is new is added, what is gone removed.
    pub fn endpoints(&self, path: &str, endpoints: &[SocketAddr]) {
        let endpoints: Vec<_> = endpoints.iter().copied().map(Endpoint::from).collect();
        self.weighted_endpoints(path, &endpoints);
    }

    /// [`endpoints`](Self::endpoints) with weights and labels.
    pub fn weighted_endpoints(&self, path: &str, endpoints: &[Endpoint]) {
        let mut state = self.state.lock();
        let old = state
            .endpoints
            .insert(path.to_owned(), endpoints.to_vec())
            .unwrap_or_default();
        let added: Vec<_> = endpoints
            .iter()
            .filter(|e| !old.contains(e))
            .cloned()
            .collect();
        let is_gone = |e: &&Endpoint| endpoints.iter().all(|new| new.addr != e.addr);
        let removed: Vec<_> = old.iter().filter(is_gone).map(|e| e.addr).collect();
        let updates = [
            (!added.is_empty()).then(|| proto::add(path, &added)),
            (!removed.is_empty()).then(|| proto::remove(&removed)),
        ];
        let streams = state
            .destination_streams
            .iter()
            .filter(|(to, _)| to == path);
        for (_, stream) in streams {
            updates
                .iter()
                .flatten()
                .for_each(|update| send(stream, update.clone()));
        }
    }

    /// Sends `update` to whoever watches `path`, and remembers nothing.
    pub fn send(&self, path: &str, update: Update) {
        let state = self.state.lock();
        let streams = state
            .destination_streams
            .iter()
            .filter(|(to, _)| to == path);
        streams.for_each(|(_, stream)| send(stream, update.clone()));
    }

    /// The policy of an inbound port; ports it was not told of are open to all.
    pub fn inbound(&self, port: u16, server: Server) {
        self.state.lock().servers.insert(port, server.clone());
        self.send_inbound(port, server);
    }

    /// Sends a server policy to whoever watches `port`, and remembers nothing.
    pub fn send_inbound(&self, port: u16, server: Server) {
        let state = self.state.lock();
        let streams = state.server_streams.iter().filter(|(to, _)| *to == port);
        streams.for_each(|(_, stream)| send(stream, server.clone()));
    }

    /// How many streams for `path` are open.
    pub fn watchers(&self, path: &str) -> usize {
        let state = self.state.lock();
        let open = |(to, stream): &&(String, Stream<Update>)| to == path && !stream.is_closed();
        state.destination_streams.iter().filter(open).count()
    }

    /// How many streams of any kind are open.
    pub fn streams(&self) -> usize {
        let state = self.state.lock();
        state
            .destination_streams
            .iter()
            .filter(|(_, s)| !s.is_closed())
            .count()
            + state
                .policy_streams
                .iter()
                .filter(|(_, s)| !s.is_closed())
                .count()
            + state
                .server_streams
                .iter()
                .filter(|(_, s)| !s.is_closed())
                .count()
            + state
                .profile_streams
                .iter()
                .filter(|(_, s)| !s.is_closed())
                .count()
    }

    /// Every call so far: method and argument.
    pub fn lookups(&self) -> Vec<String> {
        self.state.lock().lookups.clone()
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        self.stop();
    }
}

// === impl State ===

impl State {
    fn forget_streams(&mut self) {
        self.destination_streams.clear();
        self.policy_streams.clear();
        self.server_streams.clear();
        self.profile_streams.clear();
    }
}

/// A stream whose proxy has gone is of no interest; one that does not read is a defect.
fn send<T>(stream: &Stream<T>, message: T) {
    if let Err(mpsc::error::TrySendError::Full(_)) = stream.try_send(Ok(message)) {
        panic!("the proxy has left {STREAM_BUFFER} updates of a stream unread");
    }
}
