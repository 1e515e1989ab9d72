//! Scaling and replacing, step by step.
//!
//! A small world applies each step, so that whole sequences are checked and not single calls.

use super::super::plan::Template;
use super::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn workload(kind: WorkloadKind, replicas: usize, hash: &str) -> Workload {
    let template = Template {
        hash: hash.to_string(),
        meshed: true,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        service_account: "default".to_string(),
        hostname: None,
        subdomain: None,
        containers: Vec::new(),
        grace: Duration::ZERO,
    };
    Workload {
        key: WorkloadKey {
            namespace: "demo".into(),
            kind,
            name: "web".into(),
        },
        replicas,
        parallel: false,
        template: Arc::new(template),
    }
}

/// A world that does at once what it is told, except becoming ready.
struct World {
    desired: Workload,
    running: Vec<Running>,
    started: usize,
}

impl World {
    fn new(kind: WorkloadKind, replicas: usize) -> Self {
        let mut world = Self {
            desired: workload(kind, replicas, "one"),
            running: Vec::new(),
            started: 0,
        };
        world.settle();
        world
    }

    fn step(&mut self) -> Vec<Action> {
        let actions = reconcile(std::slice::from_ref(&self.desired), &self.running);
        for action in &actions {
            match action {
                Action::Start { name, .. } => {
                    self.started += 1;
                    let fresh = format!("web-{}", self.started);
                    self.running.push(Running {
                        workload: self.desired.key.clone(),
                        name: name.clone().unwrap_or(fresh),
                        hash: self.desired.template.hash.clone(),
                        ready: false,
                        stopping: false,
                    });
                }
                Action::Stop { name, .. } => self.running.retain(|r| r.name != *name),
            }
        }
        actions
    }

    fn all_ready(&mut self) {
        self.running.iter_mut().for_each(|r| r.ready = true);
    }

    /// Steps until nothing is to do; gives the fewest ready and the most running on the way.
    fn settle(&mut self) -> (usize, usize) {
        let (mut fewest, mut most) = (usize::MAX, 0);
        for _ in 0..100 {
            let actions = self.step();
            fewest = fewest.min(self.running.iter().filter(|r| r.ready).count());
            most = most.max(self.running.len());
            let waiting = self.running.iter().any(|r| !r.ready);
            if actions.is_empty() && !waiting {
                return (fewest, most);
            }
            self.all_ready();
        }
        panic!("does not settle: {:?}", self.running);
    }

    fn change_template(&mut self) {
        self.desired = workload(self.desired.key.kind, self.desired.replicas, "two");
    }

    fn names(&self) -> Vec<&str> {
        self.running.iter().map(|r| r.name.as_str()).collect()
    }
}

#[test]
fn a_deployment_scales_up_at_once_and_down_to_ready_ones() {
    let mut world = World::new(WorkloadKind::Deployment, 2);
    world.desired.replicas = 4;
    assert_eq!(world.step().len(), 2);
    world.desired.replicas = 2;
    world.step();
    assert!(world.running.len() == 2 && world.running.iter().all(|r| r.ready));
}

#[test]
fn a_rolling_replacement_never_has_fewer_ready_nor_two_more() {
    let mut world = World::new(WorkloadKind::Deployment, 3);
    world.change_template();
    let (fewest, most) = world.settle();
    assert_eq!((fewest, most), (3, 4));
    assert!(world.running.iter().all(|r| r.hash == "two"));
}

#[test]
fn a_replacement_that_never_gets_ready_leaves_the_old_ones() {
    let mut world = World::new(WorkloadKind::Deployment, 3);
    world.change_template();
    for _ in 0..10 {
        world.step();
    }
    assert_eq!(
        world
            .running
            .iter()
            .filter(|r| r.ready && r.hash == "one")
            .count(),
        3
    );
    assert_eq!(world.running.len(), 4);
}

#[test]
fn broken_old_replicas_do_not_hold_up_a_fix() {
    let mut world = World::new(WorkloadKind::Deployment, 2);
    world.running.iter_mut().for_each(|r| r.ready = false);
    world.change_template();
    world.settle();
    assert!(world.running.iter().all(|r| r.hash == "two"));
}

#[test]
fn what_is_stopping_is_not_counted_and_not_stopped_twice() {
    let mut world = World::new(WorkloadKind::Deployment, 1);
    world.running[0].stopping = true;
    let actions = world.step();
    assert_eq!(
        actions,
        [Action::Start {
            workload: 0,
            name: None
        }]
    );
}

#[test]
fn a_stateful_set_starts_in_order_and_shrinks_from_the_top() {
    let mut world = World {
        desired: workload(WorkloadKind::StatefulSet, 3, "one"),
        running: Vec::new(),
        started: 0,
    };
    world.step();
    assert_eq!(world.names(), ["web-0"]);
    assert!(world.step().is_empty(), "web-1 waits for web-0");
    world.settle();
    assert_eq!(world.names(), ["web-0", "web-1", "web-2"]);
    world.desired.replicas = 1;
    world.settle();
    assert_eq!(world.names(), ["web-0"]);
}

#[test]
fn a_parallel_stateful_set_starts_at_once() {
    let mut desired = workload(WorkloadKind::StatefulSet, 3, "one");
    desired.parallel = true;
    assert_eq!(reconcile(&[desired], &[]).len(), 3);
}

#[test]
fn a_stateful_set_is_replaced_one_by_one_from_the_top() {
    let mut world = World::new(WorkloadKind::StatefulSet, 3);
    world.change_template();
    let stopped = |actions: Vec<Action>| match actions.as_slice() {
        [Action::Stop { name, .. }] => name.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(stopped(world.step()), "web-2");
    let (fewest, _) = world.settle();
    assert!(fewest >= 2);
    assert!(world.running.iter().all(|r| r.hash == "two"));
}

#[test]
fn a_pod_is_replaced_after_its_end() {
    let mut world = World::new(WorkloadKind::Pod, 1);
    assert_eq!(world.names(), ["web"]);
    world.change_template();
    assert_eq!(world.step().len(), 1);
    assert!(world.running.is_empty());
    world.settle();
    assert_eq!(world.running[0].hash, "two");
}

#[test]
fn removed_workloads_are_stopped() {
    let world = World::new(WorkloadKind::Deployment, 2);
    assert_eq!(reconcile(&[], &world.running).len(), 2);
}
