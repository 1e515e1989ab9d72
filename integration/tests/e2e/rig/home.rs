//! A user's directory in which `meshctl` runs meshes, and the application of most of them.

use super::SOON;
use integration::{bins, eventually};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};
use tempfile::TempDir;

/// Start, on a machine that is busy with other tests.
pub(crate) const START: Duration = Duration::from_secs(60);

/// Where a run of `meshctl` keeps everything; every process of its mesh carries the path.
pub(crate) struct Home(TempDir);

impl Home {
    /// Runs the application in the background; its manifests live as long as what is returned.
    pub(crate) fn up(&self, replicas: u32) -> tempfile::TempDir {
        self.up_with(&manifest(replicas))
    }

    pub(crate) fn up_with(&self, manifest: &str) -> tempfile::TempDir {
        let files = tempfile::tempdir().expect("a temporary directory can be made");
        std::fs::write(files.path().join("app.yaml"), manifest).expect("it can be written");
        let dir = files.path().to_str().expect("a plain path");
        let up = self.run(&["local", "up", "-f", dir, "--detach"]);
        let stderr = String::from_utf8_lossy(&up.stderr);
        assert!(up.status.success(), "{stderr}");
        files
    }

    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory can be made"))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(bins::meshctl());
        command.args(args).env("XDG_RUNTIME_DIR", self.path());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("meshctl runs")
    }

    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error} in {text}"))
    }

    pub(crate) fn status(&self) -> Value {
        self.json(&["local", "status", "-o", "json"])
    }

    /// Processes that carry this home in their environment.
    pub(crate) fn processes(&self) -> Vec<u32> {
        let path = self.path().as_os_str().as_encoded_bytes();
        let of_home = |pid: &u32| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.windows(path.len()).any(|window| window == path)
        };
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(of_home)
            .collect()
    }

    /// Files below the home, whatever they are.
    pub(crate) fn files(&self) -> Vec<std::path::PathBuf> {
        let mut files = Vec::new();
        let mut dirs = vec![self.path().to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => dirs.push(entry.path()),
                    _ => files.push(entry.path()),
                }
            }
        }
        files
    }

    pub(crate) async fn nothing_is_left(&self) {
        eventually::holds("no process is left", SOON * 2, || async {
            self.processes().is_empty()
        })
        .await;
        assert!(self.files().is_empty(), "left behind: {:?}", self.files());
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        for pid in self.processes() {
            if let Some(pid) = Pid::from_raw(pid as i32) {
                let _ = rustix::process::kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// `api` with some replicas, and `web`, whose sidecar the test calls through.
pub(crate) fn manifest(replicas: u32) -> String {
    let app = |name: &str, kind: &str, replicas: u32| {
        format!(
            "apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: demo}}\n\
             spec:\n  replicas: {replicas}\n  serviceName: {name}\n  \
             podManagementPolicy: Parallel\n  selector:\n    matchLabels: {{app: {name}}}\n  \
             template:\n    metadata:\n      labels: {{app: {name}}}\n    spec:\n      containers:\n\
             \x20     - name: app\n        command: [meshctl, demo-app, api]\n        env:\n        \
             - {{name: NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}\n        \
             - {{name: SLOW_REPLICA, value: none}}\n        ports:\n        \
             - {{name: http, containerPort: 8080}}\n        \
             readinessProbe: {{httpGet: {{path: /ready, port: http}}}}\n"
        )
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: demo}\nspec:\n  \
        selector: {app: api}\n  ports:\n  - {name: http, port: 80, targetPort: http}\n";
    [
        app("api", "StatefulSet", replicas).as_str(),
        app("web", "StatefulSet", 1).as_str(),
        service,
    ]
    .join("---\n")
}

pub(crate) fn pod_ip(status: &Value, name: &str) -> std::net::IpAddr {
    let pods = status["pods"].as_array().expect("pods");
    let pod = pods.iter().find(|pod| pod["name"] == name);
    let ip = pod
        .and_then(|pod| pod["ip"].as_str())
        .and_then(|ip| ip.parse().ok());
    ip.unwrap_or_else(|| panic!("no pod {name} in {status}"))
}
