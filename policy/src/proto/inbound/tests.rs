//! What is written can be read; what cannot be read says which field.

use super::*;
use crate::{Meta, inbound::DefaultPolicy};
use std::time::Duration;

fn read(wire: wire::Server) -> Result<Read<ServerPolicy>, FieldError> {
    Read::try_from(wire)
}

fn cluster() -> Vec<IpNet> {
    vec![
        "10.0.0.0/8".parse().expect("a network"),
        "fd00::/8".parse().expect("a network"),
    ]
}

#[test]
fn what_is_written_reads_the_same() {
    let authenticated = Authorization {
        meta: Arc::new(Meta::Resource {
            group: "policy.linkerd.io".into(),
            kind: "authorizationpolicy".into(),
            namespace: "demo".into(),
            name: "web-only".into(),
            section: "".into(),
            port: None,
        }),
        networks: vec![Network {
            net: "10.0.0.0/8".parse().expect("a network"),
            except: vec!["10.1.0.0/16".parse().expect("a network")],
        }],
        authentication: Authentication::TlsAuthenticated {
            identities: vec!["web.demo".into()],
            suffixes: vec![vec!["prod".into(), "svc".into()], vec![]],
        },
    };
    let protocols = [
        Protocol::Detect {
            timeout: Duration::from_millis(1500),
        },
        Protocol::Http1,
        Protocol::Http2,
        Protocol::Grpc,
        Protocol::Opaque,
        Protocol::Tls,
    ];
    let mut policies: Vec<_> = DefaultPolicy::ALL
        .map(|policy| ServerPolicy::default_named(policy, &cluster(), false))
        .into();
    policies.extend(protocols.map(|protocol| ServerPolicy {
        meta: Meta::default_named("x"),
        protocol,
        authorizations: [authenticated.clone(), Authorization::loopback()].into(),
    }));
    for policy in policies {
        let back = read((&policy).into()).expect("readable");
        assert_eq!(back.ignored, Vec::<String>::new(), "{policy:?}");
        assert_eq!(back.value, policy);
    }
}

#[test]
fn a_refusal_names_the_field() {
    let change = |change: fn(&mut wire::Server)| {
        let policy = ServerPolicy::default_named(DefaultPolicy::AllAuthenticated, &[], false);
        let mut wire = wire::Server::from(&policy);
        change(&mut wire);
        read(wire).expect_err("unreadable").to_string()
    };
    assert_eq!(
        change(|server| server.protocol = None),
        "protocol: missing kind"
    );
    assert_eq!(
        change(|server| server.labels.clear()),
        "labels: missing name"
    );
    assert_eq!(
        change(|server| server.authorizations[0].authentication = None),
        "authorizations[0].authentication: missing permit"
    );
    assert_eq!(
        change(|server| {
            let net = server.authorizations[0].networks[1].net.as_mut();
            net.expect("a network").prefix_len = 129;
        }),
        "authorizations[0].networks[1].net.prefix_len: a prefix of 129 bits does not fit the address"
    );
    assert_eq!(
        change(|server| server.authorizations[0].networks[0].net = None),
        "authorizations[0].networks[0].net: missing network"
    );
    assert_eq!(
        change(|server| {
            server.authorizations[0].networks[0].except = vec![IpNetwork::default()];
        }),
        "authorizations[0].networks[0].except[0].ip: missing address"
    );
}

#[test]
fn routes_that_do_more_are_listed() {
    let policy = ServerPolicy::default_named(DefaultPolicy::Deny, &[], false);
    let mut wire = wire::Server::from(&policy);
    if let Some(wire::ProxyProtocol {
        kind: Some(Kind::Detect(detect)),
    }) = &mut wire.protocol
    {
        let mut probe = default_http_route();
        probe.authorizations = vec![wire::Authz::default()];
        detect.http_routes.insert(0, probe);
        detect.http_local_rate_limit = Some(wire::HttpLocalRateLimit::default());
    }
    let read = read(wire).expect("readable");
    assert_eq!(read.value, policy);
    assert_eq!(
        read.ignored,
        [
            "protocol.detect.http_routes[0]: authorizations",
            "protocol.detect: local rate limit",
        ]
    );
}

#[test]
fn an_authorization_without_metadata_goes_by_its_labels() {
    let policy = ServerPolicy::default_named(DefaultPolicy::Audit, &[], true);
    let mut wire = wire::Server::from(&policy);
    wire.authorizations[0].metadata = None;
    assert_eq!(read(wire).expect("readable").value, policy);
}
