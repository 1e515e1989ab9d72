//! Tables of who is let in and who is not.

use super::*;
use crate::inbound::Protocol;

fn net(s: &str) -> IpNet {
    s.parse().expect("a network")
}

fn policy(authorizations: impl Into<Arc<[Authorization]>>) -> ServerPolicy {
    ServerPolicy {
        meta: Meta::default_named("test"),
        protocol: Protocol::Opaque,
        authorizations: authorizations.into(),
    }
}

fn grant(name: &str, networks: Vec<Network>, authentication: Authentication) -> Authorization {
    Authorization {
        meta: Meta::default_named(name),
        networks,
        authentication,
    }
}

fn identified(id: &str) -> ClientTls {
    ClientTls::Established {
        client_id: Some(id.into()),
    }
}

fn labels(suffix: &[&str]) -> Vec<Arc<str>> {
    suffix.iter().map(|&s| s.into()).collect()
}

#[test]
fn networks_and_their_exceptions() {
    let ten = Network {
        net: net("10.0.0.0/8"),
        except: vec![net("10.9.0.0/16"), net("10.1.1.1/32")],
    };
    let v6 = Network::from(net("2001:db8::/32"));
    let server = policy([grant("n", vec![ten, v6], Authentication::Unauthenticated)]);
    let table = [
        ("10.0.0.1", true),
        ("10.9.0.1", false),
        ("10.1.1.1", false),
        ("10.1.1.2", true),
        ("11.0.0.1", false),
        ("::ffff:10.0.0.1", true),
        ("::ffff:10.9.0.1", false),
        ("::ffff:11.0.0.1", false),
        ("2001:db8::7", true),
        ("2001:db9::7", false),
        ("127.0.0.1", false),
    ];
    for (client, want) in table {
        let got = authorize(
            &server,
            client.parse().expect("an address"),
            &ClientTls::None,
        );
        assert_eq!(got.is_ok(), want, "{client}");
    }
}

#[test]
fn what_has_to_be_proven() {
    let anywhere = || vec![Network::from(net("0.0.0.0/0"))];
    let named = Authentication::TlsAuthenticated {
        identities: vec!["web.demo".into(), "spiffe://td/api".into()],
        suffixes: vec![labels(&["prod", "svc"])],
    };
    let nobody = Authentication::TlsAuthenticated {
        identities: vec![],
        suffixes: vec![],
    };
    let anonymous = ClientTls::Established { client_id: None };
    let none = ClientTls::None;
    let table = [
        (Authentication::Unauthenticated, &none, true),
        (Authentication::Unauthenticated, &anonymous, true),
        (Authentication::TlsUnauthenticated, &none, false),
        (Authentication::TlsUnauthenticated, &anonymous, true),
        (Authentication::TlsUnauthenticated, &identified("x"), true),
        (Authentication::any_identity(), &none, false),
        (Authentication::any_identity(), &anonymous, false),
        (Authentication::any_identity(), &identified("x"), true),
        (
            Authentication::any_identity(),
            &identified("spiffe://td/x"),
            true,
        ),
        (nobody, &identified("x"), false),
        (named.clone(), &none, false),
        (named.clone(), &anonymous, false),
        (named.clone(), &identified("web.demo"), true),
        (named.clone(), &identified("web.demo."), false),
        (named.clone(), &identified("a.web.demo"), false),
        (named.clone(), &identified("spiffe://td/api"), true),
        (named.clone(), &identified("spiffe://td/api2"), false),
        (named.clone(), &identified("api.prod.svc"), true),
        (named.clone(), &identified("a.b.prod.svc"), true),
        (named.clone(), &identified("prod.svc"), false),
        (named.clone(), &identified(".prod.svc"), false),
        (named.clone(), &identified("api.evilprod.svc"), false),
        (named.clone(), &identified("evilprod.svc"), false),
        (
            named.clone(),
            &identified("spiffe://td/api.prod.svc"),
            false,
        ),
        (named, &identified(""), false),
    ];
    for (authentication, tls, want) in table {
        let server = policy([grant("a", anywhere(), authentication.clone())]);
        let got = authorize(&server, Ipv4Addr::new(192, 0, 2, 1).into(), tls);
        assert_eq!(got.is_ok(), want, "{authentication:?} {tls:?}");
    }
}

#[test]
fn the_permit_names_the_first_authorization_that_holds() {
    let wide = || vec![Network::from(net("0.0.0.0/0"))];
    let server = policy([
        grant("no-network", vec![], Authentication::Unauthenticated),
        grant("tls", wide(), Authentication::TlsUnauthenticated),
        grant("open", wide(), Authentication::Unauthenticated),
        grant("later", wide(), Authentication::Unauthenticated),
    ]);
    let client = Ipv4Addr::new(192, 0, 2, 1).into();
    let permit = authorize(&server, client, &ClientTls::None).expect("open");
    assert_eq!(permit.authorization().name(), "open");
    let permit = authorize(&server, client, &identified("x")).expect("tls");
    assert_eq!(permit.authorization().name(), "tls");
}

#[test]
fn a_denial_names_the_client_and_the_server() {
    let client = "::ffff:192.0.2.1".parse().expect("an address");
    let deny = authorize(&policy([]), client, &ClientTls::None).expect_err("nobody");
    assert_eq!(
        deny.to_string(),
        "client 192.0.2.1 is not authorized by server test"
    );
}

#[test]
fn loopback_is_two_addresses_and_not_a_network() {
    let server = policy([Authorization::loopback()]);
    let table = [
        ("127.0.0.1", true),
        ("::1", true),
        ("::ffff:127.0.0.1", true),
        ("127.0.0.2", false),
        ("127.64.0.3", false),
        ("::2", false),
    ];
    for (client, want) in table {
        let got = authorize(
            &server,
            client.parse().expect("an address"),
            &ClientTls::None,
        );
        assert_eq!(got.is_ok(), want, "{client}");
    }
}
