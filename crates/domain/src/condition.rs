//! What a change is made from: who read a thing says which state of it they decided by, and a change of another state is refused (RFC 9110, 13.1).

use std::fmt;

use crate::{Digest, Error, Result};

/// Names a state of a thing, by what people say of it: equal states have equal versions. What the server notes by itself, such as when a thing was
/// last seen, is no part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(String);

impl Version {
    /// The version of the state with this digest.
    pub fn of(state: Digest) -> Self {
        let mut text = state.to_hex();
        text.truncate(32);
        Self(text)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which states a condition names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum States {
    /// Any: the thing exists.
    Any,
    /// These versions, as they came.
    These(Vec<String>),
}

impl States {
    fn has(&self, now: Option<&Version>) -> bool {
        match (self, now) {
            (_, None) => false,
            (Self::Any, Some(_)) => true,
            (Self::These(these), Some(now)) => these.contains(&now.0),
        }
    }
}

/// In which states of a thing it may be changed. The default: in any, and where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Condition {
    /// `If-Match`: only in these.
    pub only: Option<States>,
    /// `If-None-Match`: in none of these.
    pub never: Option<States>,
}

impl Condition {
    /// Whether it asks for nothing.
    pub fn is_none(&self) -> bool {
        self.only.is_none() && self.never.is_none()
    }

    /// Whether it asks that there be nothing where there is something; `now`: the state of what is there.
    pub fn is_taken(&self, now: Option<&Version>) -> bool {
        self.never.as_ref().is_some_and(|never| never.has(now))
    }

    /// Refuses a change of a thing in this state; `None`: there is no such thing. `what`: how the caller named it.
    pub fn check(&self, what: &str, now: Option<&Version>) -> Result<()> {
        let message = if self.only.as_ref().is_some_and(|only| !only.has(now)) {
            match now {
                Some(_) => format!("somebody changed the {what} since you read it: read it again, then decide"),
                None => format!("there is no {what} any more: somebody took it away since you read it"),
            }
        } else if self.is_taken(now) {
            format!("there is a {what} already: change that one, or take another name")
        } else {
            return Ok(());
        };
        Err(Error::Precondition { message })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_holds_in_the_states_that_it_names_only() {
        let (red, blue) = (Version::of(Digest([1; 32])), Version::of(Digest([2; 32])));
        assert_eq!(red.to_string().len(), 32);
        let these = |versions: &[&Version]| Some(States::These(versions.iter().map(ToString::to_string).collect()));
        let condition = |only, never| Condition { only, never };
        for (condition, now, wrong) in [
            (condition(None, None), None, None),
            (condition(None, None), Some(&red), None),
            (condition(Some(States::Any), None), Some(&red), None),
            (condition(Some(States::Any), None), None, Some("any more")),
            (condition(these(&[&red]), None), Some(&red), None),
            (condition(these(&[&blue, &red]), None), Some(&red), None),
            (condition(these(&[&blue]), None), Some(&red), Some("since you read it: read it again")),
            (condition(these(&[]), None), Some(&red), Some("read it again")),
            (condition(these(&[&red]), None), None, Some("took it away")),
            (condition(None, Some(States::Any)), None, None),
            (condition(None, Some(States::Any)), Some(&red), Some("there is a host `web1` already")),
            (condition(None, these(&[&red])), Some(&red), Some("already")),
            (condition(None, these(&[&red])), Some(&blue), None),
            (condition(these(&[&red]), Some(States::Any)), Some(&red), Some("already")),
        ] {
            let checked = condition.check("host `web1`", now);
            match (checked, wrong) {
                (Ok(()), None) => {}
                (Err(Error::Precondition { message }), Some(wrong)) => assert!(message.contains(wrong), "{message}"),
                (checked, wrong) => panic!("{condition:?} in {now:?}: {checked:?}, expected {wrong:?}"),
            }
        }
    }
}
