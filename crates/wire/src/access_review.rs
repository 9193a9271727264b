//! Reviews of access.

use std::collections::BTreeMap;

use domain::{AccessReviewId, EvidenceId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is reviewed. What is absent does not restrict.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessReviewScope {
    /// Access to these destinations, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub destinations: Vec<String>,
    /// Access to destinations with all of these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// What these groups have, and who is in them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What these members have, by login name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<String>,
    /// Access in these roles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// Begins a review.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessReviewCreate {
    /// What people call it.
    pub name: String,
    /// What is reviewed; absent: everything.
    #[serde(default)]
    pub scope: AccessReviewScope,
    /// Who decides, by login name: 1 to 50 members.
    pub reviewers: Vec<String>,
    /// What becomes of what nobody decides: `keep` or `revoke`.
    pub undecided: String,
    /// Until when it is open: within 366 days.
    #[schema(value_type = String)]
    pub ends_at: Timestamp,
}

/// A review.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct AccessReview {
    /// Its id.
    #[schema(value_type = String)]
    pub id: AccessReviewId,
    /// What people call it.
    pub name: String,
    /// What is reviewed.
    pub scope: AccessReviewScope,
    /// Who decides.
    pub reviewers: Vec<String>,
    /// What becomes of what nobody decides: `keep` or `revoke`.
    pub undecided: String,
    /// `open`, `closed`, or `attested` once its evidence is signed.
    pub state: String,
    /// Since when.
    #[schema(value_type = String)]
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// Until when it is open.
    #[schema(value_type = String)]
    pub ends_at: Timestamp,
    /// When it was closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub closed_at: Option<Timestamp>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed_by: Option<String>,
    /// Things that give access and are looked at.
    pub items: i64,
    /// Of these, decided.
    pub decided: i64,
    /// Of these, to be taken.
    pub revoked: i64,
    /// The signed statements that it ended in.
    #[schema(value_type = Vec<String>)]
    pub evidence: Vec<EvidenceId>,
}

/// One thing that gives access, as it was when the review began.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct AccessReviewItem {
    /// Its number in the review, from 1.
    pub number: i64,
    /// `grant`, or `member`: a place in a group that something is granted to, or whose members may break glass.
    pub kind: String,
    /// In words.
    pub about: String,
    /// What it said.
    #[schema(value_type = Object)]
    pub shown: serde_json::Value,
    /// `keep` or `revoke`; absent: not decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub decided_at: Option<Timestamp>,
    /// By whom; `default` where nobody decided until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
    /// `kept`, `changed` (kept, and it says something else than what was reviewed), `revoked`, `gone` (somebody else took it), or `elsewhere`: to be taken at the provider that keeps the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Why the caller may not decide it: they are no reviewer, or it gives access to themselves. Absent: they may, while the review is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecidable: Option<String>,
}

/// Decides some items.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessReviewDecide {
    /// Their numbers: 1 to 1,000.
    pub items: Vec<i64>,
    /// `keep` or `revoke`. What is revoked is taken now.
    pub decision: String,
    /// Why.
    pub reason: String,
}
