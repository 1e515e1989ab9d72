//! The real sidecar, started with an environment as a pod would give it.
//!
//! A [`Builder`] collects ports and variables; a [`Proxy`] is the running process on a loopback
//! address of its own. What an identity takes is in `proxy/identity.rs`.

mod identity;

use crate::{
    addr, bins,
    control::ControlPlane,
    eventually,
    process::Process,
    scrape::{self, Answer, Metrics},
};
use rustix::process::Signal;
use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::{Command, ExitStatus},
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// How long a start may take before it counts as failed, on a machine that also compiles.
const START: Duration = Duration::from_secs(20);

/// What a sidecar is started with.
#[derive(Clone, Debug)]
pub struct Builder {
    ip: Ipv4Addr,
    env: BTreeMap<String, String>,
    outbound: Vec<String>,
    inbound: Vec<(u16, String)>,
    binary: Option<PathBuf>,
    core: Option<usize>,
    /// Where its token is, if it has one.
    files: Option<Arc<TempDir>>,
}

/// A running sidecar. Dropping it kills it.
pub struct Proxy {
    ip: Ipv4Addr,
    process: Process,
    started: Instant,
    _files: Option<Arc<TempDir>>,
}

/// A sidecar that asks `control` for everything.
pub fn with(control: &ControlPlane) -> Builder {
    let addr = control.addr().to_string();
    Builder::new(&addr, &addr)
}

// === impl Builder ===

impl Builder {
    /// A sidecar that asks the control plane at these `IP:PORT`s.
    pub fn new(destination: &str, policy: &str) -> Self {
        let ip = addr::unique_ip();
        let context = r#"{"ns":"demo","nodeName":"local","pod":"web-0"}"#;
        let workload = r#"{"ns":"demo","pod":"web-0"}"#;
        let builder = Self {
            ip,
            env: BTreeMap::new(),
            outbound: Vec::new(),
            inbound: Vec::new(),
            binary: None,
            core: None,
            files: None,
        };
        builder
            .env("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", &format!("{ip}:4140"))
            .env("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", &format!("{ip}:4143"))
            .env("LINKERD2_PROXY_ADMIN_LISTEN_ADDR", &format!("{ip}:4191"))
            .env("LINKERD2_PROXY_CONTROL_LISTEN_ADDR", &format!("{ip}:4190"))
            .env("LINKERD2_PROXY_DESTINATION_SVC_ADDR", destination)
            .env("LINKERD2_PROXY_POLICY_SVC_ADDR", policy)
            .env("LINKERD2_PROXY_DESTINATION_CONTEXT", context)
            .env("LINKERD2_PROXY_POLICY_WORKLOAD", workload)
            .env("LINKERD2_PROXY_INBOUND_IPS", &ip.to_string())
            .env("LINKERD2_PROXY_LOG", "warn,linkerd=info")
            .env("LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD", "10s")
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Removes a variable.
    pub fn without(mut self, name: &str) -> Self {
        self.env.remove(name);
        self
    }

    /// Everything that reaches `port` is for `target` (`name:port` or `ip:port`).
    pub fn outbound(mut self, port: u16, target: &str) -> Self {
        self.outbound.push(format!("{}:{port}={target}", self.ip));
        self
    }

    /// Everything that reaches `port` is for the local application at `app`.
    pub fn inbound(mut self, port: u16, app: SocketAddr) -> Self {
        self.inbound
            .push((port, format!("{}:{port}={app}", self.ip)));
        self
    }

    /// Runs another binary than the one under test.
    pub fn binary(mut self, path: PathBuf) -> Self {
        self.binary = Some(path);
        self
    }

    /// Keeps the process on one core.
    pub fn pinned(mut self, core: usize) -> Self {
        self.core = Some(core);
        self
    }

    /// The address the sidecar will have.
    pub fn ip(&self) -> Ipv4Addr {
        self.ip
    }

    /// Starts it and waits until it is ready.
    pub fn start(self) -> Proxy {
        let mut proxy = self.spawn();
        let admin = proxy.admin();
        let ready = eventually::blocking(START, || {
            if !proxy.process.is_running() {
                return Some(false);
            }
            scrape::get(admin, "/ready")
                .is_ok_and(|a| a.status == 200)
                .then_some(true)
        });
        assert_eq!(ready, Some(true), "the proxy did not become ready");
        proxy
    }

    /// Starts it and does not wait.
    pub fn spawn(self) -> Proxy {
        let (ip, files) = (self.ip, self.files.clone());
        let command = self.command();
        let started = Instant::now();
        Proxy {
            ip,
            process: Process::spawn("linkerd-proxy", command),
            started,
            _files: files,
        }
    }

    /// Starts it, expects that it ends by itself, and returns how and with what output.
    pub fn run(self) -> (ExitStatus, String) {
        let mut proxy = self.spawn();
        let status = proxy.process.wait(START).expect("the proxy ends by itself");
        (status, proxy.process.output())
    }

    fn command(self) -> Command {
        let binary = self
            .binary
            .unwrap_or_else(|| bins::linkerd_proxy().to_owned());
        let mut command = match self.core {
            Some(core) => {
                let mut taskset = Command::new("taskset");
                taskset.arg("-c").arg(core.to_string()).arg(binary);
                taskset
            }
            None => Command::new(binary),
        };
        command.env_clear().envs(self.env);
        if let Ok(path) = std::env::var("PATH") {
            command.env("PATH", path);
        }
        if !self.outbound.is_empty() {
            command.env("GOSSAMER_PROXY_OUTBOUND_PORTS", self.outbound.join(","));
        }
        if !self.inbound.is_empty() {
            let ports: Vec<_> = self
                .inbound
                .iter()
                .map(|(port, _)| port.to_string())
                .collect();
            let maps: Vec<_> = self.inbound.into_iter().map(|(_, map)| map).collect();
            command.env("LINKERD2_PROXY_INBOUND_PORTS", ports.join(","));
            command.env("GOSSAMER_PROXY_INBOUND_PORTS", maps.join(","));
        }
        command
    }
}

// === impl Proxy ===

impl Proxy {
    /// The outbound listener, which is also a forward proxy.
    pub fn outbound(&self) -> SocketAddr {
        self.port(4140)
    }

    /// The inbound listener.
    pub fn inbound(&self) -> SocketAddr {
        self.port(4143)
    }

    /// The admin server.
    pub fn admin(&self) -> SocketAddr {
        self.port(4191)
    }

    /// A mapped port.
    pub fn port(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip, port))
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        self.process.rss_kib()
    }

    /// User and system time used so far.
    pub fn cpu_time(&self) -> Duration {
        self.process.cpu_time()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Asks the admin server.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        scrape::ask(self.admin(), method, path, body)
            .unwrap_or_else(|error| panic!("{method} {path} of the admin server: {error}"))
    }

    /// The metrics as they are now.
    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(self.admin()).unwrap_or_else(|error| panic!("/metrics: {error}"))
    }

    /// Sum over the samples of `name` that have all of `labels`.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.metrics().sum(name, labels)
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for its end.
    pub fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        self.process.wait(deadline)
    }
}
