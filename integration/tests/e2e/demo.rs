//! `meshctl demo`: what it shows, and what it leaves behind.

use crate::rig::{
    SOON,
    home::{Home, START},
};
use integration::{eventually, process::Process};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::time::Duration;

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
    let mut stores = rows.as_array().into_iter().flatten();
    let store = stores
        .find(|row| row["name"] == "store")
        .expect("the store");
    let read = store["tcp_read_bytes_rate"].as_f64();
    assert!(read.is_some_and(|rate| rate > 1.0), "{store}");
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
async fn a_demo_killed_as_it_starts_leaves_nothing_behind() {
    let home = Home::new();
    let state = home.path().join("gossamer");
    for files in 0..5 {
        let mut demo = Process::spawn("meshctl demo", home.command(&["demo"]));
        eventually::blocking(START, || {
            (state.exists() && home.files().len() >= files).then_some(())
        })
        .expect("its state appears");
        demo.kill();
        eventually::holds("nothing is left", SOON * 4, || async {
            home.processes().is_empty() && !state.exists()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_goes_on_while_its_controller_restarts() {
    let home = Home::new();
    let mut demo = Process::spawn("meshctl demo", home.command(&["demo"]));
    eventually::holds("figures are shown", START, || async {
        demo.output().contains("deploy/web")
    })
    .await;
    let mut controllers: Vec<Pid> = Vec::new();
    for signal in [Signal::KILL, Signal::KILL, Signal::STOP] {
        let pid = eventually::some("another controller runs", SOON * 6, || async {
            let pid = home.status()["controller"]["pid"].as_i64()?;
            Pid::from_raw(pid as i32).filter(|pid| !controllers.contains(pid))
        })
        .await;
        let _ = rustix::process::kill_process(pid, signal);
        controllers.push(pid);
    }
    eventually::holds("it tells of the controller", SOON * 6, || async {
        demo.output().contains("controller is away")
    })
    .await;
    let shown = demo.output().len();
    let _ = rustix::process::kill_process(controllers[2], Signal::CONT);
    eventually::holds("figures are shown again", SOON * 12, || async {
        let output = demo.output();
        let last = output[shown..].rsplit("NAME").next().unwrap_or_default();
        last.contains("mTLS:") && !last.contains("away")
    })
    .await;
    assert!(demo.is_running());
    demo.signal(Signal::INT);
    let status = demo.wait(SOON * 6).expect("it ends");
    let output = demo.output();
    assert!(status.success(), "{output}");
    let (_, last) = output.split_once("\nover ").expect("a last table");
    let row = |name: &str| {
        let mut rows = last.lines().map(str::split_whitespace);
        rows.find_map(|mut row| (row.next() == Some(name)).then(|| row.collect::<Vec<_>>()))
    };
    let web = row("deploy/web").expect("a row");
    assert!(web[1].ends_with('%') && web[2].ends_with("rps"), "{last}");
    // What is plain TCP shows what it carries.
    let store = row("deploy/store").expect("a row");
    assert!(store[1] == "-" && store[7].ends_with('B'), "{last}");
    assert!(row("deploy/traffic").is_none(), "{last}");
    assert!(
        last.lines().all(|line| line.chars().count() <= 80),
        "{last}"
    );
    home.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_demo_that_cannot_start_says_why() {
    let home = Home::new();
    let deep = home.path().join("x".repeat(100));
    let mut command = home.command(&["demo"]);
    command.env("XDG_RUNTIME_DIR", &deep);
    let mut demo = Process::spawn("meshctl demo", command);
    let status = demo.wait(START).expect("it ends by itself");
    assert!(!status.success());
    let output = demo.output();
    assert!(output.contains("too long for a socket"), "{output}");
    assert!(output.contains("XDG_RUNTIME_DIR"), "{output}");
    assert!(!deep.exists());
}
