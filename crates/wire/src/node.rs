//! The asset graph.

use std::collections::BTreeMap;

use domain::{NodeId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A node.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Node {
    /// `<provider>:<region>:<type>:<resource-id>`.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// Its type.
    #[serde(rename = "type")]
    pub node_type: String,
    /// The source.
    pub provider: String,
    /// The region.
    pub region: String,
    /// Its name.
    pub name: String,
    /// Its facts.
    #[schema(value_type = Object)]
    pub properties: Map<String, Value>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// When it was first seen.
    #[schema(value_type = String)]
    pub first_seen: Timestamp,
    /// When it was last seen.
    #[schema(value_type = String)]
    pub discovered_at: Timestamp,
    /// Since when it is as shown.
    #[schema(value_type = String)]
    pub valid_from: Timestamp,
    /// When it disappeared.
    #[schema(value_type = Option<String>)]
    pub closed_at: Option<Timestamp>,
}

/// A node as it was for a while.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct NodeVersion {
    /// From when.
    #[schema(value_type = String)]
    pub valid_from: Timestamp,
    /// Until when; absent while it is so.
    #[schema(value_type = Option<String>)]
    pub valid_to: Option<Timestamp>,
    /// Its name.
    pub name: String,
    /// Its facts.
    #[schema(value_type = Object)]
    pub properties: Map<String, Value>,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A scope that shows a node: who says that it is there.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct NodeSource {
    /// Who reads it: a plugin (`aws`), a plugin on a relay, the agent of a machine.
    pub source: String,
    /// What is read, e.g. `aws:123456789012:eu-west-1:ec2.instances`.
    pub scope: String,
    /// Whether what it says is what the node shows; what another one says waits until this one no longer shows the node.
    pub counts: bool,
    /// Since when it says what it says.
    #[schema(value_type = String)]
    pub since: Timestamp,
    /// How much its last reading saw, as in the coverage ledger.
    pub verdict: String,
    /// When that was.
    #[schema(value_type = String)]
    pub read_at: Timestamp,
    /// When it was last read completely.
    #[schema(value_type = Option<String>)]
    pub complete_at: Option<Timestamp>,
}

/// An edge.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Edge {
    /// The node that it leaves.
    #[schema(value_type = String)]
    pub source: NodeId,
    /// The node that it reaches.
    #[schema(value_type = String)]
    pub target: NodeId,
    /// Its type.
    #[serde(rename = "type")]
    pub edge_type: String,
    /// Tells edges of one type between the same nodes apart.
    pub discriminator: String,
    /// Its facts.
    #[schema(value_type = Object)]
    pub properties: Map<String, Value>,
    /// Since when it is as shown.
    #[schema(value_type = String)]
    pub valid_from: Timestamp,
}

/// How many nodes there are of a type.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct NodeCount {
    /// The type.
    #[serde(rename = "type")]
    pub node_type: String,
    /// How many.
    pub count: u64,
}
