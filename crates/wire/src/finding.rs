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
    /// What can be run or applied to do it, where the rule can say so: of a single finding that is not resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<Patch>,
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

/// What can be run or applied so that the node complies. Values of the node are quoted in it.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Patch {
    /// `shell` or `terraform`.
    pub form: String,
    /// Where, as whom and when it is run.
    #[serde(rename = "where")]
    pub place: String,
    /// The text.
    pub text: Option<String>,
    /// Why there is no text: what was not read, or cannot be quoted safely.
    pub missing: Option<String>,
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

/// Which findings: those that are all of what is named.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FindingFilter {
    /// `open`, `resolved` or `accepted`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// `info`, `low`, `medium`, `high` or `critical`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// A rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// A node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// A node type.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub node_type: Option<String>,
    /// A part of the message, the rule's id, or the node's name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A framework that the rule supports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework: Option<String>,
    /// A control of that framework.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
}

/// What a change to all findings of a filter would be about.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct FindingSelection {
    /// How many findings it would change.
    pub count: u64,
    /// Those by status and severity; what there is none of is left out.
    pub counts: Vec<FindingCount>,
    /// How many more match, which are in a state in which this cannot be done to them: they stay as they are.
    pub left: u64,
    /// Most findings that can be changed together.
    pub most: u64,
    /// What the change has to be sent with, so that it is done to these findings, in this state, or not at all. None where they are too many.
    pub seen: Option<String>,
}

/// Changes many findings, all of them or none.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FindingChange {
    /// `accept`, `resolve` or `reopen`.
    pub change: String,
    /// These findings: 1 to 1,000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<Vec<String>>,
    /// Or all that match; needs `seen`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<FindingFilter>,
    /// `seen` of the selection with this filter and change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<String>,
    /// To accept: why, in 1 to 1,000 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// To accept: until when (RFC 3339), within a year.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// What a change of many findings did.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct FindingsChanged {
    /// How many findings were changed.
    pub changed: u64,
}

/// Findings that have something in common.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct FindingGroup {
    /// What they have in common, as the list of findings takes it: a rule, a node, a framework, or `framework:control`.
    pub key: String,
    /// The rule's, framework's or control's title; the node's name.
    pub label: String,
    /// The node's type, where they are grouped by node.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub node_type: Option<String>,
    /// The greatest risk among them, 0 to 100.
    pub risk: u32,
    /// How many there are. A finding whose rule supports several frameworks or controls counts in each.
    pub count: u64,
    /// How many of them are open.
    pub open: u64,
    /// How many of them are accepted.
    pub accepted: u64,
    /// How many of them are resolved.
    pub resolved: u64,
    /// By status and severity; what there is none of is left out.
    pub counts: Vec<FindingCount>,
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
