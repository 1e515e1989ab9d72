//! Medians, spans and ratios, as Markdown for people and JSON for programs.

use crate::{load::Outcome, peers::Kind, scenario::Scenario};
use anyhow::{Result, bail};
use serde_json::json;
use std::{collections::BTreeMap, fmt::Write, path::Path, time::Duration};

/// One row of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Proxy's CPU per request, round trip or GB.
    Cpu(Scenario),
    /// Requests, round trips or GB per second.
    Rate(Scenario),
    P50(Scenario),
    P99(Scenario),
    RssIdleMib,
    RssLoadMib,
    RssAfterMib,
    KibPerConnection,
    StartMs,
    BinaryMb,
}

/// All figures of a run.
pub(crate) struct Results {
    repeat: usize,
    seconds: u64,
    rate: u64,
    endpoints: u16,
    peers: Vec<(Kind, Option<String>)>,
    figures: BTreeMap<Figure, BTreeMap<Kind, Vec<f64>>>,
    errors: Vec<String>,
}

// === impl Figure ===

impl Figure {
    fn title(self, rate: u64) -> String {
        match self {
            Self::Cpu(Scenario::Bulk) => "TCP bulk: CPU s/GB".to_owned(),
            Self::Cpu(Scenario::Pingpong) => "TCP ping-pong: CPU µs/round trip".to_owned(),
            Self::Cpu(s) => format!("{}: CPU µs/request", load(s, rate)),
            Self::Rate(Scenario::Bulk) => "TCP bulk: GB/s".to_owned(),
            Self::Rate(Scenario::Pingpong) => "TCP ping-pong: round trips/s".to_owned(),
            Self::Rate(s) => format!("{}: requests/s", load(s, rate)),
            Self::P50(s) => format!("{}: p50 µs", load(s, rate)),
            Self::P99(s) => format!("{}: p99 µs", load(s, rate)),
            Self::RssIdleMib => "RSS idle, MiB".to_owned(),
            Self::RssLoadMib => "RSS under load, MiB".to_owned(),
            Self::RssAfterMib => "RSS after load, MiB".to_owned(),
            Self::KibPerConnection => "KiB per idle client connection".to_owned(),
            Self::StartMs => "exec to first 200, ms".to_owned(),
            Self::BinaryMb => "binary, MB".to_owned(),
        }
    }
}

fn load(scenario: Scenario, rate: u64) -> String {
    match scenario {
        Scenario::Http1 => "HTTP/1.1, 50 connections".to_owned(),
        Scenario::Http2 => "HTTP/2, 10×20 streams".to_owned(),
        Scenario::Http1Rate => format!("HTTP/1.1 at {rate}/s"),
        Scenario::Http2Rate => format!("HTTP/2 at {rate}/s"),
        Scenario::Memory | Scenario::Pingpong | Scenario::Bulk => scenario.name().to_owned(),
    }
}

// === impl Results ===

impl Results {
    pub(crate) fn new(repeat: usize, seconds: u64, rate: u64, endpoints: u16) -> Self {
        let (peers, figures, errors) = Default::default();
        Self {
            repeat,
            seconds,
            rate,
            endpoints,
            peers,
            figures,
            errors,
        }
    }

    /// Announces a peer; columns come in this order.
    pub(crate) fn peer(&mut self, kind: Kind, version: Option<String>) {
        self.peers.push((kind, version));
    }

    /// One more value of a figure.
    pub(crate) fn add(&mut self, kind: Kind, figure: Figure, value: f64) {
        self.figures
            .entry(figure)
            .or_default()
            .entry(kind)
            .or_default()
            .push(value);
    }

    /// The values of one run of the load generator.
    pub(crate) fn outcome(
        &mut self,
        kind: Kind,
        scenario: Scenario,
        outcome: &Outcome,
        cpu: Option<Duration>,
    ) {
        if outcome.errors > 0 {
            let first = outcome.error.as_deref().unwrap_or_default();
            let (name, peer, n) = (scenario.name(), kind.name(), outcome.errors);
            self.errors
                .push(format!("{name} through {peer}: {n} errors, first: {first}"));
        }
        let is_bulk = scenario == Scenario::Bulk;
        let per_second = outcome.measured as f64 / outcome.seconds;
        if scenario.is_paced() {
            self.add(kind, Figure::P50(scenario), outcome.p50_us);
            self.add(kind, Figure::P99(scenario), outcome.p99_us);
        } else {
            let unit = if is_bulk { 1e9 } else { 1.0 };
            self.add(kind, Figure::Rate(scenario), per_second / unit);
        }
        if let Some(cpu) = cpu {
            let unit = if is_bulk { 1e9 } else { 1e6 };
            let cost = cpu.as_secs_f64() * unit / outcome.total.max(1) as f64;
            self.add(kind, Figure::Cpu(scenario), cost);
        }
    }

    /// Writes the report and fails when a request failed.
    pub(crate) fn write(&self, out: Option<&Path>) -> Result<()> {
        let text = self.markdown()?;
        println!("{text}");
        if let Some(path) = out {
            std::fs::write(path, &text)?;
            std::fs::write(path.with_extension("json"), self.json().to_string())?;
        }
        if !self.errors.is_empty() {
            bail!(
                "requests failed, so the figures do not count:\n{}",
                self.errors.join("\n")
            );
        }
        Ok(())
    }

    fn markdown(&self) -> Result<String> {
        let mut text = String::from("# Benchmarks\n\n");
        writeln!(
            text,
            "Written by `just bench`: medians of {} interleaved runs of {} s, with minimum and \
             maximum; every proxy pinned to core 0 with one worker; load generator, backend and \
             control plane on core 1; all over loopback. CPU is user and system time of the proxy \
             alone; latencies count from the moment a request was due. Absolute figures belong to \
             the machine: compare them inside one row.\n",
            self.repeat, self.seconds
        )?;
        writeln!(text, "{}\n", self.environment())?;
        self.table(&mut text)?;
        self.ratios(&mut text)?;
        if let Some(note) = self.backend_limits() {
            writeln!(text, "\n{note}")?;
        }
        if !self.errors.is_empty() {
            writeln!(
                text,
                "\n**Requests failed:**\n\n- {}",
                self.errors.join("\n- ")
            )?;
        }
        Ok(text)
    }

    fn environment(&self) -> String {
        let versions: Vec<_> = self
            .peers
            .iter()
            .filter_map(|(kind, version)| Some(format!("{} {}", kind.name(), version.as_ref()?)))
            .collect();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown processor", |(_, name)| name);
        let endpoints = self.endpoints;
        let plural = if endpoints == 1 { "" } else { "s" };
        format!(
            "Linux {}, {model}; {}; gossamer out balances over {endpoints} endpoint{plural}.",
            kernel.trim(),
            versions.join(", ")
        )
    }

    fn table(&self, text: &mut String) -> Result<()> {
        self.header(text, "", self.peers.iter().map(|(kind, _)| kind.name()))?;
        for (figure, by_peer) in &self.figures {
            write!(text, "| {} |", figure.title(self.rate))?;
            for (kind, _) in &self.peers {
                let cell = by_peer
                    .get(kind)
                    .map_or("–".to_owned(), |values| cell(values));
                write!(text, " {cell} |")?;
            }
            text.push('\n');
        }
        Ok(())
    }

    /// Ours divided by each peer.
    fn ratios(&self, text: &mut String) -> Result<()> {
        let others: Vec<Kind> = self
            .peers
            .iter()
            .map(|(kind, _)| *kind)
            .filter(|kind| !kind.is_ours() && *kind != Kind::None)
            .collect();
        let ours: Vec<Kind> = self
            .peers
            .iter()
            .map(|(kind, _)| *kind)
            .filter(|kind| kind.is_ours())
            .collect();
        if others.is_empty() || ours.is_empty() {
            return Ok(());
        }
        text.push_str("\nRatios, ours divided by the peer's median (rates: more is better; all else: less):\n\n");
        let pairs: Vec<_> = ours
            .iter()
            .flat_map(|us| others.iter().map(move |them| (*us, *them)))
            .collect();
        let names: Vec<_> = pairs
            .iter()
            .map(|(us, them)| format!("{} / {}", us.name(), them.name()))
            .collect();
        self.header(text, "", names.iter().map(String::as_str))?;
        for (figure, by_peer) in &self.figures {
            let middle = |kind| by_peer.get(&kind).map(|values| median(values));
            let cells: Vec<_> = pairs
                .iter()
                .map(|(us, them)| match (middle(*us), middle(*them)) {
                    (Some(us), Some(them)) if them > 0.0 => format!("{:.2}", us / them),
                    _ => "–".to_owned(),
                })
                .collect();
            writeln!(
                text,
                "| {} | {} |",
                figure.title(self.rate),
                cells.join(" | ")
            )?;
        }
        Ok(())
    }

    fn header<'a>(
        &self,
        text: &mut String,
        first: &str,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<()> {
        let names: Vec<_> = names.collect();
        writeln!(text, "| {first} | {} |", names.join(" | "))?;
        writeln!(text, "|---|{}", "---:|".repeat(names.len()))?;
        Ok(())
    }

    /// A rate says little about a proxy when the backend alone is hardly faster.
    fn backend_limits(&self) -> Option<String> {
        let mut limited = Vec::new();
        for scenario in [
            Scenario::Http1,
            Scenario::Http2,
            Scenario::Pingpong,
            Scenario::Bulk,
        ] {
            let Some(by_peer) = self.figures.get(&Figure::Rate(scenario)) else {
                continue;
            };
            let Some(alone) = by_peer.get(&Kind::None).map(|values| median(values)) else {
                continue;
            };
            for (kind, values) in by_peer.iter().filter(|(kind, _)| **kind != Kind::None) {
                if median(values) * 1.2 > alone {
                    limited.push(format!("{} of {}", load(scenario, self.rate), kind.name()));
                }
            }
        }
        (!limited.is_empty()).then(|| {
            format!(
                "Limited by load generator and backend, so that the rate says little (CPU per \
                 request holds): {}.",
                limited.join(", ")
            )
        })
    }

    fn json(&self) -> serde_json::Value {
        let figures: BTreeMap<String, BTreeMap<&str, &Vec<f64>>> = self
            .figures
            .iter()
            .map(|(figure, by_peer)| {
                let by_name = by_peer
                    .iter()
                    .map(|(kind, values)| (kind.name(), values))
                    .collect();
                (figure.title(self.rate), by_name)
            })
            .collect();
        json!({
            "repeat": self.repeat,
            "seconds": self.seconds,
            "rate": self.rate,
            "endpoints": self.endpoints,
            "environment": self.environment(),
            "figures": figures,
            "errors": self.errors,
        })
    }
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
    fn errors_make_the_run_fail() {
        let mut results = Results::new(1, 1, 2000, 1);
        let outcome = Outcome {
            errors: 1,
            seconds: 1.0,
            ..Outcome::default()
        };
        results.outcome(Kind::Nginx, Scenario::Http1, &outcome, None);
        assert!(results.write(None).is_err());
    }
}
