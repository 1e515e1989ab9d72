//! The balancer families (`outbound_http_balancer_*`, `outbound_tcp_balancer_*`).

use crate::metrics::{Labels, Registry, label};
use metrics::{Counter, Gauge};

/// Handles of the balancer families.
pub struct Metrics {
    /// Endpoints that may be used now.
    pub ready: Gauge,
    /// Endpoints that may not.
    pub pending: Gauge,
    /// Times that the balancer began to fail fast.
    pub failfast: Counter,
}

impl Metrics {
    /// Registers `{family}_endpoints` and `{family}_queue_gate_shut_total`.
    pub fn new(registry: &Registry, family: &str, labels: Labels) -> Self {
        let endpoints = |state: &'static str| {
            let mut labels = labels.clone();
            labels.push(label("endpoint_state", state));
            registry.gauge(format!("{family}_endpoints"), labels)
        };
        Self {
            ready: endpoints("ready"),
            pending: endpoints("pending"),
            failfast: registry.counter(format!("{family}_queue_gate_shut_total"), labels.clone()),
        }
    }
}
