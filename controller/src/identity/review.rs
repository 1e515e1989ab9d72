//! Whose token it is, asked of the API server of a cluster: `TokenReview`.
//!
//! The one place of the identity service that talks to Kubernetes. How many are asked at once and
//! how long they may take is bounded by the caller.

use super::{
    name::ServiceAccount,
    token::{AUDIENCE, TokenError, Tokens},
};
use futures::future::BoxFuture;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};

/// The API server.
pub struct ApiServer {
    reviews: Api<TokenReview>,
}

/// There is no API server to ask.
#[derive(Debug, thiserror::Error)]
#[error("no cluster: {0}")]
pub struct NoCluster(String);

impl ApiServer {
    /// Through `client`.
    pub fn new(client: Client) -> Self {
        Self {
            reviews: Api::all(client),
        }
    }

    /// That of the cluster this runs in, or of `KUBECONFIG`. Nothing is sent yet.
    ///
    /// # Errors
    /// When neither is there.
    pub async fn of_environment() -> Result<Self, NoCluster> {
        let client = Client::try_default().await;
        client
            .map(Self::new)
            .map_err(|error| NoCluster(error.to_string()))
    }

    async fn review(
        &self,
        token: &str,
        audiences: Option<Vec<String>>,
    ) -> Result<TokenReviewStatus, String> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences,
                token: Some(token.to_owned()),
            },
            ..TokenReview::default()
        };
        let answer = self.reviews.create(&PostParams::default(), &review).await;
        let status = answer
            .map_err(|error| error.to_string())?
            .status
            .unwrap_or_default();
        match status.error.as_deref() {
            // Who is not authenticated has an error, too, which is not ours.
            Some(error) if error.contains(NO_AUDIENCES) => Err(error.to_owned()),
            _ => Ok(status),
        }
    }
}

/// What servers say that know no audiences.
const NO_AUDIENCES: &str = "token audiences";

impl Tokens for ApiServer {
    fn owner<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<ServiceAccount, TokenError>> {
        Box::pin(async move {
            let ours = vec![AUDIENCE.to_owned()];
            let status = match self.review(token, Some(ours)).await {
                Err(error) if error.contains(NO_AUDIENCES) => self.review(token, None).await,
                status => status,
            };
            owner(status.map_err(TokenError::Unavailable)?)
        })
    }
}

fn owner(status: TokenReviewStatus) -> Result<ServiceAccount, TokenError> {
    if status.authenticated != Some(true) {
        let why = status
            .error
            .unwrap_or_else(|| "the API server does not know it".to_owned());
        return Err(TokenError::Refused(why));
    }
    let audiences = status.audiences.unwrap_or_default();
    // A server that knows audiences says for which of those that were asked for it is.
    if !audiences.is_empty() && !audiences.iter().any(|audience| audience == AUDIENCE) {
        return Err(TokenError::Refused(format!("not meant for {AUDIENCE}")));
    }
    let username = status
        .user
        .and_then(|user| user.username)
        .unwrap_or_default();
    ServiceAccount::of_username(&username).ok_or(TokenError::NotAServiceAccount(username))
}

#[cfg(test)]
mod tests;
