//! Rules, frameworks and controls.

use domain::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How a control stands.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Control {
    /// The framework, e.g. `nist-800-53-r5`.
    pub framework: String,
    /// The control, e.g. `AC-6`.
    pub control: String,
    /// Its title, where the framework's text may be shown.
    pub title: String,
    /// `pass`, `partial`, `fail`, `not_assessed`.
    pub result: String,
    /// Verdicts that passed.
    pub passed: u64,
    /// Verdicts that failed.
    pub failed: u64,
    /// Verdicts that could not be reached.
    pub errors: u64,
    /// When it was judged.
    #[schema(value_type = Option<String>)]
    pub evaluated_at: Option<Timestamp>,
    /// The signed statement of the judgement.
    pub evidence: Option<String>,
}

/// A rule.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Rule {
    /// Its id.
    pub id: String,
    /// Its pack.
    pub pack: String,
    /// Its title.
    pub title: String,
    /// How bad a violation is.
    pub severity: String,
    /// The node types that it judges.
    pub node_types: Vec<String>,
    /// The condition that a compliant node fulfils (CEL).
    pub condition: String,
    /// What to do.
    pub remediation: String,
    /// Why it matters.
    pub rationale: String,
    /// The patches that it can make, each with placeholders for values of a finding.
    pub patches: Vec<RulePatch>,
    /// Further reading: addresses.
    pub references: Vec<String>,
    /// Where its pack's requirements come from.
    pub source: String,
    /// The controls, as `framework:control`.
    pub controls: Vec<String>,
}

/// A patch of a rule, before it is about a finding.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct RulePatch {
    /// `shell` or `terraform`.
    pub form: String,
    /// Where, as whom and when it is run.
    #[serde(rename = "where")]
    pub place: String,
    /// The text, with `{{ node.… }}` and `{{ values.… }}` in it.
    pub text: String,
}
