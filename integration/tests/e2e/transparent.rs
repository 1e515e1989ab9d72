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
fn a_redirected_connection_reaches_its_original_destination() {
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
    let mut lines = stdout.lines();
    assert_eq!(lines.next(), Some("original"), "{stderr}");
    let counted = lines.next().unwrap_or_default();
    assert!(
        counted.contains("target_addr=\"127.0.0.9:9999\""),
        "{counted}"
    );
}
