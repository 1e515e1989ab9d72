//! Which resource of the cluster a policy came from, as metric labels name it.

use std::sync::Arc;

/// The origin of a policy: `io.linkerd.proxy.meta.Metadata`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Meta {
    /// Made up by the control plane or the proxy, not by a resource.
    Default {
        /// Says which default it is, for example `all-unauthenticated`.
        name: Arc<str>,
    },
    /// A Kubernetes resource.
    Resource {
        /// API group, `core` for the core group.
        group: Arc<str>,
        /// Kind, for example `Service`.
        kind: Arc<str>,
        /// Namespace; empty for cluster-scoped resources.
        namespace: Arc<str>,
        /// Name.
        name: Arc<str>,
        /// A named part of the resource; empty when there is none.
        section: Arc<str>,
        /// A port of the resource; `None` when it is not about one port.
        port: Option<u16>,
    },
}

impl Meta {
    /// A default named `name`.
    pub fn default_named(name: &str) -> Arc<Self> {
        Arc::new(Self::Default { name: name.into() })
    }

    /// API group; empty for a default.
    pub fn group(&self) -> &str {
        match self {
            Self::Default { .. } => "",
            Self::Resource { group, .. } => group,
        }
    }

    /// Kind; `default` for a default.
    pub fn kind(&self) -> &str {
        match self {
            Self::Default { .. } => "default",
            Self::Resource { kind, .. } => kind,
        }
    }

    /// Namespace; empty for a default.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Default { .. } => "",
            Self::Resource { namespace, .. } => namespace,
        }
    }

    /// Name.
    pub fn name(&self) -> &str {
        match self {
            Self::Default { name } | Self::Resource { name, .. } => name,
        }
    }

    /// Section; empty when there is none.
    pub fn section(&self) -> &str {
        match self {
            Self::Default { .. } => "",
            Self::Resource { section, .. } => section,
        }
    }

    /// Port, when the origin is about one.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Default { .. } => None,
            Self::Resource { port, .. } => *port,
        }
    }
}
