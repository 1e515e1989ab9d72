//! What is kept of objects as the Kubernetes API has them.

use super::*;
use crate::source::manifest;

fn one(text: &str) -> (Object, Vec<String>) {
    let mut manifests = manifest::parse(text).expect("manifests");
    (manifests.objects.remove(0), manifests.warnings)
}

#[test]
fn a_pod() {
    let (object, warnings) = one("\
apiVersion: v1
kind: Pod
metadata:
  name: web-6d4cf56db6-x2x7b
  labels: {app: web, linkerd.io/control-plane-ns: gossamer}
  annotations:
    config.linkerd.io/default-inbound-policy: deny
    config.linkerd.io/skip-inbound-ports: 25,x
    config.linkerd.io/proxy-require-identity-inbound-ports: '8080'
    config.linkerd.io/inbound-port: '4243'
  ownerReferences:
  - {apiVersion: apps/v1, kind: Other, name: o, uid: u}
  - {apiVersion: apps/v1, kind: ReplicaSet, name: web-6d4cf56db6, uid: u, controller: true}
spec:
  hostname: web-0
  initContainers:
  - {name: proxy, restartPolicy: Always, ports: [{name: admin, containerPort: 4191}]}
  - {name: setup, ports: [{name: setup, containerPort: 1}]}
  containers:
  - name: app
    ports: [{name: http, containerPort: 8080}, {name: dns, containerPort: 53, protocol: UDP}]
status:
  phase: Running
  podIP: 10.0.0.1
  podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}, {ip: bad}]
  conditions: [{type: Ready, status: 'True'}]
");
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    let Object::Pod(pod) = object else {
        panic!("not a pod");
    };
    assert_eq!(pod.key, Key::new("default", "web-6d4cf56db6-x2x7b"));
    assert_eq!(pod.ips.len(), 2);
    assert!(pod.running && pod.ready);
    assert_eq!(pod.control_plane(), Some("gossamer"));
    assert_eq!(&*pod.service_account, "default");
    assert_eq!(pod.owner.as_ref().map(|o| &*o.name), Some("web-6d4cf56db6"));
    let config = ProxyConfig {
        opaque_ports: None,
        default_policy: Some(DefaultPolicy::Deny),
        skip_inbound_ports: "25".parse().ok(),
        require_identity_ports: "8080".parse().ok(),
        inbound_port: Some(4243),
    };
    assert_eq!(pod.config, config);
    let ports = ["http", "admin", "dns", "setup"].map(|name| pod.named_port(name));
    assert_eq!(ports, [Some(8080), Some(4191), None, None]);
}

#[test]
fn a_service() {
    let (object, warnings) = one("\
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: demo
  annotations: {retry.linkerd.io/http: 5xx, other.io/x: y}
spec:
  sessionAffinity: ClientIP
  internalTrafficPolicy: Local
  clusterIP: 10.1.0.1
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: http, appProtocol: http}
  - {name: grpc, port: 81, targetPort: '8081', appProtocol: kubernetes.io/h2c}
  - {name: tcp, port: 82, appProtocol: linkerd.io/tcp}
  - {name: dns, port: 53, protocol: UDP}
  - {name: bad, port: 70000}
");
    assert_eq!(
        warnings,
        [
            "spec.ports[4].port: 70000 is not a port",
            "spec.sessionAffinity: ClientIP is not acted on: every request is balanced",
            "spec.internalTrafficPolicy: Local is not acted on: endpoints of all nodes are used",
            "retry.linkerd.io/http: not acted on yet: requests are neither retried nor timed",
        ]
        .map(|problem| format!("Service demo/web: {problem}"))
    );
    let Object::Service(service) = object else {
        panic!("not a service");
    };
    let ports: Vec<_> = service
        .ports
        .iter()
        .map(|p| (p.port, p.target.clone(), p.declared))
        .collect();
    let want = [
        (80, TargetPort::Named("http".into()), Declared::Http1),
        (81, TargetPort::Number(8081), Declared::Http2),
        (82, TargetPort::Number(82), Declared::Opaque),
    ];
    assert_eq!(ports, want);
    let (headless, _) = one("\
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None}
");
    let Object::Service(headless) = headless else {
        panic!("not a service");
    };
    assert!(headless.cluster_ips.is_empty());
}

#[test]
fn a_slice_keeps_what_is_not_unready() {
    let (object, _) = one("\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-abc, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: all}]
endpoints:
- {addresses: [10.0.0.1], conditions: {ready: true}, targetRef: {kind: Pod, name: web-0}}
- {addresses: [10.0.0.2], conditions: {ready: false}}
- {addresses: [10.0.0.3], zone: a}
- {addresses: []}
");
    let Object::Slice(slice) = object else {
        panic!("not a slice");
    };
    assert_eq!(slice.ports, [("http".into(), 8080)]);
    let ips: Vec<_> = slice.endpoints.iter().map(|e| e.ip.to_string()).collect();
    assert_eq!(ips, ["10.0.0.1", "10.0.0.3"]);
    assert_eq!(slice.endpoints[0].pod.as_deref(), Some("web-0"));
}
