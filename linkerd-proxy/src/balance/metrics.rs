//! The balancer families (`outbound_http_balancer_*`, `outbound_tcp_balancer_*`).
//!
//! Nothing here is touched by a request that finds an endpoint ready: `queue_*` count those that
//! had to wait. Workers have balancers of their own for a backend and share its series. They follow
//! the same discovery, so what they say about endpoints nearly agrees, and the last word stands.
//!
//! States of `*_endpoints`: `ready` ones may be picked; `pending` ones are in use too, but shut
//! for now, as in Linkerd; `unused` ones are known and not needed for the load, have no connection, and
//! are taken into use as soon as they are (`aperture`). Together they are `*_p2c_endpoints`.

use super::pool::{Changes, Counts};
use crate::metrics::{Labels, Registry, label};
use metrics::{Counter, Gauge, Histogram};
use std::cell::Cell;
use tokio::time::Instant;

/// Linkerd's buckets of `queue_latency_seconds`.
const LATENCY_SECONDS: &[f64] = &[0.0005, 0.005, 0.05, 0.5, 1., 3.];

/// Handles of the balancer families.
pub struct Metrics {
    ready: Gauge,
    pending: Gauge,
    unused: Gauge,
    endpoints: Gauge,
    reset: Counter,
    add: Counter,
    remove: Counter,
    queue: Queue,
    open: Counter,
    shut: Counter,
}

/// Those of the queue.
struct Queue {
    length: Gauge,
    requests: Counter,
    latency: Histogram,
}

/// One that waits; counted until it is dropped.
pub(super) struct Waiting<'a> {
    count: &'a Cell<usize>,
    queue: &'a Queue,
    since: Instant,
}

// === impl Metrics ===

impl Metrics {
    /// Registers `{family}_*`.
    pub fn new(registry: &Registry, family: &str, labels: Labels) -> Self {
        let with = |name, value: &'static str| {
            let mut labels = labels.clone();
            labels.push(label(name, value));
            labels
        };
        let endpoints = |state| {
            let labels = with("endpoint_state", state);
            registry.gauge(format!("{family}_endpoints"), labels)
        };
        let updates = |op| {
            let labels = with("op", op);
            registry.counter(format!("{family}_p2c_updates_total"), labels)
        };
        let gauge = |name| registry.gauge(format!("{family}_{name}"), labels.clone());
        let counter = |name| registry.counter(format!("{family}_{name}"), labels.clone());
        let latency = format!("{family}_queue_latency_seconds");
        Self {
            ready: endpoints("ready"),
            pending: endpoints("pending"),
            unused: endpoints("unused"),
            endpoints: gauge("p2c_endpoints"),
            reset: updates("Reset"),
            add: updates("Add"),
            remove: updates("Remove"),
            queue: Queue {
                length: gauge("queue_length"),
                requests: counter("queue_requests_total"),
                latency: registry.histogram(latency, LATENCY_SECONDS, labels.clone()),
            },
            open: counter("queue_gate_open_total"),
            shut: counter("queue_gate_shut_total"),
        }
    }

    /// So many endpoints are in these states.
    pub(super) fn endpoints(&self, counts: Counts) {
        let Counts {
            ready,
            in_use,
            known,
        } = counts;
        self.ready.set(ready as f64);
        self.pending.set(in_use.saturating_sub(ready) as f64);
        self.unused.set(known.saturating_sub(in_use) as f64);
        self.endpoints.set(known as f64);
    }

    /// Discovery has spoken, for the first time or again. As Linkerd does, counts an answer that
    /// replaces all once, and otherwise each endpoint.
    pub(super) fn updated(&self, is_first: bool, changes: Changes) {
        let Changes { added, removed } = changes;
        if is_first {
            self.reset.increment(1);
        } else {
            self.add.increment(added as u64);
            self.remove.increment(removed as u64);
        }
    }

    /// One waits, and is counted by `count`, too.
    pub(super) fn waits<'a>(&'a self, count: &'a Cell<usize>) -> Waiting<'a> {
        count.set(count.get() + 1);
        self.queue.length.increment(1.0);
        self.queue.requests.increment(1);
        Waiting {
            count,
            queue: &self.queue,
            since: Instant::now(),
        }
    }

    /// From now on all fail at once, or no longer.
    pub(super) fn failing(&self, is_failing: bool) {
        match is_failing {
            true => self.shut.increment(1),
            false => self.open.increment(1),
        }
    }
}

// === impl Waiting ===

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.set(self.count.get() - 1);
        self.queue.length.decrement(1.0);
        self.queue
            .latency
            .record(self.since.elapsed().as_secs_f64());
    }
}
