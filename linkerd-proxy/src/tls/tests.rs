//! Real handshakes over loopback sockets.

use super::{
    testing::{Authority, DAY, Hands, handshakes, peer, shake, sockets, sockets_at},
    *,
};
use mesh_policy::endpoint::TlsIdentity;
use rustls::HandshakeKind;
use std::time::{Duration, SystemTime};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

const WEB: &str = "web.demo.serviceaccount.identity.gossamer.cluster.local";
const API: &str = "api.demo.serviceaccount.identity.gossamer.cluster.local";

/// A mesh of two workloads that trust the same root.
struct Mesh {
    hands: Hands,
    root: Authority,
    web: Credentials,
    api: Credentials,
}

impl Mesh {
    fn new() -> Self {
        let (hands, root) = (Hands::new(), Authority::new("root"));
        let issuer = root.subordinate("issuer");
        let credentials = |name| issuer.credentials(name, &root.roots(), &hands);
        Self {
            web: credentials(WEB),
            api: credentials(API),
            hands,
            root,
        }
    }

    fn day(&self) -> (SystemTime, SystemTime) {
        (self.hands.now() - DAY / 2, self.hands.now() + DAY / 2)
    }
}

fn kind(stream: &Stream) -> HandshakeKind {
    stream.get_ref().1.handshake_kind().unwrap()
}

/// A handshake, and then a byte each way, so that the client has the server's ticket.
async fn visit(client: &Credentials, server: &Credentials, to: &TlsIdentity) -> HandshakeKind {
    let (connected, accepted) = shake(client, server, to).await;
    let (mut client, mut server) = (connected.unwrap().stream, accepted.unwrap().stream);
    server.write_all(b"s").await.unwrap();
    client.read_u8().await.unwrap();
    kind(&client)
}

#[tokio::test]
async fn both_sides_prove_who_they_are() {
    let mesh = Mesh::new();
    let (connected, accepted) = shake(&mesh.web, &mesh.api, &peer(API)).await;
    let (connected, accepted) = (connected.unwrap(), accepted.unwrap());
    assert_eq!(accepted.client_id.as_deref(), Some(WEB));
    assert!(!connected.transport_header && !accepted.transport_header);
    let agreed = agreed(connected.stream.get_ref().1);
    assert_eq!(agreed.group, "X25519MLKEM768");
    assert!(!agreed.resumed);
    let (mut client, mut server) = (connected.stream, accepted.stream);
    client.write_all(b"hello").await.unwrap();
    let mut buf = [0; 5];
    server.read_exact(&mut buf).await.unwrap();
    assert_eq!(&buf, b"hello");
}

#[tokio::test]
async fn the_transport_header_is_agreed_on_by_alpn() {
    let mesh = Mesh::new();
    let (c, s) = sockets().await;
    let to = peer(API);
    let (c, s) = tokio::join!(mesh.web.connect(c, &to, true), mesh.api.accept(s));
    assert!(c.unwrap().transport_header && s.unwrap().transport_header);
}

#[tokio::test]
async fn the_server_name_may_differ_from_the_identity() {
    let mesh = Mesh::new();
    let to = TlsIdentity {
        server_name: "another.name".into(),
        identity: API.to_uppercase().into(),
    };
    assert!(shake(&mesh.web, &mesh.api, &to).await.0.is_ok());
}

#[tokio::test]
async fn uris_are_identities_too() {
    let mesh = Mesh::new();
    let uri = "spiffe://mesh/ns/demo/sa/vm";
    let vm = mesh.root.credentials(uri, &mesh.root.roots(), &mesh.hands);
    let to = TlsIdentity {
        server_name: "vm.demo".into(),
        identity: uri.into(),
    };
    let (connected, _) = shake(&mesh.web, &vm, &to).await;
    assert!(connected.is_ok());
    let (_, accepted) = shake(&vm, &mesh.api, &peer(API)).await;
    assert_eq!(accepted.unwrap().client_id.as_deref(), Some(uri));
}

#[tokio::test]
async fn somebody_else_is_refused() {
    let mesh = Mesh::new();
    let to = TlsIdentity {
        server_name: API.into(),
        identity: "db.demo".into(),
    };
    let Err(error) = shake(&mesh.web, &mesh.api, &to).await.0 else {
        panic!("connected to somebody else");
    };
    assert_eq!(error.reason(), "identity_mismatch");
    let text = error.to_string();
    assert!(text.contains(API) && text.contains("db.demo"), "{text}");
}

#[tokio::test]
async fn a_client_without_a_certificate_is_served_and_has_no_name() {
    let mesh = Mesh::new();
    let clock = mesh.hands.clock();
    let client = Client::anonymous(&mesh.root.roots(), &clock, &handshakes()).unwrap();
    let (c, s) = sockets().await;
    let to = peer(API);
    let (c, s) = tokio::join!(client.connect(c, &to, false), mesh.api.accept(s));
    assert!(c.is_ok());
    assert_eq!(s.unwrap().client_id, None);
}

/// How a server with such a certificate is refused, and how such a client is.
async fn refusals(mesh: &Mesh, other: &Credentials) -> (&'static str, &'static str) {
    let connected = shake(&mesh.web, other, &peer(API)).await.0;
    let accepted = shake(other, &mesh.web, &peer(WEB)).await.1;
    let server = connected.err().map_or("taken", |e| e.reason());
    (server, accepted.err().map_or("taken", |e| e.reason()))
}

#[tokio::test]
async fn a_foreign_root_is_refused() {
    let mesh = Mesh::new();
    let foreign = Authority::new("root");
    let other = foreign.credentials(API, &mesh.root.roots(), &mesh.hands);
    let refusals = refusals(&mesh, &other).await;
    assert_eq!(refusals, ("unknown_issuer", "unknown_issuer"));
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_refused() {
    let mesh = Mesh::new();
    // A peer whose clock stands still does not know.
    let behind = Hands::new();
    let (roots, (from, to)) = (mesh.root.roots(), mesh.day());
    let credentials = |name, to, hands| mesh.root.credentials_for(name, (from, to), &roots, hands);
    let other = credentials(API, to, &behind);
    let mesh = Mesh {
        web: credentials(WEB, to + DAY, &mesh.hands),
        ..mesh
    };
    assert_eq!(refusals(&mesh, &other).await, ("taken", "taken"));
    mesh.hands.advance(DAY / 2 + Duration::from_secs(1));
    assert_eq!(refusals(&mesh, &other).await, ("expired", "expired"));
}

#[tokio::test]
async fn a_certificate_that_has_not_begun_is_refused_with_both_times() {
    let mesh = Mesh::new();
    let (from, to) = mesh.day();
    let other =
        mesh.root
            .credentials_for(API, (from + DAY, to + DAY), &mesh.root.roots(), &mesh.hands);
    assert_eq!(
        refusals(&mesh, &other).await,
        ("not_yet_valid", "not_yet_valid")
    );
    let error = shake(&mesh.web, &other, &peer(API)).await.0.err().unwrap();
    let (begins, now) = (rfc3339(from + DAY), rfc3339(mesh.hands.now()));
    let text = error.to_string();
    assert!(text.contains(&begins) && text.contains(&now), "{text}");
}

#[tokio::test]
async fn our_own_end_is_told_before_the_peer_does() {
    let mesh = Mesh::new();
    mesh.hands.advance(DAY);
    assert!(mesh.web.has_expired());
    let error = shake(&mesh.web, &mesh.api, &peer(API)).await.0.err();
    assert_eq!(error.unwrap().reason(), "own_certificate_expired");
}

/// A ClientHello of TLS 1.2: no `supported_versions` (RFC 8446, section 4.2.1).
fn tls12_hello() -> Vec<u8> {
    let ecdhe_ecdsa_aes128_gcm = [0, 2, 0xc0, 0x2b];
    let signature_algorithms = [0, 13, 0, 4, 0, 2, 4, 3];
    let groups = [0, 10, 0, 4, 0, 2, 0, 23];
    let extensions = [signature_algorithms, groups].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &ecdhe_ecdsa_aes128_gcm,
        &[1, 0],
        &[0, extensions.len() as u8],
        &extensions,
    ]
    .concat();
    let message = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    [&[22, 3, 1, 0, message.len() as u8][..], &message].concat()
}

#[tokio::test]
async fn older_versions_are_refused() {
    let mesh = Mesh::new();
    let (mut c, s) = sockets().await;
    c.write_all(&tls12_hello()).await.unwrap();
    let error = mesh.api.accept(s).await.err().unwrap();
    assert_eq!(error.reason(), "protocol_version", "{error}");
    // The client is told: alert 70, RFC 8446, section 6.
    let mut alert = [0; 7];
    c.read_exact(&mut alert).await.unwrap();
    assert_eq!((alert[0], alert[6]), (21, 70));
}

#[tokio::test]
async fn what_is_not_tls_and_what_breaks_off_are_told_apart() {
    let mesh = Mesh::new();
    let (mut c, s) = sockets().await;
    c.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(mesh.api.accept(s).await.err().unwrap().reason(), "protocol");
    let (c, s) = sockets().await;
    drop(c);
    assert_eq!(mesh.api.accept(s).await.err().unwrap().reason(), "io");
}

#[tokio::test]
async fn a_peer_known_already_is_resumed_and_still_proves_itself() {
    let mesh = Mesh::new();
    let to = peer(API);
    assert_eq!(visit(&mesh.web, &mesh.api, &to).await, HandshakeKind::Full);
    let (connected, accepted) = shake(&mesh.web, &mesh.api, &to).await;
    let accepted = accepted.unwrap();
    assert_eq!(kind(&connected.unwrap().stream), HandshakeKind::Resumed);
    assert_eq!(kind(&accepted.stream), HandshakeKind::Resumed);
    assert_eq!(accepted.client_id.as_deref(), Some(WEB));
}

#[tokio::test]
async fn replicas_of_one_name_have_sessions_of_their_own() {
    let mesh = Mesh::new();
    let (roots, to) = (mesh.root.roots(), peer(API));
    let mut replicas = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        replicas.push((listener, mesh.root.credentials(API, &roots, &mesh.hands)));
    }
    for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
        for (listener, api) in &replicas {
            let (c, s) = sockets_at(listener).await;
            let (c, s) = tokio::join!(mesh.web.connect(c, &to, true), api.accept(s));
            let (mut c, mut s) = (c.unwrap().stream, s.unwrap().stream);
            assert_eq!(kind(&c), expected);
            s.write_all(b"s").await.unwrap();
            c.read_u8().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_ticket_is_used_once() {
    let mesh = Mesh::new();
    let to = peer(API);
    visit(&mesh.web, &mesh.api, &to).await;
    let first = shake(&mesh.web, &mesh.api, &to).await.0.unwrap();
    let second = shake(&mesh.web, &mesh.api, &to).await.0.unwrap();
    assert_eq!(kind(&first.stream), HandshakeKind::Resumed);
    assert_eq!(kind(&second.stream), HandshakeKind::Full);
}

#[tokio::test]
async fn a_rotation_of_either_side_ends_its_sessions() {
    let mut mesh = Mesh::new();
    let to = peer(API);
    let roots = mesh.root.roots();
    visit(&mesh.web, &mesh.api, &to).await;
    mesh.api = mesh.root.credentials(API, &roots, &mesh.hands);
    assert_eq!(visit(&mesh.web, &mesh.api, &to).await, HandshakeKind::Full);
    mesh.web = mesh.root.credentials(WEB, &roots, &mesh.hands);
    assert_eq!(visit(&mesh.web, &mesh.api, &to).await, HandshakeKind::Full);
    assert_eq!(
        visit(&mesh.web, &mesh.api, &to).await,
        HandshakeKind::Resumed
    );
}

#[tokio::test]
async fn a_resumed_session_does_not_outlive_the_servers_certificate() {
    let mesh = Mesh::new();
    let (from, to) = mesh.day();
    let short = (from, mesh.hands.now() + Duration::from_secs(60));
    let (roots, hands) = (mesh.root.roots(), &mesh.hands);
    let api = mesh.root.credentials_for(API, short, &roots, hands);
    let web = mesh.root.credentials_for(WEB, (from, to), &roots, hands);
    visit(&web, &api, &peer(API)).await;
    hands.advance(Duration::from_secs(62));
    let error = shake(&web, &api, &peer(API)).await.0.err().unwrap();
    assert_eq!(error.reason(), "expired");
}

#[tokio::test]
async fn a_resumed_session_does_not_outlive_the_clients_certificate() {
    let mesh = Mesh::new();
    let (from, to) = mesh.day();
    let short = (from, mesh.hands.now() + Duration::from_secs(60));
    let roots = mesh.root.roots();
    // A client whose clock stands still does not know.
    let web = mesh.root.credentials_for(WEB, short, &roots, &Hands::new());
    let api = mesh
        .root
        .credentials_for(API, (from, to), &roots, &mesh.hands);
    visit(&web, &api, &peer(API)).await;
    mesh.hands.advance(Duration::from_secs(62));
    let error = shake(&web, &api, &peer(API)).await.1.err().unwrap();
    assert_eq!(error.reason(), "expired");
}

#[tokio::test]
async fn a_resumed_session_is_held_to_the_identity_that_is_wanted_now() {
    let mesh = Mesh::new();
    visit(&mesh.web, &mesh.api, &peer(API)).await;
    let other = TlsIdentity {
        server_name: API.into(),
        identity: "db.demo".into(),
    };
    let error = shake(&mesh.web, &mesh.api, &other).await.0.err().unwrap();
    assert_eq!(error.reason(), "identity_mismatch");
}

#[tokio::test]
async fn roots_are_rotated_with_an_overlap() {
    let (hands, old, new) = (Hands::new(), Authority::new("old"), Authority::new("new"));
    let both = Roots::from_ders(vec![old.der(), new.der()]).unwrap();
    let steps = [
        (old.credentials(WEB, &old.roots(), &hands), "before"),
        (old.credentials(WEB, &both, &hands), "both are trusted"),
        (new.credentials(WEB, &both, &hands), "the new one signs"),
        (new.credentials(WEB, &new.roots(), &hands), "after"),
    ];
    // Whoever is a step ahead or behind is still understood.
    for (i, (a, before)) in steps.iter().enumerate() {
        for (b, after) in &steps[i..(i + 2).min(steps.len())] {
            for (client, server) in [(a, b), (b, a)] {
                let (connected, accepted) = shake(client, server, &peer(WEB)).await;
                assert!(connected.is_ok(), "{before} - {after}");
                assert!(accepted.is_ok(), "{before} - {after}");
            }
        }
    }
    let (connected, _) = shake(&steps[0].0, &steps[3].0, &peer(WEB)).await;
    assert_eq!(connected.err().unwrap().reason(), "unknown_issuer");
}

#[test]
fn a_certificate_is_checked_before_it_is_used() {
    let mesh = Mesh::new();
    let (hands, roots) = (&mesh.hands, mesh.root.roots());
    let certificate = mesh.root.subordinate("issuer").certificate(WEB, mesh.day());
    assert!(certificate.check(&roots, &hands.clock()).is_ok());
    let foreign = Authority::new("root").roots();
    let error = certificate.check(&foreign, &hands.clock()).unwrap_err();
    assert_eq!(error.reason(), "unknown_issuer");
    hands.advance(DAY);
    let error = certificate.check(&roots, &hands.clock()).unwrap_err();
    assert_eq!(error.reason(), "expired");
}

#[test]
fn a_certificate_for_another_name_or_key_is_refused() {
    let mesh = Mesh::new();
    let key = || rcgen::KeyPair::generate().unwrap();
    let (mine, other) = (key(), key());
    let der = rustls_pki_types::PrivateKeyDer::Pkcs8(mine.serialize_der().into());
    let take = |name: &str, key: &rcgen::KeyPair| {
        let chain = mesh.root.sign(API, mesh.day(), key);
        Certificate::new(&name.into(), chain, Key::new(&der).unwrap())
            .err()
            .map(|e| e.reason())
    };
    assert_eq!(take(API, &mine), None);
    assert_eq!(take(WEB, &mine), Some("identity_mismatch"));
    assert_eq!(take(API, &other), Some("bad_certificate"));
}
