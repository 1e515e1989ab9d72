//! First bytes of a connection -> a TLS ClientHello. A verdict stays when more bytes come.

#![no_main]

use linkerd_proxy::detect::tls::{Tls, detect};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = detect(bytes);
    let part = detect(&bytes[..bytes.len() / 2]);
    assert!(part == Tls::NeedMore || part == whole);
});
