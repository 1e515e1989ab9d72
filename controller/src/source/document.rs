//! The objects of a manifest file as texts: cut apart, and each still knowing where it stood.
//!
//! Pure. The controller's [`manifest`](super::manifest) and `meshctl local` read files through it, so
//! that both take the same files and report a mistake alike. A list, as `kubectl get -o yaml` writes
//! it, counts as its items, each as if it stood in a document of its own. What an object means is for
//! the reader to say.

use super::{field, unknown};
use crate::identity::name::{is_domain, is_label};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use serde_saphyr::{Location, Spanned};
use std::{borrow::Cow, fmt};

/// What is wrong with a file, or with one object of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ManifestError {
    /// From 1; `None` when it is about the whole file.
    pub line: Option<usize>,
    /// For example `spec.ports[0].port`.
    pub field: Option<String>,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// One object of a file, not read yet.
#[derive(Debug)]
pub struct Document<'a> {
    /// What it is.
    pub head: Head,
    excerpt: Excerpt<'a>,
}

/// What every object says of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// Empty if it is missing, as are the others.
    #[serde(default)]
    pub api_version: String,
    /// Never empty in a [`Document`].
    #[serde(default)]
    pub kind: String,
    /// Whose it is.
    #[serde(default)]
    pub metadata: HeadMeta,
}

/// Namespace and name.
#[derive(Debug, Default, Deserialize)]
pub struct HeadMeta {
    /// Unique in its namespace and kind.
    pub name: Option<String>,
    /// `None`: the default one, or none.
    pub namespace: Option<String>,
}

/// The objects of a file of YAML documents, or of JSON, which is YAML too. Empty documents are passed
/// over. Something that cannot be read does not keep others from being read.
pub fn documents(text: &str) -> impl Iterator<Item = Result<Document<'_>, ManifestError>> {
    split(text).flat_map(|excerpt| {
        let mut documents = Vec::new();
        excerpt.flatten(&mut documents);
        documents
    })
}

// === impl Document ===

impl Document<'_> {
    /// Reads the object.
    ///
    /// # Errors
    /// When it does not fit `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, ManifestError> {
        self.excerpt.parse()
    }

    /// Reads the object, and tells of each field that it does not have.
    ///
    /// # Errors
    /// When it does not fit `T`.
    pub fn parse_all<T>(&self) -> Result<(T, Vec<ManifestError>), ManifestError>
    where
        T: DeserializeOwned + Serialize,
    {
        let written: Value = self.parse()?;
        // Text is read once; what only YAML takes, as a number for a label, is read from it again.
        let object = T::deserialize(&written).or_else(|_| self.parse())?;
        // What was read can be written.
        let understood = serde_json::to_value(&object).unwrap_or_default();
        let unknown = unknown::fields(&written, &understood);
        let problem = "is no field of this kind and is ignored; check its spelling";
        let unknown = unknown.iter().map(|field| self.error(field, problem));
        let unknown = unknown.collect();
        Ok((object, unknown))
    }

    /// That the version is given.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_version(&self) -> Result<(), ManifestError> {
        if self.head.api_version.is_empty() {
            return Err(self.missing("apiVersion", "apiVersion: apps/v1"));
        }
        Ok(())
    }

    /// That name and namespace are such as Kubernetes takes for most kinds.
    ///
    /// # Errors
    /// When they are not.
    pub fn check_names(&self) -> Result<(), ManifestError> {
        let HeadMeta { name, namespace } = &self.head.metadata;
        let name = name.as_deref().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| self.missing("metadata.name", "name: web"))?;
        if !is_domain(name) {
            let problem = format!("{name:?} is no name; use a-z, 0-9, - and .");
            return Err(self.error("metadata.name", problem));
        }
        if let Some(namespace) = namespace.as_deref().filter(|name| !is_label(name)) {
            let problem = format!("{namespace:?} is no name; use a-z, 0-9 and -");
            return Err(self.error("metadata.namespace", problem));
        }
        Ok(())
    }

    fn missing(&self, field: &str, example: &str) -> ManifestError {
        self.error(field, format!("missing; add it, such as `{example}`"))
    }

    /// A mistake at `field`, or where it should be.
    pub fn error(&self, field: &str, problem: impl Into<String>) -> ManifestError {
        self.excerpt.error(field, problem.into())
    }

    /// The line of the file (from 1) on which `field` begins, or what encloses it.
    pub fn line(&self, field: &str) -> usize {
        self.excerpt.line(field)
    }
}

// === impl Head ===

impl Head {
    /// Lists have no names; a kind of somebody's that is merely called so has.
    fn is_list(&self) -> bool {
        self.kind == "List" || (self.kind.ends_with("List") && self.metadata.name.is_none())
    }
}

// === impl Excerpt ===

/// A text out of a file, which is one YAML document.
#[derive(Debug)]
struct Excerpt<'a> {
    text: Cow<'a, str>,
    /// How many lines of the file come before.
    lines_before: usize,
    /// In which item of a list it stands: `items[2].`; mostly empty.
    within: String,
}

#[derive(Deserialize)]
struct List {
    #[serde(default)]
    items: Vec<Spanned<Value>>,
}

/// The documents of a YAML stream. A line that opens with `---` ends a document wherever it
/// stands, even in a block of text, so no parser is needed to find it.
fn split(text: &str) -> impl Iterator<Item = Excerpt<'_>> {
    let mut rest = Some((text, 0));
    std::iter::from_fn(move || {
        let (text, lines_before) = rest?;
        let mut end = 0;
        rest = None;
        for (count, line) in text.split_inclusive('\n').enumerate() {
            let marker = line.trim_end();
            if marker == "---" || marker == "..." || marker.starts_with("--- ") {
                // What follows the marker on its line belongs to the next document.
                rest = Some((&text[end + 3..], lines_before + count));
                break;
            }
            end += line.len();
        }
        Some(Excerpt {
            text: text[..end].into(),
            lines_before,
            within: String::new(),
        })
    })
}

impl<'a> Excerpt<'a> {
    fn flatten(self, into: &mut Vec<Result<Document<'a>, ManifestError>>) {
        let head = match self.parse::<Option<Head>>() {
            Ok(Some(head)) => head,
            Ok(None) => return,
            Err(error) => return into.push(Err(error)),
        };
        if head.kind.is_empty() {
            let problem = "missing; add it, such as `kind: Service`";
            return into.push(Err(self.error("kind", problem.to_owned())));
        }
        if !head.is_list() {
            let excerpt = self;
            return into.push(Ok(Document { head, excerpt }));
        }
        match self.items() {
            Ok(items) => items.into_iter().for_each(|item| item.flatten(into)),
            Err(error) => into.push(Err(error)),
        }
    }

    fn items(&self) -> Result<Vec<Excerpt<'a>>, ManifestError> {
        let list: List = self.parse()?;
        let items = list.items.into_iter().enumerate();
        let items = items.map(|(index, item)| self.item(index, &item));
        Ok(items.collect())
    }

    fn item(&self, index: usize, item: &Spanned<Value>) -> Excerpt<'a> {
        let line = line_of(&item.referenced).unwrap_or(1);
        let as_written = cut(&self.text, &item.referenced);
        // What is cut by eye counts if it says the same; anchors and rare layouts do not survive.
        let same = |text: &String| yaml(text).is_ok_and(|value: Value| value == item.value);
        let text = as_written.filter(same);
        Excerpt {
            text: text.unwrap_or_else(|| item.value.to_string()).into(),
            lines_before: self.lines_before + line - 1,
            within: format!("{}items[{index}].", self.within),
        }
    }

    fn parse<T: DeserializeOwned>(&self) -> Result<T, ManifestError> {
        yaml(&self.text).map_err(|error| {
            let line = error.location().as_ref().and_then(line_of);
            let field = line.and_then(|line| field::path(&self.text, line));
            ManifestError {
                line: line.map(|line| self.lines_before + line),
                field: self.whole_path(field.as_deref().unwrap_or_default()),
                problem: self.problem(line, &error),
            }
        })
    }

    fn error(&self, field: &str, problem: String) -> ManifestError {
        ManifestError {
            line: Some(self.line(field)),
            field: self.whole_path(field),
            problem,
        }
    }

    fn line(&self, field: &str) -> usize {
        let content = |line: &str| !line.trim().is_empty() && !line.trim().starts_with('#');
        let line = field::line(&self.text, field);
        let line = line.or_else(|| Some(self.text.lines().position(content)? + 1));
        self.lines_before + line.unwrap_or(1)
    }

    fn whole_path(&self, field: &str) -> Option<String> {
        let path = format!("{}{field}", self.within);
        let path = path.trim_end_matches('.');
        (!path.is_empty()).then(|| path.to_owned())
    }

    /// The deserializer's message in words for people, and what it is about.
    fn problem(&self, line: Option<usize>, error: &serde_saphyr::Error) -> String {
        let message = error.without_snippet().to_string();
        let message = message.lines().next().unwrap_or_default();
        // It ends with a position that counts from where the excerpt begins.
        let end = message.find(" at line ").unwrap_or(message.len());
        let problem = match message[..end].trim_end_matches([':', ',']) {
            "invalid i32" | "invalid i64" | "invalid u16" => "not a whole number",
            "expected mapping start" => "expected a mapping of fields to values",
            other if other.contains("recursive reference") => {
                "an anchor (&) that contains its own alias (*); write out what it stands for"
            }
            "recursion limit exceeded" => "nested too deeply",
            other if other.contains(" breached: ") => {
                "too large or nested too deeply, once its aliases (*) are filled in; split the file, \
                 or write out what they stand for"
            }
            other => other,
        };
        let written = line.and_then(|line| self.text.lines().nth(line - 1));
        match written.map(str::trim) {
            Some(written) if written.len() <= MAX_QUOTE && !written.is_empty() => {
                format!("{problem}: `{written}`")
            }
            _ => problem.to_owned(),
        }
    }
}

/// Keys and values of one document.
const MAX_NODES: usize = 2_000_000;

/// Longer lines are not repeated in a message, in bytes.
const MAX_QUOTE: usize = 120;

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        // Kubernetes reads `0644` as octal, as YAML 1.1 has it.
        legacy_octal_numbers: true,
        with_snippet: false,
        // All of a cluster's pods are one list. Readers bound the size of files.
        budget: serde_saphyr::budget! { max_nodes: MAX_NODES, max_events: 2 * MAX_NODES },
    };
    serde_saphyr::from_str_with_options(text, options)
}

fn line_of(at: &Location) -> Option<usize> {
    usize::try_from(at.line()).ok().filter(|line| *line > 0)
}

/// The item of a list that begins at `start`, by its indentation; what stands before it on its line
/// is blank. `None` if that is more than the dash of a list.
fn cut(text: &str, start: &Location) -> Option<String> {
    let offset = usize::try_from(start.span().byte_offset()?).ok()?;
    let (before, from) = text.split_at_checked(offset)?;
    let before = &before[before.rfind('\n').map_or(0, |end| end + 1)..];
    if before.contains(|c| !matches!(c, ' ' | '-')) {
        return None;
    }
    let indent = before.len();
    let mut lines = from.split_inclusive('\n');
    let body = lines.next()?;
    let flow = body.starts_with('{');
    let mut item = format!("{:indent$}{body}", "");
    for line in lines {
        let content = line.trim_start_matches(' ');
        let depth = line.len() - content.len();
        let blank = content.trim().is_empty() || content.starts_with('#');
        let next = depth < indent || (flow && depth == indent && !content.starts_with('}'));
        if next && !blank {
            break;
        }
        item.push_str(line);
    }
    if flow {
        item.truncate(item.trim_end().trim_end_matches(',').len());
    }
    Some(item)
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
