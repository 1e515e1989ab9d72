//! Loopback addresses that nobody else uses, so that tests never fight over a port.
//!
//! The upper half of 127.0.0.0/8 is shared out by process id and a counter: two test processes at
//! the same time get different addresses, and each value of the harness listens on its own.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering},
};

/// An address in 127.128.0.0/9 that this process has not handed out before.
///
/// After 2,046 of them the counter starts again: by then the first ones are long free.
pub fn unique_ip() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let n = 1 + NEXT.fetch_add(1, Ordering::Relaxed) % 2046;
    let process = std::process::id() & 0xfff;
    Ipv4Addr::from_bits(0x7f80_0000 | (process << 11) | n)
}

/// [`unique_ip`] with `port`.
pub fn unique(port: u16) -> SocketAddr {
    SocketAddr::from((unique_ip(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_loopback_and_differ() {
        let (a, b) = (unique_ip(), unique_ip());
        assert!(a.is_loopback() && b.is_loopback());
        assert_ne!(a, b);
        assert!(a.octets()[1] >= 128);
    }
}
