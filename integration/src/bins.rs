//! Where the binaries under test are, built when they are not.
//!
//! `cargo test` does not build the plain binaries of other packages, so the first test that needs
//! one builds all of them, once for the whole run, in the profile of the test itself.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    sync::{Once, OnceLock},
};

/// The sidecar.
pub fn linkerd_proxy() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| path("linkerd-proxy"))
}

/// The control plane.
pub fn mesh_controller() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| path("mesh-controller"))
}

/// The command line.
pub fn meshctl() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| path("meshctl"))
}

/// Builds `name` and returns its path in `target/<profile>`.
fn path(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("a process knows its own path");
    let parent = exe.parent().expect("an executable has a directory");
    let is_test = parent.ends_with("deps");
    let dir = if is_test { parent.parent().unwrap_or(parent) } else { parent };

    let lock = File::create(dir.join(".integration-bins.lock")).expect("target is writable");
    lock.lock().expect("files there can be locked");
    if is_test {
        static ALL: Once = Once::new();
        // With the tests selected too, cargo resolves the same features as `cargo test --workspace`
        // did, and builds nothing twice.
        ALL.call_once(|| build(dir, &["--workspace", "--bins", "--test", "e2e"]));
    } else {
        build(dir, &["--package", name, "--bin", name]);
    }
    dir.join(name)
}

fn build(dir: &Path, what: &[&str]) {
    let profile = match dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(other) => other,
    };
    let target = dir.parent().unwrap_or(dir);
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--profile", profile, "--target-dir"])
        .arg(target)
        .args(what)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "building the binaries under test failed: {cargo:?}");
}
