//! The load generator: calls web at a steady rate, whether it answers or not.
//!
//! Its rate does not follow the answers, so a slow mesh cannot hide behind fewer calls.

use super::http_client::HttpClient;
use super::{interrupted, variable};
use crate::out;
use anyhow::Context;
use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Calls under way; beyond this the generator skips a beat.
const MAX_IN_FLIGHT: usize = 256;
const REPORT_PERIOD: Duration = Duration::from_secs(10);

/// Runs until told to end, then waits for what is under way.
pub(super) async fn run() -> anyhow::Result<()> {
    let target = variable("TARGET")?;
    let rps: u32 = variable("RPS")?.parse().context("RPS is no number")?;
    anyhow::ensure!(rps > 0, "RPS has to be at least 1");
    let client = Arc::new(HttpClient::from_env()?);
    let mut beat = interval(Duration::from_secs(1) / rps);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut calls = JoinSet::new();
    let mut outcomes: BTreeMap<String, u64> = BTreeMap::new();
    let mut reported = Instant::now();
    let mut stop = pin!(interrupted());
    for number in 0u64.. {
        tokio::select! {
            _ = beat.tick() => {}
            () = &mut stop => break,
        }
        while let Some(Ok(outcome)) = calls.try_join_next() {
            *outcomes.entry(outcome).or_default() += 1;
        }
        if calls.len() < MAX_IN_FLIGHT {
            calls.spawn(call(client.clone(), format!("{target}{}", path(number))));
        }
        if reported.elapsed() >= REPORT_PERIOD {
            reported = Instant::now();
            out::note(&format!("{outcomes:?}"));
            outcomes.clear();
        }
    }
    while calls.join_next().await.is_some() {}
    Ok(())
}

async fn call(client: Arc<HttpClient>, url: String) -> String {
    match client.get(&url).await {
        Ok((status, _)) => status.as_u16().to_string(),
        Err(error) => format!("{error:#}"),
    }
}

/// Of ten visitors one votes, one looks at the results, one leaves something in the store.
fn path(number: u64) -> &'static str {
    match number % 10 {
        3 => "vote",
        6 => "results",
        9 => "cart",
        _ => "",
    }
}
