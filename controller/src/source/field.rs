//! Which field a line of a manifest is, told by indentation.
//!
//! The deserializer says where in the text a value is wrong; users think in fields. Only block
//! style is understood: of JSON and flow style on one line, the nearest enclosing block is named.

/// The path of the field on line `line` (from 1) of `text`, as `spec.ports[0].port`; `None` when
/// there is nothing to go by.
pub(super) fn path(text: &str, line: usize) -> Option<String> {
    let lines: Vec<&str> = text.lines().take(line).collect();
    if lines.len() < line {
        return None;
    }
    let mut steps = Vec::new();
    // What encloses the steps so far has its key, or its dash, left of these columns.
    let (mut key_below, mut dash_below) = (usize::MAX, usize::MAX);
    for (index, line) in lines.iter().enumerate().rev() {
        let Some(entry) = Entry::parse(line) else {
            continue;
        };
        // The key of a line opens with its dash: `- name: x` is an element and a key of it.
        if let Some(key) = entry.key.filter(|_| entry.column < key_below) {
            steps.push(key.to_owned());
            (key_below, dash_below) = (entry.column, entry.column);
        }
        if let Some(dash) = entry.dash.filter(|dash| *dash < dash_below) {
            steps.push(format!("[{}]", position(&lines[..index], dash)));
            // A list may stand at the column of the key that holds it.
            (key_below, dash_below) = (dash + 1, dash);
        }
    }
    join(steps)
}

/// How many elements of the list whose dashes stand at `dash` come before.
fn position(lines: &[&str], dash: usize) -> usize {
    let entries = lines.iter().rev().filter_map(|line| Entry::parse(line));
    entries
        .take_while(|e| e.dash == Some(dash) || e.start() > dash)
        .filter(|e| e.dash == Some(dash))
        .count()
}

fn join(steps: Vec<String>) -> Option<String> {
    let mut path = String::new();
    for step in steps.iter().rev() {
        if !path.is_empty() && !step.starts_with('[') {
            path.push('.');
        }
        path.push_str(step);
    }
    (!path.is_empty()).then_some(path)
}

/// What a line says about where it is.
struct Entry<'a> {
    dash: Option<usize>,
    /// Column of the key or value.
    column: usize,
    key: Option<&'a str>,
}

impl<'a> Entry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let body = line.trim_start_matches(' ');
        let indent = line.len() - body.len();
        if body.is_empty() || body.starts_with('#') {
            return None;
        }
        let after = body
            .strip_prefix("- ")
            .map(|rest| rest.trim_start_matches(' '));
        let (dash, rest) = match after {
            Some(rest) => (Some(indent), rest),
            None if body == "-" => (Some(indent), ""),
            None => (None, body),
        };
        let key = rest
            .split_once(':')
            .map(|(key, _)| key.trim_matches(['"', '\'', ' ']));
        let plain = |key: &&str| !key.is_empty() && !key.contains(['{', '[', ' ']);
        Some(Self {
            dash,
            column: line.len() - rest.len(),
            key: key.filter(plain),
        })
    }

    fn start(&self) -> usize {
        self.dash.unwrap_or(self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
kind: Service
metadata:
  name: web
  labels:
    # a comment
    app: web
spec:
  ports:
  - name: http
    port: 80
  - name: admin

    port: nine
    targetPort: 9
  selector: {app: web}
  list:
    - a
    - b
    - - c
";

    #[test]
    fn every_line_has_its_path() {
        let table = [
            (1, "kind"),
            (3, "metadata.name"),
            (6, "metadata.labels.app"),
            (8, "spec.ports"),
            (9, "spec.ports[0].name"),
            (10, "spec.ports[0].port"),
            (11, "spec.ports[1].name"),
            (13, "spec.ports[1].port"),
            (14, "spec.ports[1].targetPort"),
            (15, "spec.selector"),
            (17, "spec.list[0]"),
            (18, "spec.list[1]"),
        ];
        for (line, want) in table {
            assert_eq!(path(TEXT, line).as_deref(), Some(want), "line {line}");
        }
    }

    #[test]
    fn lines_that_are_not_there_have_none() {
        assert_eq!(path(TEXT, 99), None);
        assert_eq!(path("", 1), None);
        assert_eq!(path("text", 1), None);
    }
}
