//! Agents and relays: what they are called, and what people sort them by.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::{AgentId, Error, Limits, RelayId};

/// What was enrolled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FleetKind {
    /// Collects the host that it runs on.
    Agent,
    /// Runs tasks in a network that the server does not reach.
    Relay,
}

impl FleetKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Agent, Self::Relay];

    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Relay => "relay",
        }
    }
}

impl fmt::Display for FleetKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for FleetKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| Error::invalid("kind", format!("`{}` is neither `agent` nor `relay`", text.escape_debug())))
    }
}

/// An agent or a relay. Its text form says which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FleetId {
    /// An agent.
    Agent(AgentId),
    /// A relay.
    Relay(RelayId),
}

impl FleetId {
    /// The id of this kind with these bits.
    pub const fn of(kind: FleetKind, id: Uuid) -> Self {
        match kind {
            FleetKind::Agent => Self::Agent(AgentId::from_uuid(id)),
            FleetKind::Relay => Self::Relay(RelayId::from_uuid(id)),
        }
    }

    /// Which of the two it is.
    pub const fn kind(&self) -> FleetKind {
        match self {
            Self::Agent(_) => FleetKind::Agent,
            Self::Relay(_) => FleetKind::Relay,
        }
    }

    /// The id's bits.
    pub const fn as_uuid(&self) -> Uuid {
        match self {
            Self::Agent(id) => id.as_uuid(),
            Self::Relay(id) => id.as_uuid(),
        }
    }
}

impl From<AgentId> for FleetId {
    fn from(id: AgentId) -> Self {
        Self::Agent(id)
    }
}

impl From<RelayId> for FleetId {
    fn from(id: RelayId) -> Self {
        Self::Relay(id)
    }
}

impl fmt::Display for FleetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(id) => id.fmt(f),
            Self::Relay(id) => id.fmt(f),
        }
    }
}

impl FromStr for FleetId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let agent = text.parse().map(Self::Agent).ok();
        agent
            .or_else(|| text.parse().map(Self::Relay).ok())
            .ok_or_else(|| Error::invalid("id", "the id of an agent begins with `agt_`, that of a relay with `rly_`"))
    }
}

impl Serialize for FleetId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FleetId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What people sort agents and relays by: at most 32 names of 1 to 63 of `a-z`, `0-9`, `-`, `_`, `.`, `/`, each with a value of at most 128
/// printable characters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Checks names and values.
    pub fn new(labels: BTreeMap<String, String>) -> Result<Self, Error> {
        if labels.len() > Limits::LABELS {
            return Err(Error::invalid("labels", format!("use at most {} labels", Limits::LABELS)));
        }
        let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.' | '/');
        for (name, value) in &labels {
            if name.is_empty() || name.len() > 63 || !name.chars().all(sound) {
                let name = name.escape_debug().to_string();
                return Err(Error::invalid("labels", format!("`{name}`: use 1 to 63 of a-z, 0-9, -, _, . and /")));
            }
            if !value.is_empty() && value.parse::<crate::DisplayName>().is_err() {
                return Err(Error::invalid(
                    "labels",
                    format!(
                        "the value of `{name}`: use at most 128 printable characters without white space at its ends"
                    ),
                ));
            }
        }
        Ok(Self(labels))
    }

    /// Names and values, in the order of the names.
    pub fn as_map(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(BTreeMap::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_which_of_the_two_it_is() {
        for kind in FleetKind::ALL {
            let id = FleetId::of(kind, Uuid::from_u128(7));
            assert_eq!(id.to_string().parse::<FleetId>().unwrap(), id);
            assert_eq!((id.kind(), kind.as_str().parse::<FleetKind>().unwrap()), (kind, kind));
        }
        let user = crate::UserId::from_uuid(Uuid::from_u128(7)).to_string();
        assert!(user.parse::<FleetId>().is_err() && "".parse::<FleetId>().is_err());
        assert!("Agent".parse::<FleetKind>().is_err());
    }

    #[test]
    fn labels_are_short_printable_and_few() {
        let labels = |pairs: &[(&str, &str)]| {
            Labels::new(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        assert!(labels(&[("site", "Berlin 2"), ("cairn.example/zone", ""), ("a_b-c", "x")]).is_ok());
        let long = "a".repeat(64);
        for (name, value) in [
            ("", "x"),
            ("Site", "x"),
            ("a b", "x"),
            ("a=b", "x"),
            (long.as_str(), "x"),
            ("a", " x"),
            ("a", "x\n"),
            ("a", "\u{202e}x"),
            ("a", &"x".repeat(129)),
        ] {
            assert!(labels(&[(name, value)]).is_err(), "{name:?} {value:?}");
        }
        let many = (0..33).map(|n| (format!("l{n}"), String::new())).collect();
        assert!(Labels::new(many).is_err());
        assert!(serde_json::from_str::<Labels>(r#"{"UP": "x"}"#).is_err());
    }
}
