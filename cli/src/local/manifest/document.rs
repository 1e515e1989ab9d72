//! One object of a manifest: whose it is, and its typed form.
//!
//! `manifest` reads files through here. They are cut into objects, and positions found, by the
//! controller's own reader, so that a local mesh takes what a controller takes.

use super::ManifestError;
use crate::parts::document;
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
        let checked = self.text.check_names();
        let checked = checked.and_then(|()| self.text.check_version());
        checked.map_err(|error| located(self.file, error))?;
        let name = metadata.name.clone().unwrap_or_default();
        let namespace = metadata.namespace.clone();
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
        let read = self.text.parse_all();
        let (mut object, unknown): (T, _) = read.map_err(|error| located(self.file, error))?;
        let warnings = unknown.into_iter();
        let warnings = warnings.map(|field| located(self.file, field).to_string());
        let warnings = warnings.collect();
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
