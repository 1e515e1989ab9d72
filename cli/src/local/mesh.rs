//! What all replicas of a mesh share, and its controller as a process.
//!
//! Pure values, made by `supervisor`; `replica` fills replicas in with them.

use super::identity::IdentityFiles;
use super::readiness::Probe;
use super::replica::ProcessSpec;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

const ADMIN: u16 = 9990;

/// Where a mesh is.
#[derive(Clone, Debug)]
pub(super) struct MeshInfo {
    pub(super) controller: Ipv4Addr,
    /// This program, which is also sidecar and controller.
    pub(super) program: PathBuf,
    /// Marks every process of the mesh, so that none is missed when it ends.
    pub(super) state: PathBuf,
}

impl MeshInfo {
    /// The environment that every process of the mesh has.
    pub(super) fn mark(&self) -> BTreeMap<String, String> {
        let state = self.state.display().to_string();
        BTreeMap::from([(super::STATE_MARK.to_string(), state)])
    }

    pub(super) fn identity(&self) -> IdentityFiles {
        IdentityFiles::of(&self.state)
    }

    /// The controller, reading `manifests`.
    pub(super) fn controller(&self, manifests: &Path) -> ProcessSpec {
        let at = |port: u16| OsString::from(format!("{}:{port}", self.controller));
        let identity = self.identity();
        let mut argv: Vec<OsString> = vec![self.program.clone().into(), "controller".into()];
        for (flag, value) in [
            ("--source", manifests.into()),
            ("--destination-addr", at(8086)),
            ("--policy-addr", at(8090)),
            ("--metrics-api-addr", at(8085)),
            ("--admin-addr", at(ADMIN)),
            ("--identity-addr", at(8080)),
            ("--identity-issuer", identity.issuer().into()),
            ("--identity-trust-anchors", identity.anchors().into()),
            ("--identity-token-key", identity.token_key().into()),
        ] {
            argv.extend([OsString::from(flag), value]);
        }
        ProcessSpec {
            name: "controller".to_string(),
            log: "controller".to_string(),
            argv,
            env: self.mark(),
            working_dir: None,
            probe: Probe::of_ready(ADMIN),
            probe_addr: SocketAddr::from((self.controller, ADMIN)),
        }
    }
}
