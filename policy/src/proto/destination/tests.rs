//! What is written can be read; what cannot be read says which field.

use super::*;

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    let owned = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
    owned.collect()
}

fn addr(s: &str) -> SocketAddr {
    s.parse().expect("an address")
}

fn add(addrs: Vec<wire::WeightedAddr>) -> wire::Update {
    wire::Update {
        update: Some(update::Update::Add(wire::WeightedAddrSet {
            addrs,
            metric_labels: labels(&[("service", "web"), ("namespace", "demo")]),
        })),
    }
}

#[test]
fn what_is_written_reads_the_same() {
    let mut meshed = Endpoint::bare(addr("10.0.0.1:80"));
    meshed.weight = 7;
    meshed.labels = Arc::new([("pod".to_owned(), "web-0".to_owned())].into());
    meshed.hint = ProtocolHint {
        protocol: HintedProtocol::H2,
        opaque_transport_port: Some(4143),
    };
    meshed.authority_override = Some("web.east".into());
    meshed.tls = Some(TlsIdentity {
        server_name: "sni.local".into(),
        identity: "web.demo".into(),
    });
    let mut uri = Endpoint::bare(addr("[2001:db8::1]:443"));
    uri.hint.protocol = HintedProtocol::Opaque;
    uri.tls = Some(TlsIdentity {
        server_name: "vm.local".into(),
        identity: "spiffe://td/vm".into(),
    });
    for endpoint in [meshed, uri, Endpoint::bare(addr("127.0.0.1:1"))] {
        assert_eq!(
            Endpoint::try_from(wire::WeightedAddr::from(&endpoint)),
            Ok(endpoint)
        );
    }
}

#[test]
fn labels_of_the_address_win_over_those_of_the_set() {
    let mut web = wire::WeightedAddr::from(&Endpoint::bare(addr("10.0.0.1:80")));
    web.metric_labels = labels(&[("pod", "web-0"), ("service", "mirror")]);
    let read = Read::<Change>::try_from(add(vec![web])).expect("readable");
    let Change::Add(endpoints) = read.value else {
        panic!("not an add");
    };
    let got: Vec<_> = endpoints[0].labels.iter().collect();
    let label = |k: &str, v: &str| (k.to_owned(), v.to_owned());
    let want = [
        label("namespace", "demo"),
        label("pod", "web-0"),
        label("service", "mirror"),
    ];
    assert_eq!(got, want.each_ref().map(|(k, v)| (k, v)));
}

#[test]
fn one_bad_address_does_not_cost_the_others() {
    let good = wire::WeightedAddr::from(&Endpoint::bare(addr("10.0.0.1:80")));
    let mut port = good.clone();
    port.addr.as_mut().expect("an address").port = 70_000;
    let mut tls = good.clone();
    tls.tls_identity = Some(wire::TlsIdentity::default());
    let read = Read::<Change>::try_from(add(vec![port.clone(), good, tls])).expect("readable");
    assert_eq!(
        read.ignored,
        [
            "add.addrs[0].addr.port: 70000 is not a port",
            "add.addrs[2].tls_identity: missing strategy",
        ]
    );
    assert!(matches!(read.value, Change::Add(them) if them.len() == 1));

    let error = Read::<Change>::try_from(add(vec![port])).expect_err("nothing usable");
    assert_eq!(
        error.to_string(),
        "add.addrs: none of 1 can be used, the first because add.addrs[0].addr.port: 70000 is \
         not a port"
    );
}

#[test]
fn other_changes() {
    let read = |update| Read::<Change>::try_from(wire::Update { update }).map(|read| read.value);
    let gone = wire::AddrSet {
        addrs: vec![addr("10.0.0.1:80").into()],
    };
    let removed = read(Some(update::Update::Remove(gone)));
    assert_eq!(removed, Ok(Change::Remove(vec![addr("10.0.0.1:80")])));
    let none = wire::NoEndpoints { exists: true };
    let none = read(Some(update::Update::NoEndpoints(none)));
    assert_eq!(none, Ok(Change::NoEndpoints { exists: true }));
    let empty = read(Some(update::Update::Add(wire::WeightedAddrSet::default())));
    assert_eq!(empty, Ok(Change::Add(vec![])));
    let unknown = read(None).expect_err("unreadable");
    assert_eq!(unknown.to_string(), "message: missing update");
}
