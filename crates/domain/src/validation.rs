//! What a validation tried of a target, one by one.

use serde::{Deserialize, Serialize};

use crate::{CheckOutcome, ValidationStatus};

/// Text of somebody else as one line: no control characters, nothing that turns the direction of writing, at most `chars` characters.
pub fn one_line(text: &str, chars: usize) -> String {
    let unseen =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    let plain = text.chars().map(|c| if c.is_control() || unseen(c) { ' ' } else { c });
    plain.take(chars).collect::<String>().trim().to_owned()
}

/// One thing that was tried: a call, a host, a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// What was tried, e.g. `ec2:DescribeInstances` or `web1.example:22`.
    pub what: String,
    /// How it went.
    pub outcome: CheckOutcome,
    /// Why it is not good, or what was learned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Check {
    /// Most checks of one validation.
    pub const MAX: usize = 500;
    /// Longest name of what was tried, in characters.
    const WHAT_CHARS: usize = 200;
    /// Longest reason, in characters.
    const REASON_CHARS: usize = 300;

    /// A check, its texts made plain and cut.
    pub fn new(what: &str, outcome: CheckOutcome, reason: Option<&str>) -> Self {
        let reason = reason.map(|reason| one_line(reason, Self::REASON_CHARS)).filter(|reason| !reason.is_empty());
        Self { what: one_line(what, Self::WHAT_CHARS), outcome, reason }
    }

    /// The same with its texts made plain and cut: for one that somebody else wrote.
    #[must_use]
    pub fn plain(&self) -> Self {
        Self::new(&self.what, self.outcome, self.reason.as_deref())
    }
}

impl ValidationStatus {
    /// What checks amount to: what was left out counts for nothing.
    pub fn of(checks: &[Check]) -> Self {
        let tried: Vec<_> = checks.iter().filter(|check| check.outcome != CheckOutcome::NotTried).collect();
        let good = tried.iter().filter(|check| check.outcome == CheckOutcome::Good).count();
        match good {
            0 => Self::Failed,
            all if all == tried.len() => Self::Passed,
            _ => Self::Incomplete,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_out_makes_no_credential_better_or_worse() {
        use CheckOutcome::{Denied, Failed, Good, NotTried};
        for (outcomes, expect) in [
            (&[][..], ValidationStatus::Failed),
            (&[NotTried], ValidationStatus::Failed),
            (&[Good, NotTried], ValidationStatus::Passed),
            (&[Good, Denied], ValidationStatus::Incomplete),
            (&[Denied, Failed, NotTried], ValidationStatus::Failed),
        ] {
            let checks: Vec<_> = outcomes.iter().map(|outcome| Check::new("x", *outcome, None)).collect();
            assert_eq!(ValidationStatus::of(&checks), expect, "{outcomes:?}");
        }
    }

    #[test]
    fn a_targets_words_become_one_short_line() {
        let check = Check::new("a\nb", CheckOutcome::Failed, Some("\u{1b}[2Jx\u{202e}y\r\n"));
        assert_eq!((check.what.as_str(), check.reason.as_deref()), ("a b", Some("[2Jx y")));
        let long = Check::new(&"x".repeat(9_000), CheckOutcome::Failed, Some(&"é".repeat(9_000)));
        assert_eq!((long.what.chars().count(), long.reason.unwrap().chars().count()), (200, 300));
        assert_eq!(Check::new("x", CheckOutcome::Good, Some("\u{7}")).reason, None);
    }
}
