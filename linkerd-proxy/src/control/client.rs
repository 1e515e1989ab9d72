//! The connection to one control-plane service: resolved, connected, verified and watched over.

use super::channel::Channel;
use crate::{config::Service, dns::Resolver, identity::Identity, io::Conn};
use mesh_policy::endpoint::TlsIdentity;
use rand::seq::IndexedRandom;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tonic::Status;

/// Deadline of a connection, its handshake included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A service of the control plane.
pub(super) struct Client {
    service: Service,
    resolver: Resolver,
    security: Security,
    current: Mutex<Current>,
}

/// What is shown to a service that has to prove its name.
#[derive(Clone)]
pub(super) enum Security {
    /// Our certificate, once there is one; until then the service is not called.
    Mutual(Identity),
    /// None, since the service is the one that issues it.
    Anonymous(Identity),
}

#[derive(Default)]
struct Current {
    channel: Option<Channel>,
    generation: u64,
    /// Where it was connected last.
    last: Option<SocketAddr>,
    /// Why that failed, if it did.
    problem: Option<String>,
}

impl Client {
    pub(super) fn new(service: Service, resolver: Resolver, security: Security) -> Self {
        Self {
            service,
            resolver,
            security,
            current: Mutex::default(),
        }
    }

    /// The connection, made if there is none, and a number that names it.
    pub(super) async fn channel(&self) -> Result<(Channel, u64), Status> {
        if let (Some(_), Security::Mutual(identity)) = (&self.service.name, &self.security) {
            identity.certified().await;
        }
        let mut current = self.current.lock().await;
        if let Some(channel) = &current.channel {
            return Ok((channel.clone(), current.generation));
        }
        let connected = self.connect(&mut current.last).await;
        let problem = connected.as_ref().err().map(|e| e.message().to_owned());
        self.tell(&mut current.problem, problem);
        let channel = connected?;
        current.channel = Some(channel.clone());
        current.generation += 1;
        Ok((channel, current.generation))
    }

    /// A connection of the caller's own, to another replica than the last one.
    pub(super) async fn fresh(&self) -> Result<Channel, Status> {
        let mut current = self.current.lock().await;
        self.connect(&mut current.last).await
    }

    /// That connection does not work: the next one goes to another replica, resolved anew.
    pub(super) async fn discard(&self, generation: u64) {
        let mut current = self.current.lock().await;
        if current.generation == generation {
            current.channel = None;
        }
    }

    /// Whether whoever answers has proved the name it was configured with.
    pub(super) fn proves_its_name(&self) -> bool {
        self.service.name.is_some()
    }

    /// Logs what keeps us from a service that has to prove its name, once for each cause.
    fn tell(&self, known: &mut Option<String>, problem: Option<String>) {
        if let (Some(problem), Some(name)) = (&problem, &self.service.name)
            && known.as_ref() != Some(problem)
        {
            tracing::warn!(%name, problem, "control plane not reached; what is known stays");
        }
        *known = problem;
    }

    async fn connect(&self, last: &mut Option<SocketAddr>) -> Result<Channel, Status> {
        let addr = self.pick(*last).await?;
        // Also when it fails: all the more the next one goes elsewhere.
        *last = Some(addr);
        self.connect_to(addr).await
    }

    async fn pick(&self, last: Option<SocketAddr>) -> Result<SocketAddr, Status> {
        let answer = self.resolver.resolve_service(&self.service.target).await;
        let addrs = answer
            .map_err(|e| Status::unavailable(e.to_string()))?
            .addrs;
        let others = others(addrs, last);
        let addr = others.choose(&mut rand::rng()).copied();
        addr.ok_or_else(|| Status::unavailable("no addresses"))
    }

    async fn connect_to(&self, addr: SocketAddr) -> Result<Channel, Status> {
        let connecting = async {
            let tcp = TcpStream::connect(addr).await?;
            tcp.set_nodelay(true)?;
            let conn = match &self.service.name {
                None => Conn::new(tcp),
                Some(name) => self.security.connect(tcp, name).await?,
            };
            Channel::new(conn, addr).await.map_err(io::Error::other)
        };
        let connected = timeout(CONNECT_TIMEOUT, connecting).await;
        connected
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|e| {
                Status::unavailable(format!("connect {} at {addr}: {e}", self.service.target))
            })
    }
}

// === impl Security ===

impl Security {
    async fn connect(&self, tcp: TcpStream, name: &Arc<str>) -> io::Result<Conn> {
        let to = TlsIdentity {
            server_name: name.clone(),
            identity: name.clone(),
        };
        let client = match self {
            Self::Mutual(identity) => identity.credentials().map(|c| c.client().clone()),
            Self::Anonymous(identity) => identity.anonymous(),
        };
        let client =
            client.ok_or_else(|| io::Error::other("no certificate or trust anchors yet"))?;
        let connected = client.connect(tcp, &to, false).await;
        Ok(Conn::tls(connected.map_err(io::Error::other)?.stream))
    }
}

/// All but the last one, unless there is no other.
fn others(mut addrs: Vec<SocketAddr>, last: Option<SocketAddr>) -> Vec<SocketAddr> {
    if addrs.iter().any(|addr| Some(*addr) != last) {
        addrs.retain(|addr| Some(*addr) != last);
    }
    addrs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        addr::Target,
        tls::{
            self,
            testing::{Authority, Hands, handshakes},
        },
    };
    use tokio::{net::TcpListener, time::timeout};

    const POLICY: &str = "policy.mesh";

    /// A mesh with one control-plane service that is called `POLICY`.
    struct Mesh {
        hands: Hands,
        root: Authority,
        listener: TcpListener,
    }

    impl Mesh {
        async fn new() -> Self {
            Self {
                hands: Hands::new(),
                root: Authority::new("root"),
                listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            }
        }

        /// What the service finds out about its client, as `name` asks for it.
        async fn call(&self, name: &str, security: Security) -> (Result<(), Status>, Seen) {
            let service = Service {
                target: Target::Addr(self.listener.local_addr().unwrap()),
                name: Some(name.into()),
            };
            let resolver = Resolver::new((None, None)).unwrap();
            let client = Client::new(service, resolver, security);
            let roots = self.root.roots();
            let server = self.root.credentials(POLICY, &roots, &self.hands);
            let serve = async {
                let (tcp, _) = self.listener.accept().await.unwrap();
                server.accept(tcp).await.map(|accepted| accepted.client_id)
            };
            let (called, seen) = tokio::join!(client.channel(), serve);
            (called.map(drop), seen)
        }

        fn identity(&self, has_certificate: bool) -> Identity {
            let (roots, clock) = (self.root.roots(), self.hands.clock());
            let certified = self.root.credentials("web", &roots, &self.hands);
            let anonymous = tls::Client::anonymous(&roots, &clock, &handshakes()).unwrap();
            let credentials = has_certificate.then(|| Arc::new(certified));
            Identity::fixed("web", credentials, Some(anonymous))
        }
    }

    type Seen = Result<Option<Arc<str>>, tls::Error>;

    #[tokio::test]
    async fn a_service_proves_its_name_and_sees_ours() {
        let mesh = Mesh::new().await;
        let security = Security::Mutual(mesh.identity(true));
        let (called, seen) = mesh.call(POLICY, security).await;
        assert!(called.is_ok(), "{called:?}");
        assert_eq!(seen.unwrap().as_deref(), Some("web"));
    }

    #[tokio::test]
    async fn somebody_else_is_not_talked_to() {
        let mesh = Mesh::new().await;
        let security = Security::Mutual(mesh.identity(true));
        let (called, _) = mesh.call("destination.mesh", security).await;
        let text = called.unwrap_err().to_string();
        assert!(
            text.contains("destination.mesh") && text.contains(POLICY),
            "{text}"
        );
    }

    #[tokio::test]
    async fn the_identity_service_is_called_without_a_certificate() {
        let mesh = Mesh::new().await;
        for has_certificate in [false, true] {
            let security = Security::Anonymous(mesh.identity(has_certificate));
            let (called, seen) = mesh.call(POLICY, security).await;
            assert!(called.is_ok(), "{called:?}");
            assert_eq!(seen.unwrap(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn others_are_not_called_before_there_is_a_certificate() {
        let mesh = Mesh::new().await;
        let call = mesh.call(POLICY, Security::Mutual(mesh.identity(false)));
        assert!(timeout(Duration::from_secs(60), call).await.is_err());
    }

    #[test]
    fn the_next_connection_goes_elsewhere_if_it_can() {
        let [a, b] = ["10.0.0.1:1", "10.0.0.2:1"].map(|a| a.parse().unwrap());
        assert_eq!(others(vec![a, b], Some(a)), [b]);
        assert_eq!(others(vec![a], Some(a)), [a]);
        assert_eq!(others(vec![a, b], None), [a, b]);
        assert!(others(vec![], Some(a)).is_empty());
    }
}
