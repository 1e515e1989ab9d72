//! The admin server: `/metrics`, `/ready`, `/live`, and a few calls for the machine's own users.
//!
//! Paths, methods and answers are Linkerd's. Calls that change something are taken from loopback
//! only, and `/env.json` shows the mesh's own variables and no other. Runs on the control thread.

mod gzip;

use crate::{
    addr::unmap,
    drain,
    error::BoxError,
    http::{
        Body, Request, Response,
        server::{Handler, serve_http1},
    },
    identity::Identity,
    io::Conn,
    log,
    metrics::process::Process,
};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ACCEPT, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, DATE, VARY},
};
use http_body_util::{BodyExt, Limited};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    net::TcpListener,
    sync::{Notify, Semaphore},
    task::spawn_local,
    time::sleep,
};

/// Connections at once; scrapers are few.
const MAX_CONNECTIONS: usize = 128;

/// How long a connection is kept, and how long what is in flight by then may take. Whoever asks comes
/// seldom; connections that wait for them would take the room.
const LIFETIME: Duration = Duration::from_secs(30);

/// Largest filter that `PUT /proxy-log-level` takes.
const MAX_FILTER: usize = 4 * 1024;

const LOOPBACK_ONLY: &str = "Requests are only permitted from localhost.";

/// What the admin server shows and changes.
pub struct Admin {
    /// Renders `/metrics`.
    pub process: Process,
    /// Whether `/ready` says so, as long as the identity has no problem.
    pub ready: AtomicBool,
    /// Who this workload is.
    pub identity: Identity,
    /// Changes the log filter.
    pub log: log::Handle,
    /// The environment the process was started with.
    pub env: HashMap<String, String>,
    /// Whether `POST /shutdown` works.
    pub shutdown_enabled: bool,
    /// Told to shut down.
    pub shutdown: Notify,
}

/// Serves until dropped.
pub async fn serve(listener: TcpListener, admin: Arc<Admin>) {
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Never closed, so this cannot fail.
        let Ok(room) = connections.clone().acquire_owned().await else {
            return;
        };
        let (tcp, ip) = match listener.accept().await {
            Ok((tcp, client)) => (tcp, unmap(client).ip()),
            Err(error) => {
                tracing::warn!(%error, "accept on the admin port failed");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let client = Client {
            admin: admin.clone(),
            ip,
        };
        spawn_local(async move {
            carry(Conn::new(tcp), client).await;
            drop(room);
        });
    }
}

/// Serves one connection as long as it may live.
async fn carry(conn: Conn, client: Client) {
    let (mut drain, signal) = drain::channel();
    let lifetime = async {
        sleep(LIFETIME).await;
        drain.drain().await;
        sleep(LIFETIME).await;
    };
    tokio::select! {
        served = serve_http1(conn, client, &signal) => if let Err(error) = served {
            tracing::debug!(%error, "admin connection ended");
        },
        () = lifetime => {}
    }
}

/// The client of one connection.
#[derive(Clone)]
struct Client {
    admin: Arc<Admin>,
    ip: IpAddr,
}

impl Handler for Client {
    async fn handle(self, request: Request) -> Result<Response, BoxError> {
        let mut answer = self.admin.answer(request, self.ip).await;
        // Whoever checks the mesh compares clocks by it (RFC 9110, section 6.6.1).
        if let Ok(date) = httpdate::fmt_http_date(SystemTime::now()).parse() {
            answer.headers_mut().insert(DATE, date);
        }
        Ok(answer)
    }
}

impl Admin {
    async fn answer(&self, request: Request, client: IpAddr) -> Response {
        let is_local = client.is_loopback();
        match request.uri().path() {
            "/live" => text(StatusCode::OK, "live\n"),
            "/ready" => self.readiness(),
            "/metrics" => self.metrics(request.headers()),
            "/env.json" => self.env(&request),
            "/proxy-log-level" | "/shutdown" if !is_local => {
                text(StatusCode::FORBIDDEN, LOOPBACK_ONLY)
            }
            "/proxy-log-level" => self.log_level(request).await,
            "/shutdown" => self.shut_down(request.method()),
            _ => empty(StatusCode::NOT_FOUND),
        }
    }

    fn readiness(&self) -> Response {
        if let Some(problem) = self.identity.problem() {
            return text(StatusCode::SERVICE_UNAVAILABLE, format!("{problem}\n"));
        }
        match self.ready.load(Ordering::Relaxed) {
            true => text(StatusCode::OK, "ready\n"),
            false => text(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        }
    }

    fn metrics(&self, headers: &HeaderMap) -> Response {
        let page = self.process.render();
        let mut answer = match gzip::is_accepted(headers) {
            false => text(StatusCode::OK, page),
            true => {
                let mut answer = text(StatusCode::OK, gzip::compress(page.as_bytes()));
                answer
                    .headers_mut()
                    .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
                answer
            }
        };
        answer
            .headers_mut()
            .insert(VARY, HeaderValue::from_static("accept-encoding"));
        answer
    }

    async fn log_level(&self, request: Request) -> Response {
        let Some(current) = self.log.filter() else {
            return text(StatusCode::NOT_FOUND, "logging is off\n");
        };
        match *request.method() {
            Method::GET => text(StatusCode::OK, format!("{current}\n")),
            Method::PUT => {
                let body = Limited::new(request.into_body(), MAX_FILTER)
                    .collect()
                    .await;
                let Ok(body) = body.map(|b| b.to_bytes()) else {
                    return text(StatusCode::BAD_REQUEST, "the filter could not be read\n");
                };
                match self.log.set(String::from_utf8_lossy(&body).trim()) {
                    Some(Err(error)) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
                    _ => empty(StatusCode::NO_CONTENT),
                }
            }
            _ => not_allowed("GET, PUT"),
        }
    }

    fn shut_down(&self, method: &Method) -> Response {
        if method != Method::POST {
            return not_allowed("POST");
        }
        if !self.shutdown_enabled {
            return text(StatusCode::NOT_FOUND, "shutdown endpoint is not enabled\n");
        }
        self.shutdown.notify_one();
        text(StatusCode::OK, "shutdown\n")
    }

    /// `?A&B` asks for these variables only; unknown ones are null.
    fn env(&self, request: &Request) -> Response {
        if request.method() != Method::GET {
            return not_allowed("GET");
        }
        let accepts_json = request.headers().get(ACCEPT).is_none_or(|accept| {
            let accept = accept.to_str().unwrap_or_default();
            accept.contains("json") || accept.contains("*/*") || accept.contains("application/*")
        });
        if !accepts_json {
            return empty(StatusCode::NOT_ACCEPTABLE);
        }
        let shown = |name: &&String| is_shown(name);
        let json: serde_json::Map<_, _> = match request.uri().query() {
            Some(query) if query.contains('=') => {
                return text(StatusCode::BAD_REQUEST, "write /env.json?NAME&NAME\n");
            }
            Some(query) => {
                let names = query.split('&').map(str::to_owned);
                names
                    .map(|name| {
                        let value = self.env.get(&name).filter(|_| is_shown(&name)).cloned();
                        (name, value.into())
                    })
                    .collect()
            }
            None => self
                .env
                .keys()
                .filter(shown)
                .map(|k| (k.clone(), self.env[k].clone().into()))
                .collect(),
        };
        let mut answer = text(StatusCode::OK, serde_json::Value::from(json).to_string());
        answer
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer
    }
}

/// The mesh's own variables: they name files and services, never secrets.
fn is_shown(name: &str) -> bool {
    name.starts_with("LINKERD2_PROXY_") || name.starts_with("GOSSAMER_PROXY_")
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response {
    let mut answer = Response::new(Body::own(body));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    answer
}

fn empty(status: StatusCode) -> Response {
    let mut answer = Response::new(Body::empty());
    *answer.status_mut() = status;
    answer
}

fn not_allowed(allow: &'static str) -> Response {
    let mut answer = empty(StatusCode::METHOD_NOT_ALLOWED);
    answer
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allow));
    answer
}
