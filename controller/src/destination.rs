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
    grpc::{self, Frame, Frames, Method, Methods, Updates},
    index::Live,
    metrics::Metrics,
    names::{Authority, Host, ServiceName},
};
use bytes::Bytes;
use linkerd2_proxy_api::destination::GetDestination;
use std::sync::Arc;
use tonic::Status;

/// The service.
pub struct Destination {
    /// Where `Get` asks.
    pub endpoints: Arc<Live<Endpoints>>,
    /// Where `GetProfile` asks.
    pub profiles: Arc<Live<Profile>>,
    /// For example `cluster.local`.
    pub cluster_domain: Arc<str>,
    /// Where streams are counted.
    pub metrics: Arc<Metrics>,
}

impl Methods for Destination {
    const NAME: &'static str = "io.linkerd.proxy.destination.Destination";

    fn method(name: &str) -> Option<Method<Self>> {
        match name {
            "Get" => Some(Method::Stream(Self::get)),
            "GetProfile" => Some(Method::Stream(Self::get_profile)),
            _ => None,
        }
    }
}

impl Destination {
    fn get(&self, request: Bytes) -> Result<Frames, Status> {
        let GetDestination { path, .. } = grpc::decode(request)?;
        let mut answers = self.endpoints.ask(self.endpoints_of(&path)?);
        let first = answers.borrow_and_update().clone();
        found(&first, &path)?;
        let open = self.metrics.open_stream("destination_get");
        Ok(differences(first, Updates::new(answers, open)))
    }

    fn get_profile(&self, request: Bytes) -> Result<Frames, Status> {
        let GetDestination { path, .. } = grpc::decode(request)?;
        let answers = self.profiles.ask(self.profile_of(&path)?);
        let first = answers.borrow().clone();
        profile(&first)?;
        let open = self.metrics.open_stream("destination_get_profile");
        Ok(Updates::new(answers, open).each(profile))
    }

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

fn profile(answer: &ProfileAnswer) -> Result<Frame, Status> {
    match answer {
        ProfileAnswer::Profile(profile) => Ok(profile.frame(Frame::of)),
        ProfileAnswer::Ambiguous(problem) => Err(Status::failed_precondition(problem)),
    }
}

/// All there is, then differences.
fn differences(first: Arc<EndpointSet>, updates: Updates<EndpointSet>) -> Frames {
    let pending = first.all();
    let state = (first, pending, 0, updates);
    let stream = futures::stream::unfold(
        state,
        |(mut sent, mut pending, mut at, mut updates)| async move {
            while at == pending.len() {
                let next = updates.next().await?;
                (pending, at) = (next.since(&sent), 0);
                sent = next;
            }
            let frame = pending[at].clone();
            updates.count();
            Some((Ok(frame), (sent, pending, at + 1, updates)))
        },
    );
    Box::pin(stream)
}
