//! `Destination.Get`: the addresses behind a `name:port`.

use super::{channel::Channel, client::Client, stream};
use crate::balance::Endpoints;
use indexmap::IndexMap;
use linkerd2_proxy_api::destination::{
    GetDestination, Update, destination_client::DestinationClient,
};
use mesh_policy::{
    endpoint::Endpoint,
    proto::{Read, destination::Change},
};
use std::{net::SocketAddr, sync::Arc};
use tonic::{Status, Streaming};

pub(super) struct Feed {
    client: Arc<Client>,
    context: String,
    path: Arc<str>,
    known: IndexMap<SocketAddr, Endpoint>,
}

impl Feed {
    pub(super) fn new(client: Arc<Client>, context: &str, path: &Arc<str>) -> Self {
        Self {
            client,
            context: context.to_owned(),
            path: path.clone(),
            known: IndexMap::new(),
        }
    }
}

impl stream::Feed for Feed {
    type Message = Update;
    type Value = Endpoints;

    const NAME: &'static str = "endpoints";

    fn subject(&self) -> String {
        self.path.to_string()
    }

    fn client(&self) -> Arc<Client> {
        self.client.clone()
    }

    fn initial(&self) -> Endpoints {
        Endpoints::Unknown
    }

    fn absent(&self) -> Option<Endpoints> {
        Some(Endpoints::DoesNotExist)
    }

    async fn open(&self, channel: Channel) -> Result<Streaming<Update>, Status> {
        let request = GetDestination {
            scheme: String::new(),
            path: self.path.to_string(),
            context_token: self.context.clone(),
        };
        Ok(DestinationClient::new(channel)
            .get(request)
            .await?
            .into_inner())
    }

    fn take(&mut self, message: Update, is_first: bool) -> Result<Endpoints, String> {
        let read = Read::<Change>::try_from(message).map_err(|e| e.to_string())?;
        for ignored in &read.ignored {
            tracing::debug!(path = %self.path, "not acted on: {ignored}");
        }
        if is_first {
            self.known.clear();
        }
        match read.value {
            Change::Add(endpoints) => self
                .known
                .extend(endpoints.into_iter().map(|e| (e.addr, e))),
            Change::Remove(addrs) => {
                for addr in addrs {
                    self.known.shift_remove(&addr);
                }
            }
            Change::NoEndpoints { exists } => {
                self.known.clear();
                if !exists {
                    return Ok(Endpoints::DoesNotExist);
                }
            }
        }
        Ok(Endpoints::Known(Arc::new(self.known.clone())))
    }
}
