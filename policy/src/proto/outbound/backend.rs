//! Backends and how a rule chooses among them.

use super::{
    super::{FieldError, Notes, Path, Problem, destination, duration, meta},
    routes::{AnyBackend, AnyDistribution},
};
use crate::outbound::{Backend, BackendKind, Distribution, Load, Queue};
use linkerd2_proxy_api::outbound::{
    self as wire,
    backend::{BalanceP2c, Kind, balance_p2c, endpoint_discovery},
};
use std::collections::HashMap;

/// A backend without a kind, or one that a filter makes refuse traffic, is left out and listed.
pub(super) fn distribution(
    wire: Option<AnyDistribution>,
    at: Path<'_>,
    notes: &mut Notes,
) -> Result<Distribution, FieldError> {
    match at.required(wire, "kind")? {
        AnyDistribution::Empty => Ok(Distribution::Empty),
        AnyDistribution::First(backends) => {
            let weighted = backends.into_iter().map(|backend| (backend, 1)).collect();
            let usable = usable(weighted, at.field("first_available"), notes)?;
            Ok(match usable.is_empty() {
                true => Distribution::Empty,
                false => Distribution::FirstAvailable(usable.into_iter().map(|(b, _)| b).collect()),
            })
        }
        AnyDistribution::Random(backends) => {
            let usable = usable(backends, at.field("random_available"), notes)?;
            Ok(match usable.iter().any(|(_, weight)| *weight > 0) {
                true => Distribution::RandomAvailable(usable.into()),
                false => Distribution::Empty,
            })
        }
    }
}

/// # Errors
/// When there are backends, none can be used, and none is meant to refuse.
fn usable(
    wire: Vec<(AnyBackend, u32)>,
    at: Path<'_>,
    notes: &mut Notes,
) -> Result<Vec<(Backend, u32)>, FieldError> {
    let at = at.field("backends");
    let total = wire.len();
    let mut backends = Vec::with_capacity(total);
    let mut kindless = 0;
    for (i, (any, weight)) in wire.into_iter().enumerate() {
        let at = at.index(i);
        if any.refuses {
            notes.ignore(at, "filters: left out, as they refuse all traffic");
            continue;
        }
        notes.ignore_if(any.filters, at, "filters");
        let at = at.field("backend");
        match any
            .backend
            .and_then(|b| Some((b.kind?, b.metadata, b.queue)))
        {
            Some((kind, metadata, queue)) => backends.push((
                Backend {
                    meta: meta::read(metadata, at.field("metadata"))?,
                    queue: self::queue(queue, at.field("queue"))?,
                    kind: self::kind(kind, at, notes)?,
                },
                weight,
            )),
            None => {
                notes.ignore(at, "left out, as it is of no known kind");
                kindless += 1;
            }
        }
    }
    match kindless > 0 && kindless == total {
        true => Err(at.error(Problem::Missing("kind"))),
        false => Ok(backends),
    }
}

fn queue(wire: Option<wire::Queue>, at: Path<'_>) -> Result<Queue, FieldError> {
    let default = Queue::default();
    let Some(wire) = wire else {
        return Ok(default);
    };
    let at = at.field("failfast_timeout");
    Ok(Queue {
        capacity: usize::try_from(wire.capacity).unwrap_or(usize::MAX),
        failfast_timeout: duration::read_or(wire.failfast_timeout, default.failfast_timeout, at)?,
    })
}

fn kind(wire: Kind, at: Path<'_>, notes: &mut Notes) -> Result<BackendKind, FieldError> {
    match wire {
        Kind::Forward(addr) => {
            let endpoint = destination::endpoint(addr, &HashMap::new(), at.field("forward"))?;
            Ok(BackendKind::Forward(Box::new(endpoint)))
        }
        Kind::Balancer(balance) => balancer(balance, at.field("balancer"), notes),
    }
}

fn balancer(wire: BalanceP2c, at: Path<'_>, notes: &mut Notes) -> Result<BackendKind, FieldError> {
    let discovery = wire.discovery.and_then(|discovery| discovery.kind);
    let endpoint_discovery::Kind::Dst(dst) = at.required(discovery, "discovery")?;
    let path = Some(dst.path).filter(|path| !path.is_empty());
    let path = at.field("discovery").field("dst").required(path, "path")?;
    let load = match wire.load {
        Some(load) => self::load(load, at, notes)?,
        None => {
            notes.ignore(at, "load of no known kind: peak EWMA is used");
            Load::default()
        }
    };
    Ok(BackendKind::Balance {
        path: path.into(),
        load,
    })
}

fn load(wire: balance_p2c::Load, at: Path<'_>, notes: &mut Notes) -> Result<Load, FieldError> {
    let default = Load::default();
    let (at, default_rtt, decay, penalty) = match wire {
        balance_p2c::Load::PeakEwma(ewma) => {
            (at.field("peak_ewma"), ewma.default_rtt, ewma.decay, None)
        }
        balance_p2c::Load::PenaltyPeakEwma(ewma) => {
            let at = at.field("penalty_peak_ewma");
            notes.ignore_if(ewma.max_retry_after.is_some(), at, "max_retry_after");
            notes.ignore_if(ewma.penalty_decay.is_some(), at, "penalty_decay");
            (at, ewma.default_rtt, ewma.decay, ewma.penalty)
        }
    };
    let decay_at = at.field("decay");
    let decay = duration::read_or(decay, default.decay, decay_at)?;
    if decay.is_zero() {
        return Err(decay_at.error(Problem::Zero));
    }
    Ok(Load {
        default_rtt: duration::read_or(default_rtt, default.default_rtt, at.field("default_rtt"))?,
        decay,
        penalty: duration::read_or(penalty, default.penalty, at.field("penalty"))?,
    })
}
