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
}
