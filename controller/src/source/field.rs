//! Which field a line of a manifest is, and which line a field, told by indentation.
//!
//! The deserializer says where in the text a value is wrong; users think in fields. Only block
//! style is understood: of flow style on one line, the nearest enclosing block is named.

/// The path of the field on line `line` (from 1) of `text`, as `spec.ports[0].port`; `None` when
/// there is nothing to go by.
pub(super) fn path(text: &str, line: usize) -> Option<String> {
    let mut place = Place::default();
    let mut lines = text.lines();
    for _ in 0..line {
        place.enter(lines.next()?);
    }
    place.path()
}

/// The line (from 1) on which the field at `path` begins, or what encloses it if it is not there.
pub(super) fn line(text: &str, path: &str) -> Option<usize> {
    let mut wanted = path;
    while !wanted.is_empty() {
        let mut place = Place::default();
        let mut lines = text.lines();
        let found = lines.position(|line| {
            place.enter(line);
            place.within(wanted)
        });
        if let Some(index) = found {
            return Some(index + 1);
        }
        wanted = &wanted[..wanted.rfind(['.', '[']).unwrap_or(0)];
    }
    None
}

/// What encloses the line that was entered last, outermost first.
#[derive(Default)]
struct Place<'a>(Vec<Step<'a>>);

struct Step<'a> {
    /// Where its key, or its dash, stands.
    column: usize,
    name: Name<'a>,
}

enum Name<'a> {
    Key(&'a str),
    /// An element of a list, by its place in it.
    Element(usize),
}

impl<'a> Place<'a> {
    fn enter(&mut self, line: &'a str) {
        let Some(Entry { dash, column, key }) = Entry::parse(line) else {
            return;
        };
        if let Some(dash) = dash {
            self.element(dash);
        }
        // The key of a line opens with its dash: `- name: x` is an element and a key of it.
        if let Some(key) = key {
            self.leave(|step| step.column >= column);
            self.0.push(Step {
                column,
                name: Name::Key(key),
            });
        }
    }

    fn element(&mut self, column: usize) {
        self.leave(|step| step.column > column);
        match self.0.last_mut() {
            Some(Step {
                column: at,
                name: Name::Element(index),
            }) if *at == column => *index += 1,
            // A list may stand at the column of the key that holds it.
            _ => self.0.push(Step {
                column,
                name: Name::Element(0),
            }),
        }
    }

    fn leave(&mut self, left: impl Fn(&Step<'_>) -> bool) {
        while self.0.last().is_some_and(&left) {
            self.0.pop();
        }
    }

    fn path(&self) -> Option<String> {
        let mut path = String::new();
        for step in &self.0 {
            step.append_to(&mut path);
        }
        (!path.is_empty()).then_some(path)
    }

    /// Whether it is the field at `path`, or in it.
    fn within(&self, path: &str) -> bool {
        let here = self.path().unwrap_or_default();
        let rest = here.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    }
}

impl Step<'_> {
    fn append_to(&self, path: &mut String) {
        match self.name {
            Name::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
            Name::Element(index) => {
                path.push('[');
                path.push_str(&index.to_string());
                path.push(']');
            }
        }
    }
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
        for (number, want) in table {
            assert_eq!(path(TEXT, number).as_deref(), Some(want), "line {number}");
            assert_eq!(line(TEXT, want), Some(number), "{want}");
        }
    }

    #[test]
    fn lines_that_are_not_there_have_none() {
        assert_eq!(path(TEXT, 99), None);
        assert_eq!(path("", 1), None);
        assert_eq!(path("text", 1), None);
    }

    #[test]
    fn what_is_not_on_a_line_is_where_it_would_be() {
        assert_eq!(line(TEXT, "spec.selector.app"), Some(15));
        assert_eq!(line(TEXT, "spec.ports[1].protocol"), Some(11));
        assert_eq!(line(TEXT, "spec.ports[7].port"), Some(8));
        assert_eq!(line(TEXT, "status"), None);
        assert_eq!(line(TEXT, ""), None);
    }
}
