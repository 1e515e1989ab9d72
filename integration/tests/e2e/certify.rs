//! The real controller as the identity service of a machine.

use crate::rig::{
    SOON, WEB_PORT,
    mesh::{client_id, server_id},
};
use integration::{
    client,
    controller::{Certified, Controller, Material, certify, request},
    eventually,
    pki::{self, Authority, Key, Validity},
    proxy::Proxy,
    server::Server,
    tls,
    token::{Claims, Signer},
};
use rustls_pki_types::CertificateDer;
use std::{fmt::Write, net::Ipv4Addr, time::Duration};
use tonic::{Code, Status};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// A controller that certifies, and all that it does so with.
struct Service {
    root: Authority,
    signer: Signer,
    material: Material,
    controller: Controller,
}

impl Service {
    fn start() -> Self {
        Self::with(Key::P256, &[], &[])
    }

    fn with(key: Key, manifests: &[(&str, &str)], flags: &[&str]) -> Self {
        let root = Authority::root_with("root.gossamer.cluster.local", key, Validity::day());
        let issuer = root.issuer_with("identity.gossamer.cluster.local", key, Validity::day());
        let signer = Signer::new();
        let material = Material::new(&issuer, &signer);
        let controller = Controller::with_identity(manifests, &material, flags);
        Self {
            root,
            signer,
            material,
            controller,
        }
    }

    /// Asks, as a well-behaved `web` does, with `token`.
    async fn ask(&self, token: &str) -> Result<Certified, Status> {
        let name = client_id();
        let (csr, _) = request(&[&name]);
        certify(self.controller.identity_addr(), &name, token, csr).await
    }

    async fn certified(&self) -> Certified {
        let answer = self.ask(&self.signer.token("web")).await;
        answer.unwrap_or_else(|status| panic!("{status}: {}", self.controller.log()))
    }

    /// How often a request ended so.
    fn counted(&self, result: &str) -> f64 {
        let labels = [("result", result)];
        self.controller
            .metrics()
            .sum("identity_certify_total", &labels)
    }

    fn refused(&self) -> f64 {
        let metrics = self.controller.metrics();
        metrics.sum("identity_certify_total", &[])
            - metrics.sum("identity_certify_total", &[("result", "ok")])
    }
}

/// Who signed a certificate, by common name.
fn issuer_of(certificate: &CertificateDer<'_>) -> String {
    let (_, parsed) = parse_x509_certificate(certificate).expect("a certificate");
    let names = parsed.issuer().iter_common_name();
    names.filter_map(|name| name.as_str().ok()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_for_the_name_alone_and_for_a_day() {
    for key in [Key::P256, Key::P384, Key::Rsa, Key::Ed25519] {
        let service = Service::with(key, &[], &[]);
        let certified = service.certified().await;
        let (_, leaf) = parse_x509_certificate(&certified.chain[0]).expect("a certificate");
        let names = leaf
            .subject_alternative_name()
            .expect("readable")
            .expect("there");
        let name = client_id();
        assert_eq!(
            names.value.general_names,
            [GeneralName::DNSName(&name)],
            "{key:?}"
        );
        assert!(!leaf.is_ca());
        let (from, until) = (leaf.validity().not_before, leaf.validity().not_after);
        let now = time::OffsetDateTime::now_utc().unix_timestamp();
        let skew = now - from.timestamp();
        assert!((15..60).contains(&skew), "{key:?}: begun {skew} s ago");
        let day = 24 * 3600;
        let left = until.timestamp() - now;
        // The issuer ends in a day, and no certificate outlives it.
        assert!(
            (day - 60..=day + 21).contains(&left),
            "{key:?}: {left} s left"
        );
        assert_eq!(certified.valid_until, until.timestamp());
        assert_eq!(
            certified.chain.len(),
            2,
            "{key:?}: the issuer comes with it"
        );
        assert_eq!(
            issuer_of(&certified.chain[1]),
            "root.gossamer.cluster.local"
        );
        assert_eq!(service.counted("ok"), 1.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_never_outlives_its_issuer() {
    let root = Authority::root("root");
    let hour = Validity::lasting(Duration::from_secs(3600));
    let issuer = root.issuer_with("issuer", Key::P256, hour);
    let signer = Signer::new();
    let material = Material::new(&issuer, &signer);
    let controller = Controller::with_identity(&[], &material, &[]);
    let name = client_id();
    let (csr, _) = request(&[&name]);
    let answer = certify(controller.identity_addr(), &name, &signer.token("web"), csr).await;
    let certified = answer.expect("a certificate");
    assert_eq!(certified.valid_until, hour.until.unix_timestamp());
    let ttl = controller.metrics().sum("issuer_cert_ttl_seconds", &[]);
    assert!((3000.0..=3600.0).contains(&ttl), "{ttl}");
    let end = controller
        .metrics()
        .sum("issuer_cert_expiration_timestamp_seconds", &[]);
    assert_eq!(end, hour.until.unix_timestamp() as f64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_tokens_are_refused_with_their_reason() {
    let service = Service::start();
    let of = Claims::of;
    let good = service.signer.token("web");
    let (head, _) = good.rsplit_once('.').expect("three parts");
    let mut other_audience = of("web");
    other_audience.aud = vec!["somebody.else".to_owned()];
    let mut other_maker = of("web");
    other_maker.iss = "somebody.else".to_owned();
    let mut eternal = of("web");
    eternal.exp += 24 * 3600;
    let mut nobody = of("web");
    nobody.sub = "web".to_owned();
    for (what, token) in [
        ("no token", String::new()),
        ("garbage", "garbage".to_owned()),
        ("no signature", format!("{head}.")),
        ("another signature", format!("{head}.{}", "A".repeat(86))),
        (
            "no algorithm",
            format!(
                "eyJhbGciOiJub25lIn0.{}.",
                good.split('.').nth(1).expect("claims")
            ),
        ),
        (
            "an expired token",
            service.signer.sign(&of("web").expired()),
        ),
        ("an early token", service.signer.sign(&of("web").early())),
        ("another service account", service.signer.token("api")),
        ("another audience", service.signer.sign(&other_audience)),
        ("another maker", service.signer.sign(&other_maker)),
        ("a token for too long", service.signer.sign(&eternal)),
        ("no service account", service.signer.sign(&nobody)),
        ("another key", Signer::new().token("web")),
        ("a long token", "a".repeat(1 << 20)),
    ] {
        let before = service.refused();
        let answer = service.ask(&token).await;
        let status = answer.err().unwrap_or_else(|| panic!("{what}: certified"));
        assert_ne!(status.code(), Code::Unavailable, "{what}: {status}");
        assert_ne!(status.code(), Code::Internal, "{what}: {status}");
        assert!(!status.message().is_empty(), "{what}: it is not said why");
        if token.len() < 1 << 20 {
            assert_eq!(service.refused(), before + 1.0, "{what}: it is counted");
        }
        assert!(
            !service.controller.log().contains(&good),
            "no token is ever logged"
        );
    }
    let log = service.controller.log();
    assert!(log.contains(&client_id()), "refusals are in the log: {log}");
    service.certified().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_requests_are_refused_with_their_reason() {
    let service = Service::start();
    let name = client_id();
    let token = service.signer.token("web");
    let broken = |csr: &[u8]| {
        let mut csr = csr.to_vec();
        let last = csr.len() - 1;
        csr[last] ^= 1;
        csr
    };
    let (good, _) = request(&[&name]);
    for (what, identity, csr) in [
        ("no request", &name, Vec::new()),
        ("garbage", &name, b"garbage".to_vec()),
        ("a signature that is wrong", &name, broken(&good)),
        ("no name", &name, request(&[]).0),
        ("somebody else's name", &name, request(&[&server_id()]).0),
        (
            "another name beside it",
            &name,
            request(&[&name, "shop.example"]).0,
        ),
        (
            "an address beside it",
            &name,
            request(&[&name, "10.0.0.1"]).0,
        ),
        ("any name", &name, request(&["*"]).0),
        (
            "a name that the token is not for",
            &server_id(),
            request(&[&server_id()]).0,
        ),
        ("no identity", &String::new(), good.clone()),
        ("half of it", &name, good[..good.len() / 2].to_vec()),
    ] {
        let before = service.refused();
        let addr = service.controller.identity_addr();
        let status = certify(addr, identity, &token, csr).await.err();
        let status = status.unwrap_or_else(|| panic!("{what}: certified"));
        assert!(
            matches!(
                status.code(),
                Code::InvalidArgument | Code::FailedPrecondition
            ),
            "{what}: {status}"
        );
        assert!(!status.message().is_empty(), "{what}: it is not said why");
        assert_eq!(service.refused(), before + 1.0, "{what}: it is counted");
    }
    service.certified().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_issuer_signs_from_the_next_request_on() {
    let service = Service::start();
    let before = service.certified().await;
    assert_eq!(
        issuer_of(&before.chain[0]),
        "identity.gossamer.cluster.local"
    );
    service
        .material
        .issuer(&service.root.issuer("the next one"));
    eventually::holds("it signs", SOON, || async {
        issuer_of(&service.certified().await.chain[0]) == "the next one"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_issuer_keeps_the_last_good_one_and_shouts() {
    let service = Service::start();
    let other = service.root.issuer("another key's");
    let stranger = Authority::root("another root").issuer("a stranger");
    let ended = service
        .root
        .issuer_with("ended", Key::P256, Validity::over());
    let early = service
        .root
        .issuer_with("early", Key::P256, Validity::to_come());
    let leaf = service.root.leaf("leaf");
    let failures = || {
        service
            .controller
            .metrics()
            .sum("identity_issuer_reload_failures_total", &[])
    };
    for (what, certificate, key) in [
        ("no PEM", "garbage".to_owned(), other.key_pem()),
        ("no key", other.chain_pem(), "garbage".to_owned()),
        ("another key", other.chain_pem(), stranger.key_pem()),
        ("another root", stranger.chain_pem(), stranger.key_pem()),
        ("an expired one", ended.chain_pem(), ended.key_pem()),
        ("an early one", early.chain_pem(), early.key_pem()),
        ("no authority", leaf.chain_pem(), leaf.key_pem()),
    ] {
        let before = failures();
        service.material.issuer_text(&certificate, &key);
        eventually::holds(&format!("{what}: it is counted"), SOON, || async {
            failures() > before
        })
        .await;
        let verbose = service.controller.admin("/ready?verbose").body;
        assert!(verbose.contains("issuer"), "{what}: {verbose}");
        assert!(service.controller.log().contains("ERROR"), "{what}");
        let certified = service.certified().await;
        assert_eq!(
            issuer_of(&certified.chain[0]),
            "identity.gossamer.cluster.local",
            "{what}"
        );
    }
    service.material.issuer(&other);
    eventually::holds("a good one again", SOON, || async {
        issuer_of(&service.certified().await.chain[0]) == "another key's"
    })
    .await;
    assert!(service.refused() == 0.0, "nobody was refused meanwhile");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_is_replaced_without_a_restart() {
    let service = Service::start();
    let next = Authority::root("the next root");
    service.material.anchors(&[&service.root, &next]);
    let anchors = || {
        let answer = service.controller.admin("/identity.json");
        let json: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        json["trust_anchors"].as_array().map_or(0, Vec::len)
    };
    eventually::holds("two anchors are served", SOON, || async { anchors() == 2 }).await;
    service.material.issuer(&next.issuer("of the next root"));
    eventually::holds("the new root's issuer signs", SOON, || async {
        issuer_of(&service.certified().await.chain[0]) == "of the next root"
    })
    .await;
    service.material.anchors(&[&next]);
    eventually::holds("the old root is gone", SOON, || async { anchors() == 1 }).await;
    service.certified().await;
}

/// Manifests of a service with one meshed pod at `ip`.
fn manifests(ip: Ipv4Addr, port: u16) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: api, namespace: demo}}\nspec:\n  \
         clusterIP: 10.43.0.9\n  selector: {{app: api}}\n  ports:\n  - {{name: http, port: 80, targetPort: {port}}}\n---\n"
    );
    let _ = write!(
        text,
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: api-0\n  namespace: demo\n  labels: \
         {{app: api, linkerd.io/control-plane-ns: gossamer}}\nspec:\n  serviceAccountName: api\n  \
         containers:\n  - {{name: app, image: app, ports: [{{containerPort: {port}}}]}}\nstatus:\n  \
         phase: Running\n  podIP: {ip}\n  podIPs: [{{ip: {ip}}}]\n  conditions: [{{type: Ready, \
         status: \"True\"}}]\n---\n"
    );
    let _ = write!(
        text,
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: api-1\n  \
         namespace: demo\n  labels: {{kubernetes.io/service-name: api}}\naddressType: IPv4\nports:\n\
         - {{name: http, port: {port}}}\nendpoints:\n- addresses: [{ip}]\n  conditions: {{ready: \
         true}}\n  targetRef: {{kind: Pod, name: api-0, namespace: demo}}\n"
    );
    text
}

/// A pair of sidecars that follow the real controller in everything.
fn pair(service: &Service, app: std::net::SocketAddr) -> (Proxy, Proxy) {
    let (material, signer) = (&service.material, &service.signer);
    let server = service
        .controller
        .meshed_proxy("api", material, signer)
        .inbound(8080, app);
    let manifest = manifests(server.ip(), 8080);
    service.controller.write("app.yaml", &manifest);
    let client = service
        .controller
        .meshed_proxy("web", material, signer)
        .outbound(WEB_PORT, "api.demo.svc.cluster.local:80");
    (client.start(), server.start())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_of_the_real_parts_authenticates_both_sides() {
    let app = Server::start("app").await;
    let service = Service::start();
    let (client, server) = pair(&service, app.addr());
    let uri = "http://api.demo.svc.cluster.local/headers";
    let id = format!("l5d-client-id: {}", client_id());
    eventually::holds("it is authenticated", SOON * 2, || async {
        client::get(client.port(WEB_PORT), uri)
            .await
            .text()
            .contains(&id)
    })
    .await;
    assert!(server.handshakes("inbound", "ok") > 0.0);
    let (server_id, client_id) = (server_id(), client_id());
    let out = [
        ("direction", "outbound"),
        ("tls", "true"),
        ("server_id", server_id.as_str()),
    ];
    assert!(client.metric("request_total", &out) > 0.0);
    let into = [
        ("direction", "inbound"),
        ("tls", "true"),
        ("client_id", client_id.as_str()),
    ];
    assert!(server.metric("request_total", &into) > 0.0);
    assert_eq!(service.counted("ok"), 2.0);
    // And somebody who insists on the name is content.
    let strict = tls::Client::strict(&server_id, &service.root);
    assert!(strict.connect(server.port(8080)).await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_with_a_token_of_somebody_else_never_becomes_ready() {
    let app = Server::start("app").await;
    let service = Service::start();
    let name = pki::identity("web");
    let forger = service
        .controller
        .meshed_proxy("web", &service.material, &service.signer)
        .token(&service.signer.token("api"))
        .inbound(8080, app.addr())
        .spawn();
    eventually::holds("it is refused", SOON * 4, || async {
        service.refused() > 0.0
    })
    .await;
    eventually::holds("it says so", SOON * 4, || async {
        forger.log().contains("WARN")
    })
    .await;
    assert_eq!(forger.ask("GET", "/ready", "").status, 503, "{name}");
}
