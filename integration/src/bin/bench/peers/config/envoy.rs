//! Envoy with static listeners and clusters.

use super::{BULK, ECHO, HTTP1, HTTP2, Hop, Tls};
use crate::peers::mesh::{Files, server_id};
use serde_json::{Value, json};
use std::{net::Ipv4Addr, path::Path};

pub(in crate::peers) fn envoy(hop: Hop<'_>) -> String {
    let config = json!({
        "static_resources": {
            "listeners": [
                listener(&hop, HTTP1, http(&hop, HTTP1)),
                listener(&hop, HTTP2, http(&hop, HTTP2)),
                listener(&hop, ECHO, tcp(ECHO)),
                listener(&hop, BULK, tcp(BULK)),
            ],
            "clusters": [
                cluster(&hop, HTTP1),
                cluster(&hop, HTTP2),
                cluster(&hop, ECHO),
                cluster(&hop, BULK),
            ],
        },
    });
    config.to_string()
}

fn listener(hop: &Hop<'_>, port: u16, filter: Value) -> Value {
    let mut chain = json!({"filters": [filter]});
    if let Tls::Downstream(files) = hop.tls {
        let mut context = json!({
            "require_client_certificate": true,
            "common_tls_context": tls(files, &files.server, None),
        });
        if is_http(port) {
            context["common_tls_context"]["alpn_protocols"] = json!(["h2", "http/1.1"]);
        }
        chain["transport_socket"] = transport_socket("DownstreamTlsContext", context);
    }
    json!({
        "name": format!("p{port}"),
        "address": address(hop.ip, port),
        "filter_chains": [chain],
    })
}

fn cluster(hop: &Hop<'_>, port: u16) -> Value {
    let endpoint = json!({"endpoint": {"address": address(hop.to, port)}});
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
    let is_http2 = match hop.tls {
        Tls::Upstream(_) => is_http(port),
        Tls::Nowhere | Tls::Downstream(_) => port == HTTP2,
    };
    if is_http2 {
        let options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster["typed_extension_protocol_options"] = json!({options: {
            "@type": format!("type.googleapis.com/{options}"),
            "explicit_http_config": {"http2_protocol_options": {}},
        }});
    }
    if let Tls::Upstream(files) = hop.tls {
        let name = server_id();
        let mut context = json!({
            "sni": name,
            "common_tls_context": tls(files, &files.client, Some(&name)),
        });
        if is_http2 {
            context["common_tls_context"]["alpn_protocols"] = json!(["h2"]);
        }
        cluster["transport_socket"] = transport_socket("UpstreamTlsContext", context);
    }
    cluster
}

/// What both ends have in common; `peer` is whom the other end has to be.
fn tls(files: &Files, own: &Path, peer: Option<&str>) -> Value {
    let own = json!({"filename": own});
    let mut context = json!({
        "tls_params": {
            "tls_minimum_protocol_version": "TLSv1_3",
            "tls_maximum_protocol_version": "TLSv1_3",
            "ecdh_curves": ["X25519MLKEM768", "X25519"],
        },
        "tls_certificates": [{"certificate_chain": own, "private_key": own}],
        "validation_context": {"trusted_ca": {"filename": files.anchors}},
    });
    if let Some(name) = peer {
        context["validation_context"]["match_typed_subject_alt_names"] =
            json!([{"san_type": "DNS", "matcher": {"exact": name}}]);
    }
    context
}

fn transport_socket(kind: &str, mut context: Value) -> Value {
    let package = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
    context["@type"] = json!(format!("{package}.{kind}"));
    json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
}

fn http(hop: &Hop<'_>, port: u16) -> Value {
    let manager = "envoy.extensions.filters.network.http_connection_manager.v3";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let codec = match hop.tls {
        Tls::Downstream(_) => "AUTO",
        _ if port == HTTP2 => "HTTP2",
        _ => "HTTP1",
    };
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("type.googleapis.com/{manager}.HttpConnectionManager"),
            "stat_prefix": format!("p{port}"),
            "codec_type": codec,
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

fn tcp(port: u16) -> Value {
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

fn is_http(port: u16) -> bool {
    port == HTTP1 || port == HTTP2
}

fn address(ip: Ipv4Addr, port: u16) -> Value {
    json!({"socket_address": {"address": ip.to_string(), "port_value": port}})
}
