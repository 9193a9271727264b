//! Grants: who may reach what, as what, and when.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    ActAs, DestinationId, DestinationRole, Error, GrantId, GroupId, Labels, Slug, SshTerms, Timestamp, UserId,
};

/// Whom a grant is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// One user.
    User(UserId),
    /// Everybody in a group of the tenant.
    Group(GroupId),
}

/// What a grant is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One destination.
    Destination(DestinationId),
    /// Every destination that has all of these labels, also those that come later. Never empty: see [`Target::labels`].
    Labels(Labels),
    /// The SSH hosts of a set: every one that has all of these labels, which are those that the set says at this moment.
    Set {
        /// The set.
        id: DestinationId,
        /// What a host of it has. Never empty: see [`Target::set`].
        hosts: Labels,
    },
}

impl Target {
    /// The hosts of a set; without any label it would be all hosts, which nobody means.
    pub fn set(id: DestinationId, hosts: Labels) -> Result<Self, Error> {
        if hosts.as_map().is_empty() {
            return Err(Error::invalid("selector", "name at least one label: no label at all would mean every host"));
        }
        Ok(Self::Set { id, hosts })
    }

    /// Every destination with these labels; without any label it would be all destinations, which nobody means.
    pub fn labels(labels: Labels) -> Result<Self, Error> {
        if labels.as_map().is_empty() {
            return Err(Error::invalid(
                "labels",
                "name at least one label: no label at all would mean every destination",
            ));
        }
        Ok(Self::Labels(labels))
    }
}

/// What a grant says. It takes nothing away: what no grant gives is denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// Whom it is for.
    pub subject: Subject,
    /// Whether it is eligible only: it gives nothing by itself, and whom it is for may ask for what it says, which somebody else approves (ADR 0079).
    pub approval: bool,
    /// As what.
    pub role: DestinationRole,
    /// Where.
    pub target: Target,
    /// Only in this namespace of a cluster.
    pub namespace: Option<Slug>,
    /// Only in these hours.
    pub hours: Option<Hours>,
    /// Until when, not included.
    pub expires_at: Option<Timestamp>,
    /// As whom else its holder may act in a cluster.
    pub act_as: ActAs,
    /// How hosts are reached by it. Where it says something, it gives nothing in a cluster.
    pub ssh: SshTerms,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const DAY_MIN: i64 = 24 * 60;
const MINUTE_MS: i64 = 60_000;

/// Hours of a week, at a fixed distance from UTC: `mon-fri 08:00-18:00 +01:00`. Where the end is not after the beginning, it is on the next day.
/// There are no time zones with summer time: a rule that means another hour twice a year is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hours {
    days: [bool; 7],
    from_min: i64,
    to_min: i64,
    offset_min: i64,
}

impl Hours {
    /// Until when `now` is inside, not included; none where it is outside.
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        let local = now.as_millis().div_euclid(MINUTE_MS) + self.offset_min;
        let (day, minute) = (local.div_euclid(DAY_MIN), local.rem_euclid(DAY_MIN));
        let overnight = self.to_min <= self.from_min;
        let end = if self.is_on(day) && minute >= self.from_min && (overnight || minute < self.to_min) {
            if overnight { day + 1 } else { day }
        } else if overnight && self.is_on(day - 1) && minute < self.to_min {
            day
        } else {
            return None;
        };
        Some(Timestamp::from_millis((end * DAY_MIN + self.to_min - self.offset_min) * MINUTE_MS))
    }

    /// Whether days since 1970-01-01, a Thursday, is a day of these.
    fn is_on(&self, day: i64) -> bool {
        usize::try_from((day + 3).rem_euclid(7)).ok().and_then(|at| self.days.get(at)).copied().unwrap_or(false)
    }
}

fn minutes(text: &str) -> Option<i64> {
    let (hour, minute) = text.split_once(':')?;
    let number =
        |text: &str| (text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?;
    let (hour, minute): (i64, i64) = (number(hour)?, number(minute)?);
    (minute < 60 && (hour < 24 || (hour, minute) == (24, 0))).then_some(hour * 60 + minute)
}

fn parse_hours(text: &str) -> Option<Hours> {
    let mut parts = text.split(' ');
    let (days_text, time, zone) = (parts.next()?, parts.next()?, parts.next().unwrap_or("Z"));
    if parts.next().is_some() {
        return None;
    }
    let mut days = [false; 7];
    for piece in days_text.split(',') {
        let place = |name: &str| DAYS.iter().position(|day| *day == name);
        let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
        let (first, last) = (place(first)?, place(last)?);
        days.get_mut(first..=last)?.fill(true);
    }
    let (from, to) = time.split_once('-')?;
    let (from_min, to_min) = (minutes(from)?, minutes(to)?);
    let offset_min = if zone == "Z" {
        0
    } else {
        let (sign, rest) =
            zone.strip_prefix('+').map_or_else(|| Some((-1, zone.strip_prefix('-')?)), |rest| Some((1, rest)))?;
        sign * minutes(rest).filter(|minutes| *minutes <= 14 * 60)?
    };
    (from_min != to_min && from_min < DAY_MIN).then_some(Hours { days, from_min, to_min, offset_min })
}

impl FromStr for Hours {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse_hours(text).ok_or_else(|| {
            Error::invalid("hours", "use days, hours and the distance from UTC, such as `mon-fri 08:00-18:00 +01:00`")
        })
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named: Vec<&str> = DAYS.iter().zip(self.days).filter(|(_, on)| *on).map(|(day, _)| *day).collect();
        let clock = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        write!(f, "{} {}-{}", named.join(","), clock(self.from_min), clock(self.to_min))?;
        match self.offset_min {
            0 => f.write_str(" Z"),
            offset => write!(f, " {}{}", if offset > 0 { '+' } else { '-' }, clock(offset.abs())),
        }
    }
}

impl Serialize for Hours {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hours(text: &str) -> Hours {
        text.parse().unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn hours_are_of_a_week_at_a_fixed_distance_from_utc() {
        // 2026-01-01 was a Thursday.
        for (text, now, until) in [
            ("mon-fri 08:00-18:00", "2026-01-01T08:00:00Z", Some("2026-01-01T18:00:00Z")),
            ("mon-fri 08:00-18:00", "2026-01-01T17:59:59.999Z", Some("2026-01-01T18:00:00Z")),
            ("mon-fri 08:00-18:00", "2026-01-01T18:00:00Z", None),
            ("mon-fri 08:00-18:00", "2026-01-03T12:00:00Z", None),
            ("mon-fri 08:00-18:00 +01:00", "2026-01-01T07:00:00Z", Some("2026-01-01T17:00:00Z")),
            ("thu 22:00-06:00", "2026-01-01T23:00:00Z", Some("2026-01-02T06:00:00Z")),
            ("thu 22:00-06:00", "2026-01-02T05:59:00Z", Some("2026-01-02T06:00:00Z")),
            ("thu 22:00-06:00", "2026-01-01T05:00:00Z", None),
            ("thu 00:00-24:00 Z", "2026-01-01T23:59:59Z", Some("2026-01-02T00:00:00Z")),
            ("thu 00:00-24:00 -05:30", "2026-01-02T05:00:00Z", Some("2026-01-02T05:30:00Z")),
            ("mon 00:00-24:00", "1969-12-29T01:00:00Z", Some("1969-12-30T00:00:00Z")),
        ] {
            assert_eq!(hours(text).until(at(now)), until.map(at), "{text} {now}");
        }
    }

    #[test]
    fn hours_have_one_spelling_and_nonsense_has_none() {
        assert_eq!(hours("mon-wed,fri 08:00-18:00").to_string(), "mon,tue,wed,fri 08:00-18:00 Z");
        assert_eq!(hours("sun 22:00-06:00 -03:30").to_string(), "sun 22:00-06:00 -03:30");
        for bad in [
            "",
            "mon",
            "mon 08:00",
            "fri-mon 08:00-18:00",
            "Mon 08:00-18:00",
            "mon 8:00-18:00",
            "mon 08:00-08:00",
            "mon 24:00-08:00",
            "mon 08:60-18:00",
            "mon 08:00-25:00",
            "mon 08:00-18:00 +15:00",
            "mon 08:00-18:00 Europe/Berlin",
            "mon 08:00-18:00 Z Z",
            "mon  08:00-18:00",
            "mon,,tue 08:00-18:00",
            "mon +8:00-18:00",
        ] {
            assert!(bad.parse::<Hours>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_end_is_the_first_moment_outside(days in 1u8..128, from in 0i64..1_440, to in 0i64..=1_440, offset in -840i64..=840, now in 0i64..4_000_000_000_000) {
            prop_assume!(from != to);
            let hours = Hours { days: std::array::from_fn(|at| days >> at & 1 == 1), from_min: from, to_min: to, offset_min: offset };
            prop_assert_eq!(&hours.to_string().parse::<Hours>().unwrap(), &hours);
            if let Some(until) = hours.until(Timestamp::from_millis(now)) {
                prop_assert!(until.as_millis() > now && until.as_millis() - now <= 2 * DAY_MIN * MINUTE_MS);
                prop_assert_eq!(hours.until(until.plus_millis(-1)), Some(until));
                // Unless the next window begins where this one ends.
                prop_assert!(hours.until(until).is_none_or(|next| next > until));
            }
        }
    }

    #[test]
    fn a_selector_names_a_label() {
        assert!(Target::labels(Labels::default()).is_err());
        let labels = Labels::new([("env".to_owned(), "prod".to_owned())].into()).unwrap();
        assert!(Target::labels(labels.clone()).is_ok());
        let id = DestinationId::from_uuid(uuid::Uuid::nil());
        assert!(Target::set(id, Labels::default()).is_err());
        assert!(Target::set(id, labels).is_ok());
    }
}
