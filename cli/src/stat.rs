//! `meshctl stat`: success rate, requests per second and latency, from the controller itself.
//!
//! Asks `api`, prints with `table`. `demo` draws its live table with the same functions.

use crate::api::{self, ApiError, Kind, Query, Row};
use crate::args::{StatArgs, StatOutput};
use crate::local::interrupted;
use crate::out;
use crate::resource::Resource;
use crate::table::{self, StatColumns};
use std::net::SocketAddr;
use std::time::Duration;

const WATCH_PERIOD: Duration = Duration::from_secs(2);

const KINDS: &[Kind] = &[
    Kind::Deployment,
    Kind::StatefulSet,
    Kind::Service,
    Kind::Pod,
    Kind::Namespace,
];
/// What is shown when nothing was asked for.
const WORKLOADS: &[Kind] = &[Kind::Deployment, Kind::StatefulSet];

/// Prints figures once, or again and again.
pub fn run(args: StatArgs) -> anyhow::Result<()> {
    let resource = Resource::given(args.resource.as_deref(), args.name.as_deref(), KINDS)?;
    let kinds = resource.as_ref().map(|resource| vec![resource.kind]);
    let kinds = kinds.as_deref().unwrap_or(WORKLOADS);
    let name = resource.as_ref().and_then(|it| it.name.as_deref());
    out::runtime()?.block_on(async {
        let addr = api::stats_addr(&args.target).await?;
        loop {
            let namespace = args.namespace.as_deref();
            let rows = fetch(addr, kinds, namespace, name, args.time_window).await?;
            if let Some(named) = resource.as_ref().filter(|it| it.name.is_some())
                && rows.is_empty()
            {
                return Err(named.missing(namespace));
            }
            print(&rows, &args)?;
            if !args.watch {
                return Ok(());
            }
            tokio::select! {
                () = tokio::time::sleep(WATCH_PERIOD) => {}
                () = interrupted() => return Ok(()),
            }
            if args.output != StatOutput::Json && !rows.is_empty() {
                out::print("\n")?;
            }
        }
    })
}

/// Figures of several kinds, one kind after the other.
pub(crate) async fn fetch(
    addr: SocketAddr,
    kinds: &[Kind],
    namespace: Option<&str>,
    name: Option<&str>,
    window: Duration,
) -> Result<Vec<Row>, ApiError> {
    let mut rows = Vec::new();
    for kind in kinds {
        let query = Query {
            kind: *kind,
            namespace,
            name,
            window,
        };
        rows.extend(api::stat(addr, &query).await?);
    }
    Ok(rows)
}

/// Whether rows come from more than one namespace or kind, and must say so.
pub(crate) fn columns(rows: &[Row]) -> StatColumns {
    let differ = |of: fn(&Row) -> &str| rows.iter().any(|row| of(row) != of(&rows[0]));
    StatColumns {
        namespace: differ(|row| &row.namespace),
        kind_prefix: differ(|row| &row.kind),
        bytes: false,
    }
}

fn print(rows: &[Row], args: &StatArgs) -> anyhow::Result<()> {
    if args.output == StatOutput::Json {
        return out::print_json(&rows);
    }
    if rows.is_empty() {
        out::note("No traffic found.");
        return Ok(());
    }
    let mut columns = columns(rows);
    columns.namespace |= args.all_namespaces;
    columns.bytes = args.output == StatOutput::Wide;
    out::print(&table::stat(rows, columns))
}
