//! Manifests as people write them, and their mistakes.

use super::*;

fn ids(manifests: &Manifests) -> Vec<String> {
    manifests
        .objects
        .iter()
        .map(|o| o.id().to_string())
        .collect()
}

const WEB: &str = "\
# a comment
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: demo
spec:
  selector: {app: web}
  ports:
  - name: http
    port: 80
    targetPort: http
---
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
--- # another
apiVersion: v1
kind: Namespace
metadata:
  name: demo
";

#[test]
fn many_documents_of_many_kinds() {
    let manifests = parse(WEB).expect("manifests");
    assert_eq!(ids(&manifests), ["Service demo/web", "Namespace demo"]);
    assert_eq!(manifests.unused, 1);
    assert_eq!(manifests.warnings, Vec::<String>::new());
    for nothing in ["", "\n", "---\n", "# comment\n---\n...\n"] {
        assert_eq!(ids(&parse(nothing).expect("nothing")), [""; 0]);
    }
}

#[test]
fn an_error_has_its_line_and_field() {
    let bad_port = WEB.replace("port: 80", "port: eighty");
    let no_kind = WEB.replace("kind: Namespace\n", "");
    let no_name = WEB.replace("  name: demo\n", "  labels: {}\n");
    let table = [
        (bad_port, Some(11), Some("spec.ports[0].port")),
        (no_kind, Some(19), Some("kind")),
        (no_name, Some(21), Some("metadata.name")),
    ];
    for (text, line, field) in table {
        let error = parse(&text).expect_err("an error");
        assert_eq!(
            (error.line, error.field.as_deref()),
            (line, field),
            "{error}"
        );
    }
    let broken = parse("kind: [").expect_err("an error");
    assert!(broken.line.is_some(), "{broken}");
    assert!(parse("just text").is_err());
    assert!(parse("- a\n- list").is_err());
}

#[test]
fn json_and_lists() {
    let json = "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Namespace\",\n\t\"metadata\": {\"name\": \"a\"}\n}\n";
    assert_eq!(ids(&parse(json).expect("JSON")), ["Namespace a"]);
    let list = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Namespace
  metadata: {name: a}
- apiVersion: v1
  kind: Namespace
  metadata: {name: b}
";
    assert_eq!(
        ids(&parse(list).expect("a list")),
        ["Namespace a", "Namespace b"]
    );
    let error = parse(&list.replace("{name: b}", "{name: [b]}")).expect_err("an error");
    assert_eq!(
        (error.line, error.field.as_deref()),
        (Some(9), Some("items[1].metadata")),
        "{error}"
    );
}

#[test]
fn octal_modes_are_read_as_kubernetes_reads_them() {
    let pod = "\
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers: [{name: a, image: b}]
  volumes:
  - name: v
    configMap: {name: c, defaultMode: 0644}
";
    assert_eq!(ids(&parse(pod).expect("a pod")), ["Pod default/p"]);
}

#[test]
fn a_bad_annotation_is_a_warning() {
    let text = WEB.replace(
        "namespace: demo\n",
        "namespace: demo\n  annotations: {config.linkerd.io/opaque-ports: 'x,80'}\n",
    );
    let manifests = parse(&text).expect("manifests");
    assert_eq!(
        manifests.warnings,
        [
            "Service demo/web: config.linkerd.io/opaque-ports: \"x\" is neither a port (1 to 65535) \
          nor a range of ports (as 8000-8010)"
        ]
    );
    let Object::Service(service) = &manifests.objects[0] else {
        panic!("not a service");
    };
    assert!(
        service
            .opaque_ports
            .as_ref()
            .is_some_and(|set| set.contains(80))
    );
}

#[test]
fn what_has_no_effect_is_a_warning_with_its_line() {
    let text = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  selctor: {app: web}
  ports:
  - prots: 1
    port: 80
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: web}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: web}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: 'system:web'}
";
    let manifests = parse(text).expect("manifests");
    let ignored = "is no field of this kind and is ignored; check its spelling";
    assert_eq!(
        manifests.warnings,
        [
            format!("Service demo/web: line 7: spec.ports[0].prots: {ignored}"),
            format!("Service demo/web: line 5: spec.selctor: {ignored}"),
            "Server default/web: line 11: not acted on yet: what it would deny or limit is allowed"
                .to_owned(),
            "HTTPRoute default/web: line 15: not acted on yet: traffic goes as if it were not there"
                .to_owned(),
        ]
    );
    assert_eq!(manifests.unused, 3);
    assert_eq!(manifests.lines, [2]);
}

#[test]
fn what_kubernetes_would_refuse_is_bad() {
    let table = [
        ("apiVersion: v1\n", "", "apiVersion: missing"),
        ("kind: Service", "kind: service", "write `kind: Service`"),
        (
            "name: web\n",
            "name: Bad Name\n",
            "metadata.name: \"Bad Name\" is no name",
        ),
        (
            "namespace: demo",
            "namespace: a.b",
            "metadata.namespace: \"a.b\"",
        ),
    ];
    for (right, wrong, want) in table {
        let error = parse(&WEB.replacen(right, wrong, 1)).expect_err("an error");
        assert!(error.line.is_some(), "{error}");
        assert!(error.to_string().contains(want), "{error}");
    }
}

#[test]
fn warnings_of_a_file_have_an_end() {
    let route = "---\napiVersion: policy.linkerd.io/v1beta3\nkind: HTTPRoute\n";
    let manifests = parse(&route.repeat(1000)).expect("manifests");
    assert_eq!(manifests.warnings.len(), MAX_WARNINGS + 1);
    assert_eq!(manifests.unused, 1000);
}

#[test]
fn what_only_yaml_takes_is_read_as_before() {
    let text = WEB.replace("{app: web}", "{app: 1, tier: 0.5}");
    let manifests = parse(&text).expect("manifests");
    let Object::Service(service) = &manifests.objects[0] else {
        panic!("not a service");
    };
    let labels: Vec<_> = service.selector.iter().collect();
    assert_eq!(labels, [("app", "1"), ("tier", "0.5")]);
    assert_eq!(manifests.warnings, [""; 0]);
}
