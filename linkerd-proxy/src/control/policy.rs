//! `OutboundPolicies.Watch` and `InboundServerPolicies.WatchPort`.

use super::{Known, channel::Channel, client::Client, stream};
use crate::{addr::Target, config};
use linkerd2_proxy_api::{
    inbound::{PortSpec, Server, inbound_server_policies_client::InboundServerPoliciesClient},
    net::TcpAddress,
    outbound::{
        self as out, TrafficSpec, outbound_policies_client::OutboundPoliciesClient, traffic_spec,
    },
};
use mesh_policy::{
    authz::Authorization,
    inbound::{Protocol, Required, ServerPolicy},
    outbound::OutboundPolicy,
    proto::Read,
};
use std::sync::Arc;
use tonic::{Status, Streaming};

/// What holds on the workload's ports, whatever the control plane says, and until it has spoken.
#[derive(Clone)]
pub struct PortRules(Arc<config::Inbound>);

impl PortRules {
    /// By the inbound configuration.
    pub fn new(config: &config::Inbound) -> Self {
        Self(Arc::new(config.clone()))
    }

    /// The policy of `port` until the control plane has spoken.
    pub fn default_policy(&self, port: u16) -> Arc<ServerPolicy> {
        let (default, networks) = (self.0.default_policy, &self.0.cluster_networks);
        let is_opaque = self.0.opaque_ports.contains(&port);
        let mut policy = ServerPolicy::default_named(default, networks, is_opaque);
        if let Protocol::Detect { timeout } = &mut policy.protocol {
            *timeout = self.0.side.detect_timeout;
        }
        self.applied(port, policy)
    }

    /// `policy`, with what holds whatever it says.
    fn applied(&self, port: u16, mut policy: ServerPolicy) -> Arc<ServerPolicy> {
        // What comes from a pod's own loopback is the pod itself. Where listeners are mapped there
        // is no pod: the loopback is the whole machine's.
        if self.0.ports.is_empty() {
            let all = policy.authorizations.iter().cloned();
            policy.authorizations = all.chain([Authorization::loopback()]).collect();
        }
        Arc::new(match self.required(port) {
            Some(required) => policy.requiring(required),
            None => policy,
        })
    }

    fn required(&self, port: u16) -> Option<Required> {
        if self.0.identity_ports.contains(&port) {
            return Some(Required::Identity);
        }
        self.0.tls_ports.contains(&port).then_some(Required::Tls)
    }
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

    fn absent(&self) -> Option<Self::Value> {
        Some(Known::Absent)
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
    rules: PortRules,
}

impl Inbound {
    pub(super) fn new(client: Arc<Client>, workload: &str, port: u16, rules: &PortRules) -> Self {
        Self {
            client,
            workload: workload.to_owned(),
            port,
            rules: rules.clone(),
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
        self.rules.default_policy(self.port)
    }

    fn absent(&self) -> Option<Self::Value> {
        // The default may allow what the last policy does not.
        None
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
        Ok(self.rules.applied(self.port, read.value))
    }
}
