//! Pauses that double, with jitter.

use mesh_policy::outbound::Backoff;
use rand::RngExt;
use std::time::Duration;

/// What a pause of nothing doubles to.
const LEAST: Duration = Duration::from_millis(1);

/// The pauses of one series of failures.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    params: Backoff,
    next: Duration,
}

impl Pauses {
    /// Starts at the shortest pause.
    pub fn new(params: Backoff) -> Self {
        Self {
            params,
            next: params.min,
        }
    }

    /// The next pause, within the bounds. The jitter is added while there is room below the longest
    /// pause, and taken off where there is none: who waits for the same thing never comes at once.
    pub fn pause(&mut self) -> Duration {
        let Backoff { min, max, jitter } = self.params;
        let due = self.next.min(max);
        self.next = (due * 2).max(LEAST).min(max);
        let spread = due.mul_f32(jitter.max(0.0));
        let longest = (due + spread).min(max);
        let shortest = longest.saturating_sub(spread).max(min).min(longest);
        let random = (longest - shortest).mul_f32(rand::rng().random());
        (shortest + random).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_stay_within_their_bounds(min in 1u64..1_000, factor in 1u64..100, jitter in 0f32..5.0) {
            let max = Duration::from_millis(min * factor);
            let min = Duration::from_millis(min);
            let mut pauses = Pauses::new(Backoff { min, max, jitter });
            for n in 0..20 {
                let due = (min * (1u32 << n.min(16))).min(max);
                let spread = due.mul_f32(jitter);
                let pause = pauses.pause();
                prop_assert!(pause >= min && pause <= max, "{n}: {pause:?}");
                let slack = Duration::from_micros(100);
                prop_assert!(pause + spread + slack >= due && pause <= due + spread + slack, "{n}: {pause:?}");
            }
        }
    }

    #[test]
    fn no_two_wait_equally_long_even_for_the_longest() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(8));
        let after_many = || {
            let mut pauses = Pauses::new(Backoff {
                min,
                max,
                jitter: 0.1,
            });
            (0..10).map(|_| pauses.pause()).last()
        };
        let longest: std::collections::HashSet<_> = (0..20).map(|_| after_many()).collect();
        assert!(longest.len() > 10, "{longest:?}");
    }

    #[test]
    fn a_pause_of_nothing_does_not_stay_one() {
        let (min, max) = (Duration::ZERO, Duration::from_secs(1));
        let mut pauses = Pauses::new(Backoff {
            min,
            max,
            jitter: 0.0,
        });
        let all: Vec<_> = (0..4).map(|_| pauses.pause().as_millis()).collect();
        assert_eq!(all, [0, 1, 2, 4]);
    }
}
