//! The demo's table: redrawn in place on a terminal, printed now and then elsewhere.
//!
//! `demo` gives it figures every second; what they look like is `table`'s affair.

use crate::api::{ApiError, Edge, Row};
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
    /// They are the last ones known: the controller does not answer now.
    pub(super) away: bool,
}

/// Where the demo shows what happens; silent when only figures are wanted.
pub(super) struct Screen {
    shown: bool,
    terminal: bool,
    /// Lines of the table on the screen.
    height: u16,
    printed: Option<Instant>,
}

// === impl Figures ===

impl Figures {
    /// Takes new figures; the old ones stay while there are none.
    pub(super) fn update(&mut self, new: Result<Self, ApiError>) {
        match new {
            Ok(new) => *self = new,
            Err(_) => self.away = true,
        }
    }
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
        if self.terminal {
            let size = crossterm::terminal::size().unwrap_or((u16::MAX, u16::MAX));
            let (text, height) = fitted(&text, size);
            self.height = height;
            out::print(&text)
        } else {
            out::print(&format!("{text}\n"))
        }
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

/// What of a text fits on a terminal without wrapping or scrolling, and its lines. The line below
/// the text belongs to the cursor.
fn fitted(text: &str, (columns, rows): (u16, u16)) -> (String, u16) {
    let clipped = |line: &str| line.chars().take(columns.into()).collect::<String>() + "\n";
    let lines = text.lines().take(rows.saturating_sub(1).into());
    let lines: Vec<_> = lines.map(clipped).collect();
    (
        lines.concat(),
        u16::try_from(lines.len()).unwrap_or(u16::MAX),
    )
}

fn text(figures: &Figures) -> String {
    let Figures { rows, edges, away } = figures;
    let away = if *away {
        "the controller is away: these are the last figures, and traffic goes on\n"
    } else {
        ""
    };
    if rows.is_empty() {
        return format!("no figures yet\n{away}");
    }
    let table = table::live(rows, stat::columns(rows));
    format!("{table}\n{}\n{away}", edges::summary(edges))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_clipped() {
        let text = "12345\n\nüüüüüü\nx\n";
        assert_eq!(fitted(text, (5, 9)), ("12345\n\nüüüüü\nx\n".to_string(), 4));
        assert_eq!(fitted(text, (3, 3)), ("123\n\n".to_string(), 2));
        assert_eq!(fitted(text, (5, 0)), (String::new(), 0));
    }

    #[test]
    fn the_last_figures_stay_while_the_controller_is_away() {
        let mut figures = Figures::default();
        assert_eq!(text(&figures), "no figures yet\n");
        let rows = vec![table::tests::row()];
        let new = Figures {
            rows,
            ..Figures::default()
        };
        figures.update(Ok(new));
        let before = text(&figures);
        figures.update(Err(ApiError::Refused(String::new())));
        let after = text(&figures);
        assert!(after.starts_with(&before), "{after}");
        assert!(after.contains("controller is away"), "{after}");
        figures.update(Ok(Figures::default()));
        assert!(!figures.away);
    }
}
