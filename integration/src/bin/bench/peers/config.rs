//! Configuration files of the other proxies, as text.

use crate::scenario::Port;
use serde_json::{Value, json};
use std::{net::Ipv4Addr, path::Path};

const HTTP1: u16 = Port::Http1 as u16;
const HTTP2: u16 = Port::Http2 as u16;
const ECHO: u16 = Port::Echo as u16;
const BULK: u16 = Port::Bulk as u16;

/// nginx speaks HTTP/1.1 to the backend, also for HTTP/2 clients; TCP needs its stream module.
pub(super) fn nginx(ip: Ipv4Addr, to: Ipv4Addr, dir: &Path, stream: Option<&str>) -> String {
    let dir = dir.display();
    let load = stream
        .map(|path| format!("load_module {path};\n"))
        .unwrap_or_default();
    let tcp = stream.map_or(String::new(), |_| {
        format!(
            "stream {{\n\
             server {{ listen {ip}:{ECHO}; proxy_pass {to}:{ECHO}; }}\n\
             server {{ listen {ip}:{BULK}; proxy_pass {to}:{BULK}; proxy_buffer_size 64k; }}\n\
             }}\n"
        )
    });
    format!(
        "{load}daemon off; master_process off; worker_processes 1;\n\
         pid {dir}/nginx.pid; error_log stderr crit;\n\
         events {{ worker_connections 8192; }}\n\
         http {{\n\
         access_log off; tcp_nodelay on; keepalive_timeout 600s;\n\
         keepalive_requests 1000000000; http2_max_requests 1000000000;\n\
         http2_max_concurrent_streams 256;\n\
         client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy;\n\
         fastcgi_temp_path {dir}/fastcgi; uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;\n\
         upstream app {{ server {to}:{HTTP1}; keepalive 1024; keepalive_requests 1000000000; }}\n\
         server {{\n\
         listen {ip}:{HTTP1}; listen {ip}:{HTTP2} http2;\n\
         location / {{ proxy_pass http://app; proxy_http_version 1.1;\n\
         proxy_set_header Connection \"\"; proxy_set_header Host $host; }}\n\
         }}\n\
         }}\n\
         {tcp}"
    )
}

/// haproxy with one thread.
pub(super) fn haproxy(ip: Ipv4Addr, to: Ipv4Addr) -> String {
    let tcp = |name: &str, port: u16| {
        format!("listen {name}\n  mode tcp\n  bind {ip}:{port}\n  server app {to}:{port}\n")
    };
    format!(
        "global\n  nbthread 1\n  maxconn 8192\n\
         defaults\n  timeout connect 1s\n  timeout client 600s\n  timeout server 600s\n  \
         timeout http-keep-alive 600s\n\
         listen http1\n  mode http\n  bind {ip}:{HTTP1}\n  http-reuse always\n  \
         server app {to}:{HTTP1}\n\
         listen http2\n  mode http\n  bind {ip}:{HTTP2} proto h2\n  http-reuse always\n  \
         server app {to}:{HTTP2} proto h2\n\
         {}{}",
        tcp("echo", ECHO),
        tcp("bulk", BULK)
    )
}

/// Envoy with static listeners and clusters.
pub(super) fn envoy(ip: Ipv4Addr, to: Ipv4Addr) -> String {
    let address = |ip: Ipv4Addr, port: u16| json!({"socket_address": {"address": ip.to_string(), "port_value": port}});
    let listener = |port: u16, filter: Value| {
        json!({
            "name": format!("p{port}"),
            "address": address(ip, port),
            "filter_chains": [{"filters": [filter]}],
        })
    };
    let cluster = |port: u16, options: Option<Value>| {
        let endpoint = json!({"endpoint": {"address": address(to, port)}});
        let mut cluster = json!({
            "name": format!("p{port}"),
            "type": "STATIC",
            "connect_timeout": "1s",
            "circuit_breakers": {"thresholds": [
                {"max_connections": 100_000, "max_pending_requests": 100_000,
                 "max_requests": 100_000},
            ]},
            "load_assignment": {
                "cluster_name": format!("p{port}"),
                "endpoints": [{"lb_endpoints": [endpoint]}],
            },
        });
        if let Some(options) = options {
            cluster["typed_extension_protocol_options"] = options;
        }
        cluster
    };
    let http2 = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        },
    });
    let config = json!({
        "static_resources": {
            "listeners": [
                listener(HTTP1, envoy_http(HTTP1)),
                listener(HTTP2, envoy_http(HTTP2)),
                listener(ECHO, envoy_tcp(ECHO)),
                listener(BULK, envoy_tcp(BULK)),
            ],
            "clusters": [
                cluster(HTTP1, None),
                cluster(HTTP2, Some(http2)),
                cluster(ECHO, None),
                cluster(BULK, None),
            ],
        },
    });
    config.to_string()
}

fn envoy_http(port: u16) -> Value {
    let manager = "envoy.extensions.filters.network.http_connection_manager.v3";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("type.googleapis.com/{manager}.HttpConnectionManager"),
            "stat_prefix": format!("p{port}"),
            "codec_type": if port == HTTP2 { "HTTP2" } else { "HTTP1" },
            "generate_request_id": false,
            "route_config": {"virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{
                    "match": {"prefix": "/"},
                    "route": {"cluster": format!("p{port}"), "timeout": "0s"},
                }],
            }]},
            "http_filters": [
                {"name": "envoy.filters.http.router", "typed_config": {"@type": router}},
            ],
        },
    })
}

fn envoy_tcp(port: u16) -> Value {
    let proxy = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";
    json!({
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": proxy,
            "stat_prefix": format!("p{port}"),
            "cluster": format!("p{port}"),
        },
    })
}
