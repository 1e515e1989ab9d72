//! What a route and its backends did: `outbound_http_route_*`, and `outbound_grpc_route_*` where the policy
//! says that it is gRPC, with the statuses of that protocol.
//!
//! A status is known only when the answer comes, so each set keeps the handles of those it has met. A set
//! belongs to one worker.

use super::{Kept, Labels, Registry, label, labels};
use http::StatusCode;
use mesh_policy::Meta;
use metrics::{Counter, Histogram};
use std::{sync::Arc, time::Duration};

const ROUTE_SECONDS: &[f64] = &[0.05, 0.5, 1., 10.];
const BACKEND_SECONDS: &[f64] = &[0.025, 0.05, 0.1, 0.25, 0.5, 1., 10.];

/// Names of gRPC's statuses, by their numbers.
const GRPC_NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Whose families a route counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `outbound_http_*`, by HTTP status.
    Http,
    /// `outbound_grpc_*`, by gRPC status.
    Grpc,
}

/// Counts requests of a route, or of one of its backends.
pub struct Route {
    registry: Arc<Registry>,
    labels: Labels,
    family: Family,
    statuses_name: &'static str,
    requests: Option<Counter>,
    durations: Histogram,
    statuses: Kept<(Option<u16>, &'static str), Counter>,
}

// === impl Family ===

impl Family {
    fn pick(self, http: &'static str, grpc: &'static str) -> &'static str {
        match self {
            Self::Http => http,
            Self::Grpc => grpc,
        }
    }
}

// === impl Route ===

impl Route {
    /// The families of a route: `*_route_request_*`.
    pub fn of_route(registry: &Arc<Registry>, family: Family, parent: &Meta, route: &Meta) -> Self {
        let mut labels = Labels::new();
        labels::reference(&mut labels, "parent", parent);
        labels::route(&mut labels, route);
        labels.push(label("hostname", ""));
        let durations = family.pick(
            "outbound_http_route_request_duration_seconds",
            "outbound_grpc_route_request_duration_seconds",
        );
        Self {
            durations: registry.histogram(durations, ROUTE_SECONDS, labels.clone()),
            requests: None,
            statuses_name: family.pick(
                "outbound_http_route_request_statuses_total",
                "outbound_grpc_route_request_statuses_total",
            ),
            statuses: Kept::default(),
            registry: registry.clone(),
            labels,
            family,
        }
    }

    /// The families of a route's backend: `*_route_backend_*`.
    pub fn of_backend(
        registry: &Arc<Registry>,
        family: Family,
        parent: &Meta,
        route: &Meta,
        backend: &Meta,
    ) -> Self {
        let mut labels = Labels::new();
        labels::reference(&mut labels, "parent", parent);
        labels::route(&mut labels, route);
        labels::reference(&mut labels, "backend", backend);
        let requests = family.pick(
            "outbound_http_route_backend_requests_total",
            "outbound_grpc_route_backend_requests_total",
        );
        let durations = family.pick(
            "outbound_http_route_backend_response_duration_seconds",
            "outbound_grpc_route_backend_response_duration_seconds",
        );
        Self {
            durations: registry.histogram(durations, BACKEND_SECONDS, labels.clone()),
            requests: Some(registry.counter(requests, labels.clone())),
            statuses_name: family.pick(
                "outbound_http_route_backend_response_statuses_total",
                "outbound_grpc_route_backend_response_statuses_total",
            ),
            statuses: Kept::default(),
            registry: registry.clone(),
            labels,
            family,
        }
    }

    /// Counts a request that is on its way.
    pub fn request(&self) {
        if let Some(requests) = &self.requests {
            requests.increment(1);
        }
    }

    /// Counts an answer by its status in either protocol, or an error (`FAIL_FAST`, `LOAD_SHED`, ... or
    /// empty).
    pub fn status(&self, http: Option<StatusCode>, grpc: Option<u16>, error: &'static str) {
        let status = match self.family {
            Family::Http => http.map(|status| status.as_u16()),
            Family::Grpc => grpc,
        };
        self.statuses.with(
            (status, error),
            || self.counter(status, error),
            |c| c.increment(1),
        );
    }

    fn counter(&self, status: Option<u16>, error: &'static str) -> Counter {
        let mut labels = self.labels.clone();
        labels.push(match self.family {
            Family::Http => {
                let text = status.map(|s| s.to_string()).unwrap_or_default();
                label("http_status", text)
            }
            Family::Grpc => {
                let name = status.and_then(|s| GRPC_NAMES.get(usize::from(s)));
                label("grpc_status", *name.unwrap_or(&""))
            }
        });
        labels.push(label("error", error));
        self.registry.counter(self.statuses_name, labels)
    }

    /// Records how long it took to the end of the answer.
    pub fn duration(&self, elapsed: Duration) {
        self.durations.record(elapsed.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_protocol_is_counted_by_its_own_statuses() {
        let registry = Registry::new(Duration::from_secs(60), 1_000);
        let meta = Meta::default_named("m");
        for family in [Family::Http, Family::Grpc] {
            let route = Route::of_route(&registry, family, &meta, &meta);
            route.status(Some(StatusCode::OK), Some(14), "");
            route.status(None, None, "IO");
            let backend = Route::of_backend(&registry, family, &meta, &meta, &meta);
            backend.request();
            backend.status(Some(StatusCode::OK), Some(0), "");
        }
        let page = registry.render();
        for (name, labels) in [
            (
                "outbound_http_route_request_statuses_total",
                r#"http_status="200",error="""#,
            ),
            (
                "outbound_http_route_request_statuses_total",
                r#"http_status="",error="IO""#,
            ),
            (
                "outbound_grpc_route_request_statuses_total",
                r#"grpc_status="UNAVAILABLE",error="""#,
            ),
            (
                "outbound_grpc_route_request_statuses_total",
                r#"grpc_status="",error="IO""#,
            ),
            (
                "outbound_grpc_route_backend_response_statuses_total",
                r#"grpc_status="OK",error="""#,
            ),
            ("outbound_grpc_route_backend_requests_total", ""),
        ] {
            let is_it = |line: &&str| line.starts_with(name) && line.contains(labels);
            assert!(
                page.lines().any(|line| is_it(&line)),
                "{name} {labels}: {page}"
            );
        }
    }
}
