//! The verdicts on roots and issuer.
//!
//! Part of `rules`. Files are judged even where the controller uses others: what is wrong with them
//! is why.

use super::super::chain;
use super::super::facts::{Controller, InForce, Material, Mesh};
use super::super::report::{Category, Problem};
use super::{LOGS, Verdict, all, date, not_valid};
use crate::certificate::Certificate;
use time::{Duration, OffsetDateTime};

/// Roots and issuers that end sooner are warned of.
const SOON: Duration = Duration::days(60);

/// Gives the roots, if they can be judged by.
pub(super) fn judge<'a>(
    now: OffsetDateTime,
    mesh: &'a Mesh,
    controller: &Controller,
    category: &mut Category,
) -> Option<&'a [Certificate]> {
    category.add(
        "certificate config is valid",
        configuration(mesh, controller),
    );
    let anchors = mesh.anchors.certificates.as_deref().ok()?;
    judge_anchors(now, mesh, anchors, category);
    if let Ok(chain) = &mesh.issuer.certificates {
        judge_issuer(now, mesh, chain, anchors, category);
    }
    Some(anchors)
}

fn judge_anchors(
    now: OffsetDateTime,
    mesh: &Mesh,
    anchors: &[Certificate],
    category: &mut Category,
) {
    let path = mesh.anchors.path.display();
    let replace = format!("put a root that is into {path}");
    let add = format!("add a new root to {path}, and keep the old one until it ends");
    category.add(
        "trust anchors are using supported crypto algorithm",
        crypto(anchors, &replace),
    );
    category.add(
        "trust anchors are within their validity period",
        within_validity(anchors, now, &replace),
    );
    category.add(
        "trust anchors are valid for at least 60 days",
        ends_late(anchors, now, &add),
    );
}

fn judge_issuer(
    now: OffsetDateTime,
    mesh: &Mesh,
    chain: &[Certificate],
    anchors: &[Certificate],
    category: &mut Category,
) {
    let path = &mesh.issuer.path;
    let dir = path.parent().unwrap_or(path).display();
    let replace = format!("put another issuer, signed by a trust anchor, with its key into {dir}");
    // What follows in the chain is judged by whether it leads to a root.
    let issuer = &chain[..chain.len().min(1)];
    category.add(
        "issuer cert is using supported crypto algorithm",
        crypto(issuer, &replace),
    );
    category.add(
        "issuer cert is within its validity period",
        within_validity(issuer, now, &replace),
    );
    category.add(
        "issuer cert is valid for at least 60 days",
        ends_late(issuer, now, &replace),
    );
    category.add(
        "issuer cert is issued by the trust anchor",
        issued(chain, anchors, &replace),
    );
}

/// Whether the files can be read, and the controller uses what is in them.
fn configuration(mesh: &Mesh, controller: &Controller) -> Verdict {
    let refused = |error: String| Problem::error(error, LOGS);
    let in_force = controller.identity.as_ref();
    let in_force = in_force.map_err(|error| refused(error.clone()))?;
    let Some(in_force) = in_force else {
        let hint = "start it with --identity-issuer and --identity-trust-anchors";
        return Err(Problem::error(
            "the controller gives out no certificates",
            hint,
        ));
    };
    let mut lines = in_force.errors();
    for material in [&mesh.anchors, &mesh.issuer] {
        if let Err(error) = &material.certificates {
            lines.push(format!("{} {error}", material.path.display()));
        }
    }
    if lines.is_empty() {
        lines.extend(differences(mesh, in_force));
    }
    let hint = "correct the files below identity/; the last good ones stay in force until then";
    all(lines, |text| Problem::error(text, hint))
}

fn differences(mesh: &Mesh, in_force: &InForce) -> Vec<String> {
    let of = |material: &'_ Material| material.certificates.clone().unwrap_or_default();
    let (anchors, issuer) = (of(&mesh.anchors), of(&mesh.issuer));
    let used = |it: &Certificate| in_force.trust_anchors.iter().any(|used| used.is_of(it));
    let mut all_used = in_force.trust_anchors.iter();
    let same_anchors =
        anchors.iter().all(used) && all_used.all(|used| anchors.iter().any(|it| used.is_of(it)));
    let same_issuer = issuer.first().is_some_and(|it| in_force.issuer.is_of(it));
    [(same_anchors, &mesh.anchors), (same_issuer, &mesh.issuer)]
        .into_iter()
        .filter(|(same, _)| !same)
        .map(|(_, it)| format!("{} is not what the controller uses", it.path.display()))
        .collect()
}

fn crypto(certificates: &[Certificate], hint: &str) -> Verdict {
    let bad = certificates
        .iter()
        .filter(|it| !it.key_algorithm.is_supported());
    let lines = bad.map(|it| {
        let key = &it.key_algorithm;
        format!(
            "{} has a key of {key}; take ECDSA P-256 or P-384, RSA from 2048 bits or Ed25519",
            it.label()
        )
    });
    all(lines.collect(), |text| Problem::error(text, hint))
}

fn within_validity(certificates: &[Certificate], now: OffsetDateTime, hint: &str) -> Verdict {
    let lines = certificates.iter().filter_map(|it| not_valid(it, now));
    all(lines.collect(), |text| Problem::error(text, hint))
}

fn ends_late(certificates: &[Certificate], now: OffsetDateTime, hint: &str) -> Verdict {
    let soon = certificates.iter().filter(|it| it.not_after - now < SOON);
    let lines = soon.map(|it| format!("{} expires at {}", it.label(), date(it.not_after)));
    all(lines.collect(), |text| Problem::warning(text, hint))
}

fn issued(issuer: &[Certificate], anchors: &[Certificate], hint: &str) -> Verdict {
    let lines = match issuer.first() {
        Some(own) if !chain::is_issued_by(issuer, anchors) => {
            vec![format!(
                "{} was signed by none of the trust anchors",
                own.label()
            )]
        }
        _ => vec![],
    };
    all(lines, |text| Problem::error(text, hint))
}
