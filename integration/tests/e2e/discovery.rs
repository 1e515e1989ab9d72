//! Following the control plane, and living without it.

use crate::rig::{Outbound, SOON, WEB, WEB_PORT, web};
use integration::{
    client::{self, Client},
    control::{
        Answers, ControlPlane,
        proto::{self, Policy},
    },
    eventually,
    load::Load,
    names::NameServer,
    proxy,
    server::Server,
    tcp::{self, Raw},
};
use linkerd2_proxy_api::destination::{DestinationProfile, WeightedAddr};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Answered within a second, with room for a machine that is busy with other tests.
const A_SECOND: Duration = Duration::from_millis(1500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_that_come_and_go_cost_no_request() {
    let outbound = Outbound::start(6).await;
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(1000)
        .connections(64)
        .start();
    let all = outbound.endpoints();
    let mut clock = tokio::time::interval(SECOND / 5);
    for round in 0..25 {
        clock.tick().await;
        // Three of six, a different three each time.
        let now: Vec<_> = (0..3)
            .map(|i| all[(round + i * 2 + round / 6) % 6])
            .collect();
        outbound.control.endpoints(WEB, &now);
    }
    let report = load.stop().await;
    report.assert_no_failure();
    assert!(
        report.ok > 500,
        "only {} while they came and went",
        report.ok
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_in_flight_outlives_its_endpoint() {
    let outbound = Outbound::start(1).await;
    let other = Server::start("other").await;
    let addr = outbound.addr();
    let slow = tokio::spawn(async move { client::get(addr, &web("/delay/1500")).await });
    eventually::holds("it is on its way", SOON, || async {
        outbound.replicas[0].requests() == 1
    })
    .await;
    outbound.control.endpoints(WEB, &[other.addr()]);
    eventually::holds("new ones go elsewhere", SOON, || async {
        client::get(addr, &web("/")).await.server() == "other"
    })
    .await;
    let answer = slow.await.expect("no panic");
    assert_eq!((answer.status.as_u16(), answer.server()), (200, "r0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_destinations_go_on_without_the_control_plane() {
    let mut outbound = Outbound::start(2).await;
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(100)
        .connections(8)
        .start();
    eventually::holds("load runs", SOON, || async { load.report().ok > 50 }).await;
    outbound.control.stop();
    // Old and new connections, longer than any cache of idle targets holds.
    for _ in 0..14 {
        tokio::time::sleep(SECOND / 2).await;
        let answer = client::get(outbound.addr(), &web("/")).await;
        assert_eq!(answer.status, 200);
    }
    load.stop().await.assert_no_failure();

    // Back, with news: in force within two seconds.
    let new = Server::start("new").await;
    outbound.control.endpoints(WEB, &[new.addr()]);
    outbound.control.listen();
    eventually::holds("the news is in force", SECOND * 3, || async {
        client::get(outbound.addr(), &web("/")).await.server() == "new"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_destination_is_still_known_without_the_control_plane() {
    let mut outbound = Outbound::start(1).await;
    assert_eq!(client::get(outbound.addr(), &web("/")).await.status, 200);
    outbound.control.stop();
    // Past the time after which an unused target is forgotten (5 s).
    tokio::time::sleep(SECOND * 8).await;
    let answer = client::get(outbound.addr(), &web("/")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_destination_is_answered_within_a_second_without_the_control_plane() {
    for away in [Answers::Never, Answers::Unavailable] {
        let outbound = Outbound::start(1).await;
        let app = Server::start("app").await;
        outbound.control.answers(away);
        let forward = outbound.proxy.outbound();
        // An address can be reached as it is.
        let uri = format!("http://{}/", app.addr());
        let by_address = client::get(forward, &uri);
        let answer = eventually::within("an answer", A_SECOND, by_address).await;
        assert_eq!(
            (answer.status.as_u16(), answer.server()),
            (200, "app"),
            "{away:?}"
        );
        // A name cannot, and the client is told.
        let by_name = client::get(forward, "http://never-seen.demo.svc.cluster.local/");
        let answer = eventually::within("an answer", A_SECOND, by_name).await;
        assert!(answer.status.is_server_error(), "{away:?}: {answer:?}");
        assert!(!answer.header("l5d-proxy-error").is_empty(), "{away:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_whose_endpoints_nobody_tells_is_answered_within_a_second() {
    let outbound = Outbound::start(1).await;
    outbound.control.withhold_endpoints(true);
    let uri = web("/");
    let request = client::get(outbound.addr(), &uri);
    let answer = eventually::within("an answer", A_SECOND, request).await;
    assert_eq!(answer.status, 504, "{answer:?}");
    let error = answer.header("l5d-proxy-error");
    assert!(
        error.contains("the control plane has not said where the endpoints are"),
        "{error}"
    );
    outbound.control.withhold_endpoints(false);
    eventually::holds("it serves", SOON, || async {
        client::get(outbound.addr(), &web("/")).await.status == 200
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_address_is_reached_as_it_is() {
    let outbound = Outbound::start(1).await;
    let app = Server::start("app").await;
    let answer = client::get(
        outbound.proxy.outbound(),
        &format!("http://{}/", app.addr()),
    )
    .await;
    assert_eq!((answer.status.as_u16(), answer.server()), (200, "app"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_only_dns_knows_is_followed_as_it_moves() {
    const NAME: &str = "http://www.example.test:8080/";
    let (old, new) = (Server::start("old").await, Server::start("new").await);
    let ip = |server: &Server| match server.addr().ip() {
        std::net::IpAddr::V4(ip) => ip,
        other => panic!("servers have IPv4 addresses: {other}"),
    };
    let names = match NameServer::start(&[ip(&old)]).await {
        Ok(names) => names,
        Err(why) => return eprintln!("skipped: {why}"),
    };
    let control = ControlPlane::start();
    let proxy = proxy::with(&control).binary(names.binary()).start();
    let answer = client::get(proxy.outbound(), NAME).await;
    assert_eq!((answer.status.as_u16(), answer.server()), (200, "old"));

    names.set(&[ip(&new)]);
    let moved = || async {
        let answer = client::get(proxy.outbound(), NAME).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.server() == "new"
    };
    eventually::holds("it has moved", SOON * 3, moved).await;

    // Without an answer, the last one stays in use.
    drop(names);
    let before = new.requests();
    let load = Load::http1(proxy.outbound(), NAME).rate(20);
    load.run(SECOND * 7).await.assert_no_failure();
    assert!(new.requests() > before + 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_answers_are_used_when_they_come() {
    let outbound = Outbound::start(1).await;
    outbound.control.answers(Answers::After(SECOND * 2));
    let load = Load::http1(outbound.addr(), &web("/")).rate(20).start();
    eventually::holds("it serves", SOON * 2, || async { load.report().ok > 20 }).await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropped_streams_come_back_without_leaks_or_failures() {
    let outbound = Outbound::start(2).await;
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(200)
        .connections(16)
        .start();
    eventually::holds("load runs", SOON, || async { load.report().ok > 50 }).await;
    let settled = outbound.control.streams();
    for _ in 0..10 {
        outbound.control.drop_streams();
        eventually::holds("streams are back", SOON * 3, || async {
            outbound.control.watchers(WEB) == 1
        })
        .await;
    }
    eventually::holds("as many streams as before", SOON, || async {
        outbound.control.streams() <= settled
    })
    .await;
    load.stop().await.assert_no_failure();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_update_keeps_the_last_good_state() {
    let outbound = Outbound::start(2).await;
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(200)
        .connections(16)
        .start();
    eventually::holds("load runs", SOON, || async { load.report().ok > 50 }).await;
    outbound.control.send(WEB, proto::malformed_add());
    outbound.control.send(
        WEB,
        linkerd2_proxy_api::destination::Update { update: None },
    );
    outbound.control.send_policy(WEB, proto::malformed_policy());
    let before = load.report().ok;
    eventually::holds("it goes on", SOON, || async {
        load.report().ok > before + 200
    })
    .await;
    load.stop().await.assert_no_failure();
    // The stream still works.
    let new = Server::start("new").await;
    outbound.control.endpoints(WEB, &[new.addr()]);
    eventually::holds("news is in force", SOON, || async {
        client::get(outbound.addr(), &web("/")).await.server() == "new"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_plane_that_lost_what_it_knew_takes_nothing_away() {
    let app = Server::start("app").await;
    let both = crate::rig::Both::start(app.addr());
    let [(_, outbound), (_, inbound)] = both.paths();
    let port = crate::rig::APP_PORT;
    both.control.inbound(port, proto::authenticated_port());
    eventually::holds("the policy is in force", SOON, || async {
        client::get(inbound, &web("/")).await.status == 403
    })
    .await;
    assert_eq!(client::get(outbound, &web("/")).await.status, 200);
    both.control.answers(Answers::NotFound);
    both.control.drop_streams();
    let asked = both.control.lookups().len();
    eventually::holds("it is asked again", SOON, || async {
        both.control.lookups().len() > asked + 6
    })
    .await;
    for _ in 0..5 {
        assert_eq!(client::get(outbound, &web("/")).await.status, 200);
        assert_eq!(client::get(inbound, &web("/")).await.status, 403);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_inbound_policy_keeps_the_last_good_state() {
    let app = Server::start("app").await;
    let both = crate::rig::Both::start(app.addr());
    let inbound = both.paths()[1].1;
    assert_eq!(client::get(inbound, &web("/")).await.status, 200);
    both.control
        .send_inbound(crate::rig::APP_PORT, proto::malformed_server());
    for _ in 0..20 {
        assert_eq!(client::get(inbound, &web("/")).await.status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_policy_moves_new_traffic() {
    const OTHER: &str = "other.demo.svc.cluster.local:80";
    let outbound = Outbound::start(1).await;
    let other = Server::start("other").await;
    outbound.control.service(OTHER, &[other.addr()]);
    let mut client = Client::http1(outbound.addr()).await;
    assert_eq!(client.send(client::request(&web("/"))).await.server(), "r0");
    outbound.control.policy(WEB, &Policy::new(OTHER));
    eventually::holds("new connections follow", SOON, || async {
        client::get(outbound.addr(), &web("/")).await.server() == "other"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_opaque_service_is_not_looked_into() {
    let echo = tcp::Server::echo().await;
    let outbound = Outbound::start(1).await;
    outbound.control.policy(WEB, &Policy::new(WEB).opaque());
    outbound.control.endpoints(WEB, &[echo.addr()]);
    // What looks like HTTP, and like an attack on HTTP, passes as it is.
    let bytes = "GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n";
    let mut raw = Raw::connect(outbound.proxy.port(WEB_PORT)).await;
    raw.send(bytes).await;
    raw.expect(bytes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_makes_a_port_opaque_whatever_the_policy_says() {
    let echo = tcp::Server::echo().await;
    let outbound = Outbound::start(1).await;
    outbound.control.endpoints(WEB, &[echo.addr()]);
    let bytes = "GET / HTTP/1.1\r\nhost: web\r\n\r\n";
    let mut raw = Raw::connect(outbound.proxy.port(WEB_PORT)).await;
    raw.send(bytes).await;
    assert_eq!(raw.answer().await.status, 502, "an echo is no answer");
    let opaque = DestinationProfile {
        opaque_protocol: true,
        ..Default::default()
    };
    outbound.control.profile(WEB, opaque);
    eventually::holds("it is not looked into any more", SOON, || async {
        let mut raw = Raw::connect(outbound.proxy.port(WEB_PORT)).await;
        raw.send(bytes).await;
        raw.take(4).await == b"GET "
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_the_endpoint_that_its_profile_says() {
    let app = Server::start("app").await;
    let outbound = Outbound::with(1, |b| {
        b.env("LINKERD2_PROXY_DESTINATION_PROFILE_NETWORKS", "127.0.0.0/8")
    })
    .await;
    let address = tcp::refusing();
    let profile = DestinationProfile {
        endpoint: Some(WeightedAddr {
            addr: Some(proto::tcp(app.addr())),
            weight: 10_000,
            ..Default::default()
        }),
        ..Default::default()
    };
    outbound.control.profile(&address.to_string(), profile);
    let uri = format!("http://{address}/");
    let answer = client::get(outbound.proxy.outbound(), &uri).await;
    assert_eq!((answer.status.as_u16(), answer.server()), (200, "app"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stream_serves_a_destination_however_many_connections() {
    let outbound = Outbound::with(1, |builder| builder.env("LINKERD2_PROXY_CORES", "2")).await;
    let load = Load::http1(outbound.addr(), &web("/"))
        .rate(200)
        .connections(32);
    load.run(SECOND).await.assert_no_failure();
    assert_eq!(outbound.control.watchers(WEB), 1);
    let lookups = outbound.control.lookups();
    let of_web = lookups
        .iter()
        .filter(|call| *call == &format!("Get {WEB}"))
        .count();
    assert_eq!(of_web, 1, "{lookups:?}");
}
