//! How commands end: output that survives a closed pipe, errors a person can act on.
//!
//! `main.rs` passes each command's result through `exit`. Tables are made in `table`.

use std::io::{self, Write};
use std::process::ExitCode;

/// Prints an error to stderr as one message, and gives the exit status: 0 or 1.
pub fn exit(result: anyhow::Result<()>) -> ExitCode {
    let Err(error) = result else {
        return ExitCode::SUCCESS;
    };
    if closed_pipe(&error) {
        return ExitCode::SUCCESS;
    }
    let _ = writeln!(io::stderr(), "error: {error:#}");
    ExitCode::FAILURE
}

/// The exit status of a command that answers yes or no: 0 or 1.
pub fn exit_with(answer: anyhow::Result<bool>) -> ExitCode {
    match answer {
        Ok(false) => ExitCode::FAILURE,
        answer => exit(answer.map(|_| ())),
    }
}

/// Writes to stdout; a reader that went away (`| head`) comes back as an error that ends quietly.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Writes one line to stderr, where it does not mix with what a program reads.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Writes indented JSON with a last line end.
pub(crate) fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}

/// A runtime on this thread alone. Children must be started from a thread that lives as long as
/// the program: their death signal is bound to it.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?)
}

fn closed_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<io::Error>()
        .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
