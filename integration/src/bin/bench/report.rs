//! Medians, spans and ratios, as Markdown for people and JSON for programs.

mod figure;
mod table;

pub(crate) use self::figure::Figure;

use self::table::Part;
use crate::{
    load::Outcome,
    peers::{Group, Kind},
    scenario::Scenario,
};
use anyhow::{Result, bail};
use serde_json::json;
use std::{collections::BTreeMap, fmt::Write, path::Path, time::Duration};

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
             alone; latencies count from the moment a request was due, and what is added to them \
             is against none. Absolute figures belong to the machine: compare them inside one row.\n",
            self.repeat, self.seconds
        )?;
        writeln!(text, "{}", self.environment())?;
        for part in Group::ALL.map(|group| Part::of(self, group)) {
            part.map_or(Ok(()), |part| part.write(&mut text))?;
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
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let model = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = model
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
            .map_or("unknown processor", |(_, name)| name);
        let endpoints = self.endpoints;
        let plural = if endpoints == 1 { "" } else { "s" };
        format!(
            "Linux {}, {model}; {}gossamer out balances over {endpoints} endpoint{plural}.",
            kernel.trim(),
            self.versions()
        )
    }

    /// Each program once, in a list that goes on.
    fn versions(&self) -> String {
        let mut versions: Vec<&str> = Vec::new();
        for version in self.peers.iter().filter_map(|(_, v)| v.as_deref()) {
            if !versions.contains(&version) {
                versions.push(version);
            }
        }
        match versions.as_slice() {
            [] => String::new(),
            some => format!("{}; ", some.join(", ")),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

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
