//! First bytes of a mesh TLS connection -> a transport header. What is read is written back the
//! same, and not a byte after it is taken.

#![no_main]

use futures::executor::block_on;
use linkerd_proxy::transport_header::{read, write};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    let Ok(header) = block_on(read(&mut rest)) else {
        return;
    };
    let mut written = Vec::new();
    block_on(write(&mut written, &header)).expect("memory takes everything");
    let mut again = &written[..];
    assert_eq!(block_on(read(&mut again)).expect("it is a header"), header);
    assert!(again.is_empty() && rest.len() < bytes.len());
});
