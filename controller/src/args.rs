//! The command line, as users type it.

use crate::{cluster::Settings, object::PortSet};
use clap::{Parser, ValueEnum};
use ipnet::IpNet;
use mesh_policy::inbound::DefaultPolicy;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The control plane of a Gossamer mesh: destinations, policies and live statistics.
#[derive(Clone, Debug, Parser)]
#[command(name = "mesh-controller", version)]
pub struct Args {
    /// Directory of Kubernetes manifests (*.yaml, *.yml, *.json), watched for changes
    #[arg(long, value_name = "DIR")]
    pub source: PathBuf,

    /// Namespace of this control plane; pods labelled linkerd.io/control-plane-ns with it are meshed
    #[arg(long, default_value = "gossamer")]
    pub namespace: String,

    /// Domain of the cluster's names
    #[arg(long, default_value = "cluster.local")]
    pub cluster_domain: String,

    /// Trust domain of workload identities; not used before the mesh speaks TLS
    /// [default: the cluster domain]
    #[arg(long)]
    pub identity_trust_domain: Option<String>,

    /// Where to serve destinations (gRPC)
    #[arg(long, default_value = "127.0.0.1:8086", value_name = "ADDR")]
    pub destination_addr: SocketAddr,

    /// Where to serve policies (gRPC)
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDR")]
    pub policy_addr: SocketAddr,

    /// Where to serve live statistics (JSON over HTTP)
    #[arg(long, default_value = "127.0.0.1:8085", value_name = "ADDR")]
    pub metrics_api_addr: SocketAddr,

    /// Where to serve /live, /ready and /metrics
    #[arg(long, default_value = "127.0.0.1:9990", value_name = "ADDR")]
    pub admin_addr: SocketAddr,

    /// Ports that are opaque unless an annotation says otherwise
    #[arg(
        long,
        default_value = "25,587,3306,4444,5432,6379,9300,11211",
        value_name = "PORTS"
    )]
    pub default_opaque_ports: PortSet,

    /// Who may connect to ports that no policy speaks of: deny, all-authenticated,
    /// all-unauthenticated, cluster-authenticated, cluster-unauthenticated or audit
    #[arg(long, default_value = "all-unauthenticated", value_name = "POLICY")]
    pub default_inbound_policy: DefaultPolicy,

    /// Networks of the cluster-* policies
    #[arg(
        long,
        value_name = "CIDRS",
        value_delimiter = ',',
        default_value = "127.0.0.0/8,10.0.0.0/8,100.64.0.0/10,172.16.0.0/12,192.168.0.0/16,fd00::/8"
    )]
    pub cluster_networks: Vec<IpNet>,

    /// Services not to run
    #[arg(long, value_delimiter = ',')]
    pub disable: Vec<Service>,

    /// How often proxies are asked for their metrics
    #[arg(long, default_value = "1s", value_parser = duration)]
    pub scrape_interval: Duration,

    /// Levels to log, as in `info` or `warn,mesh_controller=debug`
    #[arg(long, default_value = "info")]
    pub log_level: String,

    /// How to log
    #[arg(long, default_value = "plain")]
    pub log_format: LogFormat,
}

/// A part that can run on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Service {
    /// Destinations.
    Destination,
    /// Policies.
    Policy,
    /// Live statistics.
    Stats,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Plain,
    /// For programs.
    Json,
}

impl Args {
    /// What it says about the whole mesh.
    pub fn settings(&self) -> Settings {
        Settings {
            control_namespace: self.namespace.as_str().into(),
            cluster_domain: self
                .cluster_domain
                .trim_end_matches('.')
                .to_ascii_lowercase()
                .into(),
            default_opaque_ports: self.default_opaque_ports.clone(),
            default_policy: self.default_inbound_policy,
            cluster_networks: self.cluster_networks.clone(),
        }
    }

    /// Whether a part is to run.
    pub fn enabled(&self, service: Service) -> bool {
        !self.disable.contains(&service)
    }
}

/// A whole number and `ms`, `s` or `m`, from 100 ms to 5 minutes.
fn duration(text: &str) -> Result<Duration, String> {
    let split = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let unit_ms = match unit {
        "ms" => Some(1),
        "s" => Some(1000),
        "m" => Some(60_000),
        _ => None,
    };
    let millis = number.parse::<u64>().ok().zip(unit_ms);
    let millis = millis.and_then(|(number, unit)| number.checked_mul(unit));
    let sane = millis.filter(|ms| (100..=300_000).contains(ms));
    sane.map(Duration::from_millis)
        .ok_or_else(|| "expected a whole number and ms, s or m, from 100ms to 5m".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(args: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(["mesh-controller", "--source", "."].iter().chain(args))
    }

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_parse() {
        let args = parse(&[]).expect("defaults");
        assert_eq!(args.cluster_networks.len(), 6);
        assert_eq!(args.scrape_interval, Duration::from_secs(1));
        assert!(args.settings().default_opaque_ports.contains(5432));
        assert!(args.enabled(Service::Stats));
    }

    #[test]
    fn values_are_checked() {
        let args = parse(&[
            "--disable",
            "stats,policy",
            "--cluster-domain",
            "Mesh.Local.",
        ]);
        let args = args.expect("valid");
        assert!(!args.enabled(Service::Stats) && args.enabled(Service::Destination));
        assert_eq!(&*args.settings().cluster_domain, "mesh.local");
        for bad in [
            ["--scrape-interval", "1"],
            ["--scrape-interval", "10ms"],
            ["--default-opaque-ports", "0"],
            ["--default-inbound-policy", "all"],
            ["--cluster-networks", "10.0.0.0/33"],
            ["--disable", "everything"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }
}
