//! The life of one replica: sidecar first, then containers; and an end that loses no request.
//!
//! `supervisor` starts one task per replica and tells it how to stop. By then the replica is no
//! longer an endpoint: the drain delay lets that news reach everybody who might still call it.

use super::component::{Board, Component, ComponentState, Order};
use super::process::Launcher;
use super::replica::{PodId, Replica};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Between no longer being an endpoint and the sidecar's SIGTERM.
const DRAIN_DELAY: Duration = Duration::from_secs(1);
/// Applications start when their sidecar is ready, or after this.
const SIDECAR_START: Duration = Duration::from_secs(5);
/// The part of the grace period a sidecar has before its application is told to end as well: one
/// that keeps calling others would otherwise keep its sidecar busy for all of it.
const SIDECAR_SHARE: u32 = 3;
/// How long a sidecar may outlive its applications.
const SIDECAR_ALONE: Duration = Duration::from_millis(500);
/// When the whole mesh stops nobody waits for answers.
pub(super) const FAST_GRACE: Duration = Duration::from_secs(3);

/// How a replica has to stop. Later ones are stronger.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Stop {
    No,
    /// Others go on: drain, then the grace period of the pod.
    Gracefully,
    /// All end together.
    Fast,
    Kill,
}

/// The fresh slots of a replica: its sidecar, if it has one, then its containers.
pub(super) fn slots(replica: &Replica) -> Vec<ComponentState> {
    let specs = replica.sidecar.iter().chain(&replica.containers);
    specs
        .map(|spec| ComponentState {
            name: spec.name.clone(),
            reason: "waits to be started".to_string(),
            ..ComponentState::default()
        })
        .collect()
}

/// Runs a replica until it is told to stop and nothing of it is left.
pub(super) async fn run(
    replica: Replica,
    launcher: Arc<Launcher>,
    board: Board,
    mut stop: watch::Receiver<Stop>,
) -> PodId {
    let mut pod = RunningPod::new(&replica);
    pod.start(&replica, &launcher, &board, &mut stop).await;
    let _ = stop.wait_for(|stop| *stop != Stop::No).await;
    if *stop.borrow() == Stop::Gracefully {
        // A stronger order cuts the drain short.
        tokio::select! {
            () = pod.drain(replica.template.grace) => {}
            _ = stop.wait_for(|stop| *stop > Stop::Gracefully) => {}
        }
    }
    pod.end(&mut stop).await;
    replica.id
}

struct RunningPod {
    sidecar_orders: watch::Sender<Order>,
    app_orders: watch::Sender<Order>,
    sidecar: JoinSet<()>,
    apps: JoinSet<()>,
    id: PodId,
}

// === impl RunningPod ===

impl RunningPod {
    fn new(replica: &Replica) -> Self {
        Self {
            sidecar_orders: watch::Sender::new(Order::Run),
            app_orders: watch::Sender::new(Order::Run),
            sidecar: JoinSet::new(),
            apps: JoinSet::new(),
            id: replica.id.clone(),
        }
    }

    async fn start(
        &mut self,
        replica: &Replica,
        launcher: &Arc<Launcher>,
        board: &Board,
        stop: &mut watch::Receiver<Stop>,
    ) {
        let component = |slot, spec: &super::replica::ProcessSpec| Component {
            launcher: launcher.clone(),
            spec: spec.clone(),
            board: board.clone(),
            pod: replica.id.clone(),
            slot,
        };
        if let Some(spec) = &replica.sidecar {
            let orders = self.sidecar_orders.subscribe();
            self.sidecar.spawn(component(0, spec).keep_running(orders));
            tokio::select! {
                () = self.sidecar_ready(board) => {}
                _ = stop.wait_for(|stop| *stop != Stop::No) => return,
            }
        }
        let first = usize::from(replica.sidecar.is_some());
        for (index, spec) in replica.containers.iter().enumerate() {
            let orders = self.app_orders.subscribe();
            self.apps
                .spawn(component(first + index, spec).keep_running(orders));
        }
    }

    async fn sidecar_ready(&self, board: &Board) {
        let mut board = board.subscribe();
        let ready = board.wait_for(|board| {
            let slots = board.get(&self.id);
            slots
                .and_then(|slots| slots.first())
                .is_none_or(|sidecar| sidecar.ready)
        });
        let _ = timeout(SIDECAR_START, ready).await;
    }

    /// The sidecar finishes what is under way while the application still serves it, then the
    /// application ends within what is left of the grace period.
    async fn drain(&mut self, grace: Duration) {
        sleep(DRAIN_DELAY).await;
        let deadline = Instant::now() + grace;
        self.sidecar_orders.send_replace(Order::Terminate);
        let _ = timeout(grace / SIDECAR_SHARE, joined(&mut self.sidecar)).await;
        self.app_orders.send_replace(Order::Terminate);
        let _ = timeout_at(deadline, self.ended()).await;
    }

    /// Ends what still runs: politely for a moment, unless that was tried or is not wanted.
    async fn end(&mut self, stop: &mut watch::Receiver<Stop>) {
        if *stop.borrow() == Stop::Fast {
            self.order(Order::Terminate);
            tokio::select! {
                _ = timeout(FAST_GRACE, self.ended()) => {}
                _ = stop.wait_for(|stop| *stop == Stop::Kill) => {}
            }
        }
        self.order(Order::Kill);
        joined(&mut self.apps).await;
        joined(&mut self.sidecar).await;
    }

    /// Waits for the applications, and a moment longer for the sidecar they leave without work.
    async fn ended(&mut self) {
        joined(&mut self.apps).await;
        let _ = timeout(SIDECAR_ALONE, joined(&mut self.sidecar)).await;
    }

    fn order(&self, order: Order) {
        self.app_orders.send_replace(order);
        self.sidecar_orders.send_replace(order);
    }
}

async fn joined(tasks: &mut JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}
