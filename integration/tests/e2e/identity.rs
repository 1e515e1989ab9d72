//! How a sidecar comes by its certificate, keeps it fresh, and does without when it has to.

use crate::rig::{
    APP_PORT, SOON, WEB, WEB_PORT,
    mesh::{Plan, Way, client_id, counts, server_id},
    web,
};
use integration::{
    addr, client,
    control::ControlPlane,
    controller::request,
    eventually,
    identity::{Answers, Dates, IdentityService},
    load::Load,
    pki::{self, Authority},
    proxy::{self, Builder, Proxy},
    server::Server,
    tcp::{self, Raw},
    tls::{self, Acceptor},
};
use std::{net::SocketAddr, time::Duration};
use tonic::Code;

const SECOND: Duration = Duration::from_secs(1);

/// A sidecar with an application behind it that asks for a certificate.
struct Alone {
    root: Authority,
    identity: IdentityService,
    control: ControlPlane,
    app: Server,
}

impl Alone {
    async fn new() -> Self {
        let root = Authority::root("root");
        let app = Server::start("app").await;
        let control = ControlPlane::start();
        control.service(WEB, &[app.addr()]);
        Self {
            identity: IdentityService::absent(root.issuer("issuer")),
            root,
            control,
            app,
        }
    }

    fn builder(&self) -> Builder {
        proxy::with(&self.control)
            .outbound(WEB_PORT, WEB)
            .inbound(APP_PORT, self.app.addr())
            .identity(&server_id(), self.identity.addr(), &self.root.anchor_pem())
    }
}

async fn ready(proxy: &Proxy) {
    eventually::holds("it is ready", SOON * 4, || async {
        proxy.ask("GET", "/ready", "").status == 200
    })
    .await;
}

/// Whether a client that insists on the sidecar's identity is content with it.
async fn proves_itself(proxy: &Proxy, root: &Authority) -> bool {
    let client = tls::Client::strict(&server_id(), root);
    let connect = client.connect(proxy.port(APP_PORT));
    let connected = tokio::time::timeout(SECOND, connect).await;
    matches!(connected, Ok(Ok(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_waits_for_its_first_certificate_and_says_so() {
    let mut alone = Alone::new().await;
    let proxy = alone.builder().spawn();
    eventually::holds("it is alive", SOON * 4, || async {
        integration::scrape::get(proxy.admin(), "/live").is_ok_and(|a| a.status == 200)
    })
    .await;
    let answer = proxy.ask("GET", "/ready", "");
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("identity"), "{answer:?}");
    // Whoever connects by now is kept waiting, and is served when the certificate is there.
    let early: Vec<_> = [WEB_PORT, APP_PORT]
        .map(|port| {
            let addr = proxy.port(port);
            tokio::spawn(async move { client::get(addr, &web("/")).await })
        })
        .into();
    eventually::holds("it says what it waits for", SECOND * 25, || async {
        let log = proxy.log();
        log.lines()
            .any(|line| line.contains("WARN") && line.contains("identity"))
    })
    .await;
    assert_eq!(alone.app.accepted(), 0, "nothing is accepted before");
    assert!(early.iter().all(|task| !task.is_finished()));
    assert_eq!(proxy.ask("GET", "/ready", "").status, 503);
    // The client of `early` gives up after 15 s, so these are new ones.
    early.iter().for_each(tokio::task::JoinHandle::abort);
    let late = proxy.port(WEB_PORT);
    let late = tokio::spawn(async move { client::get(late, &web("/")).await });
    alone.identity.listen();
    ready(&proxy).await;
    assert_eq!(late.await.expect("an answer").status, 200);
    assert!(proves_itself(&proxy, &alone.root).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_service_hands_out_is_not_taken_on_trust() {
    let mut alone = Alone::new().await;
    alone.identity.listen();
    for (what, answers, says) in [
        (
            "a certificate of the future",
            Answers::dated(Dates::ToCome),
            "not valid before",
        ),
        (
            "a certificate of the past",
            Answers::dated(Dates::Over),
            "ended at",
        ),
        (
            "somebody else's name",
            Answers::named(&client_id()),
            "web.demo",
        ),
        (
            "another root",
            Answers::by(Authority::root("root")),
            "does not chain",
        ),
        (
            "a refusal",
            Answers::refuse(Code::FailedPrecondition, "not you"),
            "not you",
        ),
        (
            "a broken service",
            Answers::refuse(Code::Internal, "on fire"),
            "on fire",
        ),
    ] {
        alone.identity.answers(answers);
        let proxy = alone.builder().spawn();
        eventually::holds(&format!("{what}: it is said"), SOON * 4, || async {
            proxy.log().contains(says)
        })
        .await;
        assert!(proxy.refreshes("error") > 0.0, "{what}");
        assert_eq!(proxy.ask("GET", "/ready", "").status, 503, "{what}");
        assert!(!proves_itself(&proxy, &alone.root).await, "{what}");
        // And it asks again.
        alone.identity.answers(Answers::default());
        ready(&proxy).await;
        assert!(proves_itself(&proxy, &alone.root).await, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_renewal_keeps_the_last_good_certificate() {
    let mut alone = Alone::new().await;
    alone.identity.listen();
    alone.identity.answers(Answers::lasting(SECOND * 20));
    let proxy = alone
        .builder()
        .env("LINKERD2_PROXY_IDENTITY_MAX_REFRESH", "1s")
        .start();
    for answers in [
        Answers::dated(Dates::ToCome),
        Answers::dated(Dates::Over),
        Answers::named(&client_id()),
        Answers::by(Authority::root("root")),
    ] {
        let before = proxy.refreshes("error");
        alone.identity.answers(answers);
        eventually::holds("it is refused", SOON * 2, || async {
            proxy.refreshes("error") > before
        })
        .await;
        assert_eq!(proxy.ask("GET", "/ready", "").status, 200);
        assert!(proves_itself(&proxy, &alone.root).await);
        alone.identity.answers(Answers::lasting(SECOND * 20));
        let good = proxy.refreshes("ok");
        eventually::holds("it recovers", SOON * 2, || async {
            proxy.refreshes("ok") > good
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_renewal_has_a_key_of_its_own_and_the_current_token() {
    let mut alone = Alone::new().await;
    alone.identity.listen();
    alone.identity.answers(Answers::lasting(SECOND * 3));
    let builder = alone.builder();
    let writer = builder.clone();
    let proxy = builder.start();
    eventually::holds("it is renewed", SOON * 4, || async {
        alone.identity.certified(&server_id()) >= 3
    })
    .await;
    let _ = writer.token("a newer token");
    eventually::holds("the token is read again", SOON * 4, || async {
        alone
            .identity
            .calls()
            .iter()
            .any(|call| call.token == "a newer token")
    })
    .await;
    let calls = alone.identity.calls();
    assert_eq!(calls[0].token, "token of the test");
    let keys: std::collections::HashSet<_> = calls.iter().map(|call| &call.key).collect();
    assert_eq!(keys.len(), calls.len(), "no key is used twice");
    assert!(proxy.refreshes("ok") >= 3.0);
    let expiry = proxy.metrics();
    let expiry = expiry.sum("identity_cert_expiration_timestamp_seconds", &[])
        + expiry.sum("control_identity_cert_expiration_timestamp_seconds", &[]);
    let now = time::OffsetDateTime::now_utc().unix_timestamp() as f64;
    assert!((expiry - now).abs() < 10.0, "{expiry} is not about {now}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_identity_service_disturbs_nobody() {
    let app = Server::start("app").await;
    let mesh = Plan::new(Way::Port).lifetime(SECOND * 8).start(app.addr());
    let issue = match Answers::lasting(SECOND * 8) {
        Answers::Certificate(issue) => issue,
        other => panic!("{other:?}"),
    };
    mesh.identity.answers(Answers::After(SECOND, issue));
    let load = Load::http1(mesh.addr(), &web("/")).start();
    let before = mesh.identity.certified(&client_id());
    eventually::holds("a slow renewal", SOON * 4, || async {
        mesh.identity.certified(&client_id()) > before
    })
    .await;
    load.stop().await.assert_no_failure();
}

/// Opaque bytes over a connection of their own: mesh TLS is made anew for each.
async fn echoes(addr: SocketAddr) -> bool {
    let mut raw = Raw::connect(addr).await;
    let _ = raw.try_send("\x01?").await;
    eventually::within("an echo or the end", SOON * 2, async {
        let mut bytes = [0; 2];
        tokio::io::AsyncReadExt::read_exact(raw.stream(), &mut bytes)
            .await
            .is_ok()
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_service_traffic_goes_on_to_the_end_of_the_certificate() {
    let lifetime = SECOND * 12;
    let app = tcp::Server::echo().await;
    let mut mesh = Plan::new(Way::Port)
        .lifetime(lifetime)
        .client(|b| {
            b.env("LINKERD2_PROXY_OUTBOUND_TCP_FAILFAST_TIMEOUT", "500ms")
                .env("LINKERD2_PROXY_OUTBOUND_HTTP_FAILFAST_TIMEOUT", "500ms")
        })
        .start(app.addr());
    mesh.identity.stop();
    let end = std::time::Instant::now() + lifetime;
    // Renewal is due at 70 %, and fails; it is still valid.
    let mut failed_renewal = false;
    while end.saturating_duration_since(std::time::Instant::now()) > SECOND * 2 {
        assert!(
            echoes(mesh.addr()).await,
            "before the end: {}",
            mesh.client.log()
        );
        assert_eq!(mesh.server.ask("GET", "/ready", "").status, 200);
        failed_renewal |= mesh.server.refreshes("error") > 0.0;
    }
    assert!(failed_renewal, "a renewal was due: {}", mesh.server.log());
    eventually::holds("the end is told", SOON * 2, || async {
        [&mesh.client, &mesh.server].iter().all(|proxy| {
            let answer = proxy.ask("GET", "/ready", "");
            answer.status == 503 && answer.body.contains("identity certificate expired")
        })
    })
    .await;
    assert!(
        !echoes(mesh.addr()).await,
        "nothing goes without a certificate"
    );
    let answer = client::get(mesh.addr(), &web("/")).await;
    assert!(answer.status.is_server_error(), "{answer:?}");
    assert!(!answer.header("l5d-proxy-error").is_empty(), "{answer:?}");
    counts(&mesh.client, "outbound", "own_certificate_expired").await;
    eventually::holds("who verifies, refuses", SOON, || async {
        mesh.foreign("batch").connect(mesh.app()).await.is_err()
    })
    .await;

    mesh.identity.listen();
    eventually::holds("it recovers", SOON * 4, || async {
        echoes(mesh.addr()).await
    })
    .await;
    for proxy in [&mesh.client, &mesh.server] {
        assert_eq!(proxy.ask("GET", "/ready", "").status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_connections_outlive_the_certificate_they_began_with() {
    let app = tcp::Server::echo().await;
    let mesh = Plan::new(Way::Port).lifetime(SECOND * 3).start(app.addr());
    let mut raw = Raw::connect(mesh.addr()).await;
    let renewed = || {
        mesh.identity
            .certified(&client_id())
            .min(mesh.identity.certified(&server_id()))
    };
    let before = renewed();
    while renewed() < before + 3 {
        raw.send("\x01still").await;
        raw.expect("\x01still").await;
    }
    assert!(app.accepted() == 1, "it was one connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_control_plane_proves_its_name_where_it_has_one() {
    let root = Authority::root("root");
    let identity = IdentityService::start(root.issuer("issuer"));
    let app = Server::start("app").await;
    let control = ControlPlane::start();
    control.service(WEB, &[app.addr()]);
    let name = "linkerd-destination.gossamer.serviceaccount.identity.gossamer.cluster.local";
    let id_name = "linkerd-identity.gossamer.serviceaccount.identity.gossamer.cluster.local";
    for (who, is_right) in [(name, true), (&*pki::identity("other"), false)] {
        let front = Acceptor::mutual(&root.leaf(who), &root, &[b"h2"]);
        let front = front.front(addr::unique(8086), control.addr()).await;
        let certifier = Acceptor::new(&root.leaf(id_name));
        let certifier = certifier.front(addr::unique(8080), identity.addr()).await;
        let at = front.addr().to_string();
        let proxy = Builder::new(&at, &at)
            .identity(&client_id(), certifier.addr(), &root.anchor_pem())
            .env("LINKERD2_PROXY_IDENTITY_SVC_NAME", id_name)
            .env("LINKERD2_PROXY_DESTINATION_SVC_NAME", name)
            .env("LINKERD2_PROXY_POLICY_SVC_NAME", name)
            .start();
        let before = app.requests();
        let answer = client::get(proxy.outbound(), &web("/")).await;
        assert_eq!(answer.status == 200, is_right, "{who}: {answer:?}");
        assert_eq!(app.requests() > before, is_right, "{who}");
        if !is_right {
            assert!(proxy.log().contains("other.demo"), "{}", proxy.log());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_service_that_is_somebody_else_gets_no_token() {
    let root = Authority::root("root");
    let identity = IdentityService::start(root.issuer("issuer"));
    let control = ControlPlane::start();
    let id_name = "linkerd-identity.gossamer.serviceaccount.identity.gossamer.cluster.local";
    let impostor = Acceptor::new(&Authority::root("root").leaf(id_name));
    let impostor = impostor.front(addr::unique(8080), identity.addr()).await;
    let proxy = proxy::with(&control)
        .identity(&client_id(), impostor.addr(), &root.anchor_pem())
        .env("LINKERD2_PROXY_IDENTITY_SVC_NAME", id_name)
        .spawn();
    eventually::holds("it is said", SOON * 4, || async {
        proxy.log().contains("does not chain")
    })
    .await;
    assert!(
        identity.calls().is_empty(),
        "the token was shown to a stranger"
    );
    assert_eq!(proxy.ask("GET", "/ready", "").status, 503);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_without_what_an_identity_takes_is_refused() {
    let root = Authority::root("root");
    let control = ControlPlane::start();
    let whole = proxy::with(&control).identity(&client_id(), tcp::refusing(), &root.anchor_pem());
    for missing in ["LOCAL_NAME", "TOKEN_FILE", "TRUST_ANCHORS"] {
        let name = format!("LINKERD2_PROXY_IDENTITY_{missing}");
        let (status, output) = whole.clone().without(&name).run();
        assert_eq!(status.code(), Some(64), "{missing}: {output}");
        assert!(output.contains(missing), "{missing} is named: {output}");
    }
    let garbage = whole.env("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", "no PEM");
    let (status, output) = garbage.run();
    assert_eq!(status.code(), Some(64), "{output}");
    assert!(output.contains("TRUST_ANCHORS"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_and_a_request_that_are_given_are_used() {
    let mut alone = Alone::new().await;
    alone.identity.listen();
    alone.identity.answers(Answers::lasting(SECOND * 3));
    // As Linkerd's entrypoint leaves them.
    let name = server_id();
    let (csr, key) = request(&[&name]);
    let dir = tempfile::tempdir().expect("a temporary directory can be made");
    std::fs::write(dir.path().join("csr.der"), &csr).expect("it can be written");
    std::fs::write(dir.path().join("key.p8"), key.serialize_der()).expect("it can be written");
    let proxy = alone
        .builder()
        .without("LINKERD2_PROXY_IDENTITY_LOCAL_NAME")
        .env("LINKERD2_PROXY_IDENTITY_SERVER_ID", &name)
        .env("LINKERD2_PROXY_IDENTITY_SERVER_NAME", &name)
        .env(
            "LINKERD2_PROXY_IDENTITY_DIR",
            &dir.path().display().to_string(),
        )
        .start();
    assert!(proves_itself(&proxy, &alone.root).await);
    eventually::holds("it is renewed", SOON * 4, || async {
        alone.identity.certified(&name) >= 2
    })
    .await;
    let calls = alone.identity.calls();
    let given = pki::key_of_request(&csr);
    assert!(calls.iter().all(|call| call.key == given));
    assert!(proves_itself(&proxy, &alone.root).await);
}
