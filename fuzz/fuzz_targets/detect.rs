//! First bytes of a connection -> HTTP/1, HTTP/2 or neither. More bytes never change a verdict.

#![no_main]

use linkerd_proxy::detect::http::{Http, detect};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut verdict = Http::NeedMore;
    for n in 0..=bytes.len().min(256) {
        let now = detect(&bytes[..n], false);
        assert!(verdict == Http::NeedMore || verdict == now);
        verdict = now;
    }
    assert_ne!(detect(bytes, true), Http::NeedMore);
});
