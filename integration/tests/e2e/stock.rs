//! Sidecars that are not ours, on either end: what goes over the wire is Linkerd's.

use crate::rig::{
    APP_PORT, SOON, WEB, WEB_PORT,
    mesh::{INBOUND_PORT, Mesh, Way, client_id, server_id},
    web,
};
use futures::future::join_all;
use http::{HeaderValue, Method, Version};
use integration::{
    addr,
    client::{self, Client},
    control::{
        ControlPlane,
        proto::{Endpoint, Hint, Mesh as Told, Policy},
    },
    eventually,
    identity::IdentityService,
    pki::Authority,
    proxy::{self, Proxy},
    server::Server,
    tcp::{self, Raw},
    tls::Acceptor,
    transport_header::{ALPN, Session, TransportHeader},
};
use parking_lot::Mutex;
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
};

/// What a server was told before a connection's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Opening {
    header: Option<TransportHeader>,
    /// How the bytes began.
    start: Vec<u8>,
}

/// A sidecar as Linkerd's: TLS, then a header if it was agreed upon, then what `app` speaks.
struct Stock {
    server: tcp::Server,
    told: Arc<Mutex<Vec<Opening>>>,
}

impl Stock {
    async fn start(root: &Authority, alpn: &[&[u8]], addr: SocketAddr, app: SocketAddr) -> Self {
        let told: Arc<Mutex<Vec<Opening>>> = Arc::default();
        let kept = told.clone();
        let acceptor = Acceptor::mutual(&root.leaf(&server_id()), root, alpn);
        let server = acceptor.serve(addr, move |mut stream| {
            let kept = kept.clone();
            async move {
                let is_agreed = stream.get_ref().1.alpn_protocol() == Some(ALPN);
                let header = match is_agreed {
                    true => Some(TransportHeader::read(&mut stream).await?),
                    false => None,
                };
                let mut start = [0; 3];
                stream.read_exact(&mut start).await?;
                let told = Opening {
                    header,
                    start: start.to_vec(),
                };
                kept.lock().push(told);
                let mut plain = TcpStream::connect(app).await?;
                plain.write_all(&start).await?;
                copy_bidirectional(&mut stream, &mut plain)
                    .await
                    .map(|_| ())
            }
        });
        Self {
            server: server.await,
            told,
        }
    }

    fn told(&self) -> Vec<Opening> {
        self.told.lock().clone()
    }
}

/// One of our sidecars beside a client.
struct Ours {
    root: Authority,
    control: ControlPlane,
    _identity: IdentityService,
    proxy: Proxy,
}

impl Ours {
    fn start() -> Self {
        let root = Authority::root("root");
        let identity = IdentityService::start(root.issuer("issuer"));
        let control = ControlPlane::start();
        control.service(WEB, &[]);
        let proxy = proxy::with(&control)
            .outbound(WEB_PORT, WEB)
            .identity(&client_id(), identity.addr(), &root.anchor_pem())
            .start();
        Self {
            root,
            control,
            _identity: identity,
            proxy,
        }
    }

    /// The service is at a port of the host where `stock` listens.
    fn leads_to(&self, stock: &Stock, told: Told) {
        let endpoint = SocketAddr::new(stock.server.addr().ip(), APP_PORT);
        self.control
            .weighted_endpoints(WEB, &[Endpoint::meshed(endpoint, told)]);
    }

    fn addr(&self) -> SocketAddr {
        self.proxy.port(WEB_PORT)
    }
}

fn hinted(hint: Hint) -> Told {
    Told::new(&server_id())
        .hint(hint)
        .transport_header(INBOUND_PORT)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_server_is_told_port_and_protocol() {
    let app = Server::start("app").await;
    let ours = Ours::start();
    let at = addr::unique(INBOUND_PORT);
    let stock = Stock::start(&ours.root, &[ALPN], at, app.addr()).await;
    ours.leads_to(&stock, hinted(Hint::Http2));
    assert_eq!(client::get(ours.addr(), &web("/")).await.status, 200);
    let mut h2 = client::request(&web("/"));
    h2.headers_mut().remove(http::header::HOST);
    assert_eq!(Client::http2(ours.addr()).await.send(h2).await.status, 200);
    // Many at once, so that whatever is done then is done.
    app.hang(true);
    let addr = ours.addr();
    let many = (0..100).map(|_| tokio::spawn(async move { client::get(addr, &web("/")).await }));
    let many: Vec<_> = many.collect();
    eventually::holds("all are in flight", SOON, || async {
        app.requests() >= 102
    })
    .await;
    app.hang(false);
    for answer in join_all(many).await {
        assert_eq!(answer.expect("an answer").status, 200);
    }
    for told in stock.told() {
        let header = told.header.expect("a header was agreed upon");
        assert_eq!((header.port, &*header.name), (APP_PORT, ""));
        let session = match &*told.start {
            b"PRI" => Session::Http2,
            _ => Session::Http1,
        };
        assert_eq!(
            header.session,
            Some(session),
            "the header says what follows"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_server_is_told_no_protocol_of_opaque_bytes() {
    let app = tcp::Server::echo().await;
    let ours = Ours::start();
    ours.control.policy(WEB, &Policy::new(WEB).opaque());
    let at = addr::unique(INBOUND_PORT);
    let stock = Stock::start(&ours.root, &[ALPN], at, app.addr()).await;
    for hint in [Hint::Opaque, Hint::Http2] {
        ours.leads_to(&stock, hinted(hint));
        let mut raw = Raw::connect(ours.addr()).await;
        raw.send("\x01opaque").await;
        raw.expect("\x01opaque").await;
    }
    let expected = TransportHeader::port(APP_PORT);
    assert!(
        stock
            .told()
            .iter()
            .all(|told| told.header.as_ref() == Some(&expected))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_server_without_headers_gets_none() {
    let app = Server::start("app").await;
    let ours = Ours::start();
    // It is offered, and not chosen.
    let at = addr::unique(INBOUND_PORT);
    let silent = Stock::start(&ours.root, &[], at, app.addr()).await;
    ours.leads_to(&silent, hinted(Hint::Http2));
    assert_eq!(client::get(ours.addr(), &web("/")).await.status, 200);
    // It would be chosen, and is not offered.
    let at = addr::unique(APP_PORT);
    let unasked = Stock::start(&ours.root, &[ALPN], at, app.addr()).await;
    ours.leads_to(&unasked, Told::new(&server_id()));
    eventually::holds("the other one is used", SOON, || async {
        assert_eq!(client::get(ours.addr(), &web("/")).await.status, 200);
        !unasked.told().is_empty()
    })
    .await;
    let told = [silent.told(), unasked.told()].concat();
    assert!(told.iter().all(|told| told.header.is_none()), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stock_server_says_of_the_version_stays_between_sidecars() {
    let app = Server::start("app").await;
    let ours = Ours::start();
    let at = addr::unique(INBOUND_PORT);
    let stock = Stock::start(&ours.root, &[ALPN], at, app.addr()).await;
    ours.leads_to(&stock, hinted(Hint::Http2));
    app.hang(true);
    let addr = ours.addr();
    let many = (0..100).map(|_| {
        tokio::spawn(async move {
            let mut request = client::request(&web("/headers"));
            let value = HeaderValue::from_static("l5d-orig-proto");
            request.headers_mut().insert("x-answer-header", value);
            Client::http1(addr)
                .await
                .open(request)
                .await
                .expect("an answer")
        })
    });
    let many: Vec<_> = many.collect();
    eventually::holds("all are in flight", SOON, || async {
        app.requests() >= 100
    })
    .await;
    app.hang(false);
    for response in join_all(many).await {
        let response = response.expect("an answer");
        assert_eq!(response.version(), Version::HTTP_11);
        assert!(!response.headers().contains_key("l5d-orig-proto"));
    }
    let carried = |told: &Opening| told.start == b"PRI";
    assert!(
        stock.told().iter().any(carried),
        "so many are carried within HTTP/2"
    );
}

/// A request within HTTP/2 of a client that speaks `version`.
fn carried(uri: &str, version: &'static str) -> http::Request<client::Body> {
    let mut request = client::with_body(Method::POST, uri, client::full("body"));
    request.headers_mut().remove(http::header::HOST);
    let version = HeaderValue::from_static(version);
    request.headers_mut().insert("l5d-orig-proto", version);
    request
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_may_carry_http_1_within_http_2() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Header, app.addr());
    for (version, line) in [
        ("HTTP/1.1", "POST /headers HTTP/1.1\n"),
        // What a client asks a proxy for, an origin is asked for in its own form.
        ("HTTP/1.1; absolute-form", "POST /headers HTTP/1.1\n"),
        ("HTTP/1.0", "POST /headers HTTP/1."),
    ] {
        let header = TransportHeader::session(APP_PORT, Session::Http2).encode();
        let client = mesh.foreign("batch").alpn(&[ALPN]);
        let mut by_header = client.connect(mesh.server.inbound()).await.expect("TLS");
        by_header.write_all(&header).await.expect("it is taken");
        let by_port = mesh
            .foreign("batch")
            .connect(mesh.app())
            .await
            .expect("TLS");
        for stream in [by_header, by_port] {
            let mut client = Client::http2_over(stream).await.expect("HTTP/2");
            let answer = client
                .send(carried("http://api.demo/headers", version))
                .await;
            let text = answer.text();
            assert!(text.starts_with(line), "{version}: {text}");
            assert!(!text.contains("l5d-orig-proto"), "{version}: {text}");
            assert!(text.contains("host: api.demo\n"), "{version}: {text}");
            assert!(
                text.contains(&integration::pki::identity("batch")),
                "{version}: {text}"
            );
            let said = answer.header("l5d-orig-proto");
            assert!(
                said.starts_with("HTTP/1."),
                "{version}: the answer says {said:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_2_without_that_header_stays_http_2() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let stream = mesh
        .foreign("batch")
        .connect(mesh.app())
        .await
        .expect("TLS");
    let mut client = Client::http2_over(stream).await.expect("HTTP/2");
    let mut request = carried("http://api.demo/headers", "HTTP/1.1");
    request.headers_mut().remove("l5d-orig-proto");
    let answer = client.send(request).await;
    assert!(answer.text().contains("HTTP/2.0"), "{}", answer.text());
    assert_eq!(answer.header("l5d-orig-proto"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn that_header_is_nothing_for_the_application_whoever_sends_it() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    for version in ["HTTP/1.1", "HTTP/0.9", "nonsense"] {
        let mut client = Client::http2(mesh.app()).await;
        let request = carried("http://api.demo/headers", version);
        // Refused or served, but never passed on.
        if let Ok(answer) = client.try_send(request).await {
            assert!(
                !answer.text().contains("l5d-orig-proto"),
                "{version}: {}",
                answer.text()
            );
        }
        let mut request = client::request("http://api.demo/headers");
        let value = HeaderValue::from_static("HTTP/2");
        request.headers_mut().insert("l5d-orig-proto", value);
        let text = Client::http1(mesh.addr()).await.send(request).await.text();
        assert!(!text.contains("l5d-orig-proto"), "{text}");
        assert!(text.contains("HTTP/1.1"), "{text}");
    }
}
