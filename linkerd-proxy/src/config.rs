//! What the proxy is told: typed, checked, and documented with units.
//!
//! [`Config::from_env`] reads everything, reports everything that is wrong at once, and knows which
//! of Linkerd's variables exist without being acted on yet. Field docs name the variable without
//! its prefix `LINKERD2_PROXY_`.

mod cores;
mod env;
mod identity;
pub mod parse;
mod vars;

use crate::{addr::Target, io::SocketOptions};
use ipnet::IpNet;
use mesh_policy::{inbound::DefaultPolicy, outbound::Backoff};
use std::{
    collections::HashSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

pub use self::{
    identity::{Anchors, Identity, Service},
    vars::Invalid,
};

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The application's calls.
    pub outbound: Outbound,
    /// Calls to the application.
    pub inbound: Inbound,
    /// The control plane.
    pub control: Control,
    /// Who this workload is; `None`: identity and TLS are off.
    pub identity: Option<Identity>,
    /// Where `/metrics` and its like are served (`ADMIN_LISTEN_ADDR`).
    pub admin_listen: Vec<SocketAddr>,
    /// Whether `POST /shutdown` works (`SHUTDOWN_ENDPOINT_ENABLED`).
    pub shutdown_endpoint: bool,
    /// How long a drain may last (`SHUTDOWN_GRACE_PERIOD`).
    pub shutdown_grace: Duration,
    /// Worker threads: `CORES_MAX`, or else `CORES_MAX_RATIO` of the cores there are, or else 1;
    /// not below `CORES_MIN` (or `CORES`), nor above the cores there are.
    pub cores: usize,
    /// How long series of vanished targets stay on the page (`METRICS_RETAIN_IDLE`).
    pub metrics_retain_idle: Duration,
}

/// What both directions have.
#[derive(Clone, Debug)]
pub struct Side {
    /// Listeners (`*_LISTEN_ADDR[S]`).
    pub listen: Vec<SocketAddr>,
    /// Length of the accept queue (`*_TCP_LISTEN_BACKLOG`).
    pub backlog: u32,
    /// Options of accepted sockets (`*_ACCEPT_KEEPALIVE`, `*_ACCEPT_USER_TIMEOUT`).
    pub accept: SocketOptions,
    /// How connections are dialled.
    pub connect: Connect,
    /// How long undecided bytes may hold a connection up (`*_DETECT_TIMEOUT`).
    pub detect_timeout: Duration,
    /// Requests that may be in flight; the next is shed (`*_MAX_IN_FLIGHT`).
    pub max_in_flight: usize,
    /// Connections, and how long they may idle, towards one endpoint.
    pub pool: Pool,
    /// HTTP/2 towards clients (`*_SERVER_HTTP2_*`).
    pub http2: Http2Server,
    /// How long an unused target or port is remembered (`*_DISCOVERY_IDLE_TIMEOUT`).
    pub discovery_idle: Duration,
}

/// How connections are dialled.
#[derive(Clone, Copy, Debug)]
pub struct Connect {
    /// Deadline of the TCP handshake (`*_CONNECT_TIMEOUT`).
    pub timeout: Duration,
    /// Pauses between attempts at an endpoint that refuses (`*_CONNECT_EXP_BACKOFF_*`).
    pub backoff: Backoff,
    /// Options of the socket (`*_CONNECT_KEEPALIVE`, `*_CONNECT_USER_TIMEOUT`).
    pub options: SocketOptions,
}

/// HTTP/1 connections towards one endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// How many may idle (`*_MAX_IDLE_CONNS_PER_ENDPOINT`).
    pub max_idle: usize,
    /// For how long (`*_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT`).
    pub idle_timeout: Duration,
}

/// HTTP/2 towards clients. Windows and sizes in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Http2Server {
    /// Streams a client may have open at once.
    pub max_concurrent_streams: u32,
    /// Largest frame that is taken.
    pub max_frame_size: Option<u32>,
    /// Largest header list that is taken.
    pub max_header_list_size: u32,
    /// Streams that were reset before they were seen; more end the connection (rapid reset).
    pub max_pending_accept_reset_streams: Option<usize>,
    /// What may be buffered for a slow reader, per stream.
    pub max_send_buf_size: Option<usize>,
    /// Flow-control windows; not heeded with `adaptive`.
    pub stream_window: Option<u32>,
    /// See `stream_window`.
    pub connection_window: Option<u32>,
    /// Whether windows of streams follow the bandwidth-delay product.
    pub adaptive: bool,
    /// Interval and timeout of PINGs.
    pub keep_alive: Option<(Duration, Duration)>,
}

/// HTTP/2 towards endpoints. Windows in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Http2Client {
    /// `HTTP2_INITIAL_STREAM_WINDOW_SIZE`.
    pub stream_window: u32,
    /// `HTTP2_INITIAL_CONNECTION_WINDOW_SIZE`.
    pub connection_window: u32,
}

/// The application's calls.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// What both directions have.
    pub side: Side,
    /// Listeners that stand for one target (`GOSSAMER_PROXY_OUTBOUND_PORTS`).
    pub ports: Vec<(SocketAddr, Target)>,
    /// HTTP/2 towards endpoints.
    pub http2: Http2Client,
    /// How much may wait for a backend that cannot serve
    /// (`OUTBOUND_HTTP_QUEUE_CAPACITY`, `OUTBOUND_HTTP_FAILFAST_TIMEOUT`).
    pub http_queue: Queue,
    /// The same for connections (`OUTBOUND_TCP_QUEUE_CAPACITY`, `OUTBOUND_TCP_FAILFAST_TIMEOUT`).
    pub tcp_queue: Queue,
    /// Whether errors tell the application why (`l5d-proxy-error`)
    /// (not `OUTBOUND_DISABLE_INFORMATIONAL_HEADERS`).
    pub informational_headers: bool,
}

/// How much may wait, and how long; `None`: as policy says.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    /// Requests or connections.
    pub capacity: Option<usize>,
    /// How long the first of them waits.
    pub failfast_timeout: Option<Duration>,
}

/// Calls to the application.
#[derive(Clone, Debug)]
pub struct Inbound {
    /// What both directions have.
    pub side: Side,
    /// Listeners that stand for a port of the application (`GOSSAMER_PROXY_INBOUND_PORTS`).
    pub ports: Vec<(SocketAddr, SocketAddr)>,
    /// Ports whose policy is watched from the start (`INBOUND_PORTS`).
    pub policy_ports: HashSet<u16>,
    /// Ports that are opaque unless policy says otherwise
    /// (`INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION`).
    pub opaque_ports: HashSet<u16>,
    /// Ports that are for mesh TLS only (`INBOUND_PORTS_REQUIRE_TLS`).
    pub tls_ports: HashSet<u16>,
    /// Ports that are for clients with a mesh identity only (`INBOUND_PORTS_REQUIRE_IDENTITY`).
    pub identity_ports: HashSet<u16>,
    /// In force until the control plane has spoken (`INBOUND_DEFAULT_POLICY`).
    pub default_policy: DefaultPolicy,
    /// Addresses of this workload; empty: any (`INBOUND_IPS`).
    pub ips: HashSet<IpAddr>,
    /// What `cluster-*` policies mean by the cluster (`POLICY_CLUSTER_NETWORKS`).
    pub cluster_networks: Vec<IpNet>,
}

/// The control plane.
#[derive(Clone, Debug)]
pub struct Control {
    /// Destination service (`DESTINATION_SVC_ADDR`, `_NAME`).
    pub destination: Service,
    /// Policy service (`POLICY_SVC_ADDR`, `_NAME`).
    pub policy: Service,
    /// Opaque token that names this workload (`POLICY_WORKLOAD`).
    pub workload: String,
    /// Opaque token for discovery (`DESTINATION_CONTEXT`).
    pub context: String,
    /// This workload's namespace, if the context tells it; short names are in it.
    pub namespace: Option<String>,
    /// Names that discovery knows end so (`DESTINATION_PROFILE_SUFFIXES`); `""` is every name.
    pub profile_suffixes: Vec<String>,
    /// Addresses that discovery knows (`DESTINATION_PROFILE_NETWORKS`).
    pub profile_networks: Vec<IpNet>,
    /// Deadline of a stream's first answer (`CONTROL_STREAM_INITIAL_TIMEOUT`).
    pub initial_timeout: Option<Duration>,
    /// Deadline of each further one (`CONTROL_STREAM_IDLE_TIMEOUT`).
    pub idle_timeout: Option<Duration>,
    /// When a stream is asked anew (`CONTROL_STREAM_LIFETIME`).
    pub lifetime: Option<Duration>,
    /// Clamp on the life of DNS answers (`DNS_MIN_TTL`, `DNS_MAX_TTL`).
    pub dns_ttl: (Option<Duration>, Option<Duration>),
    /// Pauses between attempts.
    pub backoff: Backoff,
}
