//! Judging nodes by rules, and controls by both.

use std::collections::BTreeMap;

use domain::{Severity, Timestamp};
use serde::Serialize;
use serde_json::Value as Json;

use crate::cel::{Machine, Program, Subject, Value};
use crate::framework::Frameworks;
use crate::rule::Rule;
use crate::ruleset::Ruleset;
use crate::snapshot::{Node, NodeIndex, Snapshot};
use crate::unread::Needs;

/// Deepest nesting of a recorded value.
const VALUE_DEPTH: usize = 3;

/// What a rule says about a node.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// The node complies.
    Pass,
    /// It does not.
    Fail {
        /// What made it fail: name -> value, cut to a size for people.
        values: Json,
        /// In one line.
        message: String,
        /// 0 to 100, see [`risk_score`].
        risk_score: u8,
    },
    /// The rule could not be evaluated about it: neither pass nor fail.
    Error {
        /// Why.
        message: String,
    },
    /// The rule's `when` says that it is not about this node.
    NotApplicable,
}

/// A failed or failing-to-evaluate pair of rule and node.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// The rule.
    pub rule_id: String,
    /// The node.
    pub node_id: String,
    /// The rule's severity.
    pub severity: Severity,
    /// [`Verdict::Fail`] or [`Verdict::Error`].
    pub verdict: Verdict,
}

/// How many nodes a rule judged how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleOutcome {
    /// The rule.
    pub rule_id: String,
    /// Its severity.
    pub severity: Severity,
    /// Nodes that comply.
    pub passed: u64,
    /// Nodes that do not.
    pub failed: u64,
    /// Nodes that it could not be evaluated about.
    pub errors: u64,
    /// Nodes that it is not about.
    pub not_applicable: u64,
}

/// Where a control stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlResult {
    /// Every rule that judged a node passed every node.
    Pass,
    /// Some rules passed, some did not; or a rule could not be evaluated.
    Partial,
    /// A critical rule failed, or no rule passed.
    Fail,
    /// No rule judged any node.
    NotAssessed,
}

/// The judgement of one control by all rules that are mapped to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ControlOutcome {
    /// The framework.
    pub framework: String,
    /// The control.
    pub control: String,
    /// Where it stands.
    pub result: ControlResult,
    /// The rules that are mapped to it, by id.
    pub rules: Vec<String>,
    /// Nodes that passed, over all rules.
    pub passed: u64,
    /// Nodes that failed, over all rules.
    pub failed: u64,
    /// Nodes that could not be judged, over all rules.
    pub errors: u64,
}

/// The outcome of all rules over a snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The moment that `now` stood for.
    pub now: Timestamp,
    /// One per rule, by id.
    pub rules: Vec<RuleOutcome>,
    /// Fails and errors, by rule id and then node id.
    pub failures: Vec<Failure>,
}

impl Evaluation {
    /// The outcome of a rule.
    pub fn rule(&self, id: &str) -> Option<&RuleOutcome> {
        self.rules.binary_search_by(|outcome| outcome.rule_id.as_str().cmp(id)).ok().and_then(|at| self.rules.get(at))
    }

    /// The failure of a rule about a node.
    pub fn failure(&self, rule_id: &str, node_id: &str) -> Option<&Failure> {
        let key = |failure: &Failure| (failure.rule_id.as_str(), failure.node_id.as_str()).cmp(&(rule_id, node_id));
        self.failures.binary_search_by(key).ok().and_then(|at| self.failures.get(at))
    }

    /// Every control of every framework, in the frameworks' own order; those without a rule are `not_assessed`.
    pub fn controls(&self, ruleset: &Ruleset, frameworks: &Frameworks) -> Vec<ControlOutcome> {
        let mut mapped: BTreeMap<(&str, &str), Vec<&RuleOutcome>> = BTreeMap::new();
        for (rule, outcome) in ruleset.rules().iter().zip(&self.rules) {
            for (framework, ids) in &rule.controls {
                for id in ids {
                    mapped.entry((framework, id)).or_default().push(outcome);
                }
            }
        }
        let mut out = Vec::new();
        for framework in frameworks.iter() {
            for control in &framework.controls {
                let rules = mapped.get(&(&*framework.id, &*control.id)).map(Vec::as_slice).unwrap_or_default();
                let sum = |count: fn(&RuleOutcome) -> u64| rules.iter().map(|outcome| count(outcome)).sum();
                out.push(ControlOutcome {
                    framework: framework.id.clone(),
                    control: control.id.clone(),
                    result: control_result(rules),
                    rules: rules.iter().map(|outcome| outcome.rule_id.clone()).collect(),
                    passed: sum(|outcome| outcome.passed),
                    failed: sum(|outcome| outcome.failed),
                    errors: sum(|outcome| outcome.errors),
                });
            }
        }
        out
    }
}

fn control_result(rules: &[&RuleOutcome]) -> ControlResult {
    let assessed = || rules.iter().filter(|rule| rule.passed + rule.failed + rule.errors > 0);
    let clean = |rule: &&&RuleOutcome| rule.failed == 0 && rule.errors == 0;
    let failed = |rule: &&RuleOutcome| rule.failed > 0;
    let critical = |rule: &&RuleOutcome| failed(rule) && rule.severity == Severity::Critical;
    match (assessed().count(), assessed().filter(clean).count()) {
        (0, _) => ControlResult::NotAssessed,
        (all, clean) if clean == all => ControlResult::Pass,
        (_, 0) if assessed().any(failed) => ControlResult::Fail,
        _ if assessed().any(critical) => ControlResult::Fail,
        _ => ControlResult::Partial,
    }
}

/// The risk of a violation: the rule's own risk, a quarter more (rounded up, at most 100) where the node is exposed.
///
/// A rule that states no risk has 5, 25, 50, 75 or 95 by its severity. A node is exposed when the schema's `exposed_when` for its type
/// holds, e.g. an instance with a public address; what cannot be told counts as not exposed.
pub fn risk_score(risk: u8, exposed: bool) -> u8 {
    let scaled = if exposed { (u16::from(risk) * 5).div_ceil(4) } else { u16::from(risk) };
    u8::try_from(scaled.min(100)).unwrap_or(100)
}

/// Evaluates every rule about every node of its types.
pub fn evaluate(ruleset: &Ruleset, snapshot: &Snapshot, now: Timestamp) -> Evaluation {
    let mut rules = Vec::with_capacity(ruleset.rules().len());
    let mut failures = Vec::new();
    for rule in ruleset.rules() {
        let mut outcome = RuleOutcome {
            rule_id: rule.id.clone(),
            severity: rule.severity,
            passed: 0,
            failed: 0,
            errors: 0,
            not_applicable: 0,
        };
        judge_each(ruleset, rule, snapshot, now, |_, node, verdict| {
            *match verdict {
                Verdict::Pass => &mut outcome.passed,
                Verdict::Fail { .. } => &mut outcome.failed,
                Verdict::Error { .. } => &mut outcome.errors,
                Verdict::NotApplicable => &mut outcome.not_applicable,
            } += 1;
            if matches!(verdict, Verdict::Fail { .. } | Verdict::Error { .. }) {
                let (rule_id, node_id) = (rule.id.clone(), node.id.to_string());
                failures.push(Failure { rule_id, node_id, severity: rule.severity, verdict });
            }
        });
        rules.push(outcome);
    }
    Evaluation { now, rules, failures }
}

/// One rule's verdict about every node of its types, passes too: what evidence is collected for.
pub fn judge(ruleset: &Ruleset, rule: &Rule, snapshot: &Snapshot, now: Timestamp) -> Vec<(NodeIndex, Verdict)> {
    let mut out = Vec::new();
    judge_each(ruleset, rule, snapshot, now, |index, _, verdict| out.push((index, verdict)));
    out
}

fn judge_each<'a>(
    ruleset: &'a Ruleset,
    rule: &'a Rule,
    snapshot: &'a Snapshot,
    now: Timestamp,
    mut tell: impl FnMut(NodeIndex, &'a Node, Verdict),
) {
    let merged: Vec<NodeIndex>;
    let nodes = match rule.node_types.as_slice() {
        [one] => snapshot.nodes_of_type(one),
        several => {
            let mut all: Vec<NodeIndex> =
                several.iter().flat_map(|node_type| snapshot.nodes_of_type(node_type)).copied().collect();
            all.sort_unstable();
            merged = all;
            &merged
        }
    };
    let mut machine: Option<Machine<'a>> = None;
    for index in nodes {
        let Some(node) = snapshot.node(*index) else { continue };
        let machine = machine.get_or_insert_with(|| Machine::new(Subject { snapshot, index: *index, node, now }));
        machine.turn_to(*index, node);
        tell(*index, node, verdict(ruleset, rule, machine, snapshot, node));
    }
}

fn holds<'a>(program: &'a Program, machine: &mut Machine<'a>, what: &str) -> Result<bool, Verdict> {
    match program.eval(machine) {
        Ok(Value::Bool(holds)) => Ok(holds),
        Ok(other) => Err(Verdict::Error { message: format!("{what} is {}, not true or false", other.type_name()) }),
        Err(fault) => Err(Verdict::Error { message: format!("{what}, character {}: {}", fault.at + 1, fault.cause) }),
    }
}

fn verdict<'a>(
    ruleset: &'a Ruleset,
    rule: &'a Rule,
    machine: &mut Machine<'a>,
    snapshot: &'a Snapshot,
    node: &'a Node,
) -> Verdict {
    let unread = |needs: &Needs| {
        needs.lacking(snapshot.type_of(node), &node.properties).map(|message| Verdict::Error { message })
    };
    if let Some((when, needs)) = &rule.when {
        if let Some(error) = unread(needs) {
            return error;
        }
        match holds(when, machine, "when") {
            Ok(true) => {}
            Ok(false) => return Verdict::NotApplicable,
            Err(error) => return error,
        }
    }
    let (condition, needs) = &rule.condition;
    if let Some(error) = unread(needs) {
        return error;
    }
    match holds(condition, machine, "condition") {
        Ok(true) => return Verdict::Pass,
        Ok(false) => {}
        Err(error) => return error,
    }
    let values = rule.values.iter().map(|(name, program)| {
        let value = program.eval(machine).map_or(Json::Null, |value| value.to_json(VALUE_DEPTH));
        (name.clone(), value)
    });
    let values = Json::Object(values.collect());
    let message = rule.message.render(machine);
    let exposure = ruleset.exposed_when.get(snapshot.type_of(node));
    let exposed = exposure.is_some_and(|program| matches!(program.eval(machine), Ok(Value::Bool(true))));
    Verdict::Fail { values, message, risk_score: risk_score(rule.risk, exposed) }
}
