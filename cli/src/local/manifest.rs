//! Reads manifests into Kubernetes objects, and says exactly where one is wrong.
//!
//! `supervisor` calls `load` at the start and on every change, `plan` turns the objects into
//! processes. An error names file, line, field and the fix, and all errors come together. What a
//! local mesh has no use for is a warning. Nothing is started or written here.

mod document;

use crate::parts;
use document::Document;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// The most manifest text read at once: far beyond any application, and it bounds memory.
const MAX_TOTAL_BYTES: u64 = 16 * 1024 * 1024;

/// Where manifests come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// Files and directories, watched while the mesh runs.
    Paths(Vec<PathBuf>),
    /// Text that is part of this program, with the name its errors give.
    Embedded { name: &'static str, text: String },
}

/// The objects of all manifests, each with its namespace filled in.
#[derive(Debug, Default)]
pub(crate) struct Manifests {
    pub(crate) deployments: Vec<Deployment>,
    pub(crate) stateful_sets: Vec<StatefulSet>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) services: Vec<Service>,
    pub(crate) config_maps: Vec<ConfigMap>,
    pub(crate) secrets: Vec<Secret>,
    /// What the controller reads besides generated pods, as it is to be written.
    pub(crate) copies: Vec<serde_json::Value>,
    pub(crate) warnings: Vec<String>,
}

/// One mistake in a manifest.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{file}{}: {message}", Line(*line))]
pub(crate) struct ManifestError {
    pub(crate) file: String,
    /// 1-based; 0 when the whole file is meant.
    pub(crate) line: usize,
    /// Lower case, with field and fix.
    pub(crate) message: String,
}

/// All mistakes found, one a line.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n       "))]
pub(crate) struct ManifestErrors(pub(crate) Vec<ManifestError>);

/// Reads and checks everything `source` names.
pub(crate) fn load(source: &Source) -> Result<Manifests, ManifestErrors> {
    let texts = match source {
        Source::Embedded { name, text } => vec![(name.to_string(), text.clone())],
        Source::Paths(paths) => read_all(paths).map_err(|error| ManifestErrors(vec![error]))?,
    };
    let mut manifests = Manifests::default();
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for (file, text) in &texts {
        for document in document::split(file, text) {
            let added = document.and_then(|document| manifests.add(&document, &mut seen));
            errors.extend(added.err());
        }
    }
    if errors.is_empty() && manifests.is_empty() {
        let message = "no Deployment, StatefulSet or Pod found; give manifests that define one";
        errors.push(whole_file(&names(source), message));
    }
    if errors.is_empty() {
        Ok(manifests)
    } else {
        Err(ManifestErrors(errors))
    }
}

/// The files `paths` stand for: themselves, or the manifests directly in a directory, by name.
pub(crate) fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, ManifestError> {
    let mut files = Vec::new();
    for path in paths {
        let name = path.display().to_string();
        let unreadable = |error| whole_file(&name, &format!("cannot be read: {error}"));
        if !std::fs::metadata(path).map_err(unreadable)?.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?.path();
            if is_manifest(&entry) && !entry.is_dir() {
                found.push(entry);
            }
        }
        if found.is_empty() {
            return Err(whole_file(&name, "has no *.yaml, *.yml or *.json file"));
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// The same paths for whoever works elsewhere.
pub(crate) fn absolute(paths: &[PathBuf]) -> Vec<PathBuf> {
    let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
    paths.iter().map(absolute).collect()
}

/// Whether a directory entry counts as a manifest.
pub(crate) fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().map(OsStr::to_string_lossy);
    name.is_some_and(|name| parts::is_manifest(&name))
}

// === impl Source ===

fn names(source: &Source) -> String {
    match source {
        Source::Embedded { name, .. } => name.to_string(),
        Source::Paths(paths) => paths
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn read_all(paths: &[PathBuf]) -> Result<Vec<(String, String)>, ManifestError> {
    let mut left = MAX_TOTAL_BYTES;
    let mut texts = Vec::new();
    for path in files(paths)? {
        let name = path.display().to_string();
        let text = read(&path, &mut left);
        let text = text.map_err(|error| whole_file(&name, &format!("cannot be read: {error}")))?;
        texts.push((name, text));
    }
    Ok(texts)
}

fn read(path: &Path, left: &mut u64) -> io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    // A pipe would be empty the second time, and may keep its reader waiting for ever.
    if !metadata.is_file() {
        let message = "not a file; write the manifests to one, which is then watched";
        return Err(io::Error::other(message));
    }
    // A disk that is full, or a tool that died, leaves such files: they must not stop what runs.
    if metadata.len() == 0 {
        let message = "empty; write the manifests, remove the file, or leave a comment in it";
        return Err(io::Error::other(message));
    }
    let rest = left.checked_sub(metadata.len());
    *left = rest.ok_or_else(|| io::Error::other("manifests are larger than 16 MiB together"))?;
    std::fs::read_to_string(path)
}

fn whole_file(file: &str, message: &str) -> ManifestError {
    ManifestError {
        file: file.to_string(),
        line: 0,
        message: message.to_string(),
    }
}

// === impl Manifests ===

impl Manifests {
    fn is_empty(&self) -> bool {
        self.deployments.is_empty() && self.stateful_sets.is_empty() && self.pods.is_empty()
    }

    fn add(
        &mut self,
        document: &Document<'_>,
        seen: &mut BTreeSet<String>,
    ) -> Result<(), ManifestError> {
        let header = document.header()?;
        if !seen.insert(header.to_string()) {
            let message = format!("{header} is defined twice; remove one or rename it");
            return Err(document.error("metadata.name", &message));
        }
        let warnings = &mut self.warnings;
        match (header.api_version.as_str(), header.kind.as_str()) {
            ("apps/v1", "Deployment") => self.deployments.push(typed(document, warnings)?),
            ("apps/v1", "StatefulSet") => self.stateful_sets.push(typed(document, warnings)?),
            ("v1", "Pod") => self.pods.push(typed(document, warnings)?),
            ("v1", "ConfigMap") => self.config_maps.push(typed(document, warnings)?),
            ("v1", "Secret") => self.secrets.push(typed(document, warnings)?),
            ("v1", "Service") => {
                let service: Service = typed(document, warnings)?;
                self.copies.push(document::to_value(&service));
                self.services.push(service);
            }
            ("v1", "Namespace" | "ServiceAccount") | ("discovery.k8s.io/v1", "EndpointSlice") => {
                let copy = document.value(&header)?;
                self.copies.push(copy);
            }
            (api_version, kind) => {
                let reason = unused(api_version, kind);
                self.warnings
                    .push(format!("{header} ({}): {reason}", document.position()));
            }
        }
        Ok(())
    }
}

fn typed<T>(document: &Document<'_>, warnings: &mut Vec<String>) -> Result<T, ManifestError>
where
    T: serde::de::DeserializeOwned + serde::Serialize + k8s_openapi::Metadata<Ty = document::Meta>,
{
    let (object, unknown) = document.typed()?;
    warnings.extend(unknown);
    Ok(object)
}

fn unused(api_version: &str, kind: &str) -> String {
    match api_version.split('/').next().unwrap_or_default() {
        "gateway.networking.k8s.io" | "policy.linkerd.io" => {
            "routes and policies are not applied by a local mesh yet".to_string()
        }
        "apps" | "batch" => format!(
            "a {kind} is not run by a local mesh; use a Deployment, StatefulSet or Pod of apiVersion \
             apps/v1 or v1"
        ),
        _ => "has no meaning for processes on one machine and is ignored".to_string(),
    }
}

/// Prints `:LINE`, or nothing for a whole file.
struct Line(usize);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            Ok(())
        } else {
            write!(f, ":{}", self.0)
        }
    }
}

#[cfg(test)]
mod tests;
