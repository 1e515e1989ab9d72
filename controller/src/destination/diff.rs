//! From one set of endpoints to the next, as updates. Pure.

use super::endpoints::{EndpointSet, Existence};
use crate::object::Key;
use linkerd2_proxy_api::destination::{
    AddrSet, NoEndpoints, Update, WeightedAddr, WeightedAddrSet, update,
};
use mesh_policy::endpoint::Endpoint;
use std::net::SocketAddr;

/// Keeps messages far below the 4 MiB that gRPC clients take.
const MAX_ADDRS: usize = 1000;

/// What a client that knows nothing has to be told; never nothing.
pub(super) fn all(set: &EndpointSet) -> Vec<Update> {
    if set.endpoints().is_empty() {
        return vec![no_endpoints(set)];
    }
    add(set, set.endpoints().iter())
}

/// What a client that knows `old` has to be told to know `new`. What is new comes before what is
/// gone, so that there is no moment without endpoints.
pub(super) fn between(old: &EndpointSet, new: &EndpointSet) -> Vec<Update> {
    if new.endpoints().is_empty() {
        let known = old.endpoints().is_empty() && old.existence == new.existence;
        return if known {
            vec![]
        } else {
            vec![no_endpoints(new)]
        };
    }
    let news = new.endpoints().iter();
    let news = news.filter(|endpoint| old.at(endpoint.addr) != Some(endpoint));
    let mut updates = add(new, news);
    let gone = old.endpoints().iter().map(|endpoint| endpoint.addr);
    let gone = gone.filter(|addr| new.at(*addr).is_none());
    updates.extend(remove(gone));
    updates
}

fn add<'a>(set: &EndpointSet, endpoints: impl Iterator<Item = &'a Endpoint>) -> Vec<Update> {
    let Key { namespace, name } = &set.service;
    let labels = [("service", name), ("namespace", namespace)];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_string()));
    let mut addrs = endpoints.map(WeightedAddr::from).peekable();
    let mut updates = Vec::new();
    while addrs.peek().is_some() {
        updates.push(update(update::Update::Add(WeightedAddrSet {
            addrs: addrs.by_ref().take(MAX_ADDRS).collect(),
            metric_labels: labels.clone().into(),
        })));
    }
    updates
}

fn remove(addrs: impl Iterator<Item = SocketAddr>) -> Option<Update> {
    let addrs: Vec<_> = addrs.map(Into::into).collect();
    let any = !addrs.is_empty();
    any.then(|| update(update::Update::Remove(AddrSet { addrs })))
}

fn no_endpoints(set: &EndpointSet) -> Update {
    let exists = set.existence == Existence::Exists;
    update(update::Update::NoEndpoints(NoEndpoints { exists }))
}

fn update(update: update::Update) -> Update {
    Update {
        update: Some(update),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(existence: Existence, endpoints: &[(u16, u32)]) -> EndpointSet {
        let endpoints = endpoints.iter().map(|(port, weight)| {
            let addr = SocketAddr::from(([10, 0, 0, 1], *port));
            Endpoint {
                weight: *weight,
                ..Endpoint::bare(addr)
            }
        });
        EndpointSet::new(existence, Key::new("demo", "web"), endpoints.collect())
    }

    /// `+port` per added, `-port` per removed address, `0` and `!` when there is none.
    fn told(updates: Vec<Update>) -> Vec<String> {
        let port = |addr: Option<linkerd2_proxy_api::net::TcpAddress>| addr.expect("set").port;
        updates
            .into_iter()
            .flat_map(|u| match u.update.expect("set") {
                update::Update::Add(set) => {
                    assert_eq!(set.metric_labels["service"], "web");
                    assert_eq!(set.metric_labels["namespace"], "demo");
                    let addrs = set.addrs.into_iter();
                    addrs.map(|a| format!("+{}", port(a.addr))).collect()
                }
                update::Update::Remove(set) => {
                    let addrs = set.addrs.into_iter();
                    addrs.map(|a| format!("-{}", port(Some(a)))).collect()
                }
                update::Update::NoEndpoints(none) if none.exists => vec!["0".to_owned()],
                update::Update::NoEndpoints(_) => vec!["!".to_owned()],
            })
            .collect()
    }

    #[test]
    fn the_first_update_says_it_all() {
        use Existence::{Exists, Missing};
        assert_eq!(told(all(&set(Exists, &[(1, 1), (2, 1)]))), ["+1", "+2"]);
        assert_eq!(told(all(&set(Exists, &[]))), ["0"]);
        assert_eq!(told(all(&set(Missing, &[]))), ["!"]);
    }

    #[test]
    fn then_only_differences() {
        use Existence::{Exists, Missing};
        let both: &[_] = &[(1, 1), (2, 1)];
        let table: [(_, _, _, _, &[&str]); 9] = [
            (Exists, both, Exists, both, &[]),
            (Exists, both, Exists, &[(2, 1), (3, 1)], &["+3", "-1"]),
            (Exists, both, Exists, &[(1, 1), (2, 7)], &["+2"]),
            (Exists, both, Exists, &[(1, 1)], &["-2"]),
            (Exists, both, Exists, &[], &["0"]),
            (Exists, both, Missing, &[], &["!"]),
            (Exists, &[], Missing, &[], &["!"]),
            (Missing, &[], Exists, &[], &["0"]),
            (Missing, &[], Exists, &[(1, 1)], &["+1"]),
        ];
        for (was, old, is, new, want) in table {
            assert_eq!(
                told(between(&set(was, old), &set(is, new))),
                want,
                "{old:?} {new:?}"
            );
        }
    }

    #[test]
    fn large_sets_come_in_several_messages() {
        let many: Vec<_> = (1..=2500).map(|port| (port, 1)).collect();
        let updates = all(&set(Existence::Exists, &many));
        assert_eq!(updates.len(), 3);
        assert_eq!(told(updates).len(), 2500);
    }
}
