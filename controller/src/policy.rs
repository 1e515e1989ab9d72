//! The policy services: what a workload's port accepts, and what clients do with a destination.
//!
//! Each call becomes a question to the index and a stream of its answers. Policies today are the
//! defaults of configuration and annotations; resources (`Server`, routes, authorizations) will be
//! further inputs to the same two questions.

pub mod inbound;
pub mod outbound;

use self::{inbound::Inbound, outbound::Outbound};
use crate::{
    grpc::Streams,
    index::Live,
    names::{self, Authority, Host, ServiceName},
};
use futures::stream::BoxStream;
use linkerd2_proxy_api::{
    inbound::{PortSpec, Server, inbound_server_policies_server::InboundServerPolicies},
    outbound::{
        OutboundPolicy, TrafficSpec, outbound_policies_server::OutboundPolicies, traffic_spec,
    },
};
use mesh_policy::proto;
use std::{net::SocketAddr, sync::Arc};
use tonic::{Request, Response, Status};

/// Both services.
#[derive(Clone)]
pub struct Policies {
    /// Where the inbound service asks.
    pub inbound: Arc<Live<Inbound>>,
    /// Where the outbound service asks.
    pub outbound: Arc<Live<Outbound>>,
    /// For example `cluster.local`.
    pub cluster_domain: Arc<str>,
    /// What streams share.
    pub streams: Streams,
}

#[tonic::async_trait]
impl InboundServerPolicies for Policies {
    type WatchPortStream = BoxStream<'static, Result<Server, Status>>;

    async fn get_port(&self, request: Request<PortSpec>) -> Result<Response<Server>, Status> {
        let question = port(request.get_ref())?;
        let answer = self.inbound.answer(&question);
        server(&question, &answer).map(Response::new)
    }

    async fn watch_port(
        &self,
        request: Request<PortSpec>,
    ) -> Result<Response<Self::WatchPortStream>, Status> {
        let question = port(request.get_ref())?;
        let answers = self.inbound.ask(question.clone());
        let first = answers.borrow().clone();
        server(&question, &first)?;
        let updates = self.streams.follow("inbound_watch_port", answers);
        let stream = updates.each(move |answer| server(&question, &answer));
        Ok(Response::new(stream))
    }
}

#[tonic::async_trait]
impl OutboundPolicies for Policies {
    type WatchStream = BoxStream<'static, Result<OutboundPolicy, Status>>;

    async fn get(&self, request: Request<TrafficSpec>) -> Result<Response<OutboundPolicy>, Status> {
        let question = self.target(request.into_inner())?;
        let answer = self.outbound.answer(&question);
        client(&question, &answer).map(Response::new)
    }

    async fn watch(
        &self,
        request: Request<TrafficSpec>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let question = self.target(request.into_inner())?;
        let answers = self.outbound.ask(question.clone());
        let first = answers.borrow().clone();
        client(&question, &first)?;
        let updates = self.streams.follow("outbound_watch", answers);
        let stream = updates.each(move |answer| client(&question, &answer));
        Ok(Response::new(stream))
    }
}

impl Policies {
    fn target(&self, spec: TrafficSpec) -> Result<Outbound, Status> {
        // Nothing depends on it yet, but a proxy that sends rubbish should be told.
        if !spec.source_workload.is_empty() {
            workload(&spec.source_workload)?;
        }
        match spec.target {
            Some(traffic_spec::Target::Addr(addr)) => {
                let addr = proto::destination::address(addr).map_err(invalid)?;
                Ok(Outbound::address(addr))
            }
            Some(traffic_spec::Target::Authority(authority)) => self.named(&authority),
            None => Err(Status::invalid_argument("target: missing")),
        }
    }

    fn named(&self, authority: &str) -> Result<Outbound, Status> {
        let Authority { host, port } = Authority::parse(authority).map_err(invalid)?;
        match host {
            Host::Ip(ip) => Ok(Outbound::address(SocketAddr::new(ip, port))),
            Host::Name(name) => match ServiceName::parse(&name, &self.cluster_domain) {
                Some(name) => Ok(Outbound::Name(name, port)),
                // It may well exist, outside.
                None => Err(Status::not_found(format!("{name} is not in the mesh"))),
            },
        }
    }
}

fn port(spec: &PortSpec) -> Result<Inbound, Status> {
    let pod = workload(&spec.workload)?;
    let port = u16::try_from(spec.port).ok().filter(|port| *port > 0);
    let port =
        port.ok_or_else(|| Status::invalid_argument(format!("port: {} is not a port", spec.port)))?;
    Ok(Inbound { pod, port })
}

fn workload(token: &str) -> Result<crate::object::Key, Status> {
    names::workload(token).map_err(invalid)
}

fn invalid(error: impl std::error::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

fn server(question: &Inbound, answer: &Option<Server>) -> Result<Server, Status> {
    let unknown = || Status::not_found(format!("there is no pod {}", question.pod));
    answer.clone().ok_or_else(unknown)
}

fn client(question: &Outbound, answer: &Option<OutboundPolicy>) -> Result<OutboundPolicy, Status> {
    let unknown = || Status::not_found(format!("{question} is neither a service nor a pod"));
    answer.clone().ok_or_else(unknown)
}
