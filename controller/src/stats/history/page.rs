//! What is of interest on a page of metrics, by series.

use super::{
    super::{
        edges::Sighting,
        text::{self, Sample, TextError},
    },
    BOUNDS, BUCKETS, Track,
};
use ahash::{AHashMap, RandomState};

/// More series than any proxy has that is not under attack.
const MAX_SERIES: usize = 20_000;

/// The value of one series on a page.
#[derive(Clone)]
pub(super) enum Reading {
    Success(u64),
    Failure(u64),
    Read(u64),
    Write(u64),
    Open(u64),
    /// Cumulative by bucket, as on the page; stops moving at four billion.
    Latency(Box<[u32; BUCKETS]>),
}

/// What is of interest on a page.
#[derive(Default)]
pub(super) struct Page {
    /// By a hash of the series.
    pub(super) readings: AHashMap<u64, (Track, Reading)>,
    /// With the same hash.
    pub(super) edges: Vec<(u64, Sighting)>,
}

/// Reads a page.
pub(super) fn read(page: &str) -> Result<Page, TextError> {
    let hasher = RandomState::with_seeds(1, 2, 3, 4);
    let Page {
        mut readings,
        mut edges,
    } = Page::default();
    let mut tracks = Tracks::default();
    text::samples(page, is_wanted, |sample| {
        let labels = sample.labels.iter().filter(|(name, _)| *name != "le");
        let series = hasher.hash_one((sample.name, labels.collect::<Vec<_>>()));
        if edges.len() < MAX_SERIES {
            edges.extend(Sighting::of(sample).map(|sighting| (series, sighting)));
        }
        let (Some(track), Some(reading)) = (tracks.of(sample), reading(sample)) else {
            return;
        };
        let full = readings.len() >= MAX_SERIES;
        match readings.get_mut(&series) {
            Some((_, Reading::Latency(all))) => fold(all, &reading),
            Some(_) => {}
            None if full => {}
            None => {
                readings.insert(series, (track, reading));
            }
        }
    })?;
    for (_, reading) in readings.values_mut() {
        if let Reading::Latency(buckets) = reading {
            fill(buckets);
        }
    }
    Ok(Page { readings, edges })
}

fn is_wanted(name: &str) -> bool {
    matches!(
        name,
        "response_total"
            | "response_latency_ms_bucket"
            | "tcp_open_connections"
            | "tcp_read_bytes_total"
            | "tcp_write_bytes_total"
    )
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "casts of floats saturate, and counters are not negative"
)]
fn reading(sample: &Sample<'_, '_>) -> Option<Reading> {
    let value = sample.value as u64;
    Some(match sample.name {
        "response_total" => match sample.label("classification")? {
            "success" => Reading::Success(value),
            _ => Reading::Failure(value),
        },
        "response_latency_ms_bucket" => {
            let mut buckets = Box::new([0; BUCKETS]);
            buckets[bucket(sample.label("le")?)?] = sample.value as u32;
            Reading::Latency(buckets)
        }
        "tcp_open_connections" => Reading::Open(value),
        "tcp_read_bytes_total" => Reading::Read(value),
        "tcp_write_bytes_total" => Reading::Write(value),
        _ => return None,
    })
}

/// A bound that is not one of ours is no loss: buckets are cumulative.
fn bucket(le: &str) -> Option<usize> {
    let bound: f64 = le.parse().ok()?;
    if bound == f64::INFINITY {
        return Some(BUCKETS - 1);
    }
    BOUNDS.iter().position(|b| (b - bound).abs() < f64::EPSILON)
}

fn fold(all: &mut [u32; BUCKETS], reading: &Reading) {
    if let Reading::Latency(one) = reading {
        for (all, one) in all.iter_mut().zip(one.iter()) {
            *all = (*all).max(*one);
        }
    }
}

/// Cumulative counts never fall from one bucket to the next; a bucket that is not on the page has
/// what the one before has.
fn fill(buckets: &mut [u32; BUCKETS]) {
    let mut below = 0;
    for bucket in buckets {
        *bucket = (*bucket).max(below);
        below = *bucket;
    }
}

/// Names of tracks, each allocated once a page.
#[derive(Default)]
struct Tracks(AHashMap<(String, String), Track>);

impl Tracks {
    fn of(&mut self, sample: &Sample<'_, '_>) -> Option<Track> {
        let direction = sample.label("direction")?;
        let tcp = sample.name.starts_with("tcp_");
        match (direction, sample.label("peer")) {
            ("inbound", Some("src")) if tcp => Some(Track::Inbound),
            ("inbound", _) if !tcp => Some(Track::Inbound),
            ("outbound", Some("dst")) if tcp => self.outbound(sample),
            ("outbound", _) if !tcp => self.outbound(sample),
            _ => None,
        }
    }

    fn outbound(&mut self, sample: &Sample<'_, '_>) -> Option<Track> {
        let namespace = sample.label("dst_namespace")?;
        let service = sample.label("dst_service")?;
        let key = (namespace.to_owned(), service.to_owned());
        let track = self.0.entry(key).or_insert_with(|| Track::Outbound {
            namespace: namespace.into(),
            service: service.into(),
        });
        Some(track.clone())
    }
}
