//! Verdicts, and how they are printed: in the formats of `linkerd check`.
//!
//! Made by `rules`. Symbols are the same on a terminal and off it, as scripts look for them.

use crate::args::CheckOutput;
use crate::out;
use serde::Serialize;
use std::fmt::Write;

/// All verdicts of one round.
#[derive(Debug, Default)]
pub(super) struct Report {
    categories: Vec<Category>,
}

/// Checks that belong together.
#[derive(Debug)]
pub(super) struct Category {
    name: &'static str,
    checks: Vec<Check>,
}

/// One verdict.
#[derive(Debug)]
struct Check {
    description: &'static str,
    problem: Option<Problem>,
}

/// What is not in order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Problem {
    severity: Severity,
    error: String,
    /// What to do next.
    hint: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Severity {
    Warning,
    Error,
}

// === impl Report ===

impl Report {
    /// Adds a category, to be filled.
    pub(super) fn category(&mut self, name: &'static str) -> &mut Category {
        let checks = Vec::new();
        self.categories.push(Category { name, checks });
        let last = self.categories.len() - 1;
        &mut self.categories[last]
    }

    /// Whether nothing failed; warnings are allowed.
    pub(super) fn success(&self) -> bool {
        let checks = self.categories.iter().flat_map(|it| &it.checks);
        let mut problems = checks.filter_map(|check| check.problem.as_ref());
        !problems.any(|problem| problem.severity == Severity::Error)
    }

    pub(super) fn print(&self, output: CheckOutput) -> anyhow::Result<()> {
        match output {
            CheckOutput::Table => out::print(&self.text(|_| true)),
            CheckOutput::Short => out::print(&self.text(|check| check.problem.is_some())),
            CheckOutput::Json => out::print_json(&self.json()),
        }
    }

    /// The checks that are `shown`, and the status of all.
    fn text(&self, shown: impl Fn(&Check) -> bool) -> String {
        let mut text = String::new();
        for category in &self.categories {
            let checks: Vec<_> = category.checks.iter().filter(|it| shown(it)).collect();
            if checks.is_empty() {
                continue;
            }
            let rule = "-".repeat(category.name.len());
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{}\n{rule}", category.name);
            checks.iter().for_each(|check| text.push_str(&check.text()));
            text.push('\n');
        }
        let status = if self.success() { OK } else { FAILED };
        text + &format!("Status check results are {status}\n")
    }

    fn json(&self) -> Json<'_> {
        let check = |check: &'_ Check| -> JsonCheck<'_> {
            let problem = check.problem.as_ref();
            JsonCheck {
                description: check.description,
                hint: problem.map(|problem| problem.hint.clone()),
                error: problem.map(|problem| problem.error.clone()),
                result: match problem.map(|problem| problem.severity) {
                    None => "success",
                    Some(Severity::Warning) => "warning",
                    Some(Severity::Error) => "error",
                },
            }
        };
        let categories = self.categories.iter().map(|category| JsonCategory {
            name: category.name,
            checks: category.checks.iter().map(check).collect(),
        });
        Json {
            success: self.success(),
            categories: categories.collect(),
        }
    }
}

const OK: &str = "√";
const WARNING: &str = "‼";
const FAILED: &str = "×";

// === impl Category ===

impl Category {
    /// Adds a verdict.
    pub(super) fn add(&mut self, description: &'static str, outcome: Result<(), Problem>) {
        self.checks.push(Check {
            description,
            problem: outcome.err(),
        });
    }
}

// === impl Check ===

impl Check {
    fn text(&self) -> String {
        let Some(problem) = &self.problem else {
            return format!("{OK} {}\n", self.description);
        };
        let symbol = match problem.severity {
            Severity::Warning => WARNING,
            Severity::Error => FAILED,
        };
        let mut text = format!("{symbol} {}\n", self.description);
        for line in problem.error.lines() {
            text.push_str(&format!("    {line}\n"));
        }
        text + &format!("    see: {}\n", problem.hint)
    }
}

// === impl Problem ===

impl Problem {
    /// The mesh does not work, or not safely.
    pub(super) fn error(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            error: error.into(),
            hint: hint.into(),
        }
    }

    /// It works, and will not for ever.
    pub(super) fn warning(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(error, hint)
        }
    }
}

#[derive(Serialize)]
struct Json<'a> {
    success: bool,
    categories: Vec<JsonCategory<'a>>,
}

#[derive(Serialize)]
struct JsonCategory<'a> {
    #[serde(rename = "categoryName")]
    name: &'a str,
    checks: Vec<JsonCheck<'a>>,
}

#[derive(Serialize)]
struct JsonCheck<'a> {
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    result: &'static str,
}

/// For the tests of rules.
#[cfg(test)]
impl Report {
    /// What is not in order, each with its symbol: `× clock: error`.
    pub(super) fn problems(&self) -> Vec<String> {
        let checks = self.categories.iter().flat_map(|it| &it.checks);
        let problems = checks.filter(|check| check.problem.is_some());
        let lines = problems.map(|check| {
            let text = check.text();
            let mut lines = text.lines();
            let first = lines.next().unwrap_or_default();
            format!("{first}: {}", lines.next().unwrap_or_default().trim())
        });
        lines.collect()
    }

    pub(super) fn descriptions(&self) -> Vec<&'static str> {
        let checks = self.categories.iter().flat_map(|it| &it.checks);
        checks.map(|check| check.description).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.category("one").add("this", Ok(()));
        let two = report.category("two");
        two.add("that", Err(Problem::warning("soon", "do it")));
        two.add("other", Err(Problem::error("a\nb", "do that")));
        report
    }

    #[test]
    fn checks_look_as_in_linkerd() {
        let text = "\
one
---
√ this

two
---
‼ that
    soon
    see: do it
× other
    a
    b
    see: do that

Status check results are ×
";
        assert_eq!(report().text(|_| true), text);
        let short = report().text(|check| check.problem.is_some());
        assert_eq!(short, text.split_once("\n\n").unwrap().1);
    }

    #[test]
    fn only_errors_fail() {
        assert!(!report().success());
        let mut warned = Report::default();
        warned
            .category("c")
            .add("x", Err(Problem::warning("w", "h")));
        assert!(warned.success());
        assert!(
            warned
                .text(|_| true)
                .ends_with("Status check results are √\n")
        );
        let empty = Report::default().text(|check| check.problem.is_some());
        assert_eq!(empty, "Status check results are √\n");
    }

    #[test]
    fn json_has_linkerds_fields() {
        let json = serde_json::to_value(report().json()).unwrap();
        assert_eq!(json["success"], false);
        assert_eq!(json["categories"][0]["categoryName"], "one");
        let fine = serde_json::json!({"description": "this", "result": "success"});
        assert_eq!(json["categories"][0]["checks"][0], fine);
        let bad = &json["categories"][1]["checks"][1];
        let (result, hint) = (&bad["result"], &bad["hint"]);
        assert_eq!((result, hint), (&"error".into(), &"do that".into()));
    }
}
