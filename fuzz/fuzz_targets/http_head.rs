//! Heads of HTTP/1 requests and answers. What is a head does not depend on what follows it.

#![no_main]

use bytes::Bytes;
use http::Method;
use linkerd_proxy::http::http1::{request, response};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(Some(head)) = request(&bytes) {
        let again = request(&bytes.slice(..head.len)).ok().flatten();
        let again = again.expect("a head is one without what follows it");
        assert_eq!(again.message.headers(), head.message.headers());
        assert!(!matches!(request(&bytes.slice(..head.len - 1)), Ok(Some(_))));
    }
    for method in [Method::GET, Method::HEAD, Method::CONNECT] {
        if let Ok(Some(head)) = response(&bytes, &method) {
            assert!(head.len <= bytes.len());
        }
    }
});
