//! What is measured, and with which load.

use clap::ValueEnum;

/// One kind of load. Scenarios run in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Scenario {
    /// Start, idle memory, memory of idle connections.
    Memory,
    /// HTTP/1.1, 50 connections, as fast as they go.
    Http1,
    /// HTTP/1.1, 32 connections, at a fixed rate.
    Http1Rate,
    /// HTTP/2, 10 connections with 20 streams each, as fast as they go.
    Http2,
    /// HTTP/2, 4 connections with 8 streams each, at a fixed rate.
    Http2Rate,
    /// TCP, 16 connections, 64 bytes there and back.
    Pingpong,
    /// TCP, 4 connections, from the server.
    Bulk,
    /// TLS to the server's end of a pair, 16 at a time, one request on each connection.
    Handshake,
    /// The same, every session resumed.
    HandshakeResumed,
    /// Full ones, with the group that holds against quantum computers.
    HandshakePostQuantum,
}

/// Port of each protocol, the same at the backend and at every proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Http1 = 8001,
    Http2 = 8002,
    Echo = 8003,
    Bulk = 8004,
}

impl Port {
    pub(crate) const ALL: [Self; 4] = [Self::Http1, Self::Http2, Self::Echo, Self::Bulk];

    /// The Service that stands for the port.
    pub(crate) fn service(self) -> String {
        self.service_in("bench")
    }

    /// The same, of which the endpoint is a sidecar that proves its identity.
    pub(crate) fn meshed_service(self) -> String {
        self.service_in("mesh")
    }

    fn service_in(self, namespace: &str) -> String {
        let name = format!("{self:?}").to_ascii_lowercase();
        format!("{name}.{namespace}.svc.cluster.local:{}", self as u16)
    }
}

impl Scenario {
    /// The name on the command line and in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Http1 => "http1",
            Self::Http1Rate => "http1-rate",
            Self::Http2 => "http2",
            Self::Http2Rate => "http2-rate",
            Self::Pingpong => "pingpong",
            Self::Bulk => "bulk",
            Self::Handshake => "handshake",
            Self::HandshakeResumed => "handshake-resumed",
            Self::HandshakePostQuantum => "handshake-post-quantum",
        }
    }

    /// The port it uses.
    pub(crate) fn port(self) -> Port {
        match self {
            Self::Memory
            | Self::Http1
            | Self::Http1Rate
            | Self::Handshake
            | Self::HandshakeResumed
            | Self::HandshakePostQuantum => Port::Http1,
            Self::Http2 | Self::Http2Rate => Port::Http2,
            Self::Pingpong => Port::Echo,
            Self::Bulk => Port::Bulk,
        }
    }

    /// Arguments of `bench load`, without address and time.
    pub(crate) fn load_args(self, rate: u64) -> Vec<String> {
        let (mode, connections, streams, rate) = match self {
            Self::Memory => ("idle", 1000, 1, 0),
            Self::Http1 => ("http1", 50, 1, 0),
            Self::Http1Rate => ("http1", 32, 1, rate),
            Self::Http2 => ("http2", 10, 20, 0),
            Self::Http2Rate => ("http2", 4, 8, rate),
            Self::Pingpong => ("pingpong", 16, 1, 0),
            Self::Bulk => ("bulk", 4, 1, 0),
            Self::Handshake | Self::HandshakeResumed | Self::HandshakePostQuantum => {
                (self.name(), 16, 1, 0)
            }
        };
        format!("{mode} --connections {connections} --streams {streams} --rate {rate}")
            .split(' ')
            .map(str::to_owned)
            .collect()
    }

    /// Whether it runs at a fixed rate, so that its latencies mean something.
    pub(crate) fn is_paced(self) -> bool {
        matches!(self, Self::Http1Rate | Self::Http2Rate)
    }

    /// Whether every request takes a new connection with a TLS handshake.
    pub(crate) fn is_handshake(self) -> bool {
        matches!(
            self,
            Self::Handshake | Self::HandshakeResumed | Self::HandshakePostQuantum
        )
    }
}
