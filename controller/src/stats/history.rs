//! What one proxy did in the last ten minutes.
//!
//! Counters are kept as increments between pages, per *track*: all inbound traffic, and outbound
//! traffic by Service. Increments are taken per series and then summed, so that a series that
//! leaves the page (its endpoint is gone) is not mistaken for a counter that started again. Old
//! increments are merged into longer spans, so a window of any length is a sum over at most some
//! fifty entries.

mod page;

use self::page::Reading;
use super::{edges::Edges, text::TextError};
use ahash::AHashMap;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

/// Upper bounds of the latency buckets in milliseconds; what is slower goes into one more.
pub(super) const BOUNDS: [f64; BUCKETS - 1] = [
    1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 100.0, 200.0, 300.0, 400.0, 500.0,
    1000.0, 2000.0, 3000.0, 4000.0, 5000.0, 10_000.0, 20_000.0, 30_000.0, 40_000.0, 50_000.0,
];
/// How many latency buckets there are.
pub(super) const BUCKETS: usize = 26;

const KEPT: Duration = Duration::from_secs(600);
const MAX_TRACKS: usize = 1_000;

/// One proxy's history.
pub(super) struct History {
    epoch: Instant,
    /// When the first and the last page were read, since the epoch.
    pages: Option<(Duration, Duration)>,
    /// The last page, by a hash of the series.
    previous: AHashMap<u64, Reading>,
    tracks: BTreeMap<Track, Timeline>,
    /// Where it connects to.
    pub(super) edges: Edges,
    /// When its page could not be read, if that is so since the last time.
    pub(super) failed_at: Option<Instant>,
}

/// Traffic that is counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Track {
    /// To the pod.
    Inbound,
    /// From the pod to a Service.
    Outbound {
        /// Namespace of the Service.
        namespace: Arc<str>,
        /// Name of the Service.
        service: Arc<str>,
    },
}

/// What happened in a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Window {
    /// How much of the window was observed, in seconds.
    pub(super) covered_secs: f64,
    /// Responses classified as success.
    pub(super) success: f64,
    /// Responses classified as failure.
    pub(super) failure: f64,
    /// Bytes read from the peer.
    pub(super) read: f64,
    /// Bytes written to the peer.
    pub(super) write: f64,
    /// Responses by latency, each in one bucket.
    pub(super) latency: [f64; BUCKETS],
    /// Connections open now; `None` when the proxy never had one.
    pub(super) open: Option<u64>,
}

#[derive(Default)]
struct Timeline {
    spans: VecDeque<Span>,
    open: Option<u64>,
}

/// Increments over some time; spans without any are not kept.
struct Span {
    from: Duration,
    to: Duration,
    counts: Box<Counts>,
}

#[derive(Clone, Default, PartialEq)]
struct Counts {
    success: u64,
    failure: u64,
    read: u64,
    write: u64,
    latency: [u32; BUCKETS],
}

// === impl History ===

impl History {
    /// Nothing was read yet.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            pages: None,
            previous: AHashMap::new(),
            tracks: BTreeMap::new(),
            edges: Edges::default(),
            failed_at: None,
        }
    }

    /// Takes in a page that was read just now. The first is only what the next is compared to.
    ///
    /// # Errors
    /// When the page is malformed; nothing of it is taken then.
    pub(super) fn observe(&mut self, page: &str, now: Instant) -> Result<(), TextError> {
        let page::Page { readings, edges } = page::read(page)?;
        self.edges.observe(edges, now);
        let now = now.saturating_duration_since(self.epoch);
        let mut increments: BTreeMap<&Track, (Counts, Option<u64>)> = BTreeMap::new();
        for (series, (track, reading)) in &readings {
            let (counts, open) = increments.entry(track).or_default();
            match reading {
                Reading::Open(value) => *open = Some(open.unwrap_or(0).saturating_add(*value)),
                reading if self.pages.is_some() => counts.add(reading, self.previous.get(series)),
                _ => {}
            }
        }
        let from = self.pages.map_or(now, |(_, last)| last);
        for timeline in self.tracks.values_mut() {
            timeline.open = timeline.open.map(|_| 0);
        }
        for (track, (counts, open)) in increments {
            if !self.tracks.contains_key(track) && self.tracks.len() >= MAX_TRACKS {
                continue;
            }
            let timeline = self.tracks.entry(track.clone()).or_default();
            timeline.open = open.or(timeline.open);
            if counts != Counts::default() {
                let counts = Box::new(counts);
                timeline.spans.push_back(Span {
                    from,
                    to: now,
                    counts,
                });
            }
        }
        self.tracks.retain(|_, timeline| timeline.thin(now));
        self.pages = Some((self.pages.map_or(now, |(first, _)| first), now));
        let values = readings.into_iter();
        self.previous = values
            .map(|(series, (_, reading))| (series, reading))
            .collect();
        Ok(())
    }

    /// The tracks that there are.
    pub(super) fn tracks(&self) -> impl Iterator<Item = &Track> {
        self.tracks.keys()
    }

    /// What happened on a track in the last `length`, as of the last page; a proxy that has not
    /// answered for `stale` is taken to do nothing any more.
    pub(super) fn window(
        &self,
        track: &Track,
        length: Duration,
        stale: Duration,
        now: Instant,
    ) -> Window {
        let mut window = Window::default();
        let Some((first, last)) = self.pages else {
            return window;
        };
        let now = now.saturating_duration_since(self.epoch);
        let is_stale = now.saturating_sub(last) > stale;
        let end = if is_stale { now } else { last };
        let start = end.saturating_sub(length);
        window.covered_secs = end.saturating_sub(first.max(start)).as_secs_f64();
        let Some(timeline) = self.tracks.get(track) else {
            return window;
        };
        window.open = timeline.open.filter(|_| !is_stale);
        for span in &timeline.spans {
            let inside = span.to.saturating_sub(span.from.max(start)).as_secs_f64();
            let whole = span.to.saturating_sub(span.from).as_secs_f64();
            if inside > 0.0 {
                window.add(&span.counts, inside / whole);
            }
        }
        window
    }
}

// === impl Window ===

impl Window {
    /// Sums two windows of the same length.
    pub(super) fn merge(&mut self, other: &Self) {
        self.covered_secs = self.covered_secs.max(other.covered_secs);
        self.success += other.success;
        self.failure += other.failure;
        self.read += other.read;
        self.write += other.write;
        for (mine, theirs) in self.latency.iter_mut().zip(other.latency) {
            *mine += theirs;
        }
        self.open = match (self.open, other.open) {
            (Some(mine), Some(theirs)) => Some(mine.saturating_add(theirs)),
            (mine, theirs) => mine.or(theirs),
        };
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "rates are not exact to the last digit"
    )]
    fn add(&mut self, counts: &Counts, share: f64) {
        self.success += counts.success as f64 * share;
        self.failure += counts.failure as f64 * share;
        self.read += counts.read as f64 * share;
        self.write += counts.write as f64 * share;
        for (mine, theirs) in self.latency.iter_mut().zip(counts.latency) {
            *mine += f64::from(theirs) * share;
        }
    }
}

// === impl Timeline ===

impl Timeline {
    /// Merges spans that are older than they need to be exact, and forgets what is too old. Whether
    /// there is anything left to tell.
    fn thin(&mut self, now: Duration) -> bool {
        let horizon = now.saturating_sub(KEPT);
        while self.spans.front().is_some_and(|span| span.to < horizon) {
            self.spans.pop_front();
        }
        let mut index = 1;
        while let (Some(older), Some(newer)) = (self.spans.get(index - 1), self.spans.get(index)) {
            let longest = match now.saturating_sub(newer.to).as_secs() {
                0..15 => Duration::ZERO,
                15..60 => Duration::from_secs(5),
                _ => Duration::from_secs(30),
            };
            if newer.to.saturating_sub(older.from) > longest {
                index += 1;
                continue;
            }
            if let Some(newer) = self.spans.remove(index)
                && let Some(older) = self.spans.get_mut(index - 1)
            {
                older.to = newer.to;
                older.counts.merge(&newer.counts);
            }
        }
        !self.spans.is_empty() || self.open.is_some_and(|open| open > 0)
    }
}

// === impl Counts ===

impl Counts {
    /// Adds what a series gained since `before`. A counter that went down started again from 0, and
    /// so did one that was not there.
    fn add(&mut self, reading: &Reading, before: Option<&Reading>) {
        let gain = |now: u64, before: u64| if now >= before { now - before } else { now };
        let (sum, gained) = match (reading, before) {
            (Reading::Latency(now), Some(Reading::Latency(before)))
                if now[BUCKETS - 1] >= before[BUCKETS - 1] =>
            {
                return self.add_latency(now, before);
            }
            (Reading::Latency(now), _) => return self.add_latency(now, &[0; BUCKETS]),
            (Reading::Open(_), _) => return,
            (Reading::Success(now), Some(Reading::Success(b))) => {
                (&mut self.success, gain(*now, *b))
            }
            (Reading::Failure(now), Some(Reading::Failure(b))) => {
                (&mut self.failure, gain(*now, *b))
            }
            (Reading::Read(now), Some(Reading::Read(b))) => (&mut self.read, gain(*now, *b)),
            (Reading::Write(now), Some(Reading::Write(b))) => (&mut self.write, gain(*now, *b)),
            (Reading::Success(now), _) => (&mut self.success, *now),
            (Reading::Failure(now), _) => (&mut self.failure, *now),
            (Reading::Read(now), _) => (&mut self.read, *now),
            (Reading::Write(now), _) => (&mut self.write, *now),
        };
        // A page may say anything.
        *sum = sum.saturating_add(gained);
    }

    fn add_latency(&mut self, now: &[u32; BUCKETS], before: &[u32; BUCKETS]) {
        let mut below = 0;
        for (count, (now, before)) in self.latency.iter_mut().zip(now.iter().zip(before)) {
            let gained = now.saturating_sub(*before);
            *count = count.saturating_add(gained.saturating_sub(below));
            below = below.max(gained);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.success = self.success.saturating_add(other.success);
        self.failure = self.failure.saturating_add(other.failure);
        self.read = self.read.saturating_add(other.read);
        self.write = self.write.saturating_add(other.write);
        for (mine, theirs) in self.latency.iter_mut().zip(other.latency) {
            *mine = mine.saturating_add(theirs);
        }
    }
}

#[cfg(test)]
mod tests;
