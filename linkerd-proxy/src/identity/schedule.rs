//! When to ask for a certificate: pure functions of what is left of the current one.
//!
//! `random` is from 0 to 1, and makes sure that sidecars that were started together do not ask
//! together for ever.

use std::time::Duration;

/// Renewal is due after this part of what is left, give or take a tenth of it.
const PART: f64 = 0.7;

/// No wish of the configuration puts it off beyond this.
const LATEST: f64 = 0.85;

/// Pauses are no shorter.
const SHORTEST: Duration = Duration::from_secs(1);

/// Pauses between attempts are no longer, however much is left.
const LONGEST: Duration = Duration::from_secs(300);

/// Nor longer than this when there is no certificate to live on.
const LONGEST_WITHOUT: Duration = Duration::from_secs(5);

/// How long to wait with the renewal of a certificate that is valid for another `left`.
pub(super) fn renewal(left: Duration, (min, max): (Duration, Duration), random: f64) -> Duration {
    let jittered = PART * (0.9 + 0.2 * random);
    left.mul_f64(jittered)
        .max(min)
        .min(max)
        .min(left.mul_f64(LATEST))
        .max(SHORTEST)
}

/// How long to wait after the last of so many `failures` in a row, when the current certificate
/// is valid for another `left`.
pub(super) fn retry(failures: u32, left: Duration, random: f64) -> Duration {
    let longest = match left {
        Duration::ZERO => LONGEST_WITHOUT,
        left => (left / 10).clamp(SHORTEST, LONGEST),
    };
    let doubled = SHORTEST * 2_u32.pow(failures.saturating_sub(1).min(16));
    let base = doubled.min(longest);
    base.mul_f64(0.7 + 0.3 * random).max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANY: (Duration, Duration) = (Duration::ZERO, Duration::MAX);

    fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn renewal_is_at_seventy_percent_give_or_take_a_tenth() {
        let day = secs(100_000);
        assert_eq!(renewal(day, ANY, 0.0), secs(63_000));
        assert_eq!(renewal(day, ANY, 0.5), secs(70_000));
        assert_eq!(renewal(day, ANY, 1.0), secs(77_000));
    }

    #[test]
    fn renewal_keeps_to_the_configured_bounds_but_never_waits_for_the_end() {
        assert_eq!(renewal(secs(100_000), (secs(10), secs(60)), 0.5), secs(60));
        assert_eq!(renewal(secs(100), (secs(75), secs(80)), 0.0), secs(75));
        assert_eq!(renewal(secs(100), (secs(600), secs(900)), 0.5), secs(85));
        assert_eq!(renewal(Duration::ZERO, ANY, 0.5), secs(1));
    }

    #[test]
    fn retries_double_up_to_a_part_of_what_is_left() {
        let pauses = |left| (1..9).map(move |n| retry(n, left, 1.0).as_secs());
        assert!(pauses(secs(600)).eq([1, 2, 4, 8, 16, 32, 60, 60]));
        assert_eq!(retry(8, secs(86_400), 1.0), secs(128));
        assert_eq!(retry(99, secs(86_400), 1.0), LONGEST);
        assert!(pauses(Duration::ZERO).eq([1, 2, 4, 5, 5, 5, 5, 5]));
    }

    proptest! {
        #[test]
        fn there_is_always_time_for_another_attempt(
            left in 0u64..10_000_000, min in 0u64..100_000, more in 0u64..100_000,
            failures in 0u32..100, random in 0f64..=1.0,
        ) {
            let left = secs(left);
            let wait = renewal(left, (secs(min), secs(min + more)), random);
            prop_assert!(wait <= left.mul_f64(LATEST).max(SHORTEST));
            let pause = retry(failures, left, random);
            prop_assert!(pause >= SHORTEST && pause <= (left / 10).max(LONGEST_WITHOUT));
        }
    }
}
