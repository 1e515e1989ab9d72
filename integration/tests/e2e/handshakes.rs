//! Many connections at once: everyone is served or told, and memory stays bounded.

use crate::rig::{
    SOON, WEB, WEB_PORT,
    mesh::{Mesh, Plan, Way, client_id, server_id},
    web,
};
use futures::future::join_all;
use integration::{
    client::{self, Client},
    control::proto::{Endpoint, Mesh as Told, Policy},
    eventually, proxy,
    server::Server,
    tcp::{self, Raw},
};
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Connections of a burst.
const MANY: usize = 1_000;
/// What one connection in a handshake may cost, generously, in a debug build.
const KIB_EACH: u64 = 96;

/// What a client of a burst gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Served,
    Refused,
}

async fn ask(client: integration::tls::Client, mesh_app: std::net::SocketAddr) -> Outcome {
    let asked = async {
        let stream = client.connect(mesh_app).await.ok()?;
        let mut client = Client::http1_over(stream).await.ok()?;
        let answer = client.try_send(client::request("http://api/")).await.ok()?;
        Some(answer.status)
    };
    // Neither served nor refused would be the defect.
    match eventually::within("an outcome", SOON * 6, asked).await {
        Some(status) if status == 200 => Outcome::Served,
        Some(status) => {
            assert!(status.is_server_error(), "{status}");
            Outcome::Refused
        }
        None => Outcome::Refused,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_at_once_are_served_or_told() {
    let app = Server::start("app").await;
    let mesh = Plan::new(Way::Port).patient().start(app.addr());
    assert_eq!(
        ask(mesh.foreign("batch"), mesh.app()).await,
        Outcome::Served
    );
    let before = mesh.server.rss_kib();
    let leaf = mesh.leaf("batch");
    let clients = (0..MANY).map(|_| {
        // Each with sessions of its own: all handshakes are whole ones.
        let client = mesh.nobody().certificate(&leaf);
        tokio::spawn(ask(client, mesh.app()))
    });
    let outcomes = join_all(clients).await;
    let peak = mesh.server.rss_kib();
    let served = outcomes
        .iter()
        .filter(|o| matches!(o, Ok(Outcome::Served)))
        .count();
    assert!(outcomes.iter().all(Result::is_ok));
    assert!(served > MANY / 2, "{served} of {MANY} were served");
    let grown = peak.saturating_sub(before);
    assert!(grown < MANY as u64 * KIB_EACH, "memory grew by {grown} KiB");
    assert_eq!(
        ask(mesh.foreign("batch"), mesh.app()).await,
        Outcome::Served
    );
    let counted = mesh
        .server
        .metric("tls_handshakes_total", &[("direction", "inbound")]);
    assert!(
        counted >= served as f64,
        "{counted} handshakes were counted"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_between_sidecars_are_carried_or_closed() {
    let app = tcp::Server::echo().await;
    let mesh = Plan::new(Way::Port).patient().start(app.addr());
    mesh.control.policy(WEB, &Policy::new(WEB).opaque());
    let before = mesh.client.rss_kib() + mesh.server.rss_kib();
    let addr = mesh.addr();
    let connections = (0..MANY).map(|n| {
        tokio::spawn(async move {
            let mut raw = Raw::connect(addr).await;
            let text = format!("\x01connection {n}");
            let _ = raw.try_send(&text).await;
            let mut echo = vec![0; text.len()];
            let read = raw.stream().read_exact(&mut echo);
            let read = eventually::within("an echo or the end", SOON * 6, read).await;
            // Never the bytes of somebody else.
            assert!(read.is_err() || echo == text.as_bytes());
            read.ok().map(|_| raw)
        })
    });
    let all = join_all(connections).await;
    assert!(all.iter().all(Result::is_ok));
    let open: Vec<_> = all.into_iter().flatten().flatten().collect();
    // Those that took longer to connect than they may are closed, and counted on the side that gave up.
    let refused = (MANY - open.len()) as f64;
    assert!(refused < MANY as f64 / 2.0, "{refused} were closed");
    let counted = mesh.client.metric("outbound_tcp_errors_total", &[])
        + mesh.server.metric("inbound_tcp_errors_total", &[]);
    assert!(
        counted >= refused,
        "{refused} were closed, {counted} are counted"
    );
    let grown = (mesh.client.rss_kib() + mesh.server.rss_kib()).saturating_sub(before);
    assert!(
        grown < 2 * MANY as u64 * KIB_EACH,
        "memory grew by {grown} KiB"
    );
    drop(open);
    let id = client_id();
    eventually::holds("all are closed", SOON * 2, || async {
        let labels = [("tls", "true"), ("client_id", id.as_str())];
        mesh.server.metric("tcp_open_connections", &labels) == 0.0
    })
    .await;
    let mut raw = Raw::connect(addr).await;
    raw.send("\x01afterwards").await;
    raw.expect("\x01afterwards").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_much_is_in_flight_more_requests_make_no_more_connections() {
    let app = Server::start("app").await;
    let mesh = Plan::new(Way::Port).patient().start(app.addr());
    app.hang(true);
    let addr = mesh.addr();
    let mut asked = Vec::new();
    for wanted in [50, 250] {
        let before = mesh.client.handshakes("outbound", "ok");
        while asked.len() < wanted {
            let ask = async move { client::get(addr, &web("/")).await.status.as_u16() };
            asked.push(tokio::spawn(ask));
        }
        eventually::holds("all are in flight", SOON * 2, || async {
            app.requests() == wanted
        })
        .await;
        let more = mesh.client.handshakes("outbound", "ok") - before;
        assert!(
            wanted == 50 || more < 20.0,
            "{more} connections for 200 more requests"
        );
    }
    app.hang(false);
    for answer in join_all(asked).await {
        assert_eq!(answer.expect("an answer"), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_connect_and_stay_silent_keep_nobody_out() {
    let app = Server::start("app").await;
    let plan =
        Plan::new(Way::Header).server(|b| b.env("LINKERD2_PROXY_INBOUND_DETECT_TIMEOUT", "1s"));
    let mesh = plan.start(app.addr());
    let mut silent = Vec::new();
    for _ in 0..500 {
        silent.push(Raw::connect(mesh.server.inbound()).await);
    }
    let answer = client::get(mesh.addr(), &web("/")).await;
    assert_eq!(answer.status, 200);
    for mut raw in silent {
        eventually::within("cut off", SOON * 2, raw.expect_end()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_accepts_and_says_nothing_is_given_up() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    let deaf = tcp::Server::silent().await;
    let endpoint = Endpoint::meshed(deaf.addr(), Told::new(&server_id()));
    mesh.control.weighted_endpoints(WEB, &[endpoint]);
    let policy = Policy::new(WEB).queue(100, Duration::from_secs(2));
    mesh.control.policy(WEB, &policy);
    let stranger = proxy::with(&mesh.control)
        .outbound(WEB_PORT, WEB)
        .identity(&client_id(), mesh.identity.addr(), &mesh.root.anchor_pem())
        .env("LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT", "500ms")
        .start();
    // The deadline of a connection covers its handshake.
    let uri = web("/");
    let asked = client::get(stranger.port(WEB_PORT), &uri);
    let answer = eventually::within("an answer", SOON * 2, asked).await;
    assert!(answer.status.is_server_error(), "{answer:?}");
    assert!(!answer.header("l5d-proxy-error").is_empty());
}
