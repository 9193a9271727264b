//! What changed in a tenant since a moment.

use domain::{JobId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::finding::Finding;
use crate::graph::SeverityCounts;

/// What changed in a tenant. A part is absent where the caller may not read it.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Changes {
    /// Since when.
    #[schema(value_type = String)]
    pub since: Timestamp,
    /// Until when: what `changes_see` is told once it was seen.
    #[schema(value_type = String)]
    pub until: Timestamp,
    /// Up to when the caller has seen what changed here; absent for an API key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub seen: Option<Timestamp>,
    /// Findings whose status changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<FindingChanges>,
    /// Nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<NodeChanges>,
    /// Agents and relays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetChanges>,
    /// Access to destinations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<AccessNews>,
    /// Discovery jobs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jobs: Option<JobChanges>,
}

/// Findings whose status changed, each counted where it stands now.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct FindingChanges {
    /// New ones, and those that are open again.
    pub opened: SeverityCounts,
    /// Their risk was accepted.
    pub accepted: SeverityCounts,
    /// Resolved.
    pub resolved: SeverityCounts,
    /// Whether there are more than were counted.
    pub more: bool,
    /// Those that opened last.
    pub newest: Vec<Finding>,
}

/// Nodes that are new, changed or gone.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct NodeChanges {
    /// First seen since then; some of them may be gone again.
    pub first_seen: u64,
    /// Known before, and changed or there again.
    pub changed: u64,
    /// No longer there.
    pub closed: u64,
    /// Whether there are more than were counted.
    pub more: bool,
    /// The same by type.
    pub by_type: Vec<NodeTypeChanges>,
}

/// Nodes of one type.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct NodeTypeChanges {
    /// The type.
    #[serde(rename = "type")]
    pub node_type: String,
    /// First seen.
    pub first_seen: u64,
    /// Changed.
    pub changed: u64,
    /// No longer there.
    pub closed: u64,
}

/// Agents and relays that are new or gone.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct FleetChanges {
    /// Let in.
    pub enrolled: u64,
    /// Sent away.
    pub revoked: u64,
    /// Kept out because their key was used by somebody else too.
    pub cloned: u64,
    /// Not heard of for longer than should be.
    pub silent: u64,
    /// Those that are gone, before those that are new; at most ten.
    pub units: Vec<UnitChange>,
}

/// An agent or a relay that is new or gone.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct UnitChange {
    /// `agent` or `relay`.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// `cloned`, `silent`, `revoked` or `enrolled`.
    pub what: String,
    /// When.
    #[schema(value_type = String)]
    pub at: Timestamp,
}

/// Access to destinations in numbers.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct AccessNews {
    /// Requests that wait for an answer, however old they are.
    pub waiting: u64,
    /// Grants that were made and stand.
    pub made: u64,
    /// Grants that were taken away, by themselves or with what they were about. One that expired is not among them.
    pub taken: u64,
    /// Whether there are more than were counted.
    pub more: bool,
}

/// Jobs that failed.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct JobChanges {
    /// How many.
    pub failed: u64,
    /// Whether there are more than were counted.
    pub more: bool,
    /// The newest of them.
    pub newest: Vec<FailedJob>,
}

/// A job that failed.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct FailedJob {
    /// Its id.
    #[schema(value_type = String)]
    pub id: JobId,
    /// Its plugin.
    pub plugin: String,
    /// When it ended.
    #[schema(value_type = String)]
    pub finished_at: Timestamp,
    /// Why.
    pub error: Option<String>,
}

/// Says up to when the caller has seen what changed.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangesSee {
    /// The `until` of the answer that was seen.
    #[schema(value_type = String)]
    pub until: Timestamp,
}

/// Up to when the caller has seen what changed.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct ChangesSeen {
    /// Up to then.
    #[schema(value_type = String)]
    pub until: Timestamp,
}
