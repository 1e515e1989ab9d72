//! Ports that are not for everybody: by the environment, by the default policy, by the control
//! plane.
//!
//! Callers come from hosts of their own, or from the machine's first loopback address: that one is
//! no part of the workload either, where workloads share a machine.

use crate::rig::{
    APP_PORT, SOON,
    mesh::{Mesh, Plan, Way},
    web,
};
use integration::{
    addr,
    client::{self, Client},
    control::proto,
    eventually,
    server::Server,
    tcp::{self, Raw, connect_from},
    tls,
};
use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncWrite};

/// What makes a port strict, and whether a client of mesh TLS must have an identity, too.
const WAYS: [(&str, bool); 5] = [
    ("LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_TLS", false),
    ("LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_IDENTITY", true),
    ("LINKERD2_PROXY_INBOUND_DEFAULT_POLICY", true),
    ("policy: all-tls-unauthenticated", false),
    ("policy: all-authenticated", true),
];

fn start(how: &'static str, way: Way, app: SocketAddr) -> Mesh {
    let plan = Plan::new(way);
    let plan = match how {
        // As long as the control plane says nothing of a port, the default is in force.
        "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY" => plan.server(|builder| {
            builder.env(how, "all-authenticated").env(
                "LINKERD2_PROXY_POLICY_SVC_ADDR",
                &tcp::refusing().to_string(),
            )
        }),
        "policy: all-tls-unauthenticated" => {
            plan.before(|control| control.inbound(APP_PORT, proto::mesh_tls_port()))
        }
        "policy: all-authenticated" => {
            plan.before(|control| control.inbound(APP_PORT, proto::authenticated_port()))
        }
        variable => plan.server(|builder| builder.env(variable, &APP_PORT.to_string())),
    };
    plan.start(app)
}

/// What an HTTP client gets: a status, or nothing at all.
async fn status<S>(stream: S) -> Option<u16>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut client = Client::http1_over(stream).await.ok()?;
    let answer = client.try_send(client::request("http://api/"));
    let answer = eventually::within("an answer or the end", SOON, answer).await;
    answer.ok().map(|answer| answer.status.as_u16())
}

fn is_refused(status: Option<u16>) -> bool {
    matches!(status, None | Some(403))
}

async fn by_tls(client: &tls::Client, mesh: &Mesh) -> Option<u16> {
    status(client.connect(mesh.app()).await.ok()?).await
}

async fn in_clear(mesh: &Mesh) -> Option<u16> {
    let stream = connect_from(addr::unique_ip(), mesh.app()).await;
    status(stream.expect("the port is open")).await
}

/// The application's sidecar has counted a refusal, and says so.
async fn is_told(how: &str, mesh: &Mesh) {
    let labels = [("target_port", "8081")];
    eventually::holds(&format!("{how}: it is counted"), SOON, || async {
        let metrics = mesh.server.metrics();
        let http = metrics.sum("inbound_http_authz_deny_total", &labels);
        http + metrics.sum("inbound_tcp_authz_deny_total", &labels) > 0.0
    })
    .await;
    // What is logged is read by another thread.
    eventually::holds(&format!("{how}: it is logged"), SOON, || async {
        mesh.server.log().contains("denied")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn http_in_clear_is_refused_at_a_strict_port() {
    for (how, _) in WAYS {
        let app = Server::start("app").await;
        let mesh = start(how, Way::Port, app.addr());
        eventually::holds(&format!("{how}: in force"), SOON, || async {
            is_refused(in_clear(&mesh).await)
        })
        .await;
        let seen = app.accepted();
        let local = connect_from(Ipv4Addr::LOCALHOST, mesh.app()).await;
        assert!(
            is_refused(status(local.expect("it is open")).await),
            "{how}"
        );
        assert!(is_refused(in_clear(&mesh).await), "{how}");
        assert_eq!(
            app.accepted(),
            seen,
            "{how}: nothing reached the application"
        );
        is_told(how, &mesh).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_in_clear_are_refused_at_a_strict_port() {
    for (how, _) in WAYS {
        let app = tcp::Server::greeting("welcome").await;
        let mesh = start(how, Way::Port, app.addr());
        eventually::holds(&format!("{how}: in force"), SOON, || async {
            let mut raw = Raw::connect_from(addr::unique_ip(), mesh.app()).await;
            let _ = raw.try_send("\x01in clear").await;
            eventually::within("the end", SOON, raw.rest())
                .await
                .is_empty()
        })
        .await;
        let seen = app.accepted();
        // Somebody who waits for the server to speak learns nothing either.
        let mut silent = Raw::connect_from(addr::unique_ip(), mesh.app()).await;
        eventually::within(how, SOON, silent.expect_end()).await;
        assert_eq!(
            app.accepted(),
            seen,
            "{how}: nothing reached the application"
        );
        is_told(how, &mesh).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_without_certificate_is_refused_where_identity_is_required() {
    for (how, needs_identity) in WAYS {
        let app = Server::start("app").await;
        let mesh = start(how, Way::Port, app.addr());
        eventually::holds(&format!("{how}: in force"), SOON, || async {
            is_refused(in_clear(&mesh).await)
        })
        .await;
        let seen = app.requests();
        let nobody = by_tls(&mesh.nobody(), &mesh).await;
        if needs_identity {
            assert!(is_refused(nobody), "{how}: {nobody:?}");
            assert_eq!(
                app.requests(),
                seen,
                "{how}: nothing reached the application"
            );
            is_told(how, &mesh).await;
        } else {
            assert_eq!(nobody, Some(200), "{how}");
        }
        assert_eq!(
            by_tls(&mesh.foreign("batch"), &mesh).await,
            Some(200),
            "{how}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_is_welcome_at_a_strict_port() {
    for (how, _) in WAYS {
        for way in Way::BOTH {
            let app = Server::start("app").await;
            let mesh = start(how, way, app.addr());
            let answer = client::get(mesh.addr(), &web("/")).await;
            assert_eq!(answer.status, 200, "{how}, {way:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_ports_stay_open() {
    let app = Server::start("app").await;
    let other = Server::start("other").await;
    let at = other.addr();
    let plan = Plan::new(Way::Port).server(move |b| {
        b.env("LINKERD2_PROXY_INBOUND_PORTS_REQUIRE_TLS", "8081")
            .inbound(8090, at)
    });
    let mesh = plan.start(app.addr());
    let stream = connect_from(addr::unique_ip(), mesh.server.port(8090)).await;
    assert_eq!(status(stream.expect("it is open")).await, Some(200));
    assert!(is_refused(in_clear(&mesh).await));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_that_is_not_the_meshs_is_refused_at_a_strict_port() {
    for (how, _) in WAYS {
        let app = tcp::Server::silent().await;
        let mesh = start(how, Way::Port, app.addr());
        eventually::holds(&format!("{how}: in force"), SOON, || async {
            is_refused(in_clear(&mesh).await)
        })
        .await;
        let seen = app.accepted();
        let other = tls::Client::new("shop.example").from(addr::unique_ip());
        let connect = other.connect(mesh.app());
        let connected = eventually::within(how, SOON, connect).await;
        assert!(connected.is_err(), "{how}");
        assert_eq!(
            app.accepted(),
            seen,
            "{how}: nothing reached the application"
        );
    }
}
