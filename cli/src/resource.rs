//! `KIND`, `KIND/NAME` or `KIND NAME`, as `kubectl` takes them.
//!
//! Pure; for the commands that show objects of a kind.

use crate::api::Kind;

/// What was asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Resource {
    pub(crate) kind: Kind,
    pub(crate) name: Option<String>,
}

impl Resource {
    /// The error for a name that nothing has.
    pub(crate) fn missing(&self, namespace: Option<&str>) -> anyhow::Error {
        let kind = self.kind.full();
        let name = self.name.as_deref().unwrap_or_default();
        let place = namespace.filter(|_| self.kind != Kind::Namespace);
        let place = place.map_or_else(String::new, |namespace| {
            format!(" in namespace {namespace}")
        });
        let short = self.kind.short();
        anyhow::anyhow!("no {kind} {name}{place}; `meshctl stat {short}` lists what there is")
    }

    /// What a command line asks for; `None` if it does not say.
    pub(crate) fn given(
        resource: Option<&str>,
        name: Option<&str>,
        kinds: &[Kind],
    ) -> anyhow::Result<Option<Self>> {
        resource
            .map(|resource| Self::parse(resource, name, kinds))
            .transpose()
    }

    /// `resource` and perhaps a name of its own; only of these kinds.
    fn parse(resource: &str, name: Option<&str>, kinds: &[Kind]) -> anyhow::Result<Self> {
        let (kind, own_name) = match resource.split_once('/') {
            Some((kind, own_name)) => (kind, Some(own_name)),
            None => (resource, None),
        };
        let known = Kind::parse(kind).filter(|kind| kinds.contains(kind));
        let kind = known.ok_or_else(|| {
            let names: Vec<_> = kinds.iter().map(|kind| kind.short()).collect();
            anyhow::anyhow!("{kind:?} cannot be shown; take one of {}", names.join(", "))
        })?;
        anyhow::ensure!(
            own_name.is_none() || name.is_none(),
            "two names given; take `{resource}` or `{} {}`",
            kind.short(),
            name.unwrap_or_default()
        );
        let name = own_name.or(name).map(str::to_string);
        Ok(Self { kind, name })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_read_as_linkerd_reads_them() {
        let kinds = [Kind::Deployment, Kind::Service];
        let parsed = |resource, name| Resource::parse(resource, name, &kinds).ok();
        let is = |kind, name: Option<&str>| {
            let name = name.map(str::to_string);
            Some(Resource { kind, name })
        };
        assert_eq!(
            parsed("deploy/web", None),
            is(Kind::Deployment, Some("web"))
        );
        assert_eq!(
            parsed("deployments", Some("web")),
            is(Kind::Deployment, Some("web"))
        );
        assert_eq!(parsed("svc", None), is(Kind::Service, None));
        assert_eq!(parsed("deploy/a", Some("b")), None);
        assert_eq!(parsed("gateway", None), None);
        let error = Resource::parse("pod", None, &kinds)
            .unwrap_err()
            .to_string();
        assert_eq!(error, "\"pod\" cannot be shown; take one of deploy, svc");
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = |kind, namespace| {
            let name = Some("nope".to_string());
            Resource { kind, name }.missing(namespace).to_string()
        };
        assert_eq!(
            missing(Kind::Deployment, Some("demo")),
            "no deployment nope in namespace demo; `meshctl stat deploy` lists what there is"
        );
        assert_eq!(
            missing(Kind::Namespace, Some("demo")),
            "no namespace nope; `meshctl stat ns` lists what there is"
        );
    }
}
