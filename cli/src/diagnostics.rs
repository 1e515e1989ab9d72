//! `meshctl diagnostics`: what the controller tells proxies, and what proxies tell of themselves.
//!
//! `endpoints` asks the destination service exactly as a proxy would.

mod endpoints;

use crate::api;
use crate::args::{DiagnosticsCommand, EndpointsArgs, Output, ProxyMetricsArgs};
use crate::local;
use crate::{http_get, out, table};
use anyhow::Context;
use std::net::SocketAddr;
use std::time::Duration;

const DESTINATION_PORT: u16 = 8086;
const METRICS_DEADLINE: Duration = Duration::from_secs(5);

/// Runs one of the diagnostics.
pub fn run(command: DiagnosticsCommand) -> anyhow::Result<()> {
    let runtime = out::runtime()?;
    match command {
        DiagnosticsCommand::Endpoints(args) => runtime.block_on(show_endpoints(args)),
        DiagnosticsCommand::ProxyMetrics(args) => runtime.block_on(show_metrics(args)),
    }
}

async fn show_endpoints(args: EndpointsArgs) -> anyhow::Result<()> {
    let mut manifests = String::new();
    let addr = match args.destination_addr {
        Some(addr) => addr,
        None => {
            let mesh = local::find(args.mesh.as_deref()).await?;
            let ip = mesh
                .controller_ip
                .context("the mesh has no controller yet")?;
            manifests = local::manifests_of(&mesh);
            SocketAddr::from((ip, DESTINATION_PORT))
        }
    };
    let authorities: Vec<_> = args
        .authorities
        .iter()
        .map(|text| endpoints::complete(text))
        .collect::<Result<_, _>>()?;
    let mut found = Vec::new();
    let mut problems = Vec::new();
    for authority in &authorities {
        match endpoints::resolve(addr, authority, &args.token).await {
            Ok(endpoints) => found.push(endpoints),
            Err(error) => problems.push(endpoints::explained(error, &manifests).to_string()),
        }
    }
    match args.output {
        Output::Json => out::print_json(&found.concat())?,
        Output::Table => {
            let header = ["NAMESPACE", "IP", "PORT", "POD", "SERVICE"];
            let tables = found.iter().map(|endpoints| {
                let rows: Vec<_> = endpoints.iter().map(endpoints::Endpoint::cells).collect();
                table::plain(&header, &rows)
            });
            out::print(&tables.collect::<Vec<_>>().join("\n"))?;
        }
    }
    anyhow::ensure!(problems.is_empty(), "{}", problems.join("\n       "));
    Ok(())
}

async fn show_metrics(args: ProxyMetricsArgs) -> anyhow::Result<()> {
    let addr = api::stats_addr(&args.target).await?;
    let pods = select(
        api::pods(addr).await?,
        &args.resource,
        args.namespace.as_deref(),
    )?;
    let count = pods.len();
    for (index, pod) in pods.iter().enumerate() {
        let admin = pod
            .admin_addr
            .as_deref()
            .and_then(|addr| addr.parse::<SocketAddr>().ok());
        let admin = admin.with_context(|| {
            format!(
                "the controller knows no address of the proxy of {}",
                pod.name
            )
        })?;
        let (status, body) = http_get::get(admin, "/metrics", &[], METRICS_DEADLINE)
            .await
            .with_context(|| format!("the proxy of {} does not show its metrics", pod.name))?;
        anyhow::ensure!(
            status.is_success(),
            "the proxy of {} answers {status}",
            pod.name
        );
        let header = format!("#\n# POD {} ({} of {count})\n#\n", pod.name, index + 1);
        out::print(&format!("{header}{}", String::from_utf8_lossy(&body)))?;
    }
    Ok(())
}

/// The meshed pods that `POD`, `pod/NAME` or `KIND/NAME` means.
fn select(
    pods: Vec<api::Pod>,
    resource: &str,
    namespace: Option<&str>,
) -> anyhow::Result<Vec<api::Pod>> {
    let (kind, name) = resource.split_once('/').unwrap_or(("pod", resource));
    let kind = api::Kind::parse(kind).filter(|kind| {
        matches!(
            kind,
            api::Kind::Pod | api::Kind::Deployment | api::Kind::StatefulSet
        )
    });
    let kind = kind.with_context(|| {
        format!("{resource:?} names no proxies; take POD, deploy/NAME or sts/NAME")
    })?;
    let named = |pod: &api::Pod| match kind {
        api::Kind::Pod => pod.name == name,
        kind => {
            let owner_kind = pod.owner_kind.as_deref().unwrap_or_default();
            pod.owner.as_deref() == Some(name) && owner_kind.eq_ignore_ascii_case(kind.full())
        }
    };
    let mut found = pods;
    found.retain(|pod| named(pod) && namespace.is_none_or(|wanted| pod.namespace == wanted));
    anyhow::ensure!(
        !found.is_empty(),
        "no pod of {resource}; `meshctl stat pod` lists the pods"
    );
    found.retain(|pod| pod.meshed);
    anyhow::ensure!(
        !found.is_empty(),
        "{resource} has no proxy: it is not meshed"
    );
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, owner: &str, meshed: bool) -> api::Pod {
        api::Pod {
            namespace: "demo".to_string(),
            name: name.to_string(),
            owner_kind: Some("deployment".to_string()),
            owner: Some(owner.to_string()),
            ip: None,
            meshed,
            admin_addr: Some("127.64.0.2:4191".to_string()),
            identity: None,
            labels: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn pods_are_selected_by_name_or_owner() {
        let pods = || {
            vec![
                pod("web-1", "web", true),
                pod("web-2", "web", true),
                pod("x", "x", false),
            ]
        };
        let count = |resource| select(pods(), resource, None).map(|found| found.len()).ok();
        assert_eq!(count("web-1"), Some(1));
        assert_eq!(count("pod/web-2"), Some(1));
        assert_eq!(count("deploy/web"), Some(2));
        assert_eq!(count("sts/web"), None);
        assert_eq!(count("svc/web"), None);
        assert!(
            select(pods(), "x", None)
                .unwrap_err()
                .to_string()
                .contains("not meshed")
        );
        assert!(select(pods(), "web-1", Some("other")).is_err());
    }
}
