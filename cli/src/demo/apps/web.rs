//! The front end: every request calls api; some also call voting over gRPC, some store over TCP.
//!
//! `traffic` calls it. An error of anything it calls is its own error, as a 502 with the reason.

use super::http_client::HttpClient;
use super::store::StoreClient;
use super::voting::VotingClient;
use super::{http_server, service, variable};
use http::StatusCode;
use std::sync::Arc;

struct Web {
    api: String,
    http: HttpClient,
    voting: VotingClient,
    store: StoreClient,
}

/// Serves until told to end.
pub(super) async fn run() -> anyhow::Result<()> {
    let web = Arc::new(Web {
        api: variable("API")?,
        http: HttpClient::from_env()?,
        voting: VotingClient::new(&service("VOTING")?)?,
        store: StoreClient::new(service("STORE")?),
    });
    http_server::serve(move |path| {
        let web = web.clone();
        async move {
            match web.page(&path).await {
                Ok(page) => (StatusCode::OK, page),
                Err(error) => (StatusCode::BAD_GATEWAY, format!("{error:#}\n")),
            }
        }
    })
    .await
}

impl Web {
    async fn page(&self, path: &str) -> anyhow::Result<String> {
        let (status, items) = self.http.get(&self.api).await?;
        anyhow::ensure!(status.is_success(), "api answers {status}");
        let more = match path {
            "/vote" => format!("votes: {}\n", self.voting.vote("tea").await?),
            "/results" => self.voting.results().await?.join("\n"),
            "/cart" => self.store.ask("INCR carts").await?,
            _ => String::new(),
        };
        Ok(format!("{items}{more}"))
    }
}
