//! The text format of Prometheus, as far as samples go. Strict, and safe on any input.
//!
//! Comments and types are skipped: which names are counters is known here. Time stamps are read
//! over. One malformed line refuses the page, because what follows cannot be trusted either.

use std::borrow::Cow;

/// One line of a page.
#[derive(Debug, PartialEq)]
pub(super) struct Sample<'p, 'l> {
    /// Name of the metric.
    pub(super) name: &'p str,
    /// Labels, in the order of the page.
    pub(super) labels: &'l [(&'p str, Cow<'p, str>)],
    /// Its value; may be infinite or not a number.
    pub(super) value: f64,
}

/// A line that is not a sample.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub(super) struct TextError {
    /// From 1.
    pub(super) line: usize,
    /// What is wrong.
    pub(super) problem: &'static str,
}

impl Sample<'_, '_> {
    /// A label's value.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let mut labels = self.labels.iter();
        labels
            .find(|(key, _)| *key == name)
            .map(|(_, value)| &**value)
    }
}

/// Calls `each` for every sample whose name is `wanted`; other lines are not looked into.
///
/// # Errors
/// At the first wanted line that is malformed.
pub(super) fn samples<'p>(
    page: &'p str,
    wanted: impl Fn(&str) -> bool,
    mut each: impl FnMut(&Sample<'p, '_>),
) -> Result<(), TextError> {
    let mut labels = Vec::new();
    for (index, line) in page.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let end = line.find(['{', ' ', '\t']).unwrap_or(line.len());
        let (name, rest) = line.split_at(end);
        if !wanted(name) {
            continue;
        }
        let error = |problem| TextError {
            line: index + 1,
            problem,
        };
        labels.clear();
        let rest = match rest.strip_prefix('{') {
            Some(rest) => self::labels(rest, &mut labels).map_err(error)?,
            None => rest,
        };
        let value = value(rest).ok_or_else(|| error("no value"))?;
        each(&Sample {
            name,
            labels: &labels,
            value,
        });
    }
    Ok(())
}

/// A value, and perhaps a time stamp.
fn value(rest: &str) -> Option<f64> {
    let mut words = rest.split_ascii_whitespace();
    // Rust reads `+Inf`, `-Inf` and `NaN` as Prometheus writes them.
    let value = words.next()?.parse().ok()?;
    let stamp = words
        .next()
        .is_none_or(|stamp| stamp.parse::<i64>().is_ok());
    (stamp && words.next().is_none()).then_some(value)
}

/// Reads up to the closing brace and returns what follows it.
fn labels<'p>(
    mut rest: &'p str,
    labels: &mut Vec<(&'p str, Cow<'p, str>)>,
) -> Result<&'p str, &'static str> {
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('}') {
            return Ok(after);
        }
        let (name, after) = rest.split_once('=').ok_or("a label without a value")?;
        let name = name.trim();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err("a label without a name");
        }
        let quoted = after.trim_start().strip_prefix('"');
        let (value, after) = quoted_value(quoted.ok_or("a label without quotes")?)?;
        labels.push((name, value));
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after,
            None if after.starts_with('}') => after,
            None => return Err("no comma between labels"),
        };
    }
}

/// Reads up to the closing quote; values without escapes are not copied.
fn quoted_value(rest: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let mut owned = String::new();
    let mut from = 0;
    let mut chars = rest.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => {
                let tail = &rest[from..at];
                let after = &rest[at + 1..];
                if owned.is_empty() {
                    return Ok((Cow::Borrowed(tail), after));
                }
                owned.push_str(tail);
                return Ok((Cow::Owned(owned), after));
            }
            '\\' => {
                owned.push_str(&rest[from..at]);
                let (at, escaped) = chars.next().ok_or("an escape of nothing")?;
                owned.push(match escaped {
                    'n' => '\n',
                    '"' | '\\' => escaped,
                    _ => return Err("an unknown escape"),
                });
                from = at + escaped.len_utf8();
            }
            _ => {}
        }
    }
    Err("a label without a closing quote")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name{k=v,..}=value` of every sample.
    fn read(page: &str) -> Result<Vec<String>, TextError> {
        let mut seen = Vec::new();
        samples(
            page,
            |name| name != "skipped",
            |sample| {
                let labels = sample.labels.iter().map(|(k, v)| format!("{k}={v}"));
                let labels: Vec<_> = labels.collect();
                seen.push(format!(
                    "{}{{{}}}={}",
                    sample.name,
                    labels.join(","),
                    sample.value
                ));
            },
        )?;
        Ok(seen)
    }

    #[test]
    fn samples_as_exporters_write_them() {
        let page = "\
# TYPE a counter
a 1

a{} 2
a{x=\"1\",y=\"\"} 3.5 1700000000000
a{ x = \"1\" , y = \"2\", } +Inf
skipped{not looked into
a{x=\"q\\\"b\\\\n\\n}\"}\t7
b NaN
";
        let want = [
            "a{}=1",
            "a{}=2",
            "a{x=1,y=}=3.5",
            "a{x=1,y=2}=inf",
            "a{x=q\"b\\n\n}}=7",
            "b{}=NaN",
        ];
        assert_eq!(read(page).expect("a page"), want);
        assert_eq!(read(""), Ok(vec![]));
    }

    #[test]
    fn malformed_lines_are_refused() {
        let bad = [
            "a",
            "a x",
            "a 1 2 3",
            "a 1 x",
            "a{",
            "a{x}",
            "a{x=1} 1",
            "a{=\"1\"} 1",
            "a{x=\"1} 1",
            "a{x=\"1\"y=\"2\"} 1",
            "a{x=\"\\q\"} 1",
            "a{x=\"\\",
            "a{x=\"1\"}",
        ];
        for line in bad {
            let error = read(&format!("ok 1\n{line}\n")).expect_err(line);
            assert_eq!(error.line, 2, "{line}");
        }
    }

    #[test]
    fn every_cut_of_a_page_is_survived() {
        let page = "a{x=\"é\\\\\",y=\"2\"} 1.5e3\nb 2\n";
        for end in (0..page.len()).filter(|end| page.is_char_boundary(*end)) {
            let _ = read(&page[..end]);
            let _ = read(&page[end..]);
        }
    }
}
