//! Evaluation and the diff of findings.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code outside of test functions")]

use std::collections::BTreeMap;

use compliance::{
    Catalog, Cause, ControlResult, CurrentFinding, Direction, Evaluation, FindingChange, Frameworks, Resolution,
    Ruleset, Schema, Snapshot, SnapshotBuilder, Verdict, diff_findings, evaluate, load, risk_score,
};
use domain::{Digest, FindingStatus, Severity, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

const SCHEMA: &str = r#"{"edges": ["attached_to"], "exposed_when": {"aws.a": "default(props.public, false)"},
  "types": {"aws.a": {"ok": null, "public": null, "broken": null, "scope": null}, "aws.b": {"ok": null}}}"#;
const FRAMEWORK: &str = r#"{"id": "f", "title": "t", "version": "1", "source": {}, "controls": [{"id": "C-1"}, {"id": "C-2"}, {"id": "C-3"}]}"#;
const PACK: &str = r#"
pack: {id: p, version: "1", title: P}
rules:
- id: first
  title: a is ok
  severity: high
  node_type: aws.a
  when: default(props.scope, "in") == "in"
  condition: default(props.ok, false)
  message: "{{ node.name }} is {{ default(props.ok, 'unknown') }} and {{ props.nothing_yet }}"
  values: {ok: props.ok}
  remediation: do it
  controls: {f: [C-1, C-2]}
- id: second
  title: everything is whole
  severity: low
  risk: 10
  node_type: [aws.b, aws.a]
  condition: "!default(props.ok, true) ? false : size(node.name) / (node.name == 'zero' ? 0 : 1) > 0"
  message: "{{ node.name }} is not whole"
  remediation: do it
  controls: {f: [C-2]}
"#;

fn catalog() -> Catalog {
    Catalog {
        schema: Schema::parse(&[("s", SCHEMA)]).unwrap(),
        frameworks: Frameworks::parse(&[("f", FRAMEWORK)]).unwrap(),
    }
}

fn ruleset(catalog: &Catalog) -> Ruleset {
    let text = PACK.replace("{{ props.nothing_yet }}", "{{ props.broken }}");
    load(catalog, &[("p.yaml", &text)], |_| Digest([1; 32])).unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn snapshot(nodes: &[(&str, &str, Value)]) -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    for (node_type, name, props) in nodes {
        builder.node(&format!("t:r:{node_type}:{name}"), node_type, name, "r", "t", json!({}), props.clone());
    }
    builder.build()
}

const NOW: &str = "2026-11-22T03:00:00Z";

#[test]
fn verdicts_are_counted_and_only_fails_and_errors_are_listed() {
    let catalog = catalog();
    let rules = ruleset(&catalog);
    let world = snapshot(&[
        ("aws.a", "bad", json!({"ok": false, "public": true})),
        ("aws.a", "good", json!({"ok": true})),
        ("aws.a", "out", json!({"scope": "out"})),
        ("aws.b", "whole", json!({})),
        ("aws.a", "zero", json!({"ok": true})),
    ]);
    let evaluation = evaluate(&rules, &world, at(NOW));
    let counts: Vec<_> = evaluation.rules.iter().map(|r| (r.passed, r.failed, r.errors, r.not_applicable)).collect();
    assert_eq!(counts, [(2, 1, 0, 1), (3, 1, 1, 0)]);
    let listed: Vec<_> = evaluation.failures.iter().map(|f| (f.rule_id.as_str(), f.node_id.as_str())).collect();
    assert_eq!(listed, [("first", "t:r:aws.a:bad"), ("second", "t:r:aws.a:bad"), ("second", "t:r:aws.a:zero")]);
    // 75 for `high`, a quarter more because the node is public.
    let first =
        Verdict::Fail { values: json!({"ok": false}), message: "bad is false and unknown".to_owned(), risk_score: 94 };
    assert_eq!(evaluation.failures[0].verdict, first);
    let Verdict::Error { message } = &evaluation.failures[2].verdict else { panic!("{:?}", evaluation.failures[2]) };
    assert!(message.contains("division by zero"), "{message}");

    let controls: Vec<_> =
        evaluation.controls(&rules, &catalog.frameworks).into_iter().map(|c| (c.control, c.result)).collect();
    let expect = [("C-1", ControlResult::Fail), ("C-2", ControlResult::Fail), ("C-3", ControlResult::NotAssessed)];
    assert_eq!(controls, expect.map(|(control, result)| (control.to_owned(), result)));
}

#[test]
fn a_control_passes_only_when_every_judged_node_passed() {
    let catalog = catalog();
    let rules = ruleset(&catalog);
    let result = |nodes: &[(&str, &str, Value)]| {
        let world = snapshot(nodes);
        let controls = evaluate(&rules, &world, at(NOW)).controls(&rules, &catalog.frameworks);
        controls.into_iter().take(2).map(|c| c.result).collect::<Vec<_>>()
    };
    assert_eq!(result(&[]), [ControlResult::NotAssessed, ControlResult::NotAssessed]);
    assert_eq!(result(&[("aws.a", "x", json!({"ok": true}))]), [ControlResult::Pass, ControlResult::Pass]);
    assert_eq!(result(&[("aws.b", "x", json!({"ok": true}))]), [ControlResult::NotAssessed, ControlResult::Pass]);
    // One of two rules fails: partial. A rule that errs never makes a pass.
    assert_eq!(result(&[("aws.a", "x", json!({}))]), [ControlResult::Fail, ControlResult::Partial]);
    assert_eq!(result(&[("aws.b", "zero", json!({}))]), [ControlResult::NotAssessed, ControlResult::Partial]);
}

#[test]
fn the_order_of_filling_a_snapshot_changes_nothing() {
    let catalog = catalog();
    let rules = ruleset(&catalog);
    let mut nodes: Vec<(&str, String, Value)> = (0..200)
        .map(|i| (if i % 3 == 0 { "aws.b" } else { "aws.a" }, format!("n{i}"), json!({"ok": i % 2 == 0})))
        .collect();
    let build = |nodes: &[(&str, String, Value)]| {
        let nodes: Vec<_> = nodes.iter().map(|(t, n, p)| (*t, n.as_str(), p.clone())).collect();
        evaluate(&rules, &snapshot(&nodes), at(NOW))
    };
    let forwards = build(&nodes);
    nodes.reverse();
    assert_eq!(build(&nodes), forwards);
}

#[test]
fn risk_grows_by_a_quarter_when_exposed_and_ends_at_a_hundred() {
    for (risk, exposed, expect) in
        [(0, true, 0), (5, true, 7), (50, false, 50), (50, true, 63), (95, true, 100), (100, true, 100)]
    {
        assert_eq!(risk_score(risk, exposed), expect, "{risk} {exposed}");
    }
}

#[test]
fn neighbours_are_found_in_both_directions_with_their_edges() {
    let mut builder = SnapshotBuilder::new();
    for name in ["1", "2", "3"] {
        builder.node(name, "aws.a", name, "r", "t", json!({}), json!({}));
    }
    builder.node("2", "aws.b", "again", "r", "t", json!({}), json!({}));
    builder.edge("1", "2", "attached_to", json!({"x": 1})).edge("3", "2", "attached_to", json!({})).edge(
        "2",
        "9",
        "attached_to",
        json!({}),
    );
    let world = builder.build();
    assert_eq!((world.len(), world.is_empty()), (3, false));
    let found = |node: &str, direction, node_type: &str| {
        let all = world.neighbors(world.find(node).unwrap(), "attached_to", direction, node_type);
        all.map(|(at, edge)| (world.node(at).unwrap().id.to_string(), edge.cloned())).collect::<Vec<_>>()
    };
    assert_eq!(found("1", Direction::Out, "aws.a"), [("2".to_owned(), Some(json!({"x": 1})))]);
    assert_eq!(found("2", Direction::In, "*"), [("1".to_owned(), Some(json!({"x": 1}))), ("3".to_owned(), None)]);
    assert_eq!(found("2", Direction::Out, "*"), []);
    assert_eq!(found("2", Direction::In, "aws.b"), []);
}

type Findings = BTreeMap<(String, String), CurrentFinding>;

/// What a store does with changes.
fn apply(findings: &mut Findings, changes: &[FindingChange]) {
    for change in changes {
        let key = (change.key().0.to_owned(), change.key().1.to_owned());
        match change.clone() {
            FindingChange::Open { rule_id, node_id, facts } => {
                let new = CurrentFinding { rule_id, node_id, status: FindingStatus::Open, accepted_until: None, facts };
                assert!(findings.insert(key, new).is_none(), "opened twice");
            }
            FindingChange::Reopen { facts, .. } => {
                let finding = findings.get_mut(&key).unwrap();
                (finding.status, finding.accepted_until, finding.facts) = (FindingStatus::Open, None, facts);
            }
            FindingChange::Update { facts, .. } => findings.get_mut(&key).unwrap().facts = facts,
            FindingChange::Resolve { .. } => {
                let finding = findings.get_mut(&key).unwrap();
                (finding.status, finding.accepted_until) = (FindingStatus::Resolved, None);
            }
        }
    }
}

fn step(findings: &mut Findings, evaluation: &Evaluation, world: &Snapshot) -> Vec<FindingChange> {
    let list: Vec<CurrentFinding> = findings.values().cloned().collect();
    let changes = diff_findings(&list, evaluation, world);
    apply(findings, &changes);
    changes
}

#[test]
fn a_finding_opens_updates_resolves_and_opens_again() {
    let catalog = catalog();
    let rules = ruleset(&catalog);
    let mut findings = Findings::new();
    let mut run = |props: Option<Value>, now: &str| {
        let nodes: Vec<_> = props.into_iter().map(|props| ("aws.a", "x", props)).collect();
        let world = snapshot(&nodes);
        step(&mut findings, &evaluate(&rules, &world, at(now)), &world)
    };
    let opened = run(Some(json!({"scope": "in"})), NOW);
    assert!(matches!(opened.as_slice(), [FindingChange::Open { rule_id, .. }] if rule_id == "first"), "{opened:?}");
    assert_eq!(run(Some(json!({"scope": "in"})), NOW), []);
    let updated = run(Some(json!({"public": true})), NOW);
    assert!(
        matches!(updated.as_slice(), [FindingChange::Update { facts, .. }] if facts.risk_score == 94),
        "{updated:?}"
    );
    let fixed = run(Some(json!({"ok": true})), NOW);
    assert!(matches!(fixed.as_slice(), [FindingChange::Resolve { resolution: Resolution::Fixed, .. }]), "{fixed:?}");
    let again = run(Some(json!({})), NOW);
    assert!(matches!(again.as_slice(), [FindingChange::Reopen { cause: Cause::FailsAgain, .. }]), "{again:?}");
    let closed = run(None, NOW);
    assert!(
        matches!(closed.as_slice(), [FindingChange::Resolve { resolution: Resolution::NodeClosed, .. }]),
        "{closed:?}"
    );
}

#[test]
fn an_acceptance_holds_until_its_expiry_and_ends_when_the_node_is_fixed() {
    let catalog = catalog();
    let rules = ruleset(&catalog);
    let (bad, good) = (snapshot(&[("aws.a", "x", json!({}))]), snapshot(&[("aws.a", "x", json!({"ok": true}))]));
    let mut findings = Findings::new();
    step(&mut findings, &evaluate(&rules, &bad, at(NOW)), &bad);
    let finding = findings.values_mut().next().unwrap();
    (finding.status, finding.accepted_until) = (FindingStatus::Accepted, Some(at("2027-01-01T00:00:00Z")));
    let accepted = findings.clone();
    assert_eq!(step(&mut findings, &evaluate(&rules, &bad, at("2026-12-31T23:59:59Z")), &bad), []);
    let expired = step(&mut findings, &evaluate(&rules, &bad, at("2027-01-01T00:00:00Z")), &bad);
    assert!(
        matches!(expired.as_slice(), [FindingChange::Reopen { cause: Cause::AcceptanceExpired, .. }]),
        "{expired:?}"
    );
    findings = accepted;
    let fixed = step(&mut findings, &evaluate(&rules, &good, at(NOW)), &good);
    assert!(matches!(fixed.as_slice(), [FindingChange::Resolve { resolution: Resolution::Fixed, .. }]), "{fixed:?}");
}

#[test]
fn what_cannot_be_evaluated_changes_no_finding_and_a_removed_rule_resolves_its_own() {
    let catalog = catalog();
    let rules = ruleset(&catalog);
    let world = snapshot(&[("aws.b", "zero", json!({"ok": false}))]);
    let mut findings = Findings::new();
    step(&mut findings, &evaluate(&rules, &world, at(NOW)), &world);
    assert_eq!(findings.len(), 1);
    let erring = snapshot(&[("aws.b", "zero", json!({"ok": true}))]);
    let evaluation = evaluate(&rules, &erring, at(NOW));
    assert_eq!(evaluation.rule("second").unwrap().errors, 1);
    assert_eq!(step(&mut findings, &evaluation, &erring), []);
    let empty = load(&catalog, &[], |_| Digest([2; 32])).unwrap();
    let removed = step(&mut findings, &evaluate(&empty, &erring, at(NOW)), &erring);
    assert!(
        matches!(removed.as_slice(), [FindingChange::Resolve { resolution: Resolution::RuleRemoved, .. }]),
        "{removed:?}"
    );
}

fn worlds() -> impl Strategy<Value = Vec<(bool, u8, Option<bool>, bool)>> {
    proptest::collection::vec((any::<bool>(), 0u8..6, any::<Option<bool>>(), any::<bool>()), 0..8)
}

fn world_of(nodes: &[(bool, u8, Option<bool>, bool)]) -> Snapshot {
    let mut builder = SnapshotBuilder::new();
    for (is_a, name, ok, public) in nodes {
        let (node_type, name) =
            (if *is_a { "aws.a" } else { "aws.b" }, if *name == 0 { "zero".to_owned() } else { format!("n{name}") });
        let props = ok.map_or_else(|| json!({"public": public}), |ok| json!({"ok": ok, "public": public}));
        builder.node(&format!("t:r:{node_type}:{name}"), node_type, &name, "r", "t", json!({}), props);
    }
    builder.build()
}

proptest! {
    /// Whatever the history, a second diff is empty; open findings are exactly the failures, less the accepted ones and errors.
    #[test]
    fn the_diff_applied_once_leaves_nothing_to_change(
        history in proptest::collection::vec((worlds(), any::<bool>(), 0i64..40), 1..6)
    ) {
        let catalog = catalog();
        let rules = ruleset(&catalog);
        let mut findings = Findings::new();
        for (nodes, accept, days) in history {
            let world = world_of(&nodes);
            let now = at(NOW).plus_millis(days * 86_400_000);
            let evaluation = evaluate(&rules, &world, now);
            step(&mut findings, &evaluation, &world);
            prop_assert_eq!(step(&mut findings, &evaluation, &world), vec![]);
            for failure in &evaluation.failures {
                let key = (failure.rule_id.clone(), failure.node_id.clone());
                match &failure.verdict {
                    Verdict::Fail { message, .. } => {
                        let finding = findings.get(&key).unwrap();
                        prop_assert!(finding.status != FindingStatus::Resolved);
                        prop_assert_eq!(&finding.facts.message, message);
                    }
                    Verdict::Error { .. } => {}
                    other => prop_assert!(false, "{:?} is listed", other),
                }
            }
            for finding in findings.values().filter(|finding| finding.status != FindingStatus::Resolved) {
                prop_assert!(evaluation.failure(&finding.rule_id, &finding.node_id).is_some());
            }
            if accept && let Some(finding) = findings.values_mut().find(|finding| finding.status == FindingStatus::Open) {
                (finding.status, finding.accepted_until) = (FindingStatus::Accepted, Some(now.plus_millis(10 * 86_400_000)));
            }
        }
    }
}

#[test]
fn severities_have_their_default_risk() {
    let catalog = catalog();
    for (severity, risk) in [("info", 5), ("low", 25), ("medium", 50), ("high", 75), ("critical", 95)] {
        let text =
            PACK.replace("{{ props.nothing_yet }}", "").replace("severity: high", &format!("severity: {severity}"));
        let rules = load(&catalog, &[("p.yaml", &text)], |_| Digest([1; 32])).unwrap();
        let rule = rules.rule("first").unwrap();
        assert_eq!((rule.risk, rule.severity), (risk, severity.parse::<Severity>().unwrap()));
    }
}
