//! What endpoints answered to requests: `request_total`, `response_total`, `response_latency_ms`.
//!
//! A status is known only when the answer comes, so each set keeps the handles of the statuses it
//! has met. A set belongs to one worker.

use super::{Kept, Labels, Registry, label};
use crate::http::classify::Class;
use http::StatusCode;
use metrics::{Counter, Histogram};
use std::{sync::Arc, time::Duration};

/// Linkerd's buckets of `response_latency_ms`.
const LATENCY_MS: &[f64] = &[
    1., 2., 3., 4., 5., 10., 20., 30., 40., 50., 100., 200., 300., 400., 500., 1_000., 2_000.,
    3_000., 4_000., 5_000., 10_000., 20_000., 30_000., 40_000., 50_000.,
];

/// Counts requests to one endpoint and their answers.
pub struct Endpoint {
    registry: Arc<Registry>,
    labels: Labels,
    requests: Counter,
    latencies: Kept<Option<StatusCode>, Histogram>,
    responses: Kept<(Option<StatusCode>, Class), Counter>,
}

// === impl Endpoint ===

impl Endpoint {
    /// Registers `request_total`; the rest follows as answers come.
    pub fn new(registry: &Arc<Registry>, labels: Labels) -> Self {
        Self {
            registry: registry.clone(),
            requests: registry.counter("request_total", labels.clone()),
            labels,
            latencies: Kept::default(),
            responses: Kept::default(),
        }
    }

    /// Counts a request that was sent.
    pub fn request(&self) {
        self.requests.increment(1);
    }

    /// Records the time to the first byte of a body.
    pub fn latency(&self, status: Option<StatusCode>, elapsed: Duration) {
        self.latencies.with(
            status,
            || {
                let labels = self.with_status(status);
                self.registry
                    .histogram("response_latency_ms", LATENCY_MS, labels)
            },
            |h| h.record((elapsed.as_secs_f64() * 1_000.).floor()),
        );
    }

    /// Counts an answer that ended.
    pub fn response(&self, status: Option<StatusCode>, class: Class) {
        self.responses.with(
            (status, class),
            || {
                let mut labels = self.with_status(status);
                labels.push(label("classification", class.name()));
                let grpc = class.grpc_status().map(|s| s.to_string());
                labels.push(label("grpc_status", grpc.unwrap_or_default()));
                labels.push(label("error", class.error()));
                self.registry.counter("response_total", labels)
            },
            |c| c.increment(1),
        );
    }

    /// Counts a request that got no answer.
    pub fn failed(&self, elapsed: Duration, error: &'static str) {
        self.latency(None, elapsed);
        self.response(None, Class::Failure { grpc: None, error });
    }

    fn with_status(&self, status: Option<StatusCode>) -> Labels {
        let mut labels = self.labels.clone();
        if let Some(status) = status {
            labels.push(label("status_code", status.as_str().to_owned()));
        }
        labels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_counted_by_status_and_class() {
        let registry = Registry::new(Duration::from_secs(60), 1_000);
        let endpoint = Endpoint::new(&registry, vec![label("direction", "outbound")]);
        endpoint.request();
        endpoint.latency(Some(StatusCode::OK), Duration::from_micros(1_500));
        endpoint.response(Some(StatusCode::OK), Class::Success { grpc: Some(0) });
        endpoint.response(
            None,
            Class::Failure {
                grpc: None,
                error: "i/o",
            },
        );
        let page = registry.render();
        for want in [
            "request_total{direction=\"outbound\"} 1",
            "response_latency_ms_bucket{direction=\"outbound\",status_code=\"200\",le=\"1\"} 1",
            "response_total{direction=\"outbound\",status_code=\"200\",classification=\"success\",grpc_status=\"0\",error=\"\"} 1",
            "response_total{direction=\"outbound\",classification=\"failure\",grpc_status=\"\",error=\"i/o\"} 1",
        ] {
            assert!(page.contains(want), "{want} not in {page}");
        }
    }
}
