//! A whole mesh on one machine, by `meshctl`.

use crate::rig::SOON;
use integration::{bins, client, eventually, load::Load, process::Process};
use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::Value;
use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
    time::Duration,
};
use tempfile::TempDir;

/// Start, on a machine that is busy with other tests.
const START: Duration = Duration::from_secs(60);

/// Where a run of `meshctl` keeps everything; every process of its mesh carries the path.
struct Home(TempDir);

impl Home {
    /// Runs the application in the background; its manifests live as long as what is returned.
    fn up(&self, replicas: u32) -> tempfile::TempDir {
        self.up_with(&manifest(replicas))
    }

    fn up_with(&self, manifest: &str) -> tempfile::TempDir {
        let files = tempfile::tempdir().expect("a temporary directory can be made");
        std::fs::write(files.path().join("app.yaml"), manifest).expect("it can be written");
        let dir = files.path().to_str().expect("a plain path");
        let up = self.run(&["local", "up", "-f", dir, "--detach"]);
        let stderr = String::from_utf8_lossy(&up.stderr);
        assert!(up.status.success(), "{stderr}");
        files
    }

    fn new() -> Self {
        Self(tempfile::tempdir().expect("a temporary directory can be made"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(bins::meshctl());
        command.args(args).env("XDG_RUNTIME_DIR", self.path());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("meshctl runs")
    }

    fn json(&self, args: &[&str]) -> Value {
        let output = self.run(args);
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error} in {text}"))
    }

    fn status(&self) -> Value {
        self.json(&["local", "status", "-o", "json"])
    }

    /// Processes that carry this home in their environment.
    fn processes(&self) -> Vec<u32> {
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
    fn files(&self) -> Vec<std::path::PathBuf> {
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

    async fn nothing_is_left(&self) {
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
fn manifest(replicas: u32) -> String {
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

fn pod_ip(status: &Value, name: &str) -> std::net::IpAddr {
    let pods = status["pods"].as_array().expect("pods");
    let pod = pods.iter().find(|pod| pod["name"] == name);
    let ip = pod
        .and_then(|pod| pod["ip"].as_str())
        .and_then(|ip| ip.parse().ok());
    ip.unwrap_or_else(|| panic!("no pod {name} in {status}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_shows_traffic_through_the_mesh_and_leaves_nothing_behind() {
    let home = Home::new();
    let command = home.command(&["demo", "--for", "15s", "-o", "json"]);
    let mut demo = Process::spawn("meshctl demo", command);
    let status = demo
        .wait(START + Duration::from_secs(30))
        .expect("it ends by itself");
    let output = demo.output();
    assert!(status.success(), "{output}");
    let json = &output[output.find("\n[").map_or(0, |at| at + 1)..];
    let mut rows = serde_json::Deserializer::from_str(json).into_iter::<Value>();
    let rows = rows
        .next()
        .and_then(Result::ok)
        .unwrap_or_else(|| panic!("no JSON: {output}"));
    for name in ["web", "api", "voting"] {
        let row = rows
            .as_array()
            .and_then(|rows| rows.iter().find(|row| row["name"] == name));
        let row = row.unwrap_or_else(|| panic!("no {name} in {rows}"));
        assert!(row["rps"].as_f64().is_some_and(|rps| rps > 1.0), "{row}");
        assert!(
            row["success"].as_f64().is_some_and(|rate| rate > 0.8),
            "{row}"
        );
    }
    home.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_demo_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let home = Home::new();
        let mut demo = Process::spawn("meshctl demo", home.command(&["demo"]));
        eventually::holds("replicas run", START, || async {
            home.processes().len() > 8
        })
        .await;
        demo.signal(signal);
        demo.wait(SOON * 6).expect("it ends");
        home.nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_demo_leaves_no_process_behind() {
    let home = Home::new();
    let mut demo = Process::spawn("meshctl demo", home.command(&["demo"]));
    eventually::holds("replicas run", START, || async {
        home.processes().len() > 8
    })
    .await;
    demo.kill();
    eventually::holds("nothing is left", SOON * 4, || async {
        home.processes().is_empty() && home.files().is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_detached_mesh_can_be_seen_and_taken_down() {
    let home = Home::new();
    let files = home.up(2);
    let dir = files.path().to_str().expect("a plain path");
    let status = home.status();
    assert_eq!(status["ready"], true, "{status}");
    assert_eq!(status["pods"].as_array().map(Vec::len), Some(3), "{status}");

    let sidecar = SocketAddr::new(pod_ip(&status, "web-0"), 4140);
    let answer = client::get(sidecar, "http://api/").await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().starts_with("from api-"), "{}", answer.text());

    let again = home.run(&["local", "up", "-f", dir, "--detach"]);
    assert!(
        !again.status.success(),
        "a second mesh of the same name is refused"
    );
    let down = home.run(&["local", "down"]);
    assert!(
        down.status.success(),
        "{}",
        String::from_utf8_lossy(&down.stderr)
    );
    home.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_up_and_down_under_load_loses_no_request() {
    let home = Home::new();
    let files = tempfile::tempdir().expect("a temporary directory can be made");
    let path = files.path().join("app.yaml");
    std::fs::write(&path, manifest(2)).expect("it can be written");
    let file = path.to_str().expect("a plain path");
    let _mesh = Process::spawn(
        "meshctl local up",
        home.command(&["local", "up", "-f", file]),
    );
    eventually::holds("ready", START, || async {
        let output = home.run(&["local", "status", "-o", "json"]);
        serde_json::from_slice::<Value>(&output.stdout).is_ok_and(|status| status["ready"] == true)
    })
    .await;
    let sidecar = SocketAddr::new(pod_ip(&home.status(), "web-0"), 4140);
    let load = Load::http1(sidecar, "http://api/")
        .rate(100)
        .connections(8)
        .start();
    eventually::holds("load runs", SOON, || async { load.report().ok > 50 }).await;
    for replicas in [4_u32, 2] {
        std::fs::write(&path, manifest(replicas)).expect("it can be written");
        eventually::holds("as many replicas as asked for", START, || async {
            let status = home.status();
            let pods = status["pods"].as_array().map_or(0, Vec::len);
            status["ready"] == true && pods == replicas as usize + 1
        })
        .await;
        let before = load.report().ok;
        eventually::holds("load goes on", SOON * 2, || async {
            load.report().ok > before + 100
        })
        .await;
    }
    load.stop().await.assert_no_failure();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crashed_process_is_started_again() {
    let home = Home::new();
    let _files = home.up(1);
    let status = home.status();
    let of_api = |status: &Value| -> Vec<i64> {
        let pods = status["pods"].as_array();
        let pod = pods.and_then(|pods| pods.iter().find(|pod| pod["name"] == "api-0"));
        let pod = pod.cloned().unwrap_or_default();
        let processes = pod["processes"].as_array().into_iter().flatten();
        processes
            .filter_map(|process| process["pid"].as_i64())
            .collect()
    };
    let pids = of_api(&status);
    assert!(!pids.is_empty(), "{status}");
    for pid in &pids {
        let pid = Pid::from_raw(*pid as i32).expect("a process id");
        let _ = rustix::process::kill_process(pid, Signal::KILL);
        eventually::holds("it is dead", SOON, || async {
            test_kill_process(pid).is_err()
        })
        .await;
    }
    eventually::holds("others run in their place", SOON * 4, || async {
        let status = home.status();
        let now = of_api(&status);
        status["ready"] == true && !now.is_empty() && now.iter().all(|pid| !pids.contains(pid))
    })
    .await;
    assert!(home.run(&["local", "down"]).status.success());
    home.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_controller_shows_where_the_replicas_do() {
    let home = Home::new();
    let _files = home.up(1);
    let status = home.status();
    let pid = status["controller"]["pid"].as_i64().expect("a process id");
    let pid = Pid::from_raw(pid as i32).expect("a process id");
    rustix::process::kill_process(pid, Signal::KILL).expect("it runs");
    let ip = status["controller_ip"].as_str().expect("an address");
    let want = ["gossamer", "controller", "1/1", "1", ip, "ready"];
    eventually::holds("it is told of", SOON * 4, || async {
        let table = home.run(&["local", "status"]).stdout;
        let table = String::from_utf8_lossy(&table).into_owned();
        table.lines().any(|line| line.split_whitespace().eq(want))
    })
    .await;
    assert!(home.run(&["local", "down"]).status.success());
    home.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kubectl_gets_is_run() {
    let home = Home::new();
    let item = |document: &str| {
        let lines = document.lines().map(|line| format!("  {line}\n"));
        format!("- {}", lines.collect::<String>().trim_start())
    };
    let items: String = manifest(1).split("---\n").map(item).collect();
    let list = format!("apiVersion: v1\nitems:\n{items}kind: List\nmetadata: {{}}\n");
    let _files = home.up_with(&list);
    let status = home.status();
    assert_eq!(status["pods"].as_array().map(Vec::len), Some(2), "{status}");
    assert_eq!(status["warnings"], serde_json::json!([]));
    assert!(home.run(&["local", "down"]).status.success());
    home.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_are_answered_with_what_to_do() {
    let home = Home::new();
    let missing = home.run(&["local", "up", "-f", "/nowhere.yaml"]);
    assert!(!missing.status.success());
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/nowhere.yaml"));
    let down = home.run(&["local", "down"]);
    assert!(!down.status.success() || !down.stderr.is_empty() || !down.stdout.is_empty());
    home.nothing_is_left().await;
}
