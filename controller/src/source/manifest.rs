//! One file of manifests: text in, objects out, or the line and field that is wrong.
//!
//! Pure. A file is taken whole or not at all: half of what a user wrote is not what they meant.

use super::{Manifests, field};
use crate::object::{Namespace, Object, Pod, ReplicaSet, Service, Slice, Warnings};
use serde::{Deserialize, de::DeserializeOwned};
use std::{fmt, sync::Arc};

/// Why a file cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// From 1; `None` when it is about the whole file.
    pub line: Option<usize>,
    /// For example `spec.ports[0].port`.
    pub field: Option<String>,
    /// What is wrong.
    pub problem: String,
}

/// Reads the manifests of one file: YAML documents, or JSON, which is YAML too.
///
/// Kinds that are not used are counted and passed over, and so are documents that are empty.
///
/// # Errors
/// On the first document that is not YAML, has no kind or name, or does not fit its kind.
pub fn parse(text: &str) -> Result<Manifests, ManifestError> {
    let mut manifests = Manifests::default();
    for document in documents(text) {
        document.read(&mut manifests)?;
    }
    Ok(manifests)
}

/// The documents of a YAML stream. A line that opens with `---` ends a document wherever it
/// stands, even in a block of text, so no parser is needed to find it.
fn documents(text: &str) -> impl Iterator<Item = Document<'_>> {
    let mut rest = Some((text, 0));
    std::iter::from_fn(move || {
        let (text, first_line) = rest?;
        let mut end = 0;
        for (count, line) in text.split_inclusive('\n').enumerate() {
            let marker = line.trim_end();
            if marker == "---" || marker == "..." || marker.starts_with("--- ") {
                // What follows the marker on its line belongs to the next document.
                let next = &text[end + 3..];
                rest = Some((next, first_line + count));
                return Some(Document {
                    text: &text[..end],
                    first_line,
                });
            }
            end += line.len();
        }
        rest = None;
        Some(Document { text, first_line })
    })
}

struct Document<'a> {
    text: &'a str,
    /// How many lines of the file come before.
    first_line: usize,
}

/// What every object has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: HeadMeta,
}

#[derive(Default, Deserialize)]
struct HeadMeta {
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<serde_json::Value>,
}

impl Document<'_> {
    fn read(&self, manifests: &mut Manifests) -> Result<(), ManifestError> {
        let Some(head) = self.parse::<Option<Head>>()? else {
            return Ok(());
        };
        if head.kind.is_empty() {
            return Err(self.missing("kind"));
        }
        if head.kind == "List" || head.kind.ends_with("List") {
            return self.read_list(manifests);
        }
        let read = Reader {
            manifests,
            head: &head,
        };
        read.object(|| self.missing("metadata.name"), Parse::Document(self))
    }

    fn read_list(&self, manifests: &mut Manifests) -> Result<(), ManifestError> {
        let list: List = self.parse()?;
        for (i, item) in list.items.into_iter().enumerate() {
            let at = |problem: String| ManifestError {
                line: Some(self.first_line + 1),
                field: Some(format!("items[{i}]")),
                problem,
            };
            let head: Head = serde_json::from_value(item.clone()).map_err(|e| at(e.to_string()))?;
            let read = Reader {
                manifests,
                head: &head,
            };
            read.object(|| at("missing name".to_owned()), Parse::Item(item, &at))?;
        }
        Ok(())
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, ManifestError> {
        // Kubernetes reads `0644` as octal, as YAML 1.1 has it.
        let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
        serde_saphyr::from_str_with_options(self.text, options).map_err(|error| self.error(&error))
    }

    fn error(&self, error: &serde_saphyr::Error) -> ManifestError {
        let line = error
            .location()
            .and_then(|at| usize::try_from(at.line()).ok());
        let line = line.filter(|line| *line > 0);
        ManifestError {
            line: line.map(|line| self.first_line + line),
            field: line.and_then(|line| field::path(self.text, line)),
            problem: first_line(&error.to_string()),
        }
    }

    fn missing(&self, field: &str) -> ManifestError {
        let blank = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with('#');
        let skipped = self.text.lines().take_while(blank).count();
        ManifestError {
            line: Some(self.first_line + skipped + 1),
            field: Some(field.to_owned()),
            problem: format!("missing {field}"),
        }
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// Reads one object, from a document or from an item of a list.
struct Reader<'a> {
    manifests: &'a mut Manifests,
    head: &'a Head,
}

enum Parse<'a> {
    Document(&'a Document<'a>),
    Item(serde_json::Value, &'a dyn Fn(String) -> ManifestError),
}

impl Parse<'_> {
    fn parse<T: DeserializeOwned>(self) -> Result<T, ManifestError> {
        match self {
            Self::Document(document) => document.parse(),
            Self::Item(value, error) => {
                serde_json::from_value(value).map_err(|e| error(e.to_string()))
            }
        }
    }
}

impl Reader<'_> {
    fn object(
        self,
        nameless: impl FnOnce() -> ManifestError,
        from: Parse<'_>,
    ) -> Result<(), ManifestError> {
        let name = self.head.metadata.name.as_deref().unwrap_or_default();
        let mut warnings = Warnings::default();
        let w = &mut warnings;
        let object = match (self.head.api_version.as_str(), self.head.kind.as_str()) {
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
                    self.manifests
                        .warn(&format!("EndpointSlice {name}"), problem);
                    return Ok(());
                }
            },
            (version, kind) => {
                tracing::debug!(version, kind, name, "object of a kind that is not used");
                self.manifests.unused += 1;
                return Ok(());
            }
        };
        if name.is_empty() {
            return Err(nameless());
        }
        for warning in warnings.0 {
            self.manifests.warn(&object.id(), &warning);
        }
        self.manifests.objects.push(object);
        Ok(())
    }
}

impl Manifests {
    fn warn(&mut self, object: &dyn fmt::Display, problem: &str) {
        self.warnings.push(format!("{object}: {problem}"));
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        if let Some(field) = &self.field {
            write!(f, "{field}: ")?;
        }
        f.write_str(&self.problem)
    }
}

#[cfg(test)]
mod tests;
