//! Annotations by which users configure the mesh. A bad value is a warning, and the default holds;
//! but a policy that is not understood lets nobody in.

use super::{PortSet, ProxyConfig, Warnings};
use mesh_policy::{
    inbound::DefaultPolicy,
    outbound::{Backoff, FailureAccrual},
};
use std::{collections::BTreeMap, fmt::Display, time::Duration};

const OPAQUE_PORTS: &str = "config.linkerd.io/opaque-ports";
const DEFAULT_POLICY: &str = "config.linkerd.io/default-inbound-policy";
const SKIP_INBOUND: &str = "config.linkerd.io/skip-inbound-ports";
const REQUIRE_IDENTITY: &str = "config.linkerd.io/proxy-require-identity-inbound-ports";
const INBOUND_PORT: &str = "config.linkerd.io/inbound-port";
const ACCRUAL: &str = "balancer.linkerd.io/failure-accrual";
const MAX_FAILURES: &str = "balancer.linkerd.io/failure-accrual-consecutive-max-failures";
const MIN_PENALTY: &str = "balancer.linkerd.io/failure-accrual-consecutive-min-penalty";
const MAX_PENALTY: &str = "balancer.linkerd.io/failure-accrual-consecutive-max-penalty";
const JITTER: &str = "balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio";

/// What is read of a pod's or a namespace's annotations.
pub const PROXY_ANNOTATIONS: &[&str] = &[
    OPAQUE_PORTS,
    DEFAULT_POLICY,
    SKIP_INBOUND,
    REQUIRE_IDENTITY,
    INBOUND_PORT,
];

/// What is read of a Service's annotations.
pub const SERVICE_ANNOTATIONS: &[&str] = &[
    OPAQUE_PORTS,
    ACCRUAL,
    MAX_FAILURES,
    MIN_PENALTY,
    MAX_PENALTY,
    JITTER,
];

/// Annotations of Services that say what only routes can do.
const OF_ROUTES: [&str; 2] = ["retry.linkerd.io/", "timeout.linkerd.io/"];

/// The annotations of one object.
pub(super) struct Annotations<'a> {
    pub(super) map: &'a BTreeMap<String, String>,
    pub(super) warnings: &'a mut Warnings,
}

impl Annotations<'_> {
    pub(super) fn proxy_config(&mut self) -> ProxyConfig {
        ProxyConfig {
            opaque_ports: self.opaque_ports(),
            default_policy: self.default_policy(),
            skip_inbound_ports: self.ports(SKIP_INBOUND),
            require_identity_ports: self.ports(REQUIRE_IDENTITY),
            inbound_port: self.parsed(INBOUND_PORT, port),
        }
    }

    /// Whoever writes one wants fewer clients than all, so a typo must not let all of them in.
    fn default_policy(&mut self) -> Option<DefaultPolicy> {
        let value = self.map.get(DEFAULT_POLICY)?.trim();
        let policy = value.parse().unwrap_or_else(|error| {
            let problem = format!("{error}; until then nobody may connect");
            self.warnings.add(DEFAULT_POLICY, problem);
            DefaultPolicy::Deny
        });
        Some(policy)
    }

    /// What a Service asks for in vain.
    pub(super) fn report_routes(&mut self) {
        let names = self.map.keys();
        for name in names.filter(|name| OF_ROUTES.iter().any(|of| name.starts_with(of))) {
            let problem = "not acted on yet: requests are neither retried nor timed";
            self.warnings.add(name, problem);
        }
    }

    pub(super) fn opaque_ports(&mut self) -> Option<PortSet> {
        self.ports(OPAQUE_PORTS)
    }

    fn ports(&mut self, name: &str) -> Option<PortSet> {
        let (set, errors) = PortSet::parse_lossy(self.map.get(name)?);
        for error in errors {
            self.warnings.add(name, error);
        }
        Some(set)
    }

    /// Linkerd's `consecutive` and the consecutive half of its `unified`.
    pub(super) fn failure_accrual(&mut self) -> Option<FailureAccrual> {
        match self.map.get(ACCRUAL)?.as_str() {
            "consecutive" => {}
            "unified" => self.warnings.add(
                ACCRUAL,
                "success rates are not acted on yet, consecutive failures are",
            ),
            other => {
                let problem = format!("{other:?} is neither \"consecutive\" nor \"unified\"");
                self.warnings.add(ACCRUAL, problem);
                return None;
            }
        }
        let max_failures = self.parsed(MAX_FAILURES, positive).unwrap_or(7);
        let jitter = self.parsed(JITTER, ratio).unwrap_or(0.5);
        Some(FailureAccrual {
            max_failures,
            backoff: self.backoff(jitter),
        })
    }

    fn backoff(&mut self, jitter: f32) -> Backoff {
        let default = Backoff {
            min: Duration::from_secs(1),
            max: Duration::from_secs(60),
            jitter,
        };
        let min = self.parsed(MIN_PENALTY, duration).unwrap_or(default.min);
        let max = self.parsed(MAX_PENALTY, duration).unwrap_or(default.max);
        if max.is_zero() || min > max {
            let problem = format!("{max:?} is zero or less than the min-penalty of {min:?}");
            self.warnings.add(MAX_PENALTY, problem);
            return default;
        }
        Backoff { min, max, jitter }
    }

    fn parsed<T, E: Display>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let value = self.map.get(name)?;
        parse(value.trim())
            .map_err(|error| self.warnings.add(name, error))
            .ok()
    }
}

fn positive(value: &str) -> Result<u32, String> {
    let number = value.parse().ok().filter(|n| *n > 0);
    number.ok_or_else(|| format!("{value:?} is not a whole number of at least 1"))
}

fn port(value: &str) -> Result<u16, String> {
    let number = value.parse().ok().filter(|n| *n > 0);
    number.ok_or_else(|| format!("{value:?} is not a port (1 to 65535)"))
}

fn ratio(value: &str) -> Result<f32, String> {
    let number = value.parse().ok().filter(|n| (0.0..=100.0).contains(n));
    number.ok_or_else(|| format!("{value:?} is not a number from 0 to 100"))
}

/// A whole number and one of `ms s m h d`; a bare `0` is zero.
fn duration(value: &str) -> Result<Duration, String> {
    let split = value.find(|c: char| !c.is_ascii_digit());
    let (number, unit) = value.split_at(split.unwrap_or(value.len()));
    let unit_ms = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "" if number == "0" => 1,
        _ => 0,
    };
    let millis = number.parse::<u64>().ok().filter(|_| unit_ms > 0);
    let millis = millis.and_then(|n| n.checked_mul(unit_ms));
    // A year is more than anybody means.
    let millis = millis.filter(|ms| *ms <= 366 * 86_400_000);
    let millis = millis.ok_or_else(|| {
        format!("{value:?} is not a duration: expected a whole number and ms, s, m, h or d")
    })?;
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accrual(pairs: &[(&str, &str)]) -> (Option<FailureAccrual>, Vec<String>) {
        let owned = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        let map: BTreeMap<String, String> = owned.collect();
        let mut warnings = Warnings::default();
        let accrual = Annotations {
            map: &map,
            warnings: &mut warnings,
        }
        .failure_accrual();
        (accrual, warnings.0)
    }

    #[test]
    fn a_policy_that_is_not_understood_lets_nobody_in() {
        let read = |value: &str| {
            let map = BTreeMap::from([(DEFAULT_POLICY.into(), value.into())]);
            let mut warnings = Warnings::default();
            let config = Annotations {
                map: &map,
                warnings: &mut warnings,
            }
            .proxy_config();
            (config.default_policy, warnings.0)
        };
        for known in DefaultPolicy::ALL {
            assert_eq!(read(known.name()), (Some(known), vec![]));
        }
        for unknown in ["denny", "", "Deny"] {
            let (policy, warnings) = read(unknown);
            assert_eq!(policy, Some(DefaultPolicy::Deny), "{unknown:?}");
            assert!(warnings[0].contains("nobody may connect"), "{warnings:?}");
        }
    }

    #[test]
    fn accrual_and_its_defaults() {
        assert_eq!(accrual(&[(MAX_FAILURES, "3")]), (None, vec![]));
        let (defaults, warnings) = accrual(&[(ACCRUAL, "consecutive")]);
        let mut want = FailureAccrual {
            max_failures: 7,
            backoff: Backoff {
                min: Duration::from_secs(1),
                max: Duration::from_secs(60),
                jitter: 0.5,
            },
        };
        assert_eq!((defaults, warnings), (Some(want), vec![]));
        want.max_failures = 3;
        want.backoff.min = Duration::from_millis(10);
        want.backoff.max = Duration::from_secs(120);
        want.backoff.jitter = 0.0;
        let all = [
            (ACCRUAL, "consecutive"),
            (MAX_FAILURES, "3"),
            (MIN_PENALTY, "10ms"),
            (MAX_PENALTY, "2m"),
            (JITTER, "0"),
        ];
        assert_eq!(accrual(&all), (Some(want), vec![]));
    }

    #[test]
    fn a_bad_value_is_reported_and_the_default_holds() {
        let table = [
            (ACCRUAL, "maybe"),
            (MAX_FAILURES, "0"),
            (MAX_FAILURES, "many"),
            (JITTER, "-1"),
            (JITTER, "NaN"),
            (MIN_PENALTY, "2m"),
            (MAX_PENALTY, "0"),
            (MAX_PENALTY, "60"),
            (MAX_PENALTY, "1.5s"),
            (MAX_PENALTY, "-1s"),
            (MAX_PENALTY, "99999999999999999999s"),
        ];
        let (defaults, _) = accrual(&[(ACCRUAL, "consecutive")]);
        for (name, value) in table {
            let (got, warnings) = accrual(&[(ACCRUAL, "consecutive"), (name, value)]);
            assert_eq!(warnings.len(), 1, "{name}: {value}: {warnings:?}");
            assert!(
                warnings[0].starts_with("balancer.linkerd.io/"),
                "{warnings:?}"
            );
            let want = defaults.filter(|_| name != ACCRUAL);
            assert_eq!(got, want, "{name}: {value}");
        }
    }
}
