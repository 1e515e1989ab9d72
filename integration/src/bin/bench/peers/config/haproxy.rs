//! haproxy with one thread.

use super::{BULK, ECHO, HTTP1, HTTP2, Hop, Tls};
use crate::peers::mesh::server_id;

/// Options of listeners and servers that make them speak TLS; empty without.
struct Options {
    bind: String,
    server: String,
}

pub(in crate::peers) fn haproxy(hop: Hop<'_>) -> String {
    let Hop { ip, to, tls } = hop;
    let Options { bind, server } = options(tls);
    let (bind_http1, bind_http2, server_http1, server_http2) = match tls {
        Tls::Nowhere => ("", "proto h2", "", "proto h2"),
        Tls::Upstream(_) => ("", "proto h2", "alpn h2 proto h2", "alpn h2 proto h2"),
        Tls::Downstream(_) => ("alpn h2,http/1.1", "alpn h2", "", "proto h2"),
    };
    let http = |name: &str, port: u16, bind_http: &str, server_http: &str| {
        format!(
            "listen {name}\n  mode http\n  bind {ip}:{port} {bind} {bind_http}\n  \
             http-reuse always\n  server app {to}:{port} {server} {server_http}\n"
        )
    };
    let tcp = |name: &str, port: u16| {
        format!(
            "listen {name}\n  mode tcp\n  bind {ip}:{port} {bind}\n  \
             server app {to}:{port} {server}\n"
        )
    };
    format!(
        "global\n  nbthread 1\n  maxconn 8192\n\
         defaults\n  timeout connect 1s\n  timeout client 600s\n  timeout server 600s\n  \
         timeout http-keep-alive 600s\n\
         {}{}{}{}",
        http("http1", HTTP1, bind_http1, server_http1),
        http("http2", HTTP2, bind_http2, server_http2),
        tcp("echo", ECHO),
        tcp("bulk", BULK)
    )
}

fn options(tls: Tls<'_>) -> Options {
    let (mut bind, mut server) = (String::new(), String::new());
    let suites = "ssl-min-ver TLSv1.3 ciphersuites TLS_AES_128_GCM_SHA256";
    match tls {
        Tls::Nowhere => {}
        Tls::Upstream(files) => {
            let (anchors, own) = (files.anchors.display(), files.client.display());
            let name = server_id();
            server = format!(
                "ssl {suites} verify required ca-file {anchors} crt {own} \
                 sni str({name}) verifyhost {name}"
            );
        }
        Tls::Downstream(files) => {
            let (anchors, own) = (files.anchors.display(), files.server.display());
            bind = format!("ssl {suites} verify required ca-file {anchors} crt {own}");
        }
    }
    Options { bind, server }
}
