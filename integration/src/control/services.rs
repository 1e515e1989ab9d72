//! The gRPC side of the fake control plane: each call is looked up in the shared state.

use super::{Answers, STREAM_BUFFER, State, Stream, proto};
use futures::TryStreamExt;
use linkerd2_proxy_api::{
    destination::{
        DestinationProfile, GetDestination, Update,
        destination_server::{Destination, DestinationServer},
    },
    inbound::{
        PortSpec, Server,
        inbound_server_policies_server::{InboundServerPolicies, InboundServerPoliciesServer},
    },
    outbound::{
        OutboundPolicy, TrafficSpec,
        outbound_policies_server::{OutboundPolicies, OutboundPoliciesServer},
        traffic_spec::Target,
    },
};
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, async_trait};

/// Serves until its runtime is shut down.
pub(super) async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    // As a control plane does: small answers should not wait for each other.
    let incoming = TcpListenerStream::new(listener).inspect_ok(|socket| {
        let _ = socket.set_nodelay(true);
    });
    let services = Services { state };
    let _ = tonic::transport::Server::builder()
        .add_service(DestinationServer::new(services.clone()))
        .add_service(OutboundPoliciesServer::new(services.clone()))
        .add_service(InboundServerPoliciesServer::new(services))
        .serve_with_incoming(incoming)
        .await;
}

#[derive(Clone)]
struct Services {
    state: Arc<Mutex<State>>,
}

type Answer<T> = Result<Response<ReceiverStream<Result<T, Status>>>, Status>;

impl Services {
    /// Notes the call, and answers it as the test wants calls answered.
    async fn called(&self, what: String) -> Result<(), Status> {
        let answers = {
            let mut state = self.state.lock();
            state.lookups.push(what);
            state.answers
        };
        match answers {
            Answers::Normal => Ok(()),
            Answers::After(time) => {
                tokio::time::sleep(time).await;
                Ok(())
            }
            Answers::Never => std::future::pending().await,
            Answers::NotFound => Err(Status::not_found("not found by the test")),
            Answers::Unavailable => Err(Status::unavailable("unavailable by the test")),
        }
    }

    fn outbound(&self, target: &str) -> Result<OutboundPolicy, Status> {
        let policy = self.state.lock().policies.get(target).cloned();
        policy.ok_or_else(|| Status::not_found(format!("no such target: {target}")))
    }
}

fn stream<T>(first: T) -> (Stream<T>, Answer<T>) {
    let (sender, receiver) = mpsc::channel(STREAM_BUFFER);
    super::send(&sender, first);
    (sender, Ok(Response::new(ReceiverStream::new(receiver))))
}

fn target(spec: TrafficSpec) -> Result<String, Status> {
    match spec.target {
        Some(Target::Authority(authority)) => Ok(authority),
        Some(Target::Addr(addr)) => proto::from_tcp(&addr)
            .ok_or_else(|| Status::invalid_argument(format!("not an address: {addr:?}"))),
        None => Err(Status::invalid_argument("no target")),
    }
}

#[async_trait]
impl Destination for Services {
    type GetStream = ReceiverStream<Result<Update, Status>>;
    type GetProfileStream = ReceiverStream<Result<DestinationProfile, Status>>;

    async fn get(&self, request: Request<GetDestination>) -> Answer<Update> {
        let path = request.into_inner().path;
        self.called(format!("Get {path}")).await?;
        while self.state.lock().withholds_endpoints {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut state = self.state.lock();
        let first = match state.endpoints.get(&path) {
            Some(endpoints) if endpoints.is_empty() => proto::no_endpoints(true),
            Some(endpoints) => proto::add(&path, endpoints),
            None => return Err(Status::invalid_argument(format!("no such service: {path}"))),
        };
        let (sender, answer) = stream(first);
        state.destination_streams.push((path, sender));
        answer
    }

    async fn get_profile(&self, request: Request<GetDestination>) -> Answer<DestinationProfile> {
        let path = request.into_inner().path;
        self.called(format!("GetProfile {path}")).await?;
        let mut state = self.state.lock();
        let name = path.rsplit_once(':').map_or("", |(name, _)| name);
        let profile = match state.profiles.get(&path) {
            Some(profile) => profile.clone(),
            None if state.policies.contains_key(&path) => DestinationProfile {
                fully_qualified_name: name.to_owned(),
                ..Default::default()
            },
            None => return Err(Status::invalid_argument(format!("no such service: {path}"))),
        };
        let (sender, answer) = stream(profile);
        state.profile_streams.push((path, sender));
        answer
    }
}

#[async_trait]
impl OutboundPolicies for Services {
    type WatchStream = ReceiverStream<Result<OutboundPolicy, Status>>;

    async fn get(&self, request: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        let target = target(request.into_inner())?;
        self.called(format!("OutboundPolicies.Get {target}"))
            .await?;
        self.outbound(&target).map(Response::new)
    }

    async fn watch(&self, request: Request<TrafficSpec>) -> Answer<OutboundPolicy> {
        let target = target(request.into_inner())?;
        self.called(format!("Watch {target}")).await?;
        let (sender, answer) = stream(self.outbound(&target)?);
        self.state.lock().policy_streams.push((target, sender));
        answer
    }
}

#[async_trait]
impl InboundServerPolicies for Services {
    type WatchPortStream = ReceiverStream<Result<Server, Status>>;

    async fn get_port(&self, request: Request<PortSpec>) -> Result<Response<Server>, Status> {
        let port = port(&request.into_inner())?;
        self.called(format!("GetPort {port}")).await?;
        Ok(Response::new(server(&self.state.lock(), port)))
    }

    async fn watch_port(&self, request: Request<PortSpec>) -> Answer<Server> {
        let port = port(&request.into_inner())?;
        self.called(format!("WatchPort {port}")).await?;
        let mut state = self.state.lock();
        let (sender, answer) = stream(server(&state, port));
        state.server_streams.push((port, sender));
        answer
    }
}

fn port(spec: &PortSpec) -> Result<u16, Status> {
    u16::try_from(spec.port).map_err(|_| Status::invalid_argument("port out of range"))
}

fn server(state: &State, port: u16) -> Server {
    state
        .servers
        .get(&port)
        .cloned()
        .unwrap_or_else(proto::open_port)
}
