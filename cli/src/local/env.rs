//! Environment variables of applications, as Kubernetes computes them.
//!
//! `plan` resolves what comes from the manifests, `replica` fills in what only a replica knows.
//! Pure values; the process is started elsewhere.

use k8s_openapi::api::core::v1::{ConfigMap, EnvFromSource, EnvVar, Secret};
use std::collections::BTreeMap;

/// One variable of a container, in the manifest's order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: Value,
}

/// Where a variable's value comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Value {
    /// Text, in which `$(NAME)` stands for an earlier variable.
    Text(String),
    /// Text taken as it is: ConfigMaps and Secrets are not expanded.
    Literal(String),
    /// A `fieldRef`, known once the replica is.
    Field(Field),
}

/// The fields of a pod that a variable can show.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Field {
    Name,
    Namespace,
    Ip,
    NodeName,
    ServiceAccount,
    Label(String),
    Annotation(String),
}

/// What a `fieldRef` is resolved against.
#[derive(Debug)]
pub(super) struct PodFields<'a> {
    pub(super) name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) ip: String,
    pub(super) service_account: &'a str,
    pub(super) labels: &'a BTreeMap<String, String>,
    pub(super) annotations: &'a BTreeMap<String, String>,
}

/// ConfigMaps and Secrets by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Settings {
    config_maps: BTreeMap<(String, String), BTreeMap<String, String>>,
    secrets: BTreeMap<(String, String), BTreeMap<String, String>>,
}

/// Replaces `$(NAME)` by its value; `$$` is a plain `$`, and an unknown name stays as it is.
pub(super) fn expand(text: &str, lookup: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest
            .strip_prefix('(')
            .and_then(|inner| inner.split_once(')'))
        {
            match lookup.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// Adds `variables` to `env`, each seeing those before it.
pub(super) fn resolve(
    variables: &[Variable],
    pod: &PodFields<'_>,
    env: &mut BTreeMap<String, String>,
) {
    for Variable { name, value } in variables {
        let value = match value {
            Value::Text(text) => expand(text, env),
            Value::Literal(text) => text.clone(),
            Value::Field(field) => pod.get(field),
        };
        env.insert(name.clone(), value);
    }
}

/// `my-db` as the names of variables have it: `MY_DB`.
pub(super) fn upper(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        })
        .collect()
}

// === impl PodFields ===

impl PodFields<'_> {
    fn get(&self, field: &Field) -> String {
        let entry = |map: &BTreeMap<String, String>, key| map.get(key).cloned().unwrap_or_default();
        match field {
            Field::Name => self.name.to_string(),
            Field::Namespace => self.namespace.to_string(),
            Field::Ip => self.ip.clone(),
            Field::NodeName => super::NODE_NAME.to_string(),
            Field::ServiceAccount => self.service_account.to_string(),
            Field::Label(key) => entry(self.labels, key),
            Field::Annotation(key) => entry(self.annotations, key),
        }
    }
}

// === impl Field ===

impl Field {
    fn parse(path: &str) -> Option<Self> {
        let keyed = |map: &str| {
            path.strip_prefix(map)
                .and_then(|rest| rest.strip_prefix("['"))
                .and_then(|rest| rest.strip_suffix("']"))
                .map(str::to_string)
        };
        match path {
            "metadata.name" => Some(Field::Name),
            "metadata.namespace" => Some(Field::Namespace),
            "status.podIP" | "status.hostIP" => Some(Field::Ip),
            "spec.nodeName" => Some(Field::NodeName),
            "spec.serviceAccountName" => Some(Field::ServiceAccount),
            _ => keyed("metadata.labels")
                .map(Field::Label)
                .or_else(|| keyed("metadata.annotations").map(Field::Annotation)),
        }
    }
}

// === impl Settings ===

impl Settings {
    pub(super) fn new(config_maps: &[ConfigMap], secrets: &[Secret]) -> Self {
        let key = |metadata: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
            let text = |value: &Option<String>| value.clone().unwrap_or_default();
            (text(&metadata.namespace), text(&metadata.name))
        };
        let config_maps = config_maps.iter();
        let secrets = secrets.iter();
        Self {
            config_maps: config_maps
                .map(|map| (key(&map.metadata), map.data.clone().unwrap_or_default()))
                .collect(),
            secrets: secrets
                .map(|secret| (key(&secret.metadata), secret_data(secret)))
                .collect(),
        }
    }

    /// A container's variables, and what about them cannot be had, as `FIELD: reason`.
    pub(super) fn variables(
        &self,
        namespace: &str,
        env_from: &[EnvFromSource],
        env: &[EnvVar],
    ) -> (Vec<Variable>, Vec<String>) {
        let (mut variables, mut problems) = (Vec::new(), Vec::new());
        for source in env_from {
            match self.group(namespace, source) {
                Ok(found) => variables.extend(found),
                Err(problem) => problems.push(problem),
            }
        }
        for variable in env {
            match self.value(namespace, variable) {
                Ok(Some(value)) => variables.push(Variable {
                    name: variable.name.clone(),
                    value,
                }),
                Ok(None) => {}
                Err(reason) => problems.push(format!("env {}: {reason}", variable.name)),
            }
        }
        (variables, problems)
    }

    fn group(&self, namespace: &str, source: &EnvFromSource) -> Result<Vec<Variable>, String> {
        let (maps, name, optional) = if let Some(map) = &source.config_map_ref {
            (&self.config_maps, &map.name, map.optional)
        } else if let Some(secret) = &source.secret_ref {
            (&self.secrets, &secret.name, secret.optional)
        } else {
            return Err("envFrom: names neither a ConfigMap nor a Secret".to_string());
        };
        let prefix = source.prefix.as_deref().unwrap_or_default();
        match maps.get(&(namespace.to_string(), name.clone())) {
            Some(data) => Ok(data
                .iter()
                .map(|(key, value)| Variable {
                    name: format!("{prefix}{key}"),
                    value: Value::Literal(value.clone()),
                })
                .collect()),
            None if optional == Some(true) => Ok(Vec::new()),
            None => Err(format!("envFrom {name}: is not in the manifests")),
        }
    }

    fn value(&self, namespace: &str, variable: &EnvVar) -> Result<Option<Value>, String> {
        let Some(source) = &variable.value_from else {
            return Ok(Some(Value::Text(
                variable.value.clone().unwrap_or_default(),
            )));
        };
        if let Some(field) = &source.field_ref {
            return Field::parse(&field.field_path)
                .map(|field| Some(Value::Field(field)))
                .ok_or_else(|| format!("fieldRef {} is not known here", field.field_path));
        }
        let (maps, name, key, optional) = if let Some(map) = &source.config_map_key_ref {
            (&self.config_maps, &map.name, &map.key, map.optional)
        } else if let Some(secret) = &source.secret_key_ref {
            (&self.secrets, &secret.name, &secret.key, secret.optional)
        } else {
            return Err("a process has no resources to refer to".to_string());
        };
        let data = maps.get(&(namespace.to_string(), name.clone()));
        match data.and_then(|data| data.get(key)) {
            Some(value) => Ok(Some(Value::Literal(value.clone()))),
            None if optional == Some(true) => Ok(None),
            None => Err(format!("key {key} of {name} is not in the manifests")),
        }
    }
}

fn secret_data(secret: &Secret) -> BTreeMap<String, String> {
    let encoded = secret.data.iter().flatten();
    let mut data: BTreeMap<_, _> = encoded
        .map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned()))
        .collect();
    data.extend(secret.string_data.clone().unwrap_or_default());
    data
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(k, v)| (k.to_string(), v.to_string()))
            .collect()
    }

    #[test]
    fn references_expand_as_in_kubernetes() {
        let env = map(&[("A", "1"), ("B", "two")]);
        for (text, expected) in [
            ("$(A)-$(B)", "1-two"),
            ("$$(A)", "$(A)"),
            ("$(NONE)", "$(NONE)"),
            ("$A $", "$A $"),
            ("$(A", "$(A"),
            ("$$$(A)", "$1"),
            ("é$(A)é", "é1é"),
        ] {
            assert_eq!(expand(text, &env), expected, "{text}");
        }
    }

    #[test]
    fn variables_see_earlier_ones_and_the_pod() {
        let (labels, annotations) = (map(&[("app", "web")]), map(&[]));
        let pod = PodFields {
            name: "web-0",
            namespace: "demo",
            ip: "127.64.0.2".to_string(),
            service_account: "default",
            labels: &labels,
            annotations: &annotations,
        };
        let text = |text: &str| Value::Text(text.to_string());
        let field = |path: &str| Value::Field(Field::parse(path).unwrap());
        let variables = [
            ("ME", field("metadata.name")),
            ("APP", field("metadata.labels['app']")),
            ("RAW", Value::Literal("$(ME)".to_string())),
            ("BOTH", text("$(APP)/$(ME)@$(POD_IP)")),
        ]
        .map(|(name, value)| Variable {
            name: name.to_string(),
            value,
        });
        let mut env = map(&[("POD_IP", "127.64.0.2")]);
        resolve(&variables, &pod, &mut env);
        assert_eq!(env["BOTH"], "web/web-0@127.64.0.2");
        assert_eq!(env["RAW"], "$(ME)");
    }

    #[test]
    fn settings_are_found_in_their_namespace_only() {
        let config: ConfigMap = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "c", "namespace": "demo"}, "data": {"K": "v"}
        }))
        .unwrap();
        let settings = Settings::new(&[config], &[]);
        let from: EnvFromSource = serde_json::from_value(
            serde_json::json!({"prefix": "P_", "configMapRef": {"name": "c"}}),
        )
        .unwrap();
        let (found, problems) = settings.variables("demo", std::slice::from_ref(&from), &[]);
        assert_eq!((found[0].name.as_str(), problems.len()), ("P_K", 0));
        let (found, problems) = settings.variables("other", &[from], &[]);
        assert_eq!((found.len(), problems.len()), (0, 1));
    }

    #[test]
    fn unknown_fields_are_problems() {
        let variable: EnvVar = serde_json::from_value(serde_json::json!({
            "name": "X", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}
        }))
        .unwrap();
        let (_, problems) = Settings::default().variables("demo", &[], &[variable]);
        assert_eq!(problems, ["env X: fieldRef metadata.uid is not known here"]);
    }
}
