//! Who this workload is, and which service vouches for it (`IDENTITY_*`).
//!
//! Identity is on when `IDENTITY_SVC_ADDR` is set. Also here: the names that services of the
//! control plane have to prove. Only files and public certificates are kept, no secret.

use super::{
    parse::{self, Reason},
    vars::{PREFIX, Vars},
};
use crate::{
    addr::{Target, is_dns_name},
    tls::Roots,
};
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

/// The watched bundle; ours, not Linkerd's.
const ANCHORS_FILE: &str = "GOSSAMER_PROXY_IDENTITY_TRUST_ANCHORS_FILE";

/// Who this workload is, and which service vouches for it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The workload's name (`IDENTITY_LOCAL_NAME`, or `IDENTITY_SERVER_ID` and `_SERVER_NAME`).
    pub name: Arc<str>,
    /// The service that certifies it (`IDENTITY_SVC_ADDR`, `IDENTITY_SVC_NAME`).
    pub service: Service,
    /// Where trust begins.
    pub anchors: Anchors,
    /// The token that proves the service account; read anew for each request
    /// (`IDENTITY_TOKEN_FILE`).
    pub token_file: PathBuf,
    /// Where Linkerd's entrypoint has left a key and a request (`IDENTITY_DIR`).
    pub dir: Option<PathBuf>,
    /// Renewals wait at least and at most so long (`IDENTITY_MIN_REFRESH`,
    /// `IDENTITY_MAX_REFRESH`).
    pub refresh: (Duration, Duration),
}

/// Where the trust anchors come from.
#[derive(Clone, Debug)]
pub enum Anchors {
    /// The variable itself; the identity service may replace them (`IDENTITY_TRUST_ANCHORS`).
    Given(Roots),
    /// A file that is watched (`GOSSAMER_PROXY_IDENTITY_TRUST_ANCHORS_FILE`).
    File(PathBuf),
}

/// A service of the control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Where it is (`*_SVC_ADDR`).
    pub target: Target,
    /// The identity it has to prove by TLS; `None`: it is spoken to in clear (`*_SVC_NAME`).
    pub name: Option<Arc<str>>,
}

/// Reads `IDENTITY_*`; nothing when identity is off.
pub(super) fn identity(env: &mut Vars) -> Option<Identity> {
    if !is_on(env) {
        warn_half_configured(env);
        return None;
    }
    // Each is read even if another is wrong, so that all errors are reported.
    let service = service(env, "IDENTITY", true);
    let name = local_name(env);
    let anchors = anchors(env);
    let token_file = env.required("IDENTITY_TOKEN_FILE", path);
    let dir = env.opt("IDENTITY_DIR", path);
    let refresh = refresh(env);
    Some(Identity {
        name: name?,
        service,
        anchors: anchors?,
        token_file: token_file?,
        dir,
        refresh,
    })
}

/// Reads `{base}_SVC_ADDR` and `{base}_SVC_NAME`.
pub(super) fn service(env: &mut Vars, base: &str, has_identity: bool) -> Service {
    let target = env.required(&format!("{base}_SVC_ADDR"), parse::target);
    let name_var = format!("{base}_SVC_NAME");
    let name = env.opt(&name_var, dns_name);
    let Some(target) = target else {
        let target = Target::Addr(SocketAddr::from(([127, 0, 0, 1], 0)));
        return Service { target, name: None };
    };
    if !has_identity || is_same_pod(&target) {
        if name.is_some() && !has_identity {
            tracing::warn!(
                "identity is off, so {PREFIX}{name_var} cannot be verified: {target} is spoken to in clear"
            );
        }
        return Service { target, name: None };
    }
    if name.is_none() && env.text(&name_var).is_none() && !is_loopback(&target) {
        env.errors.push(format!(
            "{PREFIX}{name_var}: is required, because {target} is not a loopback address"
        ));
    }
    Service { target, name }
}

/// Whether the variable that turns identity on is set.
pub(super) fn is_on(env: &Vars) -> bool {
    env.text("IDENTITY_SVC_ADDR").is_some()
}

fn warn_half_configured(env: &Vars) {
    let others = [
        "IDENTITY_LOCAL_NAME",
        "IDENTITY_TOKEN_FILE",
        "IDENTITY_TRUST_ANCHORS",
    ];
    if let Some(name) = others.iter().find(|name| env.text(name).is_some()) {
        tracing::warn!(
            "{PREFIX}{name} is set, but {PREFIX}IDENTITY_SVC_ADDR is not: identity and TLS are off"
        );
    }
}

/// Helm sets the first only; the other two come together. Whatever is set says the same.
fn local_name(env: &mut Vars) -> Option<Arc<str>> {
    let vars = [
        "IDENTITY_LOCAL_NAME",
        "IDENTITY_SERVER_ID",
        "IDENTITY_SERVER_NAME",
    ];
    let [local, id, server] = vars.map(|name| env.text(name).is_some());
    let mut names = vars
        .map(|name| env.opt(name, dns_name))
        .into_iter()
        .flatten();
    if !(local || id && server) {
        env.errors
            .push(format!("{PREFIX}IDENTITY_LOCAL_NAME: is required"));
    }
    let name = names.next()?;
    if names.any(|other| other != name) {
        env.errors.push(format!(
            "{PREFIX}IDENTITY_LOCAL_NAME, _SERVER_ID, _SERVER_NAME: must be equal"
        ));
    }
    Some(name)
}

fn anchors(env: &mut Vars) -> Option<Anchors> {
    if let Some(file) = env.raw(ANCHORS_FILE) {
        return Some(Anchors::File(file.into()));
    }
    if env.text("IDENTITY_TRUST_ANCHORS").is_none() {
        env.errors.push(format!(
            "{PREFIX}IDENTITY_TRUST_ANCHORS: is required, or {ANCHORS_FILE}"
        ));
    }
    let roots = env.opt("IDENTITY_TRUST_ANCHORS", |pem| {
        Roots::from_pem(pem.as_bytes()).map_err(|e| e.to_string())
    });
    roots.map(Anchors::Given)
}

fn refresh(env: &mut Vars) -> (Duration, Duration) {
    let day = Duration::from_secs(86_400);
    let ten = Duration::from_secs(10);
    let min = env.or("IDENTITY_MIN_REFRESH", parse::duration, ten);
    let max = env.or("IDENTITY_MAX_REFRESH", parse::duration, day);
    if min > max {
        env.errors.push(format!(
            "{PREFIX}IDENTITY_MIN_REFRESH: {min:?} is above {PREFIX}IDENTITY_MAX_REFRESH, {max:?}"
        ));
    }
    (min, max.max(min))
}

fn dns_name(s: &str) -> Result<Arc<str>, Reason> {
    let name = s.strip_suffix('.').unwrap_or(s).to_ascii_lowercase();
    match is_dns_name(&name) {
        true => Ok(name.into()),
        false => Err(format!("{s:?} is not a DNS name")),
    }
}

fn path(s: &str) -> Result<PathBuf, Reason> {
    Ok(s.into())
}

/// Whether the address never leaves this machine.
fn is_loopback(target: &Target) -> bool {
    match target {
        Target::Addr(addr) => addr.ip().to_canonical().is_loopback(),
        Target::Name(name, _) => &**name == "localhost",
    }
}

/// Whether the service is this pod's own application: then there is no sidecar to speak TLS to,
/// though an injector may have set the name all the same.
fn is_same_pod(target: &Target) -> bool {
    match target {
        Target::Addr(addr) => match addr.ip().to_canonical() {
            std::net::IpAddr::V4(ip) => ip == std::net::Ipv4Addr::LOCALHOST,
            std::net::IpAddr::V6(ip) => ip == std::net::Ipv6Addr::LOCALHOST,
        },
        Target::Name(..) => is_loopback(target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Config, tls::testing::Authority};
    use std::collections::HashMap;

    const NAME: &str = "web.demo.serviceaccount.identity.gossamer.cluster.local";

    fn from_env(vars: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let pem = Authority::new("root").pem();
        let required = [
            ("DESTINATION_SVC_ADDR", "127.64.0.1:8086"),
            ("POLICY_SVC_ADDR", "127.64.0.1:8090"),
            ("POLICY_WORKLOAD", "w"),
            ("IDENTITY_SVC_ADDR", "127.64.0.1:8080"),
            ("IDENTITY_LOCAL_NAME", NAME),
            ("IDENTITY_TOKEN_FILE", "/token"),
            ("IDENTITY_TRUST_ANCHORS", &pem),
        ];
        let mut all = HashMap::new();
        for (name, value) in required.iter().chain(vars) {
            let name = match name.starts_with("GOSSAMER") {
                true => name.to_string(),
                false => format!("{PREFIX}{name}"),
            };
            all.insert(name, value.to_string());
        }
        Config::from_env(all).map_err(|e| e.0)
    }

    fn identity(vars: &[(&str, &str)]) -> Identity {
        from_env(vars).unwrap().identity.unwrap()
    }

    #[test]
    fn identity_is_on_with_its_service() {
        let on = identity(&[]);
        assert_eq!(&*on.name, NAME);
        assert_eq!(on.service.name, None);
        assert_eq!(
            on.refresh,
            (Duration::from_secs(10), Duration::from_secs(86_400))
        );
        assert!(matches!(on.anchors, Anchors::Given(roots) if roots.count() == 1));
        let off = from_env(&[("IDENTITY_SVC_ADDR", "")]).unwrap();
        assert!(off.identity.is_none());
    }

    #[test]
    fn a_file_of_anchors_wins() {
        let file = identity(&[(ANCHORS_FILE, "/anchors.pem")]);
        assert!(matches!(file.anchors, Anchors::File(p) if p.ends_with("anchors.pem")));
    }

    #[test]
    fn all_that_is_missing_or_wrong_is_told() {
        let errors = from_env(&[
            ("IDENTITY_LOCAL_NAME", ""),
            ("IDENTITY_TOKEN_FILE", ""),
            ("IDENTITY_TRUST_ANCHORS", "no PEM"),
            ("IDENTITY_MIN_REFRESH", "2d"),
            ("DESTINATION_SVC_ADDR", "dst.example:8086"),
        ])
        .unwrap_err();
        for name in [
            "IDENTITY_LOCAL_NAME",
            "IDENTITY_TOKEN_FILE",
            "IDENTITY_TRUST_ANCHORS",
            "IDENTITY_MIN_REFRESH",
            "DESTINATION_SVC_NAME",
        ] {
            let name = format!("{PREFIX}{name}:");
            assert!(
                errors.iter().any(|e| e.starts_with(&name)),
                "{name} {errors:?}"
            );
        }
        assert_eq!(errors.len(), 5, "{errors:?}");
    }

    #[test]
    fn services_off_the_machine_have_to_prove_a_name() {
        let of = |addr, name| {
            let vars = [("POLICY_SVC_ADDR", addr), ("POLICY_SVC_NAME", name)];
            from_env(&vars).map(|c| c.control.policy.name.map(|n| n.to_string()))
        };
        assert_eq!(of("p.example:1", "P.id"), Ok(Some("p.id".into())));
        assert!(of("p.example:1", "").is_err());
        assert!(of("10.0.0.1:1", "").is_err());
        assert_eq!(of("127.64.0.1:1", ""), Ok(None));
        assert_eq!(of("127.64.0.1:1", "p.id"), Ok(Some("p.id".into())));
        // The pod's own container, whatever the injector says.
        for own in ["localhost.:1", "127.0.0.1:1", "[::1]:1"] {
            assert_eq!(of(own, "p.id"), Ok(None), "{own}");
        }
    }

    #[test]
    fn a_server_id_is_as_good_as_a_local_name() {
        let of = |local, id, server| {
            from_env(&[
                ("IDENTITY_LOCAL_NAME", local),
                ("IDENTITY_SERVER_ID", id),
                ("IDENTITY_SERVER_NAME", server),
            ])
            .map(|c| c.identity.unwrap().name.to_string())
            .map_err(|errors| errors.len())
        };
        assert_eq!(of("", "a.b", "a.b"), Ok("a.b".into()));
        assert_eq!(of("a.b", "a.b", "a.b"), Ok("a.b".into()));
        assert_eq!(of("", "a.b", "a.c"), Err(1));
        assert_eq!(of("", "a.b", ""), Err(1));
        assert_eq!(of("a.b", "a.c", "a.c"), Err(1));
        assert_eq!(of("a b", "", ""), Err(1));
        assert_eq!(of("", "spiffe://a/b", "a.b"), Err(1));
    }
}
