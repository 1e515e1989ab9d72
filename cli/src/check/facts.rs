//! What can be found out about a running mesh of this machine: answers, files, certificates.
//!
//! Only gathers; `rules` judges. Whatever cannot be had is a fact too, in the words of its error.

use super::clock::Skew;
use crate::api::{self, Pod};
use crate::certificate::Certificate;
use crate::local::{self, IdentityFiles};
use crate::{http_get, identity};
use serde::Deserialize;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use time::OffsetDateTime;
use tokio::task::JoinSet;

const ADMIN_PORT: u16 = 9990;
const STATS_PORT: u16 = 8085;
const DEADLINE: Duration = Duration::from_secs(5);
/// How many proxies are asked at a time.
const CONCURRENT: usize = 16;

/// All of one round.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) now: OffsetDateTime,
    pub(super) mesh: Result<Mesh, String>,
}

/// A mesh that runs.
#[derive(Debug)]
pub(super) struct Mesh {
    pub(super) controller: Result<Controller, String>,
    pub(super) anchors: Material,
    /// The issuer, and what it was issued by if that comes with it.
    pub(super) issuer: Material,
    pub(super) proxies: Result<Vec<Proxy>, String>,
}

/// The controller, which answers.
#[derive(Debug)]
pub(super) struct Controller {
    pub(super) ready: Result<(), String>,
    pub(super) skew: Option<Skew>,
    /// `None`: it gives out no certificates.
    pub(super) identity: Result<Option<InForce>, String>,
}

/// What the controller says of its certificates, at `/identity.json`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct InForce {
    pub(super) issuer: Fingerprint,
    pub(super) trust_anchors: Vec<Fingerprint>,
    /// Why newer files are not in force.
    #[serde(default)]
    pub(super) errors: Vec<Value>,
}

/// Enough to recognize a certificate by.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Fingerprint {
    sha256: String,
}

/// Certificates in a file.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) path: PathBuf,
    pub(super) certificates: Result<Vec<Certificate>, String>,
}

/// The proxy of a pod.
#[derive(Debug)]
pub(super) struct Proxy {
    /// `NAMESPACE/NAME` of its pod.
    pub(super) pod: String,
    pub(super) ready: Result<(), String>,
    pub(super) skew: Option<Skew>,
    /// What it has to prove.
    pub(super) identity: String,
    /// What it presents, the leaf first.
    pub(super) chain: Result<Vec<Certificate>, String>,
}

/// Asks and reads everything.
pub(super) async fn gather(name: Option<&str>) -> Facts {
    let mesh = match local::find(name).await {
        Ok(status) => match status.controller_ip {
            Some(ip) => Ok(mesh(ip.into(), &IdentityFiles::of(&status.state_dir)).await),
            None => Err("the mesh has no controller yet".to_string()),
        },
        Err(error) => Err(format!("{error:#}")),
    };
    // Certificates are judged by the time they are looked at.
    let now = OffsetDateTime::now_utc();
    Facts { now, mesh }
}

async fn mesh(controller: IpAddr, files: &IdentityFiles) -> Mesh {
    Mesh {
        controller: self::controller(SocketAddr::new(controller, ADMIN_PORT)).await,
        anchors: Material::read(files.anchors()),
        issuer: Material::read_first(&files.issuer(), &["crt.pem", "tls.crt"]),
        proxies: proxies(SocketAddr::new(controller, STATS_PORT)).await,
    }
}

async fn controller(admin: SocketAddr) -> Result<Controller, String> {
    let (ready, skew) = ready(admin).await?;
    Ok(Controller {
        ready,
        skew,
        identity: in_force(admin).await,
    })
}

async fn in_force(admin: SocketAddr) -> Result<Option<InForce>, String> {
    let answer = http_get::get(admin, "/identity.json", &[], DEADLINE).await;
    let (status, body) = answer.map_err(|error| error.to_string())?;
    if status == http::StatusCode::NOT_FOUND {
        return Ok(None);
    }
    if status != http::StatusCode::OK {
        return Err(format!("{admin}/identity.json answers {status}"));
    }
    let parsed = serde_json::from_slice(&body);
    parsed
        .map(Some)
        .map_err(|error| format!("{admin}/identity.json: {error}"))
}

/// Whether whoever answers there is ready, and what its clock shows.
async fn ready(admin: SocketAddr) -> Result<(Result<(), String>, Option<Skew>), String> {
    let asked = OffsetDateTime::now_utc();
    let answer = http_get::response(admin, "/ready", &[], DEADLINE).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let skew = Skew::of(answer.headers(), asked, OffsetDateTime::now_utc());
    let why = String::from_utf8_lossy(answer.body()).trim().to_string();
    let ready = match answer.status().is_success() {
        true => Ok(()),
        false => Err(why),
    };
    Ok((ready, skew))
}

async fn proxies(stats: SocketAddr) -> Result<Vec<Proxy>, String> {
    let pods = api::pods(stats).await.map_err(|error| error.to_string())?;
    let meshed: Vec<_> = pods.into_iter().filter(|pod| pod.meshed).collect();
    let mut proxies = Vec::with_capacity(meshed.len());
    for pods in meshed.chunks(CONCURRENT) {
        let mut tasks: JoinSet<_> = pods.iter().cloned().map(proxy).collect();
        while let Some(proxy) = tasks.join_next().await {
            proxies.push(proxy.map_err(|error| error.to_string())?);
        }
    }
    proxies.sort_by(|a, b| a.pod.cmp(&b.pod));
    Ok(proxies)
}

async fn proxy(pod: Pod) -> Proxy {
    let admin = pod.admin_addr.as_deref().unwrap_or_default().parse();
    let answer = match admin {
        Ok(admin) => ready(admin).await,
        Err(_) => Err("has no address yet".to_string()),
    };
    let (ready, skew) = answer.unwrap_or_else(|error| (Err(error), None));
    let chain = identity::presented(&pod).await;
    Proxy {
        pod: format!("{}/{}", pod.namespace, pod.name),
        ready,
        skew,
        identity: pod.identity.unwrap_or_default(),
        chain: chain.map_err(|error| format!("{error:#}")),
    }
}

// === impl Material ===

impl Material {
    fn read(path: PathBuf) -> Self {
        let text = std::fs::read(&path).map_err(|error| error.to_string());
        let parse = |text: Vec<u8>| Certificate::read_pem(&text).map_err(|e| e.to_string());
        let certificates = text.and_then(parse);
        Self { path, certificates }
    }

    /// The first of these files that there is.
    fn read_first(dir: &Path, names: &[&str]) -> Self {
        let mut paths = names.iter().map(|name| dir.join(name));
        let there = paths.find(|path| path.exists());
        let default = || dir.join(names.first().copied().unwrap_or_default());
        Self::read(there.unwrap_or_else(default))
    }
}

// === impl InForce ===

impl InForce {
    pub(super) fn errors(&self) -> Vec<String> {
        let text = |error: &Value| error.as_str().map_or(error.to_string(), str::to_string);
        self.errors.iter().map(text).collect()
    }
}

// === impl Fingerprint ===

impl Fingerprint {
    pub(super) fn is_of(&self, certificate: &Certificate) -> bool {
        let plain = self.sha256.replace(':', "");
        plain.eq_ignore_ascii_case(&certificate.sha256)
    }
}

/// For the tests of rules.
#[cfg(test)]
impl Fingerprint {
    pub(super) fn of(certificate: &Certificate) -> Self {
        let sha256 = certificate.sha256.to_uppercase();
        Self { sha256 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_controller_says_is_read() {
        let text = r#"{"trust_domain":"cluster.local","namespace":"gossamer",
            "issuer":{"subject":"CN=i","sha256":"AB:CD"},
            "trust_anchors":[{"sha256":"ef01"}],"errors":["key.pem: is another key"]}"#;
        let found: InForce = serde_json::from_str(text).unwrap();
        assert_eq!(found.errors(), ["key.pem: is another key"]);
        assert_eq!(found.trust_anchors.len(), 1);
    }

    #[test]
    fn the_issuer_is_found_under_either_name() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["crt.pem", "tls.crt"];
        assert!(
            Material::read_first(dir.path(), &names)
                .path
                .ends_with("crt.pem")
        );
        std::fs::write(dir.path().join("tls.crt"), "nothing").unwrap();
        let found = Material::read_first(dir.path(), &names);
        assert!(found.path.ends_with("tls.crt"));
        assert_eq!(found.certificates.unwrap_err(), "holds no certificate");
    }
}
