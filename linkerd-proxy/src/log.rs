//! Logging to standard error, plain or JSON, with a filter that can be changed at run time.
//!
//! Filters are levels by target (`warn,linkerd=info`). Nothing here has spans, so filters by span would
//! choose nothing; their parser would bring a regular expression engine.

use crate::config::Invalid;
use std::collections::HashMap;
use tracing_subscriber::{Registry, filter::Targets, fmt, prelude::*, reload};

const DEFAULT_FILTER: &str = "warn,linkerd=info,hickory=error";

/// Changes the filter of the running process.
#[derive(Clone)]
pub struct Handle(Option<reload::Handle<Targets, Registry>>);

/// A filter that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadFilter(String);

/// Starts logging by `LINKERD2_PROXY_LOG` and `LINKERD2_PROXY_LOG_FORMAT`.
///
/// # Errors
///
/// A filter or format that cannot be read, or both; then nothing is logged.
pub fn init(vars: &HashMap<String, String>) -> Result<Handle, Invalid> {
    let get = |name: &str| vars.get(name).map(|v| v.trim()).filter(|v| !v.is_empty());
    let filter = get("LINKERD2_PROXY_LOG").unwrap_or(DEFAULT_FILTER);
    if filter.eq_ignore_ascii_case("off") {
        return Ok(Handle(None));
    }
    let format = get("LINKERD2_PROXY_LOG_FORMAT").unwrap_or("PLAIN");
    let is_json = match format {
        f if f.eq_ignore_ascii_case("json") => Ok(true),
        f if f.eq_ignore_ascii_case("plain") => Ok(false),
        f => Err(format!(
            "LINKERD2_PROXY_LOG_FORMAT: {f:?} is neither PLAIN nor JSON"
        )),
    };
    let filter = parse(filter).map_err(|e| format!("LINKERD2_PROXY_LOG: {e}"));
    let (filter, is_json) = match (filter, is_json) {
        (Ok(filter), Ok(is_json)) => (filter, is_json),
        (filter, is_json) => {
            let problems = [filter.err(), is_json.err()];
            return Err(Invalid(problems.into_iter().flatten().collect()));
        }
    };
    let (filter, handle) = reload::Layer::new(filter);
    let plain = fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter);
    let set = if is_json {
        registry.with(plain.json()).try_init()
    } else {
        registry.with(plain.with_ansi(false)).try_init()
    };
    set.map_err(|e| Invalid(vec![e.to_string()]))?;
    Ok(Handle(Some(handle)))
}

fn parse(filter: &str) -> Result<Targets, BadFilter> {
    filter.parse().map_err(|e| {
        BadFilter(format!(
            "{filter:?}: {e}; write levels by target, like {DEFAULT_FILTER:?}"
        ))
    })
}

impl Handle {
    /// The filter; `None` when logging is off.
    pub fn filter(&self) -> Option<String> {
        self.0.as_ref()?.with_current(Targets::to_string).ok()
    }

    /// Replaces the filter; `None` when logging is off.
    ///
    /// # Errors
    ///
    /// A filter that cannot be read; the old one stays.
    pub fn set(&self, filter: &str) -> Option<Result<(), BadFilter>> {
        let handle = self.0.as_ref()?;
        Some(parse(filter).and_then(|f| handle.reload(f).map_err(|e| BadFilter(e.to_string()))))
    }
}
