//! The real controller: manifests in, traffic out.

use crate::rig::{SOON, WEB_PORT};
use integration::{
    client, controller::Controller, eventually, load::Load, proxy::Proxy, server::Server, tcp,
};
use std::{fmt::Write, net::SocketAddr, time::Duration};

const SECOND: Duration = Duration::from_secs(1);
const NAME: &str = "api.demo.svc.cluster.local:80";

pub(crate) fn service(annotations: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata:\n  name: api\n  namespace: demo\n\
         {annotations}spec:\n  clusterIP: 10.43.0.9\n  ports:\n  - name: http\n    port: 80\n    \
         targetPort: 8080\n"
    )
}

/// An EndpointSlice for `addrs`, which all have one port.
pub(crate) fn slice(addrs: &[SocketAddr]) -> String {
    let mut text =
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: api-1\n  \
         namespace: demo\n  labels: {kubernetes.io/service-name: api}\naddressType: IPv4\n"
            .to_owned();
    if let Some(addr) = addrs.first() {
        let _ = writeln!(text, "ports:\n- name: http\n  port: {}", addr.port());
    }
    text.push_str(if addrs.is_empty() {
        "endpoints: []\n"
    } else {
        "endpoints:\n"
    });
    for addr in addrs {
        let _ = writeln!(
            text,
            "- addresses: [{}]\n  conditions: {{ready: true}}",
            addr.ip()
        );
    }
    text
}

pub(crate) fn start(addrs: &[SocketAddr]) -> (Controller, Proxy) {
    let controller = Controller::start(&[
        ("service.yaml", &service("")),
        ("slice.yaml", &slice(addrs)),
    ]);
    let proxy = controller.proxy().outbound(WEB_PORT, NAME).start();
    (controller, proxy)
}

pub(crate) async fn server_of(proxy: &Proxy) -> String {
    client::get(proxy.port(WEB_PORT), "http://api.demo.svc.cluster.local/")
        .await
        .server()
        .to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_leads_to_the_endpoints_of_its_slices() {
    let servers = Server::replicas(2).await;
    let addrs: Vec<_> = servers.iter().map(Server::addr).collect();
    let (_controller, proxy) = start(&addrs);
    let load = Load::http1(proxy.port(WEB_PORT), "http://api.demo.svc.cluster.local/");
    load.run(SECOND).await.assert_no_failure();
    assert!(servers.iter().all(|server| server.requests() > 0));
    // By its cluster address, too.
    let answer = client::get(proxy.outbound(), "http://10.43.0.9/").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_manifest_reaches_the_proxies() {
    let old = Server::start("old").await;
    let new = Server::start("new").await;
    let (controller, proxy) = start(&[old.addr()]);
    assert_eq!(server_of(&proxy).await, "old");
    controller.write("slice.yaml", &slice(&[new.addr()]));
    eventually::holds("the change is in force", SECOND * 2, || async {
        server_of(&proxy).await == "new"
    })
    .await;
    controller.write("slice.yaml", &slice(&[old.addr()]));
    eventually::holds("and back", SECOND * 2, || async {
        server_of(&proxy).await == "old"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_file_keeps_the_last_good_state_and_is_reported() {
    let server = Server::start("app").await;
    let (controller, proxy) = start(&[server.addr()]);
    assert_eq!(server_of(&proxy).await, "app");
    let bad = slice(&[server.addr()]).replace("port: 8080", "port: eighty");
    controller.write("slice.yaml", &bad);
    let told = || controller.admin("/ready?verbose").body;
    eventually::holds("it is reported", SOON, || async {
        let text = told();
        text.contains("slice.yaml") && text.contains("port") && text.contains("bad")
    })
    .await;
    let line = bad
        .lines()
        .position(|line| line.contains("eighty"))
        .expect("it is there")
        + 1;
    assert!(
        told().contains(&line.to_string()),
        "line {line} is named: {}",
        told()
    );
    assert!(
        controller.log().contains("slice.yaml"),
        "{}",
        controller.log()
    );
    assert_eq!(controller.admin("/ready").status, 200);
    assert_eq!(server_of(&proxy).await, "app");
    let metrics = controller.admin("/metrics").body;
    assert!(
        metrics.contains("source_files{state=\"bad\"} 1"),
        "{metrics}"
    );

    // Broken beyond YAML, then mended.
    controller.write("slice.yaml", "endpoints: [\n");
    let next = Server::start("next").await;
    assert_eq!(server_of(&proxy).await, "app");
    controller.write("slice.yaml", &slice(&[next.addr()]));
    eventually::holds("mended", SOON, || async {
        server_of(&proxy).await == "next"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_killed_and_restarted_under_load_fails_nothing() {
    let servers = Server::replicas(3).await;
    let addrs: Vec<_> = servers.iter().map(Server::addr).collect();
    let (mut controller, proxy) = start(&addrs);
    let uri = "http://api.demo.svc.cluster.local/";
    let load = Load::http1(proxy.port(WEB_PORT), uri)
        .rate(300)
        .connections(16)
        .start();
    eventually::holds("load runs", SOON, || async { load.report().ok > 100 }).await;
    for _ in 0..3 {
        controller.kill();
        let before = load.report().ok;
        eventually::holds("load goes on", SOON, || async {
            load.report().ok > before + 300
        })
        .await;
        assert_eq!(client::get(proxy.port(WEB_PORT), uri).await.status, 200);
        controller.restart();
    }
    let new = Server::start("new").await;
    controller.write("slice.yaml", &slice(&[new.addr()]));
    eventually::holds("news is in force", SECOND * 3, || async {
        new.requests() > 0
    })
    .await;
    load.stop().await.assert_no_failure();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_annotated_port_is_opaque() {
    let echo = tcp::Server::start_at(integration::addr::unique(8080), |mut stream| async move {
        let (mut read, mut write) = stream.split();
        tokio::io::copy(&mut read, &mut write).await.map(|_| ())
    })
    .await;
    let annotations = "  annotations: {config.linkerd.io/opaque-ports: \"80\"}\n";
    let controller = Controller::start(&[
        ("service.yaml", &service(annotations)),
        ("slice.yaml", &slice(&[echo.addr()])),
    ]);
    let proxy = controller.proxy().outbound(WEB_PORT, NAME).start();
    let mut raw = tcp::Raw::connect(proxy.port(WEB_PORT)).await;
    raw.send("GET / HTTP/1.1\r\n\r\n").await;
    raw.expect("GET / HTTP/1.1\r\n\r\n").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_endpoints_and_one_that_is_unknown_are_answered() {
    let (_controller, proxy) = start(&[]);
    let empty = client::get(proxy.port(WEB_PORT), "http://api.demo.svc.cluster.local/");
    let empty = eventually::within("an answer", SOON, empty).await;
    assert!(empty.status.is_server_error(), "{empty:?}");
    let unknown = client::get(proxy.outbound(), "http://nobody.demo.svc.cluster.local/");
    let unknown = eventually::within("an answer", SECOND * 2, unknown).await;
    assert!(unknown.status.is_server_error(), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_manifest_at_the_start_does_not_keep_the_rest_from_serving() {
    let server = Server::start("app").await;
    let controller = Controller::start(&[
        ("service.yaml", &service("")),
        ("slice.yaml", &slice(&[server.addr()])),
        ("zz-broken.yaml", "kind: Service\nspec: 7\n"),
    ]);
    let proxy = controller.proxy().outbound(WEB_PORT, NAME).start();
    assert_eq!(server_of(&proxy).await, "app");
    assert!(
        controller
            .admin("/ready?verbose")
            .body
            .contains("zz-broken.yaml")
    );
}
