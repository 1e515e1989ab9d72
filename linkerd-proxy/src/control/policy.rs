//! `OutboundPolicies.Watch` and `InboundServerPolicies.WatchPort`.

use super::{Known, client::Client, stream};
use crate::{addr::Target, config};
use linkerd2_proxy_api::{
    inbound::{PortSpec, Server, inbound_server_policies_client::InboundServerPoliciesClient},
    net::TcpAddress,
    outbound::{
        self as out, TrafficSpec, outbound_policies_client::OutboundPoliciesClient, traffic_spec,
    },
};
use mesh_policy::{
    authz::Authorization, inbound::ServerPolicy, outbound::OutboundPolicy, proto::Read,
};
use std::{collections::HashSet, sync::Arc};
use tonic::{Status, Streaming, transport::Channel};

/// What a port's policy is until the control plane has spoken.
pub struct DefaultServer {
    detect: Arc<ServerPolicy>,
    opaque: Arc<ServerPolicy>,
    opaque_ports: HashSet<u16>,
}

impl DefaultServer {
    /// By the inbound configuration.
    pub fn new(config: &config::Inbound) -> Self {
        let policy = |opaque| {
            let networks = &config.cluster_networks;
            let policy = ServerPolicy::default_named(config.default_policy, networks, opaque);
            Arc::new(with_loopback(policy))
        };
        Self {
            detect: policy(false),
            opaque: policy(true),
            opaque_ports: config.opaque_ports.clone(),
        }
    }

    /// The policy of `port`.
    pub fn policy(&self, port: u16) -> Arc<ServerPolicy> {
        match self.opaque_ports.contains(&port) {
            true => self.opaque.clone(),
            false => self.detect.clone(),
        }
    }
}

/// What comes from the pod's own loopback is the pod itself, whatever the policy says.
fn with_loopback(mut policy: ServerPolicy) -> ServerPolicy {
    let all = policy.authorizations.iter().cloned();
    policy.authorizations = all.chain([Authorization::loopback()]).collect();
    policy
}

pub(super) struct Outbound {
    client: Arc<Client>,
    workload: String,
    target: Target,
}

impl Outbound {
    pub(super) fn new(client: Arc<Client>, workload: &str, target: &Target) -> Self {
        Self {
            client,
            workload: workload.to_owned(),
            target: target.clone(),
        }
    }
}

impl stream::Feed for Outbound {
    type Message = out::OutboundPolicy;
    type Value = Known<Arc<OutboundPolicy>>;

    const NAME: &'static str = "outbound";

    fn subject(&self) -> String {
        self.target.to_string()
    }

    fn client(&self) -> Arc<Client> {
        self.client.clone()
    }

    fn initial(&self) -> Self::Value {
        Known::Pending
    }

    fn absent(&self) -> Self::Value {
        Known::Absent
    }

    async fn open(&self, channel: Channel) -> Result<Streaming<out::OutboundPolicy>, Status> {
        let target = match &self.target {
            Target::Addr(addr) => traffic_spec::Target::Addr(TcpAddress::from(*addr)),
            name => traffic_spec::Target::Authority(name.to_string()),
        };
        let spec = TrafficSpec {
            source_workload: self.workload.clone(),
            target: Some(target),
        };
        Ok(OutboundPoliciesClient::new(channel)
            .watch(spec)
            .await?
            .into_inner())
    }

    fn take(&mut self, message: out::OutboundPolicy, _: bool) -> Result<Self::Value, String> {
        let read = Read::<OutboundPolicy>::try_from(message).map_err(|e| e.to_string())?;
        for ignored in &read.ignored {
            tracing::warn!(target = %self.target, "not acted on yet: {ignored}");
        }
        Ok(Known::Value(Arc::new(read.value)))
    }
}

pub(super) struct Inbound {
    client: Arc<Client>,
    workload: String,
    port: u16,
    default: Arc<ServerPolicy>,
}

impl Inbound {
    pub(super) fn new(
        client: Arc<Client>,
        workload: &str,
        port: u16,
        default: Arc<ServerPolicy>,
    ) -> Self {
        Self {
            client,
            workload: workload.to_owned(),
            port,
            default,
        }
    }
}

impl stream::Feed for Inbound {
    type Message = Server;
    type Value = Arc<ServerPolicy>;

    const NAME: &'static str = "inbound";

    fn subject(&self) -> String {
        format!("port {}", self.port)
    }

    fn client(&self) -> Arc<Client> {
        self.client.clone()
    }

    fn initial(&self) -> Self::Value {
        self.default.clone()
    }

    fn absent(&self) -> Self::Value {
        self.default.clone()
    }

    async fn open(&self, channel: Channel) -> Result<Streaming<Server>, Status> {
        let spec = PortSpec {
            workload: self.workload.clone(),
            port: self.port.into(),
        };
        Ok(InboundServerPoliciesClient::new(channel)
            .watch_port(spec)
            .await?
            .into_inner())
    }

    fn take(&mut self, message: Server, _: bool) -> Result<Self::Value, String> {
        let read = Read::<ServerPolicy>::try_from(message).map_err(|e| e.to_string())?;
        for ignored in &read.ignored {
            tracing::warn!(port = self.port, "not acted on yet: {ignored}");
        }
        Ok(Arc::new(with_loopback(read.value)))
    }
}
