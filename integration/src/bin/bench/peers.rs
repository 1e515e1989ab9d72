//! The proxies that are compared, each with one worker on core 0.
//!
//! Configuration of the others is generated, with what a careful operator would set: keep-alive to
//! the backend, no access log, no limits that a benchmark runs into. All offer the same four ports.
//! A pair is two processes, mutual TLS between them.

mod config;
mod kind;
mod mesh;
mod start;

pub(crate) use self::{
    kind::{Group, Kind},
    mesh::{Mesh, server_id},
};

use self::kind::Program;
use crate::scenario::{Port, Scenario};
use anyhow::{Context, Result, bail, ensure};
use integration::{control::ControlPlane, process::Process, proxy::Proxy, scrape};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

const START: Duration = Duration::from_secs(10);
/// Between two tries of what may not be there yet.
const AGAIN: Duration = Duration::from_micros(200);
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

/// What peers are started from.
pub(crate) struct Setup {
    pub(crate) control: ControlPlane,
    pub(crate) mesh: Mesh,
    pub(crate) backend: Ipv4Addr,
    pub(crate) proxy: PathBuf,
    pub(crate) envoy: Option<PathBuf>,
    pub(crate) dir: tempfile::TempDir,
}

/// A peer that runs.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    backend: Ipv4Addr,
    /// In the order in which requests pass them.
    hops: Vec<Hop>,
    /// From exec to the first 200.
    pub(crate) start: Duration,
}

/// A proxy that runs.
struct Hop {
    ip: Ipv4Addr,
    running: Running,
}

enum Running {
    Ours(Box<Proxy>),
    Other(Process),
}

// === impl Setup ===

impl Setup {
    /// The executable of `program`; an error says how to get it.
    pub(crate) fn path(&self, program: Program) -> Result<PathBuf> {
        let path = match program {
            Program::Ours => Some(self.proxy.clone()),
            Program::Envoy if self.envoy.is_some() => self.envoy.clone(),
            _ => find(program.name()),
        };
        path.with_context(|| program.hint())
    }

    /// What the program of `kind` reports as its name and version.
    pub(crate) fn version(&self, kind: Kind) -> Option<String> {
        let program = kind.program()?;
        let (flag, pick) = program.version()?;
        let output = Command::new(self.path(program).ok()?)
            .arg(flag)
            .output()
            .ok()?;
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        Some(format!("{} {}", program.name(), pick(&text)?))
    }
}

/// The first `name` in PATH, or where Debian keeps what only root runs.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
}

// === impl Peer ===

impl Peer {
    /// Where the load of `scenario` goes; `None` when the peer does not offer it.
    pub(crate) fn target(&self, scenario: Scenario) -> Option<SocketAddr> {
        let is_tcp = matches!(scenario.port(), Port::Echo | Port::Bulk);
        let is_offered = match self.kind {
            Kind::Nginx if is_tcp => Path::new(NGINX_STREAM).exists(),
            // OpenSSL has the group from 3.5 on, and haproxy must have been built with it.
            Kind::HaproxyPair => scenario != Scenario::HandshakePostQuantum,
            _ => true,
        };
        let ip = if scenario.is_handshake() {
            (self.kind.group() == Group::Pair).then_some(self.hops.last()?.ip)
        } else {
            Some(self.hops.first().map_or(self.backend, |hop| hop.ip))
        };
        let ip = ip.filter(|_| is_offered)?;
        Some(SocketAddr::from((ip, scenario.port() as u16)))
    }

    /// Resident memory in KiB, of both of a pair; `None` when there is no proxy.
    pub(crate) fn rss_kib(&self) -> Option<u64> {
        let all = self.hops.iter().map(|hop| hop.running.rss_kib());
        (!self.hops.is_empty()).then(|| all.sum())
    }

    /// User and system time of those that `scenario` measures; `None` when there is no proxy.
    pub(crate) fn cpu_time(&self, scenario: Scenario) -> Option<Duration> {
        let measured = match self.hops.as_slice() {
            [_, server] if scenario.is_handshake() => std::slice::from_ref(server),
            all => all,
        };
        let all = measured.iter().map(|hop| hop.running.cpu_time());
        (!measured.is_empty()).then(|| all.sum())
    }

    fn first_answer(&mut self) -> Result<()> {
        let Some(addr) = self.target(Scenario::Http1) else {
            return Ok(());
        };
        let deadline = Instant::now() + START;
        loop {
            let answer = scrape::get(addr, "/hello");
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            let is_running = self.hops.iter_mut().all(|hop| hop.process().is_running());
            if !is_running || Instant::now() > deadline {
                let name = self.kind.name();
                bail!("{name} gives no answer: {answer:?}\n{}", self.output());
            }
            std::thread::sleep(AGAIN);
        }
    }

    /// Ours does what the control plane says, so that what it was told of TLS may have gone amiss;
    /// the configuration of the others leaves no choice.
    fn check_tls(&self) -> Result<()> {
        if let [client, _] = self.hops.as_slice()
            && let Running::Ours(proxy) = &client.running
        {
            let handshakes = proxy.handshakes("outbound", "ok");
            ensure!(handshakes > 0.0, "no TLS between our proxies");
        }
        Ok(())
    }

    /// Ends it; what it has printed.
    fn output(&mut self) -> String {
        let end = |hop: &mut Hop| {
            hop.process().kill();
            hop.process().output()
        };
        self.hops.iter_mut().map(end).collect()
    }
}

// === impl Hop ===

impl Hop {
    fn process(&mut self) -> &mut Process {
        match &mut self.running {
            Running::Ours(proxy) => proxy.process(),
            Running::Other(process) => process,
        }
    }
}

// === impl Running ===

impl Running {
    fn rss_kib(&self) -> u64 {
        match self {
            Self::Ours(proxy) => proxy.rss_kib(),
            Self::Other(process) => process.rss_kib(),
        }
    }

    fn cpu_time(&self) -> Duration {
        match self {
            Self::Ours(proxy) => proxy.cpu_time(),
            Self::Other(process) => process.cpu_time(),
        }
    }
}
