//! What a port of a pod accepts.

use crate::{
    cluster::{Cluster, Touched},
    grpc::Encoded,
    index::Question,
    object::Key,
};
use mesh_policy::inbound::{Required, ServerPolicy};

/// The policy of a pod's port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inbound {
    /// The pod.
    pub pod: Key,
    /// Its port; it need not be declared.
    pub port: u16,
}

impl Question for Inbound {
    /// `None`: there is no such pod.
    type Answer = Option<Encoded<ServerPolicy>>;

    fn answer(&self, cluster: &Cluster) -> Self::Answer {
        let pod = cluster.pod(&self.pod)?;
        let policy = ServerPolicy::default_named(
            cluster.default_policy(pod),
            &cluster.settings.cluster_networks,
            cluster.pod_port_opaque(pod, self.port),
        );
        Some(Encoded::new(
            match cluster.requires_identity(pod, self.port) {
                true => policy.requiring(Required::Identity),
                false => policy,
            },
        ))
    }

    fn concerned(&self, _: &Cluster, touched: &Touched) -> bool {
        touched.is_pod(&self.pod)
    }
}

#[cfg(test)]
mod tests;
