//! A replica's environment and ports, without starting it.
//!
//! The variables of a sidecar are an agreement with the proxy, so their values are spelt out.

use super::super::manifest::{Source, load};
use super::super::plan::plan;
use super::*;

const APP: &str = "\
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: api, namespace: demo}
spec:
  replicas: 1
  selector: {matchLabels: {app: api}}
  serviceName: api
  template:
    metadata: {labels: {app: api}}
    spec:
      serviceAccountName: caller
      containers:
      - name: api
        command: [meshctl, '$(POD_NAME)', '$(STORE_SERVICE_HOST):$(STORE_SERVICE_PORT)']
        env: [{name: http_proxy, value: none}]
        ports: [{containerPort: 8080, name: http}, {containerPort: 9000, name: grpc-api}]
      - name: helper
        command: [helper]
---
apiVersion: v1
kind: Service
metadata: {name: my-db, namespace: demo}
spec: {ports: [{port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: store, namespace: demo}
spec: {ports: [{port: 6000, name: line}]}
---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: other}
spec: {ports: [{port: 1}]}
";

fn made(text: &str) -> Replica {
    let source = Source::Embedded {
        name: "app.yaml",
        text: text.to_string(),
    };
    let plan = plan(load(&source).unwrap());
    let mesh = MeshInfo {
        controller: Ipv4Addr::new(127, 64, 0, 1),
        program: "/bin/meshctl".into(),
        state: "/state".into(),
    };
    let ip = Ipv4Addr::new(127, 64, 0, 3);
    replica(
        &mesh,
        &plan.services,
        &plan.workloads[0],
        "api-0",
        ip,
        vec![31001, 31002],
    )
}

#[test]
fn the_sidecar_gets_the_agreed_environment() {
    let sidecar = made(APP).sidecar.unwrap();
    for (name, value) in [
        ("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", "127.64.0.3:4140"),
        ("LINKERD2_PROXY_INBOUND_LISTEN_ADDR", "127.64.0.3:4143"),
        ("LINKERD2_PROXY_ADMIN_LISTEN_ADDR", "127.64.0.3:4191"),
        ("LINKERD2_PROXY_DESTINATION_SVC_ADDR", "127.64.0.1:8086"),
        ("LINKERD2_PROXY_POLICY_SVC_ADDR", "127.64.0.1:8090"),
        (
            "LINKERD2_PROXY_DESTINATION_CONTEXT",
            r#"{"nodeName":"local","ns":"demo","pod":"api-0"}"#,
        ),
        (
            "LINKERD2_PROXY_POLICY_WORKLOAD",
            r#"{"ns":"demo","pod":"api-0"}"#,
        ),
        ("LINKERD2_PROXY_INBOUND_PORTS", "8080,9000"),
        ("LINKERD2_PROXY_INBOUND_IPS", "127.64.0.3"),
        (
            "LINKERD2_PROXY_INBOUND_DEFAULT_POLICY",
            "all-unauthenticated",
        ),
        ("LINKERD2_PROXY_IDENTITY_SVC_ADDR", "127.64.0.1:8080"),
        (
            "LINKERD2_PROXY_IDENTITY_LOCAL_NAME",
            "caller.demo.serviceaccount.identity.gossamer.cluster.local",
        ),
        (
            "LINKERD2_PROXY_IDENTITY_TOKEN_FILE",
            "/state/tokens/demo/api-0/token",
        ),
        (
            "GOSSAMER_PROXY_IDENTITY_TRUST_ANCHORS_FILE",
            "/state/identity/trust-anchors.pem",
        ),
        ("LINKERD2_PROXY_SHUTDOWN_GRACE_PERIOD", "30s"),
        (
            "GOSSAMER_PROXY_INBOUND_PORTS",
            "127.64.0.3:8080=127.0.0.1:31001,127.64.0.3:9000=127.0.0.1:31002",
        ),
        (
            "GOSSAMER_PROXY_OUTBOUND_PORTS",
            "127.64.0.3:20001=my-db.demo.svc.cluster.local:5432,\
             127.64.0.3:20002=store.demo.svc.cluster.local:6000",
        ),
    ] {
        assert_eq!(
            sidecar.env.get(name).map(String::as_str),
            Some(value),
            "{name}"
        );
    }
    assert_eq!(sidecar.argv, ["/bin/meshctl", "proxy"]);
}

#[test]
fn a_replica_is_its_service_account() {
    let without = APP.replace("      serviceAccountName: caller\n", "");
    let sidecar = made(&without).sidecar.unwrap();
    assert_eq!(
        sidecar.env["LINKERD2_PROXY_IDENTITY_LOCAL_NAME"],
        "default.demo.serviceaccount.identity.gossamer.cluster.local"
    );
    // What could be read from an application's environment would be no secret.
    let app = &made(APP).containers[0];
    assert!(app.env.values().all(|value| !value.contains("token")));
}

#[test]
fn the_application_finds_its_ports_and_its_services() {
    let app = &made(APP).containers[0];
    for (name, value) in [
        ("HOST", "127.0.0.1"),
        ("PORT", "31001"),
        ("PORT_HTTP", "31001"),
        ("PORT_GRPC_API", "31002"),
        ("HTTP_PROXY", "http://127.64.0.3:4140"),
        ("http_proxy", "none"),
        ("MY_DB_SERVICE_HOST", "127.64.0.3"),
        ("MY_DB_SERVICE_PORT", "20001"),
        ("STORE_SERVICE_PORT", "20002"),
        ("STORE_SERVICE_PORT_LINE", "20002"),
    ] {
        assert_eq!(app.env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(
        !app.env.contains_key("FAR_SERVICE_HOST"),
        "only services of the own namespace"
    );
    assert_eq!(app.argv, ["/bin/meshctl", "api-0", "127.64.0.3:20002"]);
    assert!(matches!(app.probe.check, Check::Tcp { port: 31001 }));
}

#[test]
fn a_container_without_ports_is_ready_when_it_runs() {
    let replica = made(APP);
    assert!(matches!(replica.containers[1].probe.check, Check::Running));
    assert!(!replica.containers[1].env.contains_key("PORT"));
}

#[test]
fn a_policy_of_the_pod_holds_before_the_controller_has_spoken() {
    for (value, policy) in [
        ("cluster-authenticated", "cluster-authenticated"),
        ("deny", "deny"),
        ("denny", "deny"),
    ] {
        let labels = "labels: {app: api}}\n    spec";
        assert!(APP.contains(labels));
        let text = APP.replace(
            labels,
            &format!(
                "labels: {{app: api}}, annotations: \
                 {{config.linkerd.io/default-inbound-policy: {value}}}}}\n    spec"
            ),
        );
        let env = made(&text).sidecar.unwrap().env;
        assert_eq!(env["LINKERD2_PROXY_INBOUND_DEFAULT_POLICY"], policy);
        assert_eq!(env["LINKERD2_PROXY_POLICY_CLUSTER_NETWORKS"], "127.0.0.0/8");
    }
}

#[test]
fn without_a_sidecar_the_application_listens_on_its_own_address() {
    let replica = made(&APP.replace(
        "labels: {app: api}}\n    spec",
        "labels: {app: api}, annotations: {linkerd.io/inject: disabled}}\n    spec",
    ));
    assert!(replica.sidecar.is_none());
    let app = &replica.containers[0];
    assert_eq!(app.env["HOST"], "127.64.0.3");
    assert_eq!(app.env["PORT"], "8080");
    assert!(!app.env.contains_key("HTTP_PROXY") && !app.env.contains_key("STORE_SERVICE_HOST"));
    assert_eq!(app.probe_addr, "127.64.0.3:8080".parse().unwrap());
}
