//! A gRPC service written by hand: one unary call, one that streams; and its client.
//!
//! `demo.Voting/Vote` counts a vote and answers with the count, `demo.Voting/Results` sends one
//! message per choice. Each replica counts for itself.

use super::{interrupted, listen_addr};
use http::uri::PathAndQuery;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::Mutex;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::server::{Grpc, NamedService, ServerStreamingService, UnaryService};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request, Response, Status, client};
use tonic_prost::ProstCodec;

const VOTE: &str = "/demo.Voting/Vote";
const RESULTS: &str = "/demo.Voting/Results";
const MAX_CHOICES: usize = 100;
const DEADLINE: Duration = Duration::from_secs(5);

#[derive(Clone, PartialEq, prost::Message)]
struct Ballot {
    #[prost(string, tag = "1")]
    choice: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Count {
    #[prost(string, tag = "1")]
    choice: String,
    #[prost(uint64, tag = "2")]
    votes: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nothing {}

type Counts = Arc<Mutex<BTreeMap<String, u64>>>;
type Results = tokio_stream::Iter<std::vec::IntoIter<Result<Count, Status>>>;
type Reply<T> = BoxFuture<Response<T>, Status>;

/// Serves until told to end; calls under way are finished.
pub(super) async fn run() -> anyhow::Result<()> {
    let service = Voting {
        counts: Counts::default(),
    };
    Server::builder()
        .add_service(service)
        .serve_with_shutdown(listen_addr()?, interrupted())
        .await?;
    Ok(())
}

#[derive(Clone)]
struct Voting {
    counts: Counts,
}

struct Vote(Counts);
struct ListResults(Counts);

impl NamedService for Voting {
    const NAME: &'static str = "demo.Voting";
}

impl Service<http::Request<Body>> for Voting {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let counts = self.counts.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                VOTE => {
                    Grpc::new(ProstCodec::default())
                        .unary(Vote(counts), request)
                        .await
                }
                RESULTS => {
                    let mut grpc = Grpc::new(ProstCodec::default());
                    grpc.server_streaming(ListResults(counts), request).await
                }
                _ => Status::new(Code::Unimplemented, "no such call").into_http(),
            })
        })
    }
}

impl UnaryService<Ballot> for Vote {
    type Response = Count;
    type Future = Reply<Count>;

    fn call(&mut self, request: Request<Ballot>) -> Self::Future {
        let counts = self.0.clone();
        Box::pin(async move {
            let choice = request.into_inner().choice;
            let mut counts = counts.lock().await;
            if counts.len() >= MAX_CHOICES && !counts.contains_key(&choice) {
                return Err(Status::resource_exhausted("too many choices"));
            }
            let votes = counts.entry(choice.clone()).or_default();
            *votes += 1;
            Ok(Response::new(Count {
                choice,
                votes: *votes,
            }))
        })
    }
}

impl ServerStreamingService<Nothing> for ListResults {
    type Response = Count;
    type ResponseStream = Results;
    type Future = Reply<Results>;

    fn call(&mut self, _: Request<Nothing>) -> Self::Future {
        let counts = self.0.clone();
        Box::pin(async move {
            let counts = counts.lock().await;
            let messages = counts.iter();
            let messages = messages.map(|(choice, votes)| {
                Ok(Count {
                    choice: choice.clone(),
                    votes: *votes,
                })
            });
            Ok(Response::new(tokio_stream::iter(
                messages.collect::<Vec<_>>(),
            )))
        })
    }
}

/// Calls voting over HTTP/2 with prior knowledge.
pub(super) struct VotingClient {
    channel: Channel,
}

// === impl VotingClient ===

impl VotingClient {
    pub(super) fn new(addr: &str) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{addr}"))?;
        let endpoint = endpoint.connect_timeout(DEADLINE).timeout(DEADLINE);
        Ok(Self {
            channel: endpoint.connect_lazy(),
        })
    }

    /// Votes; how many have voted the same.
    pub(super) async fn vote(&self, choice: &str) -> anyhow::Result<u64> {
        let ballot = Request::new(Ballot {
            choice: choice.to_string(),
        });
        let codec: ProstCodec<Ballot, Count> = ProstCodec::default();
        let mut client = client::Grpc::new(self.channel.clone());
        client.ready().await?;
        let path = PathAndQuery::from_static(VOTE);
        Ok(client.unary(ballot, path, codec).await?.into_inner().votes)
    }

    /// The results, as lines.
    pub(super) async fn results(&self) -> anyhow::Result<Vec<String>> {
        let codec: ProstCodec<Nothing, Count> = ProstCodec::default();
        let mut client = client::Grpc::new(self.channel.clone());
        client.ready().await?;
        let path = PathAndQuery::from_static(RESULTS);
        let request = Request::new(Nothing {});
        let mut stream = client
            .server_streaming(request, path, codec)
            .await?
            .into_inner();
        let mut lines = Vec::new();
        while let Some(count) = stream.message().await? {
            lines.push(format!("{}: {}", count.choice, count.votes));
        }
        Ok(lines)
    }
}
