//! Label selectors, as `kubectl -l` takes them; those with sets (`in`, `notin`) are refused.
//!
//! Pure; `identity` selects pods with it.

use std::collections::BTreeMap;

/// Labels have to meet all of these.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Selector(Vec<Requirement>);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Requirement {
    Is(String, String),
    IsNot(String, String),
    Exists(String),
    Lacks(String),
}

/// The text is not a selector.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no selector; take KEY=VALUE, KEY!=VALUE, KEY or !KEY, separated by commas")]
pub(crate) struct SelectorError(String);

impl Selector {
    pub(crate) fn parse(text: &str) -> Result<Self, SelectorError> {
        let parts = text.split(',').map(str::trim);
        let requirements: Option<Vec<_>> = parts.map(Requirement::parse).collect();
        requirements
            .map(Self)
            .ok_or_else(|| SelectorError(text.to_string()))
    }

    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| requirement.is_met(labels))
    }
}

impl Requirement {
    fn parse(text: &str) -> Option<Self> {
        let pair = |key: &str, value: &str| Some((word(key)?, value_of(value)?));
        if let Some((key, value)) = text.split_once("!=") {
            return pair(key, value).map(|(key, value)| Self::IsNot(key, value));
        }
        if let Some((key, value)) = text.split_once('=') {
            let value = value.strip_prefix('=').unwrap_or(value);
            return pair(key, value).map(|(key, value)| Self::Is(key, value));
        }
        match text.strip_prefix('!') {
            Some(key) => word(key).map(Self::Lacks),
            None => word(text).map(Self::Exists),
        }
    }

    fn is_met(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Is(key, value) => labels.get(key) == Some(value),
            // As Kubernetes has it, also true of what lacks the label.
            Self::IsNot(key, value) => labels.get(key) != Some(value),
            Self::Exists(key) => labels.contains_key(key),
            Self::Lacks(key) => !labels.contains_key(key),
        }
    }
}

/// A key, which may have a domain before it.
fn word(text: &str) -> Option<String> {
    let text = text.trim();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    (!text.is_empty() && text.chars().all(allowed)).then(|| text.to_string())
}

/// A value, which may be empty.
fn value_of(text: &str) -> Option<String> {
    match text.trim() {
        "" => Some(String::new()),
        text => word(text).filter(|word| !word.contains('/')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_selected_as_by_kubectl() {
        let labels = [("app", "web"), ("tier", "front")];
        let labels = labels.map(|(k, v)| (k.to_string(), v.to_string())).into();
        for (text, matches) in [
            ("app=web", true),
            ("app==web,tier=front", true),
            ("app=web,tier!=front", false),
            ("app!=api", true),
            ("missing!=x", true),
            ("app, !missing", true),
            ("!app", false),
            ("missing", false),
            ("app=", false),
            ("linkerd.io/x=y", false),
        ] {
            assert_eq!(
                Selector::parse(text).unwrap().matches(&labels),
                matches,
                "{text}"
            );
        }
        for bad in [
            "",
            "app=web,",
            "app in (web)",
            "=web",
            "!",
            "a=b=c",
            "a=b/c",
        ] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
    }
}
