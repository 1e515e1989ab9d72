//! The policy of a pod's port.

use super::*;
use crate::testing::{cluster, key, pod};
use ipnet::IpNet;
use linkerd2_proxy_api::inbound::{
    IdentitySuffix, Server,
    authn::{
        Permit, PermitMeshTls, PermitUnauthenticated,
        permit_mesh_tls::{Clients, PermitClientIdentities},
    },
};
use mesh_policy::inbound::{DefaultPolicy, Protocol};

fn ask(manifests: &str, port: u16) -> Option<ServerPolicy> {
    let pod = key("demo", "web-0");
    let answer = Inbound { pod, port }.answer(&cluster(manifests));
    answer.map(|answer| answer.value)
}

#[test]
fn a_pod_has_a_policy_on_every_port() {
    let web = pod("web-0", "web", "10.0.0.1");
    let policy = ask(&web, 80).expect("a policy");
    assert_eq!(policy.meta.name(), "all-unauthenticated");
    assert!(matches!(policy.protocol, Protocol::Detect { .. }));
    assert_eq!(ask(&web, 5432).map(|p| p.protocol), Some(Protocol::Opaque));
    assert_eq!(ask("", 80), None);
}

#[test]
fn annotations_change_it() {
    let web = annotated(
        "config.linkerd.io/default-inbound-policy: cluster-unauthenticated, \
         config.linkerd.io/opaque-ports: '80'",
    );
    let networks = vec!["10.0.0.0/8".parse().expect("a network")];
    let want = ServerPolicy::default_named(DefaultPolicy::ClusterUnauthenticated, &networks, true);
    assert_eq!(ask(&web, 80), Some(want));
}

fn annotated(annotations: &str) -> String {
    let annotations = format!("annotations: {{{annotations}}}");
    pod("web-0", "web", "10.0.0.1").replace("annotations: {}", &annotations)
}

fn namespace(annotations: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Namespace\n\
         metadata: {{name: demo, annotations: {{{annotations}}}}}\n"
    )
}

/// From where and with what proof one may connect, as it goes over the wire.
type Grant = (Vec<String>, Permit);

fn grants(manifests: &str, port: u16) -> Vec<Grant> {
    let server = Server::from(&ask(manifests, port).expect("a policy"));
    let grants = server.authorizations.into_iter().map(|authz| {
        let nets = authz.networks.into_iter().filter_map(|network| network.net);
        let nets = nets.map(|net| IpNet::try_from(net).expect("a network").to_string());
        let proof = authz.authentication.and_then(|authn| authn.permit);
        (nets.collect(), proof.expect("a proof"))
    });
    grants.collect()
}

fn mesh_tls(clients: Clients) -> Permit {
    let clients = Some(clients);
    Permit::MeshTls(PermitMeshTls { clients })
}

fn any_identity() -> Permit {
    // An empty suffix is every identity.
    mesh_tls(Clients::Identities(PermitClientIdentities {
        identities: vec![],
        suffixes: vec![IdentitySuffix { parts: vec![] }],
    }))
}

fn everywhere() -> Vec<String> {
    ["0.0.0.0/0", "::/0"].map(str::to_owned).to_vec()
}

fn inside() -> Vec<String> {
    vec!["10.0.0.0/8".to_owned()]
}

#[test]
fn default_policies_on_the_wire() {
    let nothing = Permit::Unauthenticated(PermitUnauthenticated {});
    let anonymous = mesh_tls(Clients::Unauthenticated(PermitUnauthenticated {}));
    let table = [
        ("deny", None),
        ("all-authenticated", Some((everywhere(), any_identity()))),
        ("all-tls-unauthenticated", Some((everywhere(), anonymous))),
        ("all-unauthenticated", Some((everywhere(), nothing.clone()))),
        ("audit", Some((everywhere(), nothing.clone()))),
        ("cluster-authenticated", Some((inside(), any_identity()))),
        ("cluster-unauthenticated", Some((inside(), nothing))),
        ("denny", None),
    ];
    for (policy, want) in table {
        let annotation = format!("config.linkerd.io/default-inbound-policy: {policy}");
        let want = Vec::from_iter(want);
        assert_eq!(grants(&annotated(&annotation), 80), want, "{policy}");
        let inherited = annotated("") + &namespace(&annotation);
        assert_eq!(grants(&inherited, 80), want, "{policy}");
    }
}

#[test]
fn some_ports_require_an_identity() {
    let require = "config.linkerd.io/proxy-require-identity-inbound-ports: '80,90-91'";
    let policy = |policy| format!("config.linkerd.io/default-inbound-policy: {policy}");
    for manifests in [annotated(require), annotated("") + &namespace(require)] {
        assert_eq!(grants(&manifests, 80), [(everywhere(), any_identity())]);
        assert_eq!(grants(&manifests, 91), [(everywhere(), any_identity())]);
        let (_, proof) = &grants(&manifests, 81)[0];
        assert!(matches!(proof, Permit::Unauthenticated(_)));
    }
    for (default, want) in [
        ("cluster-unauthenticated", vec![(inside(), any_identity())]),
        (
            "all-tls-unauthenticated",
            vec![(everywhere(), any_identity())],
        ),
        ("deny", vec![]),
    ] {
        let both = annotated(&format!("{require}, {}", policy(default)));
        assert_eq!(grants(&both, 80), want, "{default}");
    }
}
