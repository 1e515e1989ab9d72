//! The command line, as users type it.

use crate::{
    cluster::Settings,
    identity::{
        self,
        files::Paths,
        issuer::Terms,
        name::{self, Identities},
    },
    object::PortSet,
};
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
    #[arg(long, default_value = "gossamer", value_parser = label)]
    pub namespace: String,

    /// Domain of the cluster's names
    #[arg(long, default_value = "cluster.local", value_parser = domain)]
    pub cluster_domain: String,

    /// Directory of the certificate (with its chain) and key that sign the certificates of workloads,
    /// watched for changes: crt.pem and key.pem, or tls.crt and tls.key. Without it workloads have no
    /// identities
    #[arg(long, value_name = "DIR", requires = "identity_trust_anchors")]
    pub identity_issuer: Option<PathBuf>,

    /// PEM bundle of the roots that are trusted, watched for changes
    #[arg(long, value_name = "FILE", requires = "identity_issuer")]
    pub identity_trust_anchors: Option<PathBuf>,

    /// PEM public key (ECDSA P-256) of whoever makes the tokens of workloads, watched for changes;
    /// without it tokens are reviewed by the Kubernetes cluster this runs in
    #[arg(long, value_name = "FILE", requires = "identity_issuer")]
    pub identity_token_key: Option<PathBuf>,

    /// Trust domain of workload identities [default: the cluster domain]
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    pub identity_trust_domain: Option<String>,

    /// For how long certificates of workloads are good, from 5s to 8760h
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = lifetime)]
    pub identity_issuance_lifetime: Duration,

    /// How far clocks may be apart, up to 1h: certificates begin earlier and end later by that
    #[arg(long, default_value = "20s", value_name = "DURATION", value_parser = skew)]
    pub identity_clock_skew_allowance: Duration,

    /// Where to serve certificates (gRPC)
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub identity_addr: SocketAddr,

    /// Where to serve destinations (gRPC)
    #[arg(long, default_value = "127.0.0.1:8086", value_name = "ADDR")]
    pub destination_addr: SocketAddr,

    /// Where to serve policies (gRPC)
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDR")]
    pub policy_addr: SocketAddr,

    /// Where to serve live statistics (JSON over HTTP)
    #[arg(long, default_value = "127.0.0.1:8085", value_name = "ADDR")]
    pub metrics_api_addr: SocketAddr,

    /// Where to serve /live, /ready, /metrics and /identity.json
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
    /// all-tls-unauthenticated, all-unauthenticated, cluster-authenticated, cluster-unauthenticated
    /// or audit
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

    /// Services not to run; without `identity`, workloads get their certificates elsewhere
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
    /// Certificates.
    Identity,
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
            cluster_domain: self.cluster_domain.as_str().into(),
            identities: self.identities(),
            default_opaque_ports: self.default_opaque_ports.clone(),
            default_policy: self.default_inbound_policy,
            cluster_networks: self.cluster_networks.clone(),
        }
    }

    /// How the identity service is to run; `None`: it is not.
    pub fn identity(&self) -> Option<identity::Config> {
        let config = identity::Config {
            identities: self.identities()?,
            paths: Paths {
                issuer: self.identity_issuer.clone()?,
                anchors: self.identity_trust_anchors.clone()?,
                token_key: self.identity_token_key.clone(),
            },
            terms: Terms {
                lifetime: self.identity_issuance_lifetime,
                skew: self.identity_clock_skew_allowance,
            },
        };
        self.enabled(Service::Identity).then_some(config)
    }

    /// Workloads have identities where somebody signs certificates for them.
    fn identities(&self) -> Option<Identities> {
        self.identity_issuer.as_ref()?;
        let domain = self.identity_trust_domain.as_ref();
        // Both were found to be names when they were read.
        Identities::new(&self.namespace, domain.unwrap_or(&self.cluster_domain))
    }

    /// Whether a part is to run.
    pub fn enabled(&self, service: Service) -> bool {
        !self.disable.contains(&service)
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let sane = millis(text).filter(|ms| (100..=300_000).contains(ms));
    sane.map(Duration::from_millis)
        .ok_or_else(|| "expected a whole number and ms, s or m, from 100ms to 5m".to_owned())
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let sane = millis(text).filter(|ms| (5_000..=8760 * HOUR).contains(ms));
    sane.map(Duration::from_millis)
        .ok_or_else(|| "expected whole numbers and s, m or h, from 5s to 8760h".to_owned())
}

fn skew(text: &str) -> Result<Duration, String> {
    let sane = millis(text).filter(|ms| (0..=HOUR).contains(ms));
    sane.map(Duration::from_millis)
        .ok_or_else(|| "expected whole numbers and s, m or h, up to 1h".to_owned())
}

const HOUR: u64 = 3_600_000;

/// Milliseconds, read from whole numbers, each with `ms`, `s`, `m` or `h`, as in `24h` or Linkerd's
/// `24h0m0s`.
pub fn millis(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0_u64;
    loop {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let letters = after.find(|c: char| c.is_ascii_digit());
        let (unit, after) = after.split_at(letters.unwrap_or(after.len()));
        let unit_ms = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => HOUR,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(unit_ms)?;
        sum = sum.checked_add(part)?;
        if after.is_empty() {
            return Some(sum);
        }
        rest = after;
    }
}

fn label(text: &str) -> Result<String, String> {
    let valid = name::is_label(text).then(|| text.to_owned());
    valid.ok_or_else(|| "expected a name of a-z, 0-9 and -".to_owned())
}

/// In lower case, without a closing dot.
fn domain(text: &str) -> Result<String, String> {
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let problem = || "expected a domain of a-z, 0-9, - and dots".to_owned();
    match name::is_domain(&text) {
        true => Ok(text),
        false => Err(problem()),
    }
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
    fn identities_need_an_issuer() {
        let args = parse(&[]).expect("defaults");
        assert_eq!(
            (args.identity().is_none(), args.settings().identities),
            (true, None)
        );
        let on = ["--identity-issuer", "i", "--identity-trust-anchors", "a"];
        let args = parse(&on).expect("valid");
        let config = args.identity().expect("on");
        assert_eq!(args.settings().identities, Some(config.identities.clone()));
        assert_eq!(&**config.identities.trust_domain(), "cluster.local");
        let day = Duration::from_secs(86_400);
        let skew = Duration::from_secs(20);
        assert_eq!(
            config.terms,
            Terms {
                lifetime: day,
                skew
            }
        );

        let elsewhere = parse(&[&on[..], &["--disable", "identity"]].concat()).expect("valid");
        assert!(elsewhere.identity().is_none() && elsewhere.settings().identities.is_some());
        for half in [&on[..2], &on[2..], &["--identity-token-key", "k"]] {
            assert!(parse(half).is_err(), "{half:?}");
        }
        let other = parse(&[&on[..], &["--identity-trust-domain", "Other.Example."]].concat());
        let other = other.expect("valid").identity().expect("on").identities;
        assert_eq!(&**other.trust_domain(), "other.example");
    }

    #[test]
    fn durations_are_as_linkerds() {
        for (text, want) in [
            ("24h", Some(24 * HOUR)),
            ("24h0m0s", Some(24 * HOUR)),
            ("1m30s", Some(90_000)),
            ("0s", Some(0)),
            ("", None),
            ("1", None),
            ("h", None),
            ("1h1", None),
            ("1d", None),
            ("-1s", None),
            ("99999999999999999999h", None),
            ("18446744073709551615ms1ms", None),
        ] {
            assert_eq!(millis(text), want, "{text}");
        }
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
            ["--namespace", "a.b"],
            ["--cluster-domain", "a..b"],
            ["--identity-trust-domain", "*.x"],
            ["--identity-issuance-lifetime", "4s"],
            ["--identity-clock-skew-allowance", "2h"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
    }
}
