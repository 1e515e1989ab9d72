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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{io::DuplexStream, time::Instant};

    const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3));

    /// A connection, driven; the far end of it does what the test says.
    async fn connection() -> (Option<PingPong>, impl Sized, DuplexStream) {
        let (near, far) = tokio::io::duplex(1 << 16);
        let (sender, mut driver) = h2::client::handshake(near).await.unwrap();
        let pings = driver.ping_pong();
        tokio::spawn(driver);
        (pings, sender, far)
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_answer_is_noticed() {
        let (pings, _sender, _far) = connection().await;
        let begun = Instant::now();
        silence(pings, KEEP_ALIVE, || true).await;
        assert_eq!(begun.elapsed(), KEEP_ALIVE.0 + KEEP_ALIVE.1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_answers_or_is_not_asked_is_left_alone() {
        let (pings, _sender, far) = connection().await;
        let server = tokio::spawn(async move {
            let mut server = h2::server::handshake(far).await?;
            server.accept().await.transpose().map(drop)
        });
        let minutes = Duration::from_secs(600);
        let answered = tokio::time::timeout(minutes, silence(pings, KEEP_ALIVE, || true)).await;
        assert!(answered.is_err());
        server.abort();
        let (pings, _sender, _far) = connection().await;
        let unused = tokio::time::timeout(minutes, silence(pings, KEEP_ALIVE, || false)).await;
        assert!(unused.is_err());
    }
}
