//! What clients are told when something fails: statuses, gRPC codes, headers.

use crate::rig::{
    Both, Outbound, SOON, WEB, WEB_PORT,
    mesh::{Mesh, Way, server_id},
    web,
};
use futures::future::join_all;
use integration::{
    client::{self, Client},
    control::{
        ControlPlane,
        proto::{Endpoint, Mesh as Told, Policy},
    },
    eventually, proxy,
    server::Server,
    tcp,
};
use socket2::{Domain, Socket, Type};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

/// An address whose accept queue is full, so that connects to it hang.
fn black_hole() -> (SocketAddr, Vec<Socket>) {
    let addr = integration::addr::unique(1);
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    listener.bind(&addr.into()).expect("a free address");
    listener.listen(0).expect("it can listen");
    let mut held = vec![listener];
    for _ in 0..4 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_nonblocking(true).expect("it can");
        let _ = socket.connect(&addr.into());
        held.push(socket);
    }
    (addr, held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_is_a_bad_gateway() {
    let both = Both::start(Server::start("app").await.addr());
    let refusing = tcp::refusing();
    // Outbound by original address, inbound to an application that is not there.
    let outbound = client::get(both.proxy.outbound(), &format!("http://{refusing}/")).await;
    let inbound = client::get(both.paths()[1].1, &web("/")).await;
    assert_eq!(
        (outbound.status.as_u16(), inbound.status.as_u16()),
        (502, 502)
    );

    assert!(
        !outbound.header("l5d-proxy-error").is_empty(),
        "the application is told why"
    );
    assert_eq!(outbound.header("l5d-proxy-connection"), "close");
    assert_eq!(outbound.header("connection"), "close");
    assert_eq!(outbound.header("content-length"), "0");
    assert_eq!(
        inbound.header("l5d-proxy-error"),
        "",
        "a stranger is not told why"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http_2_connection_ends_after_a_fatal_error_and_costs_no_other_stream() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    let over_http2 = |uri: &str| {
        let mut request = client::request(uri);
        request.headers_mut().remove(http::header::HOST);
        request
    };
    server.hang(true);
    let mut client = Client::http2(both.proxy.outbound()).await;
    let mut sharing = client.share().expect("HTTP/2");
    let other = tokio::spawn(async move { sharing.send(over_http2(&web("/"))).await });
    eventually::holds("it is in flight", SOON, || async { server.requests() == 1 }).await;
    let refusing = tcp::refusing();
    let answer = client
        .send(over_http2(&format!("http://{refusing}/")))
        .await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.header("connection"), "", "HTTP/2 has no such header");
    // A client that was told to go opens no more streams.
    let gone = async {
        let again = || over_http2(&format!("http://{refusing}/"));
        while client.try_send(again()).await.is_ok() {}
    };
    eventually::within("a farewell", SOON, gone).await;
    server.hang(false);
    assert_eq!(other.await.expect("no panic").status, 200);
    eventually::holds("the end", SOON, || async { client.is_closed() }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_endpoints_proxy_may_end_the_clients_connection() {
    let app = Server::start("app").await;
    let mesh = Mesh::start(Way::Port, app.addr());
    app.kill();
    let connection_of_a_failure = || async {
        let answer = client::get(mesh.addr(), &web("/")).await;
        assert_eq!(answer.status, 502);
        assert_eq!(answer.header("l5d-proxy-connection"), "", "it is for us");
        answer.header("connection").to_owned()
    };
    assert_eq!(
        connection_of_a_failure().await,
        "",
        "a balancer has others to go to"
    );
    let endpoint = Endpoint::meshed(mesh.app(), Told::new(&server_id()));
    mesh.control
        .policy(WEB, &Policy::new(WEB).forward(endpoint));
    eventually::holds("the client is told to close", SOON, || async {
        connection_of_a_failure().await == "close"
    })
    .await;
    // What no proxy of ours says is not heeded.
    let stranger = tcp::Server::canned(
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nl5d-proxy-connection: close\r\n\r\n",
    )
    .await;
    let endpoint = Endpoint::from(stranger.addr());
    mesh.control
        .policy(WEB, &Policy::new(WEB).forward(endpoint));
    eventually::holds("the stranger answers", SOON, || async {
        let answer = client::get(mesh.addr(), &web("/")).await;
        assert_eq!(answer.header("l5d-proxy-connection"), "");
        answer.status == 200 && answer.header("connection").is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_takes_too_long_is_a_gateway_timeout() {
    let (addr, _held) = black_hole();
    let both = Both::with(addr, |builder| {
        builder
            .env("LINKERD2_PROXY_OUTBOUND_CONNECT_TIMEOUT", "300ms")
            .env("LINKERD2_PROXY_INBOUND_CONNECT_TIMEOUT", "300ms")
    });
    let outbound = client::get(both.proxy.outbound(), &format!("http://{addr}/")).await;
    let inbound = client::get(both.paths()[1].1, &web("/")).await;
    assert_eq!(
        (outbound.status.as_u16(), inbound.status.as_u16()),
        (504, 504)
    );
    assert!(!outbound.header("l5d-proxy-error").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_no_endpoint_serves_fails_fast() {
    let control = ControlPlane::start();
    control.policy(
        WEB,
        &Policy::new(WEB).queue(100, Duration::from_millis(500)),
    );
    control.endpoints(WEB, &[tcp::refusing()]);
    let proxy = proxy::with(&control).outbound(WEB_PORT, WEB).start();
    let answer = client::get(proxy.port(WEB_PORT), &web("/")).await;
    // The refusal itself, or the end of the queue's patience.
    assert!(matches!(answer.status.as_u16(), 502 | 504), "{answer:?}");
    assert!(!answer.header("l5d-proxy-error").is_empty());
    // From now on nobody waits: each fails in far less than the queue's time.
    let load = integration::load::Load::http1(proxy.port(WEB_PORT), &web("/")).rate(200);
    let report = load.run(Duration::from_secs(1)).await;
    assert_eq!(report.ok, 0);
    let p50 = report.failure_latency.value_at_quantile(0.5);
    assert!(
        p50 < 250_000,
        "half of the failures took more than {p50} µs"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_endpoints_fails_in_time_and_recovers() {
    let server = Server::start("app").await;
    let control = ControlPlane::start();
    control.policy(
        WEB,
        &Policy::new(WEB).queue(100, Duration::from_millis(300)),
    );
    control.endpoints(WEB, &[]);
    let proxy = proxy::with(&control).outbound(WEB_PORT, WEB).start();
    let answer = client::get(proxy.port(WEB_PORT), &web("/")).await;
    assert!(matches!(answer.status.as_u16(), 503 | 504), "{answer:?}");
    control.endpoints(WEB, &[server.addr()]);
    eventually::holds("it serves", SOON, || async {
        client::get(proxy.port(WEB_PORT), &web("/")).await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_past_the_queues_bound_are_shed() {
    let control = ControlPlane::start();
    control.policy(WEB, &Policy::new(WEB).queue(5, Duration::from_secs(2)));
    control.endpoints(WEB, &[tcp::refusing()]);
    let proxy = proxy::with(&control).outbound(WEB_PORT, WEB).start();
    // The first request finds out that the endpoint refuses; from then on there is none.
    let first = client::get(proxy.port(WEB_PORT), &web("/")).await;
    assert_eq!(first.status, 502);
    // Each on a connection of its own: one that is shed ends with its answer.
    let asked = (0..30).map(|_| async {
        let answer = client::get(proxy.port(WEB_PORT), &web("/")).await;
        answer.status.as_u16()
    });
    let answers = join_all(asked).await;
    let count = |status| answers.iter().filter(|a| **a == status).count();
    assert!(count(503) >= 20, "shed: {answers:?}");
    assert!(count(200) == 0, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_past_the_concurrency_limit_are_shed_at_once() {
    let outbound = Outbound::with(1, |builder| {
        builder.env("LINKERD2_PROXY_OUTBOUND_MAX_IN_FLIGHT", "2")
    })
    .await;
    let addr = outbound.addr();
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut raw = tcp::Raw::connect(addr).await;
        raw.send("GET /hang HTTP/1.1\r\nhost: web.demo.svc.cluster.local\r\n\r\n")
            .await;
        held.push(raw);
    }
    eventually::holds("two are in flight", SOON, || async {
        outbound.replicas[0].requests() == 2
    })
    .await;
    let answer = client::get(addr, &web("/")).await;
    assert_eq!(answer.status, 503);
    assert!(!answer.header("l5d-proxy-error").is_empty());
    drop(held);
    eventually::holds("room is made when clients go", SOON, || async {
        client::get(addr, &web("/")).await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn informational_headers_can_be_switched_off() {
    let outbound = Outbound::with(1, |builder| {
        builder.env(
            "LINKERD2_PROXY_OUTBOUND_DISABLE_INFORMATIONAL_HEADERS",
            "true",
        )
    })
    .await;
    let uri = format!("http://{}/", tcp::refusing());
    let answer = client::get(outbound.proxy.outbound(), &uri).await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.header("l5d-proxy-error"), "");
    assert_eq!(answer.header("l5d-proxy-connection"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peers_error_header_stays_between_proxies() {
    let server = tcp::Server::canned(
        b"HTTP/1.1 503 Service Unavailable\r\nl5d-proxy-error: inner\r\nx-kept: 1\r\n\
          content-length: 0\r\n\r\n",
    )
    .await;
    let both = Both::start(server.addr());
    let answer = client::get(both.paths()[0].1, &web("/")).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("x-kept")),
        (503, "1")
    );
    assert_eq!(answer.header("l5d-proxy-error"), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_breaks_off_before_the_answer_is_a_bad_gateway() {
    let server =
        tcp::Server::start(
            |mut stream| async move { tcp::read_head(&mut stream).await.map(|_| ()) },
        )
        .await;
    let both = Both::start(server.addr());
    for (path, addr) in both.paths() {
        let answer = client::get(addr, &web("/")).await;
        assert_eq!(answer.status, 502, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_the_proxy_itself_is_no_loop() {
    // A port of its own: as a wildcard it is taken on all addresses.
    let port = {
        let free = std::net::TcpListener::bind("0.0.0.0:0").expect("a free port");
        free.local_addr().expect("its address").port()
    };
    let any = format!("0.0.0.0:{port}");
    let outbound = Outbound::with(1, |builder| {
        builder.env("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", &any)
    })
    .await;
    let own = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    for (name, status) in [
        (own.to_string(), 508),
        (format!("127.1.2.3:{port}"), 508),
        // By name it is only known when it is dialled.
        (format!("localhost:{port}"), 502),
    ] {
        let uri = format!("http://{name}/");
        let answer = eventually::within("an answer", SOON, client::get(own, &uri)).await;
        assert_eq!(answer.status.as_u16(), status, "{name}: {answer:?}");
    }
    let counted = outbound.proxy.metric("outbound_http_errors_total", &[]);
    assert_eq!(counted, 3.0, "none went round");
}
