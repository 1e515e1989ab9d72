//! Who does not prove what has to be proved is refused: clearly, counted, in a line of the log, and
//! nothing reaches the application.

use crate::rig::{
    APP_PORT, SOON, WEB, WEB_PORT,
    mesh::{Mesh, Way, client_id, counts, server_id},
    web,
};
use integration::{
    addr,
    client::{self, Client},
    control::{
        ControlPlane,
        proto::{Endpoint, Hint, Mesh as Told, Policy},
    },
    eventually,
    identity::IdentityService,
    pki::{self, Authority, Key, Leaf, Validity},
    proxy::{self, Proxy},
    server::Server,
    tcp::{self, Raw},
    tls::{self, Acceptor},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Somebody at the address of an endpoint who presents what the test gives him.
struct Impostor {
    server: tcp::Server,
    /// Bytes of applications that he got to read.
    stolen: Arc<AtomicUsize>,
    /// Connections that did not begin with TLS.
    in_clear: Arc<AtomicUsize>,
}

impl Impostor {
    async fn start(leaf: &Leaf) -> Self {
        let acceptor = Acceptor::careless(leaf, &[]);
        let (stolen, in_clear) = (Arc::default(), Arc::default());
        let counts: (Arc<AtomicUsize>, Arc<AtomicUsize>) = (stolen, in_clear);
        let (stolen, in_clear) = counts.clone();
        let server = tcp::Server::start(move |tcp| {
            let (acceptor, (stolen, in_clear)) = (acceptor.clone(), counts.clone());
            async move {
                let mut first = [0];
                let n = tcp.peek(&mut first).await?;
                if n > 0 && first[0] != 22 {
                    in_clear.fetch_add(1, Ordering::SeqCst);
                }
                let mut stream = acceptor.accept(tcp).await?;
                let mut bytes = [0; 1024];
                loop {
                    let n = stream.read(&mut bytes).await?;
                    stolen.fetch_add(n, Ordering::SeqCst);
                    if n == 0 {
                        return Ok(());
                    }
                }
            }
        })
        .await;
        Self {
            server,
            stolen,
            in_clear,
        }
    }

    fn learned_nothing(&self, what: &str) {
        assert_eq!(
            self.stolen.load(Ordering::SeqCst),
            0,
            "{what}: bytes were sent"
        );
        assert_eq!(self.in_clear.load(Ordering::SeqCst), 0, "{what}: in clear");
        assert!(self.server.accepted() > 0, "{what}: nobody was asked");
    }
}

/// A client's sidecar that is told that [`server_id`] is somewhere.
struct Caller {
    control: ControlPlane,
    _identity: IdentityService,
    proxy: Proxy,
}

impl Caller {
    fn start(root: &Authority) -> Self {
        let identity = IdentityService::start(root.issuer("issuer"));
        let control = ControlPlane::start();
        let policy = Policy::new(WEB).queue(100, Duration::from_millis(500));
        control.policy(WEB, &policy);
        control.endpoints(WEB, &[]);
        let proxy = proxy::with(&control)
            .outbound(WEB_PORT, WEB)
            .identity(&client_id(), identity.addr(), &root.anchor_pem())
            .env("LINKERD2_PROXY_OUTBOUND_HTTP_FAILFAST_TIMEOUT", "500ms")
            .env("LINKERD2_PROXY_OUTBOUND_TCP_FAILFAST_TIMEOUT", "500ms")
            .start();
        Self {
            control,
            _identity: identity,
            proxy,
        }
    }

    /// HTTP/1, HTTP/2 and opaque bytes to `impostor` all fail, for `reason`, and `says` is logged.
    async fn is_refused(&self, what: &str, impostor: &Impostor, reason: &str, says: &str) {
        let mut clients_are_told = String::new();
        for hint in [Hint::Http2, Hint::Unknown] {
            let told = Told::new(&server_id()).hint(hint);
            let endpoint = Endpoint::meshed(impostor.server.addr(), told);
            self.control.weighted_endpoints(WEB, &[endpoint]);
            clients_are_told += &self.http_fails(what).await;
            let mut raw = Raw::connect(self.proxy.port(WEB_PORT)).await;
            let _ = raw.try_send("\x01opaque").await;
            eventually::within(what, SOON, raw.expect_end()).await;
        }
        assert!(
            clients_are_told.contains(says),
            "{what}: clients are told {clients_are_told:?}"
        );
        counts(&self.proxy, "outbound", reason).await;
        impostor.learned_nothing(what);
        let log = self.proxy.log();
        let ip = impostor.server.addr().to_string();
        let is_told = log
            .lines()
            .any(|line| line.contains(says) && line.contains(&ip));
        assert!(is_told, "{what}: no line with {says:?} and {ip}: {log}");
    }

    /// Returns what clients are told: the first one why, the next that it is so for some time.
    async fn http_fails(&self, what: &str) -> String {
        let addr = self.proxy.port(WEB_PORT);
        let mut told = String::new();
        for mut client in [Client::http1(addr).await, Client::http2(addr).await] {
            let mut request = client::with_body(http::Method::POST, &web("/"), client::full("x"));
            if matches!(client, Client::Http2(_)) {
                request.headers_mut().remove(http::header::HOST);
            }
            let answer = client.send(request).await;
            let status = answer.status.as_u16();
            assert!(matches!(status, 502..=504), "{what}: {answer:?}");
            let why = answer.header("l5d-proxy-error");
            assert!(!why.is_empty(), "{what}: {answer:?}");
            told = format!("{told}{why}\n");
        }
        told
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_do_not_prove_the_identity_are_refused() {
    let root = Authority::root("root");
    let stranger = Authority::root("root");
    let issuer = root.issuer("issuer");
    let id = server_id();
    let dated = |validity| issuer.leaf_with(&[&id], Key::P256, validity);
    for (what, leaf, reason, says) in [
        (
            "another name",
            issuer.leaf(&pki::identity("other")),
            "identity_mismatch",
            "other.demo",
        ),
        (
            "an expired certificate",
            dated(Validity::over()),
            "expired",
            "ended at",
        ),
        (
            "an early certificate",
            dated(Validity::to_come()),
            "not_yet_valid",
            "not valid before",
        ),
        (
            "another root",
            stranger.leaf(&id),
            "unknown_issuer",
            "does not chain",
        ),
    ] {
        let caller = Caller::start(&root);
        let impostor = Impostor::start(&leaf).await;
        caller.is_refused(what, &impostor, reason, says).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_issuer_vouches_for_nobody() {
    let root = Authority::root("root");
    let ended = root.issuer_with("issuer", Key::P256, Validity::over());
    let caller = Caller::start(&root);
    let impostor = Impostor::start(&ended.leaf(&server_id())).await;
    caller
        .is_refused("an expired issuer", &impostor, "expired", "ended at")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_endpoint_leaves_the_others_to_be_used() {
    let root = Authority::root("root");
    let caller = Caller::start(&root);
    let impostor = Impostor::start(&root.leaf(&pki::identity("other"))).await;
    let app = Server::start("app").await;
    let good = Acceptor::mutual(&root.leaf(&server_id()), &root, &[]);
    let good = good.front(addr::unique(8080), app.addr()).await;
    let endpoints = [impostor.server.addr(), good.addr()]
        .map(|addr| Endpoint::meshed(addr, Told::new(&server_id())));
    caller.control.weighted_endpoints(WEB, &endpoints);
    let ask = async || client::get(caller.proxy.port(WEB_PORT), &web("/")).await;
    eventually::holds("the good one is found", SOON, || async {
        ask().await.status == 200 && impostor.server.accepted() > 0
    })
    .await;
    for _ in 0..20 {
        assert_eq!(ask().await.server(), "app");
    }
    impostor.learned_nothing("beside a good one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_speaks_no_tls_is_never_spoken_to_in_clear() {
    let root = Authority::root("root");
    // A ServerHello that is one only as far as its length.
    let hello = [&[22, 3, 3, 0, 44, 2, 0, 0, 40, 3, 3][..], &[7; 32], &[0; 6]].concat();
    for (what, answer) in [
        (
            "HTTP",
            b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec(),
        ),
        ("noise", vec![0xff; 4096]),
        ("half a record", vec![22, 3, 3, 0, 100, 2]),
        ("a bad ServerHello", hello.clone()),
        (
            "a bad ServerHello and noise",
            [hello, vec![0xff; 64]].concat(),
        ),
        ("an alert", vec![21, 3, 3, 0, 2, 2, 40]),
        ("the end", Vec::new()),
    ] {
        let caller = Caller::start(&root);
        let (sent, mut was_sent) = tokio::sync::mpsc::unbounded_channel();
        let server = tcp::Server::start(move |mut stream| {
            let (sent, answer) = (sent.clone(), answer.clone());
            async move {
                let mut first = [0; 3];
                stream.read_exact(&mut first).await?;
                sent.send(first).map_err(io::Error::other)?;
                stream.write_all(&answer).await
            }
        })
        .await;
        let endpoint = Endpoint::meshed(server.addr(), Told::new(&server_id()));
        caller.control.weighted_endpoints(WEB, &[endpoint]);
        caller.http_fails(what).await;
        assert!(server.accepted() > 0, "{what}");
        while let Ok(first) = was_sent.try_recv() {
            assert_eq!(
                first[..2],
                [22, 3],
                "{what}: a ClientHello and nothing else"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_is_a_uri_is_verified_too() {
    let root = Authority::root("root");
    let app = Server::start("app").await;
    let id = "spiffe://gossamer.cluster.local/ns/demo/sa/api";
    let caller = Caller::start(&root);
    for (name, is_right) in [(id, true), ("spiffe://gossamer.cluster.local/other", false)] {
        let leaf = root.leaf_with(&[name], Key::P256, Validity::day());
        let server = Acceptor::mutual(&leaf, &root, &[]);
        let server = server.front(addr::unique(8080), app.addr()).await;
        let told = Told::new(id).server_name(&server_id());
        let endpoint = Endpoint::meshed(server.addr(), told);
        caller.control.weighted_endpoints(WEB, &[endpoint]);
        eventually::holds(name, SOON * 2, || async {
            let answer = client::get(caller.proxy.port(WEB_PORT), &web("/")).await;
            let mismatches = caller.proxy.handshakes("outbound", "identity_mismatch");
            (answer.status == 200) == is_right && (mismatches > 0.0) != is_right
        })
        .await;
    }
}

/// A TLS client is turned away; returns what it is told.
async fn turned_away(what: &str, client: &tls::Client, mesh: &Mesh) -> String {
    let error = match client.connect(mesh.app()).await {
        Err(error) => error,
        // The server sees a client's certificate only after the client is done.
        Ok(stream) => {
            let mut raw = Raw::over(stream);
            let _ = raw.try_send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
            let mut byte = [0];
            let read = raw.stream().read(&mut byte);
            match eventually::within(what, SOON, read).await {
                Ok(0) => io::Error::other("closed"),
                Ok(_) => panic!("{what}: it was answered"),
                Err(error) => error,
            }
        }
    };
    error.to_string().to_lowercase()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_with_a_bad_certificate_are_refused() {
    let app = Server::start("app").await;
    let id = pki::identity("batch");
    for (what, reason, says) in [
        ("another root", "unknown_issuer", "does not chain"),
        ("an expired certificate", "expired", "ended at"),
        ("an early certificate", "not_yet_valid", "not valid before"),
    ] {
        let mesh = Mesh::start(Way::Port, app.addr());
        let issuer = mesh.root.issuer("issuer");
        let leaf = match reason {
            "unknown_issuer" => Authority::root("root").leaf(&id),
            "expired" => issuer.leaf_with(&[&id], Key::P256, Validity::over()),
            _ => issuer.leaf_with(&[&id], Key::P256, Validity::to_come()),
        };
        let ip = addr::unique_ip();
        let client = mesh.nobody().certificate(&leaf).from(ip);
        let told = turned_away(what, &client, &mesh).await;
        assert!(told.contains("alert"), "{what}: {told}");
        mesh.server_counts(reason).await;
        let log = mesh.server.log();
        let (ip, lines) = (ip.to_string(), log.lines());
        let is_told = lines
            .into_iter()
            .any(|line| line.contains(says) && line.contains(&ip));
        assert!(is_told, "{what}: no line with {says:?} and {ip}: {log}");
        assert_eq!(app.accepted(), 0, "{what}: nothing reached the application");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_tls_1_2_is_refused() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let old = tls::Client::tls_1_2(&server_id()).certificate(&mesh.leaf("batch"));
    let told = turned_away("TLS 1.2", &old, &mesh).await;
    assert!(told.contains("protocolversion"), "{told}");
    mesh.server_counts("protocol_version").await;
    assert!(
        mesh.server.log().contains("TLS 1.3"),
        "{}",
        mesh.server.log()
    );
    assert_eq!(app.accepted(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_for_somebody_else_passes_through_untouched() {
    let app = Server::start("app").await;
    let own = Authority::root("the application's own");
    let secure = Acceptor::mutual(&own.leaf("shop.example"), &own, &[b"h2"]);
    let secure = secure.front(addr::unique(8443), app.addr()).await;
    let mesh = Mesh::start(Way::Port, secure.addr());
    let client = tls::Client::strict("shop.example", &own)
        .certificate(&own.leaf("customer"))
        .alpn(&[b"h2"])
        .from(addr::unique_ip());
    let unnamed = tls::Client::new("shop.example").without_sni();
    let unnamed = unnamed.certificate(&own.leaf("customer")).alpn(&[b"h2"]);
    assert!(
        unnamed.connect(mesh.app()).await.is_ok(),
        "no name is nobody's"
    );
    let stream = client
        .connect(mesh.app())
        .await
        .expect("the application's own TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut client = Client::http1_over(stream).await.expect("HTTP");
    assert_eq!(
        client
            .send(client::request("http://shop.example/"))
            .await
            .server(),
        "app"
    );
    let labels = [
        ("direction", "inbound"),
        ("peer", "src"),
        ("tls", "opaque"),
        ("sni", "shop.example"),
    ];
    assert_eq!(mesh.server.metric("tcp_open_total", &labels), 1.0);
    assert_eq!(
        mesh.server
            .metric("tls_handshakes_total", &[("direction", "inbound")]),
        0.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_of_the_application_is_carried_within_that_of_the_mesh() {
    let own = Authority::root("the application's own");
    let app = Server::start("app").await;
    let secure = Acceptor::new(&own.leaf("shop.example"));
    let secure = secure.front(addr::unique(8443), app.addr()).await;
    for way in Way::BOTH {
        let mesh = Mesh::start(way, secure.addr());
        let client = tls::Client::strict("shop.example", &own);
        let stream = client
            .connect(mesh.addr())
            .await
            .expect("the application's own TLS");
        let mut client = Client::http1_over(stream).await.expect("HTTP");
        assert_eq!(
            client
                .send(client::request("http://shop.example/"))
                .await
                .server(),
            "app"
        );
        let id = client_id();
        let labels = [
            ("direction", "inbound"),
            ("tls", "true"),
            ("client_id", id.as_str()),
        ];
        assert!(
            mesh.server.metric("tcp_open_total", &labels) > 0.0,
            "{way:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_peers_roots_are_of_no_use_to_a_sidecar_of_another_mesh() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let stranger = Caller::start(&Authority::root("root"));
    let endpoint = Endpoint::meshed(mesh.app(), Told::new(&server_id()));
    stranger.control.weighted_endpoints(WEB, &[endpoint]);
    stranger.http_fails("two meshes").await;
    counts(&stranger.proxy, "outbound", "unknown_issuer").await;
    mesh.server_counts("alert").await;
    assert_eq!(app.accepted(), 0, "port {APP_PORT} was not reached");
}
