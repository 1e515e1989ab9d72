//! `meshctl identity`: the certificates that proxies present, as `linkerd identity` shows them.
//!
//! Asks each pod's inbound port by TLS (`tls`) and prints what comes (`certificate`). Whether it is
//! in order is the affair of `check`.

use crate::api::{self, Pod};
use crate::args::{IdentityArgs, Output};
use crate::certificate::Certificate;
use crate::out;
use crate::selector::Selector;
use crate::tls;
use anyhow::Context;
use serde::Serialize;
use std::net::SocketAddr;
use std::time::Duration;

/// Where a proxy takes connections of other proxies.
const INBOUND_PORT: u16 = 4143;
const DEADLINE: Duration = Duration::from_secs(5);

/// What one pod presents.
#[derive(Debug, Serialize)]
struct Presented<'a> {
    namespace: &'a str,
    pod: &'a str,
    /// What it ought to be.
    identity: &'a str,
    /// The leaf first.
    certificates: Vec<Certificate>,
}

/// Prints the certificates; fails after the last one if some pod presents none.
pub fn run(args: IdentityArgs) -> anyhow::Result<()> {
    out::runtime()?.block_on(async {
        let addr = api::stats_addr(&args.target).await?;
        let pods = select(api::pods(addr).await?, &args)?;
        let mut found = Vec::new();
        let mut problems = Vec::new();
        for (index, pod) in pods.iter().enumerate() {
            let presented = presented(pod).await;
            if args.output == Output::Table {
                let header = format!("\nPOD {} ({} of {})\n\n", pod.name, index + 1, pods.len());
                out::print(&(header + &text(&presented)))?;
            }
            match presented {
                Ok(certificates) => found.push(Presented {
                    namespace: &pod.namespace,
                    pod: &pod.name,
                    identity: pod.identity.as_deref().unwrap_or_default(),
                    certificates,
                }),
                Err(error) => problems.push(format!("{}/{}: {error:#}", pod.namespace, pod.name)),
            }
        }
        if args.output == Output::Json {
            out::print_json(&found)?;
        }
        anyhow::ensure!(problems.is_empty(), "{}", problems.join("\n       "));
        Ok(())
    })
}

/// The chain that a pod's proxy presents to another that asks for it.
pub(crate) async fn presented(pod: &Pod) -> anyhow::Result<Vec<Certificate>> {
    let ip = pod.ip.context("has no address yet")?;
    let identity = pod.identity.as_deref().context("has no identity")?;
    let addr = SocketAddr::new(ip, INBOUND_PORT);
    let chain = tls::presented(addr, identity, DEADLINE).await?;
    anyhow::ensure!(!chain.is_empty(), "{addr} presents no certificate");
    let chain = chain.into_iter().map(Certificate::read);
    let chain: Result<Vec<_>, _> = chain.collect();
    chain.with_context(|| format!("what {addr} presents"))
}

/// The leaf: what signs it is the same for all.
fn text(presented: &anyhow::Result<Vec<Certificate>>) -> String {
    match presented {
        Ok(chain) => chain.iter().take(1).map(Certificate::to_text).collect(),
        Err(error) => format!("{error:#}\n"),
    }
}

/// The meshed pods that were asked for, by namespace and name.
fn select(pods: Vec<Pod>, args: &IdentityArgs) -> anyhow::Result<Vec<Pod>> {
    let selector = args.selector.as_deref().map(Selector::parse).transpose()?;
    let in_namespace = |pod: &Pod| {
        args.namespace
            .as_ref()
            .is_none_or(|wanted| *wanted == pod.namespace)
    };
    let mut found = pods;
    found.retain(|pod| in_namespace(pod));
    for name in &args.pods {
        let pod = found.iter().find(|pod| pod.name == *name);
        let pod =
            pod.with_context(|| format!("no pod {name}; `meshctl stat pod` lists the pods"))?;
        anyhow::ensure!(pod.meshed, "{name} has no proxy: it is not meshed");
    }
    found.retain(|pod| {
        let named = args.pods.is_empty() || args.pods.contains(&pod.name);
        let selected = selector.as_ref().is_none_or(|it| it.matches(&pod.labels));
        pod.meshed && named && selected
    });
    anyhow::ensure!(
        !found.is_empty(),
        "no meshed pod is like that; `meshctl stat pod` lists the pods"
    );
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use crate::certificate::tests::Pki;
    use clap::Parser;

    fn pod(name: &str, app: &str, meshed: bool) -> Pod {
        let text = serde_json::json!({
            "namespace": "demo", "name": name, "meshed": meshed, "labels": {"app": app},
            "ip": "127.0.0.1", "identity": "web.demo.id"
        });
        serde_json::from_value(text).unwrap()
    }

    fn selected(args: &[&str]) -> Result<Vec<String>, String> {
        let pods = vec![
            pod("api-0", "api", true),
            pod("api-1", "api", true),
            pod("web-0", "web", true),
            pod("plain", "web", false),
        ];
        let cli = Cli::parse_from(["meshctl", "identity"].iter().chain(args));
        let Command::Identity(args) = cli.command else {
            panic!("identity")
        };
        let found = select(pods, &args).map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(|pod| pod.name).collect())
    }

    #[test]
    fn pods_are_asked_by_name_by_label_or_all() {
        let is = |names: &[&str]| Ok(names.iter().map(|name| name.to_string()).collect());
        assert_eq!(selected(&[]), is(&["api-0", "api-1", "web-0"]));
        assert_eq!(selected(&["web-0", "api-1"]), is(&["api-1", "web-0"]));
        assert_eq!(selected(&["-l", "app=web"]), is(&["web-0"]));
        assert!(selected(&["plain"]).unwrap_err().contains("not meshed"));
        assert!(selected(&["web-1"]).unwrap_err().contains("no pod web-1"));
        assert!(
            selected(&["-n", "other"])
                .unwrap_err()
                .contains("no meshed pod")
        );
        assert!(
            selected(&["-l", "app in (x)"])
                .unwrap_err()
                .contains("no selector")
        );
    }

    #[test]
    fn only_the_leaf_is_printed() {
        let pki = Pki::new();
        let chain = vec![pki.leaf("web.demo.id").certificate, pki.issuer()];
        let text = text(&Ok(chain));
        assert!(text.contains("Subject: CN=web.demo.id"), "{text}");
        assert!(!text.contains("CA:TRUE"), "{text}");
    }
}
