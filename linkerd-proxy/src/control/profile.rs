//! `Destination.GetProfile`: what a name or address is, as far as its connections go.
//!
//! Of a profile this proxy takes whether the port is opaque, and which endpoint an address is.
//! Routes, retry budgets and overrides are for later.

use super::{Known, channel::Channel, client::Client, stream};
use crate::addr::Target;
use linkerd2_proxy_api::destination::{
    DestinationProfile, GetDestination, destination_client::DestinationClient,
};
use mesh_policy::endpoint::Endpoint;
use std::sync::Arc;
use tonic::{Status, Streaming};

/// What the destination service says of a target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// Whether its bytes are not to be looked at.
    pub opaque: bool,
    /// The endpoint that an address is, when it is one.
    pub endpoint: Option<Endpoint>,
}

pub(super) struct Feed {
    client: Arc<Client>,
    context: String,
    target: Target,
}

impl Feed {
    pub(super) fn new(client: Arc<Client>, context: &str, target: &Target) -> Self {
        Self {
            client,
            context: context.to_owned(),
            target: target.clone(),
        }
    }
}

impl stream::Feed for Feed {
    type Message = DestinationProfile;
    type Value = Known<Arc<Profile>>;

    const NAME: &'static str = "profile";

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

    async fn open(&self, channel: Channel) -> Result<Streaming<DestinationProfile>, Status> {
        let request = GetDestination {
            scheme: String::new(),
            path: self.target.to_string(),
            context_token: self.context.clone(),
        };
        Ok(DestinationClient::new(channel)
            .get_profile(request)
            .await?
            .into_inner())
    }

    fn take(&mut self, message: DestinationProfile, _: bool) -> Result<Self::Value, String> {
        if !message.routes.is_empty() || !message.dst_overrides.is_empty() {
            let target = &self.target;
            tracing::debug!(%target, "not acted on: routes and overrides of a service profile");
        }
        let endpoint = message.endpoint.map(Endpoint::try_from).transpose();
        let endpoint = endpoint.map_err(|e| format!("endpoint: {e}"))?;
        Ok(Known::Value(Arc::new(Profile {
            opaque: message.opaque_protocol,
            endpoint,
        })))
    }
}
