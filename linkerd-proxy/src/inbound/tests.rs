//! What a connection costs in memory: the size of its future.

use super::*;

/// The size of the future that a function of three arguments makes.
fn future_size<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn an_idle_connection_is_small() {
    let size = future_size(Inbound::accept);
    assert!(size <= 2048, "{size} bytes");
}
