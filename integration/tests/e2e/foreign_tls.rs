//! Programs that everybody has, as clients of a meshed port.

use crate::rig::mesh::{Mesh, Way, server_id};
use integration::{
    pki::{self, Leaf},
    process::Process,
    server::Server,
};
use std::{path::PathBuf, process::Command, time::Duration};
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(20);

/// Files for programs that take certificates from files.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new(mesh: &Mesh, leaf: &Leaf) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let files = Self { dir };
        pki::replace(&files.path("root.pem"), &mesh.root.anchor_pem());
        pki::replace(&files.path("leaf.pem"), &leaf.chain_pem());
        pki::replace(&files.path("key.pem"), &leaf.key_pem());
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// Whether `program` is there; says so when it is not.
fn has(program: &str, version: &str) -> bool {
    let is_there = Command::new(program).arg(version).output().is_ok();
    if !is_there {
        eprintln!("skipped: this machine has no {program}");
    }
    is_there
}

/// Runs `command` to its end; whether it went well, and all that it printed.
fn run(name: &str, command: Command) -> (bool, String) {
    let mut process = Process::spawn(name, command);
    let status = process.wait(DEADLINE).expect("it ends by itself");
    (status.success(), process.output())
}

/// `openssl s_client` to the application's sidecar.
fn s_client(mesh: &Mesh, files: &Files, args: &[&str]) -> Command {
    let mut command = Command::new("openssl");
    let addr = mesh.app().to_string();
    command
        .args(["s_client", "-connect", &addr, "-servername", &server_id()])
        .args([
            "-verify_return_error",
            "-verify_hostname",
            &server_id(),
            "-CAfile",
        ])
        .arg(files.path("root.pem"))
        .args(args);
    command
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_verifies_the_chain_and_speaks_tls_1_3() {
    if !has("openssl", "version") {
        return;
    }
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let files = Files::new(&mesh, &mesh.leaf("batch"));
    let (is_ok, text) = run("openssl", s_client(&mesh, &files, &[]));
    assert!(is_ok, "{text}");
    assert!(text.contains("Verify return code: 0 (ok)"), "{text}");
    assert!(text.contains("TLSv1.3"), "{text}");
    assert!(
        text.contains("Acceptable client certificate CA names")
            || text.contains("No client certificate CA names"),
        "a certificate is asked for: {text}"
    );
    let is_new = text.contains("X25519MLKEM768");
    assert!(is_new || text.contains("X25519"), "{text}");
    let group = if is_new { "X25519MLKEM768" } else { "X25519" };
    let labels = [("direction", "inbound"), ("result", "ok"), ("group", group)];
    let metrics = mesh.server.metrics();
    assert_eq!(
        metrics.sum("tls_handshakes_total", &labels),
        1.0,
        "{}",
        metrics.text()
    );
    let suite = [
        ("direction", "inbound"),
        ("cipher", "TLS13_AES_128_GCM_SHA256"),
    ];
    let other = [
        ("direction", "inbound"),
        ("cipher", "TLS13_CHACHA20_POLY1305_SHA256"),
    ];
    let other256 = [
        ("direction", "inbound"),
        ("cipher", "TLS13_AES_256_GCM_SHA384"),
    ];
    let all = [suite, other, other256].map(|labels| metrics.sum("tls_handshakes_total", &labels));
    assert_eq!(all.iter().sum::<f64>(), 1.0, "{}", metrics.text());
    assert!(
        metrics.sum(
            "tls_handshake_duration_seconds_count",
            &[("direction", "inbound")]
        ) >= 1.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_with_a_certificate_is_known_by_its_name() {
    if !has("openssl", "version") {
        return;
    }
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let files = Files::new(&mesh, &mesh.leaf("batch"));
    let mut command = Command::new("sh");
    // `-quiet` makes it stay after the end of its input, until the server is done.
    let text = "printf 'GET /headers HTTP/1.1\\r\\nhost: api\\r\\nconnection: close\\r\\n\\r\\n' \
                | openssl s_client -quiet -connect \"$1\" -servername \"$2\" -CAfile \
                \"$3/root.pem\" -cert \"$3/leaf.pem\" -cert_chain \"$3/leaf.pem\" -key \"$3/key.pem\"";
    command
        .args(["-c", text, "sh", &mesh.app().to_string(), &server_id()])
        .arg(files.dir.path());
    let (_, text) = run("openssl", command);
    assert!(text.contains("HTTP/1.1 200"), "{text}");
    let id = format!("l5d-client-id: {}", pki::identity("batch"));
    assert!(text.contains(&id), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_with_tls_1_2_is_refused() {
    if !has("openssl", "version") {
        return;
    }
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let files = Files::new(&mesh, &mesh.leaf("batch"));
    let (is_ok, text) = run("openssl", s_client(&mesh, &files, &["-tls1_2"]));
    assert!(!is_ok, "{text}");
    assert!(text.contains("protocol version"), "{text}");
    mesh.server_counts("protocol_version").await;
    assert_eq!(app.accepted(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openssl_may_use_any_suite_and_group_of_tls_1_3() {
    if !has("openssl", "version") {
        return;
    }
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let files = Files::new(&mesh, &mesh.leaf("batch"));
    for args in [
        ["-ciphersuites", "TLS_AES_128_GCM_SHA256"],
        ["-ciphersuites", "TLS_AES_256_GCM_SHA384"],
        ["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
        ["-groups", "X25519"],
        ["-groups", "P-256"],
        ["-groups", "P-384"],
    ] {
        let (is_ok, text) = run("openssl", s_client(&mesh, &files, &args));
        assert!(
            is_ok && text.contains("Verify return code: 0 (ok)"),
            "{args:?}: {text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_with_a_certificate_is_served() {
    if !has("curl", "--version") {
        return;
    }
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let files = Files::new(&mesh, &mesh.leaf("batch"));
    let (name, addr) = (server_id(), mesh.app());
    // It offers protocols that the sidecar does not choose from, unless it is told not to.
    for args in [&["--no-alpn"][..], &["--http1.1"], &["--http2"], &[]] {
        let mut command = Command::new("curl");
        command
            .args(["--silent", "--show-error", "--include", "--max-time", "10"])
            .args([
                "--resolve",
                &format!("{name}:{}:{}", addr.port(), addr.ip()),
            ])
            .arg("--cacert")
            .arg(files.path("root.pem"))
            .arg("--cert")
            .arg(files.path("leaf.pem"))
            .arg("--key")
            .arg(files.path("key.pem"))
            .args(args)
            .arg(format!("https://{name}:{}/headers", addr.port()));
        let (is_ok, text) = run("curl", command);
        assert!(is_ok && text.contains(" 200"), "{args:?}: {text}");
        let id = format!("l5d-client-id: {}", pki::identity("batch"));
        assert!(text.contains(&id), "{args:?}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn curl_without_a_certificate_is_served_as_nobody() {
    if !has("curl", "--version") {
        return;
    }
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let files = Files::new(&mesh, &mesh.leaf("batch"));
    let (name, addr) = (server_id(), mesh.app());
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--max-time", "10", "--no-alpn"])
        .args([
            "--resolve",
            &format!("{name}:{}:{}", addr.port(), addr.ip()),
        ])
        .args(["--header", "l5d-client-id: root", "--cacert"])
        .arg(files.path("root.pem"))
        .arg(format!("https://{name}:{}/headers", addr.port()));
    let (is_ok, text) = run("curl", command);
    assert!(is_ok && text.contains("HTTP/1.1"), "{text}");
    assert!(!text.contains("l5d-client-id"), "{text}");
    let labels = [("direction", "inbound"), ("tls", "true"), ("client_id", "")];
    assert_eq!(mesh.server.metric("request_total", &labels), 1.0);
}
