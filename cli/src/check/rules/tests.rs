//! Verdicts on meshes that are not in order, each for one reason.

use super::super::facts::{Fingerprint, InForce, Material, Proxy};
use super::*;
use crate::certificate::tests::{NOW, Pki};
use http::HeaderMap;

const ID: &str = "web.demo.id";

/// A mesh with one proxy in which everything is in order.
fn healthy(pki: &Pki) -> Facts {
    let material = |path: &str, certificate| Material {
        path: path.into(),
        certificates: Ok(vec![certificate]),
    };
    let in_force = InForce {
        issuer: Fingerprint::of(&pki.issuer()),
        trust_anchors: vec![Fingerprint::of(&pki.anchor())],
        ..InForce::default()
    };
    let proxy = Proxy {
        pod: "demo/web-0".to_string(),
        ready: Ok(()),
        skew: skew("Fri, 20 Nov 2026 12:00:00 GMT"),
        identity: ID.to_string(),
        chain: Ok(vec![pki.leaf(ID).certificate, pki.issuer()]),
    };
    Facts {
        now: NOW,
        mesh: Ok(Mesh {
            controller: Ok(Controller {
                ready: Ok(()),
                skew: skew("Fri, 20 Nov 2026 12:00:00 GMT"),
                identity: Ok(Some(in_force)),
            }),
            anchors: material("/s/identity/trust-anchors.pem", pki.anchor()),
            issuer: material("/s/identity/issuer/crt.pem", pki.issuer()),
            proxies: Ok(vec![proxy]),
        }),
    }
}

fn skew(date: &str) -> Option<Skew> {
    let headers = HeaderMap::from_iter([(http::header::DATE, date.parse().unwrap())]);
    Skew::of(&headers, NOW, NOW)
}

/// What is said about a healthy mesh after `spoil`.
fn problems(spoil: impl FnOnce(&mut Mesh)) -> Vec<String> {
    let mut facts = healthy(&Pki::new());
    spoil(facts.mesh.as_mut().unwrap());
    judge(&facts).problems()
}

fn controller(mesh: &mut Mesh) -> &mut Controller {
    mesh.controller.as_mut().unwrap()
}

fn proxy(mesh: &mut Mesh) -> &mut Proxy {
    &mut mesh.proxies.as_mut().unwrap()[0]
}

#[test]
fn a_healthy_mesh_is_in_order() {
    let report = judge(&healthy(&Pki::new()));
    assert_eq!(report.problems(), [""; 0]);
    assert!(report.success());
    let descriptions = report.descriptions();
    assert_eq!(descriptions.len(), 20, "{descriptions:#?}");
}

#[test]
fn nothing_is_asked_of_what_is_not_there() {
    let facts = Facts {
        now: NOW,
        mesh: Err("no mesh is running on this machine".to_string()),
    };
    let report = judge(&facts);
    assert_eq!(
        report.problems(),
        ["× a mesh is running: no mesh is running on this machine"]
    );
    let found = problems(|mesh| mesh.controller = Err("cannot connect".to_string()));
    assert_eq!(found, ["× controller answers: cannot connect"]);
}

#[test]
fn clocks_may_differ_by_what_certificates_allow_for() {
    let late = |date| problems(|mesh| controller(mesh).skew = skew(date));
    assert_eq!(late("Fri, 20 Nov 2026 12:00:19 GMT"), [""; 0]);
    assert_eq!(
        late("Fri, 20 Nov 2026 12:00:30 GMT"),
        ["× controller's clock agrees with this machine's: the controller is at least 30 s ahead"]
    );
    let found = problems(|mesh| proxy(mesh).skew = skew("Fri, 20 Nov 2026 11:00:00 GMT"));
    assert_eq!(
        found,
        ["× data plane clocks agree with this machine's: demo/web-0 is at least 3599 s behind"]
    );
    let found = problems(|mesh| proxy(mesh).skew = None);
    assert!(found[0].starts_with("‼ data plane clocks"), "{found:?}");
}

#[test]
fn the_controller_has_to_use_what_the_files_say() {
    let config = "× certificate config is valid";
    let found = problems(|mesh| controller(mesh).identity = Ok(None));
    assert_eq!(
        found,
        [format!(
            "{config}: the controller gives out no certificates"
        )]
    );
    let other = Pki::new();
    let found = problems(|mesh| {
        let in_force = controller(mesh)
            .identity
            .as_mut()
            .unwrap()
            .as_mut()
            .unwrap();
        in_force.issuer = Fingerprint::of(&other.issuer());
    });
    let differs = "/s/identity/issuer/crt.pem is not what the controller uses";
    assert_eq!(found, [format!("{config}: {differs}")]);
    let found = problems(|mesh| {
        let in_force = controller(mesh)
            .identity
            .as_mut()
            .unwrap()
            .as_mut()
            .unwrap();
        in_force.errors.push("key.pem: is another key".into());
    });
    assert_eq!(found, [format!("{config}: key.pem: is another key")]);
    let found = problems(|mesh| mesh.anchors.certificates = Err("is not PEM".to_string()));
    assert_eq!(
        found,
        [format!(
            "{config}: /s/identity/trust-anchors.pem is not PEM"
        )]
    );
}

#[test]
fn roots_and_issuers_that_end_soon_are_warned_of_and_fail_when_they_have_ended() {
    let days = Duration::days;
    let judged = |pki: Pki, now| {
        let mut facts = healthy(&pki);
        facts.now = now;
        let leaf = pki.leaf_from(ID, now - Duration::HOUR);
        let proxy = proxy(facts.mesh.as_mut().unwrap());
        proxy.chain = Ok(vec![leaf.certificate, pki.issuer()]);
        judge(&facts)
    };
    let report = judged(Pki::lasting(days(100), days(59)), NOW);
    let soon =
        "‼ issuer cert is valid for at least 60 days: CN=issuer expires at 2027-01-18T12:00:00Z";
    assert_eq!(report.problems(), [soon]);
    assert!(report.success());
    let report = judged(Pki::lasting(days(59), days(100)), NOW);
    assert!(report.problems()[0].starts_with("‼ trust anchors are valid for at least 60 days"));
    let report = judged(Pki::lasting(days(100), days(10)), NOW + days(11));
    let ended =
        "× issuer cert is within its validity period: CN=issuer expired at 2026-11-30T12:00:00Z";
    assert!(
        report.problems().iter().any(|it| it == ended),
        "{:?}",
        report.problems()
    );
    assert!(!report.success());
    let report = judged(Pki::new(), NOW - days(2));
    assert!(report.problems()[0].contains("CN=root is not valid before 2026-11-19"));
}

#[test]
fn an_issuer_of_somebody_else_is_found_out() {
    let other = Pki::new();
    let found = problems(|mesh| {
        mesh.issuer.certificates = Ok(vec![other.issuer()]);
        let in_force = controller(mesh)
            .identity
            .as_mut()
            .unwrap()
            .as_mut()
            .unwrap();
        in_force.issuer = Fingerprint::of(&other.issuer());
    });
    let expected = "× issuer cert is issued by the trust anchor: CN=issuer was signed by none of \
                    the trust anchors";
    assert_eq!(found, [expected]);
}

#[test]
fn every_proxy_has_to_be_who_it_should_be_for_as_long_as_it_should() {
    let pki = Pki::new();
    let presenting = |name: &str, from: OffsetDateTime| {
        let mut facts = healthy(&pki);
        let leaf = pki.leaf_from(name, from).certificate;
        proxy(facts.mesh.as_mut().unwrap()).chain = Ok(vec![leaf, pki.issuer()]);
        judge(&facts).problems()
    };
    let plane = "data plane proxies";
    assert_eq!(
        presenting("api.demo.id", NOW),
        [format!(
            "× {plane} certificates carry their identity: demo/web-0: is DNS:api.demo.id, not {ID}"
        )]
    );
    assert_eq!(
        presenting(ID, NOW - Duration::hours(30)),
        [format!(
            "× {plane} certificates are within their validity period: demo/web-0: CN={ID} expired \
             at 2026-11-20T06:00:00Z"
        )]
    );
    assert_eq!(presenting(ID, NOW - Duration::hours(20)), [""; 0]);
    assert_eq!(
        presenting(ID, NOW - Duration::hours(21)),
        [format!(
            "‼ {plane} certificates are renewed in time: demo/web-0: expires at \
             2026-11-20T15:00:00Z and was not renewed"
        )]
    );
    let other = Pki::new();
    let found = problems(|mesh| {
        proxy(mesh).chain = Ok(vec![other.leaf(ID).certificate, other.issuer()]);
    });
    assert_eq!(
        found,
        [format!(
            "× {plane} certificate match CA: demo/web-0: CN=issuer is vouched for by no trust anchor"
        )]
    );
}

#[test]
fn a_proxy_that_cannot_be_asked_is_told_of_and_many_are_counted() {
    let found = problems(|mesh| {
        proxy(mesh).ready = Err("not ready".to_string());
        proxy(mesh).chain = Err("cannot connect".to_string());
    });
    let expected = [
        "× data plane proxies are ready: demo/web-0: not ready",
        "× data plane proxies present a certificate: demo/web-0: cannot connect",
    ];
    assert_eq!(found, expected);
    let found = problems(|mesh| mesh.proxies = Ok(vec![]));
    assert_eq!(
        found,
        ["‼ data plane proxies are ready: no pod has a proxy"]
    );
}
