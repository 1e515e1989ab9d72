//! One object of a manifest: whose it is, and its typed form.
//!
//! `manifest` reads files through here. They are cut into objects, and positions found, by the
//! controller's own reader, so that a local mesh takes what a controller takes.

use super::ManifestError;
use crate::parts::{document, is_domain, is_label};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;

pub(super) type Meta = ObjectMeta;

/// An object's text within its file.
#[derive(Debug)]
pub(super) struct Document<'a> {
    file: &'a str,
    text: document::Document<'a>,
}

/// What every Kubernetes object says of itself.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

/// The objects of a file; those in a list, too.
pub(super) fn split<'a>(
    file: &'a str,
    text: &'a str,
) -> impl Iterator<Item = Result<Document<'a>, ManifestError>> {
    document::documents(text).map(move |text| match text {
        Ok(text) => Ok(Document { file, text }),
        Err(error) => Err(located(file, error)),
    })
}

/// The JSON of an object of ours; what k8s-openapi types hold can always be written.
pub(super) fn to_value<T: serde::Serialize>(object: &T) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

fn located(file: &str, error: document::ManifestError) -> ManifestError {
    ManifestError {
        file: file.to_string(),
        line: error.line.unwrap_or(0),
        message: match error.field {
            Some(field) => format!("{field}: {}", error.problem),
            None => error.problem,
        },
    }
}

// === impl Document ===

impl Document<'_> {
    /// Who the document is about.
    pub(super) fn header(&self) -> Result<Header, ManifestError> {
        let document::Head {
            api_version,
            kind,
            metadata,
        } = &self.text.head;
        let name = metadata.name.clone().unwrap_or_default();
        if name.is_empty() {
            return Err(self.missing("metadata.name", "name: web"));
        }
        if !is_domain(&name) {
            let message = format!("{name:?} is no name; use a-z, 0-9, - and .");
            return Err(self.error("metadata.name", &message));
        }
        let namespace = metadata.namespace.clone();
        if let Some(namespace) = namespace.as_ref().filter(|name| !is_label(name)) {
            let message = format!("{namespace:?} is no name; use a-z, 0-9 and -");
            return Err(self.error("metadata.namespace", &message));
        }
        if api_version.is_empty() {
            return Err(self.missing("apiVersion", "apiVersion: apps/v1"));
        }
        Ok(Header {
            api_version: api_version.clone(),
            namespace: (kind != "Namespace").then(|| namespace.unwrap_or("default".into())),
            kind: kind.clone(),
            name,
        })
    }

    /// The object as its type, and a warning for each field the type does not have.
    pub(super) fn typed<T>(&self) -> Result<(T, Vec<String>), ManifestError>
    where
        T: DeserializeOwned + serde::Serialize + k8s_openapi::Metadata<Ty = ObjectMeta>,
    {
        let mut object: T = self.parse()?;
        let mut unknown = Vec::new();
        unknown_fields(&self.parse()?, &to_value(&object), "", &mut unknown);
        let warnings = unknown
            .iter()
            .map(|path| self.unknown_field(path))
            .collect();
        object
            .metadata_mut()
            .namespace
            .get_or_insert_with(|| "default".to_string());
        Ok((object, warnings))
    }

    /// The object as it was written, with its namespace.
    pub(super) fn value(&self, header: &Header) -> Result<Value, ManifestError> {
        let mut value: Value = self.parse()?;
        if let Some(namespace) = &header.namespace {
            value["metadata"]["namespace"] = Value::String(namespace.clone());
        }
        Ok(value)
    }

    /// A mistake at `field`, or where it should be.
    pub(super) fn error(&self, field: &str, message: &str) -> ManifestError {
        located(self.file, self.text.error(field, message))
    }

    /// `FILE:LINE` of the document's start.
    pub(super) fn position(&self) -> String {
        format!("{}:{}", self.file, self.text.line("kind"))
    }

    fn missing(&self, field: &str, example: &str) -> ManifestError {
        self.error(field, &format!("missing; add it, such as `{example}`"))
    }

    fn unknown_field(&self, path: &str) -> String {
        let line = self.text.line(path);
        format!(
            "{}:{line}: {path} is no field of this kind and is ignored; check its spelling",
            self.file
        )
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, ManifestError> {
        let parsed = self.text.parse();
        parsed.map_err(|error| located(self.file, error))
    }
}

// === impl Header ===

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// Paths in `written` that `understood` lost; nulls and empty values carry nothing to lose.
fn unknown_fields(written: &Value, understood: &Value, path: &str, out: &mut Vec<String>) {
    match (written, understood) {
        (Value::Object(written), Value::Object(understood)) => {
            for (key, value) in written {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                match understood.get(key) {
                    Some(understood) => unknown_fields(value, understood, &path, out),
                    None if is_empty(value) || path == "status" => {}
                    None => out.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(understood)) => {
            for (index, (value, understood)) in written.iter().zip(understood).enumerate() {
                unknown_fields(value, understood, &format!("{path}[{index}]"), out);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
