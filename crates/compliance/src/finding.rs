//! From an evaluation to what changes about findings. Pure: the store applies the changes.

use std::collections::HashSet;

use domain::{FindingStatus, Severity, Timestamp};
use serde_json::Value as Json;

use crate::evaluate::{Evaluation, Verdict};
use crate::snapshot::Snapshot;

/// What an evaluation says about a violation.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts {
    /// The rule's severity.
    pub severity: Severity,
    /// 0 to 100.
    pub risk_score: u8,
    /// In one line.
    pub message: String,
    /// What made it fail.
    pub values: Json,
}

/// A finding as it is stored. Rule and node together name it.
#[derive(Debug, Clone, PartialEq)]
pub struct CurrentFinding {
    /// The rule.
    pub rule_id: String,
    /// The node.
    pub node_id: String,
    /// Where it stands.
    pub status: FindingStatus,
    /// Until when its risk is accepted; `None` while accepted: without end.
    pub accepted_until: Option<Timestamp>,
    /// What was said of it last.
    pub facts: Facts,
}

/// Why a finding is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// The node complies now, or the rule is no longer about it.
    Fixed,
    /// The node is gone.
    NodeClosed,
    /// The rule is gone.
    RuleRemoved,
}

/// Why a finding is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The node fails again.
    FailsAgain,
    /// The acceptance of its risk ended.
    AcceptanceExpired,
}

/// A change to make.
#[derive(Debug, Clone, PartialEq)]
pub enum FindingChange {
    /// A new finding.
    Open {
        /// The rule.
        rule_id: String,
        /// The node.
        node_id: String,
        /// What it says.
        facts: Facts,
    },
    /// A finding is open again; an acceptance that it had is over.
    Reopen {
        /// The rule.
        rule_id: String,
        /// The node.
        node_id: String,
        /// Why.
        cause: Cause,
        /// What it says now.
        facts: Facts,
    },
    /// Its status stays; what it says changed.
    Update {
        /// The rule.
        rule_id: String,
        /// The node.
        node_id: String,
        /// What it says now.
        facts: Facts,
    },
    /// It is resolved; an acceptance that it had is over.
    Resolve {
        /// The rule.
        rule_id: String,
        /// The node.
        node_id: String,
        /// Why.
        resolution: Resolution,
    },
}

/// What an evaluation over a snapshot changes about the findings there are (at most one per rule and node).
///
/// A pair that could not be evaluated changes nothing: its finding, if there is one, stays as it is. Changes are in order of rule id and
/// node id, resolutions first.
pub fn diff_findings(current: &[CurrentFinding], evaluation: &Evaluation, snapshot: &Snapshot) -> Vec<FindingChange> {
    let mut known: HashSet<(&str, &str)> = HashSet::with_capacity(current.len());
    let mut changes = Vec::new();
    let mut kept = Vec::new();
    for finding in current {
        let (rule, node) = (finding.rule_id.as_str(), finding.node_id.as_str());
        if !known.insert((rule, node)) {
            continue;
        }
        let (rule_id, node_id) = (finding.rule_id.clone(), finding.node_id.clone());
        match evaluation.failure(rule, node).map(|failure| (&failure.verdict, failure.severity)) {
            Some((Verdict::Fail { values, message, risk_score }, severity)) => {
                let (risk_score, message, values) = (*risk_score, message.clone(), values.clone());
                let facts = Facts { severity, risk_score, message, values };
                let over = finding.accepted_until.is_some_and(|until| until <= evaluation.now);
                match finding.status {
                    FindingStatus::Resolved => {
                        kept.push(FindingChange::Reopen { rule_id, node_id, cause: Cause::FailsAgain, facts });
                    }
                    FindingStatus::Accepted if over => {
                        kept.push(FindingChange::Reopen { rule_id, node_id, cause: Cause::AcceptanceExpired, facts });
                    }
                    FindingStatus::Open | FindingStatus::Accepted => {
                        if facts != finding.facts {
                            kept.push(FindingChange::Update { rule_id, node_id, facts });
                        }
                    }
                }
            }
            Some(_) => {}
            None if finding.status == FindingStatus::Resolved => {}
            None => {
                let resolution = if evaluation.rule(rule).is_none() {
                    Resolution::RuleRemoved
                } else if snapshot.find(node).is_none() {
                    Resolution::NodeClosed
                } else {
                    Resolution::Fixed
                };
                changes.push(FindingChange::Resolve { rule_id, node_id, resolution });
            }
        }
    }
    for failure in &evaluation.failures {
        if let Verdict::Fail { values, message, risk_score } = &failure.verdict
            && !known.contains(&(failure.rule_id.as_str(), failure.node_id.as_str()))
        {
            kept.push(FindingChange::Open {
                rule_id: failure.rule_id.clone(),
                node_id: failure.node_id.clone(),
                facts: Facts {
                    severity: failure.severity,
                    risk_score: *risk_score,
                    message: message.clone(),
                    values: values.clone(),
                },
            });
        }
    }
    changes.sort_by(|a, b| a.key().cmp(&b.key()));
    kept.sort_by(|a, b| a.key().cmp(&b.key()));
    changes.append(&mut kept);
    changes
}

impl FindingChange {
    /// The rule and node that it is about.
    pub fn key(&self) -> (&str, &str) {
        match self {
            Self::Open { rule_id, node_id, .. }
            | Self::Reopen { rule_id, node_id, .. }
            | Self::Update { rule_id, node_id, .. }
            | Self::Resolve { rule_id, node_id, .. } => (rule_id, node_id),
        }
    }
}
