//! nginx, alone only.

use super::{BULK, ECHO, HTTP1, HTTP2};
use std::{net::Ipv4Addr, path::Path};

/// nginx speaks HTTP/1.1 to the backend, also for HTTP/2 clients; TCP needs its stream module.
pub(in crate::peers) fn nginx(
    ip: Ipv4Addr,
    to: Ipv4Addr,
    dir: &Path,
    stream: Option<&str>,
) -> String {
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
