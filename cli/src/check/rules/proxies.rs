//! The verdicts on proxies and their certificates.
//!
//! Part of `rules`. Each check lists every proxy that fails it, up to a number a person reads.

use super::super::chain;
use super::super::facts::Proxy;
use super::super::report::{Category, Problem};
use super::{Verdict, all, date, not_valid};
use crate::certificate::Certificate;
use time::{Duration, OffsetDateTime};

const LISTED: usize = 10;
/// Proxies renew at 70 % of a certificate's life; this much later something is in their way.
const OVERDUE: f64 = 0.85;

/// `anchors`: the roots, when they could be read.
pub(super) fn judge(
    now: OffsetDateTime,
    proxies: &[Proxy],
    anchors: Option<&[Certificate]>,
    category: &mut Category,
) {
    let status = "`meshctl local status` and `meshctl local logs POD` say more";
    if proxies.is_empty() {
        let hint = "run something, and without `linkerd.io/inject: disabled`";
        let problem = Problem::warning("no pod has a proxy", hint);
        category.add("data plane proxies are ready", Err(problem));
        return;
    }
    let ready = each(proxies, |proxy| proxy.ready.as_ref().err().cloned());
    category.add(
        "data plane proxies are ready",
        all(ready, |text| Problem::error(text, status)),
    );
    let present = each(proxies, |proxy| proxy.chain.as_ref().err().cloned());
    let present = all(present, |text| Problem::error(text, status));
    category.add("data plane proxies present a certificate", present);
    for (description, verdict) in certificates(now, proxies, anchors) {
        category.add(description, verdict);
    }
}

fn certificates(
    now: OffsetDateTime,
    proxies: &[Proxy],
    anchors: Option<&[Certificate]>,
) -> Vec<(&'static str, Verdict)> {
    let identity = leaves(proxies, |proxy, leaf| {
        let names = leaf.subject_alt_names.join(", ");
        (!leaf.is_for(&proxy.identity)).then(|| format!("is {names}, not {}", proxy.identity))
    });
    let valid = leaves(proxies, |_, leaf| not_valid(leaf, now));
    let renewed = leaves(proxies, |_, leaf| is_overdue(leaf, now));
    let renewal = "`meshctl local logs POD` says why its renewal fails; it is tried until it works";
    let mut verdicts = vec![
        (
            "data plane proxies certificates carry their identity",
            all(identity, |text| {
                let hint = "something else listens on port 4143 of the pod; stop it";
                Problem::error(text, hint)
            }),
        ),
        (
            "data plane proxies certificates are within their validity period",
            all(valid, |text| Problem::error(text, renewal)),
        ),
        (
            "data plane proxies certificates are renewed in time",
            all(renewed, |text| Problem::warning(text, renewal)),
        ),
    ];
    if let Some(anchors) = anchors {
        let trusted = each(proxies, |proxy| {
            let chain = proxy.chain.as_ref().ok()?;
            chain::verify(chain, anchors, now).err()
        });
        let hint = "trust its old root too (identity/trust-anchors.pem) until it has renewed its \
                    certificate";
        let trusted = all(trusted, |text| Problem::error(text, hint));
        verdicts.push(("data plane proxies certificate match CA", trusted));
    }
    verdicts
}

/// Why a certificate ought to be another by now; one that has ended is told of elsewhere.
fn is_overdue(leaf: &Certificate, now: OffsetDateTime) -> Option<String> {
    let life = leaf.not_after - leaf.not_before;
    let age = now - leaf.not_before;
    let overdue = age > life * OVERDUE && now <= leaf.not_after && life > Duration::ZERO;
    overdue.then(|| format!("expires at {} and was not renewed", date(leaf.not_after)))
}

/// What there is to say about the leaves that could be seen.
fn leaves(
    proxies: &[Proxy],
    problem: impl Fn(&Proxy, &Certificate) -> Option<String>,
) -> Vec<String> {
    each(proxies, |proxy| {
        let leaf = proxy.chain.as_ref().ok()?.first()?;
        problem(proxy, leaf)
    })
}

fn each(proxies: &[Proxy], problem: impl Fn(&Proxy) -> Option<String>) -> Vec<String> {
    let lines = proxies.iter().filter_map(|proxy| {
        let problem = problem(proxy)?;
        Some(format!("{}: {problem}", proxy.pod))
    });
    let mut lines: Vec<_> = lines.collect();
    let more = lines.len().saturating_sub(LISTED);
    if more > 0 {
        lines.truncate(LISTED);
        lines.push(format!("and {more} more"));
    }
    lines
}
