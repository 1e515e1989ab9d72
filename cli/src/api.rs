//! The controller's live figures, over its JSON API.
//!
//! Used by every command that looks at a running mesh. What the figures mean is the controller's
//! affair.

use crate::args::TargetArgs;
use crate::http_get::{self, GetError};
use crate::local;
use anyhow::Context;
use http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const STATS_PORT: u16 = 8085;
const DEADLINE: Duration = Duration::from_secs(5);

/// The kinds figures exist for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Deployment,
    StatefulSet,
    Service,
    Pod,
    Namespace,
}

/// Figures of one object, in Linkerd's JSON names. `None` means no traffic.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Row {
    pub(crate) namespace: String,
    pub(crate) kind: String,
    pub(crate) name: String,
    /// Meshed of running pods, as `3/3`.
    pub(crate) meshed: String,
    /// 0 to 1.
    pub(crate) success: Option<f64>,
    pub(crate) rps: Option<f64>,
    #[serde(deserialize_with = "whole")]
    pub(crate) latency_ms_p50: Option<u64>,
    #[serde(deserialize_with = "whole")]
    pub(crate) latency_ms_p95: Option<u64>,
    #[serde(deserialize_with = "whole")]
    pub(crate) latency_ms_p99: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tcp_open_connections: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tcp_read_bytes_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tcp_write_bytes_rate: Option<f64>,
}

/// A pod the controller knows.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// `None` for a pod that stands for itself.
    pub(crate) owner_kind: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) meshed: bool,
    /// Where its proxy shows metrics.
    pub(crate) admin_addr: Option<String>,
    /// What its proxy has to prove.
    pub(crate) identity: Option<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

/// Somebody who talks to somebody, in Linkerd's JSON names.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub(crate) struct Edge {
    pub(crate) src: String,
    pub(crate) src_kind: String,
    pub(crate) src_namespace: String,
    pub(crate) dst: String,
    pub(crate) dst_kind: String,
    pub(crate) dst_namespace: String,
    /// Identities in full; empty when the edge is not secured.
    pub(crate) client_id: String,
    pub(crate) server_id: String,
    /// As in the label of proxies; empty when the edge is secured.
    pub(crate) no_tls_reason: String,
    pub(crate) secured: bool,
}

/// Which edges; `None` means all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct EdgesQuery<'a> {
    pub(crate) kind: Option<Kind>,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
}

/// Which figures.
#[derive(Clone, Debug)]
pub(crate) struct Query<'a> {
    pub(crate) kind: Kind,
    pub(crate) namespace: Option<&'a str>,
    pub(crate) name: Option<&'a str>,
    pub(crate) window: Duration,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("the controller's stats API cannot be reached: {0}")]
    Get(GetError),
    #[error("the controller refuses the question: {0}")]
    Refused(String),
    #[error("{0} is no stats API of this version: {1}")]
    Answer(SocketAddr, serde_json::Error),
}

#[derive(Deserialize)]
struct Rows<T> {
    rows: Vec<T>,
}

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// The address of the stats API: as given, or of the mesh of this machine.
pub(crate) async fn stats_addr(target: &TargetArgs) -> anyhow::Result<SocketAddr> {
    if let Some(addr) = target.api_addr {
        return Ok(addr);
    }
    let mesh = local::find(target.mesh.as_deref()).await?;
    let ip = mesh
        .controller_ip
        .context("the mesh has no controller yet")?;
    Ok(SocketAddr::from((ip, STATS_PORT)))
}

/// Asks for figures.
pub(crate) async fn stat(addr: SocketAddr, query: &Query<'_>) -> Result<Vec<Row>, ApiError> {
    Ok(get::<Rows<Row>>(addr, &query.path()).await?.rows)
}

/// Asks who talks to whom.
pub(crate) async fn edges(addr: SocketAddr, query: &EdgesQuery<'_>) -> Result<Vec<Edge>, ApiError> {
    let kind = query.kind.map(Kind::full);
    let pairs = [
        ("kind", kind),
        ("namespace", query.namespace),
        ("name", query.name),
    ];
    let path = format!("/api/edges?{}", parameters(&pairs));
    Ok(get::<Rows<Edge>>(addr, &path).await?.rows)
}

/// Asks for all pods.
pub(crate) async fn pods(addr: SocketAddr) -> Result<Vec<Pod>, ApiError> {
    get(addr, "/api/pods").await
}

async fn get<T: serde::de::DeserializeOwned>(addr: SocketAddr, path: &str) -> Result<T, ApiError> {
    let answer = http_get::get(addr, path, &[], DEADLINE).await;
    let (status, body) = answer.map_err(ApiError::Get)?;
    if status == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|error| ApiError::Answer(addr, error));
    }
    let refusal = serde_json::from_slice::<Refusal>(&body);
    Err(ApiError::Refused(refusal.map_or_else(
        |_| status.to_string(),
        |refusal| refusal.error,
    )))
}

// === impl Kind ===

impl Kind {
    /// Any of the names `kubectl` takes.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "deploy" | "deployment" | "deployments" => Some(Kind::Deployment),
            "sts" | "statefulset" | "statefulsets" => Some(Kind::StatefulSet),
            "svc" | "service" | "services" => Some(Kind::Service),
            "po" | "pod" | "pods" => Some(Kind::Pod),
            "ns" | "namespace" | "namespaces" => Some(Kind::Namespace),
            _ => None,
        }
    }

    pub(crate) fn full(self) -> &'static str {
        match self {
            Kind::Deployment => "deployment",
            Kind::StatefulSet => "statefulset",
            Kind::Service => "service",
            Kind::Pod => "pod",
            Kind::Namespace => "namespace",
        }
    }

    pub(crate) fn short(self) -> &'static str {
        match self {
            Kind::Deployment => "deploy",
            Kind::StatefulSet => "sts",
            Kind::Service => "svc",
            Kind::Pod => "po",
            Kind::Namespace => "ns",
        }
    }
}

// === impl Query ===

impl Query<'_> {
    fn path(&self) -> String {
        let window = format!("{}s", self.window.as_secs());
        let pairs = [
            ("kind", Some(self.kind.full())),
            ("window", Some(window.as_str())),
            ("namespace", self.namespace),
            ("name", self.name),
        ];
        format!("/api/stat?{}", parameters(&pairs))
    }
}

/// Those that have a value, as a query.
fn parameters(pairs: &[(&str, Option<&str>)]) -> String {
    let given = pairs
        .iter()
        .filter_map(|(key, value)| Some(format!("{key}={}", escaped((*value)?))));
    given.collect::<Vec<_>>().join("&")
}

/// Milliseconds as Linkerd prints them; the controller knows fractions.
fn whole<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    Ok(Option::<f64>::deserialize(value)?.map(|millis| millis.round() as u64))
}

/// Percent-encodes what a user typed, all but unreserved characters (RFC 3986, 2.3).
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_escaped() {
        let query = Query {
            kind: Kind::Service,
            namespace: Some("demo"),
            name: Some("a b&c"),
            window: Duration::from_secs(30),
        };
        assert_eq!(
            query.path(),
            "/api/stat?kind=service&window=30s&namespace=demo&name=a%20b%26c"
        );
    }

    #[test]
    fn rows_are_read_and_written_with_linkerds_names() {
        let text = r#"{"namespace":"demo","kind":"pod","name":"a","meshed":"1/1","success":null,
            "rps":null,"latency_ms_p50":1.6,"latency_ms_p95":null,"latency_ms_p99":null,
            "tcp_open_connections":3,"tcp_read_bytes_rate":null,"tcp_write_bytes_rate":1.5}"#;
        let row: Row = serde_json::from_str(text).unwrap();
        let json = serde_json::to_value(&row).unwrap();
        assert!(json["success"].is_null());
        assert_eq!(json["latency_ms_p50"], 2);
        assert_eq!(json["tcp_open_connections"], 3);
        assert!(json.get("tcp_read_bytes_rate").is_none());
    }
}
