//! `/live`, `/ready`, `/metrics` and `/identity.json`.
//!
//! The process is ready once the source was read, however bad its files are: what could be read is
//! served, and `/ready?verbose` says what could not. The same holds for the files of the identity.

use crate::{
    cluster::Cluster,
    identity::{Identity, Overview},
    index::Duplicates,
    metrics::{Metrics, Page, resident_memory},
    source::Load,
};
use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::StatusCode,
    routing::get,
};
use parking_lot::RwLock;
use std::{fmt::Write, sync::Arc};
use tokio::sync::watch;

/// Sizes by kind, counted when they are asked for.
pub type Sizes = Arc<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// What the pages are made of.
#[derive(Clone)]
pub struct Admin {
    /// What was read last.
    pub source: watch::Receiver<Arc<Load>>,
    /// What of it is passed over, because it is there twice.
    pub duplicates: watch::Receiver<Duplicates>,
    /// What signs certificates; `None`: they are not signed here.
    pub identity: Option<Identity>,
    /// What is in force.
    pub cluster: Arc<RwLock<Cluster>>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Questions that proxies follow, by kind.
    pub questions: Sizes,
    /// Whether the source was read and is in force.
    pub ready: watch::Receiver<bool>,
}

impl Admin {
    /// The pages.
    pub fn router(self) -> Router {
        Router::new()
            .route("/live", get(|| async { "live\n" }))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/identity.json", get(identity))
            .with_state(self)
    }
}

async fn ready(State(admin): State<Admin>, RawQuery(query): RawQuery) -> (StatusCode, String) {
    let ready = *admin.ready.borrow();
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let mut text = if ready {
        "ready\n"
    } else {
        "not ready: manifests not read yet\n"
    }
    .to_owned();
    let verbose = query.unwrap_or_default();
    if verbose
        .split('&')
        .any(|part| part.split('=').next() == Some("verbose"))
    {
        let load = admin.source.borrow().clone();
        describe(&load, &mut text);
        let duplicates = admin.duplicates.borrow().clone();
        for report in duplicates.iter().take(MAX_DUPLICATES) {
            let _ = writeln!(text, "{report}");
        }
        if let Some(more) = duplicates.len().checked_sub(MAX_DUPLICATES + 1) {
            let _ = writeln!(text, "{} more objects are defined twice", more + 1);
        }
        for line in admin.identity.iter().flat_map(Identity::lines) {
            let _ = writeln!(text, "identity: {line}");
        }
    }
    (status, text)
}

/// More are counted only.
const MAX_DUPLICATES: usize = 100;

fn describe(load: &Load, text: &mut String) {
    if let Some(problem) = &load.problem {
        let _ = writeln!(text, "source: {problem}");
    }
    for (name, file) in &load.files {
        let objects = file.manifests.objects.len();
        let unused = file.manifests.unused;
        let _ = match &file.error {
            None => writeln!(
                text,
                "{name}: ok, {objects} objects, {unused} of unused kinds"
            ),
            Some(error) => writeln!(text, "{name}: bad, {objects} objects kept: {error}"),
        };
        for warning in &file.manifests.warnings {
            let _ = writeln!(text, "{name}: warning: {warning}");
        }
    }
}

async fn identity(State(admin): State<Admin>) -> Result<Json<Overview>, StatusCode> {
    let overview = admin.identity.as_ref().map(Identity::overview);
    overview.map(Json).ok_or(StatusCode::NOT_FOUND)
}

async fn metrics(State(admin): State<Admin>) -> ([(&'static str, &'static str); 1], String) {
    let mut page = Page::default();
    let load = admin.source.borrow().clone();
    let bad = load.errors().count() as u64;
    let files = [("ok", load.files.len() as u64 - bad), ("bad", bad)];
    page.many("source_files", "gauge", "state", files);
    let warnings = load
        .files
        .values()
        .map(|file| file.manifests.warnings.len() as u64);
    page.one("source_warnings", "gauge", warnings.sum());
    let duplicates = admin.duplicates.borrow().len() as u64;
    page.one("source_duplicates", "gauge", duplicates);
    page.one("source_listed", "gauge", u64::from(load.problem.is_none()));
    {
        let cluster = admin.cluster.read();
        let services = cluster.services().count() as u64;
        let sizes = [
            ("service", services),
            ("pod", cluster.pods().count() as u64),
        ];
        page.many("index_objects", "gauge", "kind", sizes);
    }
    page.many("index_questions", "gauge", "kind", (admin.questions)());
    admin.metrics.write(&mut page);
    if let Some(identity) = &admin.identity {
        identity.write(&mut page);
    }
    if let Some(bytes) = resident_memory() {
        page.one("process_resident_memory_bytes", "gauge", bytes);
    }
    ([("content-type", "text/plain; version=0.0.4")], page.text())
}
