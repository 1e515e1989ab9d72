//! What endpoints say of meshed pods, wherever they are asked for.

use super::*;
use crate::{
    destination::{
        endpoints::Endpoints,
        profile::{Profile, ProfileAnswer},
    },
    index::Question,
    names::ServiceName,
    policy::outbound::Outbound,
    testing::{cluster, key, pod, secure_cluster, service},
};
use linkerd2_proxy_api::{destination::WeightedAddr, outbound};
use mesh_policy::outbound::OutboundPolicy;

const SA: &str = "sa.demo.serviceaccount.identity.gossamer.cluster.local";

fn annotated(annotations: &str) -> String {
    let annotations = format!("annotations: {{{annotations}}}");
    pod("web-0", "web", "10.0.0.1").replace("annotations: {}", &annotations)
}

fn of(cluster: &Cluster, port: u16) -> Endpoint {
    let pod = cluster.pod(&key("demo", "web-0")).expect("a pod");
    let addr = SocketAddr::from(([10, 0, 0, 1], port));
    endpoint(cluster, pod, addr, None)
}

fn hinted(protocol: HintedProtocol, port: Option<u16>) -> ProtocolHint {
    ProtocolHint {
        protocol,
        opaque_transport_port: port,
    }
}

#[test]
fn a_meshed_pod_proves_its_service_account() {
    let endpoint = of(&secure_cluster(&annotated("")), 8080);
    let want = TlsIdentity {
        server_name: SA.into(),
        identity: SA.into(),
    };
    assert_eq!(endpoint.tls, Some(want));
    assert_eq!(endpoint.hint, hinted(HintedProtocol::H2, Some(4143)));
}

#[test]
fn who_proves_nothing() {
    let plain = annotated("");
    let skipped = annotated("config.linkerd.io/skip-inbound-ports: '8080'");
    let unmeshed = plain.replace(", linkerd.io/control-plane-ns: gossamer", "");
    let foreign = plain.replace("control-plane-ns: gossamer", "control-plane-ns: linkerd");
    let odd = plain.replace("serviceAccountName: sa", "serviceAccountName: s_a");
    for (manifests, cluster) in [
        (&plain, cluster(&plain)),
        (&skipped, secure_cluster(&skipped)),
        (&unmeshed, secure_cluster(&unmeshed)),
        (&foreign, secure_cluster(&foreign)),
        (&odd, secure_cluster(&odd)),
    ] {
        let endpoint = of(&cluster, 8080);
        assert_eq!(endpoint.tls, None, "{manifests}");
        assert_eq!(endpoint.hint, ProtocolHint::default(), "{manifests}");
        // That it is opaque is known all the same.
        let opaque = of(&cluster, 5432).hint.protocol;
        assert_eq!(opaque, HintedProtocol::Opaque, "{manifests}");
    }
    assert!(of(&secure_cluster(&skipped), 8081).tls.is_some());
}

#[test]
fn opaque_ports_and_the_inbound_port() {
    let by_pod = annotated("config.linkerd.io/inbound-port: '4243'");
    let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: demo, annotations: \
                     {config.linkerd.io/inbound-port: '4343', \
                     config.linkerd.io/skip-inbound-ports: '80'}}\n";
    for (manifests, port) in [
        (annotated(""), 4143),
        (by_pod.clone(), 4243),
        (annotated("") + namespace, 4343),
        (by_pod + namespace, 4243),
    ] {
        let cluster = secure_cluster(&manifests);
        let opaque = of(&cluster, 5432);
        assert_eq!(opaque.hint, hinted(HintedProtocol::Opaque, Some(port)));
        assert!(opaque.tls.is_some());
        assert_eq!(of(&cluster, 80).tls.is_some(), !manifests.contains("'80'"));
    }
}

#[test]
fn every_answer_that_has_the_endpoint_says_so() {
    let spec = "{clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}";
    let cluster = secure_cluster(&(annotated("") + &service("web", "", spec)));
    let addr = SocketAddr::from(([10, 0, 0, 1], 8080));
    let want = of(&cluster, 8080);

    let target = ServiceName {
        service: key("demo", "web"),
        hostname: None,
    };
    let set = Endpoints { target, port: 80 }.answer(&cluster);
    assert_eq!(set.at(addr), Some(&want));

    let ProfileAnswer::Profile(profile) = Profile::Address(addr).answer(&cluster) else {
        panic!("no profile");
    };
    assert_eq!(profile.value.endpoint, Some(WeightedAddr::from(&want)));

    let policy = Outbound::address(addr).answer(&cluster).expect("a policy");
    assert_eq!(policy.value, OutboundPolicy::endpoint(want.clone()));
    let wire = format!("{:?}", outbound::OutboundPolicy::from(&policy.value));
    let endpoint = WeightedAddr::from(&want);
    for part in [
        format!("{:?}", endpoint.tls_identity.expect("an identity")),
        format!("{:?}", endpoint.protocol_hint.expect("a hint")),
    ] {
        assert!(wire.contains(&part), "{part} in {wire}");
    }
}
