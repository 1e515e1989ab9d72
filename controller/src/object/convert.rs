//! From the objects of the Kubernetes API to what is kept of them.

use super::{
    Key, Namespace, Owner, Pod, ReplicaSet, Service, ServicePort, Slice, SliceEndpoint, TargetPort,
    Warnings, annotations::Annotations,
};
use k8s_openapi::{
    api::{
        apps::v1 as apps,
        core::v1::{self as core, PodSpec},
        discovery::v1 as discovery,
    },
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use mesh_policy::outbound::Declared;
use std::{net::IpAddr, sync::Arc};

/// The label by which an EndpointSlice says whose it is.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

impl Namespace {
    /// What is kept of `api`.
    pub fn read(api: core::Namespace, warnings: &mut Warnings) -> Self {
        let annotations = api.metadata.annotations.unwrap_or_default();
        let mut annotations = Annotations {
            map: &annotations,
            warnings,
        };
        Self {
            config: annotations.proxy_config(),
            key: Key {
                namespace: "".into(),
                name: api.metadata.name.unwrap_or_default().into(),
            },
        }
    }
}

impl Service {
    /// What is kept of `api`.
    pub fn read(api: core::Service, warnings: &mut Warnings) -> Self {
        let spec = api.spec.unwrap_or_default();
        let annotations = api.metadata.annotations.clone().unwrap_or_default();
        let ports = spec.ports.unwrap_or_default();
        let ips = match spec.cluster_ips {
            Some(ips) if !ips.is_empty() => ips,
            _ => spec.cluster_ip.into_iter().collect(),
        };
        let ips = ips.iter().filter(|ip| !ip.is_empty() && *ip != "None");
        let cluster_ips = kept(ips.filter_map(|ip| address(ip, "spec.clusterIP", warnings)));
        let ports = ports.into_iter().enumerate();
        let ports = kept(ports.filter_map(|(i, port)| service_port(i, port, warnings)));
        if spec.session_affinity.as_deref() == Some("ClientIP") {
            let problem = "ClientIP is not acted on: every request is balanced";
            warnings.add("spec.sessionAffinity", problem);
        }
        if spec.internal_traffic_policy.as_deref() == Some("Local") {
            let problem = "Local is not acted on: endpoints of all nodes are used";
            warnings.add("spec.internalTrafficPolicy", problem);
        }
        let mut annotations = Annotations {
            map: &annotations,
            warnings,
        };
        annotations.report_routes();
        Self {
            cluster_ips,
            ports,
            external: spec.type_.as_deref() == Some("ExternalName"),
            selector: spec.selector.unwrap_or_default().into(),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or_default(),
            opaque_ports: annotations.opaque_ports(),
            failure_accrual: annotations.failure_accrual(),
            key: key(api.metadata),
        }
    }
}

fn service_port(
    index: usize,
    port: core::ServicePort,
    warnings: &mut Warnings,
) -> Option<ServicePort> {
    if !is_tcp(port.protocol.as_deref()) {
        return None;
    }
    let at = format!("spec.ports[{index}]");
    let number = number(port.port, format!("{at}.port"), warnings)?;
    let target = match port.target_port {
        Some(IntOrString::Int(target)) if target != 0 => {
            TargetPort::Number(self::number(target, format!("{at}.targetPort"), warnings)?)
        }
        // YAML often quotes numbers.
        Some(IntOrString::String(name)) => match name.parse() {
            Ok(target) => TargetPort::Number(target),
            Err(_) => TargetPort::Named(name.into()),
        },
        _ => TargetPort::Number(number),
    };
    Some(ServicePort {
        name: port.name.unwrap_or_default().into(),
        port: number,
        target,
        declared: declared(port.app_protocol.as_deref()),
    })
}

/// What Linkerd makes of `appProtocol`: what it does not know is left alone.
fn declared(app_protocol: Option<&str>) -> Declared {
    match app_protocol {
        None | Some("") => Declared::Unknown,
        Some("http") => Declared::Http1,
        Some("kubernetes.io/h2c") => Declared::Http2,
        Some(_) => Declared::Opaque,
    }
}

impl Slice {
    /// What is kept of `api`; `None` when it belongs to no Service.
    pub fn read(api: discovery::EndpointSlice, warnings: &mut Warnings) -> Option<Self> {
        let labels = api.metadata.labels.as_ref()?;
        let service = labels.get(SERVICE_NAME)?.as_str().into();
        let ports = api.ports.unwrap_or_default();
        let ports = ports.into_iter().filter(|p| is_tcp(p.protocol.as_deref()));
        let ports = ports.filter_map(|port| {
            let number = number(port.port?, "ports.port", warnings)?;
            Some((port.name.unwrap_or_default().into(), number))
        });
        let ports = kept(ports);
        let endpoints = api.endpoints.into_iter();
        let endpoints = endpoints.filter_map(|endpoint| slice_endpoint(endpoint, warnings));
        let endpoints = kept(endpoints);
        Some(Self {
            key: key(api.metadata),
            service,
            ports,
            endpoints,
        })
    }
}

fn slice_endpoint(api: discovery::Endpoint, warnings: &mut Warnings) -> Option<SliceEndpoint> {
    if api.conditions.and_then(|c| c.ready) == Some(false) {
        return None;
    }
    let first = api.addresses.first()?;
    let target = api.target_ref.filter(|r| r.kind.as_deref() == Some("Pod"));
    Some(SliceEndpoint {
        ip: address(first, "endpoints.addresses", warnings)?,
        hostname: api.hostname.map(Arc::from),
        pod: target.and_then(|r| r.name).map(Arc::from),
        zone: api.zone.map(Arc::from),
    })
}

impl Pod {
    /// What is kept of `api`.
    pub fn read(api: core::Pod, warnings: &mut Warnings) -> Self {
        let status = api.status.unwrap_or_default();
        let spec = api.spec.unwrap_or_default();
        let meta = api.metadata;
        let conditions = status.conditions.unwrap_or_default();
        let ready = |c: &core::PodCondition| c.type_ == "Ready" && c.status == "True";
        let ips = status.pod_ips.unwrap_or_default().into_iter().map(|p| p.ip);
        let mut ips = kept(ips.filter_map(|ip| address(&ip, "status.podIPs", warnings)));
        let primary = status.pod_ip.filter(|ip| !ip.is_empty());
        let primary = primary.and_then(|ip| address(&ip, "status.podIP", warnings));
        if let Some(primary) = primary.filter(|ip| !ips.contains(ip)) {
            ips.insert(0, primary);
        }
        let annotations = meta.annotations.clone().unwrap_or_default();
        let mut annotations = Annotations {
            map: &annotations,
            warnings,
        };
        Self {
            ips,
            labels: meta.labels.clone().unwrap_or_default().into(),
            running: status.phase.as_deref() == Some("Running")
                && meta.deletion_timestamp.is_none(),
            ready: conditions.iter().any(ready),
            owner: owner(&meta),
            config: annotations.proxy_config(),
            named_ports: named_ports(&spec),
            hostname: spec.hostname.map(Arc::from),
            subdomain: spec.subdomain.map(Arc::from),
            service_account: spec
                .service_account_name
                .as_deref()
                .unwrap_or("default")
                .into(),
            key: key(meta),
        }
    }
}

/// Native sidecars are init containers that go on running, so those count too.
fn named_ports(spec: &PodSpec) -> Vec<(Arc<str>, u16)> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars);
    let ports = ports.flat_map(|container| container.ports.iter().flatten());
    let ports = ports.filter(|port| is_tcp(port.protocol.as_deref()));
    kept(ports.filter_map(|port| {
        let number = u16::try_from(port.container_port).ok()?;
        Some((port.name.as_deref()?.into(), number))
    }))
}

impl ReplicaSet {
    /// What is kept of `api`.
    pub fn read(api: apps::ReplicaSet) -> Self {
        Self {
            owner: owner(&api.metadata),
            key: key(api.metadata),
        }
    }
}

fn owner(meta: &ObjectMeta) -> Option<Owner> {
    let mut owners = meta.owner_references.iter().flatten();
    let owner = owners.find(|owner| owner.controller == Some(true))?;
    Some(Owner {
        kind: owner.kind.as_str().into(),
        name: owner.name.as_str().into(),
    })
}

fn key(meta: ObjectMeta) -> Key {
    let namespace = meta.namespace.filter(|ns| !ns.is_empty());
    Key {
        namespace: namespace.as_deref().unwrap_or("default").into(),
        name: meta.name.unwrap_or_default().into(),
    }
}

/// Collects what is kept, in as much memory as that takes. `collect` alone leaves room for more, or
/// even takes over the memory of what it collects from, which is many times as large.
fn kept<T>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut kept: Vec<T> = items.collect();
    kept.shrink_to_fit();
    kept
}

fn is_tcp(protocol: Option<&str>) -> bool {
    matches!(protocol, None | Some("" | "TCP"))
}

fn address(ip: &str, at: &str, warnings: &mut Warnings) -> Option<IpAddr> {
    let parsed = ip.parse().ok();
    if parsed.is_none() {
        warnings.add(at, format_args!("{ip:?} is not an IP address"));
    }
    parsed
}

fn number(port: i32, at: impl std::fmt::Display, warnings: &mut Warnings) -> Option<u16> {
    let number = u16::try_from(port).ok().filter(|port| *port > 0);
    if number.is_none() {
        warnings.add(at, format_args!("{port} is not a port"));
    }
    number
}
