//! The environment: lines `NAME=VALUE`, each name with or without the prefix.

#![no_main]

use linkerd_proxy::config::Config;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let lines = text.lines().filter_map(|line| line.split_once('='));
    let prefixed = lines.flat_map(|(name, value)| {
        let value = value.to_owned();
        [(format!("LINKERD2_PROXY_{name}"), value.clone()), (format!("GOSSAMER_PROXY_{name}"), value)]
    });
    if let Err(invalid) = Config::from_env(prefixed.collect()) {
        assert!(!invalid.0.is_empty());
    }
});
