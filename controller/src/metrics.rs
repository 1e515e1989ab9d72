//! What the controller tells about itself at `/metrics`.
//!
//! A handful of numbers, so they are atomics and a page of text rather than a registry. Each number
//! is moved by the code it measures; gauges of sizes are read where they are when the page is
//! made ([`crate::admin`]).

use ahash::AHashMap;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// All counters of the process.
#[derive(Default)]
pub struct Metrics {
    /// Loads of a source in which a file was bad that was not bad in that way before.
    pub source_errors: AtomicU64,
    /// Times that a source's directory had to be watched anew.
    pub source_rewatches: AtomicU64,
    /// Pages of proxies that were read.
    pub scrapes: AtomicU64,
    /// Pages that could not be.
    pub scrape_errors: AtomicU64,
    /// Issuers that were not taken.
    pub issuer_reload_failures: AtomicU64,
    /// Trust anchors that were not taken.
    pub anchors_reload_failures: AtomicU64,
    /// Keys of tokens that were not taken.
    pub token_key_reload_failures: AtomicU64,
    /// Requests for a certificate, by what came of them.
    certify: Mutex<BTreeMap<&'static str, u64>>,
    streams: Mutex<AHashMap<&'static str, Arc<StreamCounts>>>,
}

/// Of one kind of gRPC stream.
#[derive(Default)]
struct StreamCounts {
    open: AtomicU64,
    sent: AtomicU64,
}

/// Counts one open stream until it is dropped.
pub struct OpenStream(Arc<StreamCounts>);

/// A page in the text format of Prometheus.
#[derive(Default)]
pub struct Page(String);

impl Metrics {
    /// Counts a stream of that kind.
    pub fn open_stream(&self, kind: &'static str) -> OpenStream {
        let counts = self.streams.lock().entry(kind).or_default().clone();
        counts.open.fetch_add(1, Relaxed);
        OpenStream(counts)
    }

    /// Counts a request for a certificate: `ok`, or why there was none.
    pub fn certified(&self, result: &'static str) {
        *self.certify.lock().entry(result).or_default() += 1;
    }

    /// Writes the counters of the identity service.
    pub fn write_identity(&self, page: &mut Page) {
        let certify = self.certify.lock();
        let certify = certify.iter().map(|(result, count)| (*result, *count));
        page.many("identity_certify_total", "counter", "result", certify);
        for (name, failures) in [
            (
                "identity_issuer_reload_failures_total",
                &self.issuer_reload_failures,
            ),
            (
                "identity_trust_anchors_reload_failures_total",
                &self.anchors_reload_failures,
            ),
            (
                "identity_token_key_reload_failures_total",
                &self.token_key_reload_failures,
            ),
        ] {
            page.one(name, "counter", failures.load(Relaxed));
        }
    }

    /// Writes the counters of everything else.
    pub fn write(&self, page: &mut Page) {
        page.one(
            "source_errors_total",
            "counter",
            self.source_errors.load(Relaxed),
        );
        page.one(
            "source_rewatches_total",
            "counter",
            self.source_rewatches.load(Relaxed),
        );
        page.one("stats_scrapes_total", "counter", self.scrapes.load(Relaxed));
        page.one(
            "stats_scrape_errors_total",
            "counter",
            self.scrape_errors.load(Relaxed),
        );
        let streams = self.streams.lock();
        let mut streams: Vec<_> = streams.iter().collect();
        streams.sort_by_key(|(kind, _)| **kind);
        let open = streams
            .iter()
            .map(|(kind, counts)| (**kind, counts.open.load(Relaxed)));
        page.many("grpc_streams_open", "gauge", "stream", open);
        let sent = streams
            .iter()
            .map(|(kind, counts)| (**kind, counts.sent.load(Relaxed)));
        page.many("grpc_updates_sent_total", "counter", "stream", sent);
    }
}

impl OpenStream {
    /// Counts a message as sent.
    pub fn count(&self) {
        self.0.sent.fetch_add(1, Relaxed);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
    }
}

impl Page {
    /// A family with one series.
    pub fn one(&mut self, name: &str, kind: &str, value: u64) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# TYPE {name} {kind}\n{name} {value}");
    }

    /// A family with a series for each value of a label.
    pub fn many<'a>(
        &mut self,
        name: &str,
        kind: &str,
        label: &str,
        series: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        for (key, value) in series {
            let _ = writeln!(self.0, "{name}{{{label}=\"{key}\"}} {value}");
        }
    }

    /// The page.
    pub fn text(self) -> String {
        self.0
    }
}

/// Resident memory of this process in bytes, where the system tells.
pub fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_counted_by_kind() {
        let metrics = Metrics::default();
        let get = metrics.open_stream("get");
        get.count();
        get.count();
        drop(metrics.open_stream("watch"));
        let mut page = Page::default();
        metrics.write(&mut page);
        let page = page.text();
        for line in [
            "grpc_streams_open{stream=\"get\"} 1",
            "grpc_streams_open{stream=\"watch\"} 0",
            "grpc_updates_sent_total{stream=\"get\"} 2",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} in {page}");
        }
    }
}
