//! Looking up names, against a name server of the test.

use super::*;
use hickory_resolver::{
    config::NameServerConfig,
    proto::{
        op::{Message, ResponseCode},
        rr::{
            Name, Record,
            rdata::{A, AAAA, SRV},
        },
    },
};
use tokio::net::UdpSocket;

const SERVICE: &str = "dst.mesh.svc.cluster.local";
const TTL: u32 = 30;

/// A resolver whose only name server knows these records, and no other name.
async fn resolver(records: &'static [(&str, RData)]) -> Resolver {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((n, client)) = socket.recv_from(&mut query).await {
            let answer = answer(&query[..n], records);
            socket.send_to(&answer, client).await.unwrap();
        }
    });
    let mut server = NameServerConfig::udp([127, 0, 0, 1].into());
    server.connections[0].port = port;
    let config = ResolverConfig::from_parts(None, vec![], vec![server]);
    let inner = TokioResolver::builder_with_config(config, Default::default());
    Resolver {
        inner: Arc::new(inner.build().unwrap()),
        ttl: (None, None),
    }
}

fn answer(query: &[u8], records: &[(&str, RData)]) -> Vec<u8> {
    let mut message = Message::from_vec(query).unwrap().into_response();
    let asked = message.queries[0].clone();
    let name = asked.name().to_ascii();
    let of_name = records
        .iter()
        .filter(|(n, _)| *n == name.trim_end_matches('.'));
    if of_name.clone().count() == 0 {
        message.metadata.response_code = ResponseCode::NXDomain;
    }
    let wanted = of_name.filter(|(_, data)| data.record_type() == asked.query_type());
    for (_, data) in wanted {
        let record = Record::from_rdata(asked.name().clone(), TTL, data.clone());
        message.add_answer(record);
    }
    message.to_vec().unwrap()
}

fn srv(port: u16, target: &str) -> RData {
    RData::SRV(SRV::new(0, 0, port, Name::from_ascii(target).unwrap()))
}

fn records(records: Vec<(&'static str, RData)>) -> &'static [(&'static str, RData)] {
    Vec::leak(records)
}

fn v4(last: u8) -> RData {
    RData::A(A::new(10, 0, 0, last))
}

async fn resolved(resolver: &Resolver) -> Vec<String> {
    let target = Target::parse(&format!("{SERVICE}:8086")).unwrap();
    let answer = resolver.resolve_service(&target).await.unwrap();
    assert!(answer.ttl <= Duration::from_secs(TTL.into()));
    let mut addrs: Vec<_> = answer.addrs.iter().map(ToString::to_string).collect();
    addrs.sort();
    addrs
}

#[tokio::test]
async fn a_service_is_found_by_the_replicas_its_srv_records_name() {
    let resolver = resolver(records(vec![
        (SERVICE, srv(8086, "10-0-0-1.dst.mesh.svc.cluster.local.")),
        (SERVICE, srv(9086, "dst-1.dst.mesh.svc.cluster.local.")),
        ("dst-1.dst.mesh.svc.cluster.local", v4(2)),
        (SERVICE, v4(9)),
    ]))
    .await;
    assert_eq!(
        resolved(&resolver).await,
        ["10.0.0.1:8086", "10.0.0.2:9086"]
    );
}

#[tokio::test]
async fn a_service_without_srv_records_is_found_by_its_addresses() {
    let resolver = resolver(records(vec![(SERVICE, v4(1)), (SERVICE, v4(2))])).await;
    assert_eq!(
        resolved(&resolver).await,
        ["10.0.0.1:8086", "10.0.0.2:8086"]
    );
}

#[tokio::test]
async fn a_service_may_have_addresses_of_ipv6_only() {
    let v6 = RData::AAAA(AAAA("fd00::1".parse().unwrap()));
    let resolver = resolver(records(vec![(SERVICE, v6)])).await;
    assert_eq!(resolved(&resolver).await, ["[fd00::1]:8086"]);
}

#[tokio::test]
async fn a_name_that_nobody_knows_is_an_error_that_names_it() {
    let resolver = resolver(&[]).await;
    let error = resolver.resolve("nowhere.example", 80).await.unwrap_err();
    assert!(error.to_string().contains("nowhere.example"), "{error}");
}

#[test]
fn pod_addresses_are_read_from_srv_targets() {
    assert_eq!(
        pod_ip("10-1-2-3.dst.l5d.svc.cluster.local."),
        "10.1.2.3".parse().ok()
    );
    assert_eq!(pod_ip("fd00--1.dst."), "fd00::1".parse().ok());
    assert_eq!(pod_ip("pod-0.dst."), None);
}

#[test]
fn answers_are_used_for_as_long_as_they_hold_within_bounds() {
    let secs = |n| Some(Duration::from_secs(n));
    for (ttl, bounds, want) in [
        (60, (None, None), 60),
        (1, (None, None), 5),
        (1, (None, secs(2)), 5),
        (60, (secs(120), None), 120),
        (600, (None, secs(90)), 90),
        (600, (secs(120), secs(90)), 90),
    ] {
        let used = clamp(Duration::from_secs(ttl), bounds);
        assert_eq!(Some(used), secs(want), "{ttl} s within {bounds:?}");
    }
}
