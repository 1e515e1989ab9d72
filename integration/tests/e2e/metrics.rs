//! Metrics under Linkerd's names, with its labels, and true values.

use crate::rig::{Both, Outbound, SOON, WEB, web};
use integration::{client, eventually, scrape::Metrics, server::Server, tcp};

async fn asked(outbound: &Outbound, path: &str, times: usize) {
    let mut client = client::Client::http1(outbound.addr()).await;
    for _ in 0..times {
        client.send(client::request(&web(path))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outbound_requests_and_responses_are_counted() {
    let outbound = Outbound::start(1).await;
    asked(&outbound, "/", 7).await;
    asked(&outbound, "/status/503", 2).await;
    let ip = outbound.replicas[0].addr().ip().to_string();
    let base = [
        ("direction", "outbound"),
        ("authority", WEB),
        ("target_ip", ip.as_str()),
        ("target_port", "8080"),
        ("dst_service", "web"),
        ("dst_namespace", "demo"),
        ("dst_pod", "pod-8080"),
        ("tls", "no_identity"),
        ("no_tls_reason", "not_provided_by_service_discovery"),
    ];
    eventually::holds("all are counted", SOON, || async {
        outbound.proxy.metric("response_total", &base) == 9.0
    })
    .await;
    let metrics = outbound.proxy.metrics();
    assert_eq!(metrics.sum("request_total", &base), 9.0);
    let with = |extra: &[(&'static str, &'static str)]| [&base[..], extra].concat();
    let ok = with(&[("status_code", "200"), ("classification", "success")]);
    let failed = with(&[("status_code", "503"), ("classification", "failure")]);
    assert_eq!(metrics.sum("response_total", &ok), 7.0);
    assert_eq!(metrics.sum("response_total", &failed), 2.0);
    assert_eq!(metrics.sum("response_latency_ms_count", &base), 9.0);
    assert_eq!(
        metrics.sum("response_latency_ms_bucket", &with(&[("le", "+Inf")])),
        9.0
    );
    let buckets = metrics.find(
        "response_latency_ms_bucket",
        &with(&[("status_code", "200")]),
    );
    assert_eq!(buckets.len(), 26, "Linkerd's buckets");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inbound_requests_and_responses_are_counted() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    let inbound = both.paths()[1].1;
    for _ in 0..5 {
        client::get(inbound, &web("/")).await;
    }
    let base = [
        ("direction", "inbound"),
        ("target_port", "8081"),
        ("srv_name", "all-unauthenticated"),
    ];
    eventually::holds("all are counted", SOON, || async {
        both.proxy.metric("response_total", &base) == 5.0
    })
    .await;
    let metrics = both.proxy.metrics();
    assert_eq!(metrics.sum("request_total", &base), 5.0);
    assert_eq!(metrics.sum("response_latency_ms_count", &base), 5.0);
    let allowed = [
        ("target_port", "8081"),
        ("authz_name", "all-unauthenticated"),
    ];
    assert_eq!(metrics.sum("inbound_http_authz_allow_total", &allowed), 5.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grpc_calls_are_classified_by_their_status() {
    let server = Server::start("app").await;
    let both = Both::start(server.addr());
    let mut client = client::Client::http2(both.paths()[0].1).await;
    for code in ["0", "0", "14"] {
        let mut call = client::grpc(&web("/echo.Echo/Unary"), client::empty());
        let value = http::HeaderValue::from_str(code).expect("digits");
        call.headers_mut().insert("x-answer-status", value);
        client.send(call).await;
    }
    let count = |class| {
        both.proxy.metric(
            "response_total",
            &[("direction", "outbound"), ("classification", class)],
        )
    };
    eventually::holds("all are counted", SOON, || async {
        count("success") == 2.0 && count("failure") == 1.0
    })
    .await;
    let failed = [("direction", "outbound"), ("grpc_status", "14")];
    assert_eq!(both.proxy.metric("response_total", &failed), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp_connections_and_bytes_are_counted() {
    let server = tcp::Server::echo().await;
    let both = Both::start(server.addr());
    for (direction, addr) in both.paths() {
        let mut raw = tcp::Raw::connect(addr).await;
        raw.send("\x01hello").await;
        raw.expect("\x01hello").await;
        let open = |peer| {
            both.proxy.metric(
                "tcp_open_connections",
                &[("direction", direction), ("peer", peer)],
            )
        };
        assert_eq!((open("src"), open("dst")), (1.0, 1.0), "{direction}");
        raw.finish_sending().await;
        raw.expect_end().await;
        eventually::holds("it is counted as closed", SOON, || async {
            open("src") == 0.0 && open("dst") == 0.0
        })
        .await;
        let metrics = both.proxy.metrics();
        let labels = [("direction", direction), ("peer", "src")];
        assert_eq!(metrics.sum("tcp_open_total", &labels), 1.0, "{direction}");
        assert_eq!(metrics.sum("tcp_close_total", &labels), 1.0, "{direction}");
        assert_eq!(
            metrics.sum("tcp_read_bytes_total", &labels),
            6.0,
            "{direction}"
        );
        assert_eq!(
            metrics.sum("tcp_write_bytes_total", &labels),
            6.0,
            "{direction}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn routes_and_backends_are_counted() {
    let outbound = Outbound::start(1).await;
    asked(&outbound, "/", 4).await;
    let parent = [
        ("parent_group", "core"),
        ("parent_kind", "Service"),
        ("parent_namespace", "demo"),
        ("parent_name", "web"),
        ("parent_port", "80"),
    ];
    let count = |name: &str, extra: &[(&str, &str)]| {
        outbound.proxy.metric(name, &[&parent[..], extra].concat())
    };
    eventually::holds("all are counted", SOON, || async {
        count(
            "outbound_http_route_request_statuses_total",
            &[("http_status", "200")],
        ) == 4.0
    })
    .await;
    let backend = [("backend_kind", "Service"), ("backend_name", "web")];
    assert_eq!(
        count("outbound_http_route_backend_requests_total", &backend),
        4.0
    );
    assert_eq!(
        count(
            "outbound_http_route_backend_response_statuses_total",
            &backend
        ),
        4.0
    );
    assert_eq!(
        count("outbound_http_route_request_duration_seconds_count", &[]),
        4.0
    );
    assert_eq!(
        count(
            "outbound_http_route_backend_response_duration_seconds_count",
            &backend
        ),
        4.0
    );
    let ready = [("endpoint_state", "ready")];
    assert_eq!(count("outbound_http_balancer_endpoints", &ready), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_connections_speak_is_counted() {
    let outbound = Outbound::start(1).await;
    asked(&outbound, "/", 3).await;
    let mut http2 = client::Client::http2(outbound.addr()).await;
    http2.send(client::request(&web("/"))).await;
    let mut raw = tcp::Raw::connect(outbound.addr()).await;
    raw.send("\x01hello").await;
    let count = |name: &str, extra: (&'static str, &'static str)| {
        let labels = [("parent_name", "web"), ("parent_port", "80"), extra];
        outbound.proxy.metric(name, &labels)
    };
    let results = "outbound_tcp_detect_http_results_total";
    eventually::holds("all are counted", SOON, || async {
        ["http/1", "http/2", "not_http"]
            .iter()
            .all(|result| count(results, ("result", result)) == 1.0)
    })
    .await;
    let within = "outbound_tcp_detect_http_duration_seconds_bucket";
    assert_eq!(count(within, ("le", "+Inf")), 3.0);
    let protocols = "outbound_tcp_protocol_connections_total";
    assert_eq!(count(protocols, ("protocol", "http/1")), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_balancer_does_is_counted() {
    let outbound = Outbound::start(2).await;
    asked(&outbound, "/", 4).await;
    let count = |name: &str, extra: &[(&str, &str)]| {
        let name = format!("outbound_http_balancer_{name}");
        let labels = [("parent_name", "web"), ("backend_name", "web")];
        outbound.proxy.metric(&name, &[&labels[..], extra].concat())
    };
    assert_eq!(count("p2c_endpoints", &[]), 2.0);
    assert_eq!(count("p2c_updates_total", &[("op", "Reset")]), 1.0);
    // Only the first one had to wait: for the endpoints.
    assert_eq!(count("queue_requests_total", &[]), 1.0);
    assert_eq!(count("queue_latency_seconds_count", &[]), 1.0);

    outbound
        .control
        .endpoints(WEB, &[outbound.replicas[0].addr()]);
    eventually::holds("one is gone", SOON, || async {
        count("p2c_endpoints", &[]) == 1.0
    })
    .await;
    assert_eq!(count("p2c_updates_total", &[("op", "Remove")]), 1.0);

    outbound.replicas[0].kill();
    let answer = client::get(outbound.addr(), &web("/")).await;
    assert!(answer.status.is_server_error(), "{answer:?}");
    let answer = client::get(outbound.addr(), &web("/")).await;
    assert_eq!(answer.status, 504, "{answer:?}");
    assert_eq!(count("queue_gate_shut_total", &[]), 1.0);
    outbound.replicas[0].listen().await;
    eventually::holds("it serves again", SOON * 2, || async {
        client::get(outbound.addr(), &web("/")).await.status == 200
    })
    .await;
    assert_eq!(count("queue_gate_open_total", &[]), 1.0);
    assert_eq!(count("queue_length", &[]), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_counted_by_kind() {
    let outbound = Outbound::start(1).await;
    let uri = format!("http://{}/", tcp::refusing());
    client::get(outbound.proxy.outbound(), &uri).await;
    eventually::holds("it is counted", SOON, || async {
        outbound
            .proxy
            .metric("outbound_http_errors_total", &[("error", "i/o")])
            == 1.0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_process_and_the_build_describe_themselves() {
    let outbound = Outbound::start(1).await;
    let metrics = outbound.proxy.metrics();
    assert_eq!(metrics.sum("proxy_build_info", &[]), 1.0);
    let rss = metrics.sum("process_resident_memory_bytes", &[]) / 1024.0;
    let actual = outbound.proxy.rss_kib() as f64;
    assert!(
        (rss - actual).abs() < actual / 4.0,
        "{rss} KiB told, {actual} KiB seen"
    );
    for name in [
        "process_start_time_seconds",
        "process_open_fds",
        "process_threads",
    ] {
        assert!(metrics.sum(name, &[]) > 0.0, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_of_vanished_endpoints_leave_the_page() {
    let outbound = Outbound::with(2, |builder| {
        builder.env("LINKERD2_PROXY_METRICS_RETAIN_IDLE", "1s")
    })
    .await;
    asked(&outbound, "/", 20).await;
    let of = |metrics: &Metrics, n: usize| {
        let ip = outbound.replicas[n].addr().ip().to_string();
        metrics.find("request_total", &[("target_ip", &ip)]).len()
    };
    let page = outbound.proxy.metrics();
    assert_eq!((of(&page, 0), of(&page, 1)), (1, 1));
    outbound
        .control
        .endpoints(WEB, &[outbound.replicas[1].addr()]);
    eventually::holds("the one is gone and the other stays", SOON * 4, || async {
        client::get(outbound.addr(), &web("/")).await;
        let page = outbound.proxy.metrics();
        of(&page, 0) == 0 && of(&page, 1) == 1
    })
    .await;
}
