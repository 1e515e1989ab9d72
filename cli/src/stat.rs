//! `meshctl stat`: success rate, requests per second and latency, from the controller itself.
//!
//! Asks `api`, prints with `table`. `demo` draws its live table with the same functions.

use crate::api::{self, ApiError, Kind, Query, Row};
use crate::args::{StatArgs, StatOutput};
use crate::local::interrupted;
use crate::out;
use crate::table::{self, StatColumns};
use std::net::SocketAddr;
use std::time::Duration;

const WATCH_PERIOD: Duration = Duration::from_secs(2);

/// What was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Resource {
    kinds: Vec<Kind>,
    name: Option<String>,
}

/// Prints figures once, or again and again.
pub fn run(args: StatArgs) -> anyhow::Result<()> {
    let resource = Resource::parse(args.resource.as_deref(), args.name.as_deref())?;
    out::runtime()?.block_on(async {
        let addr = api::stats_addr(&args.target).await?;
        loop {
            let namespace = args.namespace.as_deref();
            let name = resource.name.as_deref();
            let rows = fetch(addr, &resource.kinds, namespace, name, args.time_window).await?;
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

// === impl Resource ===

impl Resource {
    fn parse(resource: Option<&str>, name: Option<&str>) -> anyhow::Result<Self> {
        let Some(resource) = resource else {
            return Ok(Self {
                kinds: vec![Kind::Deployment, Kind::StatefulSet],
                name: None,
            });
        };
        let (kind, own_name) = match resource.split_once('/') {
            Some((kind, own_name)) => (kind, Some(own_name)),
            None => (resource, None),
        };
        let kind = Kind::parse(kind).ok_or_else(|| {
            anyhow::anyhow!("{kind:?} has no figures; take deploy, sts, svc, pod or ns")
        })?;
        anyhow::ensure!(
            own_name.is_none() || name.is_none(),
            "two names given; take `{resource}` or `{} {}`",
            kind.short(),
            name.unwrap_or_default()
        );
        let name = own_name.or(name).map(str::to_string);
        Ok(Self {
            kinds: vec![kind],
            name,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_read_as_linkerd_reads_them() {
        let parsed = |resource, name| {
            Resource::parse(resource, name)
                .ok()
                .map(|r| (r.kinds, r.name))
        };
        let web = Some("web".to_string());
        let deploy = vec![Kind::Deployment];
        assert_eq!(
            parsed(Some("deploy/web"), None),
            Some((deploy.clone(), web.clone()))
        );
        assert_eq!(
            parsed(Some("deployments"), Some("web")),
            Some((deploy, web))
        );
        assert_eq!(parsed(Some("svc"), None), Some((vec![Kind::Service], None)));
        assert_eq!(parsed(None, None).map(|(kinds, _)| kinds.len()), Some(2));
        assert_eq!(parsed(Some("deploy/a"), Some("b")), None);
        assert_eq!(parsed(Some("gateway"), None), None);
    }
}
