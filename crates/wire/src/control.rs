//! Rules, frameworks and controls.

use domain::{EvidenceId, Timestamp};
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

/// A control with what is behind its result.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct ControlDetail {
    /// The control.
    #[serde(flatten)]
    pub control: Control,
    /// The framework's name for people.
    pub framework_title: String,
    /// The rules that support it, and how they judged.
    pub rules: Vec<ControlRule>,
    /// The signed judgement; none before the first one.
    pub judgement: Option<Judgement>,
}

/// A rule of a control.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct ControlRule {
    /// Its id.
    pub rule: String,
    /// Its title.
    pub title: String,
    /// How bad a violation is.
    pub severity: String,
    /// The node types that it judges.
    pub node_types: Vec<String>,
    /// Nodes that passed, by the signed judgement; none where that says nothing of the rule.
    pub passed: Option<u64>,
    /// Nodes that failed.
    pub failed: Option<u64>,
    /// Nodes that could not be judged: something was not read.
    pub unknown: Option<u64>,
}

/// Who says how a control stands, when, and on what.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Judgement {
    /// The signed statement.
    #[schema(value_type = String)]
    pub evidence: EvidenceId,
    /// SHA-256 of the public key (SPKI) that signed it.
    pub key: String,
    /// Whether the signature is by this server's key in use and holds. The bundle proves it to everybody else.
    pub verified: bool,
    /// When it was signed.
    #[schema(value_type = String)]
    pub signed_at: Timestamp,
    /// SHA-256 of the rules that judged.
    pub rules_sha256: Option<String>,
    /// The collections that it rests on: the first 100 by scope.
    pub basis: Vec<JudgementBasis>,
    /// How many those are.
    pub basis_total: u64,
}

/// A collection that a judgement rests on.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct JudgementBasis {
    /// Its signed statement.
    #[schema(value_type = String)]
    pub evidence: EvidenceId,
    /// What was read.
    pub scope: Option<String>,
    /// `api-response`, `config`, `scan`, `null-result` or `attestation`.
    pub kind: String,
    /// When it was signed.
    #[schema(value_type = String)]
    pub signed_at: Timestamp,
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

/// A framework whose controls are known.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Framework {
    /// Its id, e.g. `nist-800-53-r5`.
    pub id: String,
    /// Its name for people.
    pub title: String,
    /// Its version.
    pub version: String,
    /// How many controls it has.
    pub controls: u64,
    /// How many of them at least one rule supports.
    pub supported: u64,
    /// How many rules support one of its controls.
    pub rules: u64,
    /// The packs that these rules are in.
    pub packs: Vec<String>,
}

/// A pack: a file of rules.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct Pack {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its name for people.
    pub title: String,
    /// Where its requirements come from.
    pub source: String,
    /// What it is about.
    pub description: String,
    /// How many rules it has.
    pub rules: u64,
    /// The frameworks whose controls they support.
    pub frameworks: Vec<String>,
}
