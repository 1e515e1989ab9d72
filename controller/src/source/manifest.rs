//! One file of manifests: text in, objects out, or the line and field that is wrong.
//!
//! Pure. A file is taken whole or not at all: half of what a user wrote is not what they meant. What
//! has no effect, though it looks as if it had, is a warning.

use super::{
    ManifestError, Manifests,
    document::{self, Document},
};
use crate::object::{Namespace, Object, Pod, ReplicaSet, Service, Slice, Warnings};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;

/// More of one file are not kept.
const MAX_WARNINGS: usize = 100;

/// What is used, by version and kind.
const KINDS: [(&str, &str); 5] = [
    ("v1", "Namespace"),
    ("v1", "Service"),
    ("v1", "Pod"),
    ("apps/v1", "ReplicaSet"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
];

/// Reads the manifests of one file: YAML documents, or JSON, which is YAML too.
///
/// Kinds that are not used are counted and passed over, and so are documents that are empty.
///
/// # Errors
/// On the first document that is not YAML, has no version, kind or name, or does not fit its kind.
pub fn parse(text: &str) -> Result<Manifests, ManifestError> {
    let mut manifests = Manifests::default();
    for document in document::documents(text) {
        manifests.take(&document?)?;
    }
    Ok(manifests)
}

impl Manifests {
    fn take(&mut self, from: &Document<'_>) -> Result<(), ManifestError> {
        from.check_version()?;
        let mut warnings = Warnings::default();
        let w = &mut warnings;
        let object = match (from.head.api_version.as_str(), from.head.kind.as_str()) {
            ("v1", "Namespace") => {
                Object::Namespace(Arc::new(Namespace::read(self.read(from)?, w)))
            }
            ("v1", "Service") => Object::Service(Arc::new(Service::read(self.read(from)?, w))),
            ("v1", "Pod") => Object::Pod(Arc::new(Pod::read(self.read(from)?, w))),
            ("apps/v1", "ReplicaSet") => {
                Object::ReplicaSet(Arc::new(ReplicaSet::read(self.read(from)?)))
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => match Slice::read(self.read(from)?, w) {
                Some(slice) => Object::Slice(Arc::new(slice)),
                None => {
                    self.warn(
                        from,
                        "no label kubernetes.io/service-name, so it is nobody's",
                    );
                    return Ok(());
                }
            },
            _ => return self.pass_over(from),
        };
        for warning in warnings.0 {
            self.warn(from, &warning);
        }
        self.objects.push(object);
        self.lines.push(from.line("kind"));
        Ok(())
    }

    fn read<T: DeserializeOwned + Serialize>(
        &mut self,
        from: &Document<'_>,
    ) -> Result<T, ManifestError> {
        let (object, unknown) = from.parse_all()?;
        from.check_names()?;
        for field in unknown {
            self.warn(from, &field.to_string());
        }
        Ok(object)
    }

    fn pass_over(&mut self, from: &Document<'_>) -> Result<(), ManifestError> {
        let (version, kind) = (&*from.head.api_version, &*from.head.kind);
        let meant = |(v, k): &&(&str, &str)| *v == version && k.eq_ignore_ascii_case(kind);
        if let Some((_, meant)) = KINDS.iter().find(meant) {
            return Err(from.error("kind", format!("{kind} is no kind; write `kind: {meant}`")));
        }
        if let Some(loss) = not_acted_on(version, kind) {
            let line = from.line("kind");
            self.warn(from, &format!("line {line}: not acted on yet: {loss}"));
        }
        self.unused += 1;
        Ok(())
    }

    fn warn(&mut self, from: &Document<'_>, problem: &str) {
        let (kind, meta) = (&from.head.kind, &from.head.metadata);
        let name = meta.name.as_deref().unwrap_or_default();
        let namespace = meta.namespace.as_deref().filter(|name| !name.is_empty());
        let warning = match (&**kind, namespace) {
            ("Namespace", _) => format!("{kind} {name}: {problem}"),
            (_, namespace) => {
                let namespace = namespace.unwrap_or("default");
                format!("{kind} {namespace}/{name}: {problem}")
            }
        };
        match self.warnings.len() {
            ..MAX_WARNINGS => self.warnings.push(warning),
            MAX_WARNINGS => self.warnings.push("there are more warnings".to_owned()),
            _ => {}
        }
    }
}

/// What is lost with an object that users rely on to rule traffic, and that is passed over.
fn not_acted_on(version: &str, kind: &str) -> Option<&'static str> {
    let group = version.split_once('/').map_or("", |(group, _)| group);
    let route = kind.ends_with("Route") || kind == "ServiceProfile";
    match group {
        "policy.linkerd.io" | "gateway.networking.k8s.io" | "linkerd.io" if route => {
            Some("traffic goes as if it were not there")
        }
        "policy.linkerd.io" => Some("what it would deny or limit is allowed"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
