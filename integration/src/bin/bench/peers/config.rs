//! Configuration files of the other proxies, as text.
//!
//! A [`Hop`] says where a proxy listens, where it passes things on to, and on which of its sides
//! there is mutual TLS.

mod envoy;
mod haproxy;
mod nginx;

pub(super) use self::{envoy::envoy, haproxy::haproxy, nginx::nginx};

use super::mesh::Files;
use crate::scenario::Port;
use std::net::Ipv4Addr;

const HTTP1: u16 = Port::Http1 as u16;
const HTTP2: u16 = Port::Http2 as u16;
const ECHO: u16 = Port::Echo as u16;
const BULK: u16 = Port::Bulk as u16;

/// One proxy on the way to the backend.
#[derive(Clone, Copy)]
pub(super) struct Hop<'a> {
    /// Where it listens.
    pub(super) ip: Ipv4Addr,
    /// Where the next one listens.
    pub(super) to: Ipv4Addr,
    pub(super) tls: Tls<'a>,
}

/// Where a proxy speaks mutual TLS 1.3.
#[derive(Clone, Copy)]
pub(super) enum Tls<'a> {
    Nowhere,
    /// To the next one: it is the client's end of a pair.
    Upstream(&'a Files),
    /// To those who come: it is the server's end of a pair.
    Downstream(&'a Files),
}
