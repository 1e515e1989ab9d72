//! Readers of values that users type: durations and names.
//!
//! Part of `args`. Each refusal says what would be right.

use std::time::Duration;

/// `90s`, `2m`, `1m30s`, `500ms`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let hint = || "give a number with its unit, such as 15s, 2m or 1m30s".to_string();
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(hint)?;
        let number: u64 = rest[..digits].parse().map_err(|_| hint())?;
        let unit_end = rest[digits..]
            .find(|c: char| c.is_ascii_digit())
            .map_or(rest.len(), |end| digits + end);
        let millis = match &rest[digits..unit_end] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(hint()),
        };
        total += Duration::from_millis(number.checked_mul(millis).ok_or_else(hint)?);
        rest = &rest[unit_end..];
    }
    if total.is_zero() {
        Err(hint())
    } else {
        Ok(total)
    }
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
