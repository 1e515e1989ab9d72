//! Keeps one process of a pod running: started, probed, started again after a crash, ended.
//!
//! `pod` runs one of these for the sidecar and one for each container; what happens is written to
//! the pod's slot on the shared board, which `supervisor` reads.

use super::process::{Backoff, Launcher, Process};
use super::replica::{PodId, ProcessSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// The state of every process of the mesh; each component writes only its own slot.
pub(super) type Board = Arc<watch::Sender<BTreeMap<PodId, Vec<ComponentState>>>>;

/// What a component is told. Later ones are stronger; it never goes back.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Order {
    Run,
    /// SIGTERM, and wait for the end.
    Terminate,
    Kill,
}

/// How a process is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct ComponentState {
    pub(crate) name: String,
    pub(crate) pid: Option<u32>,
    pub(crate) ready: bool,
    pub(crate) restarts: u32,
    /// Why it is not ready; empty when it is.
    pub(crate) reason: String,
}

/// One process slot of one pod.
#[derive(Debug)]
pub(super) struct Component {
    pub(super) launcher: Arc<Launcher>,
    pub(super) spec: ProcessSpec,
    pub(super) board: Board,
    pub(super) pod: PodId,
    pub(super) slot: usize,
}

impl Component {
    /// Runs until it was told to end and has.
    pub(super) async fn keep_running(self, mut orders: watch::Receiver<Order>) {
        let mut backoff = Backoff::new();
        while *orders.borrow() == Order::Run {
            let started = Instant::now();
            let reason = match self.launcher.spawn(&self.spec) {
                Ok(process) => match self.run_once(process, &mut orders).await {
                    Some(reason) => reason,
                    None => break,
                },
                Err(error) => format!("cannot be started: {error}"),
            };
            let delay = backoff.after(started.elapsed());
            self.write(|state| {
                state.pid = None;
                state.ready = false;
                state.reason = format!("{reason}; starts again in {}", seconds(delay));
            });
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = told_to_end(&mut orders) => break,
            }
            self.write(|state| state.restarts += 1);
        }
        self.write(|state| {
            state.pid = None;
            state.ready = false;
            state.reason = "has ended".to_string();
        });
    }

    /// One life of the process; how it ended, or `None` when it was told to.
    async fn run_once(
        &self,
        mut process: Process,
        orders: &mut watch::Receiver<Order>,
    ) -> Option<String> {
        let pid = process.id();
        self.write(|state| {
            state.pid = Some(pid);
            state.reason = "is starting".to_string();
        });
        let never: Infallible = tokio::select! {
            // An exit is looked at first: a probe may still succeed on a dying process.
            biased;
            status = process.wait() => return Some(match status {
                Ok(status) => format!("ended with {status}"),
                Err(error) => format!("was lost: {error}"),
            }),
            () = told_to_end(orders) => {
                self.end(process, orders).await;
                return None;
            }
            never = self.spec.probe.follow(&self.spec, |answer| self.answered(answer)) => never,
        };
        match never {}
    }

    async fn end(&self, mut process: Process, orders: &mut watch::Receiver<Order>) {
        self.write(|state| {
            state.ready = false;
            state.reason = "is ending".to_string();
        });
        process.terminate();
        tokio::select! {
            _ = process.wait() => return,
            _ = orders.wait_for(|order| *order == Order::Kill) => {}
        }
        process.kill();
        let _ = process.wait().await;
    }

    fn answered(&self, answer: Result<(), String>) {
        self.write(|state| {
            state.ready = answer.is_ok();
            state.reason = answer.err().unwrap_or_default();
        });
    }

    fn write(&self, change: impl FnOnce(&mut ComponentState)) {
        self.board.send_if_modified(|board| {
            let slot = board
                .get_mut(&self.pod)
                .and_then(|slots| slots.get_mut(self.slot));
            let Some(state) = slot else { return false };
            let before = state.clone();
            change(state);
            *state != before
        });
    }
}

/// Waits until the component has to end; a sender that is gone means the same.
async fn told_to_end(orders: &mut watch::Receiver<Order>) {
    let _ = orders.wait_for(|order| *order != Order::Run).await;
}

fn seconds(delay: Duration) -> String {
    if delay < Duration::from_secs(1) {
        format!("{}ms", delay.as_millis())
    } else {
        format!("{}s", delay.as_secs())
    }
}
