//! An API server in memory, asked about tokens.

use super::*;
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;

/// An API server, in memory.
#[derive(Clone)]
struct Fake {
    answers: Arc<Mutex<Vec<(StatusCode, Value)>>>,
    asked: Arc<Mutex<Vec<Value>>>,
}

/// What comes of asking such a server, and the bodies it was sent.
async fn ask(
    answers: Vec<(StatusCode, Value)>,
) -> (Result<ServiceAccount, TokenError>, Vec<Value>) {
    let fake = Fake {
        answers: Arc::new(Mutex::new(answers)),
        asked: Arc::default(),
    };
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let router = Router::new().route(path, post(answer));
    let client = Client::new(router.with_state(fake.clone()), "default");
    let owner = ApiServer::new(client).owner("secret").await;
    let asked = fake.asked.lock().clone();
    (owner, asked)
}

async fn answer(State(fake): State<Fake>, body: String) -> (StatusCode, Json<Value>) {
    let body = serde_json::from_str(&body).expect("JSON");
    fake.asked.lock().push(body);
    let (status, answer) = fake.answers.lock().remove(0);
    (status, Json(answer))
}

fn review(status: Value) -> (StatusCode, Value) {
    let review = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
        "metadata": {}, "spec": {}, "status": status,
    });
    (StatusCode::CREATED, review)
}

fn failure(message: &str) -> (StatusCode, Value) {
    let status = json!({
        "apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": message, "reason": "InternalError", "code": 500,
    });
    (StatusCode::INTERNAL_SERVER_ERROR, status)
}

const WEB: &str = "system:serviceaccount:demo:web";

#[tokio::test]
async fn the_owner_is_whom_the_api_server_names() {
    let good = json!({
        "authenticated": true, "audiences": [AUDIENCE], "user": {"username": WEB},
    });
    let (owner, asked) = ask(vec![review(good)]).await;
    assert_eq!(
        owner.expect("good"),
        ServiceAccount::new("demo", "web").expect("names")
    );
    assert_eq!(
        asked[0]["spec"],
        json!({"token": "secret", "audiences": [AUDIENCE]})
    );
}

#[tokio::test]
async fn servers_without_audiences_are_asked_again() {
    let good = json!({"authenticated": true, "user": {"username": WEB}});
    let problem = "TokenReview: unsupported token audiences";
    for refusal in [failure(problem), review(json!({"error": problem}))] {
        let (owner, asked) = ask(vec![refusal, review(good.clone())]).await;
        assert!(owner.is_ok(), "{owner:?}");
        assert_eq!(asked[1]["spec"], json!({"token": "secret"}));
    }
}

#[tokio::test]
async fn others_are_refused() {
    let user = |name: &str| json!({"username": name});
    let table = [
        (
            review(json!({"authenticated": false, "error": "invalid bearer token"})),
            "invalid bearer",
        ),
        (review(json!({"user": user(WEB)})), "does not know it"),
        (review(json!({})), "does not know it"),
        (
            review(json!({"authenticated": true, "audiences": ["vault"], "user": user(WEB)})),
            "not meant for identity.l5d.io",
        ),
        (
            review(json!({"authenticated": true, "user": user("admin")})),
            "the token is of \"admin\"",
        ),
        (
            review(json!({"authenticated": true})),
            "the token is of \"\"",
        ),
    ];
    for (answer, why) in table {
        let (owner, _) = ask(vec![answer]).await;
        let refused = owner.expect_err(why).to_string();
        assert!(
            refused.contains(why) && !refused.contains("secret"),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_server_that_fails_refuses_nobody() {
    let garbage = (StatusCode::OK, json!("nonsense"));
    for answer in [failure("etcd is gone"), garbage] {
        let (owner, asked) = ask(vec![answer]).await;
        assert!(
            matches!(owner, Err(TokenError::Unavailable(_))),
            "{owner:?}"
        );
        assert_eq!(asked.len(), 1);
    }
}
