//! What a connection and a request cost in memory: the size of their futures.

use super::*;

/// The size of the future that a function of three arguments makes.
fn future_size<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn an_idle_connection_is_small() {
    let size = future_size(Outbound::accept);
    assert!(size <= 2048, "{size} bytes");
}

#[test]
fn a_request_in_flight_is_small() {
    // Each request copies it into place, so its size is time as well as memory.
    let size = future_size(Outbound::serve);
    assert!(size <= 2048, "{size} bytes");
}
