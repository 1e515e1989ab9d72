//! From histories to the rows that users see. Pure.

use super::history::{BOUNDS, BUCKETS, History, Track, Window};
use crate::{
    cluster::Cluster,
    object::{Key, Pod},
};
use ahash::AHashMap;
use serde::Serialize;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::time::Instant;

/// What rows are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Owners of pods.
    Deployment,
    /// Owners of pods.
    StatefulSet,
    /// As its clients see it.
    Service,
    /// One replica.
    Pod,
    /// All pods in it.
    Namespace,
}

/// Which rows, over how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Query {
    /// What rows are about.
    pub(super) kind: Kind,
    /// Only there.
    pub(super) namespace: Option<String>,
    /// Only that.
    pub(super) name: Option<String>,
    /// How far back.
    pub(super) window: Duration,
}

/// One row; `null` where there was no traffic.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Row {
    namespace: Arc<str>,
    kind: &'static str,
    name: Arc<str>,
    /// Meshed of running pods, as `2/3`.
    meshed: String,
    success: Option<f64>,
    rps: Option<f64>,
    latency_ms_p50: Option<f64>,
    latency_ms_p95: Option<f64>,
    latency_ms_p99: Option<f64>,
    tcp_open_connections: Option<u64>,
    tcp_read_bytes_rate: Option<f64>,
    tcp_write_bytes_rate: Option<f64>,
}

/// What rows are made of.
pub(super) struct Sources<'a> {
    /// Who there is.
    pub(super) cluster: &'a Cluster,
    /// What they did.
    pub(super) histories: &'a AHashMap<Key, History>,
    /// When a proxy that does not answer counts as gone.
    pub(super) stale: Duration,
    /// The end of windows.
    pub(super) now: Instant,
}

/// A row that is being summed up.
#[derive(Default)]
struct Sum {
    meshed: usize,
    running: usize,
    window: Window,
}

impl Sources<'_> {
    /// The rows of a table, by namespace and name.
    pub(super) fn rows(&self, query: &Query) -> Vec<Row> {
        let sums = match query.kind {
            Kind::Service => self.services(query),
            Kind::Deployment | Kind::StatefulSet | Kind::Pod | Kind::Namespace => self.pods(query),
        };
        let rows = sums.into_iter();
        rows.map(|(key, sum)| sum.row(query.kind, key)).collect()
    }

    /// From what the pods' own proxies say about inbound traffic.
    fn pods(&self, query: &Query) -> BTreeMap<Key, Sum> {
        let mut sums: BTreeMap<Key, Sum> = BTreeMap::new();
        for pod in self.cluster.pods().filter(|pod| pod.running) {
            let Some(key) = self.group(query.kind, pod).filter(|key| query.wants(key)) else {
                continue;
            };
            let sum = sums.entry(key).or_default();
            sum.count(self.cluster, pod);
            if let Some(history) = self.histories.get(&pod.key) {
                sum.window
                    .merge(&self.window(history, &Track::Inbound, query));
            }
        }
        sums
    }

    /// From what all proxies say about outbound traffic.
    fn services(&self, query: &Query) -> BTreeMap<Key, Sum> {
        let mut sums: BTreeMap<Key, Sum> = BTreeMap::new();
        for service in self.cluster.services().filter(|s| query.wants(&s.key)) {
            let sum = sums.entry(service.key.clone()).or_default();
            for pod in self.cluster.selected(service).filter(|pod| pod.running) {
                sum.count(self.cluster, pod);
            }
        }
        for history in self.histories.values() {
            for track in history.tracks() {
                let Track::Outbound { namespace, service } = track else {
                    continue;
                };
                let (namespace, name) = (namespace.clone(), service.clone());
                if let Some(sum) = sums.get_mut(&Key { namespace, name }) {
                    sum.window.merge(&self.window(history, track, query));
                }
            }
        }
        sums
    }

    fn window(&self, history: &History, track: &Track, query: &Query) -> Window {
        history.window(track, query.window, self.stale, self.now)
    }

    /// The row that a pod belongs to.
    fn group(&self, kind: Kind, pod: &Pod) -> Option<Key> {
        let owner = || self.cluster.owner(pod);
        let name = match kind {
            Kind::Pod => pod.key.name.clone(),
            Kind::Namespace => pod.key.namespace.clone(),
            Kind::Deployment | Kind::StatefulSet | Kind::Service => {
                let owner = owner();
                owner
                    .kind
                    .eq_ignore_ascii_case(kind.name())
                    .then_some(owner.name)?
            }
        };
        let namespace = pod.key.namespace.clone();
        Some(Key { namespace, name })
    }
}

// === impl Query ===

impl Query {
    fn wants(&self, key: &Key) -> bool {
        let is =
            |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|w| w == value);
        is(&self.namespace, &key.namespace) && is(&self.name, &key.name)
    }
}

// === impl Kind ===

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 5] = [
        Self::Deployment,
        Self::StatefulSet,
        Self::Service,
        Self::Pod,
        Self::Namespace,
    ];

    /// As in queries and rows.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
            Self::Service => "service",
            Self::Pod => "pod",
            Self::Namespace => "namespace",
        }
    }
}

// === impl Sum ===

impl Sum {
    fn count(&mut self, cluster: &Cluster, pod: &Pod) {
        self.running += 1;
        self.meshed += usize::from(cluster.meshed(pod));
    }

    fn row(self, kind: Kind, key: Key) -> Row {
        let window = &self.window;
        let requests = window.success + window.failure;
        let any = requests > 0.0;
        let rate = |sum: f64| (window.covered_secs > 0.0).then(|| sum / window.covered_secs);
        let tcp = window.open.is_some() || window.read + window.write > 0.0;
        let quantile = |q| quantile(&window.latency, q);
        Row {
            namespace: key.namespace,
            kind: kind.name(),
            name: key.name,
            meshed: format!("{}/{}", self.meshed, self.running),
            success: any.then(|| window.success / requests),
            rps: rate(requests).filter(|_| any),
            latency_ms_p50: quantile(0.5),
            latency_ms_p95: quantile(0.95),
            latency_ms_p99: quantile(0.99),
            tcp_open_connections: window.open,
            tcp_read_bytes_rate: rate(window.read).filter(|_| tcp),
            tcp_write_bytes_rate: rate(window.write).filter(|_| tcp),
        }
    }
}

/// Prometheus' `histogram_quantile`: linear within a bucket, and the last bound for what is past
/// it.
fn quantile(buckets: &[f64; BUCKETS], q: f64) -> Option<f64> {
    let total: f64 = buckets.iter().sum();
    if total <= 0.0 {
        return None;
    }
    let mut rank = q * total;
    for (index, count) in buckets.iter().enumerate() {
        let Some(upper) = BOUNDS.get(index) else {
            break;
        };
        if rank <= *count && *count > 0.0 {
            let lower = index.checked_sub(1).map_or(0.0, |below| BOUNDS[below]);
            return Some(lower + (upper - lower) * rank / count);
        }
        rank -= count;
    }
    BOUNDS.last().copied()
}

#[cfg(test)]
mod tests;
