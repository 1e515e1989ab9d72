//! What most tests start from: a control plane, replicas, and a sidecar between.
//!
//! Pairs of sidecars that prove their identities to each other are in [`mesh`].

pub(crate) mod home;
pub(crate) mod mesh;
pub(crate) mod message;

use integration::{
    control::ControlPlane,
    proxy::{self, Builder, Proxy},
    server::Server,
};
use std::{net::SocketAddr, time::Duration};

/// The service of most tests.
pub(crate) const WEB: &str = "web.demo.svc.cluster.local:80";
/// A port of the sidecar that stands for [`WEB`].
pub(crate) const WEB_PORT: u16 = 8080;
/// A port of the sidecar that stands for the local application.
pub(crate) const APP_PORT: u16 = 8081;

/// A time that is ample on a busy machine and far below what a stall would take.
pub(crate) const SOON: Duration = Duration::from_secs(5);

/// `path` at [`WEB`].
pub(crate) fn web(path: &str) -> String {
    format!("http://web.demo.svc.cluster.local{path}")
}

/// Values of a header in what `/headers` answered.
pub(crate) fn values<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let lines = text.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value)
        .collect()
}

/// A sidecar in front of replicas of [`WEB`].
pub(crate) struct Outbound {
    pub(crate) control: ControlPlane,
    pub(crate) replicas: Vec<Server>,
    pub(crate) proxy: Proxy,
}

impl Outbound {
    /// With `n` replicas.
    pub(crate) async fn start(n: usize) -> Self {
        Self::with(n, |builder| builder).await
    }

    /// With `n` replicas and a changed environment.
    pub(crate) async fn with(n: usize, change: impl FnOnce(Builder) -> Builder) -> Self {
        let replicas = Server::replicas(n).await;
        let control = ControlPlane::start();
        let endpoints: Vec<_> = replicas.iter().map(Server::addr).collect();
        control.service(WEB, &endpoints);
        let proxy = change(proxy::with(&control).outbound(WEB_PORT, WEB)).start();
        Self {
            control,
            replicas,
            proxy,
        }
    }

    /// The port that stands for the service.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.proxy.port(WEB_PORT)
    }

    /// Addresses of the replicas.
    pub(crate) fn endpoints(&self) -> Vec<SocketAddr> {
        self.replicas.iter().map(Server::addr).collect()
    }
}

/// A sidecar with one backend behind both of its directions.
pub(crate) struct Both {
    pub(crate) control: ControlPlane,
    pub(crate) proxy: Proxy,
}

impl Both {
    /// In front of `backend`.
    pub(crate) fn start(backend: SocketAddr) -> Self {
        Self::with(backend, |builder| builder)
    }

    /// In front of `backend`, with a changed environment.
    pub(crate) fn with(backend: SocketAddr, change: impl FnOnce(Builder) -> Builder) -> Self {
        let control = ControlPlane::start();
        control.service(WEB, &[backend]);
        let builder = proxy::with(&control)
            .outbound(WEB_PORT, WEB)
            .inbound(APP_PORT, backend);
        let proxy = change(builder).start();
        Self { control, proxy }
    }

    /// Each direction: its name, and where it is entered.
    pub(crate) fn paths(&self) -> [(&'static str, SocketAddr); 2] {
        [
            ("outbound", self.proxy.port(WEB_PORT)),
            ("inbound", self.proxy.port(APP_PORT)),
        ]
    }
}
