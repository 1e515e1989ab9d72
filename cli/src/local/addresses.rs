//! Addresses of one mesh on this machine: its block of loopback addresses, and free local ports.
//!
//! `supervisor` claims a block when it starts and takes an address and ports for each replica. A
//! block is 127.64.0.0/10 cut in /20: .1 is the controller, replicas have the rest.

use rand::RngExt;
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};

const FIRST: u32 = u32::from_be_bytes([127, 64, 0, 0]);
const BLOCK_SIZE: u32 = 1 << 12;
const BLOCKS: u32 = 1 << 10;

/// Held while a mesh runs, so that two that start together never share a block.
const CLAIM_PORT: u16 = 9999;
const CONTROLLER_ADMIN_PORT: u16 = 9990;

/// Where applications listen: apart from the ports mapped to services (20001 up to here), since
/// an application that listens on all addresses would collide with those, and below the ephemeral.
const APP_PORTS: std::ops::Range<u16> = 24_000..32_768;

/// Why a replica or a mesh could not be placed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddressError {
    #[error("no free block of addresses in 127.64.0.0/10; stop another local mesh first")]
    NoBlock,
    #[error("loopback addresses cannot be used: {0}")]
    Loopback(io::Error),
    #[error("all {} addresses of the mesh are in use; run fewer replicas", BLOCK_SIZE - 3)]
    NoAddress,
    #[error("no free port in 24000..32768 on 127.0.0.1")]
    NoPort,
}

/// The addresses of one mesh. Dropping it frees the block.
#[derive(Debug)]
pub(crate) struct Block {
    base: u32,
    next: u32,
    used: BTreeSet<u32>,
    _claim: TcpListener,
}

/// Local ports given to applications.
#[derive(Debug)]
pub(crate) struct AppPorts {
    next: u16,
    used: BTreeSet<u16>,
}

// === impl Block ===

impl Block {
    /// The first block that no other mesh of this machine holds.
    pub(crate) fn claim() -> Result<Self, AddressError> {
        for index in 0..BLOCKS {
            let base = FIRST + index * BLOCK_SIZE;
            let controller = Ipv4Addr::from(base + 1);
            match claim_controller(controller) {
                Ok(claim) => {
                    return Ok(Self {
                        base,
                        next: 2,
                        used: BTreeSet::new(),
                        _claim: claim,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(AddressError::Loopback(error)),
            }
        }
        Err(AddressError::NoBlock)
    }

    pub(crate) fn controller(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1)
    }

    /// The address unused for the longest time: what somebody still remembers of a replica that
    /// is gone should lead nowhere, not to its successor.
    pub(crate) fn take(&mut self) -> Result<Ipv4Addr, AddressError> {
        for _ in 2..BLOCK_SIZE - 1 {
            let offset = self.next;
            self.next = if offset + 2 < BLOCK_SIZE {
                offset + 1
            } else {
                2
            };
            if self.used.insert(offset) {
                return Ok(Ipv4Addr::from(self.base + offset));
            }
        }
        Err(AddressError::NoAddress)
    }

    pub(crate) fn give_back(&mut self, address: Ipv4Addr) {
        self.used
            .remove(&u32::from(address).wrapping_sub(self.base));
    }
}

fn claim_controller(controller: Ipv4Addr) -> io::Result<TcpListener> {
    let claim = TcpListener::bind((controller, CLAIM_PORT))?;
    TcpListener::bind((controller, CONTROLLER_ADMIN_PORT))?;
    Ok(claim)
}

// === impl AppPorts ===

impl AppPorts {
    pub(crate) fn new() -> Self {
        // Meshes that start together should not look at the same ports first.
        Self {
            next: rand::rng().random_range(APP_PORTS),
            used: BTreeSet::new(),
        }
    }

    /// A port on 127.0.0.1 that nobody listens on.
    pub(crate) fn take(&mut self) -> Result<u16, AddressError> {
        for _ in APP_PORTS {
            let port = self.next;
            self.next = if port + 1 < APP_PORTS.end {
                port + 1
            } else {
                APP_PORTS.start
            };
            let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
            if !self.used.contains(&port) && free() {
                self.used.insert(port);
                return Ok(port);
            }
        }
        Err(AddressError::NoPort)
    }

    /// So many ports, or none.
    pub(crate) fn take_many(&mut self, count: usize) -> Result<Vec<u16>, AddressError> {
        let mut ports = Vec::with_capacity(count);
        for _ in 0..count {
            match self.take() {
                Ok(port) => ports.push(port),
                Err(error) => {
                    self.give_back_many(&ports);
                    return Err(error);
                }
            }
        }
        Ok(ports)
    }

    pub(crate) fn give_back_many(&mut self, ports: &[u16]) {
        for port in ports {
            self.used.remove(port);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_meshes_never_share_a_block() {
        let (one, two) = (Block::claim().unwrap(), Block::claim().unwrap());
        assert_ne!(one.controller(), two.controller());
        assert_eq!(u32::from(one.controller()) % BLOCK_SIZE, 1);
    }

    #[test]
    fn addresses_are_reused_last() {
        let mut block = Block::claim().unwrap();
        let first = block.take().unwrap();
        assert_eq!(u32::from(first), u32::from(block.controller()) + 1);
        block.give_back(first);
        let mut seen = BTreeSet::new();
        for _ in 0..BLOCK_SIZE - 4 {
            assert!(seen.insert(block.take().unwrap()));
        }
        assert!(!seen.contains(&first));
        assert_eq!(block.take().unwrap(), first);
        assert!(matches!(block.take(), Err(AddressError::NoAddress)));
    }

    #[test]
    fn ports_are_not_given_twice() {
        let mut ports = AppPorts::new();
        let (one, two) = (ports.take().unwrap(), ports.take().unwrap());
        assert_ne!(one, two);
        assert!(APP_PORTS.contains(&one) && APP_PORTS.contains(&two));
    }
}
