//! The identities of a pair: one root, an issuer below it, a leaf on ECDSA P-256 for each end.
//!
//! Made once per run. Our proxies ask an identity service for theirs, as they do in production;
//! the others, and the load generator that stands in for a client's sidecar, read files.

use anyhow::{Context, Result};
use integration::{
    identity::IdentityService,
    pki::{self, Authority, Leaf},
};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// What both ends of mutual TLS prove themselves with.
pub(crate) struct Mesh {
    service: IdentityService,
    /// The root in PEM, for our proxies.
    pub(super) anchors: String,
    pub(crate) files: Files,
}

/// The same for everybody else.
pub(crate) struct Files {
    /// The root.
    pub(super) anchors: PathBuf,
    /// Certificates and key of the client's end.
    pub(crate) client: PathBuf,
    /// Certificates and key of the server's end.
    pub(super) server: PathBuf,
}

impl Mesh {
    /// Makes all keys and certificates; files go to `dir`.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let root = Authority::root("root.gossamer.cluster.local");
        let issuer = root.issuer("identity.gossamer.cluster.local");
        let files = Files {
            anchors: dir.join("trust-anchors.pem"),
            client: dir.join("client.pem"),
            server: dir.join("server.pem"),
        };
        let anchors = root.anchor_pem();
        write(&files.anchors, &anchors)?;
        write(&files.client, &combined(&issuer.leaf(&client_id())))?;
        write(&files.server, &combined(&issuer.leaf(&server_id())))?;
        Ok(Self {
            service: IdentityService::start(issuer),
            anchors,
            files,
        })
    }

    /// Where our proxies ask for certificates.
    pub(super) fn service(&self) -> SocketAddr {
        self.service.addr()
    }
}

/// Who the client's end is.
pub(super) fn client_id() -> String {
    pki::identity("client")
}

/// Who the server's end is, also by SNI.
pub(crate) fn server_id() -> String {
    pki::identity("server")
}

/// Certificates and key in one file, which everybody can read.
fn combined(leaf: &Leaf) -> String {
    leaf.chain_pem() + &leaf.key_pem()
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}
