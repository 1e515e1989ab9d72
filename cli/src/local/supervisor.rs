//! The mesh itself: one task that owns what runs, and drives it to what should run.
//!
//! `local up` and `demo` run it until they stop it. Everything that happens (a process changed, a
//! pod ended, manifests changed, somebody asked to stop) leads to the same step: reconcile, act,
//! write the pods, publish the status. Decisions are in `reconcile`, processes in `pod`.

mod running;

use super::addresses::{AppPorts, Block};
use super::changes::Changes;
use super::component::{Board, Component, Order};
use super::control::{self, Status};
use super::daemon;
use super::identity::{Identity, IdentityError, RENEWAL_PERIOD};
use super::logs;
use super::manifest::{self, Source};
use super::mesh::MeshInfo;
use super::plan::{self, Plan};
use super::pod::{self, Stop};
use super::process::Launcher;
use super::reconcile::{Action, reconcile};
use super::replica::{self, PodId, Replica};
use super::state::StateDir;
use anyhow::Context;
use running::RunningPod;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Replicas start when the controller is ready, or after this.
const CONTROLLER_START: Duration = Duration::from_secs(5);

/// The controller's slot on the board; no pod can have an empty name.
fn controller_id() -> PodId {
    PodId {
        namespace: String::new(),
        name: String::new(),
    }
}

/// A mesh that has been set up and can be run.
pub(crate) struct Supervisor {
    source: Source,
    mesh: MeshInfo,
    plan: Plan,
    /// Why what runs is not what the manifests say.
    trouble: Option<String>,
    pods: BTreeMap<PodId, RunningPod>,
    tasks: JoinSet<PodId>,
    /// The pods as the controller last got them.
    written: Option<Vec<serde_json::Value>>,
    board: Board,
    block: Block,
    app_ports: AppPorts,
    identity: Identity,
    launcher: Arc<Launcher>,
    ended_logs: logs::Ended,
    status: watch::Sender<Status>,
    stop: Arc<watch::Sender<Stop>>,
    changes: Changes,
    /// After all others and before the janitor, since dropping it removes what all others use.
    state: StateDir,
    janitor: daemon::Janitor,
}

/// What others may see of a mesh, and how they stop it.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) status: watch::Receiver<Status>,
    stop: Arc<watch::Sender<Stop>>,
}

// === impl Handle ===

impl Handle {
    /// Asks for the end; asked a second time, nothing waits for anything any more.
    pub(crate) fn stop(&self) {
        self.stop.send_modify(|stop| {
            *stop = if *stop == Stop::No {
                Stop::Fast
            } else {
                Stop::Kill
            };
        });
    }
}

// === impl Supervisor ===

impl Supervisor {
    /// Reads the manifests and claims name and addresses. No process is started yet.
    pub(super) fn new(
        source: Source,
        name: &str,
        program: PathBuf,
        state: StateDir,
        janitor: daemon::Janitor,
    ) -> anyhow::Result<Self> {
        // Watched before they are read: no change falls in between.
        let changes = Changes::of(&source).context("cannot watch the manifests")?;
        let plan = plan::plan(manifest::load(&source)?);
        let block = Block::claim()?;
        let mesh = MeshInfo {
            controller: block.controller(),
            program: program.clone(),
            state: state.path().to_path_buf(),
        };
        let status = watch::Sender::new(Status {
            name: name.to_string(),
            version: crate::version::CLIENT.to_string(),
            pid: std::process::id(),
            state_dir: state.path().to_path_buf(),
            controller_ip: Some(block.controller()),
            manifests: match &source {
                Source::Paths(paths) => manifest::absolute(paths),
                Source::Embedded { .. } => Vec::new(),
            },
            ..Status::default()
        });
        Ok(Self {
            launcher: Arc::new(Launcher::new(program, state.path().join("logs"))),
            pods: BTreeMap::new(),
            tasks: JoinSet::new(),
            written: None,
            board: Arc::new(watch::Sender::new(BTreeMap::new())),
            app_ports: AppPorts::new(),
            identity: Identity::create(state.path())?,
            stop: Arc::new(watch::Sender::new(Stop::No)),
            ended_logs: logs::Ended::default(),
            trouble: None,
            source,
            mesh,
            plan,
            block,
            status,
            changes,
            state,
            janitor,
        })
    }

    pub(crate) fn handle(&self) -> Handle {
        Handle {
            status: self.status.subscribe(),
            stop: self.stop.clone(),
        }
    }

    /// Runs the mesh until it is told to stop, and leaves nothing behind.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let socket = control::socket(self.state.path());
        let listener = UnixListener::bind(&socket)
            .with_context(|| format!("cannot listen on {}", socket.display()))?;
        let handle = self.handle();
        let server = control::serve(listener, handle.status.clone(), move || handle.stop());
        let controller_orders = watch::Sender::new(Order::Run);
        self.write_manifests()?;
        let controller = self
            .controller()
            .keep_running(controller_orders.subscribe());
        let controller = tokio::spawn(controller);
        let result = tokio::select! {
            result = self.steps() => result,
            never = server => match never {},
        };
        controller_orders.send_replace(Order::Terminate);
        if timeout(pod::FAST_GRACE, controller).await.is_err() {
            controller_orders.send_replace(Order::Kill);
        }
        let Self { state, janitor, .. } = self;
        drop(state);
        janitor.finish().await;
        result
    }

    /// Until told to stop, then until all pods have ended.
    async fn steps(&mut self) -> anyhow::Result<()> {
        let mut board = self.board.subscribe();
        let mut stop = self.stop.subscribe();
        self.publish();
        tokio::select! {
            () = self.controller_ready() => {}
            _ = stop.wait_for(|stop| *stop != Stop::No) => {}
        }
        let mut renewal = interval(RENEWAL_PERIOD);
        renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while *stop.borrow_and_update() == Stop::No {
            self.step();
            tokio::select! {
                _ = board.changed() => {}
                Some(ended) = self.tasks.join_next() => self.ended(ended?),
                () = self.changes.next() => self.reload(),
                _ = renewal.tick() => self.renew_tokens(),
                _ = stop.changed() => {}
            }
        }
        loop {
            for pod in self.pods.values() {
                pod.stop(*stop.borrow_and_update());
            }
            tokio::select! {
                ended = self.tasks.join_next() => match ended {
                    Some(ended) => self.ended(ended?),
                    None => return Ok(()),
                },
                _ = stop.changed() => {}
            }
        }
    }

    /// Waits for the first answers of the controller, for a while: sidecars that start earlier find
    /// nobody who gives them a certificate, and try again only after a second.
    async fn controller_ready(&self) {
        let mut board = self.board.subscribe();
        let ready = board.wait_for(|board| {
            let slots = board.get(&controller_id());
            let controller = slots.and_then(|slots| slots.first());
            controller.is_some_and(|controller| controller.ready)
        });
        let _ = timeout(CONTROLLER_START, ready).await;
    }

    fn step(&mut self) {
        let board = self.board.borrow().clone();
        self.pods
            .iter_mut()
            .for_each(|(id, pod)| pod.update(board.get(id)));
        let running: Vec<_> = self.pods.values().map(RunningPod::summary).collect();
        for action in reconcile(&self.plan.workloads, &running) {
            match action {
                Action::Start { workload, name } => {
                    // What has no place is not started; what runs goes on.
                    if let Err(error) = self.start(workload, name) {
                        self.trouble = Some(format!("{error:#}"));
                        break;
                    }
                }
                Action::Stop { namespace, name } => {
                    if let Some(pod) = self.pods.get_mut(&PodId { namespace, name }) {
                        pod.leave();
                    }
                }
            }
        }
        if let Err(error) = self.write_pods() {
            self.trouble = Some(format!("{error:#}"));
        }
        // Only after the controller can know: from here on nobody new is sent to them.
        self.pods
            .values()
            .filter(|pod| pod.leaving)
            .for_each(|pod| pod.stop(Stop::Gracefully));
        self.publish();
    }

    fn start(&mut self, workload: usize, name: Option<String>) -> anyhow::Result<()> {
        let workload = &self.plan.workloads[workload];
        let containers = workload.template.containers.iter();
        let ports: usize = containers.map(|container| container.ports.len()).sum();
        let app_ports = self.app_ports.take_many(ports)?;
        let ip = match self.block.take() {
            Ok(ip) => ip,
            Err(error) => {
                self.app_ports.give_back_many(&app_ports);
                return Err(error.into());
            }
        };
        let name = name.unwrap_or_else(|| running::fresh_name(workload, &self.pods));
        let replica = replica::replica(
            &self.mesh,
            &self.plan.services,
            workload,
            &name,
            ip,
            app_ports,
        );
        if let Err(error) = self.admit(&replica) {
            self.block.give_back(ip);
            self.app_ports.give_back_many(&replica.app_ports);
            return Err(error.into());
        }
        let id = replica.id.clone();
        self.board
            .send_modify(|board| _ = board.insert(id.clone(), pod::slots(&replica)));
        let (pod, stop) = RunningPod::new(replica.clone());
        self.pods.insert(id, pod);
        let (launcher, board) = (self.launcher.clone(), self.board.clone());
        self.tasks.spawn(pod::run(replica, launcher, board, stop));
        Ok(())
    }

    /// Gives a replica what its sidecar proves itself with.
    fn admit(&mut self, replica: &Replica) -> Result<(), IdentityError> {
        if replica.sidecar.is_none() {
            return Ok(());
        }
        let account = &replica.template.service_account;
        self.identity.admit(&replica.id, account)
    }

    fn ended(&mut self, id: PodId) {
        self.board.send_modify(|board| _ = board.remove(&id));
        self.identity.forget(&id);
        if let Some(pod) = self.pods.remove(&id) {
            self.block.give_back(pod.replica.ip);
            self.app_ports.give_back_many(&pod.replica.app_ports);
            let logs = pod.replica.logs().map(str::to_string).collect();
            let in_use = |log: &str| {
                let mut running = self.pods.values();
                running.any(|pod| pod.replica.logs().any(|own| own == log))
            };
            self.ended_logs.add(self.state.path(), logs, in_use);
        }
    }

    fn reload(&mut self) {
        match manifest::load(&self.source) {
            Ok(manifests) => {
                self.plan = plan::plan(manifests);
                self.trouble = self
                    .write_manifests()
                    .err()
                    .map(|error| format!("{error:#}"));
            }
            Err(error) => self.trouble = Some(error.to_string()),
        }
    }

    fn renew_tokens(&mut self) {
        // By the clock that tokens end by: it goes on while the machine sleeps.
        if let Err(error) = self.identity.renew(SystemTime::now()) {
            self.trouble = Some(error.to_string());
        }
    }

    /// The controller as a component: what keeps a container running keeps it running too.
    fn controller(&self) -> Component {
        let spec = self.mesh.controller(&self.manifests());
        let slot = super::component::ComponentState {
            name: spec.name.clone(),
            ..super::component::ComponentState::default()
        };
        self.board
            .send_modify(|board| _ = board.insert(controller_id(), vec![slot]));
        Component {
            launcher: self.launcher.clone(),
            spec,
            board: self.board.clone(),
            pod: controller_id(),
            slot: 0,
        }
    }

    fn manifests(&self) -> PathBuf {
        self.state.path().join("manifests")
    }

    fn write_manifests(&self) -> anyhow::Result<()> {
        write(&objects(self.state.path()), &self.plan.copies)
    }

    fn write_pods(&mut self) -> anyhow::Result<()> {
        let staying = self.pods.values().filter(|pod| !pod.leaving);
        let documents: Vec<_> = staying.map(RunningPod::document).collect();
        if self.written.as_ref() != Some(&documents) {
            write(&self.manifests().join("pods.yaml"), &documents)?;
            self.written = Some(documents);
        }
        Ok(())
    }

    fn publish(&self) {
        let wanted: usize = self
            .plan
            .workloads
            .iter()
            .map(|workload| workload.replicas)
            .sum();
        let pods: Vec<_> = self.pods.values().map(RunningPod::status).collect();
        let board = self.board.borrow();
        let controller = board.get(&controller_id()).and_then(|slots| slots.first());
        let controller = controller.cloned().unwrap_or_default();
        let settled = pods.len() == wanted && pods.iter().all(|pod| pod.ready && !pod.stopping);
        self.status.send_if_modified(|status| {
            let before = status.clone();
            status.ready = settled && controller.ready;
            status.controller = controller;
            status.pods = pods;
            status.wanted_pods = wanted;
            status.warnings.clone_from(&self.plan.warnings);
            status.trouble.clone_from(&self.trouble);
            *status != before
        });
    }
}

/// Where the controller finds all but the pods.
pub(super) fn objects(state: &Path) -> PathBuf {
    state.join("manifests").join("objects.yaml")
}

fn write(path: &Path, documents: &[serde_json::Value]) -> anyhow::Result<()> {
    super::pods::write(path, documents).with_context(|| format!("cannot write {}", path.display()))
}
