//! What is reported, and under which title.

use crate::scenario::Scenario;

/// One row of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Figure {
    /// Proxy's CPU per request, round trip, handshake or GB.
    Cpu(Scenario),
    /// Requests, round trips, handshakes or GB per second.
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

// === impl Figure ===

impl Figure {
    pub(super) fn title(self, rate: u64) -> String {
        let load = self.load(rate);
        match self {
            Self::Cpu(Scenario::Bulk) => format!("{load}: CPU s/GB"),
            Self::Cpu(s) => format!("{load}: CPU µs/{}", unit(s)),
            Self::Rate(Scenario::Bulk) => format!("{load}: GB/s"),
            Self::Rate(s) => format!("{load}: {}s/s", unit(s)),
            Self::P50(_) => format!("{load}: p50 µs"),
            Self::P99(_) => format!("{load}: p99 µs"),
            Self::RssIdleMib => "RSS idle, MiB".to_owned(),
            Self::RssLoadMib => "RSS under load, MiB".to_owned(),
            Self::RssAfterMib => "RSS after load, MiB".to_owned(),
            Self::KibPerConnection => "KiB per idle client connection".to_owned(),
            Self::StartMs => "exec to first 200, ms".to_owned(),
            Self::BinaryMb => "binary, MB".to_owned(),
        }
    }

    /// Title of what a proxy adds to the figure of the backend alone, for those where it does.
    pub(super) fn added_title(self, rate: u64) -> Option<String> {
        let load = self.load(rate);
        match self {
            Self::P50(_) => Some(format!("{load}: added p50 µs")),
            Self::P99(_) => Some(format!("{load}: added p99 µs")),
            _ => None,
        }
    }

    /// The load under which it was measured; empty when that is no scenario's.
    pub(super) fn load(self, rate: u64) -> String {
        match self {
            Self::Cpu(s) | Self::Rate(s) | Self::P50(s) | Self::P99(s) => load(s, rate),
            _ => String::new(),
        }
    }
}

fn load(scenario: Scenario, rate: u64) -> String {
    match scenario {
        Scenario::Memory => "memory".to_owned(),
        Scenario::Http1 => "HTTP/1.1, 50 connections".to_owned(),
        Scenario::Http1Rate => format!("HTTP/1.1 at {rate}/s"),
        Scenario::Http2 => "HTTP/2, 10×20 streams".to_owned(),
        Scenario::Http2Rate => format!("HTTP/2 at {rate}/s"),
        Scenario::Pingpong => "TCP ping-pong".to_owned(),
        Scenario::Bulk => "TCP bulk".to_owned(),
        Scenario::Handshake => "TLS, full".to_owned(),
        Scenario::HandshakeResumed => "TLS, resumed".to_owned(),
        Scenario::HandshakePostQuantum => "TLS, full, X25519MLKEM768".to_owned(),
    }
}

fn unit(scenario: Scenario) -> &'static str {
    match scenario {
        Scenario::Pingpong => "round trip",
        s if s.is_handshake() => "handshake",
        _ => "request",
    }
}
