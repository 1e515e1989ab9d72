//! The endpoints of an authority, collected from the controller's stream.
//!
//! The stream never ends by itself: what has come when it pauses is taken for complete.

use crate::parts::{self, object};
use linkerd2_proxy_api::destination::destination_client::DestinationClient;
use linkerd2_proxy_api::destination::{
    GetDestination, Update, WeightedAddr, protocol_hint, update,
};
use linkerd2_proxy_api::net::{IpAddress, TcpAddress, ip_address};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;

const DEADLINE: Duration = Duration::from_secs(5);
/// Between updates that belong together.
const PAUSE: Duration = Duration::from_millis(200);

/// One endpoint, in Linkerd's JSON names.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Endpoint {
    namespace: String,
    ip: String,
    port: u16,
    pod: String,
    service: String,
    weight: u32,
    http2: bool,
    labels: BTreeMap<String, String>,
}

/// Why an authority has no endpoints to show.
#[derive(Debug, thiserror::Error)]
pub(super) enum EndpointsError {
    #[error("{0:?} is no authority; give NAME.NAMESPACE:PORT, such as web.demo:80")]
    Authority(String),
    #[error("the destination service at {0} cannot be reached; is the controller running?")]
    Connect(SocketAddr),
    #[error("{0}: {1}")]
    Refused(String, String),
    #[error("{0}: no answer from the controller within {DEADLINE:?}")]
    Deadline(String),
    #[error("{0}: no such service")]
    Unknown(String),
    #[error("{0}: the service has no ready endpoints")]
    Empty(String),
    #[error("{0}: the service has no such port; it has {1}")]
    Port(String, String),
}

/// The full authority for one that may end after the namespace.
pub(super) fn complete(text: &str) -> Result<String, EndpointsError> {
    let wrong = || EndpointsError::Authority(text.to_string());
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    port.parse::<u16>().map_err(|_| wrong())?;
    let labels = host.split('.').collect::<Vec<_>>();
    if labels.iter().any(|label| label.is_empty()) || labels.len() < 2 {
        return Err(wrong());
    }
    Ok(match labels.as_slice() {
        [_, _] => format!("{host}.svc.cluster.local:{port}"),
        [_, _, "svc"] => format!("{host}.cluster.local:{port}"),
        _ => text.to_string(),
    })
}

/// Asks for the endpoints of a full authority.
pub(super) async fn resolve(
    addr: SocketAddr,
    authority: &str,
    token: &str,
) -> Result<Vec<Endpoint>, EndpointsError> {
    let refused = |status: tonic::Status| {
        EndpointsError::Refused(authority.to_string(), status.message().to_string())
    };
    let late = |_| EndpointsError::Deadline(authority.to_string());
    let deadline = Instant::now() + DEADLINE;
    let channel = Channel::from_shared(format!("http://{addr}"))
        .map_err(|_| EndpointsError::Connect(addr))?
        .connect_timeout(DEADLINE);
    let channel = channel
        .connect()
        .await
        .map_err(|_| EndpointsError::Connect(addr))?;
    let mut client = DestinationClient::new(channel);
    let request = GetDestination {
        scheme: "k8s".to_string(),
        path: authority.to_string(),
        context_token: token.to_string(),
    };
    let response = timeout_at(deadline, client.get(request))
        .await
        .map_err(late)?;
    let mut updates = response.map_err(refused)?.into_inner();
    let mut set = EndpointSet::new(authority);
    let mut wait = DEADLINE;
    loop {
        let wait_until = deadline.min(Instant::now() + wait);
        match timeout_at(wait_until, updates.message()).await {
            Ok(update) => match update.map_err(refused)? {
                Some(update) => set.apply(update),
                None => break,
            },
            Err(_) if set.answered => break,
            Err(elapsed) => return Err(late(elapsed)),
        }
        wait = PAUSE;
    }
    set.finish()
}

/// A better reason for an empty answer, by the manifests that the controller of a local mesh reads.
pub(super) fn explained(error: EndpointsError, manifests: &str) -> EndpointsError {
    let EndpointsError::Empty(authority) = error else {
        return error;
    };
    match other_ports(&authority, manifests) {
        Some(ports) => EndpointsError::Port(authority, ports),
        None => EndpointsError::Empty(authority),
    }
}

/// The ports of the authority's service, if the authority's is not among them.
fn other_ports(authority: &str, manifests: &str) -> Option<String> {
    let (host, port) = authority.rsplit_once(':')?;
    let host: Vec<_> = host.split('.').collect();
    let at = host.iter().position(|label| *label == "svc")?;
    let [.., name, namespace] = host[..at] else {
        return None;
    };
    let objects = parts::manifest(manifests).ok()?.objects;
    let key = object::Key::new(namespace, name);
    let mut services = objects.iter().filter_map(|object| match object {
        object::Object::Service(service) if service.key == key => Some(service),
        _ => None,
    });
    let service = services.next()?;
    if service.port(port.parse().ok()?).is_some() {
        return None;
    }
    let ports = service.ports.iter().map(|port| port.port.to_string());
    let ports = ports.collect::<Vec<_>>().join(", ");
    Some(if ports.is_empty() {
        "none".to_string()
    } else {
        ports
    })
}

/// The endpoints known so far.
struct EndpointSet {
    authority: String,
    service: String,
    endpoints: BTreeMap<SocketAddr, Endpoint>,
    answered: bool,
    exists: bool,
}

// === impl EndpointSet ===

impl EndpointSet {
    fn new(authority: &str) -> Self {
        let service = authority.split('.').take(2).collect::<Vec<_>>().join(".");
        Self {
            authority: authority.to_string(),
            service,
            endpoints: BTreeMap::new(),
            answered: false,
            exists: true,
        }
    }

    fn apply(&mut self, update: Update) {
        self.answered = true;
        match update.update {
            Some(update::Update::Add(set)) => {
                self.exists = true;
                for addr in set.addrs {
                    if let Some(at) = addr.addr.as_ref().and_then(socket_addr) {
                        let endpoint = self.endpoint(at, addr, &set.metric_labels);
                        self.endpoints.insert(at, endpoint);
                    }
                }
            }
            Some(update::Update::Remove(set)) => {
                for at in set.addrs.iter().filter_map(socket_addr) {
                    self.endpoints.remove(&at);
                }
            }
            Some(update::Update::NoEndpoints(none)) => {
                self.exists = none.exists;
                self.endpoints.clear();
            }
            None => {}
        }
    }

    fn endpoint(
        &self,
        at: SocketAddr,
        addr: WeightedAddr,
        common: &HashMap<String, String>,
    ) -> Endpoint {
        let mut labels: BTreeMap<_, _> = common.clone().into_iter().collect();
        labels.extend(addr.metric_labels);
        let hint = addr.protocol_hint.and_then(|hint| hint.protocol);
        let own = |key: &str| labels.get(key).cloned().unwrap_or_default();
        Endpoint {
            namespace: own("namespace"),
            ip: at.ip().to_string(),
            port: at.port(),
            pod: own("pod"),
            service: self.service.clone(),
            weight: addr.weight,
            http2: matches!(hint, Some(protocol_hint::Protocol::H2(_))),
            labels,
        }
    }

    fn finish(self) -> Result<Vec<Endpoint>, EndpointsError> {
        if !self.exists {
            return Err(EndpointsError::Unknown(self.authority));
        }
        if self.endpoints.is_empty() {
            return Err(EndpointsError::Empty(self.authority));
        }
        Ok(self.endpoints.into_values().collect())
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// As the columns NAMESPACE IP PORT POD SERVICE.
    pub(super) fn cells(&self) -> Vec<String> {
        let Self {
            namespace,
            ip,
            port,
            pod,
            service,
            ..
        } = self;
        let shown = |text: &String| {
            if text.is_empty() {
                "-".to_string()
            } else {
                text.clone()
            }
        };
        vec![
            shown(namespace),
            ip.clone(),
            port.to_string(),
            shown(pod),
            service.clone(),
        ]
    }
}

fn socket_addr(addr: &TcpAddress) -> Option<SocketAddr> {
    let ip = match addr.ip.as_ref()? {
        IpAddress {
            ip: Some(ip_address::Ip::Ipv4(v4)),
        } => IpAddr::V4(Ipv4Addr::from(*v4)),
        IpAddress {
            ip: Some(ip_address::Ip::Ipv6(v6)),
        } => IpAddr::V6(Ipv6Addr::from(
            (u128::from(v6.first) << 64) | u128::from(v6.last),
        )),
        IpAddress { ip: None } => return None,
    };
    Some(SocketAddr::from((ip, u16::try_from(addr.port).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use linkerd2_proxy_api::destination::{AddrSet, NoEndpoints, ProtocolHint, WeightedAddrSet};

    fn tcp(last: u8) -> TcpAddress {
        let ip = Ipv4Addr::new(127, 64, 0, last);
        TcpAddress {
            ip: Some(IpAddress {
                ip: Some(ip_address::Ip::Ipv4(ip.into())),
            }),
            port: 8080,
        }
    }

    fn add(last: u8, pod: &str) -> Update {
        let label = |key: &str, value: &str| (key.to_string(), value.to_string());
        let addr = WeightedAddr {
            addr: Some(tcp(last)),
            weight: 10000,
            metric_labels: HashMap::from([label("pod", pod)]),
            ..WeightedAddr::default()
        };
        let metric_labels = HashMap::from([label("namespace", "demo")]);
        let set = WeightedAddrSet {
            addrs: vec![addr],
            metric_labels,
        };
        Update {
            update: Some(update::Update::Add(set)),
        }
    }

    #[test]
    fn authorities_are_completed_or_refused() {
        let full = "web.demo.svc.cluster.local:80";
        for text in ["web.demo:80", "web.demo.svc:80", full] {
            assert_eq!(complete(text).unwrap(), full);
        }
        for text in [
            "web:80",
            "web.demo",
            "web.demo:http",
            "web..demo:80",
            "",
            ":80",
        ] {
            assert!(complete(text).is_err(), "{text}");
        }
    }

    #[test]
    fn updates_build_the_set() {
        let mut set = EndpointSet::new("web.demo.svc.cluster.local:80");
        set.apply(add(3, "web-b"));
        set.apply(add(2, "web-a"));
        let remove = AddrSet {
            addrs: vec![tcp(3)],
        };
        set.apply(Update {
            update: Some(update::Update::Remove(remove)),
        });
        let found = set.finish().unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].cells(),
            ["demo", "127.64.0.2", "8080", "web-a", "web.demo"]
        );
    }

    #[test]
    fn only_what_is_known_to_speak_http2_says_so() {
        use protocol_hint::{H2, Opaque, Protocol};
        for (hint, http2) in [
            (None, false),
            (Some(Protocol::H2(H2 {})), true),
            (Some(Protocol::Opaque(Opaque {})), false),
        ] {
            let set = EndpointSet::new("web.demo:80");
            let addr = WeightedAddr {
                protocol_hint: Some(ProtocolHint {
                    protocol: hint,
                    ..ProtocolHint::default()
                }),
                ..WeightedAddr::default()
            };
            let at = SocketAddr::from(([127, 64, 0, 2], 80));
            assert_eq!(set.endpoint(at, addr, &HashMap::new()).http2, http2);
        }
    }

    #[test]
    fn a_missing_service_is_told_from_an_empty_one() {
        let none = |exists| {
            let mut set = EndpointSet::new("web.demo:80");
            let update = update::Update::NoEndpoints(NoEndpoints { exists });
            set.apply(Update {
                update: Some(update),
            });
            set.finish().unwrap_err()
        };
        assert!(matches!(none(true), EndpointsError::Empty(_)));
        assert!(matches!(none(false), EndpointsError::Unknown(_)));
    }

    #[test]
    fn a_port_that_a_service_lacks_is_told_from_endpoints_that_are_not_ready() {
        let manifests = "apiVersion: v1\nkind: Service\nmetadata: {name: api, namespace: shop}\n\
            spec: {ports: [{name: http, port: 80}, {name: grpc, port: 8081}]}\n";
        let said = |authority: &str| {
            let empty = EndpointsError::Empty(complete(authority).unwrap());
            explained(empty, manifests).to_string()
        };
        let wrong = "the service has no such port; it has 80, 8081";
        assert!(said("api.shop:81").ends_with(wrong));
        assert!(said("api-0.api.shop.svc.cluster.local:81").ends_with(wrong));
        for authority in ["api.shop:80", "web.shop:81"] {
            assert!(
                said(authority).ends_with("no ready endpoints"),
                "{authority}"
            );
        }
    }
}
