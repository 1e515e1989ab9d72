//! Access to environment variables that remembers everything that was wrong with them.

use super::parse::{self, Reason};
use std::{collections::HashMap, fmt, net::SocketAddr};

/// What Linkerd's variables begin with.
pub(super) const PREFIX: &str = "LINKERD2_PROXY_";

/// Known to Linkerd, accepted, and without effect here so far. Endings of `LINKERD2_PROXY_*`.
const NOT_ACTED_ON: &[&str] = &[
    "CONTROL_LISTEN_ADDR",
    "ACCESS_LOG",
    "INBOUND_CONNECT_EXP_BACKOFF_MIN",
    "INBOUND_CONNECT_EXP_BACKOFF_MAX",
    "INBOUND_CONNECT_EXP_BACKOFF_JITTER",
    "INBOUND_HTTP_QUEUE_CAPACITY",
    "INBOUND_HTTP_FAILFAST_TIMEOUT",
    "DESTINATION_PROFILE_INITIAL_TIMEOUT",
    "INBOUND_GATEWAY_SUFFIXES",
    "INGRESS_MODE",
    "OUTBOUND_METRICS_HOSTNAME_LABELS",
    "INBOUND_METRICS_AUTHORITY_LABELS",
    "IDENTITY_SPIRE_WORKLOAD_API_ADDRESS",
    "IDENTITY_SPIRE_SOCKET",
    "TAP_SVC_NAME",
    "TRACE_COLLECTOR_SVC_ADDR",
    "TRACE_COLLECTOR_SVC_NAME",
    "TRACE_ATTRIBUTES_PATH",
    "TRACE_EXTRA_ATTRIBUTES",
    "TRACE_SERVICE_NAME",
    "TRACE_ANNOTATIONS_PATH",
    "TRACE_PROTOCOL",
];

/// Everything that is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub struct Invalid(pub Vec<String>);

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

/// Variables by name, and what was found wrong with them.
pub(super) struct Vars {
    pub(super) vars: HashMap<String, String>,
    pub(super) errors: Vec<String>,
}

impl Vars {
    /// The value of a variable, without the prefix in its name; empty ones are as unset.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.raw(&format!("{PREFIX}{name}"))
    }

    pub(super) fn raw(&self, name: &str) -> Option<String> {
        self.vars.get(name).filter(|v| !v.is_empty()).cloned()
    }

    pub(super) fn opt<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
    ) -> Option<T> {
        let value = self.text(name)?;
        parse(&value)
            .map_err(|why| self.errors.push(format!("{PREFIX}{name}: {why}")))
            .ok()
    }

    pub(super) fn or<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
        default: T,
    ) -> T {
        self.opt(name, parse).unwrap_or(default)
    }

    /// For variables that are not Linkerd's.
    pub(super) fn raw_or<T: Default>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
    ) -> T {
        let Some(value) = self.raw(name) else {
            return T::default();
        };
        parse(&value).unwrap_or_else(|why| {
            self.errors.push(format!("{name}: {why}"));
            T::default()
        })
    }

    pub(super) fn listen(&mut self, name: &str, default: &str) -> Vec<SocketAddr> {
        let value = self.text(name).unwrap_or_else(|| default.to_owned());
        parse::socket_addr(&value)
            .map(|addr| vec![addr])
            .unwrap_or_else(|why| {
                self.errors.push(format!("{PREFIX}{name}: {why}"));
                Vec::new()
            })
    }

    pub(super) fn required<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, Reason>,
    ) -> Option<T> {
        if self.text(name).is_none() {
            self.errors.push(format!("{PREFIX}{name}: is required"));
        }
        self.opt(name, parse)
    }

    pub(super) fn log_not_acted_on(&self) {
        for name in NOT_ACTED_ON {
            if self.text(name).is_some() {
                tracing::debug!("{PREFIX}{name} is known but has no effect yet");
            }
        }
    }
}
