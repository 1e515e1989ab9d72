//! Who the workloads of a mesh are, and the commands that show it: `check`, `identity`, `edges`.
//!
//! Sidecars, controller and certificates are real.

use crate::user::{STORE, User};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A server and a client, each with a sidecar, each with a service account of its own.
const MESHED: &str = "\
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: api, namespace: demo}
spec:
  serviceName: api
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      serviceAccountName: server
      containers:
      - name: api
        command: [meshctl, demo-app, api]
        env: [{name: NAME, value: api-0}, {name: SLOW_REPLICA, value: none}]
        ports: [{name: http, containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: api, namespace: demo}
spec:
  selector: {app: api}
  ports: [{name: http, port: 80, targetPort: http}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: traffic, namespace: demo}
spec:
  selector: {matchLabels: {app: traffic}}
  template:
    metadata: {labels: {app: traffic}}
    spec:
      serviceAccountName: client
      terminationGracePeriodSeconds: 2
      containers:
      - name: traffic
        command: [meshctl, demo-app, traffic]
        env: [{name: TARGET, value: 'http://api/'}, {name: RPS, value: '20'}]
";

const SERVER: &str = "server.demo.serviceaccount.identity.gossamer.cluster.local";
const CLIENT: &str = "client.demo.serviceaccount.identity.gossamer.cluster.local";

fn text(output: &Output) -> String {
    let all = [output.stdout.as_slice(), &output.stderr].concat();
    String::from_utf8_lossy(&all).into_owned()
}

fn json(user: &User, args: &[&str]) -> Value {
    let output = user.run(args);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output)))
}

/// What `args` print, once it is `wanted`.
fn eventually(user: &User, args: &[&str], wanted: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let found = json(user, args);
        if wanted(&found) {
            return found;
        }
        let last = started.elapsed() > Duration::from_secs(30);
        assert!(!last, "{args:?}: {found:#}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn state(user: &User) -> PathBuf {
    user.dir.path().join("gossamer/default")
}

#[test]
fn keys_are_for_the_owner_and_go_with_the_mesh() {
    let user = User::new(STORE);
    let mut mesh = user.up();
    user.ready(2);
    let identity = state(&user).join("identity");
    for (file, mode) in [
        ("trust-anchors.pem", 0o644),
        ("issuer/crt.pem", 0o644),
        ("issuer/key.pem", 0o600),
        ("root-key.pem", 0o600),
        ("token-key.pem", 0o600),
        ("token-key.pub.pem", 0o644),
    ] {
        let metadata = std::fs::metadata(identity.join(file)).expect(file);
        assert_eq!(metadata.permissions().mode() & 0o777, mode, "{file}");
    }
    let key = std::fs::read_to_string(identity.join("issuer/key.pem")).unwrap();
    let secret = key.lines().nth(1).expect("a line of the key");
    for args in [
        ["local", "status", "-ojson"],
        ["local", "logs", "controller"],
    ] {
        assert!(
            !text(&user.run(&args)).contains(secret),
            "{args:?} tells the key"
        );
    }
    // Without proxies there is nothing to fail, and that is said.
    let check = user.run(&["check", "-o", "short", "--wait", "30s"]);
    assert!(check.status.success(), "{}", text(&check));
    assert!(text(&check).contains("‼ data plane proxies are ready\n    no pod has a proxy"));
    assert!(user.run(&["local", "down"]).status.success());
    assert!(mesh.wait().unwrap().success());
    user.assert_nothing_left();
}

#[test]
fn a_mesh_is_secured_with_nothing_to_configure() {
    let user = User::new(MESHED);
    let mut mesh = user.up();
    user.ready(2);
    let edges = eventually(&user, &["edges", "-o", "json"], |edges| {
        edges.as_array().is_some_and(|edges| edges.len() == 1)
    });
    assert_eq!(edges[0]["secured"], true, "{edges:#}");
    assert_eq!(
        (&edges[0]["src"], &edges[0]["dst"]),
        (&"traffic".into(), &"api".into())
    );
    assert_eq!(edges[0]["client_id"], CLIENT);
    assert_eq!(edges[0]["server_id"], SERVER);
    let table = text(&user.run(&["edges", "deploy/traffic", "-n", "demo", "-o", "wide"]));
    assert!(table.contains("client.demo   server.demo   √"), "{table}");
    assert!(text(&user.run(&["edges", "deploy/other"])).contains("no deployment other"));

    let found = json(&user, &["identity", "api-0", "-o", "json"]);
    let leaf = &found[0]["certificates"][0];
    assert_eq!(
        leaf["subject_alt_names"][0],
        format!("DNS:{SERVER}"),
        "{found:#}"
    );
    let shown = text(&user.run(&["identity", "-n", "demo", "-l", "app=api"]));
    assert!(shown.contains("POD api-0 (1 of 1)"), "{shown}");
    assert!(shown.contains(&format!("DNS:{SERVER}")), "{shown}");

    let check = user.run(&["check", "--wait", "30s"]);
    assert!(check.status.success(), "{}", text(&check));
    assert!(!text(&check).contains('‼'), "{}", text(&check));
    assert!(user.run(&["local", "down"]).status.success());
    assert!(mesh.wait().unwrap().success());
    user.assert_nothing_left();
}

#[test]
fn a_crashed_sidecar_proves_itself_again_with_what_is_there() {
    let user = User::new(MESHED);
    let mut mesh = user.up();
    let status = user.ready(2);
    let token = state(&user).join("tokens/demo/api-0/token");
    let before = std::fs::read(&token).unwrap();
    let sidecar = |status: &Value| {
        let pods = status["pods"].as_array().expect("pods");
        let api = pods.iter().find(|pod| pod["name"] == "api-0");
        api.expect("api-0")["processes"][0].clone()
    };
    let pid = sidecar(&status)["pid"].to_string();
    let kill = Command::new("kill").args(["-9", &pid]).status().unwrap();
    assert!(kill.success());
    user.wait("restarted and ready", |status| {
        let sidecar = sidecar(status);
        sidecar["restarts"] == 1 && sidecar["ready"] == true
    });
    assert_eq!(std::fs::read(&token).unwrap(), before, "it had time left");
    let check = user.run(&["check", "-o", "short", "--wait", "30s"]);
    assert!(check.status.success(), "{}", text(&check));
    let without_api = MESHED.replace("  serviceName: api", "  replicas: 0\n  serviceName: api");
    user.write(&without_api);
    user.ready(1);
    assert!(!token.exists(), "nobody needs it any more");
    assert!(user.run(&["local", "down"]).status.success());
    assert!(mesh.wait().unwrap().success());
    user.assert_nothing_left();
}

#[test]
fn who_has_no_sidecar_is_not_secured_and_that_is_said() {
    let unmeshed = "metadata: {labels: {app: api, linkerd.io/inject: disabled}}";
    let user = User::new(&MESHED.replacen("metadata: {labels: {app: api}}", unmeshed, 1));
    let mut mesh = user.up();
    user.ready(2);
    let edges = eventually(&user, &["edges", "-o", "json"], |edges| {
        edges.as_array().is_some_and(|edges| edges.len() == 1)
    });
    assert_eq!(edges[0]["secured"], false, "{edges:#}");
    let table = text(&user.run(&["edges"]));
    assert!(
        table.contains("Not Provided By Service Discovery"),
        "{table}"
    );
    let refused = user.run(&["identity", "api-0"]);
    assert!(text(&refused).contains("not meshed"), "{}", text(&refused));
    assert!(user.run(&["local", "down"]).status.success());
    assert!(mesh.wait().unwrap().success());
    user.assert_nothing_left();
}

#[test]
fn bad_material_is_told_of_and_does_not_stop_the_mesh() {
    let user = User::new(MESHED);
    let mut mesh = user.up();
    user.ready(2);
    let anchors = state(&user).join("identity/trust-anchors.pem");
    let good = std::fs::read(&anchors).unwrap();
    std::fs::write(&anchors, "nothing").unwrap();
    let bad = eventually(&user, &["check", "-o", "json"], |check| {
        check["success"] == false
    });
    let checks = bad["categories"].as_array().expect("categories").iter();
    let mut checks = checks.flat_map(|it| it["checks"].as_array().expect("checks"));
    let config = checks
        .find(|check| check["description"] == "certificate config is valid")
        .unwrap_or_else(|| panic!("{bad:#}"));
    assert_eq!(config["result"], "error");
    let error = config["error"].as_str().expect("an error");
    assert!(error.contains("trust-anchors.pem"), "{error}");
    assert!(config["hint"].is_string(), "{config}");
    let table = user.run(&["check"]);
    assert_eq!(table.status.code(), Some(1));
    assert!(text(&table).ends_with("Status check results are ×\n"));
    assert_eq!(user.status()["ready"], true, "what was good stays in force");
    std::fs::write(&anchors, good).unwrap();
    let check = user.run(&["check", "-o", "short", "--wait", "30s"]);
    assert!(check.status.success(), "{}", text(&check));
    assert!(user.run(&["local", "down"]).status.success());
    assert!(mesh.wait().unwrap().success());
    user.assert_nothing_left();
}

#[test]
fn without_a_mesh_the_check_says_how_to_start_one() {
    let user = User::new(STORE);
    let check = user.run(&["check"]);
    assert_eq!(check.status.code(), Some(1));
    let said = text(&check);
    assert!(
        said.contains("× a mesh is running\n    no mesh is running on this machine"),
        "{said}"
    );
    assert!(said.contains("    see: `meshctl demo`"), "{said}");
    for args in [["edges", "deploy"], ["identity", "web"]] {
        let output = user.run(&args);
        assert_eq!(output.status.code(), Some(1));
        assert!(text(&output).contains("start one with `meshctl demo`"));
    }
    let refused = text(&user.run(&["edges", "svc"]));
    assert!(
        refused.contains("take one of deploy, sts, po, ns"),
        "{refused}"
    );
}
