//! One file of manifests: text in, objects out, or the line and field that is wrong.
//!
//! Pure. A file is taken whole or not at all: half of what a user wrote is not what they meant.

use super::{
    ManifestError, Manifests,
    document::{self, Document},
};
use crate::object::{Namespace, Object, Pod, ReplicaSet, Service, Slice, Warnings};
use std::{fmt, sync::Arc};

/// Reads the manifests of one file: YAML documents, or JSON, which is YAML too.
///
/// Kinds that are not used are counted and passed over, and so are documents that are empty.
///
/// # Errors
/// On the first document that is not YAML, has no kind or name, or does not fit its kind.
pub fn parse(text: &str) -> Result<Manifests, ManifestError> {
    let mut manifests = Manifests::default();
    for document in document::documents(text) {
        manifests.take(&document?)?;
    }
    Ok(manifests)
}

impl Manifests {
    fn take(&mut self, from: &Document<'_>) -> Result<(), ManifestError> {
        let name = from.head.metadata.name.as_deref().unwrap_or_default();
        let mut warnings = Warnings::default();
        let w = &mut warnings;
        let object = match (from.head.api_version.as_str(), from.head.kind.as_str()) {
            ("v1", "Namespace") => Object::Namespace(Arc::new(Namespace::read(from.parse()?, w))),
            ("v1", "Service") => Object::Service(Arc::new(Service::read(from.parse()?, w))),
            ("v1", "Pod") => Object::Pod(Arc::new(Pod::read(from.parse()?, w))),
            ("apps/v1", "ReplicaSet") => {
                Object::ReplicaSet(Arc::new(ReplicaSet::read(from.parse()?)))
            }
            ("discovery.k8s.io/v1", "EndpointSlice") => match Slice::read(from.parse()?, w) {
                Some(slice) => Object::Slice(Arc::new(slice)),
                None => {
                    let problem = "no label kubernetes.io/service-name, so it is nobody's";
                    self.warn(&format!("EndpointSlice {name}"), problem);
                    return Ok(());
                }
            },
            (version, kind) => {
                tracing::debug!(version, kind, name, "object of a kind that is not used");
                self.unused += 1;
                return Ok(());
            }
        };
        if name.is_empty() {
            return Err(from.error("metadata.name", "missing; add it, such as `name: web`"));
        }
        for warning in warnings.0 {
            self.warn(&object.id(), &warning);
        }
        self.objects.push(object);
        Ok(())
    }

    fn warn(&mut self, object: &dyn fmt::Display, problem: &str) {
        self.warnings.push(format!("{object}: {problem}"));
    }
}

#[cfg(test)]
mod tests;
