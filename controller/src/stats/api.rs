//! The HTTP API: `/api/stat`, `/api/edges` and `/api/pods`.

use super::{
    PROXY_ADMIN_PORT, Stats,
    edges::rows as edges,
    table::{Kind, Query, Row, Sources},
};
use crate::{
    cluster::Cluster,
    object::{Labels, Pod},
};
use axum::{
    Json, Router,
    extract::{Query as Params, State},
    http::StatusCode,
    routing::get,
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;

const DEFAULT_WINDOW: Duration = Duration::from_secs(60);
const SHORTEST_WINDOW: Duration = Duration::from_secs(5);
const LONGEST_WINDOW: Duration = Duration::from_secs(600);

pub(super) fn router(stats: Stats) -> Router {
    Router::new()
        .route("/api/stat", get(stat))
        .route("/api/edges", get(edges))
        .route("/api/pods", get(pods))
        .with_state(stats)
}

#[derive(Serialize)]
struct StatAnswer {
    window_secs: f64,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct EdgesAnswer {
    rows: BTreeSet<edges::Row>,
}

#[derive(Serialize)]
struct Refusal {
    error: String,
}

#[derive(Serialize)]
struct PodRow {
    namespace: Arc<str>,
    name: Arc<str>,
    ip: Option<String>,
    owner_kind: Arc<str>,
    owner: Arc<str>,
    meshed: bool,
    ready: bool,
    admin_addr: Option<String>,
    /// What its proxy has to prove; `null` for a pod without one.
    identity: Option<String>,
    labels: Labels,
}

type Answer<T> = Result<Json<T>, (StatusCode, Json<Refusal>)>;

async fn stat(
    State(stats): State<Stats>,
    Params(params): Params<BTreeMap<String, String>>,
) -> Answer<StatAnswer> {
    let query = query(params).map_err(refusal)?;
    // Cluster before histories, as everywhere.
    let cluster = stats.cluster.read();
    let histories = stats.histories.lock();
    let sources = Sources {
        cluster: &cluster,
        histories: &histories,
        stale: (stats.interval * 3).max(SHORTEST_WINDOW),
        now: Instant::now(),
    };
    Ok(Json(StatAnswer {
        window_secs: query.window.as_secs_f64(),
        rows: sources.rows(&query),
    }))
}

async fn edges(
    State(stats): State<Stats>,
    Params(params): Params<BTreeMap<String, String>>,
) -> Answer<EdgesAnswer> {
    let query = edges_query(params).map_err(refusal)?;
    let cluster = stats.cluster.read();
    let histories = stats.histories.lock();
    let rows = edges::rows(&cluster, &histories, &query, Instant::now());
    Ok(Json(EdgesAnswer { rows }))
}

async fn pods(State(stats): State<Stats>) -> Json<Vec<PodRow>> {
    let cluster = stats.cluster.read();
    let mut rows: Vec<_> = cluster.pods().map(|pod| pod_row(&cluster, pod)).collect();
    rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Json(rows)
}

fn pod_row(cluster: &Cluster, pod: &Pod) -> PodRow {
    let owner = cluster.owner(pod);
    let meshed = cluster.meshed(pod);
    let ip = pod.ips.first().copied();
    let admin = ip
        .filter(|_| meshed)
        .map(|ip| SocketAddr::new(ip, PROXY_ADMIN_PORT));
    let identity = meshed.then(|| super::identity(cluster, pod)).flatten();
    PodRow {
        namespace: pod.key.namespace.clone(),
        name: pod.key.name.clone(),
        ip: ip.map(|ip| ip.to_string()),
        owner_kind: owner.kind,
        owner: owner.name,
        meshed,
        ready: pod.running && pod.ready,
        admin_addr: admin.map(|addr| addr.to_string()),
        identity,
        labels: pod.labels.clone(),
    }
}

fn refusal(error: String) -> (StatusCode, Json<Refusal>) {
    (StatusCode::BAD_REQUEST, Json(Refusal { error }))
}

fn query(params: BTreeMap<String, String>) -> Result<Query, String> {
    let mut params = Given(params);
    let query = Query {
        kind: kind(&params.take("kind").unwrap_or_default(), &Kind::ALL)?,
        namespace: params.take("namespace"),
        name: params.take("name"),
        window: params
            .take("window")
            .map_or(Ok(DEFAULT_WINDOW), |text| window(&text))?,
    };
    params.done("kind, namespace, name or window")?;
    Ok(query)
}

fn edges_query(params: BTreeMap<String, String>) -> Result<edges::Query, String> {
    let mut params = Given(params);
    let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Service);
    let kinds: Vec<_> = kinds.collect();
    let query = edges::Query {
        kind: params
            .take("kind")
            .map(|name| kind(&name, &kinds))
            .transpose()?,
        namespace: params.take("namespace"),
        name: params.take("name"),
    };
    params.done("kind, namespace or name")?;
    Ok(query)
}

/// Parameters that have not been read yet.
struct Given(BTreeMap<String, String>);

impl Given {
    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name).filter(|value| !value.is_empty())
    }

    fn done(self, expected: &str) -> Result<(), String> {
        match self.0.into_keys().next() {
            Some(other) => Err(format!("{other}: not a parameter, expected {expected}")),
            None => Ok(()),
        }
    }
}

fn kind(name: &str, accepted: &[Kind]) -> Result<Kind, String> {
    let kind = accepted.iter().copied().find(|kind| kind.name() == name);
    kind.ok_or_else(|| {
        let names: Vec<_> = accepted.iter().map(|kind| kind.name()).collect();
        format!("kind: {name:?} is not one of {}", names.join(", "))
    })
}

fn window(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let secs = number.parse::<u64>().ok().and_then(|number| match unit {
        "s" => Some(number),
        "m" => number.checked_mul(60),
        _ => None,
    });
    let window = secs.map(Duration::from_secs);
    window
        .filter(|window| (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(window))
        .ok_or_else(|| format!("window: {text:?} is not a whole number and s or m, from 5s to 10m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Query, String> {
        let owned = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        query(owned.collect())
    }

    #[test]
    fn parameters() {
        let query = parse(&[("kind", "service"), ("namespace", "demo"), ("window", "2m")]);
        let want = Query {
            kind: Kind::Service,
            namespace: Some("demo".to_owned()),
            name: None,
            window: Duration::from_secs(120),
        };
        assert_eq!(query, Ok(want));
        let all = parse(&[("kind", "pod"), ("name", "")]).expect("a query");
        assert_eq!((all.name, all.window), (None, Duration::from_secs(60)));
    }

    #[test]
    fn edges_are_of_pods_and_whoever_has_some() {
        let parse = |pairs: &[(&str, &str)]| {
            let owned = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
            edges_query(owned.collect())
        };
        assert_eq!(parse(&[]).expect("a query").kind, None);
        let query = parse(&[("kind", "pod"), ("namespace", "demo"), ("name", "web-0")]);
        let query = query.expect("a query");
        assert_eq!(
            (query.kind, query.name.as_deref()),
            (Some(Kind::Pod), Some("web-0"))
        );
        let error = parse(&[("kind", "service")]).expect_err("a service has no connections");
        let want = "kind: \"service\" is not one of deployment, statefulset, pod, namespace";
        assert_eq!(error, want);
        assert!(parse(&[("window", "1m")]).is_err());
    }

    #[test]
    fn a_refusal_names_the_parameter_and_what_is_accepted() {
        let table: [(&[_], _); 6] = [
            (
                &[],
                "kind: \"\" is not one of deployment, statefulset, service, pod, namespace",
            ),
            (&[("kind", "job")], "kind: \"job\" is not one of"),
            (&[("kind", "pod"), ("window", "4s")], "window: \"4s\""),
            (&[("kind", "pod"), ("window", "11m")], "window: \"11m\""),
            (&[("kind", "pod"), ("window", "60")], "from 5s to 10m"),
            (&[("kind", "pod"), ("nam", "x")], "nam: not a parameter"),
        ];
        for (pairs, want) in table {
            let error = parse(pairs).expect_err(want);
            assert!(error.contains(want), "{error}");
        }
    }
}
