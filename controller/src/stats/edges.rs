//! Who talks to whom, and whether it is secured: what proxies say about where they connect to.
//!
//! An edge is there while it has an open connection, and for a minute after its last answer:
//! connections of a quiet client are closed. [`Edges`] is one proxy's memory, fed by its
//! [`History`](super::history::History); [`rows`] makes of them what users see.

pub(super) mod rows;

use super::text::Sample;
use crate::object::Key;
use ahash::AHashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

const KEPT: Duration = Duration::from_secs(60);
const MAX_EDGES: usize = 1_000;

/// Where one proxy connects to.
#[derive(Default)]
pub(super) struct Edges {
    /// When there was something last.
    seen: BTreeMap<Edge, Instant>,
    /// Answers by series on the last page; `None` before the first.
    counted: Option<AHashMap<u64, u64>>,
}

/// A peer, and how it is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    /// Its address.
    pub(super) addr: SocketAddr,
    /// Its pod, as discovery said.
    pub(super) pod: Option<Key>,
    /// How it is spoken to.
    pub(super) tls: Tls,
}

/// How a peer is spoken to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tls {
    /// With mutual TLS, to this identity.
    Secured(Arc<str>),
    /// Without, for this reason.
    Not(Arc<str>),
}

/// One series about an edge.
pub(super) struct Sighting {
    pub(super) edge: Edge,
    activity: Activity,
}

enum Activity {
    /// Connections open now.
    Open(f64),
    /// Answers so far.
    Answers(f64),
}

// === impl Sighting ===

impl Sighting {
    /// What a sample says about an edge, if it does.
    pub(super) fn of(sample: &Sample<'_, '_>) -> Option<Self> {
        let activity = match (sample.name, sample.label("direction")?) {
            ("tcp_open_connections", "outbound") if sample.label("peer") == Some("dst") => {
                Activity::Open(sample.value)
            }
            ("response_total", "outbound") => Activity::Answers(sample.value),
            _ => return None,
        };
        let key = |pod| Some(Key::new(sample.label("dst_namespace")?, pod));
        let edge = Edge {
            addr: sample.label("target_addr")?.parse().ok()?,
            pod: sample.label("dst_pod").and_then(key),
            tls: Tls::of(sample)?,
        };
        Some(Self { edge, activity })
    }
}

impl Tls {
    fn of(sample: &Sample<'_, '_>) -> Option<Self> {
        Some(match sample.label("tls")? {
            "true" => Self::Secured(sample.label("server_id")?.into()),
            other => Self::Not(sample.label("no_tls_reason").unwrap_or(other).into()),
        })
    }
}

// === impl Edges ===

impl Edges {
    /// Takes in all series of a page that was read just now, each with a hash that tells it apart.
    pub(super) fn observe(&mut self, sightings: Vec<(u64, Sighting)>, now: Instant) {
        let mut counted = AHashMap::new();
        let mut active = BTreeSet::new();
        for (series, Sighting { edge, activity }) in sightings {
            let is_active = match activity {
                Activity::Open(connections) => connections > 0.0,
                Activity::Answers(answers) => {
                    let answers = answers as u64;
                    counted.insert(series, answers);
                    // What was counted before the first page may be long past.
                    let before = self.counted.as_ref().map(|c| c.get(&series).copied());
                    before.is_some_and(|before| before.unwrap_or(0) != answers)
                }
            };
            if is_active {
                active.insert(edge);
            }
        }
        self.counted = Some(counted);
        self.seen.retain(|edge, at| {
            // A peer that is spoken to in another way by now is not spoken to in the old one.
            now.saturating_duration_since(*at) <= KEPT
                && !active.iter().any(|other| other.addr == edge.addr)
        });
        for edge in active {
            if self.seen.len() < MAX_EDGES {
                self.seen.insert(edge, now);
            }
        }
    }

    /// The edges that there are.
    pub(super) fn recent(&self, now: Instant) -> impl Iterator<Item = &Edge> {
        let seen = self.seen.iter();
        let recent = seen.filter(move |(_, at)| now.saturating_duration_since(**at) <= KEPT);
        recent.map(|(edge, _)| edge)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::text, *};

    fn page(edges: &mut Edges, page: &str, now: Instant) {
        let mut sightings = Vec::new();
        let each = |sample: &Sample<'_, '_>| {
            let series = sightings.len() as u64;
            sightings.extend(Sighting::of(sample).map(|sighting| (series, sighting)));
        };
        text::samples(page, |_| true, each).expect("a page");
        edges.observe(sightings, now);
    }

    fn series(name: &str, tls: &str, value: u64) -> String {
        format!(
            "{name}{{direction=\"outbound\",peer=\"dst\",target_addr=\"10.0.0.2:80\",{tls},\
             dst_namespace=\"demo\",dst_pod=\"api-0\"}} {value}\n"
        )
    }

    const CLEAR: &str = "tls=\"no_identity\",no_tls_reason=\"not_provided_by_service_discovery\"";
    const SECURED: &str = "tls=\"true\",server_id=\"api.demo\"";

    fn seen(edges: &Edges, now: Instant) -> Vec<Tls> {
        edges.recent(now).map(|edge| edge.tls.clone()).collect()
    }

    #[test]
    fn an_edge_is_there_while_it_is_open_and_for_a_minute_after_its_last_answer() {
        let (mut edges, start) = (Edges::default(), Instant::now());
        let at = |secs| start + Duration::from_secs(secs);
        let open = |n| series("tcp_open_connections", SECURED, n);
        let answers = |n| series("response_total", SECURED, n);
        page(&mut edges, &(open(0) + &answers(7)), at(0));
        assert!(
            seen(&edges, at(0)).is_empty(),
            "nobody knows when these 7 were"
        );
        page(&mut edges, &(open(0) + &answers(8)), at(1));
        page(&mut edges, &(open(0) + &answers(8)), at(2));
        let secured = [Tls::Secured("api.demo".into())];
        assert_eq!(seen(&edges, at(61)), secured);
        assert!(seen(&edges, at(62)).is_empty());
        page(&mut edges, &open(1), at(200));
        assert_eq!(seen(&edges, at(200)), secured);
    }

    #[test]
    fn what_is_secured_by_now_is_not_shown_in_clear_as_well() {
        let (mut edges, now) = (Edges::default(), Instant::now());
        page(&mut edges, &series("tcp_open_connections", CLEAR, 1), now);
        let clear = Tls::Not("not_provided_by_service_discovery".into());
        assert_eq!(seen(&edges, now), [clear]);
        let both =
            series("tcp_open_connections", CLEAR, 1) + &series("tcp_open_connections", SECURED, 1);
        page(&mut edges, &both, now);
        assert_eq!(seen(&edges, now).len(), 2);
        let after =
            series("tcp_open_connections", CLEAR, 0) + &series("tcp_open_connections", SECURED, 1);
        page(&mut edges, &after, now);
        assert_eq!(seen(&edges, now), [Tls::Secured("api.demo".into())]);
    }

    #[test]
    fn what_says_nothing_about_an_edge_is_passed_over() {
        let mut edges = Edges::default();
        let open = series("tcp_open_connections", SECURED, 1);
        for other in [
            open.replace("outbound", "inbound"),
            open.replace("\"dst\"", "\"src\""),
            open.replace("10.0.0.2:80", "nowhere"),
            open.replace("tls=\"true\",server_id=\"api.demo\",", ""),
            "tcp_open_connections 1\n".to_owned(),
        ] {
            page(&mut edges, &other, Instant::now());
            assert!(seen(&edges, Instant::now()).is_empty(), "{other}");
        }
    }

    #[test]
    fn a_flood_of_peers_is_bounded() {
        let mut edges = Edges::default();
        let open = series("tcp_open_connections", SECURED, 1);
        let many: String = (1..2000)
            .map(|port| open.replace("10.0.0.2:80", &format!("10.0.0.2:{port}")))
            .collect();
        page(&mut edges, &many, Instant::now());
        assert_eq!(seen(&edges, Instant::now()).len(), MAX_EDGES);
    }
}
