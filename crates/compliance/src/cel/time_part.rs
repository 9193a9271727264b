//! Parts of timestamps (in UTC) and durations.

use time::OffsetDateTime;

use super::value::{NANOS_PER_SECOND, Value};

/// Which part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimePart {
    FullYear,
    /// 0 to 11.
    Month,
    /// Day of the month, from 1.
    Date,
    /// Day of the month, from 0.
    DayOfMonth,
    /// From 0, Sunday.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

/// The part of a timestamp; of a duration its whole length in that unit (its milliseconds: the fraction of a second).
pub(super) fn part(of: &Value<'_>, part: TimePart) -> Option<i64> {
    match of {
        Value::Timestamp(nanos) => {
            let at = OffsetDateTime::from_unix_timestamp_nanos(*nanos).ok()?;
            Some(match part {
                TimePart::FullYear => i64::from(at.year()),
                TimePart::Month => i64::from(u8::from(at.month())) - 1,
                TimePart::Date => i64::from(at.day()),
                TimePart::DayOfMonth => i64::from(at.day()) - 1,
                TimePart::DayOfWeek => i64::from(at.weekday().number_days_from_sunday()),
                TimePart::DayOfYear => i64::from(at.ordinal()) - 1,
                TimePart::Hours => i64::from(at.hour()),
                TimePart::Minutes => i64::from(at.minute()),
                TimePart::Seconds => i64::from(at.second()),
                TimePart::Milliseconds => i64::from(at.millisecond()),
            })
        }
        Value::Duration(nanos) => {
            let whole = match part {
                TimePart::Hours => nanos / (3_600 * NANOS_PER_SECOND),
                TimePart::Minutes => nanos / (60 * NANOS_PER_SECOND),
                TimePart::Seconds => nanos / NANOS_PER_SECOND,
                TimePart::Milliseconds => nanos % NANOS_PER_SECOND / 1_000_000,
                _ => return None,
            };
            i64::try_from(whole).ok()
        }
        _ => None,
    }
}
