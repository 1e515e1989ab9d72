//! `io.linkerd.proxy.destination.Destination`: what backs a name, and what is known of a target.
//!
//! Each call becomes a question to the index and a stream of its answers. A client that reads slowly
//! is skipped ahead to the latest answer, so what waits for it is never more than one.

mod diff;
pub mod endpoints;
pub mod pods;
pub mod profile;

use self::{
    endpoints::{EndpointSet, Endpoints, Existence},
    profile::{Profile, ProfileAnswer},
};
use crate::{
    grpc::{Streams, Updates},
    index::Live,
    names::{Authority, Host, ServiceName},
};
use futures::stream::BoxStream;
use linkerd2_proxy_api::destination::{
    DestinationProfile, GetDestination, Update, destination_server::Destination,
};
use std::{collections::VecDeque, sync::Arc};
use tonic::{Request, Response, Status};

/// The service.
pub struct Server {
    /// Where `Get` asks.
    pub endpoints: Arc<Live<Endpoints>>,
    /// Where `GetProfile` asks.
    pub profiles: Arc<Live<Profile>>,
    /// For example `cluster.local`.
    pub cluster_domain: Arc<str>,
    /// What streams share.
    pub streams: Streams,
}

#[tonic::async_trait]
impl Destination for Server {
    type GetStream = BoxStream<'static, Result<Update, Status>>;
    type GetProfileStream = BoxStream<'static, Result<DestinationProfile, Status>>;

    async fn get(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Self::GetStream>, Status> {
        let question = self.endpoints_of(&request.get_ref().path)?;
        let mut answers = self.endpoints.ask(question);
        let first = answers.borrow_and_update().clone();
        found(&first, &request.get_ref().path)?;
        let updates = self.streams.follow("destination_get", answers);
        Ok(Response::new(endpoint_stream(first, updates)))
    }

    async fn get_profile(
        &self,
        request: Request<GetDestination>,
    ) -> Result<Response<Self::GetProfileStream>, Status> {
        let question = self.profile_of(&request.get_ref().path)?;
        let answers = self.profiles.ask(question);
        let first = answers.borrow().clone();
        profile(&first)?;
        let updates = self.streams.follow("destination_get_profile", answers);
        let stream = updates.each(|answer| profile(&answer));
        Ok(Response::new(stream))
    }
}

impl Server {
    fn endpoints_of(&self, path: &str) -> Result<Endpoints, Status> {
        let Authority { host, port } = authority(path)?;
        let Host::Name(name) = host else {
            let problem = format!("{path:?} is an address: only names have endpoints");
            return Err(Status::invalid_argument(problem));
        };
        let target = self.service_name(&name)?;
        Ok(Endpoints { target, port })
    }

    fn profile_of(&self, path: &str) -> Result<Profile, Status> {
        let Authority { host, port } = authority(path)?;
        Ok(match host {
            Host::Ip(ip) => Profile::Address((ip.to_canonical(), port).into()),
            Host::Name(name) => Profile::Name(self.service_name(&name)?, port),
        })
    }

    fn service_name(&self, name: &str) -> Result<ServiceName, Status> {
        ServiceName::parse(name, &self.cluster_domain).ok_or_else(|| {
            let domain = &self.cluster_domain;
            Status::invalid_argument(format!("{name:?} is not a SERVICE.NAMESPACE.svc.{domain}"))
        })
    }
}

fn authority(path: &str) -> Result<Authority, Status> {
    Authority::parse(path).map_err(|error| Status::invalid_argument(error.to_string()))
}

/// Linkerd's codes for names that cannot be followed.
fn found(set: &EndpointSet, path: &str) -> Result<(), Status> {
    match set.existence {
        Existence::Exists => Ok(()),
        Existence::Missing => Err(Status::not_found(format!("there is no service {path}"))),
        Existence::External => Err(Status::invalid_argument(format!(
            "{path} is of type ExternalName: it has no endpoints"
        ))),
    }
}

fn profile(answer: &ProfileAnswer) -> Result<DestinationProfile, Status> {
    match answer {
        ProfileAnswer::Profile(profile) => Ok((**profile).clone()),
        ProfileAnswer::Ambiguous(problem) => Err(Status::failed_precondition(problem)),
    }
}

/// All there is, then differences.
fn endpoint_stream(
    first: Arc<EndpointSet>,
    updates: Updates<EndpointSet>,
) -> BoxStream<'static, Result<Update, Status>> {
    let pending: VecDeque<Update> = diff::all(&first).into();
    let state = (first, pending, updates);
    let stream =
        futures::stream::unfold(state, |(mut sent, mut pending, mut updates)| async move {
            while pending.is_empty() {
                let next = updates.next().await?;
                pending = diff::between(&sent, &next).into();
                sent = next;
            }
            let update = pending.pop_front()?;
            updates.count();
            Some((Ok(update), (sent, pending, updates)))
        });
    Box::pin(stream)
}
