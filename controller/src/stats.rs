//! Live statistics: success rates, latencies and throughput, without a Prometheus.
//!
//! ```text
//! proxies' /metrics --scrape--> text --> History (one per pod, ten minutes) --table--> JSON
//! ```
//! Every meshed pod's proxy is asked for its metrics each second. Of a page only what the tables
//! show is kept, as differences to the page before, thinned out with age; so a pod costs a few
//! kilobytes however long it lives. Semantics are those of `linkerd viz stat`.

mod api;
mod edges;
mod history;
mod scrape;
mod table;
mod text;

use self::history::History;
use crate::{
    cluster::Cluster,
    identity::name::ServiceAccount,
    metrics::Metrics,
    object::{Key, Pod},
};
use ahash::AHashMap;
use axum::Router;
use futures::StreamExt;
use parking_lot::{Mutex, RwLock};
use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{self, Instant, MissedTickBehavior};

/// Where a meshed pod's proxy serves its metrics.
pub const PROXY_ADMIN_PORT: u16 = 4191;
/// When a proxy that did not answer is asked again: waiting for it holds up the others.
const RETRY: Duration = Duration::from_secs(5);
/// How many pages are in memory at a time.
const CONCURRENT_SCRAPES: usize = 8;

/// Scrapes, remembers, answers. Clones share what is remembered.
#[derive(Clone)]
pub struct Stats {
    cluster: Arc<RwLock<Cluster>>,
    metrics: Arc<Metrics>,
    interval: Duration,
    histories: Arc<Mutex<AHashMap<Key, History>>>,
}

impl Stats {
    /// Nothing happens until [`scrape`](Self::scrape) is polled.
    pub fn new(cluster: Arc<RwLock<Cluster>>, metrics: Arc<Metrics>, interval: Duration) -> Self {
        Self {
            cluster,
            metrics,
            interval,
            histories: Arc::default(),
        }
    }

    /// The HTTP API.
    pub fn router(&self) -> Router {
        api::router(self.clone())
    }

    /// Asks all proxies, again and again. Does not return.
    pub fn scrape(&self) -> impl Future<Output = ()> + Send + use<> {
        let stats = self.clone();
        async move {
            let mut ticks = time::interval(stats.interval);
            // A round that takes long is followed by a pause, not by a burst.
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                stats.round().await;
            }
        }
    }

    async fn round(&self) {
        let mut targets = self.targets();
        self.forget(&targets);
        self.skip_failing(&mut targets);
        let round = futures::stream::iter(targets);
        let round = round.map(|(pod, addr)| async move {
            let page = scrape::fetch(addr).await;
            self.take(pod, addr, page);
        });
        round
            .buffer_unordered(CONCURRENT_SCRAPES)
            .collect::<()>()
            .await;
    }

    fn targets(&self) -> Vec<(Key, SocketAddr)> {
        let cluster = self.cluster.read();
        let meshed = cluster
            .pods()
            .filter(|pod| pod.running && cluster.meshed(pod));
        let target = |pod: &Arc<Pod>| {
            let ip = *pod.ips.first()?;
            Some((pod.key.clone(), SocketAddr::new(ip, PROXY_ADMIN_PORT)))
        };
        meshed.filter_map(target).collect()
    }

    fn forget(&self, targets: &[(Key, SocketAddr)]) {
        let mut histories = self.histories.lock();
        if !histories.is_empty() {
            let there: ahash::AHashSet<_> = targets.iter().map(|(pod, _)| pod).collect();
            histories.retain(|pod, _| there.contains(pod));
        }
    }

    fn skip_failing(&self, targets: &mut Vec<(Key, SocketAddr)>) {
        let histories = self.histories.lock();
        let failed = |pod: &Key| histories.get(pod)?.failed_at;
        targets.retain(|(pod, _)| failed(pod).is_none_or(|at| at.elapsed() >= RETRY));
    }

    fn take(&self, pod: Key, addr: SocketAddr, page: Result<String, scrape::ScrapeError>) {
        let now = Instant::now();
        let mut histories = self.histories.lock();
        let history = histories
            .entry(pod.clone())
            .or_insert_with(|| History::new(now));
        let outcome = match page {
            Ok(page) => history.observe(&page, now).map_err(|e| e.to_string()),
            Err(error) => Err(error.to_string()),
        };
        self.metrics.scrapes.fetch_add(1, Relaxed);
        let failed = outcome.is_err();
        if let Err(error) = outcome {
            self.metrics.scrape_errors.fetch_add(1, Relaxed);
            // Said when it begins, not every second.
            if history.failed_at.is_none() {
                tracing::info!(%pod, %addr, error, "cannot read a proxy's metrics");
            }
        }
        history.failed_at = failed.then_some(now);
    }
}

/// The identity that a pod's proxy has to prove; `None` while the mesh has none.
fn identity(cluster: &Cluster, pod: &Pod) -> Option<String> {
    let identities = cluster.settings.identities.as_ref()?;
    let account = ServiceAccount::new(&pod.key.namespace, &pod.service_account)?;
    Some(identities.of(&account))
}
