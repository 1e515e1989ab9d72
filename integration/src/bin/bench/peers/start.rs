//! How peers are started: alone, or the server's end of a pair and then the client's.

use super::{
    AGAIN, Hop, NGINX_STREAM, Peer, Running, START, Setup,
    config::{self, Tls},
    kind::{Kind, Program},
    mesh::{client_id, server_id},
};
use crate::scenario::Port;
use anyhow::{Result, ensure};
use integration::{
    addr,
    control::proto::{Endpoint, Mesh},
    process::Process,
    proxy::{self, Builder},
};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

/// Where every proxy runs.
const CORE: usize = 0;
/// Where our inbound side takes transport headers.
const INBOUND: u16 = 4143;

impl Setup {
    /// Starts `kind` and waits for its first answer.
    pub(crate) fn start(&self, kind: Kind) -> Result<Peer> {
        let started = Instant::now();
        let hops = match kind {
            Kind::None => Vec::new(),
            Kind::Outbound => vec![start(self.outbound(Port::service))],
            Kind::Inbound => vec![start(self.inbound())],
            Kind::Nginx => vec![self.single(Program::Nginx)?],
            Kind::Haproxy => vec![self.single(Program::Haproxy)?],
            Kind::Envoy => vec![self.single(Program::Envoy)?],
            Kind::Pair => self.our_pair()?,
            Kind::HaproxyPair => self.other_pair(Program::Haproxy)?,
            Kind::EnvoyPair => self.other_pair(Program::Envoy)?,
        };
        let mut peer = Peer {
            kind,
            backend: self.backend,
            hops,
            start: Duration::ZERO,
        };
        peer.first_answer()?;
        peer.start = started.elapsed();
        peer.check_tls()?;
        Ok(peer)
    }

    /// Both directions of ours, which learn of each other as in production.
    fn our_pair(&self) -> Result<Vec<Hop>> {
        let (service, anchors) = (self.mesh.service(), &self.mesh.anchors);
        let server = self.inbound().identity(&server_id(), service, anchors);
        let told = Mesh::new(&server_id()).transport_header(INBOUND);
        for port in Port::ALL {
            let addr = SocketAddr::from((server.ip(), port as u16));
            let endpoint = Endpoint::meshed(addr, told.clone());
            let path = port.meshed_service();
            self.control.weighted_endpoints(&path, &[endpoint]);
        }
        let client = self.outbound(Port::meshed_service);
        let client = client.identity(&client_id(), service, anchors);
        let server = listening(start(server))?;
        Ok(vec![start(client), server])
    }

    fn outbound(&self, service: impl Fn(Port) -> String) -> Builder {
        let map = |builder: Builder, port| builder.outbound(port as u16, &service(port));
        Port::ALL.into_iter().fold(self.ours(), map)
    }

    fn inbound(&self) -> Builder {
        let app = |port| SocketAddr::from((self.backend, port as u16));
        let map = |builder: Builder, port| builder.inbound(port as u16, app(port));
        Port::ALL.into_iter().fold(self.ours(), map)
    }

    fn ours(&self) -> Builder {
        proxy::with(&self.control)
            .binary(self.proxy.clone())
            .pinned(CORE)
    }

    fn single(&self, program: Program) -> Result<Hop> {
        self.other(program, self.backend, Tls::Nowhere)
    }

    fn other_pair(&self, program: Program) -> Result<Vec<Hop>> {
        let files = &self.mesh.files;
        let server = self.other(program, self.backend, Tls::Downstream(files))?;
        let server = listening(server)?;
        let client = self.other(program, server.ip, Tls::Upstream(files))?;
        Ok(vec![client, server])
    }

    /// Starts what is not ours; it passes on to `to`.
    fn other(&self, program: Program, to: Ipv4Addr, tls: Tls<'_>) -> Result<Hop> {
        let ip = addr::unique_ip();
        let path = self.write_config(program, config::Hop { ip, to, tls })?;
        let mut command = Command::new("taskset");
        command.args(["-c", &CORE.to_string()]);
        command.arg(self.path(program)?);
        match program {
            Program::Nginx => command.arg("-p").arg(self.dir.path()).arg("-c"),
            Program::Haproxy => command.args(["-db", "-q", "-f"]),
            _ => command
                .args(["--concurrency", "1", "--disable-hot-restart"])
                .args(["-l", "error", "-c"]),
        };
        command.arg(path);
        let running = Running::Other(Process::spawn(program.name(), command));
        Ok(Hop { ip, running })
    }

    fn write_config(&self, program: Program, hop: config::Hop<'_>) -> Result<PathBuf> {
        let dir = self.dir.path();
        let (suffix, text) = match program {
            Program::Nginx => {
                let stream = Path::new(NGINX_STREAM).exists().then_some(NGINX_STREAM);
                ("conf", config::nginx(hop.ip, hop.to, dir, stream))
            }
            Program::Haproxy => ("cfg", config::haproxy(hop)),
            _ => ("json", config::envoy(hop)),
        };
        let path = dir.join(format!("{}-{}.{suffix}", program.name(), hop.ip));
        std::fs::write(&path, text)?;
        Ok(path)
    }
}

fn start(builder: Builder) -> Hop {
    Hop {
        ip: builder.ip(),
        running: Running::Ours(Box::new(builder.spawn())),
    }
}

/// Waits until `hop` listens, so that whoever is in front of it meets no refusal, after which some
/// wait for a second before they try again.
fn listening(mut hop: Hop) -> Result<Hop> {
    let addr = SocketAddr::from((hop.ip, Port::Http1 as u16));
    let deadline = Instant::now() + START;
    while TcpStream::connect(addr).is_err() {
        ensure!(
            hop.process().is_running() && Instant::now() < deadline,
            "{addr} does not listen: {}",
            hop.process().output()
        );
        std::thread::sleep(AGAIN);
    }
    Ok(hop)
}
