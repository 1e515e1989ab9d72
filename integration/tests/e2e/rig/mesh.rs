//! A mesh of two: a sidecar beside the client, one beside the application, and all that it takes
//! for them to prove who they are.

use super::{APP_PORT, SOON, WEB, WEB_PORT};
use integration::{
    addr,
    control::{
        ControlPlane,
        proto::{Endpoint, Mesh as Told},
    },
    eventually,
    identity::{Answers, IdentityService},
    pki::{self, Authority, Bundle, Leaf},
    proxy::{self, Builder, Proxy},
    tls,
};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// A service for bytes, if there is one.
const BYTES: &str = "bytes.demo.svc.cluster.local:7";
const BYTES_PORT: u16 = 8097;

/// Port on which sidecars take transport headers.
pub(crate) const INBOUND_PORT: u16 = 4143;

/// Who the client's sidecar is.
pub(crate) fn client_id() -> String {
    pki::identity("web")
}

/// Who the application's sidecar is.
pub(crate) fn server_id() -> String {
    pki::identity("api")
}

/// How the one sidecar reaches the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// On the port of the application.
    Port,
    /// On the inbound port, with a transport header.
    Header,
}

impl Way {
    pub(crate) const BOTH: [Self; 2] = [Self::Port, Self::Header];
}

/// The pair.
pub(crate) struct Mesh {
    pub(crate) root: Authority,
    pub(crate) identity: IdentityService,
    pub(crate) control: ControlPlane,
    /// Beside the client: its [`WEB_PORT`] stands for the service.
    pub(crate) client: Proxy,
    /// Beside the application, which is behind its [`APP_PORT`].
    pub(crate) server: Proxy,
}

/// What a pair is started with.
pub(crate) struct Plan {
    way: Way,
    told: Box<dyn FnOnce(Told) -> Told>,
    before: Box<dyn FnOnce(&ControlPlane)>,
    client: Box<dyn FnOnce(Builder) -> Builder>,
    server: Box<dyn FnOnce(Builder) -> Builder>,
    root: Authority,
    issuer: Option<Authority>,
    lifetime: Option<Duration>,
    bytes: Option<SocketAddr>,
    anchors: Option<PathBuf>,
}

// === impl Plan ===

impl Plan {
    pub(crate) fn new(way: Way) -> Self {
        Self {
            way,
            told: Box::new(|told| told),
            before: Box::new(|_| ()),
            client: Box::new(|builder| builder),
            server: Box::new(|builder| builder),
            root: Authority::root("root.gossamer.cluster.local"),
            issuer: None,
            lifetime: None,
            bytes: None,
            anchors: None,
        }
    }

    /// Changes what is told of the application's sidecar.
    pub(crate) fn told(mut self, change: impl FnOnce(Told) -> Told + 'static) -> Self {
        self.told = Box::new(change);
        self
    }

    /// Changes what the control plane says before anybody asks.
    pub(crate) fn before(mut self, change: impl FnOnce(&ControlPlane) + 'static) -> Self {
        self.before = Box::new(change);
        self
    }

    /// A burst of connections may take its time, as it does on a busy machine.
    pub(crate) fn patient(self) -> Self {
        self.client(|b| b.env("LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT", "10s"))
            .server(|b| b.env("LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT", "10s"))
    }

    /// Changes the environment of the client's sidecar.
    pub(crate) fn client(mut self, change: impl FnOnce(Builder) -> Builder + 'static) -> Self {
        self.client = Box::new(change);
        self
    }

    /// Changes the environment of the application's sidecar.
    pub(crate) fn server(mut self, change: impl FnOnce(Builder) -> Builder + 'static) -> Self {
        self.server = Box::new(change);
        self
    }

    /// With another root, and an issuer below it.
    pub(crate) fn root(mut self, root: Authority, issuer: Authority) -> Self {
        self.root = root;
        self.issuer = Some(issuer);
        self
    }

    /// With certificates that last this long.
    pub(crate) fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = Some(lifetime);
        self
    }

    /// With another application of the same workload, for bytes.
    pub(crate) fn bytes(mut self, app: SocketAddr) -> Self {
        self.bytes = Some(app);
        self
    }

    /// With trust anchors of a file.
    pub(crate) fn anchors(mut self, bundle: &Bundle) -> Self {
        self.anchors = Some(bundle.path());
        self
    }

    /// Starts the pair in front of `app` and waits until both have a certificate.
    pub(crate) fn start(self, app: SocketAddr) -> Mesh {
        let root = self.root;
        let issuer = self.issuer;
        let issuer = issuer.unwrap_or_else(|| root.issuer("identity.gossamer.cluster.local"));
        let identity = IdentityService::start(issuer);
        if let Some(lifetime) = self.lifetime {
            identity.answers(Answers::lasting(lifetime));
        }
        let control = ControlPlane::start();
        let (at, anchors) = (identity.addr(), root.anchor_pem());

        let mut server =
            proxy::with(&control)
                .inbound(APP_PORT, app)
                .identity(&server_id(), at, &anchors);
        // Its own inbound side leads to the same application; some tests look in there.
        let mut client = proxy::with(&control)
            .outbound(WEB_PORT, WEB)
            .inbound(APP_PORT, app)
            .identity(&client_id(), at, &anchors);
        let told = (self.told)(Told::new(&server_id()));
        let told = match self.way {
            Way::Port => told,
            Way::Header => told.transport_header(INBOUND_PORT),
        };
        let service = |name, port| {
            let endpoint = SocketAddr::from((server.ip(), port));
            control.service(name, &[]);
            control.weighted_endpoints(name, &[Endpoint::meshed(endpoint, told.clone())]);
        };
        service(WEB, APP_PORT);
        if let Some(app) = self.bytes {
            service(BYTES, BYTES_PORT);
            server = server.inbound(BYTES_PORT, app);
            client = client.outbound(BYTES_PORT, BYTES);
        }
        if let Some(path) = &self.anchors {
            (client, server) = (client.anchors_file(path), server.anchors_file(path));
        }
        (self.before)(&control);
        Mesh {
            server: (self.server)(server).start(),
            client: (self.client)(client).start(),
            root,
            identity,
            control,
        }
    }
}

// === impl Mesh ===

impl Mesh {
    /// An ordinary pair in front of `app`.
    pub(crate) fn start(way: Way, app: SocketAddr) -> Self {
        Plan::new(way).start(app)
    }

    /// Where the client's application finds the service.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.client.port(WEB_PORT)
    }

    /// Where the client's application finds the service for bytes.
    pub(crate) fn bytes(&self) -> SocketAddr {
        self.client.port(BYTES_PORT)
    }

    /// Where the network finds the application.
    pub(crate) fn app(&self) -> SocketAddr {
        self.server.port(APP_PORT)
    }

    /// A good certificate of the mesh for `service_account`.
    pub(crate) fn leaf(&self, service_account: &str) -> Leaf {
        let issuer = self.root.issuer("identity.gossamer.cluster.local");
        issuer.leaf(&pki::identity(service_account))
    }

    /// A client that is no proxy of ours, on another host, with a good certificate.
    pub(crate) fn foreign(&self, service_account: &str) -> tls::Client {
        self.nobody().certificate(&self.leaf(service_account))
    }

    /// The same without a certificate.
    pub(crate) fn nobody(&self) -> tls::Client {
        tls::Client::strict(&server_id(), &self.root).from(addr::unique_ip())
    }

    /// Waits until the application's sidecar has counted a handshake that ended so.
    pub(crate) async fn server_counts(&self, result: &str) {
        counts(&self.server, "inbound", result).await;
    }
}

/// Waits until `proxy` has counted a handshake that ended with `result`.
pub(crate) async fn counts(proxy: &Proxy, direction: &str, result: &str) {
    let what = format!("a handshake of direction {direction} is counted as {result}");
    eventually::holds(&what, SOON, || async {
        proxy.handshakes(direction, result) > 0.0
    })
    .await;
}
