//! Tables a person reads, in the formats of `linkerd viz`.
//!
//! Pure text from values. Cells of numbers stand right, a gap of three columns between.

use crate::api::{Edge, Kind, Row};
use crate::local::{CONTROL_NAMESPACE, PodStatus, Status};
use comfy_table::{CellAlignment, Table, presets};

const SECURED: &str = "√";

/// Gap between columns.
const GAP: u16 = 3;
const LIVE_GAP: u16 = 2;

/// What a table of figures shows besides the names.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StatColumns {
    pub(crate) namespace: bool,
    pub(crate) bytes: bool,
    /// `deploy/web` where several kinds stand together.
    pub(crate) kind_prefix: bool,
}

/// A table of figures.
pub(crate) fn stat(rows: &[Row], columns: StatColumns) -> String {
    let mut header = Vec::new();
    if columns.namespace {
        header.push("NAMESPACE");
    }
    header.push("NAME");
    header.extend(["MESHED", "SUCCESS", "RPS"]);
    header.extend(["LATENCY_P50", "LATENCY_P95", "LATENCY_P99", "TCP_CONN"]);
    if columns.bytes {
        header.extend(["READ_BYTES/SEC", "WRITE_BYTES/SEC"]);
    }
    let cells = rows
        .iter()
        .map(|row| stat_cells(row, columns))
        .collect::<Vec<_>>();
    render(&header, &cells, if columns.namespace { 2 } else { 1 })
}

/// The same for a terminal of 80 columns.
pub(crate) fn live(rows: &[Row], columns: StatColumns) -> String {
    let header = [
        "NAME", "MESHED", "SUCCESS", "RPS", "P50", "P95", "P99", "TCP", "READ/S",
    ];
    let columns = StatColumns {
        namespace: false,
        bytes: false,
        ..columns
    };
    let cells = rows.iter().map(|row| {
        let mut cells = stat_cells(row, columns);
        cells.push(shown(row.tcp_read_bytes_rate.map(bytes)));
        cells
    });
    render_with(&header, &cells.collect::<Vec<_>>(), 1, LIVE_GAP)
}

/// A table whose cells all stand left, as `linkerd diagnostics` prints them.
pub(crate) fn plain(header: &[&str], rows: &[Vec<String>]) -> String {
    render(header, rows, header.len())
}

/// Who talks to whom; with identities when `wide`.
pub(crate) fn edges(edges: &[Edge], wide: bool) -> String {
    let mut header = vec!["SRC", "DST", "SRC_NS", "DST_NS"];
    if wide {
        header.extend(["CLIENT_ID", "SERVER_ID"]);
    }
    header.push("SECURED");
    let first = edges.first().map(|edge| &edge.src_kind);
    let mut kinds = edges.iter().flat_map(|it| [&it.src_kind, &it.dst_kind]);
    let several_kinds = kinds.any(|kind| Some(kind) != first);
    let rows = edges.iter().map(|it| edge_cells(it, several_kinds, wide));
    let mut rows: Vec<_> = rows.collect();
    // Edges that differ in their identities alone look the same without them.
    rows.dedup();
    plain(&header, &rows)
}

fn edge_cells(edge: &Edge, several_kinds: bool, wide: bool) -> Vec<String> {
    let name = |kind: &str, name: &str| match several_kinds {
        true => format!("{}{name}", prefix(kind)),
        false => name.to_string(),
    };
    let mut cells = vec![
        name(&edge.src_kind, &edge.src),
        name(&edge.dst_kind, &edge.dst),
        edge.src_namespace.clone(),
        edge.dst_namespace.clone(),
    ];
    if wide {
        cells.extend([short_id(&edge.client_id), short_id(&edge.server_id)]);
    }
    cells.push(match edge.secured {
        true => SECURED.to_string(),
        false => no_tls(&edge.no_tls_reason),
    });
    cells
}

/// Why an edge is not secured, in Linkerd's words: `not_http` is `Not HTTP`.
pub(crate) fn no_tls(reason: &str) -> String {
    let word = |word: &str| match word {
        "http" | "tls" => word.to_uppercase(),
        word => {
            let mut rest = word.chars();
            let first = rest.next().map(|c| c.to_ascii_uppercase());
            first.into_iter().chain(rest).collect()
        }
    };
    let words = reason.split('_').map(word);
    words.collect::<Vec<_>>().join(" ")
}

/// The controller and the replicas of a local mesh.
pub(crate) fn local_status(mesh: &Status) -> String {
    let header = [
        "NAMESPACE",
        "NAME",
        "READY",
        "RESTARTS",
        "IP",
        "PORTS",
        "STATUS",
    ];
    let ready = mesh.pods.iter().filter(|pod| pod.ready).count();
    let rows = std::iter::once(controller_cells(mesh)).chain(mesh.pods.iter().map(pod_cells));
    format!(
        "mesh {} (process {}): {ready} of {} pods ready\n\n{}",
        mesh.name,
        mesh.pid,
        mesh.wanted_pods,
        plain(&header, &rows.collect::<Vec<_>>())
    )
}

fn render(header: &[&str], rows: &[Vec<String>], left_columns: usize) -> String {
    render_with(header, rows, left_columns, GAP)
}

fn render_with(header: &[&str], rows: &[Vec<String>], left_columns: usize, gap: u16) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((if index == 0 { 0 } else { gap }, 0));
        if index >= left_columns {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{}\n", table.trim_fmt())
}

/// `deploy/` of a deployment; kinds without a short name keep their own.
fn prefix(kind: &str) -> String {
    match Kind::parse(kind) {
        Some(known) => format!("{}/", known.short()),
        None => format!("{kind}/"),
    }
}

/// `web.demo` of `web.demo.serviceaccount.identity.gossamer.cluster.local`; others stay whole,
/// and `-` is nobody's.
fn short_id(id: &str) -> String {
    match id.split_once(".serviceaccount.identity.") {
        Some((short, _)) => short.to_string(),
        None if id.is_empty() => "-".to_string(),
        None => id.to_string(),
    }
}

fn stat_cells(row: &Row, columns: StatColumns) -> Vec<String> {
    let millis = |value: Option<u64>| shown(value.map(|ms| format!("{ms}ms")));
    let mut cells = Vec::new();
    if columns.namespace {
        cells.push(row.namespace.clone());
    }
    let prefix = if columns.kind_prefix {
        prefix(&row.kind)
    } else {
        String::new()
    };
    cells.push(format!("{prefix}{}", row.name));
    // A service has no pods of its own: what is behind it may change with every request.
    let meshed = if row.kind == "service" {
        "-"
    } else {
        &row.meshed
    };
    cells.push(meshed.to_string());
    cells.push(shown(
        row.success
            .map(|success| format!("{:.2}%", success * 100.0)),
    ));
    cells.push(shown(row.rps.map(|rps| format!("{rps:.1}rps"))));
    cells.extend([row.latency_ms_p50, row.latency_ms_p95, row.latency_ms_p99].map(millis));
    cells.push(shown(row.tcp_open_connections.map(|open| open.to_string())));
    if columns.bytes {
        let rates = [row.tcp_read_bytes_rate, row.tcp_write_bytes_rate];
        cells.extend(rates.map(|rate| shown(rate.map(|rate| format!("{rate:.1}B/s")))));
    }
    cells
}

fn shown(value: Option<String>) -> String {
    value.unwrap_or_else(|| "-".to_string())
}

/// In few characters: `870B`, `12.4kB`.
fn bytes(count: f64) -> String {
    match count {
        count if count < 1e3 => format!("{count:.0}B"),
        count if count < 1e6 => format!("{:.1}kB", count / 1e3),
        count => format!("{:.1}MB", count / 1e6),
    }
}

fn controller_cells(mesh: &Status) -> Vec<String> {
    let controller = &mesh.controller;
    let ip = mesh.controller_ip.map(|ip| ip.to_string());
    let status = match controller.ready {
        true => "ready",
        false => &controller.reason,
    };
    vec![
        CONTROL_NAMESPACE.to_string(),
        "controller".to_string(),
        format!("{}/1", u8::from(controller.ready)),
        controller.restarts.to_string(),
        ip.unwrap_or_default(),
        String::new(),
        status.to_string(),
    ]
}

fn pod_cells(pod: &PodStatus) -> Vec<String> {
    let ready = pod.processes.iter().filter(|process| process.ready).count();
    let restarts: u32 = pod.processes.iter().map(|process| process.restarts).sum();
    let ports = pod.ports.iter().map(|(port, local)| match pod.meshed {
        true => format!("{port}=127.0.0.1:{local}"),
        false => port.to_string(),
    });
    let waiting = pod.processes.iter().find(|process| !process.ready);
    let status = match waiting {
        _ if pod.stopping => "stopping".to_string(),
        Some(process) => format!("{}: {}", process.name, process.reason),
        None if pod.meshed => "ready".to_string(),
        None => "ready, without sidecar".to_string(),
    };
    vec![
        pod.namespace.clone(),
        pod.name.clone(),
        format!("{ready}/{}", pod.processes.len()),
        restarts.to_string(),
        pod.ip.to_string(),
        ports.collect::<Vec<_>>().join(","),
        status,
    ]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn row() -> Row {
        serde_json::from_str(
            r#"{"namespace":"demo","kind":"deployment","name":"web","meshed":"1/1","success":0.99321,
            "rps":2.04,"latency_ms_p50":1,"latency_ms_p95":23,"latency_ms_p99":123,
            "tcp_open_connections":4,"tcp_read_bytes_rate":2.0,"tcp_write_bytes_rate":null}"#,
        )
        .unwrap()
    }

    #[test]
    fn figures_look_as_in_linkerd() {
        let idle = Row {
            success: None,
            rps: None,
            name: "a-long-name".into(),
            ..row()
        };
        assert_eq!(
            stat(&[row(), idle], StatColumns::default()),
            "\
NAME          MESHED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN
web              1/1    99.32%   2.0rps           1ms          23ms         123ms          4
a-long-name      1/1         -        -           1ms          23ms         123ms          4
"
        );
    }

    #[test]
    fn live_figures_fit_into_eighty_columns() {
        let columns = StatColumns {
            kind_prefix: true,
            ..StatColumns::default()
        };
        let busy = Row {
            name: "voting".into(),
            meshed: "10/10".into(),
            success: Some(1.0),
            rps: Some(1999.9),
            latency_ms_p50: Some(9999),
            latency_ms_p95: Some(9999),
            latency_ms_p99: Some(9999),
            tcp_open_connections: Some(1000),
            tcp_read_bytes_rate: Some(999_900.0),
            ..row()
        };
        let text = live(&[row(), busy], columns);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        let store = live(&[row()], columns);
        assert!(store.ends_with("    4      2B\n"), "{store}");
    }

    fn edge(dst_kind: &str, no_tls_reason: &str) -> Edge {
        let secured = no_tls_reason.is_empty();
        let id = |name: &str| match secured {
            true => format!("{name}.demo.serviceaccount.identity.gossamer.cluster.local"),
            false => String::new(),
        };
        serde_json::from_value(serde_json::json!({
            "src": "web", "src_kind": "deployment", "src_namespace": "demo",
            "dst": "api", "dst_kind": dst_kind, "dst_namespace": "demo",
            "client_id": id("default"), "server_id": id("api"),
            "no_tls_reason": no_tls_reason, "secured": secured
        }))
        .unwrap()
    }

    #[test]
    fn edges_look_as_in_linkerd() {
        let secured = edge("deployment", "");
        let other = Edge {
            client_id: "other".to_string(),
            ..secured.clone()
        };
        let rows = [secured, other, edge("deployment", "not_http")];
        assert_eq!(
            edges(&rows, false),
            "\
SRC   DST   SRC_NS   DST_NS   SECURED
web   api   demo     demo     √
web   api   demo     demo     Not HTTP
"
        );
        assert_eq!(
            edges(&[edge("statefulset", "")], true),
            "\
SRC          DST       SRC_NS   DST_NS   CLIENT_ID      SERVER_ID   SECURED
deploy/web   sts/api   demo     demo     default.demo   api.demo    √
"
        );
    }

    #[test]
    fn wide_tables_and_several_kinds() {
        let columns = StatColumns {
            namespace: true,
            bytes: true,
            kind_prefix: true,
        };
        let text = stat(&[row()], columns);
        let last = text.lines().last().unwrap();
        assert!(last.starts_with("demo        deploy/web"), "{text}");
        assert!(last.ends_with("2.0B/s                 -"), "{text}");
    }

    #[test]
    fn a_mesh_shows_its_controller_and_its_replicas() {
        let mesh = serde_json::json!({
            "name": "app", "version": "", "pid": 7, "state_dir": "", "ready": false,
            "controller_ip": "127.64.0.1", "wanted_pods": 2, "warnings": [], "trouble": null,
            "controller": {
                "name": "controller", "pid": null, "ready": false, "restarts": 3,
                "reason": "ended with signal 9; starts again in 2s"
            },
            "pods": [{
                "namespace": "demo", "name": "web-0", "owner": "", "ip": "127.64.0.2",
                "meshed": true, "ready": true, "stopping": false, "ports": [[80, 8000]],
                "processes": [{
                    "name": "app", "pid": 8, "ready": true, "restarts": 1, "reason": ""
                }]
            }]
        });
        let mut mesh: Status = serde_json::from_value(mesh).unwrap();
        assert_eq!(
            local_status(&mesh),
            "\
mesh app (process 7): 1 of 2 pods ready

NAMESPACE   NAME         READY   RESTARTS   IP           PORTS               STATUS
gossamer    controller   0/1     3          127.64.0.1                       ended with signal 9; starts again in 2s
demo        web-0        1/1     1          127.64.0.2   80=127.0.0.1:8000   ready
"
        );
        mesh.controller.ready = true;
        let text = local_status(&mesh);
        let row = text.lines().find(|line| line.contains("controller"));
        let words: Vec<_> = row.unwrap_or_default().split_whitespace().collect();
        assert_eq!(
            words,
            ["gossamer", "controller", "1/1", "3", "127.64.0.1", "ready"]
        );
    }
}
