//! What is in order and what is not: from facts to verdicts. Pure.
//!
//! Names and order are those of `linkerd check`. What can only be judged once something else is in
//! order is left out when that is not: one cause is told once.

mod identity;
mod proxies;

use super::clock::Skew;
use super::facts::{Controller, Facts, Mesh};
use super::report::{Category, Problem, Report};
use crate::certificate::Certificate;
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// What certificates allow clocks to differ by: `--identity-clock-skew-allowance`.
const SKEW_ALLOWANCE: Duration = Duration::seconds(20);

const LOGS: &str = "`meshctl local logs controller` shows what it says";

type Verdict = Result<(), Problem>;

/// Judges all facts of one round.
pub(super) fn judge(facts: &Facts) -> Report {
    let mut report = Report::default();
    let Some((mesh, controller)) = existence(facts, report.category("gossamer-existence")) else {
        return report;
    };
    clocks(mesh, controller, report.category("gossamer-clock"));
    let category = report.category("gossamer-identity");
    let anchors = identity::judge(facts.now, mesh, controller, category);
    if let Ok(proxies) = &mesh.proxies {
        let category = report.category("gossamer-data-plane");
        proxies::judge(facts.now, proxies, anchors, category);
    }
    report
}

/// The mesh and its controller, if there is any use in going on.
fn existence<'a>(facts: &'a Facts, category: &mut Category) -> Option<(&'a Mesh, &'a Controller)> {
    let start = "`meshctl demo` or `meshctl local up -f MANIFESTS` starts one";
    let mesh = facts.mesh.as_ref();
    category.add("a mesh is running", found(mesh, start));
    let mesh = mesh.ok()?;
    let controller = mesh.controller.as_ref();
    category.add("controller answers", found(controller, LOGS));
    let controller = controller.ok()?;
    let ready = controller.ready.as_ref();
    category.add("controller is ready", found(ready, LOGS));
    let stats = found(mesh.proxies.as_ref(), LOGS);
    category.add("controller's stats API answers", stats);
    Some((mesh, controller))
}

fn found<T>(fact: Result<T, &String>, hint: &str) -> Verdict {
    fact.map(|_| ())
        .map_err(|error| Problem::error(error, hint))
}

fn clocks(mesh: &Mesh, controller: &Controller, category: &mut Category) {
    let own = [("the controller".to_string(), controller.skew)];
    category.add("controller's clock agrees with this machine's", clock(&own));
    let proxies = mesh.proxies.iter().flatten();
    let proxies = proxies.filter(|proxy| proxy.ready.is_ok() || proxy.skew.is_some());
    let proxies: Vec<_> = proxies
        .map(|proxy| (proxy.pod.clone(), proxy.skew))
        .collect();
    category.add(
        "data plane clocks agree with this machine's",
        clock(&proxies),
    );
}

fn clock(skews: &[(String, Option<Skew>)]) -> Verdict {
    let apart = skews.iter().filter_map(|(who, skew)| {
        let certain = (*skew)?.certain();
        let side = match certain.is_positive() {
            true => "ahead",
            false => "behind",
        };
        let seconds = certain.abs().as_seconds_f64();
        (certain.abs() > SKEW_ALLOWANCE).then(|| format!("{who} is at least {seconds:.0} s {side}"))
    });
    let hint = format!("set the clocks (NTP); certificates allow for {SKEW_ALLOWANCE} at most");
    all(apart.collect(), |text| Problem::error(text, hint))?;
    let silent = skews.iter().filter(|(_, skew)| skew.is_none());
    let silent = silent.map(|(who, _)| format!("{who} does not tell its time"));
    let hint = "look whether something else listens on the admin port";
    all(silent.collect(), |text| Problem::warning(text, hint))
}

/// Why a certificate is not valid now.
fn not_valid(certificate: &Certificate, now: OffsetDateTime) -> Option<String> {
    let label = certificate.label();
    if now < certificate.not_before {
        let from = date(certificate.not_before);
        return Some(format!("{label} is not valid before {from}"));
    }
    let ended = now > certificate.not_after;
    ended.then(|| format!("{label} expired at {}", date(certificate.not_after)))
}

/// In order if there is nothing to say.
fn all(lines: Vec<String>, problem: impl FnOnce(String) -> Problem) -> Verdict {
    match lines.is_empty() {
        true => Ok(()),
        false => Err(problem(lines.join("\n"))),
    }
}

fn date(time: OffsetDateTime) -> String {
    // All its parts are there, so it can be written.
    time.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests;
