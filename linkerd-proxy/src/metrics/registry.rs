//! The registry of all series, behind the handles of the `metrics` crate: fixed-bucket atomics and
//! the text page.
//!
//! Two things made us not use the recorder of `metrics-exporter-prometheus` (its formatting is
//! used): its histograms keep every sample until somebody drains them, and its idle timeout
//! detaches handles that are still held. Here a series lives as long as somebody holds a handle
//! of it, and for a while after, so that Prometheus sees its last value. The number of series has
//! a ceiling: past it, handles that count nothing are given out, and `metrics_series_refused_total`
//! says so.

use ahash::AHashMap;
use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Label, SharedString,
};
use metrics_exporter_prometheus::{LabelSet, formatting};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Labels of a series, in the order they are printed.
pub type Labels = Vec<Label>;

/// Makes a label.
pub fn label(name: &'static str, value: impl Into<SharedString>) -> Label {
    Label::new(name, value)
}

/// All series of this process.
pub struct Registry {
    families: Mutex<Families>,
    refused: AtomicU64,
    max_series: usize,
    retain_idle: Duration,
}

#[derive(Default)]
struct Families {
    by_name: BTreeMap<String, Family>,
    series: usize,
}

#[derive(Default)]
struct Family {
    help: Option<SharedString>,
    series: AHashMap<Key, Series>,
}

/// A family as it is rendered: name, help, series.
type Listed = (String, Option<SharedString>, Vec<(Key, Cell)>);

struct Series {
    cell: Cell,
    /// When the last handle was seen gone.
    unheld_since: Option<Instant>,
}

#[derive(Clone)]
enum Cell {
    Counter(Arc<CounterCell>),
    Gauge(Arc<GaugeCell>),
    Histogram(Arc<HistogramCell>),
}

#[derive(Default)]
struct CounterCell(AtomicU64);

/// An `f64`, as its bits.
#[derive(Default)]
struct GaugeCell(AtomicU64);

struct HistogramCell {
    bounds: &'static [f64],
    /// One more than `bounds`: the last counts what is above all of them.
    buckets: Box<[AtomicU64]>,
    /// An `f64`, as its bits.
    sum: AtomicU64,
}

// === impl Registry ===

impl Registry {
    /// A registry that keeps a series for `retain_idle` after its last handle went, and never
    /// more than `max_series` of them.
    pub fn new(retain_idle: Duration, max_series: usize) -> Arc<Self> {
        Arc::new(Self {
            families: Mutex::default(),
            refused: AtomicU64::new(0),
            max_series,
            retain_idle,
        })
    }

    /// A counter; the same name and labels yield the same counter.
    pub fn counter(&self, name: impl Into<KeyName>, labels: Labels) -> Counter {
        match self.cell(Key::from_parts(name, labels), || {
            Cell::Counter(Arc::default())
        }) {
            Some(Cell::Counter(c)) => Counter::from_arc(c),
            _ => Counter::noop(),
        }
    }

    /// A gauge; the same name and labels yield the same gauge.
    pub fn gauge(&self, name: impl Into<KeyName>, labels: Labels) -> Gauge {
        match self.cell(
            Key::from_parts(name, labels),
            || Cell::Gauge(Arc::default()),
        ) {
            Some(Cell::Gauge(g)) => Gauge::from_arc(g),
            _ => Gauge::noop(),
        }
    }

    /// A histogram whose buckets end at `bounds`, which has to be sorted.
    pub fn histogram(
        &self,
        name: impl Into<KeyName>,
        bounds: &'static [f64],
        labels: Labels,
    ) -> Histogram {
        match self.cell(Key::from_parts(name, labels), || {
            Cell::Histogram(Arc::new(HistogramCell::new(bounds)))
        }) {
            Some(Cell::Histogram(h)) => Histogram::from_arc(h),
            _ => Histogram::noop(),
        }
    }

    /// Sets the `# HELP` text of a family.
    pub fn describe(&self, name: &'static str, help: &'static str) {
        let mut families = self.families.lock();
        families.by_name.entry(name.to_owned()).or_default().help = Some(help.into());
    }

    /// The cell of `key`, made by `make` if it is new; `None` past the ceiling.
    fn cell(&self, key: Key, make: impl FnOnce() -> Cell) -> Option<Cell> {
        let mut families = self.families.lock();
        let Families { by_name, series } = &mut *families;
        if !by_name.contains_key(key.name()) {
            by_name.insert(key.name().to_owned(), Family::default());
        }
        let family = by_name.get_mut(key.name())?;
        if let Some(known) = family.series.get_mut(&key) {
            known.unheld_since = None;
            return Some(known.cell.clone());
        }
        if *series >= self.max_series {
            self.refused.fetch_add(1, Relaxed);
            return None;
        }
        *series += 1;
        let cell = make();
        family.series.insert(
            key,
            Series {
                cell: cell.clone(),
                unheld_since: None,
            },
        );
        Some(cell)
    }

    /// Drops series that nobody has held for the retention time. Called now and then.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut families = self.families.lock();
        let Families { by_name, series } = &mut *families;
        for family in by_name.values_mut() {
            let before = family.series.len();
            family.series.retain(|_, s| s.keep(now, self.retain_idle));
            *series -= before - family.series.len();
            if family.series.len() < family.series.capacity() / 4 {
                family.series.shrink_to_fit();
            }
        }
    }

    /// The page, in Prometheus's text format.
    ///
    /// The lock is held only to list the series, so that no stack waits for a scrape.
    pub fn render(&self) -> String {
        let mut out = String::with_capacity(16 * 1024);
        for (name, help, mut series) in self.list() {
            let Some((_, first)) = series.first() else {
                continue;
            };
            if let Some(help) = help {
                formatting::write_help_line(&mut out, &name, None, None, &help);
            }
            formatting::write_type_line(&mut out, &name, None, None, kind(&name, first));
            series.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (key, cell) in series {
                let labels = LabelSet::from_key_and_global(&key, &Default::default());
                cell.write(&mut out, &name, &labels);
            }
        }
        let refused = self.refused.load(Relaxed);
        let name = "metrics_series_refused_total";
        formatting::write_type_line(&mut out, name, None, None, "counter");
        out.push_str(&format!("{name} {refused}\n"));
        out
    }

    fn list(&self) -> Vec<Listed> {
        let families = self.families.lock();
        families
            .by_name
            .iter()
            .map(|(name, f)| {
                let series = f.series.iter().map(|(k, s)| (k.clone(), s.cell.clone()));
                (name.clone(), f.help.clone(), series.collect())
            })
            .collect()
    }
}

// === impl Series ===

impl Series {
    fn keep(&mut self, now: Instant, retain: Duration) -> bool {
        if self.cell.is_held() {
            self.unheld_since = None;
            return true;
        }
        let since = *self.unheld_since.get_or_insert(now);
        now.saturating_duration_since(since) < retain
    }
}

// === impl Cell ===

impl Cell {
    /// Whether somebody besides the registry has it.
    fn is_held(&self) -> bool {
        match self {
            Self::Counter(c) => Arc::strong_count(c) > 1,
            Self::Gauge(g) => Arc::strong_count(g) > 1,
            Self::Histogram(h) => Arc::strong_count(h) > 1,
        }
    }

    fn write(&self, out: &mut String, name: &str, labels: &LabelSet) {
        match self {
            Self::Counter(c) => line(out, name, None, labels, None, c.0.load(Relaxed)),
            Self::Gauge(g) => {
                let value = f64::from_bits(g.0.load(Relaxed));
                line(out, name, None, labels, None, value)
            }
            Self::Histogram(h) => h.write(out, name, labels),
        }
    }
}

/// The type of a family. A total is a counter, also where it is kept as a gauge because it is a
/// fraction (`process_cpu_seconds_total`).
fn kind(name: &str, cell: &Cell) -> &'static str {
    match cell {
        Cell::Counter(_) => "counter",
        Cell::Gauge(_) if name.ends_with("_total") => "counter",
        Cell::Gauge(_) => "gauge",
        Cell::Histogram(_) => "histogram",
    }
}

fn line(
    out: &mut String,
    name: &str,
    suffix: Option<&'static str>,
    labels: &LabelSet,
    le: Option<&str>,
    value: impl std::fmt::Display,
) {
    let le = le.map(|le| ("le", le));
    formatting::write_metric_line(out, name, suffix, labels, le, value, None);
}

// === impl CounterCell ===

impl CounterFn for CounterCell {
    fn increment(&self, value: u64) {
        self.0.fetch_add(value, Relaxed);
    }

    fn absolute(&self, value: u64) {
        self.0.fetch_max(value, Relaxed);
    }
}

// === impl GaugeCell ===

impl GaugeFn for GaugeCell {
    fn increment(&self, value: f64) {
        add(&self.0, value);
    }

    fn decrement(&self, value: f64) {
        add(&self.0, -value);
    }

    fn set(&self, value: f64) {
        self.0.store(value.to_bits(), Relaxed);
    }
}

/// Adds to an `f64` that is kept as its bits.
fn add(cell: &AtomicU64, value: f64) {
    let mut now = cell.load(Relaxed);
    loop {
        let new = (f64::from_bits(now) + value).to_bits();
        match cell.compare_exchange_weak(now, new, Relaxed, Relaxed) {
            Ok(_) => return,
            Err(actual) => now = actual,
        }
    }
}

// === impl HistogramCell ===

impl HistogramCell {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    fn write(&self, out: &mut String, name: &str, labels: &LabelSet) {
        let mut count = 0;
        for (i, bucket) in self.buckets.iter().enumerate() {
            count += bucket.load(Relaxed);
            let le = self.bounds.get(i).map(f64::to_string);
            let le = le.as_deref().unwrap_or("+Inf");
            line(out, name, Some("bucket"), labels, Some(le), count);
        }
        let sum = f64::from_bits(self.sum.load(Relaxed));
        line(out, name, Some("sum"), labels, None, sum);
        line(out, name, Some("count"), labels, None, count);
    }
}

impl HistogramFn for HistogramCell {
    fn record(&self, value: f64) {
        let i = self.bounds.partition_point(|&b| b < value);
        self.buckets[i].fetch_add(1, Relaxed);
        add(&self.sum, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(max: usize) -> Arc<Registry> {
        Registry::new(Duration::from_secs(60), max)
    }

    #[test]
    fn histogram_buckets_are_cumulative_and_upper_inclusive() {
        let r = registry(10);
        let h = r.histogram("latency_ms", &[1.0, 2.5], vec![label("a", "b")]);
        for v in [0.5, 1.0, 2.0, 9.0] {
            h.record(v);
        }
        let page = r.render();
        for want in [
            "# TYPE latency_ms histogram",
            "latency_ms_bucket{a=\"b\",le=\"1\"} 2",
            "latency_ms_bucket{a=\"b\",le=\"2.5\"} 3",
            "latency_ms_bucket{a=\"b\",le=\"+Inf\"} 4",
            "latency_ms_sum{a=\"b\"} 12.5",
            "latency_ms_count{a=\"b\"} 4",
        ] {
            assert!(page.contains(want), "{want} not in {page}");
        }
    }

    #[test]
    fn same_labels_share_one_series() {
        let r = registry(10);
        r.counter("c", vec![label("x", "1")]).increment(1);
        r.counter("c", vec![label("x", "1")]).increment(2);
        assert!(r.render().contains("c{x=\"1\"} 3"));
    }

    #[test]
    fn label_values_are_escaped() {
        let r = registry(10);
        r.counter("c", vec![label("x", "a\"b\\c\nd")]).increment(1);
        assert!(r.render().contains(r#"c{x="a\"b\\c\nd"} 1"#));
    }

    #[test]
    fn past_the_ceiling_handles_count_nothing_and_the_page_says_so() {
        let r = registry(1);
        r.counter("kept", vec![]).increment(1);
        r.counter("refused", vec![]).increment(1);
        let page = r.render();
        assert!(page.contains("kept 1"));
        assert!(!page.contains("refused 1"));
        assert!(page.contains("metrics_series_refused_total 1"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_series_outlives_its_handles_only_for_the_retention_time() {
        let r = registry(10);
        let held = r.counter("held", vec![]);
        r.counter("dropped", vec![]).increment(1);
        r.sweep();
        tokio::time::advance(Duration::from_secs(59)).await;
        r.sweep();
        assert!(r.render().contains("dropped 1"));
        tokio::time::advance(Duration::from_secs(2)).await;
        r.sweep();
        held.increment(1);
        let page = r.render();
        assert!(!page.contains("dropped"));
        assert!(page.contains("held 1"));
    }
}
