//! The table of environment variables: each name once, with its default.

use super::{
    Config, Connect, Control, Http2Client, Http2Server, Inbound, Outbound, Pool, Queue, Side,
    cores::cores,
    identity::{self, identity},
    parse::{self, Reason},
    vars::{Invalid, PREFIX, Vars},
};
use crate::{http::http2::CONNECTION_WINDOW, io::SocketOptions};
use mesh_policy::{inbound::DefaultPolicy, outbound::Backoff};
use std::{collections::HashMap, time::Duration};

/// Connections waiting to be accepted; what the standard library would ask for is too little for
/// a sidecar that takes bursts.
const BACKLOG: u32 = 4096;

/// Longest pause between attempts at an endpoint that refuses, unless another is configured: one that
/// returns is to be in use within ten seconds.
const MAX_BACKOFF: Duration = Duration::from_secs(8);

// === impl Config ===

impl Config {
    /// Reads the variables.
    ///
    /// # Errors
    ///
    /// All that are missing or malformed, each with its name and what would be right.
    pub fn from_env(vars: HashMap<String, String>) -> Result<Self, Invalid> {
        let mut env = Vars {
            vars,
            errors: Vec::new(),
        };
        env.log_not_acted_on();
        let outbound = outbound(&mut env);
        let inbound = inbound(&mut env);
        let control = control(&mut env, outbound.side.connect.backoff);
        let admin = "127.0.0.1:4191";
        let config = Self {
            admin_listen: env.listen("ADMIN_LISTEN_ADDR", admin),
            shutdown_endpoint: env.or("SHUTDOWN_ENDPOINT_ENABLED", parse::boolean, false),
            shutdown_grace: env.or("SHUTDOWN_GRACE_PERIOD", parse::duration, secs(120)),
            cores: cores(&mut env),
            metrics_retain_idle: env.or("METRICS_RETAIN_IDLE", parse::duration, secs(600)),
            identity: identity(&mut env),
            outbound,
            inbound,
            control,
        };
        if env
            .vars
            .get("LINKERD2_PROXY_IDENTITY_DISABLED")
            .is_some_and(|v| !v.is_empty())
        {
            env.errors
                .push("LINKERD2_PROXY_IDENTITY_DISABLED: is no longer supported".into());
        }
        if env.errors.is_empty() {
            Ok(config)
        } else {
            Err(Invalid(env.errors))
        }
    }
}

fn outbound(env: &mut Vars) -> Outbound {
    let stream_window = env.or("HTTP2_INITIAL_STREAM_WINDOW_SIZE", window, 65_535);
    let name = "HTTP2_INITIAL_CONNECTION_WINDOW_SIZE";
    let connection_window = env.or(name, window, CONNECTION_WINDOW);
    let connect_timeout = secs(1);
    let max_idle = "OUTBOUND_MAX_IDLE_CONNS_PER_ENDPOINT";
    Outbound {
        side: side(
            env,
            "OUTBOUND",
            "127.0.0.1:4140",
            connect_timeout,
            max_idle,
            secs(5),
        ),
        ports: env.raw_or("GOSSAMER_PROXY_OUTBOUND_PORTS", |s| {
            parse::port_map(s, parse::target)
        }),
        http2: Http2Client {
            stream_window,
            connection_window,
        },
        http_queue: queue(env, "OUTBOUND_HTTP"),
        tcp_queue: queue(env, "OUTBOUND_TCP"),
        informational_headers: {
            let ingress = env.or("INGRESS_MODE", parse::boolean, false);
            !env.or(
                "OUTBOUND_DISABLE_INFORMATIONAL_HEADERS",
                parse::boolean,
                ingress,
            )
        },
    }
}

fn inbound(env: &mut Vars) -> Inbound {
    let max_idle = "MAX_IDLE_CONNS_PER_ENDPOINT";
    let connect_timeout = Duration::from_millis(300);
    let cluster_networks = env.or("POLICY_CLUSTER_NETWORKS", parse::networks, vec![]);
    let default_policy = env.or(
        "INBOUND_DEFAULT_POLICY",
        |s| s.parse::<DefaultPolicy>().map_err(|e| e.to_string()),
        DefaultPolicy::AllUnauthenticated,
    );
    let is_by_network = matches!(
        default_policy,
        DefaultPolicy::ClusterAuthenticated
            | DefaultPolicy::ClusterUnauthenticated
            | DefaultPolicy::Audit
    );
    if is_by_network && cluster_networks.is_empty() {
        let name = "LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS";
        env.errors.push(format!(
            "{name}: is required by the default policy {default_policy}"
        ));
    }
    Inbound {
        side: side(
            env,
            "INBOUND",
            "0.0.0.0:4143",
            connect_timeout,
            max_idle,
            secs(90),
        ),
        ports: env.raw_or("GOSSAMER_PROXY_INBOUND_PORTS", |s| {
            parse::port_map(s, parse::socket_addr)
        }),
        policy_ports: env.or("INBOUND_PORTS", parse::ports, Default::default()),
        opaque_ports: env.or(
            "INBOUND_PORTS_DISABLE_PROTOCOL_DETECTION",
            parse::ports,
            Default::default(),
        ),
        tls_ports: env.or(
            "INBOUND_PORTS_REQUIRE_TLS",
            parse::ports,
            Default::default(),
        ),
        identity_ports: env.or(
            "INBOUND_PORTS_REQUIRE_IDENTITY",
            parse::ports,
            Default::default(),
        ),
        default_policy,
        ips: env.or("INBOUND_IPS", parse::ips, Default::default()),
        cluster_networks,
    }
}

fn side(
    env: &mut Vars,
    dir: &str,
    listen: &str,
    connect_timeout: Duration,
    max_idle: &str,
    discovery_idle: Duration,
) -> Side {
    let one = env.listen(&format!("{dir}_LISTEN_ADDR"), listen);
    let listen = env.or(&format!("{dir}_LISTEN_ADDRS"), parse::listen_addrs, one);
    let pool_idle = format!("{dir}_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT");
    Side {
        listen,
        backlog: env.or(&format!("{dir}_TCP_LISTEN_BACKLOG"), parse::number, BACKLOG),
        accept: socket_options(env, &format!("{dir}_ACCEPT")),
        connect: Connect {
            timeout: env.or(
                &format!("{dir}_CONNECT_TIMEOUT"),
                parse::duration,
                connect_timeout,
            ),
            backoff: backoff(env, &format!("{dir}_CONNECT_EXP_BACKOFF")),
            options: socket_options(env, &format!("{dir}_CONNECT")),
        },
        detect_timeout: env.or(&format!("{dir}_DETECT_TIMEOUT"), parse::duration, secs(10)),
        max_in_flight: env.or(&format!("{dir}_MAX_IN_FLIGHT"), parse::number, 100_000),
        pool: Pool {
            max_idle: env.or(max_idle, parse::number, 10_000),
            idle_timeout: env.or(&pool_idle, parse::duration, secs(3)),
        },
        http2: http2_server(env, dir),
        discovery_idle: env.or(
            &format!("{dir}_DISCOVERY_IDLE_TIMEOUT"),
            parse::duration,
            discovery_idle,
        ),
    }
}

fn socket_options(env: &mut Vars, base: &str) -> SocketOptions {
    SocketOptions {
        keepalive: env.opt(&format!("{base}_KEEPALIVE"), parse::duration),
        user_timeout: env.opt(&format!("{base}_USER_TIMEOUT"), parse::duration),
    }
}

fn queue(env: &mut Vars, base: &str) -> Queue {
    Queue {
        capacity: env.opt(&format!("{base}_QUEUE_CAPACITY"), parse::number),
        failfast_timeout: env.opt(&format!("{base}_FAILFAST_TIMEOUT"), parse::duration),
    }
}

/// MIN and MAX come together; with them the jitter is 0 unless it is given.
fn backoff(env: &mut Vars, base: &str) -> Backoff {
    let (min_name, max_name) = (format!("{base}_MIN"), format!("{base}_MAX"));
    let min = env.opt(&min_name, parse::duration);
    let max = env.opt(&max_name, parse::duration);
    let jitter = env.opt(&format!("{base}_JITTER"), |s| match s.parse() {
        Ok(j) if (0.0..=100.0).contains(&j) => Ok(j),
        _ => Err(format!("{s:?} is not a number from 0 to 100")),
    });
    match (min, max) {
        (None, None) => Backoff {
            min: Duration::from_millis(100),
            max: MAX_BACKOFF,
            jitter: jitter.unwrap_or(0.1),
        },
        (Some(min), Some(max)) if !min.is_zero() && min <= max => Backoff {
            min,
            max,
            jitter: jitter.unwrap_or(0.0),
        },
        _ => {
            env.errors.push(format!(
                "{PREFIX}{min_name}, {PREFIX}{max_name}: give both, the first not above the second"
            ));
            Backoff {
                min: secs(1),
                max: secs(1),
                jitter: 0.0,
            }
        }
    }
}

fn http2_server(env: &mut Vars, dir: &str) -> Http2Server {
    let name = |field: &str| format!("{dir}_SERVER_HTTP2_{field}");
    let adaptive = env.or(&name("ADAPTIVE_FLOW_CONTROL"), parse::boolean, false);
    let interval = env.opt(&name("KEEP_ALIVE_INTERVAL"), parse::duration);
    let timeout = env.opt(&name("KEEP_ALIVE_TIMEOUT"), parse::duration);
    Http2Server {
        max_concurrent_streams: env.or(&name("MAX_CONCURRENT_STREAMS"), parse::number, 1_000),
        max_frame_size: env.opt(&name("MAX_FRAME_SIZE"), |s| match parse::number(s)? {
            n @ 16_384..16_777_216 => Ok(n),
            n => Err(format!("{n} is not from 16384 to 16777215 (RFC 9113, 4.2)")),
        }),
        max_header_list_size: env.or(&name("MAX_HEADER_LIST_SIZE"), parse::number, 64 * 1024),
        max_pending_accept_reset_streams: env
            .opt(&name("MAX_PENDING_ACCEPT_RESET_STREAMS"), parse::number),
        max_send_buf_size: env.opt(&name("MAX_SEND_BUF_SIZE"), parse::number),
        stream_window: env.opt(&name("INITIAL_STREAM_WINDOW_SIZE"), window),
        connection_window: env.opt(&name("INITIAL_CONNECTION_WINDOW_SIZE"), window),
        adaptive,
        keep_alive: interval.zip(timeout),
    }
}

/// Larger windows are a protocol error (RFC 9113, section 6.9.1).
fn window(s: &str) -> Result<u32, Reason> {
    let n: u32 = parse::number(s)?;
    if n < 1 << 31 {
        Ok(n)
    } else {
        Err(format!("{n} is above 2147483647"))
    }
}

fn control(env: &mut Vars, backoff: Backoff) -> Control {
    let context = env.text("DESTINATION_CONTEXT").unwrap_or_default();
    let has_identity = identity::is_on(env);
    let destination = identity::service(env, "DESTINATION", has_identity);
    let policy = identity::service(env, "POLICY", has_identity);
    let workload = env.required("POLICY_WORKLOAD", |s| Ok(s.to_owned()));
    let initial_timeout = env.opt("CONTROL_STREAM_INITIAL_TIMEOUT", parse::duration);
    let idle_timeout = env.opt("CONTROL_STREAM_IDLE_TIMEOUT", parse::duration);
    let lifetime = env.opt("CONTROL_STREAM_LIFETIME", parse::duration);
    if !ordered([initial_timeout, idle_timeout, lifetime]) {
        env.errors.push(format!(
            "{PREFIX}CONTROL_STREAM_*: INITIAL_TIMEOUT <= IDLE_TIMEOUT <= LIFETIME must hold"
        ));
    }
    Control {
        destination,
        policy,
        workload: workload.unwrap_or_default(),
        namespace: namespace(&context),
        context,
        profile_suffixes: env.or(
            "DESTINATION_PROFILE_SUFFIXES",
            parse::dns_suffixes,
            vec!["svc.cluster.local".to_owned()],
        ),
        profile_networks: env.or("DESTINATION_PROFILE_NETWORKS", parse::networks, vec![]),
        initial_timeout,
        idle_timeout,
        lifetime,
        dns_ttl: (
            env.opt("DNS_MIN_TTL", parse::duration),
            env.opt("DNS_MAX_TTL", parse::duration),
        ),
        backoff,
    }
}

fn ordered(timeouts: [Option<Duration>; 3]) -> bool {
    timeouts.iter().flatten().is_sorted()
}

/// The namespace that a context token names: JSON `{"ns":"..."}`, or the older `ns:...`.
fn namespace(context: &str) -> Option<String> {
    if let Some(ns) = context.strip_prefix("ns:") {
        return Some(ns.to_owned());
    }
    let json: serde_json::Value = serde_json::from_str(context).ok()?;
    json.get("ns")?.as_str().map(str::to_owned)
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Target;

    fn vars(vars: &[(&str, &str)]) -> HashMap<String, String> {
        let required = [
            ("LINKERD2_PROXY_DESTINATION_SVC_ADDR", "127.0.0.1:8086"),
            ("LINKERD2_PROXY_POLICY_SVC_ADDR", "policy.example:8090"),
            ("LINKERD2_PROXY_POLICY_WORKLOAD", "w"),
        ];
        let all = required.iter().chain(vars);
        all.map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    #[test]
    fn defaults_are_linkerds() {
        let config = Config::from_env(vars(&[])).unwrap();
        assert_eq!(
            config.outbound.side.listen,
            ["127.0.0.1:4140".parse().unwrap()]
        );
        assert_eq!(
            config.inbound.side.listen,
            ["0.0.0.0:4143".parse().unwrap()]
        );
        assert_eq!(config.admin_listen, ["127.0.0.1:4191".parse().unwrap()]);
        assert_eq!(
            config.inbound.side.connect.timeout,
            Duration::from_millis(300)
        );
        assert_eq!(config.outbound.side.connect.timeout, secs(1));
        assert_eq!(config.shutdown_grace, secs(120));
        assert_eq!(
            config.control.policy.target,
            Target::Name("policy.example".into(), 8090)
        );
    }

    #[test]
    fn every_error_is_reported_with_its_variable() {
        let Invalid(errors) = Config::from_env(HashMap::from([
            ("LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT".into(), "1".into()),
            ("LINKERD2_PROXY_INBOUND_PORTS".into(), "x".into()),
            ("LINKERD2_PROXY_POLICY_WORKLOAD".into(), "w".into()),
            (
                "LINKERD2_PROXY_DESTINATION_SVC_ADDR".into(),
                "nonsense".into(),
            ),
        ]))
        .unwrap_err();
        for name in [
            "OUTBOUND_CONNECT_TIMEOUT",
            "INBOUND_PORTS",
            "DESTINATION_SVC_ADDR",
            "POLICY_SVC_ADDR",
        ] {
            assert!(
                errors
                    .iter()
                    .any(|e| e.contains(&format!("{PREFIX}{name}:"))),
                "{name}"
            );
        }
        assert_eq!(errors.len(), 4, "{errors:?}");
    }

    #[test]
    fn windows_are_as_set_and_within_what_the_protocol_allows() {
        const STREAM: &str = "LINKERD2_PROXY_HTTP2_INITIAL_STREAM_WINDOW_SIZE";
        const CONNECTION: &str = "LINKERD2_PROXY_HTTP2_INITIAL_CONNECTION_WINDOW_SIZE";
        let set = Config::from_env(vars(&[(STREAM, "70000"), (CONNECTION, "80000")])).unwrap();
        let windows = set.outbound.http2;
        assert_eq!(windows.stream_window, 70_000);
        assert_eq!(windows.connection_window, 80_000);
        for name in [STREAM, CONNECTION] {
            let Invalid(errors) = Config::from_env(vars(&[(name, "2147483648")])).unwrap_err();
            assert!(errors[0].contains(name), "{errors:?}");
        }
    }

    #[test]
    fn the_namespace_comes_from_the_context() {
        assert_eq!(
            namespace(r#"{"ns":"demo","pod":"p"}"#).as_deref(),
            Some("demo")
        );
        assert_eq!(namespace("ns:old").as_deref(), Some("old"));
        assert_eq!(namespace("anything"), None);
    }

    #[test]
    fn an_endpoint_that_returns_is_soon_seen_unless_it_is_configured_otherwise() {
        let backoff = |pairs: &[_]| {
            let config = Config::from_env(vars(pairs)).unwrap();
            config.outbound.side.connect.backoff
        };
        let default = backoff(&[]);
        assert_eq!((default.max, default.jitter), (secs(8), 0.1));
        let configured = backoff(&[
            ("LINKERD2_PROXY_OUTBOUND_CONNECT_EXP_BACKOFF_MIN", "1s"),
            ("LINKERD2_PROXY_OUTBOUND_CONNECT_EXP_BACKOFF_MAX", "30s"),
        ]);
        assert_eq!((configured.min, configured.max), (secs(1), secs(30)));
    }

    #[test]
    fn backoff_bounds_come_together() {
        let one = vars(&[("LINKERD2_PROXY_OUTBOUND_CONNECT_EXP_BACKOFF_MIN", "1s")]);
        assert!(Config::from_env(one).is_err());
    }

    #[test]
    fn cluster_policies_need_networks() {
        let policy = (
            "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY",
            "cluster-unauthenticated",
        );
        assert!(Config::from_env(vars(&[policy])).is_err());
        let networks = ("LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS", "10.0.0.0/8");
        assert!(Config::from_env(vars(&[policy, networks])).is_ok());
    }
}
