//! From manifests to processes, without starting any.
//!
//! What is reported is tested with its exact words: people read it.

use super::super::manifest::{Source, load};
use super::super::readiness::Check;
use super::template::ContainerPort;
use super::*;

fn planned(text: &str) -> Plan {
    plan(
        load(&Source::Embedded {
            name: "app.yaml",
            text: text.to_string(),
        })
        .unwrap(),
    )
}

const APP: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: demo}
spec:
  replicas: 3
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: web
        command: [web, '--port=$(PORT)']
        args: [serve]
        ports: [{containerPort: 8080, name: http}, {containerPort: 53, protocol: UDP}]
        readinessProbe: {httpGet: {path: /ready, port: http}, failureThreshold: 2}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  ports: [{port: 80, name: http}, {port: 9000, name: admin}, {port: 53, protocol: UDP}]
";

#[test]
fn a_deployment_becomes_processes() {
    let plan = planned(APP);
    let web = &plan.workloads[0];
    assert_eq!((web.replicas, web.key.kind), (3, WorkloadKind::Deployment));
    let container = &web.template.containers[0];
    assert_eq!(container.argv, ["web", "--port=$(PORT)", "serve"]);
    assert_eq!(
        container.ports,
        [ContainerPort {
            name: Some("http".into()),
            number: 8080
        }]
    );
    assert_eq!(web.template.grace.as_secs(), 5);
    assert!(web.template.meshed);
    let Check::Http { port, path, .. } = &container.probe.check else {
        panic!("http")
    };
    assert_eq!(
        (*port, path.as_str(), container.probe.failure_threshold),
        (8080, "/ready", 2)
    );
    assert_eq!(
        plan.warnings,
        [
            "deployment/web: container web: port 53 is left out; only TCP ports from 1 to 65535 are served"
        ]
    );
}

#[test]
fn services_keep_the_order_of_their_ports() {
    let ports: Vec<_> = planned(APP)
        .services
        .into_iter()
        .map(|p| (p.index, p.port))
        .collect();
    assert_eq!(ports, [(0, 80), (1, 9000)]);
}

#[test]
fn what_a_process_cannot_have_is_reported_once_per_object() {
    let text = APP.replace(
        "      terminationGracePeriodSeconds: 5\n      containers:\n      - name: web\n",
        "      volumes: [{name: data, emptyDir: {}}]\n      restartPolicy: Always\n      containers:\n      - name: web\n        image: web:1\n        resources: {limits: {cpu: '1'}}\n",
    );
    let warnings = planned(&text).warnings;
    assert_eq!(
        warnings[0],
        "deployment/web: ignored, since it runs as processes: volumes"
    );
    assert_eq!(
        warnings[1],
        "deployment/web: container web: ignored, since it runs as a process: image, resources"
    );
}

#[test]
fn an_image_without_a_command_is_not_run_and_says_so() {
    let text = APP.replace("command: [web, '--port=$(PORT)']", "image: web:1");
    let plan = planned(&text);
    assert!(plan.workloads.is_empty());
    assert!(
        plan.warnings[0].contains("add `command:`"),
        "{:?}",
        plan.warnings
    );
    assert!(plan.warnings[1].contains("is not run"));
}

#[test]
fn the_hash_changes_with_the_template_only() {
    let hash = |text: &str| planned(text).workloads[0].template.hash.clone();
    assert_eq!(hash(APP), hash(&APP.replace("replicas: 3", "replicas: 1")));
    assert_ne!(
        hash(APP),
        hash(&APP.replace("args: [serve]", "args: [run]"))
    );
}

#[test]
fn injection_can_be_switched_off() {
    let text = APP.replace(
        "labels: {app: web}}\n    spec",
        "labels: {app: web, linkerd.io/inject: disabled}}\n    spec",
    );
    assert!(!planned(&text).workloads[0].template.meshed);
}

#[test]
fn the_default_probe_connects_to_the_first_port() {
    let text = APP.replace(
        "        readinessProbe: {httpGet: {path: /ready, port: http}, failureThreshold: 2}\n",
        "",
    );
    let plan = planned(&text);
    let probe = &plan.workloads[0].template.containers[0].probe;
    assert!(matches!(probe.check, Check::Tcp { port: 8080 }));
}

#[test]
fn replicas_out_of_range_are_reported() {
    let plan = planned(&APP.replace("replicas: 3", "replicas: -1"));
    assert_eq!(plan.workloads[0].replicas, 0);
    assert!(
        plan.warnings
            .last()
            .unwrap()
            .contains("spec.replicas -1 is taken as 0")
    );
}

#[test]
fn what_the_controller_would_not_act_on_is_told_before_the_start() {
    let quiet = APP.replace(
        "namespace: demo}\nspec:\n  ports",
        "namespace: demo}\nspec:\n  selector: {app: web}\n  ports",
    );
    assert_eq!(
        planned(&quiet).warnings,
        [
            "deployment/web: container web: port 53 is left out; only TCP ports from 1 to 65535 are served"
        ]
    );
    let text = quiet
        .replace(
            "metadata: {labels: {app: web}}",
            "metadata:\n      labels: {app: web}\n      annotations:\n        \
             config.linkerd.io/opaque-prots: '80'\n        \
             config.linkerd.io/default-inbound-policy: denny\n        \
             config.linkerd.io/skip-inbound-ports: 80,abc\n        \
             prometheus.io/port: '80'",
        )
        .replace(
            "kind: Deployment\nmetadata: {name: web, namespace: demo}",
            "kind: Deployment\nmetadata: {name: web, namespace: demo, \
             annotations: {config.linkerd.io/opaque-ports: '80', deployment.kubernetes.io/revision: '1'}}",
        )
        .replace(
            "kind: Service\nmetadata: {name: web, namespace: demo}",
            "kind: Service\nmetadata:\n  name: web\n  namespace: demo\n  annotations:\n    \
             balancer.linkerd.io/failure-accrual: consectutive\n    \
             timeout.linkerd.io/request: 5s",
        )
        .replace("{port: 9000, name: admin}", "{port: 99999, name: admin}, {port: 81, name: ui, targetPort: ui}")
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: lost, namespace: demo}\n\
           spec: {selector: {app: wbe}, ports: [{port: 80}]}\n\
           ---\napiVersion: v1\nkind: Namespace\nmetadata: {name: demo, annotations: \
           {config.linkerd.io/proxy-cpu-limit: '1'}}\n";
    let warnings = planned(&text).warnings;
    let wanted = [
        "deployment/web: config.linkerd.io/opaque-prots is not acted on; did you mean config.linkerd.io/opaque-ports?",
        "deployment/web: config.linkerd.io/default-inbound-policy: \"denny\" is not a default policy",
        "deployment/web: config.linkerd.io/skip-inbound-ports: \"abc\" is neither a port",
        "deployment/web: config.linkerd.io/opaque-ports has no effect here; move it to spec.template",
        "service/web: spec.ports[1].port: 99999 is not a port",
        "service/web: timeout.linkerd.io/request: not acted on yet",
        "service/web: balancer.linkerd.io/failure-accrual: \"consectutive\" is neither",
        "service/web: port 81: no pod that it selects has a port named \"ui\"",
        "service/lost: spec.selector matches no pod of these manifests",
        "namespace/demo: config.linkerd.io/proxy-cpu-limit is not acted on",
    ];
    for wanted in wanted {
        let found = warnings.iter().any(|warning| warning.starts_with(wanted));
        assert!(found, "{wanted}: {warnings:#?}");
    }
    assert_eq!(warnings.len(), wanted.len() + 1, "{warnings:#?}");
}
