//! The check for ambiguous framing that every HTTP/1 head passes before it is parsed.

#![no_main]

use linkerd_proxy::http::strict::{Head, check};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(Head::Whole { len, .. }) = check(bytes) {
        assert!(len <= bytes.len());
        assert_eq!(check(&bytes[..len]), check(bytes));
        assert_eq!(check(&bytes[..len - 1]), Ok(Head::Partial));
    }
});
