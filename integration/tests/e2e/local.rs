//! A whole mesh on one machine, by `meshctl local`.

use crate::rig::{
    SOON,
    home::{Home, START, manifest, pod_ip},
};
use integration::{client, eventually, load::Load, process::Process};
use rustix::process::{Pid, Signal, test_kill_process};
use serde_json::Value;
use std::net::SocketAddr;

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
    let other = home.run(&["local", "down", "-f", "/nowhere"]);
    let said = String::from_utf8_lossy(&other.stderr);
    assert!(
        !other.status.success() && said.contains("default"),
        "{said}"
    );
    let by_files = home.json(&["local", "status", "-f", dir, "-o", "json"]);
    assert_eq!(by_files["pid"], status["pid"]);
    let down = home.run(&["local", "down", "-f", dir]);
    assert!(
        down.status.success(),
        "{}",
        String::from_utf8_lossy(&down.stderr)
    );
    home.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_that_was_stopped_by_a_signal_is_told_of() {
    let home = Home::new();
    let _files = home.up(1);
    let pid = home.status()["pid"].as_i64().expect("a process id");
    let supervisor = Pid::from_raw(pid as i32).expect("a process id");
    rustix::process::kill_process(supervisor, Signal::STOP).expect("it runs");
    let down = home.run(&["local", "down"]);
    rustix::process::kill_process(supervisor, Signal::CONT).expect("it runs");
    let said = String::from_utf8_lossy(&down.stderr);
    assert!(said.contains(&format!("kill -CONT {pid}")), "{said}");
    assert!(said.contains(&format!("kill -9 {pid}")), "{said}");
    assert!(home.run(&["local", "down"]).status.success());
    home.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_of_a_stateful_set_is_reached_by_its_own_name() {
    let home = Home::new();
    let _files = home.up(2);
    let sidecar = SocketAddr::new(pod_ip(&home.status(), "web-0"), 4140);
    for replica in ["api-0", "api-1"] {
        let name = format!("{replica}.api.demo.svc.cluster.local");
        for _ in 0..4 {
            let answer = client::get(sidecar, &format!("http://{name}/")).await;
            assert_eq!(answer.status, 200, "{name}: {}", answer.text());
            assert_eq!(answer.text(), format!("from {replica}\n"));
        }
        let found = home.json(&["dg", "ep", &format!("{name}:80"), "-o", "json"]);
        let pods = found.as_array().into_iter().flatten();
        let pods: Vec<_> = pods.map(|endpoint| &endpoint["pod"]).collect();
        assert_eq!(pods, [replica], "{found}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_a_deployment_up_and_down_under_load_loses_no_request() {
    let home = Home::new();
    // `api` stands first.
    let manifest = |replicas| manifest(replicas).replacen("StatefulSet", "Deployment", 1);
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
        .rate(200)
        .connections(16)
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_is_not_understood_lets_nobody_in_and_is_told_of() {
    let home = Home::new();
    let strict = manifest(1).replacen(
        "labels: {app: api}\n    spec",
        "labels: {app: api}\n      annotations: \
         {config.linkerd.io/default-inbound-policy: denny}\n    spec",
        1,
    );
    let _files = home.up_with(&strict);
    let warnings = home.status()["warnings"].to_string();
    assert!(warnings.contains("default-inbound-policy"), "{warnings}");
    assert!(warnings.contains("nobody may connect"), "{warnings}");
    let sidecar = SocketAddr::new(pod_ip(&home.status(), "web-0"), 4140);
    assert_eq!(client::get(sidecar, "http://api/").await.status, 403);
}
