//! The families of protocol detection for one outbound target: what connections turned out to speak
//! (`outbound_tcp_protocol_connections_total`), and what looking for HTTP came to and how long it
//! took (`outbound_tcp_detect_http_*`).
//!
//! Registered with the first connection that needs them: a target that is never looked into has
//! none. A set belongs to one worker.

use super::{Kept, Labels, Registry, label, labels};
use crate::detect::Protocol;
use mesh_policy::Meta;
use metrics::{Counter, Histogram};
use std::{cell::OnceCell, io, sync::Arc, time::Duration};

const SECONDS: &[f64] = &[0.001, 0.1];

/// Counts connections to one target by what they speak.
pub struct Detect {
    registry: Arc<Registry>,
    labels: Labels,
    durations: OnceCell<Histogram>,
    results: Kept<&'static str, Counter>,
    protocols: Kept<&'static str, Counter>,
}

impl Detect {
    /// For a target that is addressed as `parent`.
    pub fn new(registry: &Arc<Registry>, parent: &Meta) -> Self {
        let mut labels = Labels::new();
        labels::reference(&mut labels, "parent", parent);
        Self {
            registry: registry.clone(),
            labels,
            durations: OnceCell::new(),
            results: Kept::default(),
            protocols: Kept::default(),
        }
    }

    /// Counts a connection that was looked at for so long, its client's silence included.
    pub fn detected(&self, detected: &io::Result<Protocol>, elapsed: Duration) {
        let durations = self.durations.get_or_init(|| {
            let name = "outbound_tcp_detect_http_duration_seconds";
            self.registry.histogram(name, SECONDS, self.labels.clone())
        });
        durations.record(elapsed.as_secs_f64());
        let name = "outbound_tcp_detect_http_results_total";
        self.count(&self.results, name, "result", result(detected));
        if let Ok(protocol) = detected {
            let name = "outbound_tcp_protocol_connections_total";
            self.count(&self.protocols, name, "protocol", protocol_name(protocol));
        }
    }

    fn count(
        &self,
        kept: &Kept<&'static str, Counter>,
        name: &'static str,
        key: &'static str,
        value: &'static str,
    ) {
        let make = || {
            let mut labels = vec![label(key, value)];
            labels.extend(self.labels.iter().cloned());
            self.registry.counter(name, labels)
        };
        kept.with(value, make, |counter| counter.increment(1));
    }
}

/// As Linkerd calls it: a client that left without a word is an error.
fn result(detected: &io::Result<Protocol>) -> &'static str {
    match detected {
        Ok(Protocol::Http1) => "http/1",
        Ok(Protocol::Http2) => "http/2",
        Ok(Protocol::Tls { .. } | Protocol::Opaque) => "not_http",
        Ok(Protocol::Undecided) => "read_timeout",
        Ok(Protocol::Closed) | Err(_) => "error",
    }
}

fn protocol_name(protocol: &Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "http/1",
        Protocol::Http2 => "http/2",
        Protocol::Tls { .. } => "tls",
        Protocol::Opaque | Protocol::Undecided | Protocol::Closed => "opaq",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_by_what_they_speak() {
        let registry = Registry::new(Duration::from_secs(60), 100);
        let detect = Detect::new(&registry, &Meta::default_named("p"));
        assert!(!registry.render().contains("detect"), "nothing to tell yet");
        let ms = Duration::from_millis;
        detect.detected(&Ok(Protocol::Http1), Duration::from_micros(500));
        detect.detected(&Ok(Protocol::Http1), ms(50));
        detect.detected(&Ok(Protocol::Tls { sni: None }), ms(1));
        detect.detected(&Ok(Protocol::Undecided), ms(10_000));
        detect.detected(&Err(io::ErrorKind::ConnectionReset.into()), ms(1));
        let page = registry.render();
        let parent = "parent_group=\"\",parent_kind=\"default\",parent_namespace=\"\",\
                      parent_name=\"p\",parent_port=\"\",parent_section_name=\"\"";
        for (series, value) in [
            ("results_total{result=\"http/1\",PARENT}", 2),
            ("results_total{result=\"not_http\",PARENT}", 1),
            ("results_total{result=\"read_timeout\",PARENT}", 1),
            ("results_total{result=\"error\",PARENT}", 1),
            ("duration_seconds_bucket{PARENT,le=\"0.001\"}", 3),
            ("duration_seconds_bucket{PARENT,le=\"0.1\"}", 4),
            ("duration_seconds_bucket{PARENT,le=\"+Inf\"}", 5),
        ] {
            let line = format!("outbound_tcp_detect_http_{series} {value}");
            let line = line.replace("PARENT", parent);
            assert!(page.contains(&line), "{line} not in {page}");
        }
        for (protocol, value) in [("http/1", 2), ("tls", 1), ("opaq", 1)] {
            let name = "outbound_tcp_protocol_connections_total";
            let line = format!("{name}{{protocol=\"{protocol}\",{parent}}} {value}");
            assert!(page.contains(&line), "{line} not in {page}");
        }
    }
}
