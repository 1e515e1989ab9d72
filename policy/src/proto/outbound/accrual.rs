//! Failure accrual: when answers take an endpoint out of use.
//!
//! Consecutive failures are acted on; success rates, ejection floors and `retry-after` hints are
//! not yet, and are listed.

use super::super::{FieldError, Notes, Path, Problem, duration};
use crate::outbound::{Backoff, FailureAccrual};
use linkerd2_proxy_api::outbound::{self as wire, failure_accrual::Kind};

/// A maximum of 0 switches accrual off.
pub(super) fn read(
    wire: Option<wire::FailureAccrual>,
    at: Path<'_>,
    notes: &mut Notes,
) -> Result<Option<FailureAccrual>, FieldError> {
    let Some(wire) = wire else { return Ok(None) };
    let floor = wire.ejection.is_some_and(|e| e.min_ready_endpoints > 0);
    notes.ignore_if(floor, at, "ejection");
    match wire.kind {
        Some(Kind::ConsecutiveFailures(it)) => {
            let at = at.field("consecutive_failures");
            consecutive(it.max_failures, it.backoff, at, notes)
        }
        Some(Kind::Unified(it)) => {
            let at = at.field("unified");
            notes.ignore_if(it.success_rate_threshold > 0.0, at, "success rate");
            consecutive(it.max_consecutive_failures, it.backoff, at, notes)
        }
        None => {
            notes.ignore(at, "of no known kind");
            Ok(None)
        }
    }
}

fn consecutive(
    max_failures: u32,
    backoff: Option<wire::ExponentialBackoff>,
    at: Path<'_>,
    notes: &mut Notes,
) -> Result<Option<FailureAccrual>, FieldError> {
    if max_failures == 0 {
        return Ok(None);
    }
    let backoff = at.required(backoff, "backoff")?;
    Ok(Some(FailureAccrual {
        max_failures,
        backoff: self::backoff(backoff, at.field("backoff"), notes)?,
    }))
}

fn backoff(
    wire: wire::ExponentialBackoff,
    at: Path<'_>,
    notes: &mut Notes,
) -> Result<Backoff, FieldError> {
    notes.ignore_if(
        wire.respect_retry_after_hint,
        at,
        "respect_retry_after_hint",
    );
    let min = at.required(wire.min_backoff, "min_backoff")?;
    let max = at.required(wire.max_backoff, "max_backoff")?;
    let min = duration::read(min, at.field("min_backoff"))?;
    let max = duration::read(max, at.field("max_backoff"))?;
    if max.is_zero() {
        return Err(at.field("max_backoff").error(Problem::Zero));
    }
    if min > max {
        return Err(at.error(Problem::Backoff));
    }
    // Not a number is in no range.
    if !(0.0..=100.0).contains(&wire.jitter_ratio) {
        return Err(at.field("jitter_ratio").error(Problem::Jitter));
    }
    Ok(Backoff {
        min,
        max,
        jitter: wire.jitter_ratio,
    })
}
