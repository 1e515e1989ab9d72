//! Pauses that double, with jitter.

use mesh_policy::outbound::Backoff;
use rand::RngExt;
use std::time::Duration;

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

    /// The next pause: at least the one that is due, at most that plus its jitter, and never
    /// above the longest.
    pub fn pause(&mut self) -> Duration {
        let base = self.next.min(self.params.max);
        self.next = (base * 2).min(self.params.max);
        let jitter = base.mul_f32(self.params.jitter.max(0.0) * rand::rng().random::<f32>());
        (base + jitter).min(self.params.max)
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
                let pause = pauses.pause();
                prop_assert!(pause >= due && pause <= max, "{n}: {pause:?}");
            }
        }
    }
}
