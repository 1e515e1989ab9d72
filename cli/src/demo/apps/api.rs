//! The back end: quick and sound, except for one replica.
//!
//! `web` calls it for every request. Which replica is the slow one, `demo.yaml` says.

use super::{http_server, variable};
use http::StatusCode;
use std::time::Duration;

const SLOWNESS: Duration = Duration::from_millis(150);
/// How many of a hundred answers of the slow replica fail: it is sent so few requests that fewer
/// failures would not be seen in a short demo.
const FAILURES: u32 = 60;

/// Serves until told to end.
pub(super) async fn run() -> anyhow::Result<()> {
    let name = variable("NAME")?;
    let slow = name == variable("SLOW_REPLICA")?;
    http_server::serve(move |_path| {
        let name = name.clone();
        async move {
            if slow {
                tokio::time::sleep(SLOWNESS).await;
                if rand::random_range(0..100) < FAILURES {
                    return (StatusCode::INTERNAL_SERVER_ERROR, format!("{name} fails\n"));
                }
            }
            (StatusCode::OK, format!("from {name}\n"))
        }
    })
    .await
}
