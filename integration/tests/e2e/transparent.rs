//! Redirected connections, in a network namespace that the test makes. Needs root, and `unshare`,
//! `ip`, `iptables`, `setpriv` and `python3`.

use integration::bins;
use std::process::{Command, Stdio};

const TOOLS: [&str; 5] = ["unshare", "ip", "iptables", "setpriv", "python3"];

/// Why this machine cannot run the test, if it cannot.
fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root to make a network namespace".to_owned());
    }
    let runs = |tool: &&&str| {
        let mut command = Command::new(tool);
        command
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // `ip` knows no such flag, but it is there if it starts.
        command.status().is_err()
    };
    let tool = TOOLS.iter().find(runs)?;
    Some(format!("{tool} is not installed"))
}

#[test]
fn redirected_connections_reach_their_original_destinations() {
    if let Some(why) = missing() {
        eprintln!("skipped: {why}");
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let output = Command::new("unshare")
        .args([
            "--net",
            "bash",
            "-c",
            include_str!("transparent.sh"),
            "bash",
        ])
        .arg(bins::linkerd_proxy())
        .arg(dir.path())
        .output()
        .expect("unshare starts");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{stderr}");
    let has = |line: &str| {
        assert!(
            stdout.contains(line),
            "{line:?} is not in:\n{stdout}{stderr}"
        )
    };
    for (direction, port) in [("outbound", 9999), ("inbound", 8888)] {
        has(&format!("10.9.9.9 {port}\n"));
        has(&format!(
            "direction=\"{direction}\",target_addr=\"10.9.9.9:{port}\""
        ));
    }
    if stdout.contains("fd00::9 9999\n") {
        has("fd00::9 8888\n");
        has("target_addr=\"[fd00::9]:9999\"");
    } else {
        eprintln!("skipped for IPv6: ip6tables cannot redirect here");
    }
    // Who comes from elsewhere may look, not change.
    has("change from 127.0.0.1 204\n");
    has("change from 10.9.9.9 403\n");
}
