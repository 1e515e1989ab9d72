//! `io.linkerd.proxy.meta.Metadata`, and its older form, the labels of the inbound API.

use super::{FieldError, Path, Problem};
use crate::Meta;
use linkerd2_proxy_api::meta::{Metadata, Resource, metadata::Kind};
use std::{collections::HashMap, sync::Arc};

pub(super) fn read(wire: Option<Metadata>, at: Path<'_>) -> Result<Arc<Meta>, FieldError> {
    let kind = wire.and_then(|metadata| metadata.kind);
    Ok(Arc::new(match at.required(kind, "kind")? {
        Kind::Default(name) => Meta::Default { name: name.into() },
        Kind::Resource(resource) => Meta::Resource {
            port: port(resource.port, at.field("resource").field("port"))?,
            group: resource.group.into(),
            kind: resource.kind.into(),
            namespace: resource.namespace.into(),
            name: resource.name.into(),
            section: resource.section.into(),
        },
    }))
}

/// 0 says that there is none.
fn port(wire: u32, at: Path<'_>) -> Result<Option<u16>, FieldError> {
    match u16::try_from(wire) {
        Ok(0) => Ok(None),
        Ok(port) => Ok(Some(port)),
        Err(_) => Err(at.error(Problem::Port(wire))),
    }
}

impl From<&Meta> for Metadata {
    fn from(meta: &Meta) -> Self {
        let kind = match meta {
            Meta::Default { name } => Kind::Default(name.to_string()),
            Meta::Resource {
                group,
                kind,
                namespace,
                name,
                section,
                port,
            } => Kind::Resource(Resource {
                group: group.to_string(),
                kind: kind.to_string(),
                name: name.to_string(),
                namespace: namespace.to_string(),
                section: section.to_string(),
                port: port.unwrap_or(0).into(),
            }),
        };
        Self { kind: Some(kind) }
    }
}

/// Labels carry group, kind and name only. Control planes before 2.12 send a name alone, which for
/// a default is `default:NAME`; `kind` is what such a name is otherwise of.
pub(super) fn read_labels(
    mut labels: HashMap<String, String>,
    kind: &str,
    at: Path<'_>,
) -> Result<Arc<Meta>, FieldError> {
    let name = at.required(labels.remove("name"), "name")?;
    if let Some(default) = name.strip_prefix("default:") {
        return Ok(Meta::default_named(default));
    }
    let kind = labels.remove("kind").unwrap_or_else(|| kind.to_owned());
    if kind == "default" {
        return Ok(Meta::default_named(&name));
    }
    let group = labels.remove("group");
    Ok(Arc::new(Meta::Resource {
        group: group.as_deref().unwrap_or("policy.linkerd.io").into(),
        kind: kind.into(),
        namespace: "".into(),
        name: name.into(),
        section: "".into(),
        port: None,
    }))
}

pub(super) fn write_labels(meta: &Meta) -> HashMap<String, String> {
    [
        ("group", meta.group()),
        ("kind", meta.kind()),
        ("name", meta.name()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        let owned = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        owned.collect()
    }

    #[test]
    fn metadata_comes_back_as_it_went() {
        let service = Meta::Resource {
            group: "core".into(),
            kind: "Service".into(),
            namespace: "demo".into(),
            name: "web".into(),
            section: "http".into(),
            port: Some(80),
        };
        for meta in [Arc::new(service), Meta::default_named("audit")] {
            let back = read(Some((&*meta).into()), Path::root());
            assert_eq!(back, Ok(meta));
        }
    }

    #[test]
    fn a_port_past_65535_is_refused() {
        let resource = Resource {
            port: 65_536,
            ..Resource::default()
        };
        let kind = Some(Kind::Resource(resource));
        let error = read(Some(Metadata { kind }), Path::root().field("metadata")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "metadata.resource.port: 65536 is not a port"
        );
        let error = read(None, Path::root().field("metadata")).unwrap_err();
        assert_eq!(error.to_string(), "metadata: missing kind");
    }

    #[test]
    fn labels_of_every_age() {
        let read = |pairs: &[_]| read_labels(labels(pairs), "server", Path::root());
        let current = [("group", ""), ("kind", "default"), ("name", "deny")];
        assert_eq!(read(&current), Ok(Meta::default_named("deny")));
        assert_eq!(
            read(&[("name", "default:deny")]),
            Ok(Meta::default_named("deny"))
        );
        let server = read(&[("name", "web")]).expect("a resource");
        assert_eq!(
            (server.group(), server.kind(), server.name()),
            ("policy.linkerd.io", "server", "web")
        );
        assert!(read(&[("kind", "server")]).is_err());
    }
}
