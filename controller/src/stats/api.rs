//! The HTTP API: `/api/stat` and `/api/pods`.

use super::{
    PROXY_ADMIN_PORT, Stats,
    table::{Kind, Query, Row, Sources},
};
use crate::object::Pod;
use axum::{
    Json, Router,
    extract::{Query as Params, State},
    http::StatusCode,
    routing::get,
};
use serde::Serialize;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::time::Instant;

const DEFAULT_WINDOW: Duration = Duration::from_secs(60);
const SHORTEST_WINDOW: Duration = Duration::from_secs(5);
const LONGEST_WINDOW: Duration = Duration::from_secs(600);

pub(super) fn router(stats: Stats) -> Router {
    Router::new()
        .route("/api/stat", get(stat))
        .route("/api/pods", get(pods))
        .with_state(stats)
}

#[derive(Serialize)]
struct StatAnswer {
    window_secs: f64,
    rows: Vec<Row>,
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
}

type Answer<T> = Result<Json<T>, (StatusCode, Json<Refusal>)>;

async fn stat(
    State(stats): State<Stats>,
    Params(params): Params<BTreeMap<String, String>>,
) -> Answer<StatAnswer> {
    let query =
        query(params).map_err(|error| (StatusCode::BAD_REQUEST, Json(Refusal { error })))?;
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

async fn pods(State(stats): State<Stats>) -> Json<Vec<PodRow>> {
    let cluster = stats.cluster.read();
    let row = |pod: &Arc<Pod>| {
        let owner = cluster.owner(pod);
        let meshed = cluster.meshed(pod);
        let ip = pod.ips.first().copied();
        let admin = ip
            .filter(|_| meshed)
            .map(|ip| SocketAddr::new(ip, PROXY_ADMIN_PORT));
        PodRow {
            namespace: pod.key.namespace.clone(),
            name: pod.key.name.clone(),
            ip: ip.map(|ip| ip.to_string()),
            owner_kind: owner.kind,
            owner: owner.name,
            meshed,
            ready: pod.running && pod.ready,
            admin_addr: admin.map(|addr| addr.to_string()),
        }
    };
    let mut rows: Vec<_> = cluster.pods().map(row).collect();
    rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    Json(rows)
}

fn query(mut params: BTreeMap<String, String>) -> Result<Query, String> {
    let mut take = |name| params.remove(name).filter(|value| !value.is_empty());
    let query = Query {
        kind: kind(&take("kind").unwrap_or_default())?,
        namespace: take("namespace"),
        name: take("name"),
        window: take("window").map_or(Ok(DEFAULT_WINDOW), |text| window(&text))?,
    };
    match params.into_keys().next() {
        Some(other) => Err(format!(
            "{other}: not a parameter, expected kind, namespace, name or window"
        )),
        None => Ok(query),
    }
}

fn kind(name: &str) -> Result<Kind, String> {
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    kind.ok_or_else(|| {
        let names = Kind::ALL.map(Kind::name).join(", ");
        format!("kind: {name:?} is not one of {names}")
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
