//! Where the binaries under test are, built when they are not.
//!
//! `cargo test` does not build the plain binaries of other packages, so the first test that needs
//! one builds all of them, once for the whole run, in the profile of the test itself. Binaries that
//! are there already, released ones for instance, are used with `INTEGRATION_BINARIES=DIR`.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
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

/// Builds `name` and returns its path, `target/<profile>/<name>`.
fn path(name: &str) -> PathBuf {
    if let Some(dir) = std::env::var_os("INTEGRATION_BINARIES") {
        return PathBuf::from(dir).join(name);
    }
    let exe = std::env::current_exe().expect("a process knows its own path");
    let parent = exe.parent().expect("an executable has a directory");
    let is_test = parent.ends_with("deps");
    let dir = if is_test {
        parent.parent().unwrap_or(parent)
    } else {
        parent
    };

    let lock = File::create(dir.join(".integration-bins.lock")).expect("target is writable");
    lock.lock().expect("files there can be locked");
    let is_built = if is_test {
        static ALL: OnceLock<bool> = OnceLock::new();
        // With the tests selected too, cargo resolves the same features as `cargo test --workspace`
        // did, and builds nothing twice.
        *ALL.get_or_init(|| build(dir, &["--workspace", "--bins", "--test", "e2e"]))
    } else {
        build(dir, &["--package", name, "--bin", name])
    };
    assert!(is_built, "the binaries under test do not build");
    dir.join(name)
}

fn build(dir: &Path, what: &[&str]) -> bool {
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
    cargo.status().expect("cargo runs").success()
}
