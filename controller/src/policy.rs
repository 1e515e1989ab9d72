//! The policy services: what a workload's port accepts, and what clients do with a destination.
//!
//! Each call becomes a question to the index and a stream of its answers. Policies today are the
//! defaults of configuration and annotations; resources (`Server`, routes, authorizations) will be
//! further inputs to the same two questions.

pub mod inbound;
pub mod outbound;

use self::{inbound::Inbound, outbound::Outbound};
use crate::{
    grpc::{self, Encoded, Frame, Frames, Method, Methods, Updates},
    index::Live,
    metrics::Metrics,
    names::{self, Authority, Host, ServiceName},
    object::Key,
};
use bytes::Bytes;
use futures::{StreamExt, stream};
use linkerd2_proxy_api::{
    inbound::{PortSpec, Server},
    outbound::{OutboundPolicy as ClientPolicy, TrafficSpec, traffic_spec},
};
use mesh_policy::{inbound::ServerPolicy, outbound::OutboundPolicy, proto};
use std::{net::SocketAddr, sync::Arc};
use tonic::Status;

/// `io.linkerd.proxy.inbound.InboundServerPolicies`.
pub struct InboundServerPolicies {
    /// Where it asks.
    pub policies: Arc<Live<Inbound>>,
    /// Where streams are counted.
    pub metrics: Arc<Metrics>,
}

/// `io.linkerd.proxy.outbound.OutboundPolicies`.
pub struct OutboundPolicies {
    /// Where it asks.
    pub policies: Arc<Live<Outbound>>,
    /// For example `cluster.local`.
    pub cluster_domain: Arc<str>,
    /// Where streams are counted.
    pub metrics: Arc<Metrics>,
}

// === impl InboundServerPolicies ===

impl Methods for InboundServerPolicies {
    const NAME: &'static str = "io.linkerd.proxy.inbound.InboundServerPolicies";

    fn method(name: &str) -> Option<Method<Self>> {
        match name {
            "GetPort" => Some(Method::Stream(Self::get_port)),
            "WatchPort" => Some(Method::Stream(Self::watch_port)),
            _ => None,
        }
    }
}

impl InboundServerPolicies {
    fn get_port(&self, request: Bytes) -> Result<Frames, Status> {
        let question = port(&grpc::decode(request)?)?;
        let answer = self.policies.answer(&question);
        Ok(once(server(&question, &answer)?))
    }

    fn watch_port(&self, request: Bytes) -> Result<Frames, Status> {
        let question = port(&grpc::decode(request)?)?;
        let answers = self.policies.ask(question.clone());
        server(&question, &answers.borrow())?;
        let open = self.metrics.open_stream("inbound_watch_port");
        let updates = Updates::new(answers, open);
        Ok(updates.each(move |answer| server(&question, answer)))
    }
}

fn server(question: &Inbound, answer: &Option<Encoded<ServerPolicy>>) -> Result<Frame, Status> {
    let unknown = || Status::not_found(format!("there is no pod {}", question.pod));
    let policy = answer.as_ref().ok_or_else(unknown)?;
    Ok(policy.frame(|policy| Frame::of(&Server::from(policy))))
}

// === impl OutboundPolicies ===

impl Methods for OutboundPolicies {
    const NAME: &'static str = "io.linkerd.proxy.outbound.OutboundPolicies";

    fn method(name: &str) -> Option<Method<Self>> {
        match name {
            "Get" => Some(Method::Stream(Self::get)),
            "Watch" => Some(Method::Stream(Self::watch)),
            _ => None,
        }
    }
}

impl OutboundPolicies {
    fn get(&self, request: Bytes) -> Result<Frames, Status> {
        let question = self.target(grpc::decode(request)?)?;
        let answer = self.policies.answer(&question);
        Ok(once(client(&question, &answer)?))
    }

    fn watch(&self, request: Bytes) -> Result<Frames, Status> {
        let question = self.target(grpc::decode(request)?)?;
        let answers = self.policies.ask(question.clone());
        client(&question, &answers.borrow())?;
        let open = self.metrics.open_stream("outbound_watch");
        let updates = Updates::new(answers, open);
        Ok(updates.each(move |answer| client(&question, answer)))
    }

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

fn workload(token: &str) -> Result<Key, Status> {
    names::workload(token).map_err(invalid)
}

fn invalid(error: impl std::error::Error) -> Status {
    Status::invalid_argument(error.to_string())
}

fn client(question: &Outbound, answer: &Option<Encoded<OutboundPolicy>>) -> Result<Frame, Status> {
    let unknown = || Status::not_found(format!("{question} is neither a service nor a pod"));
    let policy = answer.as_ref().ok_or_else(unknown)?;
    Ok(policy.frame(|policy| Frame::of(&ClientPolicy::from(policy))))
}

fn once(frame: Frame) -> Frames {
    stream::once(async { Ok(frame) }).boxed()
}
