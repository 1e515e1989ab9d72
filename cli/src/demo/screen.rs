//! The demo's table: redrawn in place on a terminal, printed now and then elsewhere.
//!
//! `demo` gives it figures every second; what they look like is `table`'s affair.

use crate::api::{Edge, Row};
use crate::{edges, out, stat, table};
use crossterm::cursor::MoveToPreviousLine;
use crossterm::terminal::{Clear, ClearType};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tokio::time::Instant;

/// Between tables in a file or pipe.
const PLAIN_PERIOD: Duration = Duration::from_secs(5);

/// What there is to show.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) rows: Vec<Row>,
    pub(super) edges: Vec<Edge>,
}

/// Where the demo shows what happens; silent when only figures are wanted.
pub(super) struct Screen {
    shown: bool,
    terminal: bool,
    /// Lines of the table on the screen.
    height: u16,
    printed: Option<Instant>,
}

// === impl Screen ===

impl Screen {
    pub(super) fn new(shown: bool) -> Self {
        Self {
            shown,
            terminal: io::stdout().is_terminal(),
            height: 0,
            printed: None,
        }
    }

    /// A line above the table.
    pub(super) fn line(&self, text: &str) -> anyhow::Result<()> {
        if self.shown {
            out::print(&format!("{text}\n"))
        } else {
            Ok(())
        }
    }

    /// The current figures.
    pub(super) fn draw(&mut self, figures: &Figures) -> anyhow::Result<()> {
        let due = self
            .printed
            .is_none_or(|printed| printed.elapsed() >= PLAIN_PERIOD);
        if !self.shown || !(self.terminal || due) {
            return Ok(());
        }
        self.printed = Some(Instant::now());
        self.erase()?;
        let text = text(figures);
        out::print(&text)?;
        if self.terminal {
            let width = crossterm::terminal::size().map_or(0, |(width, _)| usize::from(width));
            self.height = height(&text, width);
        } else {
            out::print("\n")?;
        }
        Ok(())
    }

    /// The figures of the whole run.
    pub(super) fn last(&mut self, figures: &Figures, run: Duration) -> anyhow::Result<()> {
        if !self.shown {
            return Ok(());
        }
        self.erase()?;
        out::print(&format!(
            "over {:.0}s:\n\n{}",
            run.as_secs_f64(),
            text(figures)
        ))
    }

    fn erase(&mut self) -> anyhow::Result<()> {
        if self.height > 0 {
            let mut stdout = io::stdout().lock();
            crossterm::queue!(
                stdout,
                MoveToPreviousLine(self.height),
                Clear(ClearType::FromCursorDown)
            )?;
            stdout.flush()?;
        }
        self.height = 0;
        Ok(())
    }
}

/// Lines a text takes on a terminal that wraps at `width`; 0 when that is not known.
fn height(text: &str, width: usize) -> u16 {
    let lines = text.lines().map(|line| match width {
        0 => 1,
        width => line.chars().count().div_ceil(width).max(1),
    });
    u16::try_from(lines.sum::<usize>()).unwrap_or(u16::MAX)
}

fn text(figures: &Figures) -> String {
    let Figures { rows, edges } = figures;
    if rows.is_empty() {
        return "no figures yet\n".to_string();
    }
    let table = table::stat(rows, stat::columns(rows));
    format!("{table}\n{}\n", edges::summary(edges))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_lines_count_as_often_as_they_wrap() {
        assert_eq!(height("12345\n\n1234567890\n", 5), 4);
        assert_eq!(height("12345\n12\n", 0), 2);
    }
}
