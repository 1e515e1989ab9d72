//! The tables of one group of peers: figures, ratios, and what limits them.

use super::{Results, figure::Figure};
use crate::{
    peers::{Group, Kind},
    scenario::Scenario,
};
use std::fmt::{Result, Write};

/// A proxy's core is this busy at least when it is the proxy that limits a rate.
const BUSY: f64 = 0.85;

/// One group's part of the report.
pub(super) struct Part<'a> {
    results: &'a Results,
    group: Group,
    kinds: Vec<Kind>,
}

// === impl Part ===

impl<'a> Part<'a> {
    /// `None` when nobody of `group` was measured.
    pub(super) fn of(results: &'a Results, group: Group) -> Option<Self> {
        let kinds = results.peers.iter().map(|(kind, _)| *kind);
        let kinds: Vec<_> = kinds.filter(|kind| kind.group() == group).collect();
        (!kinds.is_empty()).then_some(Self {
            results,
            group,
            kinds,
        })
    }

    pub(super) fn write(&self, text: &mut String) -> Result {
        let (title, introduction) = match self.group {
            Group::Single => (
                "One proxy",
                "One proxy between client and backend, in clear.",
            ),
            Group::Pair => (
                "A pair with mutual TLS",
                "Two proxies between client and backend, TLS 1.3 between them, both sides verified: \
                 ECDSA P-256, a leaf and its issuer, AES-128-GCM; haproxy and Envoy carry HTTP/1.1 \
                 by HTTP/2. CPU and memory are those of both together. Handshakes are those of the \
                 load generator with the server's proxy, and CPU is its alone: a connection for \
                 each request, group X25519 for everybody unless the row says X25519MLKEM768.",
            ),
        };
        writeln!(text, "\n## {title}\n\n{introduction}\n")?;
        self.figures(text)?;
        self.ratios(text)?;
        let limited = self.limited();
        if limited.is_empty() {
            return Ok(());
        }
        writeln!(
            text,
            "\nLimited by load generator and backend, so that the rate says little (CPU per \
             request holds): {}.",
            limited.join("; ")
        )
    }

    fn figures(&self, text: &mut String) -> Result {
        header(text, self.kinds.iter().map(|kind| kind.name()))?;
        for (figure, by_peer) in &self.results.figures {
            if !self.kinds.iter().any(|kind| by_peer.contains_key(kind)) {
                continue;
            }
            let title = figure.title(self.results.rate);
            let cells = self.kinds.iter().map(|kind| by_peer.get(kind));
            row(text, &title, cells.map(|values| Some(cell(values?))))?;
            self.added(text, *figure)?;
        }
        Ok(())
    }

    /// How much of a latency is the peer's own, when that without any proxy is known.
    fn added(&self, text: &mut String, figure: Figure) -> Result {
        let Some(title) = figure.added_title(self.results.rate) else {
            return Ok(());
        };
        let Some(alone) = self.results.median(figure, Kind::None) else {
            return Ok(());
        };
        let cells = self.kinds.iter().map(|kind| {
            let with = self.results.median(figure, *kind);
            with.filter(|_| *kind != Kind::None)
                .map(|with| number(with - alone))
        });
        row(text, &title, cells)
    }

    /// Ours divided by each peer.
    fn ratios(&self, text: &mut String) -> Result {
        let (ours, others): (Vec<Kind>, Vec<Kind>) = self
            .kinds
            .iter()
            .filter(|kind| **kind != Kind::None)
            .partition(|kind| kind.is_ours());
        if others.is_empty() || ours.is_empty() {
            return Ok(());
        }
        writeln!(
            text,
            "\nRatios, ours divided by the peer's median (rates: more is better; all else: less):\n"
        )?;
        let both: Vec<_> = ours
            .iter()
            .flat_map(|us| others.iter().map(move |them| (*us, *them)))
            .collect();
        let names = both.iter();
        header(
            text,
            names.map(|(us, them)| format!("{} / {}", us.name(), them.name())),
        )?;
        for figure in self.results.figures.keys() {
            let ratio = |(us, them): &(Kind, Kind)| {
                let us = self.results.median(*figure, *us)?;
                let them = self.results.median(*figure, *them)?;
                (them > 0.0).then(|| format!("{:.2}", us / them))
            };
            let cells: Vec<_> = both.iter().map(ratio).collect();
            if cells.iter().any(Option::is_some) {
                row(text, &figure.title(self.results.rate), cells.into_iter())?;
            }
        }
        Ok(())
    }

    /// Rates that say little about a proxy.
    fn limited(&self) -> Vec<String> {
        let results = self.results;
        let mut limited = Vec::new();
        for figure in results.figures.keys() {
            let Figure::Rate(scenario) = *figure else {
                continue;
            };
            for kind in self.kinds.iter().filter(|kind| **kind != Kind::None) {
                if results.is_limited(scenario, *kind) == Some(true) {
                    let load = figure.load(results.rate);
                    limited.push(format!("{load} of {}", kind.name()));
                }
            }
        }
        limited
    }
}

impl Results {
    fn median(&self, figure: Figure, kind: Kind) -> Option<f64> {
        Some(median(self.figures.get(&figure)?.get(&kind)?))
    }

    /// Whether the backend alone is hardly faster, or, where there is no backend alone, the proxy
    /// has not enough to do.
    fn is_limited(&self, scenario: Scenario, kind: Kind) -> Option<bool> {
        let rate = self.median(Figure::Rate(scenario), kind)?;
        if scenario.is_handshake() {
            let each = self.median(Figure::Cpu(scenario), kind)?;
            return Some(rate * each / 1e6 < BUSY);
        }
        let alone = self.median(Figure::Rate(scenario), Kind::None)?;
        Some(rate * 1.2 > alone)
    }
}

fn header(text: &mut String, names: impl Iterator<Item = impl Into<String>>) -> Result {
    let names: Vec<String> = names.map(Into::into).collect();
    writeln!(text, "|  | {} |", names.join(" | "))?;
    writeln!(text, "|---|{}", "---:|".repeat(names.len()))
}

fn row(text: &mut String, title: &str, cells: impl Iterator<Item = Option<String>>) -> Result {
    let cells: Vec<_> = cells.map(|cell| cell.unwrap_or("–".to_owned())).collect();
    writeln!(text, "| {title} | {} |", cells.join(" | "))
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

fn cell(values: &[f64]) -> String {
    let (min, max) = values
        .iter()
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(min, max), v| {
            (min.min(*v), max.max(*v))
        });
    let middle = median(values);
    if values.len() == 1 || min == max {
        return number(middle);
    }
    format!("{} ({}–{})", number(middle), number(min), number(max))
}

/// Three significant digits or so.
fn number(value: f64) -> String {
    match value.abs() {
        v if v >= 10_000.0 => format!("{:.1}k", value / 1000.0),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_the_median_with_its_span() {
        assert_eq!(cell(&[3.0, 1.0, 2.0]), "2.00 (1.00–3.00)");
        assert_eq!(cell(&[16_900.0]), "16.9k");
        assert_eq!(median(&[1.0, 2.0]), 1.5);
    }

    #[test]
    fn groups_are_compared_among_themselves() {
        let mut results = Results::new(1, 1, 2000, 1);
        for (kind, p50) in [
            (Kind::None, 1.0),
            (Kind::Envoy, 3.0),
            (Kind::Pair, 5.0),
            (Kind::EnvoyPair, 10.0),
        ] {
            results.peer(kind, None);
            results.add(kind, Figure::P50(Scenario::Http1Rate), p50);
        }
        let part = |group| {
            let mut text = String::new();
            let part = Part::of(&results, group).expect("it was measured");
            part.write(&mut text).expect("text can grow");
            text
        };
        let (single, pair) = (part(Group::Single), part(Group::Pair));
        assert!(!single.contains("pair") && !single.contains("Ratios"));
        assert!(pair.contains("| HTTP/1.1 at 2000/s: p50 µs | 5.00 | 10.0 |"));
        assert!(pair.contains("| HTTP/1.1 at 2000/s: added p50 µs | 4.00 | 9.00 |"));
        assert!(pair.contains("| gossamer pair / envoy pair |"));
        assert!(pair.contains("| HTTP/1.1 at 2000/s: p50 µs | 0.50 |"));
    }
}
