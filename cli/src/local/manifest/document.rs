//! One YAML document of a manifest: where it starts, whose it is, and its typed object.
//!
//! `manifest` splits files here. Positions are lines of the file, fields are dotted paths found
//! from the indentation around a line, since the YAML reader reports positions only.

use super::ManifestError;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;

pub(super) type Meta = ObjectMeta;

/// A document's text within its file.
#[derive(Debug)]
pub(super) struct Document<'a> {
    file: &'a str,
    /// Lines of the file before this document's first.
    offset: usize,
    text: &'a str,
}

/// What every Kubernetes object says of itself.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) api_version: String,
    pub(super) kind: String,
    pub(super) namespace: Option<String>,
    pub(super) name: String,
}

/// Cuts a file at its `---` lines.
pub(super) fn split<'a>(file: &'a str, text: &'a str) -> Vec<Document<'a>> {
    let mut documents = Vec::new();
    let (mut start, mut position, mut offset) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if line.trim_end() == "---" || line.starts_with("--- ") {
            documents.push(Document {
                file,
                offset,
                text: &text[start..position],
            });
            // A comment may follow the marker; anything else on that line is content.
            start = if line.trim_end() == "---" {
                position + line.len()
            } else {
                position + 3
            };
            offset = if line.trim_end() == "---" {
                number + 1
            } else {
                number
            };
        }
        position += line.len();
    }
    documents.push(Document {
        file,
        offset,
        text: &text[start..],
    });
    documents
}

/// The JSON of an object of ours; what k8s-openapi types hold can always be written.
pub(super) fn to_value<T: serde::Serialize>(object: &T) -> Value {
    serde_json::to_value(object).unwrap_or_default()
}

// === impl Document ===

impl Document<'_> {
    /// Who the document is about; `None` for one without content.
    pub(super) fn header(&self) -> Result<Option<Header>, ManifestError> {
        let value: Value = self.parse()?;
        let object = match &value {
            Value::Null => return Ok(None),
            Value::Object(object) => object,
            _ => return Err(self.error("", "is not a Kubernetes object; expected a mapping")),
        };
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_string);
        let required = |field: &str, value: Option<String>, example: &str| {
            let message = format!("{field} is missing; add it, such as {example}");
            value
                .filter(|value| !value.is_empty())
                .ok_or_else(|| self.error(field, &message))
        };
        let metadata = object.get("metadata");
        let field = |name| text(metadata.and_then(|metadata| metadata.get(name)));
        let kind = required("kind", text(object.get("kind")), "`kind: Deployment`")?;
        if kind == "List" {
            let message = "a List is not read; put each of its items into a document of its own";
            return Err(self.error("kind", message));
        }
        let name = required("metadata.name", field("name"), "`name: web`")?;
        if !is_dns_name(&name) {
            let message = format!("metadata.name {name:?} is no name; use a-z, 0-9, - and .");
            return Err(self.error("metadata.name", &message));
        }
        let namespace = field("namespace");
        if let Some(namespace) = namespace.as_ref().filter(|name| !is_dns_name(name)) {
            let message =
                format!("metadata.namespace {namespace:?} is no name; use a-z, 0-9 and -");
            return Err(self.error("metadata.namespace", &message));
        }
        let api_version = text(object.get("apiVersion"));
        Ok(Some(Header {
            api_version: required("apiVersion", api_version, "`apiVersion: apps/v1`")?,
            namespace: (kind != "Namespace").then(|| namespace.unwrap_or("default".into())),
            kind,
            name,
        }))
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

    /// A mistake at `field`, or at the document's start when the field is not there.
    pub(super) fn error(&self, field: &str, message: &str) -> ManifestError {
        ManifestError {
            file: self.file.to_string(),
            line: self.line_of(field),
            message: message.to_string(),
        }
    }

    /// `FILE:LINE` of the document's start.
    pub(super) fn position(&self) -> String {
        format!("{}:{}", self.file, self.line_of("kind"))
    }

    fn unknown_field(&self, path: &str) -> String {
        let line = self.line_of(path);
        format!(
            "{}:{line}: {path} is no field of this kind and is ignored; check its spelling",
            self.file
        )
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, ManifestError> {
        // Kubernetes reads 0644 as octal; snippets would break the message into several lines.
        let options = serde_saphyr::options! { legacy_octal_numbers: true, with_snippet: false };
        serde_saphyr::from_str_with_options(self.text, options).map_err(|error| {
            let location = error.location();
            let line = location
                .map_or(1, |location| location.line() as usize)
                .max(1);
            let field = field_at(self.text, line);
            let problem = problem(&error.without_snippet().to_string());
            let at = if field.is_empty() {
                String::new()
            } else {
                format!("{field}: ")
            };
            let written = self.text.lines().nth(line - 1).unwrap_or_default().trim();
            ManifestError {
                file: self.file.to_string(),
                line: self.offset + line,
                message: format!("{at}{problem}; correct `{written}`"),
            }
        })
    }

    /// The line of a dotted path, of its closest existing parent, else of the first content.
    fn line_of(&self, path: &str) -> usize {
        let lines = || self.text.lines().enumerate();
        let plain = path
            .split('.')
            .map(|key| key.split('[').next().unwrap_or(key));
        let wanted = plain.collect::<Vec<_>>().join(".");
        let mut candidates = lines().filter(|(_, line)| key_of(line).is_some());
        let found = candidates.find(|(index, _)| field_at(self.text, index + 1) == wanted);
        let content = |(_, line): &(usize, &str)| {
            !line.trim().is_empty() && !line.trim_start().starts_with('#')
        };
        let index = found
            .or_else(|| lines().find(content))
            .map_or(0, |(index, _)| index);
        self.offset + index + 1
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

/// A lower-case DNS subdomain of at most 253 bytes (RFC 1123).
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// The dotted path of the field on a line (1-based), from the indentation above it.
fn field_at(text: &str, line: usize) -> String {
    let mut keys = Vec::new();
    let mut limit = usize::MAX;
    for line in text
        .lines()
        .take(line)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
    {
        let Some((indent, key)) = key_of(line) else {
            continue;
        };
        if indent < limit {
            keys.push(key);
            // A list's items may stand as deep as the key they belong to.
            limit = if line.trim_start().starts_with("- ") {
                indent - 1
            } else {
                indent
            };
        }
    }
    keys.reverse();
    keys.join(".")
}

/// The key on a line and the column it stands in, counting the marks of list items before it.
fn key_of(line: &str) -> Option<(usize, &str)> {
    let mut rest = line.trim_start();
    while let Some(item) = rest.strip_prefix("- ") {
        rest = item.trim_start();
    }
    let indent = line.len() - rest.len();
    let (key, after) = rest.split_once(':')?;
    let plain =
        !key.is_empty() && !key.starts_with('#') && (after.is_empty() || after.starts_with(' '));
    plain.then(|| (indent, key.trim_matches(['"', '\''])))
}

/// The reader's message in words for people, and without the position it may end with: ours
/// counts from the file's start.
fn problem(message: &str) -> String {
    let first = message.lines().next().unwrap_or(message);
    let end = first.find(" at line ").unwrap_or(first.len());
    match first[..end].trim_end_matches([':', ',']) {
        "invalid i32" | "invalid i64" | "invalid u16" => "not a whole number".to_string(),
        other => other.to_string(),
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
