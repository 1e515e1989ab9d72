//! The order in which the endpoints of a balancer come into use.
//!
//! Each has a place that follows from its address, its weight and a seed of this balancer alone:
//! no two balancers agree, and none changes its mind. Those in use are a prefix of the order, so a
//! newcomer whose place is among them is used at once, and the chance of that is as for any other.
//!
//! An endpoint of twice the weight is in a short prefix about twice as often, so among those in use
//! it must not get twice the traffic as well; [`Ranks::pull`] says how much is left to give.
//! (Sampling by exponential keys; the estimate is that of bottom-k sketches.)

use ahash::RandomState;
use rand::RngExt;
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    ops::Bound::{Excluded, Unbounded},
};

/// The endpoints of a balancer, ordered; the first so many are in use.
pub(super) struct Ranks {
    order: BTreeSet<Place>,
    /// The last in use.
    last: Option<Place>,
    in_use: usize,
    /// The key of the first that is not in use.
    threshold: Option<f64>,
    hasher: RandomState,
}

/// A key of the order, as the bits of a positive `f64`, which sort alike; and whose it is.
type Place = (u64, SocketAddr);

// === impl Ranks ===

impl Ranks {
    pub(super) fn new() -> Self {
        Self::seeded(rand::rng().random::<u64>() as usize)
    }

    fn seeded(seed: usize) -> Self {
        Self {
            order: BTreeSet::new(),
            last: None,
            in_use: 0,
            threshold: None,
            hasher: RandomState::with_seed(seed),
        }
    }

    /// How many are in use.
    pub(super) fn in_use(&self) -> usize {
        self.in_use
    }

    /// Adds one; whether it is in use by that.
    pub(super) fn insert(&mut self, addr: SocketAddr, weight: u32) -> bool {
        let place = self.place(addr, weight);
        let is_new = self.order.insert(place);
        let is_used = is_new && self.last >= Some(place);
        self.in_use += usize::from(is_used);
        self.moved();
        is_used
    }

    /// Removes one; whether it was in use.
    pub(super) fn remove(&mut self, addr: SocketAddr, weight: u32) -> bool {
        let place = self.place(addr, weight);
        let was_used = self.order.remove(&place) && self.last >= Some(place);
        if was_used {
            self.in_use -= 1;
            if self.last == Some(place) {
                self.last = self.order.range(..place).next_back().copied();
            }
        }
        self.moved();
        was_used
    }

    /// Takes the next one into use.
    pub(super) fn extend(&mut self) -> Option<SocketAddr> {
        let next = self.next()?;
        self.last = Some(next);
        self.in_use += 1;
        self.moved();
        Some(next.1)
    }

    /// The last one that is in use.
    pub(super) fn last(&self) -> Option<SocketAddr> {
        self.last.map(|(_, addr)| addr)
    }

    /// Takes the last one out of use.
    pub(super) fn shorten(&mut self) {
        if let Some(last) = self.last {
            self.last = self.order.range(..last).next_back().copied();
            self.in_use -= 1;
            self.moved();
        }
    }

    /// How much of the traffic is for one of those in use, relative to the others: its weight over
    /// the probability that it is among them.
    pub(super) fn pull(&self, weight: u32) -> f64 {
        let weight = f64::from(weight);
        match self.threshold {
            Some(threshold) if weight > 0.0 => weight / -libm::expm1(-weight * threshold),
            _ => weight,
        }
    }

    fn moved(&mut self) {
        self.threshold = self.next().map(|(key, _)| f64::from_bits(key));
    }

    fn next(&self) -> Option<Place> {
        match self.last {
            Some(last) => self.order.range((Excluded(last), Unbounded)).next(),
            None => self.order.first(),
        }
        .copied()
    }

    fn place(&self, addr: SocketAddr, weight: u32) -> Place {
        // Above 0 and at most 1, in steps of an `f64`'s precision.
        let uniform = ((self.hasher.hash_one(addr) >> 11) + 1) as f64 / (1u64 << 53) as f64;
        // Not -0.0, whose bits sort last.
        let key = libm::log(uniform).abs() / f64::from(weight);
        (key.to_bits(), addr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn addr(n: u32) -> SocketAddr {
        (std::net::Ipv4Addr::from_bits(0x7f00_0000 | n), 80).into()
    }

    fn ranks(seed: usize, weights: impl IntoIterator<Item = u32>) -> Ranks {
        let mut ranks = Ranks::seeded(seed);
        for (n, weight) in (0..).zip(weights) {
            ranks.insert(addr(n), weight);
        }
        ranks
    }

    fn used(ranks: &mut Ranks, n: usize) -> Vec<SocketAddr> {
        (0..n).filter_map(|_| ranks.extend()).collect()
    }

    #[test]
    fn the_order_is_of_the_balancer_alone_and_stays() {
        let first = |seed| used(&mut ranks(seed, [1; 100]), 10);
        assert_eq!(first(1), first(1));
        assert_ne!(first(1), first(2));
    }

    #[test]
    fn every_endpoint_has_the_same_chance() {
        let mut counts = [0; 20];
        for seed in 0..4_000 {
            let used: HashSet<_> = used(&mut ranks(seed, [1; 20]), 5).into_iter().collect();
            (0..20).for_each(|n| counts[n as usize] += u32::from(used.contains(&addr(n))));
        }
        assert!(
            counts.iter().all(|c| (850..1_150).contains(c)),
            "{counts:?}"
        );
    }

    #[test]
    fn traffic_is_by_weight_whatever_is_in_use() {
        // One in five is of four times the weight: half of the traffic is for those.
        let weights: Vec<_> = (0..50).map(|n| if n % 5 == 0 { 40 } else { 10 }).collect();
        for width in [3, 10, 49, 50] {
            let mut heavy = 0.0;
            for seed in 0..2_000 {
                let mut ranks = ranks(seed, weights.clone());
                let used = used(&mut ranks, width);
                let pull = |n: u32| ranks.pull(weights[n as usize]);
                let all: Vec<_> = (0..50).filter(|n| used.contains(&addr(*n))).collect();
                let of =
                    |f: &dyn Fn(&u32) -> bool| all.iter().copied().filter(f).map(pull).sum::<f64>();
                heavy += of(&|n| n % 5 == 0) / of(&|_| true) / 2_000.0;
            }
            assert!((heavy - 0.5).abs() < 0.04, "{width} in use: {heavy}");
        }
    }

    #[test]
    fn what_has_no_weight_comes_last_and_gets_nothing() {
        let mut ranks = ranks(1, [0, 10, 10]);
        assert_eq!(used(&mut ranks, 3)[2], addr(0));
        assert_eq!(ranks.pull(0), 0.0);
    }

    proptest! {
        #[test]
        fn those_in_use_are_a_prefix(steps in prop::collection::vec((0u8..4, 0u32..40), 0..200)) {
            let mut ranks = Ranks::seeded(7);
            let mut used = HashSet::new();
            for (step, n) in steps {
                match step {
                    0 if ranks.insert(addr(n), 10) => prop_assert!(used.insert(addr(n))),
                    1 => prop_assert_eq!(ranks.remove(addr(n), 10), used.remove(&addr(n))),
                    2 => used.extend(ranks.extend()),
                    3 => {
                        if let Some(last) = ranks.last() {
                            used.remove(&last);
                        }
                        ranks.shorten();
                    }
                    _ => {}
                }
                let prefix = ranks.order.iter().map(|(_, addr)| *addr).take(ranks.in_use());
                prop_assert_eq!(prefix.collect::<HashSet<_>>(), used.clone());
            }
        }
    }
}
