//! What `local up` tells while a mesh starts and runs: every change once, and what to do next.
//!
//! Pure text from one status to the next; `local` and `demo` print it and listen for signals here.

use super::control::{PodStatus, Status};
use super::logs;
use super::supervisor::Handle;
use crate::out;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const LOG_LINES: usize = 5;
/// Signals this close together mean the same.
pub(crate) const ONE_REQUEST: Duration = Duration::from_millis(300);

/// Remembers what has been told.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    warnings: Vec<String>,
    trouble: Option<String>,
    controller_ready: bool,
    /// Whether a pod was ready, and the restarts of its processes together.
    pods: BTreeMap<(String, String), (bool, u32)>,
    announced: bool,
}

/// Prints every change; a signal stops the mesh, a second one at once.
pub(super) async fn show_until_stopped(handle: Handle) -> Infallible {
    let mut status = handle.status.clone();
    let mut progress = Progress::default();
    loop {
        let current = status.borrow_and_update().clone();
        for line in progress.news(&current) {
            out::note(&line);
        }
        tokio::select! {
            changed = status.changed() => if changed.is_err() {
                std::future::pending::<()>().await;
            },
            () = interrupted() => {
                out::note("stopping; once more to stop at once");
                handle.stop();
                // `timeout` and the like signal a process and its group: that is one request.
                tokio::time::sleep(ONE_REQUEST).await;
            }
        }
    }
}

/// Waits for a signal that asks this program to end.
pub(crate) async fn interrupted() {
    let on = |kind| signal(kind).map_err(|error| out::note(&format!("no signals: {error}")));
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (
        on(SignalKind::interrupt()),
        on(SignalKind::terminate()),
        on(SignalKind::hangup()),
    ) else {
        return;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}

/// What to say after `--detach`.
pub(super) fn detached(status: &Status) -> String {
    let warnings = status
        .warnings
        .iter()
        .map(|warning| format!("warning: {warning}\n"));
    format!(
        "{}mesh {} is ready: {} pods, process {}\n{}",
        warnings.collect::<String>(),
        status.name,
        status.pods.len(),
        status.pid,
        next_steps(status)
    )
}

// === impl Progress ===

impl Progress {
    /// Lines about what is new in `status`.
    pub(crate) fn news(&mut self, status: &Status) -> Vec<String> {
        let mut lines = Vec::new();
        self.notices(status, &mut lines);
        if status.controller.ready && !self.controller_ready {
            let ip = status
                .controller_ip
                .map(|ip| ip.to_string())
                .unwrap_or_default();
            lines.push(format!("controller ready at {ip}"));
        }
        if !status.controller.ready && self.controller_ready {
            lines.push(format!(
                "controller {}; proxies go on",
                status.controller.reason
            ));
        }
        self.controller_ready = status.controller.ready;
        let mut pods = BTreeMap::new();
        for pod in &status.pods {
            let key = (pod.namespace.clone(), pod.name.clone());
            let before = self.pods.get(&key).copied().unwrap_or_default();
            let restarts = pod.processes.iter().map(|process| process.restarts).sum();
            pods.insert(key, (pod.ready, restarts));
            lines.extend(pod_news(status, pod, before, (pod.ready, restarts)));
        }
        for (namespace, name) in self.pods.keys().filter(|key| !pods.contains_key(*key)) {
            lines.push(format!("{namespace}/{name} gone"));
        }
        self.pods = pods;
        if status.ready && !self.announced {
            self.announced = true;
            lines.push(format!("mesh {} is ready; Ctrl-C stops it", status.name));
            lines.push(next_steps(status).trim_end().to_string());
        }
        lines
    }

    fn notices(&mut self, status: &Status, lines: &mut Vec<String>) {
        if self.warnings != status.warnings {
            let new = status
                .warnings
                .iter()
                .filter(|warning| !self.warnings.contains(warning));
            lines.extend(new.map(|warning| format!("warning: {warning}")));
            self.warnings.clone_from(&status.warnings);
        }
        if self.trouble != status.trouble {
            lines.push(match &status.trouble {
                Some(error) => {
                    format!("error: what ran before goes on:\n       {error}")
                }
                None => "manifests are in force again".to_string(),
            });
            self.trouble.clone_from(&status.trouble);
        }
    }
}

fn pod_news(
    status: &Status,
    pod: &PodStatus,
    before: (bool, u32),
    now: (bool, u32),
) -> Vec<String> {
    let PodStatus {
        namespace,
        name,
        ip,
        ..
    } = pod;
    let mut lines = Vec::new();
    if now.0 && !before.0 {
        lines.push(format!("{namespace}/{name} ready at {ip}"));
    }
    if !now.0 && before.0 {
        let word = if pod.stopping {
            "stopping"
        } else {
            "not ready"
        };
        lines.push(format!("{namespace}/{name} {word}"));
    }
    // The first crashes are told with their reason; later ones are in `local status`.
    if now.1 > before.1 && now.1.is_power_of_two() {
        for process in pod.processes.iter().filter(|process| process.restarts > 0) {
            let log = format!("{name}.{}", process.name);
            lines.push(format!(
                "{namespace}/{name}: {} was restarted ({}); its last lines:",
                process.name, process.restarts
            ));
            let last = logs::last_lines(&status.state_dir, &log, LOG_LINES);
            lines.extend(last.lines().map(|line| format!("    {line}")));
        }
    }
    lines
}

fn next_steps(status: &Status) -> String {
    format!(
        "  meshctl local status              its replicas and where they listen\n  \
         meshctl stat --watch              its traffic\n  \
         meshctl edges                     who talks to whom, and whether it is secured\n  \
         meshctl check                     whether all is in order\n  \
         meshctl local logs -f             what they write ({})\n  \
         meshctl local down --name {}\n",
        status.state_dir.join("logs").display(),
        status.name
    )
}

#[cfg(test)]
mod tests {
    use super::super::component::ComponentState;
    use super::*;
    use std::net::Ipv4Addr;

    fn pod(name: &str, ready: bool) -> PodStatus {
        PodStatus {
            namespace: "demo".to_string(),
            name: name.to_string(),
            owner: String::new(),
            ip: Ipv4Addr::new(127, 64, 0, 2),
            meshed: true,
            ready,
            stopping: false,
            processes: vec![ComponentState::default()],
            ports: Vec::new(),
        }
    }

    #[test]
    fn every_change_is_told_once() {
        let mut progress = Progress::default();
        let mut status = Status {
            pods: vec![pod("web", false)],
            ..Status::default()
        };
        status.warnings.push("w".to_string());
        assert_eq!(progress.news(&status), ["warning: w"]);
        status.pods[0].ready = true;
        assert_eq!(progress.news(&status), ["demo/web ready at 127.64.0.2"]);
        assert!(progress.news(&status).is_empty());
        status.trouble = Some("bad".to_string());
        assert!(progress.news(&status)[0].starts_with("error: what ran before"));
        status.pods.clear();
        assert_eq!(progress.news(&status), ["demo/web gone"]);
    }
}
