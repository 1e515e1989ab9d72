//! Kubernetes manifests as a directory source reads them.

#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    // Errors are expected; only a panic or a hang is not.
    let _ = mesh_controller::source::manifest::parse(text);
});
