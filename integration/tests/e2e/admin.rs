//! The admin server.

use crate::rig::{Both, Outbound, SOON};
use flate2::read::GzDecoder;
use integration::{
    client::{self, Client},
    control::ControlPlane,
    eventually, proxy, scrape,
    server::Server,
    tcp,
};
use std::io::Read;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_and_ready_say_so() {
    let outbound = Outbound::start(1).await;
    let live = outbound.proxy.ask("GET", "/live", "");
    assert_eq!((live.status, live.body.as_str()), (200, "live\n"));
    let ready = outbound.proxy.ask("GET", "/ready", "");
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));
    assert_eq!(outbound.proxy.ask("GET", "/nothing", "").status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_without_control_plane_is_live() {
    let nobody = tcp::refusing().to_string();
    let mut proxy = proxy::Builder::new(&nobody, &nobody).spawn();
    eventually::holds("it is live", SOON * 2, || async {
        scrape::get(proxy.admin(), "/live").is_ok_and(|answer| answer.status == 200)
    })
    .await;
    assert!(proxy.process().is_running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_compressed_for_those_who_ask() {
    let outbound = Outbound::start(1).await;
    let mut client = Client::http1(outbound.proxy.admin()).await;
    let plain = client.send(client::request("/metrics")).await;
    assert_eq!(plain.header("content-encoding"), "");
    let mut request = client::request("/metrics");
    let accepted = http::HeaderValue::from_static("deflate, gzip;q=0.8");
    request
        .headers_mut()
        .insert(http::header::ACCEPT_ENCODING, accepted);
    let small = client.send(request).await;
    assert_eq!(small.header("content-encoding"), "gzip");
    assert_eq!(small.header("content-type"), "text/plain");
    assert!(small.body.len() < plain.body.len() / 2);
    let mut page = String::new();
    GzDecoder::new(&small.body[..])
        .read_to_string(&mut page)
        .expect("it is gzip");
    let metrics = scrape::Metrics::parse(page);
    assert_eq!(metrics.sum("proxy_build_info", &[]), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_level_can_be_read_and_changed() {
    let outbound = Outbound::start(1).await;
    let proxy = &outbound.proxy;
    assert!(
        proxy
            .ask("GET", "/proxy-log-level", "")
            .body
            .contains("linkerd=info")
    );
    assert_eq!(
        proxy
            .ask("PUT", "/proxy-log-level", "warn,linkerd=debug")
            .status,
        204
    );
    assert!(
        proxy
            .ask("GET", "/proxy-log-level", "")
            .body
            .contains("linkerd=debug")
    );
    assert!(!proxy.log().contains("request failed"));
    let uri = format!("http://{}/", tcp::refusing());
    assert_eq!(client::get(proxy.outbound(), &uri).await.status, 502);
    eventually::holds("more is logged", SOON, || async {
        proxy.log().contains("request failed")
    })
    .await;
    let bad = proxy.ask("PUT", "/proxy-log-level", "linkerd=nonsense=5");
    assert_eq!(bad.status, 400, "{}", bad.body);
    let wrong = proxy.ask("POST", "/proxy-log-level", "info");
    assert_eq!(wrong.status, 405);
    let head = wrong.head.to_ascii_lowercase();
    assert!(head.contains("allow: get, put"), "{head}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_is_told_without_secrets() {
    let outbound = Outbound::with(1, |builder| {
        builder.env("SOME_SECRET_TOKEN", "hunter2").env(
            "LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS",
            "-----BEGIN CERTIFICATE-----",
        )
    })
    .await;
    let proxy = &outbound.proxy;
    let all = proxy.ask("GET", "/env.json", "");
    assert_eq!(all.status, 200);
    let json: serde_json::Value = serde_json::from_str(&all.body).expect("it is JSON");
    assert!(json["LINKERD2_PROXY_LOG"].is_string(), "{json}");
    assert!(!all.body.contains("hunter2"), "{}", all.body);

    let some = proxy.ask("GET", "/env.json?LINKERD2_PROXY_LOG&NOT_SET", "");
    let json: serde_json::Value = serde_json::from_str(&some.body).expect("it is JSON");
    assert!(
        json["LINKERD2_PROXY_LOG"].is_string() && json["NOT_SET"].is_null(),
        "{json}"
    );
    assert_eq!(proxy.ask("GET", "/env.json?A=1", "").status, 400);
    assert_eq!(proxy.ask("POST", "/env.json", "").status, 405);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_is_off_unless_switched_on() {
    let outbound = Outbound::start(1).await;
    let off = outbound.proxy.ask("POST", "/shutdown", "");
    assert_eq!(
        (off.status, off.body.as_str()),
        (404, "shutdown endpoint is not enabled\n")
    );

    let mut outbound = Outbound::with(1, |builder| {
        builder.env("LINKERD2_PROXY_SHUTDOWN_ENDPOINT_ENABLED", "true")
    })
    .await;
    assert_eq!(outbound.proxy.ask("GET", "/shutdown", "").status, 405);
    let on = outbound.proxy.ask("POST", "/shutdown", "");
    assert_eq!((on.status, on.body.as_str()), (200, "shutdown\n"));
    let status = outbound.proxy.wait(SOON * 2).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ports_that_are_not_mapped_do_not_reach_the_admin_server() {
    // The admin server has its own listener; the inbound one does not lead to it.
    let both = Both::start(Server::start("app").await.addr());
    let control = ControlPlane::start();
    assert_eq!(both.proxy.ask("GET", "/live", "").status, 200);
    let through = scrape::get(both.paths()[1].1, "/live");
    assert!(through.is_ok_and(|answer| answer.body != "live\n"));
    drop(control);
}
