//! Meshes come, follow their manifests, and go; their pods have no sidecar.
//!
//! Each test has a user of its own, so they run beside each other.

use crate::user::{STORE, User, count};
use serde_json::Value;

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
