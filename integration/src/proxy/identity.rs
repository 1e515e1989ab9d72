//! What a sidecar is started with to have an identity.

use super::{Builder, Proxy};
use crate::pki;
use std::{net::SocketAddr, path::Path, sync::Arc};

const FILE: &str = "token";

impl Builder {
    /// Asks the identity service at `service`, in clear, to be `name`; `anchors` is a PEM bundle.
    /// Renewals may follow one another at once.
    pub fn identity(mut self, name: &str, service: SocketAddr, anchors: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory can be made");
        let path = dir.path().join(FILE);
        pki::replace(&path, "token of the test");
        let path = path.display().to_string();
        self.files = Some(Arc::new(dir));
        self.env("LINKERD2_PROXY_IDENTITY_SVC_ADDR", &service.to_string())
            .env("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", name)
            .env("LINKERD2_PROXY_IDENTITY_TOKEN_FILE", &path)
            .env("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", anchors)
            .env("LINKERD2_PROXY_IDENTITY_MIN_REFRESH", "200ms")
    }

    /// Proves itself to the identity service with `token`.
    ///
    /// # Panics
    /// Before [`identity`](Self::identity).
    pub fn token(self, token: &str) -> Self {
        let dir = self.files.as_ref().expect("it has an identity");
        pki::replace(&dir.path().join(FILE), token);
        self
    }

    /// Takes its trust anchors from the file at `path`, and follows it.
    pub fn anchors_file(self, path: &Path) -> Self {
        let path = path.display().to_string();
        self.without("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS")
            .env("GOSSAMER_PROXY_IDENTITY_TRUST_ANCHORS_FILE", &path)
    }
}

impl Proxy {
    /// Handshakes so far, by direction and how they went (`ok`, or why not).
    pub fn handshakes(&self, direction: &str, result: &str) -> f64 {
        let labels = [("direction", direction), ("result", result)];
        self.metric("tls_handshakes_total", &labels)
    }

    /// Certificates it asked for, by how that went (`ok` or `error`).
    pub fn refreshes(&self, result: &str) -> f64 {
        let labels = [("result", result)];
        let metrics = self.metrics();
        metrics.sum("identity_cert_refreshes_total", &labels)
            + metrics.sum("control_identity_cert_refreshes_total", &labels)
    }
}
