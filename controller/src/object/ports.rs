//! Sets of ports, as annotations and flags write them: `25,587,8000-8010`.

use std::{fmt, ops::RangeInclusive, str::FromStr};

/// A set of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortSet(Vec<RangeInclusive<u16>>);

/// An element of the list is neither a port nor a range of ports.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a port (1 to 65535) nor a range of ports (as 8000-8010)")]
pub struct PortSetError(pub String);

impl PortSet {
    /// Whether `port` is in the set.
    pub fn contains(&self, port: u16) -> bool {
        self.0.iter().any(|range| range.contains(&port))
    }

    /// Reads what can be read, and says what cannot: one typo in an annotation does not cost the
    /// other ports.
    pub fn parse_lossy(list: &str) -> (Self, Vec<PortSetError>) {
        let mut set = Self::default();
        let mut errors = Vec::new();
        for item in list.split(',').map(str::trim).filter(|s| !s.is_empty()) {
            match range(item) {
                Some(range) => set.0.push(range),
                None => errors.push(PortSetError(item.to_owned())),
            }
        }
        (set, errors)
    }
}

impl FromStr for PortSet {
    type Err = PortSetError;

    fn from_str(list: &str) -> Result<Self, PortSetError> {
        let (set, errors) = Self::parse_lossy(list);
        errors.into_iter().next().map_or(Ok(set), Err)
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.0.iter().enumerate() {
            let comma = if i > 0 { "," } else { "" };
            match range.start() == range.end() {
                true => write!(f, "{comma}{}", range.start())?,
                false => write!(f, "{comma}{}-{}", range.start(), range.end())?,
            }
        }
        Ok(())
    }
}

fn range(item: &str) -> Option<RangeInclusive<u16>> {
    let (from, to) = item.split_once('-').unwrap_or((item, item));
    let port = |s: &str| s.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let (from, to) = (port(from)?, port(to)?);
    (from <= to).then_some(from..=to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        let set: PortSet = "25, 8000-8002,,65535".parse().expect("a set");
        let inside = [25, 8000, 8002, 65535].map(|port| set.contains(port));
        assert_eq!(inside, [true; 4]);
        let outside = [24, 7999, 8003, 0].map(|port| set.contains(port));
        assert_eq!(outside, [false; 4]);
        assert_eq!(set.to_string(), "25,8000-8002,65535");
        assert_eq!("".parse(), Ok(PortSet::default()));
    }

    #[test]
    fn a_bad_element_is_named_and_the_others_stay() {
        for bad in ["x", "0", "65536", "9-8", "1-", "-1", "1-2-3"] {
            let (set, errors) = PortSet::parse_lossy(&format!("80,{bad}"));
            assert_eq!(errors, [PortSetError(bad.to_owned())]);
            assert!(set.contains(80));
        }
    }
}
