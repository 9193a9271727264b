//! How frameworks stand, and stood day by day.

use domain::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a framework stands.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Posture {
    /// The framework, e.g. `nist-800-53-r5`.
    pub framework: String,
    /// Of the controls that were judged the share that passes, in whole percent, rounded down; none where none was judged.
    pub percent: Option<u64>,
    /// Controls that pass.
    pub pass: u64,
    /// Controls that pass in part.
    pub partial: u64,
    /// Controls that fail.
    pub fail: u64,
    /// Controls that could not be judged.
    pub not_assessed: u64,
    /// Open findings of the rules of its controls.
    pub open_findings: u64,
    /// When it was last judged.
    #[schema(value_type = String)]
    pub evaluated_at: Timestamp,
    /// Day by day, the oldest first: from the first day that is known, or as many days ago as were asked for, to today.
    pub history: Vec<PostureDay>,
}

/// How a framework stood at the end of a day; a day on which nothing was judged is as the one before, today is as it is now.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct PostureDay {
    /// The day in UTC, e.g. `2026-05-01`.
    pub day: String,
    /// The share that passed, in whole percent; none where none was judged.
    pub percent: Option<u64>,
    /// Controls that passed.
    pub pass: u64,
    /// Controls that passed in part.
    pub partial: u64,
    /// Controls that failed.
    pub fail: u64,
    /// Controls that could not be judged.
    pub not_assessed: u64,
    /// Open findings.
    pub open_findings: u64,
}
