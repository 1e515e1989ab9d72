//! Waiting for what must become true, with a deadline.
//!
//! The only sleeps of the harness are here: a test says what it waits for, never for how long
//! something usually takes.

use std::{
    future::Future,
    time::{Duration, Instant},
};

const POLL: Duration = Duration::from_millis(5);

/// Polls `probe` until it yields a value; panics with `what` after `deadline`.
pub async fn some<T, F, Fut>(what: &str, deadline: Duration, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(value) = probe().await {
            return value;
        }
        assert!(
            start.elapsed() < deadline,
            "not within {deadline:?}: {what}"
        );
        tokio::time::sleep(POLL).await;
    }
}

/// Polls `probe` until it is true; panics with `what` after `deadline`.
pub async fn holds<F, Fut>(what: &str, deadline: Duration, mut probe: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    some(what, deadline, || {
        let answer = probe();
        async move { answer.await.then_some(()) }
    })
    .await;
}

/// [`some`] for code outside a runtime; `None` when `deadline` has passed.
pub fn blocking<T>(deadline: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = probe() {
            return Some(value);
        }
        if start.elapsed() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// `future`, or a panic that names `what` after `deadline`.
pub async fn within<T>(what: &str, deadline: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(deadline, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {deadline:?}: {what}"),
    }
}
