//! Commands that look at a running mesh, each against a real one.

use crate::rig::{
    SOON,
    home::{Home, START, manifest, pod_ip},
};
use integration::{client, eventually, load::Load, process::Process};
use rustix::process::Signal;
use serde_json::Value;
use std::{net::SocketAddr, process::Output};

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// That a command fails and says so in these words.
fn refused(home: &Home, args: &[&str], words: &str) {
    let output = home.run(args);
    let said = stdout(&output) + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    assert!(said.contains(words), "{args:?}: {said}");
}

/// One row of what a command prints as JSON.
fn row(home: &Home, args: &[&str], name: &str) -> Option<Value> {
    let rows = home.json(args);
    let mut rows = rows.as_array().into_iter().flatten();
    rows.find(|row| row["name"] == name).cloned()
}

fn sidecar_of_web(home: &Home) -> SocketAddr {
    SocketAddr::new(pod_ip(&home.status(), "web-0"), 4140)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_of_services_pods_and_namespaces_show_their_traffic() {
    let home = Home::new();
    let _files = home.up(2);
    let load = Load::http1(sidecar_of_web(&home), "http://api/").rate(50);
    let load = load.connections(2).start();
    for (kind, name) in [
        ("svc", "api"),
        ("pod", "api-1"),
        ("ns", "demo"),
        ("sts", "api"),
    ] {
        let args = ["stat", kind, "-o", "json"];
        eventually::holds(&format!("{kind}/{name} has traffic"), SOON * 6, || async {
            row(&home, &args, name).is_some_and(|row| {
                row["rps"].as_f64().is_some_and(|rps| rps > 1.0) && row["success"] == 1.0
            })
        })
        .await;
        let table = stdout(&home.run(&["stat", kind, name]));
        let cells = |line: &str| line.split_whitespace().any(|cell| cell == name);
        assert!(
            table.starts_with("NAME") && table.lines().any(cells),
            "{table}"
        );
        assert!(table.contains("100.00%"), "{table}");
    }
    load.stop().await.assert_no_failure();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_table_is_printed_again_until_it_is_interrupted() {
    let home = Home::new();
    let _files = home.up(1);
    let command = home.command(&["stat", "sts", "--watch"]);
    let mut watch = Process::spawn("meshctl stat --watch", command);
    eventually::holds("it is printed again", START, || async {
        watch.output().matches("NAME").count() >= 3
    })
    .await;
    assert!(
        watch.output().matches("api").count() >= 3,
        "{}",
        watch.output()
    );
    watch.signal(Signal::INT);
    assert!(watch.wait(SOON * 2).expect("it ends").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_and_metrics_are_what_a_proxy_sees() {
    let home = Home::new();
    let text = manifest(2).replacen(
        "labels: {app: api}\n    spec",
        "labels: {app: api}\n      annotations: {config.linkerd.io/opaque-ports: '8080'}\n    spec",
        1,
    );
    let web = "---\napiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: demo}\n\
        spec: {selector: {app: web}, ports: [{port: 80, targetPort: http}, {port: 81}]}\n";
    let _files = home.up_with(&(text + web));
    for (authority, pods, http2) in [
        ("api.demo:80", &["api-0", "api-1"][..], false),
        ("web.demo:80", &["web-0"], true),
    ] {
        let found = home.json(&["diagnostics", "endpoints", authority, "-o", "json"]);
        let found = found.as_array().expect("endpoints").clone();
        let names: Vec<_> = found.iter().map(|it| &it["pod"]).collect();
        assert_eq!(names, pods, "{found:?}");
        assert!(found.iter().all(|it| it["http2"] == http2), "{found:?}");
        assert!(found.iter().all(|it| it["port"] == 8080), "{found:?}");
    }
    refused(&home, &["dg", "ep", "web.demo:82"], "it has 80, 81");
    refused(&home, &["dg", "ep", "nope.demo:80"], "there is no service");

    let sidecar = sidecar_of_web(&home);
    assert_eq!(client::get(sidecar, "http://api/").await.status, 200);
    let page = stdout(&home.run(&["diagnostics", "proxy-metrics", "sts/web"]));
    assert!(page.contains("# POD web-0 (1 of 1)"), "{page}");
    assert!(
        page.contains("outbound_http_route_request_statuses_total"),
        "{page}"
    );
    refused(&home, &["dg", "proxy-metrics", "nope"], "no pod of nope");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_nothing_has_is_an_error() {
    let home = Home::new();
    let _files = home.up(1);
    refused(
        &home,
        &["stat", "deploy", "nope", "-n", "demo"],
        "no deployment nope in namespace demo",
    );
    refused(&home, &["stat", "pods/nope"], "no pod nope");
    refused(&home, &["edges", "sts", "nope"], "no statefulset nope");
    let quiet = home.run(&["edges", "sts", "web"]);
    assert!(quiet.status.success(), "{quiet:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_is_named_the_same_way_everywhere() {
    let home = Home::new();
    let client = format!("Client version: {}\n", env!("CARGO_PKG_VERSION"));
    let server = |version: &str| format!("{client}Server version: {version}\n");
    let none = home.run(&["version"]);
    assert_eq!(stdout(&none), server("unavailable"));
    assert!(none.status.success());
    let said = String::from_utf8_lossy(&none.stderr);
    assert!(said.contains("no mesh is running"), "{said}");

    let _files = home.up(1);
    for flag in ["--name", "--mesh"] {
        for command in [
            &["version"][..],
            &["stat"],
            &["edges"],
            &["check"],
            &["identity"],
            &["local", "status"],
            &["diagnostics", "endpoints", "api.demo:80"],
            &["diagnostics", "proxy-metrics", "api-0"],
        ] {
            let right = [command, &[flag, "default"]].concat();
            let output = home.run(&right);
            assert!(output.status.success(), "{right:?}: {output:?}");
            let wrong = [command, &[flag, "nope"]].concat();
            refused(&home, &wrong, "no mesh named nope is running");
        }
    }
    assert_eq!(
        stdout(&home.run(&["version"])),
        server(env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(stdout(&home.run(&["version", "--client"])), client);
}

#[test]
fn completions_offer_what_people_type_and_nothing_else() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = home.run(&["completion", shell]);
        assert!(output.status.success(), "{output:?}");
        let script = stdout(&output);
        for offered in ["diagnostics", "local", "proxy-metrics", "time-window"] {
            assert!(script.contains(offered), "{shell}: {offered}");
        }
        for hidden in [
            "janitor",
            "run-child",
            "demo-app",
            "controller)",
            "detached",
        ] {
            assert!(!script.contains(hidden), "{shell}: {hidden}");
        }
    }
}
