//! How far the clock of a server is from ours, as far as its answers show.
//!
//! `facts` measures with it, `rules` judges. A `Date` header has whole seconds and an answer takes
//! time, so what is known is a range; only the distance that is certain counts.

use http::HeaderMap;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Duration, OffsetDateTime, PrimitiveDateTime};

/// RFC 9110, 5.6.7.
const IMF_FIXDATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// What one answer tells of its server's clock, less ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Skew {
    least: Duration,
    most: Duration,
}

impl Skew {
    /// From the answer to a question that was `asked` and `answered` then by our clock; `None`
    /// when it does not tell its time.
    pub(super) fn of(
        headers: &HeaderMap,
        asked: OffsetDateTime,
        answered: OffsetDateTime,
    ) -> Option<Self> {
        let date = headers.get(http::header::DATE)?.to_str().ok()?;
        let date = PrimitiveDateTime::parse(date, IMF_FIXDATE)
            .ok()?
            .assume_utc();
        Some(Self {
            least: date - answered,
            most: date + Duration::SECOND - asked,
        })
    }

    /// How far apart the clocks are at least; negative if the server's is behind.
    pub(super) fn certain(self) -> Duration {
        if self.least.is_positive() {
            self.least
        } else if self.most.is_negative() {
            self.most
        } else {
            Duration::ZERO
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn only_what_is_certain_is_skew() {
        let certain = |date: &str| {
            let headers = HeaderMap::from_iter([(http::header::DATE, date.parse().unwrap())]);
            let asked = datetime!(2026-11-20 12:00:00.5 UTC);
            let answered = datetime!(2026-11-20 12:00:02.5 UTC);
            Skew::of(&headers, asked, answered).map(|skew| skew.certain().as_seconds_f64())
        };
        assert_eq!(certain("Fri, 20 Nov 2026 12:00:00 GMT"), Some(0.0));
        assert_eq!(certain("Fri, 20 Nov 2026 12:00:02 GMT"), Some(0.0));
        assert_eq!(certain("Fri, 20 Nov 2026 12:00:30 GMT"), Some(27.5));
        assert_eq!(certain("Fri, 20 Nov 2026 11:59:30 GMT"), Some(-29.5));
        assert_eq!(certain("yesterday"), None);
        assert_eq!(
            Skew::of(
                &HeaderMap::new(),
                OffsetDateTime::UNIX_EPOCH,
                OffsetDateTime::UNIX_EPOCH
            ),
            None
        );
    }
}
