//! When a process counts as ready: Kubernetes' readiness probes, made against a local process.
//!
//! `component` follows a probe while its process runs. Until the first success a probe is made
//! every 100 ms whatever its period: on one machine nobody wants to wait ten seconds for a start.

use super::replica::ProcessSpec;
use crate::http_get;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::process::Command;

const STARTUP_PERIOD: Duration = Duration::from_millis(100);

/// A probe with Kubernetes' settings.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) check: Check,
    pub(crate) initial_delay: Duration,
    pub(crate) period: Duration,
    pub(crate) timeout: Duration,
    /// Successes in a row that make it ready.
    pub(crate) success_threshold: u32,
    /// Failures in a row that end it.
    pub(crate) failure_threshold: u32,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Check {
    /// Nothing: a process that runs is ready.
    Running,
    Tcp {
        port: u16,
    },
    /// Answered with 200 to 399.
    Http {
        port: u16,
        path: String,
        headers: Vec<(String, String)>,
    },
    /// Ends with status 0.
    Exec {
        argv: Vec<String>,
    },
}

/// Answers in a row.
#[derive(Debug, Default)]
struct Tally {
    successes: u32,
    failures: u32,
    ready: bool,
}

// === impl Probe ===

impl Probe {
    /// A probe that a manifest did not ask for.
    pub(crate) fn by_default(check: Check) -> Self {
        Self {
            check,
            initial_delay: Duration::ZERO,
            period: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            success_threshold: 1,
            failure_threshold: 3,
        }
    }

    /// Whether a sidecar or the controller is ready, at its admin port.
    pub(crate) fn of_ready(port: u16) -> Self {
        Self {
            failure_threshold: 2,
            period: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            ..Self::by_default(Check::Http {
                port,
                path: "/ready".to_string(),
                headers: Vec::new(),
            })
        }
    }

    /// Probes for as long as it is polled; `report` hears every change, and why while not ready.
    pub(super) async fn follow(
        &self,
        spec: &ProcessSpec,
        mut report: impl FnMut(Result<(), String>),
    ) -> Infallible {
        if matches!(self.check, Check::Running) {
            report(Ok(()));
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(self.initial_delay).await;
        let mut tally = Tally::default();
        let mut starting = true;
        loop {
            let answer = tokio::time::timeout(self.timeout, self.once(spec)).await;
            let answer =
                answer.unwrap_or_else(|_| Err(format!("no answer within {:?}", self.timeout)));
            let was_ready = tally.ready;
            tally.count(self, answer.is_ok());
            starting &= !tally.ready;
            match answer {
                Err(reason) if was_ready != tally.ready || starting => report(Err(reason)),
                Ok(()) if was_ready != tally.ready => report(Ok(())),
                _ => {}
            }
            let pause = if starting {
                STARTUP_PERIOD.min(self.period)
            } else {
                self.period
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn once(&self, spec: &ProcessSpec) -> Result<(), String> {
        match &self.check {
            Check::Running => Ok(()),
            Check::Tcp { .. } => match TcpStream::connect(spec.probe_addr).await {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("does not accept on {}: {error}", spec.probe_addr)),
            },
            Check::Http { path, headers, .. } => {
                http(spec.probe_addr, path, headers, self.timeout).await
            }
            Check::Exec { argv } => exec(argv, spec).await,
        }
    }
}

async fn http(
    addr: SocketAddr,
    path: &str,
    headers: &[(String, String)],
    timeout: Duration,
) -> Result<(), String> {
    match http_get::get(addr, path, headers, timeout).await {
        Ok((status, _)) if (200..400).contains(&status.as_u16()) => Ok(()),
        Ok((status, _)) => Err(format!("answers {status} to GET http://{addr}{path}")),
        Err(error) => Err(error.to_string()),
    }
}

async fn exec(argv: &[String], spec: &ProcessSpec) -> Result<(), String> {
    let [program, args @ ..] = argv else {
        return Err("the probe has no command".to_string());
    };
    let mut command = Command::new(program);
    command.args(args).envs(&spec.env).kill_on_drop(true);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    match command.status().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("probe {program} ended with {status}")),
        Err(error) => Err(format!("probe {program} cannot be run: {error}")),
    }
}

// === impl Tally ===

impl Tally {
    fn count(&mut self, probe: &Probe, success: bool) {
        if success {
            (self.successes, self.failures) = (self.successes.saturating_add(1), 0);
            self.ready |= self.successes >= probe.success_threshold;
        } else {
            (self.successes, self.failures) = (0, self.failures.saturating_add(1));
            self.ready &= self.failures < probe.failure_threshold;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_needs_its_thresholds_in_a_row() {
        let mut probe = Probe::by_default(Check::Running);
        (probe.success_threshold, probe.failure_threshold) = (2, 3);
        let mut tally = Tally::default();
        let answers = [
            true, false, true, true, false, false, true, false, false, false,
        ];
        let ready: Vec<bool> = answers
            .iter()
            .map(|answer| {
                tally.count(&probe, *answer);
                tally.ready
            })
            .collect();
        let expected = [
            false, false, false, true, true, true, true, true, true, false,
        ];
        assert_eq!(ready, expected);
    }
}
