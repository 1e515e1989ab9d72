//! Readers of values that users type: durations and names.
//!
//! Part of `args`. Each refusal says what would be right.

use crate::parts;
use std::time::Duration;

/// `90s`, `2m`, `1m30s`, `500ms`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let millis = parts::millis(text).filter(|millis| *millis > 0);
    millis
        .map(Duration::from_millis)
        .ok_or_else(|| "give a number with its unit, such as 15s, 2m or 1m30s".to_string())
}

/// A time the controller remembers.
pub(super) fn window(text: &str) -> Result<Duration, String> {
    let window = duration(text)?;
    if (Duration::from_secs(5)..=Duration::from_secs(600)).contains(&window) {
        Ok(window)
    } else {
        Err("the controller keeps from 5s to 10m".to_string())
    }
}

/// A mesh's name is a folder's and a log line's, so it is kept to a DNS label.
pub(super) fn mesh_name(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (1..=40).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('-') {
        Ok(text.to_string())
    } else {
        Err("up to 40 of a-z, 0-9 and -, not starting with -".to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_units_and_add_up() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        for bad in [
            "",
            "15",
            "s",
            "1x",
            "0s",
            "1.5s",
            "99999999999999999999h",
            "18446744073709551615h",
            &"18446744073709551615ms".repeat(1001),
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(window("4s").is_err() && window("11m").is_err() && window("5s").is_ok());
    }

    #[test]
    fn a_mesh_name_cannot_leave_its_directory() {
        assert!(mesh_name("team-a").is_ok());
        for bad in ["", "..", "a/b", "-a", "A", &"x".repeat(41)] {
            assert!(mesh_name(bad).is_err(), "{bad}");
        }
    }
}
