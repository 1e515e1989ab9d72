//! Which replicas to start and to stop next, so that what runs becomes what should run.
//!
//! A pure function called by `supervisor` after every change. It follows Kubernetes: Deployments
//! replace their replicas with one more than wanted and never fewer ready ones, StatefulSets from
//! the highest ordinal down, each after the one before is ready.

use super::plan::{Workload, WorkloadKey, WorkloadKind};
use std::collections::BTreeSet;

/// A replica as far as this decision goes.
#[derive(Clone, Debug)]
pub(super) struct Running {
    pub(super) workload: WorkloadKey,
    pub(super) name: String,
    /// Hash of the template it was started with.
    pub(super) hash: String,
    pub(super) ready: bool,
    /// Told to end, but still there.
    pub(super) stopping: bool,
}

/// One step.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Action {
    /// A replica of the desired workload with this index; `None` as a name means a fresh one.
    Start {
        workload: usize,
        name: Option<String>,
    },
    Stop {
        namespace: String,
        name: String,
    },
}

/// The steps that can be taken now; call it again when something has changed.
pub(super) fn reconcile(desired: &[Workload], running: &[Running]) -> Vec<Action> {
    let mut actions = Vec::new();
    for (index, workload) in desired.iter().enumerate() {
        let own: Vec<&Running> = running
            .iter()
            .filter(|r| r.workload == workload.key)
            .collect();
        match workload.key.kind {
            WorkloadKind::Deployment => deployment(index, workload, &own, &mut actions),
            WorkloadKind::StatefulSet => stateful(index, workload, &own, &mut actions),
            WorkloadKind::Pod => single(index, workload, &own, &mut actions),
        }
    }
    let wanted: BTreeSet<&WorkloadKey> = desired.iter().map(|workload| &workload.key).collect();
    let orphans = running
        .iter()
        .filter(|r| !r.stopping && !wanted.contains(&r.workload));
    actions.extend(orphans.map(stop));
    actions
}

fn deployment(index: usize, workload: &Workload, own: &[&Running], actions: &mut Vec<Action>) {
    let wanted = workload.replicas;
    let alive = || own.iter().copied().filter(|r| !r.stopping);
    let current = |r: &Running| r.hash == workload.template.hash;
    let mut new: Vec<&Running> = alive().filter(|r| current(r)).collect();
    let mut old: Vec<&Running> = alive().filter(|r| !current(r)).collect();
    // What is not ready goes first: its end costs nothing.
    new.sort_by_key(|r| !r.ready);
    old.sort_by_key(|r| r.ready);

    let surplus = new.len().saturating_sub(wanted);
    actions.extend(new.iter().rev().take(surplus).map(|r| stop(r)));
    let surge = usize::from(!old.is_empty());
    let room = (wanted + surge).saturating_sub(new.len() + old.len());
    let missing = wanted.saturating_sub(new.len()).min(room);
    actions.extend((0..missing).map(|_| Action::Start {
        workload: index,
        name: None,
    }));

    let ready_new = new.iter().filter(|r| r.ready).count().min(wanted);
    let unready_old = old.iter().filter(|r| !r.ready).count();
    let spare_old = (ready_new + old.len() - unready_old).saturating_sub(wanted);
    actions.extend(old.iter().take(unready_old + spare_old).map(|r| stop(r)));
}

fn stateful(index: usize, workload: &Workload, own: &[&Running], actions: &mut Vec<Action>) {
    let ordinal = |r: &Running| {
        let suffix = r.name.strip_prefix(&workload.key.name)?.strip_prefix('-')?;
        suffix.parse::<usize>().ok()
    };
    for ordinal in 0..workload.replicas {
        let name = format!("{}-{ordinal}", workload.key.name);
        match own.iter().find(|r| r.name == name) {
            None => actions.push(Action::Start {
                workload: index,
                name: Some(name),
            }),
            Some(r) if r.ready => continue,
            Some(_) => {}
        }
        if !workload.parallel {
            break;
        }
    }
    let surplus = |r: &&Running| ordinal(r).is_none_or(|ordinal| ordinal >= workload.replicas);
    let alive = || own.iter().copied().filter(|r| !r.stopping);
    actions.extend(alive().filter(surplus).map(stop));

    // One at a time, and only while the others serve; an outdated one that does not may go.
    let serving = alive().filter(|r| r.ready && !surplus(r)).count();
    let settled = serving == workload.replicas;
    let outdated = |r: &&Running| r.hash != workload.template.hash && !surplus(r);
    let next = alive()
        .filter(outdated)
        .max_by_key(|r| (!r.ready, ordinal(r)));
    actions.extend(next.filter(|r| settled || !r.ready).map(stop));
}

fn single(index: usize, workload: &Workload, own: &[&Running], actions: &mut Vec<Action>) {
    match own.first() {
        None => {
            let name = Some(workload.key.name.clone());
            actions.push(Action::Start {
                workload: index,
                name,
            });
        }
        Some(r) if r.hash != workload.template.hash && !r.stopping => actions.push(stop(r)),
        Some(_) => {}
    }
}

fn stop(running: &Running) -> Action {
    Action::Stop {
        namespace: running.workload.namespace.clone(),
        name: running.name.clone(),
    }
}

#[cfg(test)]
mod tests;
