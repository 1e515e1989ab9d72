//! A child process that is watched and that never outlives its value.
//!
//! Its output is kept, bounded, and printed when the test that owns it panics. A program that has
//! panicked fails its test, whatever else it did: one task that panics is easily overlooked. What it
//! costs is read from `/proc`.

use crate::eventually;
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

/// Output past this is dropped.
const MAX_OUTPUT: usize = 4 << 20;

/// A running program. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    output: Arc<Mutex<String>>,
    readers: Vec<std::thread::JoinHandle<()>>,
}

impl Process {
    /// Starts `command`; `name` stands in front of its output.
    pub fn spawn(name: &str, mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let output = Arc::new(Mutex::new(String::new()));
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child
                .stdout
                .take()
                .map(|s| Box::new(s) as Box<dyn Read + Send>),
            child
                .stderr
                .take()
                .map(|s| Box::new(s) as Box<dyn Read + Send>),
        ];
        let readers = streams
            .into_iter()
            .flatten()
            .map(|stream| collect(stream, output.clone()))
            .collect();
        Self {
            name: name.to_owned(),
            child,
            output,
            readers,
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far, both streams.
    pub fn output(&self) -> String {
        self.output.lock().clone()
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends `signal`.
    pub fn signal(&self, signal: Signal) {
        // Not running any more is for `wait` to report.
        let _ = kill_process(self.rustix_pid(), signal);
    }

    /// Waits until it ends by itself and all its output has been read; `None` past `deadline`.
    pub fn wait(&mut self, deadline: Duration) -> Option<ExitStatus> {
        let status = eventually::blocking(deadline, || self.child.try_wait().ok().flatten())?;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Some(status)
    }

    /// Kills it without notice and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Resident memory in KiB.
    pub fn rss_kib(&self) -> u64 {
        rss_kib(self.pid()).unwrap_or(0)
    }

    /// User and system time used so far.
    pub fn cpu_time(&self) -> Duration {
        cpu_time(self.pid()).unwrap_or_default()
    }

    /// Number of open file descriptors.
    pub fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    fn rustix_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!(
                "--- output of {} ---\n{}--- end ---",
                self.name,
                self.output()
            );
            return;
        }
        let output = self.output();
        assert!(
            !output.contains(" panicked at "),
            "{} has panicked: {output}",
            self.name
        );
    }
}

/// Resident memory of `pid` in KiB, if it runs.
pub fn rss_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().trim_end_matches("kB").trim().parse().ok()
}

/// User and system time of `pid`, if it runs.
pub fn cpu_time(pid: u32) -> Option<Duration> {
    parse_cpu_time(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// utime and stime are the 14th and 15th field; the 2nd may hold spaces and parentheses.
fn parse_cpu_time(stat: &str) -> Option<Duration> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_nanos(
        (user + system) * 1_000_000_000 / per_second,
    ))
}

fn collect(
    stream: Box<dyn Read + Send>,
    output: Arc<Mutex<String>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            let mut output = output.lock();
            if output.len() + line.len() < MAX_OUTPUT {
                output.push_str(&line);
                output.push('\n');
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_cpu_time_past_an_awkward_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0";
        let ticks = rustix::param::clock_ticks_per_second();
        assert_eq!(
            parse_cpu_time(stat),
            Some(Duration::from_secs_f64(200.0 / ticks as f64))
        );
    }

    #[test]
    fn keeps_output_and_status() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let mut process = Process::spawn("sh", command);
        let status = process.wait(Duration::from_secs(5)).expect("it ends");
        assert_eq!(status.code(), Some(3));
        assert!(process.output().contains("out\n") && process.output().contains("err\n"));
    }
}
