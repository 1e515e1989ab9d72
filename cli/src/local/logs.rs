//! What the processes of a mesh have written.
//!
//! `local logs` prints it, and a start that failed shows the end of it. `supervisor` tells which
//! replicas have ended: the logs of the last ones stay, for whoever asks what happened.

use crate::out;
use anyhow::Context;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

const POLL: Duration = Duration::from_millis(200);
/// How much of a log's end is read for its last lines.
const TAIL: u64 = 16 * 1024;
/// How much is printed of one log before the next gets its turn.
const CHUNK: u64 = 1024 * 1024;

/// Of so many replicas that have ended the logs are kept.
const MAX_ENDED: usize = 50;

/// The logs of replicas that have ended, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Ended(VecDeque<Vec<String>>);

/// Prints the logs whose pod starts with `pod`, each line with its source if there are several.
pub(super) async fn print(state: &Path, pod: Option<&str>, follow: bool) -> anyhow::Result<()> {
    let dir = state.join("logs");
    let mut read: BTreeMap<PathBuf, u64> = BTreeMap::new();
    loop {
        let files = files(&dir, pod)?;
        anyhow::ensure!(
            follow || !files.is_empty(),
            "no log of {}; `meshctl local status` lists the pods",
            pod.unwrap_or("any pod")
        );
        let several = files.len() > 1;
        let mut more = false;
        for path in files {
            let position = read.entry(path.clone()).or_default();
            let text = new_text(&path, position)?;
            more |= !text.is_empty();
            let source = path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            out::print(&labelled(&text, several.then_some(source.as_str())))?;
        }
        match (more, follow) {
            (true, _) => {}
            (false, true) => tokio::time::sleep(POLL).await,
            (false, false) => return Ok(()),
        }
    }
}

/// The last lines of one log, for an error message.
pub(crate) fn last_lines(state: &Path, log: &str, count: usize) -> String {
    let path = state.join("logs").join(format!("{log}.log"));
    let tail = || -> io::Result<String> {
        let mut file = File::open(&path)?;
        let start = file.metadata()?.len().saturating_sub(TAIL);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = tail().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

// === impl Ended ===

impl Ended {
    /// Adds the logs of a replica, and removes those of the oldest from `state` if there are too many
    /// now; but for those that a new replica of the same name writes again.
    pub(super) fn add(&mut self, state: &Path, logs: Vec<String>, in_use: impl Fn(&str) -> bool) {
        self.0.retain(|others| *others != logs);
        self.0.push_back(logs);
        if self.0.len() <= MAX_ENDED {
            return;
        }
        let oldest = self.0.pop_front().unwrap_or_default();
        for log in oldest.iter().filter(|log| !in_use(log)) {
            for part in ["log", "log.1"] {
                // Most have no second part, and one that stays does no harm.
                let _ = std::fs::remove_file(state.join("logs").join(format!("{log}.{part}")));
            }
        }
    }
}

fn files(dir: &Path, pod: Option<&str>) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    files.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".log") && pod.is_none_or(|pod| name.starts_with(pod))
    });
    files.sort();
    Ok(files)
}

/// Whole lines after `position`, which moves behind them; a log that began anew is read anew, and one
/// that was removed has none.
fn new_text(path: &Path, position: &mut u64) -> io::Result<String> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        file => file?,
    };
    let length = file.metadata()?.len();
    if length < *position {
        *position = 0;
    }
    file.seek(SeekFrom::Start(*position))?;
    let mut bytes = Vec::new();
    file.take(CHUNK).read_to_end(&mut bytes)?;
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |end| end + 1);
    // A line longer than a chunk is printed as it comes.
    let taken = if whole == 0 && bytes.len() as u64 == CHUNK {
        bytes.len()
    } else {
        whole
    };
    *position += taken as u64;
    Ok(String::from_utf8_lossy(&bytes[..taken]).into_owned())
}

fn labelled(text: &str, source: Option<&str>) -> String {
    match source {
        None => text.to_string(),
        Some(source) => text
            .lines()
            .map(|line| format!("[{source}] {line}\n"))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_comes_in_whole_lines_and_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.log");
        let mut position = 0;
        std::fs::write(&path, "one\ntw").unwrap();
        assert_eq!(new_text(&path, &mut position).unwrap(), "one\n");
        assert_eq!(new_text(&path, &mut position).unwrap(), "");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        assert_eq!(new_text(&path, &mut position).unwrap(), "two\n");
        std::fs::write(&path, "new\n").unwrap();
        assert_eq!(new_text(&path, &mut position).unwrap(), "new\n");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(new_text(&path, &mut position).unwrap(), "");
    }

    #[test]
    fn the_last_lines_of_a_log_are_found() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        std::fs::write(dir.path().join("logs/web.web.log"), "1\n2\n3\n").unwrap();
        assert_eq!(last_lines(dir.path(), "web.web", 2), "2\n3");
        assert_eq!(last_lines(dir.path(), "none", 2), "");
    }

    #[test]
    fn the_logs_of_the_last_replicas_stay() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("logs")).unwrap();
        let path = |log: &str| dir.path().join(format!("logs/{log}"));
        for file in ["web-0.app.log", "web-0.app.log.1", "web-0.b.app.log"] {
            std::fs::write(path(file), "").unwrap();
        }
        let mut ended = Ended::default();
        let mut end = |pod: &str, used: bool| {
            ended.add(dir.path(), vec![format!("{pod}.app")], |_| used);
        };
        end("web-0", false);
        (1..MAX_ENDED).for_each(|n| end(&format!("web-{n}"), false));
        end("web-0", false);
        (0..MAX_ENDED).for_each(|n| end(&format!("api-{n}"), true));
        assert!(path("web-0.app.log").exists(), "it runs again");
        end("web-0", true);
        (0..MAX_ENDED).for_each(|n| end(&format!("api-{n}"), false));
        assert!(!path("web-0.app.log").exists());
        assert!(!path("web-0.app.log.1").exists());
        assert!(path("web-0.b.app.log").exists(), "another pod's");
    }
}
