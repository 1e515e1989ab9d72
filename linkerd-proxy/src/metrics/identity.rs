//! The `control_identity_cert_*` families: the certificate's end, and how renewals went.

use super::{Registry, label};
use metrics::{Counter, Gauge};
use std::time::{SystemTime, UNIX_EPOCH};

/// Handles of the identity families.
pub struct Certificates {
    expiration: Gauge,
    refresh: Gauge,
    renewed: Counter,
    failed: Counter,
    bad_anchors: Counter,
}

impl Certificates {
    /// Registers the families.
    pub fn new(registry: &Registry) -> Self {
        let refreshes = |result| {
            let name = "control_identity_cert_refreshes_total";
            registry.counter(name, vec![label("result", result)])
        };
        let gauge = |name| registry.gauge(name, vec![]);
        Self {
            expiration: gauge("control_identity_cert_expiration_timestamp_seconds"),
            refresh: gauge("control_identity_cert_refresh_timestamp_seconds"),
            renewed: refreshes("ok"),
            failed: refreshes("error"),
            bad_anchors: registry.counter("identity_trust_anchors_reload_failures_total", vec![]),
        }
    }

    /// A certificate came at `now` that ends at `not_after`.
    pub fn renewed(&self, now: SystemTime, not_after: SystemTime) {
        self.renewed.increment(1);
        self.refresh.set(seconds(now));
        self.expiration.set(seconds(not_after));
    }

    /// None came.
    pub fn failed(&self) {
        self.failed.increment(1);
    }

    /// Counts bundles of trust anchors that could not be used.
    pub fn bad_anchors(&self) -> Counter {
        self.bad_anchors.clone()
    }
}

fn seconds(time: SystemTime) -> f64 {
    let since_epoch = time.duration_since(UNIX_EPOCH);
    since_epoch.unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn names_and_values_are_linkerds() {
        let registry = Registry::new(Duration::from_secs(60), 100);
        let certificates = Certificates::new(&registry);
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        certificates.renewed(now, now + Duration::from_secs(500));
        certificates.failed();
        let page = registry.render();
        for want in [
            "control_identity_cert_expiration_timestamp_seconds 1500",
            "control_identity_cert_refresh_timestamp_seconds 1000",
            "control_identity_cert_refreshes_total{result=\"ok\"} 1",
            "control_identity_cert_refreshes_total{result=\"error\"} 1",
            "identity_trust_anchors_reload_failures_total 0",
        ] {
            assert!(page.contains(want), "{want} not in {page}");
        }
    }
}
