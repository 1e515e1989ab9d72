//! How a route chooses among its backends: the first that can serve, or by weight among those that
//! can. What cannot serve is passed over as long as something else can.
//!
//! Asked for each request, so it neither waits nor allocates; a route with one backend, which nearly
//! all are, asks nothing at all.

use mesh_policy::outbound::{self as policy, Backend, Route};
use rand::RngExt;
use std::{cell::Cell, rc::Rc};

/// A backend that may be unable to serve.
pub trait Serve {
    /// Whether it could serve now. From the first time on it keeps itself ready to be used.
    fn can_serve(&self) -> bool;
}

/// The backends of a route.
pub struct Distribution<B> {
    backends: Vec<(Rc<B>, u32)>,
    choice: Choice,
    /// All have been asked once: what is first needed when another fails is ready by then.
    is_warm: Cell<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    First,
    ByWeight,
}

impl<B: Serve> Distribution<B> {
    /// The backends of `route`, each made by `make`.
    pub fn new(route: &Route, make: impl Fn(&Backend) -> Rc<B>) -> Self {
        let (backends, choice) = match &route.distribution {
            policy::Distribution::Empty => (Vec::new(), Choice::First),
            policy::Distribution::FirstAvailable(all) => {
                (all.iter().map(|b| (make(b), 1)).collect(), Choice::First)
            }
            policy::Distribution::RandomAvailable(all) => {
                let weighted = all.iter().filter(|(_, weight)| *weight > 0);
                let made = weighted.map(|(b, weight)| (make(b), *weight));
                (made.collect(), Choice::ByWeight)
            }
        };
        Self {
            backends,
            choice,
            is_warm: Cell::new(false),
        }
    }

    /// The backends, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<B>> {
        self.backends.iter().map(|(backend, _)| backend)
    }

    /// The backend of the next request; none if there is no backend. When none can serve now, it is
    /// the one that would be chosen if all could, and its queue decides what becomes of the request.
    pub fn pick(&self) -> Option<Rc<B>> {
        if let [(only, _)] = &self.backends[..] {
            return Some(only.clone());
        }
        if !self.is_warm.replace(true) {
            self.iter().for_each(|backend| {
                backend.can_serve();
            });
        }
        match self.choice {
            Choice::First => self.first().cloned(),
            Choice::ByWeight => self.by_weight().cloned(),
        }
    }

    fn first(&self) -> Option<&Rc<B>> {
        let able = self.iter().find(|backend| backend.can_serve());
        able.or_else(|| self.iter().next())
    }

    fn by_weight(&self) -> Option<&Rc<B>> {
        let chosen = self.draw(|_| true)?;
        if chosen.can_serve() {
            return Some(chosen);
        }
        self.draw(|backend| backend.can_serve()).or(Some(chosen))
    }

    /// One of those that `may` be taken, by weight.
    fn draw(&self, may: impl Fn(&B) -> bool) -> Option<&Rc<B>> {
        let weights = self.backends.iter().filter(|(backend, _)| may(backend));
        let total: u64 = weights.clone().map(|(_, weight)| u64::from(*weight)).sum();
        if total == 0 {
            return None;
        }
        let mut at = rand::rng().random_range(0..total);
        for (backend, weight) in weights {
            match at.checked_sub(u64::from(*weight)) {
                Some(rest) => at = rest,
                None => return Some(backend),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_policy::{
        Meta,
        endpoint::Endpoint,
        outbound::{BackendKind, Queue},
    };
    use std::{collections::HashMap, sync::Arc};

    struct Fake {
        port: u16,
        able: Cell<bool>,
        asked: Cell<usize>,
    }

    impl Serve for Fake {
        fn can_serve(&self) -> bool {
            self.asked.set(self.asked.get() + 1);
            self.able.get()
        }
    }

    fn distribution(kind: policy::Distribution) -> Distribution<Fake> {
        let route = Route {
            meta: Meta::default_named("http"),
            distribution: kind,
        };
        Distribution::new(&route, |backend| {
            let BackendKind::Forward(endpoint) = &backend.kind else {
                panic!("only such are made here");
            };
            Rc::new(Fake {
                port: endpoint.addr.port(),
                able: Cell::new(true),
                asked: Cell::new(0),
            })
        })
    }

    fn first(ports: &[u16]) -> Distribution<Fake> {
        let all: Arc<[_]> = ports.iter().map(|port| backend(*port)).collect();
        distribution(policy::Distribution::FirstAvailable(all))
    }

    fn random(weights: &[(u16, u32)]) -> Distribution<Fake> {
        let all: Arc<[_]> = weights.iter().map(|(p, w)| (backend(*p), *w)).collect();
        distribution(policy::Distribution::RandomAvailable(all))
    }

    fn backend(port: u16) -> Backend {
        let endpoint = Endpoint::bare(([127, 0, 0, 1], port).into());
        Backend {
            meta: Meta::default_named("b"),
            queue: Queue::default(),
            kind: BackendKind::Forward(Box::new(endpoint)),
        }
    }

    fn set(distribution: &Distribution<Fake>, able: &[u16]) {
        for backend in distribution.iter() {
            backend.able.set(able.contains(&backend.port));
        }
    }

    fn picked(distribution: &Distribution<Fake>) -> Option<u16> {
        distribution.pick().map(|backend| backend.port)
    }

    fn shares(distribution: &Distribution<Fake>) -> HashMap<u16, usize> {
        let mut counts = HashMap::new();
        for _ in 0..4_000 {
            *counts.entry(picked(distribution).unwrap()).or_default() += 1;
        }
        counts
    }

    #[test]
    fn the_first_that_can_serve_is_taken() {
        let d = first(&[1, 2, 3]);
        for (able, want) in [
            (&[1, 2, 3][..], 1),
            (&[2, 3], 2),
            (&[3], 3),
            (&[1, 3], 1),
            (&[], 1),
        ] {
            set(&d, able);
            assert_eq!(picked(&d), Some(want), "{able:?}");
        }
        assert_eq!(picked(&first(&[])), None);
    }

    #[test]
    fn all_are_asked_once_so_that_a_fallback_is_ready_when_it_is_needed() {
        let d = first(&[1, 2]);
        for _ in 0..10 {
            assert_eq!(picked(&d), Some(1));
        }
        let asked: Vec<_> = d.iter().map(|b| b.asked.get()).collect();
        assert_eq!(asked, [11, 1]);
    }

    #[test]
    fn one_alone_is_not_asked() {
        for d in [first(&[1]), random(&[(1, 5)]), random(&[(1, 5), (2, 0)])] {
            set(&d, &[]);
            assert_eq!(picked(&d), Some(1));
            assert_eq!(d.iter().map(|b| b.asked.get()).sum::<usize>(), 0);
        }
    }

    #[test]
    fn weights_are_honoured_among_those_that_can_serve() {
        let d = random(&[(1, 1), (2, 3), (3, 4)]);
        let counts = shares(&d);
        assert!((350..650).contains(&counts[&1]), "{counts:?}");
        assert!((1_300..1_700).contains(&counts[&2]), "{counts:?}");

        set(&d, &[1, 2]);
        let counts = shares(&d);
        assert!(!counts.contains_key(&3), "{counts:?}");
        assert!((800..1_200).contains(&counts[&1]), "{counts:?}");
    }

    #[test]
    fn when_none_can_serve_weights_decide_who_says_so() {
        let d = random(&[(1, 1), (2, 3)]);
        set(&d, &[]);
        let counts = shares(&d);
        assert!((800..1_200).contains(&counts[&1]), "{counts:?}");
        assert_eq!(picked(&random(&[])), None);
        assert_eq!(picked(&random(&[(1, 0)])), None);
    }

    #[test]
    fn the_largest_weights_do_not_overflow() {
        let d = random(&[(1, u32::MAX), (2, u32::MAX)]);
        let counts = shares(&d);
        assert!(counts[&1] > 1_500 && counts[&2] > 1_500, "{counts:?}");
    }
}
