//! The application learns who calls from its sidecar, and from nobody else.

use crate::rig::{
    APP_PORT, SOON,
    mesh::{Mesh, Way, client_id},
    values, web,
};
use integration::{
    client::{self, Client},
    control::proto,
    eventually,
    pki::identity,
    server::Server,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forged_client_id_is_stripped_whoever_sends_it() {
    let server = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, server.addr());
    let forged = |uri: &str| {
        let mut request = client::request(uri);
        let value = http::HeaderValue::from_static("root.kube-system.admin");
        request.headers_mut().append("l5d-client-id", value.clone());
        request.headers_mut().append("l5d-client-id", value);
        request
    };
    let mut meshed = Client::http1(mesh.addr()).await;
    let text = meshed.send(forged(&web("/headers"))).await.text();
    assert_eq!(
        values(&text, "l5d-client-id"),
        [client_id()],
        "by way of a sidecar"
    );

    // Nor can it be had removed, as something that is for one hop alone.
    let mut request = client::request(&web("/headers"));
    let connection = http::HeaderValue::from_static("l5d-client-id, keep-alive");
    request
        .headers_mut()
        .insert("connection", connection.clone());
    let text = meshed.send(request).await.text();
    assert_eq!(
        values(&text, "l5d-client-id"),
        [client_id()],
        "named by Connection"
    );

    let mut http2 = Client::http2(mesh.addr()).await;
    let mut request = forged(&web("/headers"));
    request.headers_mut().remove(http::header::HOST);
    let text = http2.send(request).await.text();
    assert_eq!(values(&text, "l5d-client-id"), [client_id()], "by HTTP/2");

    let mut unmeshed = Client::http1(mesh.app()).await;
    let text = unmeshed.send(forged(&web("/headers"))).await.text();
    assert!(
        values(&text, "l5d-client-id").is_empty(),
        "in clear: {text}"
    );

    let tls = mesh
        .foreign("batch")
        .connect(mesh.app())
        .await
        .expect("it may");
    let mut proved = Client::http1_over(tls).await.expect("HTTP");
    let mut request = forged(&web("/headers"));
    request.headers_mut().insert("connection", connection);
    let text = proved.send(request).await.text();
    assert_eq!(values(&text, "l5d-client-id"), [identity("batch")]);

    let tls = mesh.nobody().connect(mesh.app()).await.expect("it may");
    let mut nobody = Client::http1_over(tls).await.expect("HTTP");
    let text = nobody.send(forged(&web("/headers"))).await.text();
    assert!(
        values(&text, "l5d-client-id").is_empty(),
        "without certificate: {text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_can_be_for_one_identity_alone() {
    let server = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, server.addr());
    mesh.control
        .inbound(APP_PORT, proto::only_for(&client_id()));
    let ask = async |service_account: &str| {
        let tls = mesh.foreign(service_account).connect(mesh.app()).await;
        let mut client = Client::http1_over(tls.expect("TLS is for all"))
            .await
            .expect("HTTP");
        client
            .send(client::request(&web("/")))
            .await
            .status
            .as_u16()
    };
    eventually::holds("the policy is in force", SOON, || async {
        ask("batch").await == 403
    })
    .await;
    let seen = server.requests();
    assert_eq!(ask("batch").await, 403);
    assert_eq!(server.requests(), seen, "nothing reached the application");
    assert_eq!(ask("web").await, 200, "the one that it is for");
    let (batch, web_id) = (identity("batch"), client_id());
    let metrics = mesh.server.metrics();
    let denied = [
        ("client_id", batch.as_str()),
        ("tls", "true"),
        ("srv_name", "only-one"),
    ];
    assert!(metrics.sum("inbound_http_authz_deny_total", &denied) >= 2.0);
    let allowed = [("client_id", web_id.as_str()), ("authz_name", "only-one")];
    assert_eq!(metrics.sum("inbound_http_authz_allow_total", &allowed), 1.0);
}
