//! The real control plane on a directory of manifests that the test writes.
//!
//! What it takes to be an identity service is in `controller/identity.rs`.

mod identity;

pub use self::identity::{Certified, Material, certify, request};
use crate::{
    addr, bins, eventually,
    process::Process,
    proxy,
    scrape::{self, Answer, Metrics},
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};
use tempfile::TempDir;

const START: Duration = Duration::from_secs(20);

/// A running controller. Dropping it kills it and removes its manifests.
pub struct Controller {
    ip: Ipv4Addr,
    source: TempDir,
    args: Vec<String>,
    process: Process,
}

impl Controller {
    /// Starts one on `manifests`, pairs of file name and text, and waits until it is ready.
    pub fn start(manifests: &[(&str, &str)]) -> Self {
        Self::start_at(addr::unique_ip(), manifests, Vec::new())
    }

    fn start_at(ip: Ipv4Addr, manifests: &[(&str, &str)], args: Vec<String>) -> Self {
        let source = tempfile::tempdir().expect("a temporary directory can be made");
        for (name, text) in manifests {
            write(&source, name, text);
        }
        let process = spawn(ip, &source, &args);
        let mut controller = Self {
            ip,
            source,
            args,
            process,
        };
        controller.wait_ready();
        controller
    }

    /// Writes or replaces a manifest, as editors do: beside it, then in its place.
    pub fn write(&self, name: &str, text: &str) {
        write(&self.source, name, text);
    }

    /// Its directory of manifests.
    pub fn source(&self) -> &Path {
        self.source.path()
    }

    /// Kills it without notice.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again, on the same addresses and manifests.
    pub fn restart(&mut self) {
        self.process = spawn(self.ip, &self.source, &self.args);
        self.wait_ready();
    }

    /// A sidecar that follows it.
    pub fn proxy(&self) -> proxy::Builder {
        let at = |port| SocketAddr::from((self.ip, port)).to_string();
        proxy::Builder::new(&at(8086), &at(8090))
    }

    /// The metrics as they are now.
    pub fn metrics(&self) -> Metrics {
        let admin = SocketAddr::from((self.ip, 9990));
        Metrics::scrape(admin).unwrap_or_else(|error| panic!("/metrics: {error}"))
    }

    /// Asks the admin server.
    pub fn admin(&self, path: &str) -> Answer {
        self.get(9990, path)
    }

    /// Asks the stats API.
    pub fn stats(&self, path: &str) -> serde_json::Value {
        let answer = self.get(8085, path);
        serde_json::from_str(&answer.body)
            .unwrap_or_else(|error| panic!("{path}: {error} in {answer:?}"))
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Where it listens for `port`.
    pub fn addr(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip, port))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        self.process.rss_kib()
    }

    fn get(&self, port: u16, path: &str) -> Answer {
        scrape::get(SocketAddr::from((self.ip, port)), path)
            .unwrap_or_else(|error| panic!("{path} on port {port}: {error}"))
    }

    fn wait_ready(&mut self) {
        let admin = SocketAddr::from((self.ip, 9990));
        let ready = eventually::blocking(START, || {
            if !self.process.is_running() {
                return Some(false);
            }
            scrape::get(admin, "/ready")
                .is_ok_and(|a| a.status == 200)
                .then_some(true)
        });
        assert_eq!(ready, Some(true), "the controller did not become ready");
    }
}

fn write(source: &TempDir, name: &str, text: &str) {
    let path = source.path().join(name);
    let beside = source.path().join(format!(".{name}.new"));
    std::fs::write(&beside, text)
        .and_then(|()| std::fs::rename(&beside, &path))
        .unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

fn spawn(ip: Ipv4Addr, source: &TempDir, args: &[String]) -> Process {
    let mut command = Command::new(bins::mesh_controller());
    command.arg("--source").arg(source.path()).args(args);
    for (flag, port) in [
        ("--destination-addr", 8086),
        ("--policy-addr", 8090),
        ("--metrics-api-addr", 8085),
        ("--admin-addr", 9990),
    ] {
        command.args([flag, &format!("{ip}:{port}")]);
    }
    Process::spawn("mesh-controller", command)
}
