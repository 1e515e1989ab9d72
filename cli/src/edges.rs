//! `meshctl edges`: who talks to whom, and whether it is secured, as `linkerd viz edges` shows it.
//!
//! The controller knows from the metrics of all proxies; `demo` shows the same as one line.

use crate::api::{self, ApiError, Edge, EdgesQuery, Kind, Query};
use crate::args::{EdgesArgs, StatOutput};
use crate::resource::Resource;
use crate::{out, table};
use std::net::SocketAddr;
use std::time::Duration;

/// The least the controller takes; what happened in it is not asked for.
const SHORTEST_WINDOW: Duration = Duration::from_secs(5);

const KINDS: &[Kind] = &[
    Kind::Deployment,
    Kind::StatefulSet,
    Kind::Pod,
    Kind::Namespace,
];

/// Prints the edges that there are now.
pub fn run(args: EdgesArgs) -> anyhow::Result<()> {
    let resource = Resource::given(args.resource.as_deref(), args.name.as_deref(), KINDS)?;
    out::runtime()?.block_on(async {
        let addr = api::stats_addr(&args.target).await?;
        let query = EdgesQuery {
            kind: resource.as_ref().map(|resource| resource.kind),
            namespace: args.namespace.as_deref(),
            name: resource.as_ref().and_then(|it| it.name.as_deref()),
        };
        let edges = api::edges(addr, &query).await?;
        if let Some(named) = resource.as_ref().filter(|it| it.name.is_some())
            && edges.is_empty()
        {
            ensure_exists(addr, named, &query).await?;
        }
        match args.output {
            StatOutput::Json => out::print_json(&edges),
            _ if edges.is_empty() => {
                out::note("No edges found.");
                Ok(())
            }
            output => out::print(&table::edges(&edges, output == StatOutput::Wide)),
        }
    })
}

/// No edges can also mean that there is nobody who could have some.
async fn ensure_exists(
    addr: SocketAddr,
    named: &Resource,
    query: &EdgesQuery<'_>,
) -> anyhow::Result<()> {
    let question = Query {
        kind: named.kind,
        namespace: query.namespace,
        name: query.name,
        window: SHORTEST_WINDOW,
    };
    match api::stat(addr, &question).await?.is_empty() {
        true => Err(named.missing(query.namespace)),
        false => Ok(()),
    }
}

/// Every edge of a namespace between whoever owns the pods.
pub(crate) async fn of_namespace(addr: SocketAddr, namespace: &str) -> Result<Vec<Edge>, ApiError> {
    let query = EdgesQuery {
        namespace: Some(namespace),
        ..EdgesQuery::default()
    };
    api::edges(addr, &query).await
}

/// One line on how many edges are secured, and which one is not.
pub(crate) fn summary(edges: &[Edge]) -> String {
    if edges.is_empty() {
        return "mTLS: nobody talks to anybody yet".to_string();
    }
    let secured = edges.iter().filter(|edge| edge.secured).count();
    let mut line = format!("mTLS: {secured} of {} edges secured", edges.len());
    if let Some(edge) = edges.iter().find(|edge| !edge.secured) {
        let why = table::no_tls(&edge.no_tls_reason);
        line.push_str(&format!("; not {} to {}: {why}", edge.src, edge.dst));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(dst: &str, no_tls_reason: &str) -> Edge {
        Edge {
            src: "web".to_string(),
            src_kind: "deployment".to_string(),
            src_namespace: "demo".to_string(),
            dst: dst.to_string(),
            dst_kind: "deployment".to_string(),
            dst_namespace: "demo".to_string(),
            client_id: String::new(),
            server_id: String::new(),
            no_tls_reason: no_tls_reason.to_string(),
            secured: no_tls_reason.is_empty(),
        }
    }

    #[test]
    fn the_summary_names_what_is_not_secured() {
        let secured = [edge("api", ""), edge("store", "")];
        assert_eq!(summary(&secured), "mTLS: 2 of 2 edges secured");
        let one = [
            edge("api", ""),
            edge("store", "not_provided_by_service_discovery"),
        ];
        assert_eq!(
            summary(&one),
            "mTLS: 1 of 2 edges secured; not web to store: Not Provided By Service Discovery"
        );
        assert_eq!(summary(&[]), "mTLS: nobody talks to anybody yet");
    }
}
