//! Findings.

use domain::{FindingId, NodeId, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// A violation of a rule by a node.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Finding {
    /// Its id.
    #[schema(value_type = String)]
    pub id: FindingId,
    /// The rule.
    pub rule: String,
    /// The rule's title.
    pub title: String,
    /// The node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// The node's name.
    pub node_name: String,
    /// `open`, `resolved`, `accepted`.
    pub status: String,
    /// `info`, `low`, `medium`, `high`, `critical`.
    pub severity: String,
    /// 0 to 100.
    pub risk: u32,
    /// What is wrong.
    pub message: String,
    /// The values that made it fail.
    #[schema(value_type = Object)]
    pub values: Value,
    /// What to do.
    pub remediation: String,
    /// The controls that the rule supports, as `framework:control`.
    pub controls: Vec<String>,
    /// When it was first seen.
    #[schema(value_type = String)]
    pub first_seen: Timestamp,
    /// When it last changed.
    #[schema(value_type = String)]
    pub changed_at: Timestamp,
    /// When it was resolved.
    #[schema(value_type = Option<String>)]
    pub resolved_at: Option<Timestamp>,
    /// The acceptance, if any.
    pub acceptance: Option<Acceptance>,
}

/// Why a finding is lived with, and until when.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Acceptance {
    /// Who accepted it.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Until when.
    #[schema(value_type = String)]
    pub until: Timestamp,
}

/// Accepts a finding.
#[derive(Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FindingAccept {
    /// Why: 1 to 1,000 characters.
    pub reason: String,
    /// Until when (RFC 3339): within a year.
    pub until: String,
}

/// What an evaluation did.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Evaluation {
    /// When.
    #[schema(value_type = String)]
    pub at: Timestamp,
    /// Rules that were applied.
    pub rules: u64,
    /// Nodes that were judged.
    pub nodes: u64,
    /// Verdicts by kind.
    pub passed: u64,
    /// Verdicts by kind.
    pub failed: u64,
    /// Verdicts by kind.
    pub errors: u64,
    /// Findings that were opened, changed or resolved.
    pub changes: u64,
}

/// How many findings stand where.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct FindingCount {
    /// The status.
    pub status: String,
    /// The severity.
    pub severity: String,
    /// How many.
    pub count: u64,
}
