//! From edges to the rows that users see. Pure.

use super::{
    super::{History, table::Kind},
    Edge, Tls,
};
use crate::{
    cluster::Cluster,
    object::{Key, Pod},
};
use ahash::AHashMap;
use serde::Serialize;
use std::{collections::BTreeSet, sync::Arc};
use tokio::time::Instant;

/// Which edges: those with an end like this.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// What an end is; `None`: whoever owns the pods.
    pub(crate) kind: Option<Kind>,
    /// Only there.
    pub(crate) namespace: Option<String>,
    /// Only that.
    pub(crate) name: Option<String>,
}

/// One edge. Ordered as Linkerd orders them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Row {
    src_namespace: Arc<str>,
    dst_namespace: Arc<str>,
    src: Arc<str>,
    dst: Arc<str>,
    src_kind: Arc<str>,
    dst_kind: Arc<str>,
    /// Identity of the client; empty where it is not secured, as the next.
    client_id: Arc<str>,
    server_id: Arc<str>,
    /// As in the proxies' label; empty where it is secured.
    no_tls_reason: Arc<str>,
    secured: bool,
}

/// One side of an edge.
struct End {
    kind: Arc<str>,
    namespace: Arc<str>,
    name: Arc<str>,
}

/// The edges between pods that there are now, the same ones once.
pub(crate) fn rows(
    cluster: &Cluster,
    histories: &AHashMap<Key, History>,
    query: &Query,
    now: Instant,
) -> BTreeSet<Row> {
    let mut rows = BTreeSet::new();
    for (client, history) in histories {
        let Some(client) = cluster.pod(client) else {
            continue;
        };
        for edge in history.edges.recent(now) {
            // Whoever is no pod is nobody the mesh could secure.
            if let Some(server) = peer(cluster, edge) {
                rows.extend(row(cluster, query, client, server, &edge.tls));
            }
        }
    }
    rows
}

fn peer<'a>(cluster: &'a Cluster, edge: &Edge) -> Option<&'a Arc<Pod>> {
    let named = edge.pod.as_ref().and_then(|pod| cluster.pod(pod));
    named.or_else(|| cluster.pod_at(edge.addr.ip()))
}

fn row(cluster: &Cluster, query: &Query, client: &Pod, server: &Pod, tls: &Tls) -> Option<Row> {
    let src = End::of(cluster, query, client);
    let dst = End::of(cluster, query, server);
    if !query.wants(&src) && !query.wants(&dst) {
        return None;
    }
    let none = || Arc::from("");
    let (client_id, server_id, no_tls_reason) = match tls {
        Tls::Secured(server) => {
            let client = super::super::identity(cluster, client);
            (client.map_or_else(none, Arc::from), server.clone(), none())
        }
        Tls::Not(reason) => (none(), none(), reason.clone()),
    };
    Some(Row {
        src_namespace: src.namespace,
        dst_namespace: dst.namespace,
        src: src.name,
        dst: dst.name,
        src_kind: src.kind,
        dst_kind: dst.kind,
        client_id,
        server_id,
        no_tls_reason,
        secured: matches!(tls, Tls::Secured(_)),
    })
}

// === impl End ===

impl End {
    fn of(cluster: &Cluster, query: &Query, pod: &Pod) -> Self {
        let namespace = pod.key.namespace.clone();
        let (kind, name) = match query.kind {
            Some(Kind::Pod) => ("pod".into(), pod.key.name.clone()),
            Some(Kind::Namespace) => ("namespace".into(), namespace.clone()),
            _ => {
                let owner = cluster.owner(pod);
                (owner.kind.to_ascii_lowercase().into(), owner.name)
            }
        };
        Self {
            kind,
            namespace,
            name,
        }
    }
}

// === impl Query ===

impl Query {
    fn wants(&self, end: &End) -> bool {
        let is = |wanted: Option<&str>, value: &str| wanted.is_none_or(|wanted| wanted == value);
        is(self.kind.map(Kind::name), &end.kind)
            && is(self.namespace.as_deref(), &end.namespace)
            && is(self.name.as_deref(), &end.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        identity::name::Identities,
        testing::{cluster, pod},
    };

    fn open(server: &str, addr: &str, tls: &str) -> String {
        format!(
            "tcp_open_connections{{direction=\"outbound\",peer=\"dst\",target_addr=\"{addr}\",{tls},\
             dst_namespace=\"demo\",dst_pod=\"{server}\"}} 1\n"
        )
    }

    fn owned(pod: String, kind: &str, name: &str) -> String {
        let owner =
            format!("ownerReferences: [{{kind: {kind}, name: {name}, controller: true}}], ");
        pod.replacen("annotations:", &format!("{owner}annotations:"), 1)
    }

    fn found(kind: Option<Kind>, namespace: &str, name: &str) -> Vec<String> {
        let manifests = [
            owned(pod("web-1", "web", "10.0.0.1"), "StatefulSet", "web"),
            owned(pod("api-0", "api", "10.0.0.2"), "StatefulSet", "api"),
            owned(pod("api-1", "api", "10.0.0.3"), "StatefulSet", "api"),
            pod("plain", "x", "10.0.0.4").replace("gossamer", "other"),
        ];
        let secured = "tls=\"true\",server_id=\"sa.demo.id\"";
        let clear = "tls=\"no_identity\",no_tls_reason=\"not_provided_by_service_discovery\"";
        let page = [
            open("api-0", "10.0.0.2:80", secured),
            open("api-1", "10.0.0.3:80", secured),
            open("gone", "10.0.0.4:80", clear),
            open("elsewhere", "192.0.2.1:80", clear),
        ];
        let now = Instant::now();
        let mut history = History::new(now);
        history.observe(&page.concat(), now).expect("a page");
        let histories = [(Key::new("demo", "web-1"), history)];
        let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let query = Query {
            kind,
            namespace: text(namespace),
            name: text(name),
        };
        let mut cluster = cluster(&manifests.concat());
        cluster.settings.identities = Identities::new("gossamer", "cluster.local");
        let rows = rows(&cluster, &histories.into_iter().collect(), &query, now);
        let line = |r: &Row| {
            let Row { src, dst, .. } = r;
            format!(
                "{src} {dst} [{}|{}|{}]",
                r.client_id, r.server_id, r.no_tls_reason
            )
        };
        rows.iter().map(line).collect()
    }

    const IDS: &str = "[sa.demo.serviceaccount.identity.gossamer.cluster.local|sa.demo.id|]";

    #[test]
    fn replicas_are_one_edge_and_strangers_none() {
        let clear = "[||not_provided_by_service_discovery]";
        let all = [format!("web api {IDS}"), format!("web plain {clear}")];
        assert_eq!(found(None, "", ""), all);
        let pods = [
            format!("web-1 api-0 {IDS}"),
            format!("web-1 api-1 {IDS}"),
            format!("web-1 plain {clear}"),
        ];
        assert_eq!(found(Some(Kind::Pod), "demo", ""), pods);
        let namespaces = [format!("demo demo {clear}"), format!("demo demo {IDS}")];
        assert_eq!(found(Some(Kind::Namespace), "", "demo"), namespaces);
    }

    #[test]
    fn either_end_may_be_the_one_asked_for() {
        assert_eq!(found(Some(Kind::StatefulSet), "", "web").len(), 2);
        assert_eq!(found(Some(Kind::StatefulSet), "", "api").len(), 1);
        assert_eq!(found(Some(Kind::Deployment), "", "").len(), 0);
        assert_eq!(found(None, "other", "").len(), 0);
    }
}
