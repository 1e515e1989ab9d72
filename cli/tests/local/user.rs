//! A user of `meshctl` with a runtime directory and a manifest of their own.
//!
//! For all tests of this folder.

use serde_json::Value;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Two replicas without sidecars.
pub const STORE: &str = "\
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
pub struct User {
    pub dir: TempDir,
}

impl User {
    pub fn new(manifest: &str) -> Self {
        let user = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        user.write(manifest);
        user
    }

    pub fn write(&self, manifest: &str) {
        std::fs::write(self.dir.path().join("app.yaml"), manifest).unwrap();
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshctl"));
        command
            .args(args)
            .current_dir(self.dir.path())
            .env("XDG_RUNTIME_DIR", self.dir.path());
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    pub fn up(&self) -> Child {
        let mut command = self.command(&["local", "up", "-f", "app.yaml"]);
        command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap()
    }

    pub fn status(&self) -> Value {
        let output = self.run(&["local", "status", "-o", "json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    pub fn wait(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
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

    pub fn ready(&self, pods: usize) -> Value {
        self.wait("ready", |status| {
            status["ready"] == true && count(status) == pods
        })
    }

    /// No state, and no process that names this user's directory.
    pub fn assert_nothing_left(&self) {
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

pub fn count(status: &Value) -> usize {
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
