//! Leaves, issuers and roots change under load, and nobody notices.

use crate::rig::{
    APP_PORT, SOON,
    mesh::{Mesh, Plan, Way, client_id, server_id},
    web,
};
use bytes::Bytes;
use futures::{SinkExt, channel::mpsc};
use http_body_util::BodyExt;
use hyper::body::{Frame, Incoming};
use integration::{
    addr,
    client::{self, Client},
    control::ControlPlane,
    eventually,
    identity::{Answers, IdentityService},
    load::{Load, Running},
    pki::{self, Authority, Bundle},
    proxy::{self, Proxy},
    server::Server,
    tcp::{self, Raw},
    tls::{self, Acceptor},
};
use std::{net::SocketAddr, time::Duration};
use tokio::net::TcpStream;

/// Of leaves: each is renewed about every two seconds.
const LIFETIME: Duration = Duration::from_secs(4);

/// Everything at once that must not break: requests of both kinds, a gRPC stream and a plain one.
struct Traffic {
    loads: Vec<Running>,
    _client: Client,
    sender: mpsc::Sender<Frame<Bytes>>,
    body: Incoming,
    raw: Raw<TcpStream>,
    opaque: SocketAddr,
}

impl Traffic {
    async fn start(http: SocketAddr, opaque: SocketAddr) -> Self {
        let uri = web("/bytes/100");
        let loads = vec![
            Load::http1(http, &uri).rate(50).connections(8).start(),
            Load::http2(http, &uri).rate(50).start(),
        ];
        let mut client = Client::http2(http).await;
        let (sender, receiver) = mpsc::channel(1);
        let call = client::grpc(&web("/echo.Echo/Bidi"), client::frames(receiver));
        let response = eventually::within("headers", SOON, client.open(call)).await;
        let body = response.expect("headers before any message").into_body();
        let raw = Raw::connect(opaque).await;
        Self {
            loads,
            _client: client,
            sender,
            body,
            raw,
            opaque,
        }
    }

    /// The streams are still there, and another one can be opened.
    async fn goes_on(&mut self, text: &str) {
        let sent = Bytes::copy_from_slice(format!("\0\0\0\0\x01{}", &text[..1]).as_bytes());
        let send = self.sender.send(Frame::data(sent.clone()));
        send.await.expect("the call is open");
        let frame = eventually::within("its echo", SOON, self.body.frame()).await;
        let data = frame.expect("not the end").expect("no error").into_data();
        assert_eq!(data.expect("a message"), sent, "{text}");
        self.raw.send(format!("\x01{text}")).await;
        self.raw.expect(format!("\x01{text}")).await;
        let mut new = Raw::connect(self.opaque).await;
        new.send("\x01new").await;
        new.expect("\x01new").await;
    }

    async fn stop(mut self) {
        drop(self.sender);
        let last = eventually::within("trailers", SOON, self.body.frame()).await;
        let trailers = last.expect("trailers").expect("no error").into_trailers();
        assert_eq!(trailers.expect("trailers")["grpc-status"], "0");
        self.raw.finish_sending().await;
        self.raw.expect_end().await;
        for load in self.loads {
            load.stop().await.assert_no_failure();
        }
    }
}

/// A pair with an HTTP application, and a port for bytes beside it.
async fn start(plan: Plan) -> (Mesh, Server, tcp::Server, Traffic) {
    let app = Server::start("app").await;
    let echo = tcp::Server::echo().await;
    let mesh = plan.bytes(echo.addr()).start(app.addr());
    let traffic = Traffic::start(mesh.addr(), mesh.bytes()).await;
    (mesh, app, echo, traffic)
}

/// Both have had this many more certificates than at the time of the call.
async fn renewed(mesh: &Mesh, traffic: &mut Traffic, times: usize) {
    let ids = [client_id(), server_id()];
    let before = ids.each_ref().map(|id| mesh.identity.certified(id));
    let what = format!("{times} renewals");
    let start = std::time::Instant::now();
    while !(0..2).all(|i| mesh.identity.certified(&ids[i]) >= before[i] + times) {
        assert!(
            start.elapsed() < LIFETIME * (times as u32 + 4),
            "not in time: {what}"
        );
        traffic.goes_on(&what).await;
    }
}

/// Whether `proxy` takes a client whose certificate is of `authority`.
async fn takes(proxy: &Proxy, name: &str, authority: &Authority) -> bool {
    let leaf = authority.leaf(&pki::identity("batch"));
    let client = tls::Client::new(name).certificate(&leaf);
    let Ok(stream) = client.connect(proxy.port(APP_PORT)).await else {
        return false;
    };
    let Ok(mut client) = Client::http1_over(stream).await else {
        return false;
    };
    let answer = client.try_send(client::request("http://api/")).await;
    answer.is_ok_and(|answer| answer.status == 200)
}

/// Whether `proxy` presents a certificate of `authority`.
async fn presents(proxy: &Proxy, name: &str, authority: &Authority) -> bool {
    let client = tls::Client::strict(name, authority);
    client.connect(proxy.port(APP_PORT)).await.is_ok()
}

async fn both_take(mesh: &Mesh, authority: &Authority, is_taken: bool) {
    let what = format!("taken by both: {is_taken}");
    eventually::holds(&what, SOON * 2, || async {
        takes(&mesh.client, &client_id(), authority).await == is_taken
            && takes(&mesh.server, &server_id(), authority).await == is_taken
    })
    .await;
}

async fn both_present(mesh: &Mesh, authority: &Authority) {
    eventually::holds("both present the new", LIFETIME * 3, || async {
        presents(&mesh.client, &client_id(), authority).await
            && presents(&mesh.server, &server_id(), authority).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaves_are_renewed_under_load() {
    for way in Way::BOTH {
        let (mesh, _app, _echo, mut traffic) = start(Plan::new(way).lifetime(LIFETIME)).await;
        renewed(&mesh, &mut traffic, 4).await;
        traffic.stop().await;
        // Whoever resumes a session is asked for a certificate of today all the same.
        assert_eq!(
            mesh.client.refreshes("error") + mesh.server.refreshes("error"),
            0.0
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_is_replaced_under_load() {
    let (mesh, _app, _echo, mut traffic) = start(Plan::new(Way::Header).lifetime(LIFETIME)).await;
    renewed(&mesh, &mut traffic, 1).await;
    for n in 0..2 {
        mesh.identity
            .authority(mesh.root.issuer(&format!("issuer {n}")));
        renewed(&mesh, &mut traffic, 2).await;
    }
    traffic.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_is_replaced_under_load() {
    let old = Authority::root("root 1");
    let bundle = Bundle::new(&[&old]);
    let issuer = old.issuer("issuer 1");
    let plan = Plan::new(Way::Port).lifetime(LIFETIME).anchors(&bundle);
    let (mesh, _app, _echo, mut traffic) = start(plan.root(old, issuer)).await;
    let new = Authority::root("root 2");
    both_take(&mesh, &mesh.root, true).await;
    both_take(&mesh, &new, false).await;

    bundle.write(&[&mesh.root, &new]);
    both_take(&mesh, &new, true).await;
    traffic.goes_on("two roots").await;

    mesh.identity.authority(new.issuer("issuer 2"));
    both_present(&mesh, &new).await;
    traffic.goes_on("leaves of the new root").await;

    bundle.write(&[&new]);
    both_take(&mesh, &mesh.root, false).await;
    both_take(&mesh, &new, true).await;
    renewed(&mesh, &mut traffic, 1).await;
    traffic.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_trust_anchors_keep_the_last_good_ones() {
    let old = Authority::root("root 1");
    let bundle = Bundle::new(&[&old]);
    let issuer = old.issuer("issuer 1");
    let plan = Plan::new(Way::Port).lifetime(LIFETIME).anchors(&bundle);
    let (mesh, _app, _echo, mut traffic) = start(plan.root(old, issuer)).await;
    for text in [
        "",
        "no PEM",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let before = mesh.server.log().len();
        bundle.write_text(text);
        eventually::holds("it is said", SOON * 2, || async {
            mesh.server.log()[before..].contains("trust-anchors.pem")
        })
        .await;
        both_take(&mesh, &mesh.root, true).await;
    }
    let new = Authority::root("root 2");
    bundle.write(&[&mesh.root, &new]);
    both_take(&mesh, &new, true).await;
    traffic.goes_on("good again").await;
    traffic.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_an_old_root_is_not_resumed() {
    let old = Authority::root("root 1");
    let bundle = Bundle::new(&[&old]);
    let issuer = old.issuer("issuer 1");
    let app = Server::start("app").await;
    let plan = Plan::new(Way::Port).anchors(&bundle).root(old, issuer);
    let mesh = plan.start(app.addr());
    // One client, whose sessions are kept from one connection to the next.
    let client = tls::Client::new(&server_id()).certificate(&mesh.leaf("batch"));
    let ask = async || {
        let stream = client.connect(mesh.app()).await.ok()?;
        let mut client = Client::http1_over(stream).await.ok()?;
        let answer = client.try_send(client::request("http://api/")).await;
        answer.ok().map(|answer| answer.status.as_u16())
    };
    assert_eq!(ask().await, Some(200));
    assert_eq!(ask().await, Some(200));
    bundle.write(&[&Authority::root("root 2")]);
    eventually::holds("the old root is of no use", SOON * 2, || async {
        ask().await.is_none()
    })
    .await;
    assert_eq!(ask().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roots_come_with_certificates_from_a_service_that_has_proved_its_name() {
    let (old, new) = (Authority::root("root 1"), Authority::root("root 2"));
    let control = ControlPlane::start();
    let app = Server::start("app").await;
    let name = "linkerd-identity.gossamer.serviceaccount.identity.gossamer.cluster.local";
    let bundle = Bundle::new(&[&old]);
    for (what, is_proved, has_file) in [
        ("proved", true, false),
        ("in clear", false, false),
        ("proved, but a file says otherwise", true, true),
    ] {
        let identity = IdentityService::start(old.issuer("issuer"));
        identity.answers(Answers::lasting(LIFETIME));
        let front = Acceptor::new(&old.leaf(name));
        let front = front.front(addr::unique(8080), identity.addr()).await;
        let at = if is_proved {
            front.addr()
        } else {
            identity.addr()
        };
        let mut builder = proxy::with(&control)
            .inbound(APP_PORT, app.addr())
            .identity(&server_id(), at, &old.anchor_pem());
        if is_proved {
            builder = builder.env("LINKERD2_PROXY_IDENTITY_SVC_NAME", name);
        }
        if has_file {
            builder = builder.anchors_file(&bundle.path());
        }
        let proxy = builder.start();
        assert!(!takes(&proxy, &server_id(), &new).await, "{what}");
        identity.anchors(&[&old, &new]);
        let before = identity.certified(&server_id());
        eventually::holds(what, LIFETIME * 3, || async {
            let is_taken = takes(&proxy, &server_id(), &new).await;
            identity.certified(&server_id()) > before + 1 && is_taken == (is_proved && !has_file)
        })
        .await;
        assert!(takes(&proxy, &server_id(), &old).await, "{what}");
    }
}
