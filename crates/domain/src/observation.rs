//! What a plugin saw: no tenant, no history, no writes. `inventory` turns observations into a plan.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{EdgeType, Error, Limits, NodeId, RelayId};

/// A node's or edge's own facts: JSON with sorted keys.
pub type Properties = serde_json::Map<String, serde_json::Value>;

/// A node's tags.
pub type Tags = BTreeMap<String, String>;

/// A node as a source showed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeObservation {
    /// Which node.
    pub id: NodeId,
    /// Its name for people; the resource id where it has none.
    pub name: String,
    /// Its facts, keys in lower snake case.
    #[serde(default)]
    pub properties: Properties,
    /// Its tags as the source has them.
    #[serde(default)]
    pub tags: Tags,
}

/// An edge as a source showed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EdgeObservation {
    /// The node that it leaves.
    pub source: NodeId,
    /// The node that it reaches; may be one that no scope has shown yet.
    pub target: NodeId,
    /// Its type.
    #[serde(rename = "type")]
    pub edge_type: EdgeType,
    /// Tells edges of one type between the same two nodes apart (a route's destination, say); else empty.
    #[serde(default)]
    pub discriminator: String,
    /// Its facts.
    #[serde(default)]
    pub properties: Properties,
}

/// Who reads scopes: a plugin (`aws`), a plugin on a relay (`network-scan@rly_…`), the agent of a machine (`agent/6f1c…`). What one source showed, no other
/// one closes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SourceId(String);

impl SourceId {
    /// A plugin where the server runs.
    pub fn plugin(name: &str) -> Result<Self, Error> {
        name.parse()
    }

    /// A plugin on a relay, which may see another network under the same addresses.
    pub fn on_relay(plugin: &str, relay: RelayId) -> Result<Self, Error> {
        format!("{plugin}@{relay}").parse()
    }

    /// Whichever agent a machine has: the next one goes on where the one before it ended.
    pub fn agent_of(machine: &str) -> Result<Self, Error> {
        format!("agent/{machine}").parse()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourceId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > Limits::SOURCE_ID_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err(Error::invalid("source", "a source is 1 to 128 visible ASCII characters without blanks"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One thing that a source can be asked for completely, e.g. `aws:123456789012:us-east-1:ec2.instances` or
/// `host:6f1c…:packages`. A node belongs to the scope that shows it, as one source reads it, and only that, proved complete, can close it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ScopeId(String);

impl ScopeId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What kind of thing is read: what stands behind the last colon, e.g. `ec2.instances`.
    pub fn kind(&self) -> &str {
        self.0.rsplit_once(':').map_or(self.as_str(), |(_, kind)| kind)
    }
}

impl FromStr for ScopeId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.len() > Limits::SCOPE_ID_BYTES || text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(Error::invalid("scope", "a scope is 1 to 512 bytes without blanks or control characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ScopeId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// How much of a scope a run saw. Absence is evidence only under [`Coverage::Complete`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "coverage", rename_all = "snake_case")]
pub enum Coverage {
    /// Every page was read: what was not seen is not there.
    Complete,
    /// Some of it was read.
    Partial {
        /// Why not all.
        reason: String,
    },
    /// The source refused.
    Denied {
        /// Its words.
        reason: String,
    },
    /// The source kept asking us to slow down until the task gave up.
    Throttled {
        /// Its words.
        reason: String,
    },
    /// It could not be read: unreachable, timed out, malformed or too large.
    Failed {
        /// What happened.
        reason: String,
    },
    /// The source does not have this (a service that is not offered in a region, a file that this system does not use). Closes like
    /// [`Coverage::Complete`].
    Absent {
        /// How that was told.
        reason: String,
    },
    /// Nothing of it changed since a reading before that saw all of it. Closes nothing, whatever was shown.
    Unchanged,
}

impl Coverage {
    /// Whether what this scope did not show may be closed.
    pub const fn may_close(&self) -> bool {
        matches!(self, Self::Complete | Self::Absent { .. })
    }

    /// The tag of the wire form.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Partial { .. } => "partial",
            Self::Denied { .. } => "denied",
            Self::Throttled { .. } => "throttled",
            Self::Failed { .. } => "failed",
            Self::Absent { .. } => "absent",
            Self::Unchanged => "unchanged",
        }
    }

    /// Whether everything that the scope holds is known after this reading, also by what an earlier one showed.
    pub const fn is_whole(&self) -> bool {
        self.may_close() || matches!(self, Self::Unchanged)
    }

    /// The reason, where there is one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Complete | Self::Unchanged => None,
            Self::Partial { reason }
            | Self::Denied { reason }
            | Self::Throttled { reason }
            | Self::Failed { reason }
            | Self::Absent { reason } => Some(reason),
        }
    }
}

/// Some observations of one scope: at most [`Limits::PAGE_OBSERVATIONS`] nodes and edges together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The scope that shows them.
    pub scope: ScopeId,
    /// Nodes.
    #[serde(default)]
    pub nodes: Vec<NodeObservation>,
    /// Edges.
    #[serde(default)]
    pub edges: Vec<EdgeObservation>,
}
