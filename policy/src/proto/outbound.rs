//! The policy of a destination, as `OutboundPolicies` streams it.
//!
//! The API has four kinds of route that differ in what they match; `routes` brings them to one
//! form, of which the rule that takes everything is kept and the rest listed as not acted on. A rule
//! that refuses traffic (a filter that forbids it or always fails it) becomes a route without
//! backends: traffic still fails, though not in the words asked for.

mod accrual;
mod backend;
mod routes;
mod write;

use self::routes::{AnyRoute, AnyRule};
use super::{FieldError, Notes, Path, Read, duration, meta};
use crate::{
    DETECT_TIMEOUT, Meta,
    outbound::{Distribution, Http, Opaque, OutboundPolicy, Protocol, Route},
};
use linkerd2_proxy_api::outbound::{self as wire, proxy_protocol::Kind};
use std::sync::Arc;

impl TryFrom<wire::OutboundPolicy> for Read<OutboundPolicy> {
    type Error = FieldError;

    fn try_from(policy: wire::OutboundPolicy) -> Result<Self, FieldError> {
        let root = Path::root();
        let mut notes = Notes::default();
        let kind = policy.protocol.and_then(|protocol| protocol.kind);
        let at = root.field("protocol");
        let value = OutboundPolicy {
            parent: meta::read(policy.metadata, root.field("metadata"))?,
            protocol: protocol(at.required(kind, "kind")?, at, &mut notes)?,
        };
        Ok(notes.with(value))
    }
}

fn protocol(kind: Kind, at: Path<'_>, notes: &mut Notes) -> Result<Protocol, FieldError> {
    Ok(match kind {
        Kind::Detect(detect) => {
            let at = at.field("detect");
            let http1 = at.required(detect.http1, "http1")?;
            let http2 = at.required(detect.http2, "http2")?;
            let opaque = at.required(detect.opaque, "opaque")?;
            let (http1, http2) = (routes::http1(http1), routes::http2(http2));
            Protocol::Detect {
                timeout: duration::read_or(detect.timeout, DETECT_TIMEOUT, at.field("timeout"))?,
                http1: http(http1, at.field("http1"), notes)?,
                http2: http(http2, at.field("http2"), notes)?,
                opaque: tcp(routes::opaque(opaque), at.field("opaque"), notes)?,
            }
        }
        Kind::Http1(it) => Protocol::Http1(http(routes::http1(it), at.field("http1"), notes)?),
        Kind::Http2(it) => Protocol::Http2(http(routes::http2(it), at.field("http2"), notes)?),
        Kind::Grpc(it) => Protocol::Grpc(http(routes::grpc(it), at.field("grpc"), notes)?),
        Kind::Opaque(it) => Protocol::Opaque(tcp(routes::opaque(it), at.field("opaque"), notes)?),
        Kind::Tls(it) => Protocol::Tls(tcp(routes::tls(it), at.field("tls"), notes)?),
    })
}

fn http(
    (routes, accrual): (Vec<AnyRoute>, Option<wire::FailureAccrual>),
    at: Path<'_>,
    notes: &mut Notes,
) -> Result<Http, FieldError> {
    Ok(Http {
        route: the_route(routes, at.field("routes"), notes)?,
        failure_accrual: accrual::read(accrual, at.field("failure_accrual"), notes)?,
    })
}

fn tcp(routes: Vec<AnyRoute>, at: Path<'_>, notes: &mut Notes) -> Result<Opaque, FieldError> {
    Ok(Opaque {
        route: the_route(routes, at.field("routes"), notes)?,
    })
}

/// The one route that the model has: the rule that takes everything, or else the first rule of the
/// last route, which is the least specific that there is.
fn the_route(routes: Vec<AnyRoute>, at: Path<'_>, notes: &mut Notes) -> Result<Route, FieldError> {
    if routes.is_empty() {
        return Ok(Route {
            meta: Meta::default_named("empty"),
            distribution: Distribution::Empty,
        });
    }
    let (chosen_route, chosen_rule) = choose(&routes);
    let mut chosen = None;
    for (i, route) in routes.into_iter().enumerate() {
        let at = at.index(i);
        let rules_at = at.field("rules");
        let hosts = route.hosts;
        let mut metadata = route.metadata;
        for (j, rule) in route.rules.into_iter().enumerate() {
            let rule_at = rules_at.index(j);
            if (i, j) == (chosen_route, chosen_rule) {
                let specific = hosts || !rule.takes_all;
                notes.ignore_if(specific, rule_at, "what it matches: it takes everything");
                let meta = meta::read(metadata.take(), at.field("metadata"))?;
                chosen = Some(route_of(meta, rule, rule_at, notes)?);
            } else {
                notes.ignore(rule_at, "rule of a route that is not matched");
            }
        }
    }
    at.required(chosen, "rules")
}

/// Indices of the route and of its rule.
fn choose(routes: &[AnyRoute]) -> (usize, usize) {
    let takes_all = |route: &AnyRoute| {
        let rule = route.rules.iter().position(|rule| rule.takes_all);
        rule.filter(|_| !route.hosts)
    };
    let mut all = routes.iter().enumerate();
    all.find_map(|(i, route)| takes_all(route).map(|j| (i, j)))
        .or_else(|| {
            routes
                .iter()
                .rposition(|r| !r.rules.is_empty())
                .map(|i| (i, 0))
        })
        .unwrap_or_default()
}

fn route_of(
    meta: Arc<Meta>,
    rule: AnyRule,
    at: Path<'_>,
    notes: &mut Notes,
) -> Result<Route, FieldError> {
    for what in rule.unused {
        notes.ignore(at, what);
    }
    let distribution = if rule.refuses {
        Distribution::Empty
    } else {
        backend::distribution(rule.distribution, at.field("backends"), notes)?
    };
    Ok(Route { meta, distribution })
}

#[cfg(test)]
mod tests;
