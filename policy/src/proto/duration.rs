//! Durations, within what the protobuf specification allows.

use super::{FieldError, Path, Problem};
use prost_types::Duration as Wire;
use std::time::Duration;

/// Ten thousand years: past it, adding to an instant could overflow.
const MAX_SECONDS: i64 = 315_576_000_000;

pub(super) fn read(wire: Wire, at: Path<'_>) -> Result<Duration, FieldError> {
    let Wire { seconds, nanos } = wire;
    let whole = u64::try_from(seconds)
        .ok()
        .filter(|_| seconds <= MAX_SECONDS);
    let part = u32::try_from(nanos).ok().filter(|n| *n < 1_000_000_000);
    match (whole, part) {
        (Some(whole), Some(part)) => Ok(Duration::new(whole, part)),
        _ => Err(at.error(Problem::Duration { seconds, nanos })),
    }
}

pub(super) fn read_or(
    wire: Option<Wire>,
    default: Duration,
    at: Path<'_>,
) -> Result<Duration, FieldError> {
    wire.map_or(Ok(default), |wire| read(wire, at))
}

/// Longer durations than the wire can carry become the longest it can.
pub(super) fn write(duration: Duration) -> Wire {
    match i64::try_from(duration.as_secs()) {
        Ok(seconds) if seconds < MAX_SECONDS => Wire {
            seconds,
            nanos: duration.subsec_nanos().cast_signed(),
        },
        _ => Wire {
            seconds: MAX_SECONDS,
            nanos: 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sane_durations_are_read() {
        let table = [
            (0, 0, true),
            (1, 999_999_999, true),
            (MAX_SECONDS, 0, true),
            (MAX_SECONDS + 1, 0, false),
            (i64::MAX, 0, false),
            (-1, 0, false),
            (i64::MIN, i32::MIN, false),
            (0, -1, false),
            (0, 1_000_000_000, false),
            (0, i32::MAX, false),
        ];
        for (seconds, nanos, want) in table {
            let got = read(Wire { seconds, nanos }, Path::root());
            assert_eq!(got.is_ok(), want, "{seconds} {nanos}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for duration in [Duration::ZERO, Duration::from_millis(1500), Duration::MAX] {
            let back = read(write(duration), Path::root()).expect("in range");
            assert!(
                back == duration || duration == Duration::MAX,
                "{duration:?}"
            );
        }
    }
}
