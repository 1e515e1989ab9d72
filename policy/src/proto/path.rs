//! Where in a message the reader is; costs nothing until it has to be said.
//!
//! A path is a chain of stack frames, written out only for an error or a note.

use super::{FieldError, Problem};
use std::fmt;

/// The way from the message to a field.
#[derive(Clone, Copy)]
pub(super) struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step,
}

#[derive(Clone, Copy)]
enum Step {
    Root,
    Field(&'static str),
    Index(usize),
}

impl<'a> Path<'a> {
    pub(super) fn root() -> Self {
        Self {
            parent: None,
            step: Step::Root,
        }
    }

    pub(super) fn field(&'a self, name: &'static str) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Field(name),
        }
    }

    pub(super) fn index(&'a self, index: usize) -> Path<'a> {
        Path {
            parent: Some(self),
            step: Step::Index(index),
        }
    }

    pub(super) fn error(&self, problem: Problem) -> FieldError {
        let path = match self.step {
            Step::Root => "message".to_owned(),
            Step::Field(_) | Step::Index(_) => self.to_string(),
        };
        FieldError { path, problem }
    }

    /// The part `what` of the message here, which has to be there.
    pub(super) fn required<T>(&self, part: Option<T>, what: &'static str) -> Result<T, FieldError> {
        part.ok_or_else(|| self.error(Problem::Missing(what)))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            fmt::Display::fmt(parent, f)?;
        }
        let first = self.parent.is_none_or(|p| matches!(p.step, Step::Root));
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if first => f.write_str(name),
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_as_one_would_write_it() {
        let root = Path::root();
        assert_eq!(root.to_string(), "");
        let routes = root.field("routes");
        let first = routes.index(0);
        assert_eq!(first.field("rules").to_string(), "routes[0].rules");
    }
}
