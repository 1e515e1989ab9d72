//! PINGs by which the end that opened a connection notices that its peer is gone.

use h2::{Ping, PingPong};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Completes when the peer has not answered a PING in time. They are sent at each interval in which
/// the connection `is_used`; `keep_alive` is that interval, and how long an answer may take.
pub async fn silence(
    pings: Option<PingPong>,
    keep_alive: (Duration, Duration),
    is_used: impl Fn() -> bool,
) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    let (interval, limit) = keep_alive;
    loop {
        sleep(interval).await;
        if is_used() && timeout(limit, pings.ping(Ping::opaque())).await.is_err() {
            return;
        }
    }
}
