//! `meshctl local` as a user runs it: the real binary, real processes, and nothing left behind.
//!
//! The pods have no sidecar: what traffic does is tested elsewhere.

use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

const STORE: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: store, namespace: demo}
spec:
  replicas: 2
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store, linkerd.io/inject: disabled}}
    spec:
      terminationGracePeriodSeconds: 2
      containers:
      - name: store
        command: [meshctl, demo-app, store]
        ports: [{containerPort: 6000}]
";

/// A user with a runtime directory and a manifest of their own.
struct User {
    dir: TempDir,
}

impl User {
    fn new(manifest: &str) -> Self {
        let user = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        user.write(manifest);
        user
    }

    fn write(&self, manifest: &str) {
        std::fs::write(self.dir.path().join("app.yaml"), manifest).unwrap();
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshctl"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("XDG_RUNTIME_DIR", self.dir.path());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    fn up(&self) -> Child {
        let mut command = self.command(&["local", "up", "-f", "app.yaml"]);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap()
    }

    fn status(&self) -> Value {
        let output = self.run(&["local", "status", "-o", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn wait(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let status = self.status();
            if condition(&status) {
                return status;
            }
            assert!(started.elapsed() < DEADLINE, "never {what}: {status:#}");
            std::thread::sleep(POLL);
        }
    }

    fn ready(&self, pods: usize) -> Value {
        self.wait("ready", |status| {
            status["ready"] == true && count(status) == pods
        })
    }

    /// No state, and no process that names this user's directory.
    fn assert_nothing_left(&self) {
        let state = self.dir.path().join("gossamer");
        let started = Instant::now();
        while state.exists() || !processes_of(&state).is_empty() {
            let left = processes_of(&state);
            assert!(
                started.elapsed() < DEADLINE,
                "left: {left:?}, {}",
                state.exists()
            );
            std::thread::sleep(POLL);
        }
    }
}

fn count(status: &Value) -> usize {
    status["pods"].as_array().map_or(0, Vec::len)
}

/// Processes whose environment or command line names `path`.
fn processes_of(path: &Path) -> Vec<String> {
    let path = path.display().to_string();
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    entries
        .filter(|entry| {
            ["environ", "cmdline"].iter().any(|file| {
                let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).contains(&path)
            })
        })
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn a_detached_mesh_follows_its_manifest_and_goes_without_trace() {
    let user = User::new(STORE);
    let up = user.run(&["local", "up", "-f", "app.yaml", "--detach"]);
    assert!(
        up.status.success(),
        "{}",
        String::from_utf8_lossy(&up.stderr)
    );
    let first = user.ready(2)["pods"][0]["ip"].clone();
    assert!(first.as_str().unwrap().starts_with("127."));

    user.write(&STORE.replace("replicas: 2", "replicas: 3"));
    user.ready(3);
    user.write(&STORE.replace("replicas: 2", "replicas: many"));
    let status = user.wait("in trouble", |status| status["trouble"].is_string());
    assert_eq!(count(&status), 3, "the last good state goes on");
    user.write(&STORE.replace("replicas: 2", "replicas: 1"));
    user.ready(1);

    let again = user.run(&["local", "up", "-f", "app.yaml"]);
    assert!(!again.status.success());
    assert!(String::from_utf8_lossy(&again.stderr).contains("already running"));
    assert!(user.run(&["local", "down"]).status.success());
    user.assert_nothing_left();
}

#[test]
fn a_crashed_process_is_restarted_and_told_of() {
    let user =
        User::new(&STORE.replace("[meshctl, demo-app, store]", "[sh, -c, 'echo no; exit 3']"));
    let mut mesh = user.up();
    let restarts = |status: &Value| status["pods"][0]["processes"][0]["restarts"].as_u64();
    let status = user.wait("restarted", |status| restarts(status) >= Some(2));
    assert_eq!(status["pods"][0]["ready"], false);
    let logs = user.run(&["local", "logs", "store"]);
    assert!(String::from_utf8_lossy(&logs.stdout).contains("] no\n"));
    assert!(user.run(&["local", "down"]).status.success());
    assert!(mesh.wait().unwrap().success());
    user.assert_nothing_left();
}

#[test]
fn a_killed_mesh_leaves_nothing_either() {
    // A grandchild in a session of its own is out of reach of every death signal.
    let forks = STORE.replace(
        "[meshctl, demo-app, store]",
        "[sh, -c, 'setsid sleep 999 & sleep 999']",
    );
    let user = User::new(&forks.replace("ports: [{containerPort: 6000}]", "ports: []"));
    let mut mesh = user.up();
    user.ready(2);
    mesh.kill().unwrap();
    mesh.wait().unwrap();
    user.assert_nothing_left();
}

#[test]
fn a_mistake_is_told_with_its_place_before_anything_runs() {
    let user = User::new(&STORE.replace("replicas: 2", "replicas: many"));
    let up = user.run(&["local", "up", "-f", "app.yaml", "--detach"]);
    assert_eq!(up.status.code(), Some(1));
    let message = String::from_utf8_lossy(&up.stderr).into_owned();
    assert!(
        message.contains("app.yaml:5: spec.replicas: not a whole number"),
        "{message}"
    );
    user.assert_nothing_left();
}

#[test]
fn without_a_mesh_commands_say_how_to_start_one() {
    let user = User::new(STORE);
    for args in [["local", "status"], ["local", "down"], ["stat", "deploy"]] {
        let output = user.run(&args);
        assert_eq!(output.status.code(), Some(1));
        let message = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            message.contains("start one with `meshctl demo`"),
            "{message}"
        );
    }
    let version = user.run(&["version"]);
    assert!(version.status.success());
    assert!(String::from_utf8_lossy(&version.stdout).ends_with("Server version: unavailable\n"));
}
