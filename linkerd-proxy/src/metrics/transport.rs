//! The `tcp_*` families: one set of handles per target, one guard per connection.

use super::{Labels, Registry, label};
use metrics::{Counter, Gauge};
use std::{io, sync::Arc};

/// Handles of the TCP families for one target.
pub struct Transport {
    registry: Arc<Registry>,
    labels: Labels,
    open: Counter,
    connections: Gauge,
    closed: Counter,
    read: Counter,
    write: Counter,
}

/// Counts one connection while it lives, and its close when dropped.
pub struct Sensor {
    transport: Arc<Transport>,
    error: Option<i32>,
}

// === impl Transport ===

impl Transport {
    /// Registers the families with these labels.
    pub fn new(registry: &Arc<Registry>, labels: Labels) -> Arc<Self> {
        let counter = |name| registry.counter(name, labels.clone());
        Arc::new(Self {
            open: counter("tcp_open_total"),
            connections: registry.gauge("tcp_open_connections", labels.clone()),
            closed: registry.counter("tcp_close_total", closed_with(&labels, "")),
            read: counter("tcp_read_bytes_total"),
            write: counter("tcp_write_bytes_total"),
            registry: registry.clone(),
            labels,
        })
    }

    /// Counts a connection as open until the sensor is dropped.
    pub fn open(self: &Arc<Self>) -> Sensor {
        self.open.increment(1);
        self.connections.increment(1.0);
        Sensor {
            transport: self.clone(),
            error: None,
        }
    }
}

fn closed_with(labels: &Labels, errno: &'static str) -> Labels {
    let mut labels = labels.clone();
    labels.push(label("errno", errno));
    labels
}

// === impl Sensor ===

impl Sensor {
    /// Counts bytes read from the peer.
    pub fn read(&self, bytes: usize) {
        self.transport.read.increment(bytes as u64);
    }

    /// Counts bytes written to the peer.
    pub fn wrote(&self, bytes: usize) {
        self.transport.write.increment(bytes as u64);
    }

    /// Remembers the error that ended the connection.
    pub fn failed(&mut self, error: &io::Error) {
        self.error = self.error.or(error.raw_os_error());
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        let Transport {
            registry,
            labels,
            closed,
            connections,
            ..
        } = &*self.transport;
        connections.decrement(1.0);
        match self.error {
            None => closed.increment(1),
            Some(errno) => registry
                .counter("tcp_close_total", closed_with(labels, errno_name(errno)))
                .increment(1),
        }
    }
}

/// The symbolic name of the errors that connections end with.
fn errno_name(errno: i32) -> &'static str {
    use rustix::io::Errno;
    match Errno::from_raw_os_error(errno) {
        Errno::CONNRESET => "ECONNRESET",
        Errno::CONNREFUSED => "ECONNREFUSED",
        Errno::CONNABORTED => "ECONNABORTED",
        Errno::PIPE => "EPIPE",
        Errno::TIMEDOUT => "ETIMEDOUT",
        Errno::HOSTUNREACH => "EHOSTUNREACH",
        Errno::NETUNREACH => "ENETUNREACH",
        Errno::NOTCONN => "ENOTCONN",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_connection_is_counted_open_and_closed_once() {
        let registry = Registry::new(Duration::from_secs(1), 100);
        let transport = Transport::new(&registry, vec![label("peer", "src")]);
        let sensor = transport.open();
        sensor.read(3);
        sensor.wrote(5);
        let page = registry.render();
        assert!(page.contains("tcp_open_connections{peer=\"src\"} 1"));
        assert!(page.contains("tcp_read_bytes_total{peer=\"src\"} 3"));
        assert!(page.contains("tcp_write_bytes_total{peer=\"src\"} 5"));
        drop(sensor);
        let mut sensor = transport.open();
        sensor.failed(&io::Error::from_raw_os_error(104));
        drop(sensor);
        let page = registry.render();
        assert!(page.contains("tcp_open_connections{peer=\"src\"} 0"));
        assert!(page.contains("tcp_close_total{peer=\"src\",errno=\"\"} 1"));
        assert!(page.contains("tcp_close_total{peer=\"src\",errno=\"ECONNRESET\"} 1"));
    }
}
