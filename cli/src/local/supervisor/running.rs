//! One replica as its supervisor sees it.
//!
//! Holds what was started, how it is, and whether it has to go.

use super::super::component::ComponentState;
use super::super::control::PodStatus;
use super::super::plan::{Workload, WorkloadKind};
use super::super::pod::Stop;
use super::super::pods::{self, PodRecord};
use super::super::reconcile::Running;
use super::super::replica::{PodId, Replica};
use std::collections::BTreeMap;
use tokio::sync::watch;

/// A replica that was started and has not ended.
pub(super) struct RunningPod {
    pub(super) replica: Replica,
    /// No endpoint any more; its end follows.
    pub(super) leaving: bool,
    components: Vec<ComponentState>,
    stop: watch::Sender<Stop>,
}

/// A name as Kubernetes gives it to replicas of a Deployment: `web-HASH-x7k2p`.
pub(super) fn fresh_name(workload: &Workload, taken: &BTreeMap<PodId, RunningPod>) -> String {
    // Kubernetes' alphabet: no vowels, no digits that look like letters.
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    loop {
        let suffix: String = (0..5)
            .map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())]))
            .collect();
        let name = format!("{}-{}-{suffix}", workload.key.name, workload.template.hash);
        let id = PodId {
            namespace: workload.key.namespace.clone(),
            name,
        };
        if !taken.contains_key(&id) {
            return id.name;
        }
    }
}

// === impl RunningPod ===

impl RunningPod {
    pub(super) fn new(replica: Replica) -> (Self, watch::Receiver<Stop>) {
        let (stop, receiver) = watch::channel(Stop::No);
        (
            Self {
                replica,
                leaving: false,
                components: Vec::new(),
                stop,
            },
            receiver,
        )
    }

    pub(super) fn update(&mut self, components: Option<&Vec<ComponentState>>) {
        self.components = components.cloned().unwrap_or_default();
    }

    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Orders the end, never a weaker one than before.
    pub(super) fn stop(&self, stop: Stop) {
        self.stop.send_if_modified(|current| {
            let stronger = stop > *current;
            *current = stop.max(*current);
            stronger
        });
    }

    pub(super) fn summary(&self) -> Running {
        Running {
            workload: self.replica.workload.clone(),
            name: self.replica.id.name.clone(),
            hash: self.replica.template.hash.clone(),
            ready: self.ready(),
            stopping: self.leaving,
        }
    }

    pub(super) fn document(&self) -> serde_json::Value {
        let ready = self.ready();
        pods::pod(&PodRecord {
            replica: &self.replica,
            components: &self.components,
            ready,
        })
    }

    pub(super) fn status(&self) -> PodStatus {
        let workload = &self.replica.workload;
        let owner = match workload.kind {
            WorkloadKind::Pod => String::new(),
            kind => format!("{}/{}", kind.lower(), workload.name),
        };
        PodStatus {
            namespace: self.replica.id.namespace.clone(),
            name: self.replica.id.name.clone(),
            owner,
            ip: self.replica.ip,
            meshed: self.replica.template.meshed,
            ready: self.ready(),
            stopping: self.leaving,
            processes: self.components.clone(),
            ports: self.replica.port_map().collect(),
        }
    }

    /// The readiness gates: sidecar and every container.
    fn ready(&self) -> bool {
        !self.components.is_empty() && self.components.iter().all(|component| component.ready)
    }
}
