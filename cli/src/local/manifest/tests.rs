//! Manifests as people write them, right and wrong.
//!
//! They are texts, not files; one test reads a directory.

use super::*;

fn read(text: &str) -> Result<Manifests, Vec<ManifestError>> {
    load(&Source::Embedded {
        name: "app.yaml",
        text: text.to_string(),
    })
    .map_err(|e| e.0)
}

const WEB: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        command: [web]
        ports:
        - containerPort: 8080
";

#[test]
fn documents_are_read_with_the_default_namespace() {
    let text = format!(
        "# a comment\n---\n{WEB}---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  ports: [{{port: 80}}]\n"
    );
    let manifests = read(&text).unwrap();
    assert_eq!(
        manifests.deployments[0].metadata.namespace.as_deref(),
        Some("default")
    );
    assert_eq!(manifests.services.len(), 1);
    assert_eq!(manifests.copies[0]["metadata"]["namespace"], "default");
    assert_eq!(manifests.warnings, Vec::<String>::new());
}

#[test]
fn a_wrong_value_names_file_line_field_and_fix() {
    let text = format!("---\n{}", WEB.replace("replicas: 2", "replicas: three"));
    let errors = read(&text).unwrap_err();
    assert_eq!((errors[0].file.as_str(), errors[0].line), ("app.yaml", 7));
    let shown = errors[0].to_string();
    let expected = "app.yaml:7: spec.replicas: not a whole number: `replicas: three`";
    assert_eq!(shown, expected);
}

#[test]
fn a_wrong_value_deep_in_a_list_is_found() {
    let text = WEB.replace("containerPort: 8080", "containerPort: http");
    let shown = read(&text).unwrap_err()[0].to_string();
    let place = "app.yaml:15: spec.template.spec.containers[0].ports[0].containerPort: ";
    assert!(shown.starts_with(place), "{shown}");
}

#[test]
fn broken_yaml_is_an_error_with_its_line() {
    let text = format!("{WEB}---\nkind: [\n");
    assert!(read(&text).unwrap_err()[0].line >= 17);
}

#[test]
fn every_mistake_is_reported_at_once() {
    let text = "kind: Pod\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Pod\n---\n- a\n";
    let errors = read(text).unwrap_err();
    let messages: Vec<_> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(
        messages,
        [
            "app.yaml:1: apiVersion: missing; add it, such as `apiVersion: apps/v1`",
            "app.yaml:4: metadata.name: missing; add it, such as `name: web`",
            "app.yaml:7: [0]: expected a mapping of fields to values: `- a`",
        ]
    );
}

#[test]
fn the_same_object_twice_is_a_mistake() {
    let errors = read(&format!("{WEB}---\n{WEB}")).unwrap_err();
    assert_eq!(errors[0].line, 20);
    assert!(errors[0].message.contains("defined twice"));
}

#[test]
fn a_name_cannot_be_a_path() {
    let errors = read(&WEB.replace("name: web\nspec", "name: ../web\nspec")).unwrap_err();
    assert_eq!(errors[0].line, 4);
}

#[test]
fn a_list_counts_as_its_items() {
    // As `kubectl get -o yaml` writes it.
    let items = |web: &str| {
        let lines = web.lines().map(|line| format!("  {line}\n"));
        format!("- {}", lines.collect::<String>().trim_start())
    };
    let service =
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  ports: [{port: 80}]\n";
    let list = |web: &str| {
        let (web, service) = (items(web), items(service));
        format!(
            "apiVersion: v1\nitems:\n{web}{service}kind: List\nmetadata:\n  resourceVersion: \"\"\n"
        )
    };
    let manifests = read(&list(WEB)).unwrap();
    assert_eq!(
        (manifests.deployments.len(), manifests.services.len()),
        (1, 1)
    );
    assert_eq!(manifests.warnings, Vec::<String>::new());
    let text = list(&WEB.replace("replicas: 2", "replicas: three"));
    assert_eq!(
        read(&text).unwrap_err()[0].to_string(),
        "app.yaml:8: items[0].spec.replicas: not a whole number: `replicas: three`"
    );
    let text = list(&WEB.replace("replicas: 2", "replicaz: 2"));
    let warnings = read(&text).unwrap().warnings;
    assert!(
        warnings[0].starts_with("app.yaml:8: items[0].spec.replicaz: is no field"),
        "{warnings:?}"
    );
    let twice = format!("{}---\n{WEB}", list(WEB));
    assert!(
        read(&twice).unwrap_err()[0]
            .message
            .contains("defined twice")
    );
}

#[test]
fn misspelt_fields_are_warned_about_with_their_line() {
    let manifests = read(&WEB.replace("replicas: 2", "replicaz: 2")).unwrap();
    assert_eq!(
        manifests.warnings,
        ["app.yaml:6: spec.replicaz: is no field of this kind and is ignored; check its spelling"]
    );
}

#[test]
fn kinds_without_use_are_reported_and_not_dropped() {
    let text = format!(
        "{WEB}---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\n"
    );
    assert_eq!(
        read(&text).unwrap().warnings,
        [
            "HTTPRoute default/r (app.yaml:18): routes and policies are not applied by a local mesh yet"
        ]
    );
}

#[test]
fn nothing_to_run_is_a_mistake() {
    let errors = read("# empty\n").unwrap_err();
    assert!(errors[0].to_string().starts_with("app.yaml: no Deployment"));
}

#[test]
fn directories_are_read_without_hidden_and_foreign_files() {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("b.yaml", WEB),
        (".b.yaml.swp", "x"),
        (".c.yaml", "x: ["),
        ("notes.txt", "x: ["),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let manifests = load(&Source::Paths(vec![dir.path().to_path_buf()])).unwrap();
    assert_eq!(manifests.deployments.len(), 1);
    let missing = load(&Source::Paths(vec![dir.path().join("none.yaml")])).unwrap_err();
    assert!(missing.to_string().contains("none.yaml: cannot be read"));
}

#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let error = load(&Source::Paths(vec!["/dev/zero".into()])).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("/dev/zero: cannot be read: not a file"),
        "{error}"
    );
}

#[test]
fn a_file_that_is_empty_or_leads_nowhere_is_not_passed_over() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &[u8]| dir.path().join(OsStr::from_bytes(name));
    let read = || load(&Source::Paths(vec![dir.path().to_path_buf()]));
    std::fs::write(path(b"caf\xe9.yaml"), WEB).unwrap();
    std::fs::create_dir(path(b"d.yaml")).unwrap();
    assert_eq!(read().unwrap().deployments.len(), 1);
    std::fs::write(path(b"empty.yaml"), "").unwrap();
    let error = read().unwrap_err().to_string();
    assert!(
        error.contains("empty.yaml: cannot be read: empty;"),
        "{error}"
    );
    std::fs::remove_file(path(b"empty.yaml")).unwrap();
    std::os::unix::fs::symlink("nowhere", path(b"link.yaml")).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(
        error.contains("link.yaml: cannot be read: No such"),
        "{error}"
    );
}
