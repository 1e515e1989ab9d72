//! Configuration that is wrong.

use crate::rig::SOON;
use integration::{bins, control::ControlPlane, eventually, proxy, scrape};
use std::process::Command;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_errors_are_listed_and_the_exit_code_is_64() {
    let control = ControlPlane::start();
    let (status, output) = proxy::with(&control)
        .env("LINKERD2_PROXY_LOG", "linkerd=loud")
        .env("LINKERD2_PROXY_LOG_FORMAT", "XML")
        .env("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", "nowhere")
        .env("LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT", "1.5s")
        .env("LINKERD2_PROXY_OUTBOUND_MAX_IN_FLIGHT", "many")
        .env("LINKERD2_PROXY_CORES_MAX_RATIO", "1.5")
        .env("GOSSAMER_PROXY_OUTBOUND_PORTS", "127.0.0.1=web:80")
        .without("LINKERD2_PROXY_POLICY_WORKLOAD")
        .run();
    assert_eq!(status.code(), Some(64), "{output}");
    for name in [
        "LINKERD2_PROXY_LOG:",
        "LINKERD2_PROXY_LOG_FORMAT",
        "LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR",
        "LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT",
        "LINKERD2_PROXY_OUTBOUND_MAX_IN_FLIGHT",
        "LINKERD2_PROXY_CORES_MAX_RATIO",
        "GOSSAMER_PROXY_OUTBOUND_PORTS",
        "LINKERD2_PROXY_POLICY_WORKLOAD",
    ] {
        assert!(output.contains(name), "{name} is not in:\n{output}");
    }
}

#[test]
fn the_proxy_says_what_it_is_without_a_configuration() {
    for (argument, says) in [
        ("--help", "LINKERD2_PROXY_"),
        ("--version", env!("CARGO_PKG_VERSION")),
    ] {
        let run = Command::new(bins::linkerd_proxy()).arg(argument).output();
        let run = run.expect("it runs");
        let output = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && output.contains(says), "{run:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_is_a_failed_start() {
    let control = ControlPlane::start();
    let builder = proxy::with(&control);
    let taken = std::net::TcpListener::bind((builder.ip(), 4191)).expect("a free address");
    let (status, output) = builder.run();
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("4191"), "the address is named:\n{output}");
    drop(taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn variables_of_linkerd_that_are_not_acted_on_are_accepted() {
    let control = ControlPlane::start();
    let proxy = proxy::with(&control)
        .env(
            "LINKERD2_PROXY_TAP_SVC_NAME",
            "tap.linkerd-viz.serviceaccount.identity.linkerd",
        )
        .env("LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_TLS", "80")
        .env("LINKERD2_PROXY_CONTROL_STREAM_INITIAL_TIMEOUT", "3s")
        .env("LINKERD2_PROXY_CONTROL_STREAM_IDLE_TIMEOUT", "5m")
        .env("LINKERD2_PROXY_CONTROL_STREAM_LIFETIME", "1h")
        .start();
    assert!(scrape::get(proxy.admin(), "/live").is_ok_and(|answer| answer.status == 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_are_as_many_workers_as_cores_are_granted() {
    let control = ControlPlane::start();
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    for (name, value, want) in [
        ("LINKERD2_PROXY_CORES_MIN", "1", 1),
        ("LINKERD2_PROXY_CORES_MAX_RATIO", "1.0", all),
        ("LINKERD2_PROXY_CORES", "9999", all),
    ] {
        let mut proxy = proxy::with(&control).env(name, value).start();
        let pid = proxy.process().pid();
        // A thread has its name a moment after it has begun.
        eventually::holds(&format!("{name}={value}"), SOON, || async {
            threads(pid, "worker-") == want
        })
        .await;
    }
}

/// How many threads of a process have names that begin so.
fn threads(pid: u32, prefix: &str) -> usize {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    let names = threads.filter_map(|thread| {
        let name = thread.ok()?.path().join("comm");
        std::fs::read_to_string(name).ok()
    });
    names.filter(|name| name.starts_with(prefix)).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_can_be_json() {
    let control = ControlPlane::start();
    let mut proxy = proxy::with(&control)
        .env("LINKERD2_PROXY_LOG_FORMAT", "json")
        .start();
    proxy.terminate();
    proxy.wait(SOON * 2).expect("it ends");
    let log = proxy.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    assert!(!lines.is_empty());
    assert!(lines.iter().all(|line| line["level"].is_string()), "{log}");
}
