//! Findings, their states, evaluations, control results.

use std::time::Duration;

use access::ops;
use compliance::{
    ControlOutcome, ControlResult, Evaluation, Facts, Failure, FindingChange, RuleOutcome, SnapshotBuilder, Verdict,
    diff_findings,
};
use domain::{Clock as _, Coverage, Error, FindingId, FindingStatus, NodeObservation, Page, Severity, TenantId};
use serde_json::json;
use store::{ControlFilter, EvaluationRow, FindingCounts, FindingFilter, FindingRow};

use crate::evidence::RULESET;
use crate::pair::{Pair, each_engine};

fn facts(risk: u8) -> Facts {
    let severity = if risk > 60 { Severity::High } else { Severity::Low };
    Facts { severity, risk_score: risk, message: format!("it fails at {risk}"), values: json!({"risk": risk}) }
}

impl Pair<'_> {
    /// Puts nodes into the graph by one scope; their ids.
    pub(crate) async fn nodes(&self, tenant: TenantId, scope: &str, ids: &[&str]) -> Vec<String> {
        let mut ingest = self.store.ingest(self.permit(tenant), "aws".parse().unwrap()).await.unwrap();
        let nodes = ids
            .iter()
            .map(|id| {
                let id: domain::NodeId = id.parse().unwrap();
                NodeObservation {
                    name: format!("Name_{}", id.resource()),
                    id,
                    properties: domain::Properties::default(),
                    tags: domain::Tags::default(),
                }
            })
            .collect();
        let scope: domain::ScopeId = scope.parse().unwrap();
        ingest.page(&Page { scope: scope.clone(), nodes, edges: vec![] }).await.unwrap();
        let collection = domain::CollectionId::generate(&*self.clock, &*self.rng);
        ingest.finish(&scope, &Coverage::Complete, collection).await.unwrap();
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    pub(crate) async fn apply(&self, tenant: TenantId, changes: &[FindingChange]) -> FindingCounts {
        let mut unit = self.write::<ops::EvaluationRun>(tenant).await;
        let counts = unit.findings_apply(changes).await.unwrap();
        let evaluation = EvaluationRow {
            at: self.clock.now(),
            ruleset: RULESET,
            rules: 1,
            nodes: 1,
            passed: 0,
            failed: 1,
            errors: 0,
        };
        unit.evaluation_finish(&evaluation, counts).await.unwrap();
        counts
    }

    /// Opens findings of rule, node and risk; their ids in this order.
    pub(crate) async fn findings(&self, tenant: TenantId, of: &[(&str, &str, u8)]) -> Vec<FindingId> {
        let changes: Vec<_> = of
            .iter()
            .map(|(rule, node, risk)| FindingChange::Open {
                rule_id: (*rule).to_owned(),
                node_id: (*node).to_owned(),
                facts: facts(*risk),
            })
            .collect();
        assert_eq!(self.apply(tenant, &changes).await.opened, of.len() as u64);
        let listed = self.list(tenant, FindingFilter::default()).await;
        of.iter()
            .map(|(rule, node, _)| listed.iter().find(|row| row.rule_id == *rule && row.node_id == *node).unwrap().id)
            .collect()
    }

    async fn list(&self, tenant: TenantId, filter: FindingFilter) -> Vec<FindingRow> {
        self.read::<ops::FindingList>(tenant).await.finding_list(&filter, None, 500).await.unwrap().items
    }

    async fn finding(&self, id: FindingId) -> FindingRow {
        self.read::<ops::FindingList>(self.a).await.finding_show(id).await.unwrap()
    }

    async fn accept(&self, id: FindingId, reason: &str, for_ms: i64) -> Result<FindingRow, Error> {
        let until = self.clock.now().plus_millis(for_ms);
        self.write::<ops::FindingAccept>(self.a).await.finding_accept(id, reason, until).await
    }

    /// Evaluates rule `r1`, which fails on these nodes of these, all the way through `compliance`'s diff.
    pub(crate) async fn evaluate(&self, failing: &[&str], nodes: &[&str], risk: u8) -> FindingCounts {
        let now = self.clock.now();
        let mut snapshot = SnapshotBuilder::new();
        for node in nodes {
            snapshot.node(node, "aws.s3.bucket", node, "r", "aws", json!({}), json!({}));
        }
        let verdict = || Verdict::Fail { values: facts(risk).values, message: facts(risk).message, risk_score: risk };
        let failures = failing
            .iter()
            .map(|node| Failure {
                rule_id: "r1".to_owned(),
                node_id: (*node).to_owned(),
                severity: facts(risk).severity,
                verdict: verdict(),
            })
            .collect();
        let rule = RuleOutcome {
            rule_id: "r1".to_owned(),
            severity: facts(risk).severity,
            passed: 0,
            failed: 0,
            errors: 0,
            not_applicable: 0,
        };
        let evaluation = Evaluation { now, rules: vec![rule], failures };
        let mut unit = self.write::<ops::EvaluationRun>(self.a).await;
        let current = unit.finding_current().await.unwrap();
        let changes = diff_findings(&current, &evaluation, &snapshot.build());
        let counts = unit.findings_apply(&changes).await.unwrap();
        let row = EvaluationRow { at: now, ruleset: RULESET, rules: 1, nodes: 2, passed: 1, failed: 1, errors: 0 };
        unit.evaluation_finish(&row, counts).await.unwrap();
        counts
    }
}

const B1: &str = "aws:r:aws.s3.bucket:b1";
const B2: &str = "aws:r:aws.s3.bucket:b2";
const YEAR_MS: i64 = 365 * 86_400_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_identical_evaluation_changes_no_finding() {
    each_engine(async |world| {
        world.nodes(world.a, "s", &[B1, B2]).await;
        let first = world.evaluate(&[B1, B2], &[B1, B2], 50).await;
        assert_eq!(first, FindingCounts { opened: 2, ..FindingCounts::default() });
        let before = world.list(world.a, FindingFilter::default()).await;
        world.clock.advance(Duration::from_mins(1));
        assert_eq!(world.evaluate(&[B1, B2], &[B1, B2], 50).await, FindingCounts::default());
        let after = world.list(world.a, FindingFilter::default()).await;
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        assert_eq!(
            world.evaluate(&[B1, B2], &[B1, B2], 70).await,
            FindingCounts { updated: 2, ..FindingCounts::default() }
        );
        assert_eq!(world.list(world.a, FindingFilter::default()).await[0].severity, Severity::High);
        let runs = world
            .audit(world.a)
            .await
            .into_iter()
            .filter(|(action, ..)| action == "evaluation_run")
            .collect::<Vec<_>>();
        assert_eq!((runs.len(), runs[0].2["findings"]["opened"].as_u64()), (3, Some(2)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_fixed_is_resolved_and_what_fails_again_is_reopened() {
    each_engine(async |world| {
        world.nodes(world.a, "s", &[B1, B2]).await;
        world.evaluate(&[B1, B2], &[B1, B2], 50).await;
        world.clock.advance(Duration::from_mins(1));
        // The first complies now, the second is gone.
        assert_eq!(world.evaluate(&[], &[B1], 50).await, FindingCounts { resolved: 2, ..FindingCounts::default() });
        let rows = world.list(world.a, FindingFilter::default()).await;
        let why = |node: &str| rows.iter().find(|row| row.node_id == node).unwrap().resolution.clone().unwrap();
        assert_eq!((why(B1).as_str(), why(B2).as_str()), ("fixed", "node_closed"));
        assert_eq!(rows[0].resolved_at, Some(world.clock.now()));
        assert_eq!(world.evaluate(&[B1], &[B1], 50).await, FindingCounts { reopened: 1, ..FindingCounts::default() });
        let open =
            world.list(world.a, FindingFilter { status: Some(FindingStatus::Open), ..FindingFilter::default() }).await;
        assert_eq!((open.len(), open[0].resolved_at, open[0].resolution.as_deref()), (1, None, None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acceptance_holds_until_it_ends() {
    each_engine(async |world| {
        world.nodes(world.a, "s", &[B1]).await;
        world.evaluate(&[B1], &[B1], 50).await;
        let id = world.list(world.a, FindingFilter::default()).await[0].id;
        for (reason, for_ms, field) in [
            ("", 1_000, "reason"),
            (" \n", 1_000, "reason"),
            ("ok", 0, "until"),
            ("ok", -1, "until"),
            ("ok", YEAR_MS + 2 * 86_400_000, "until"),
        ] {
            let error = world.accept(id, reason, for_ms).await.unwrap_err();
            assert!(matches!(error, Error::Invalid { field: Some(of), .. } if of == field), "{error:?}");
        }
        assert!(world.accept(id, &"x".repeat(1_001), 1_000).await.is_err());
        let accepted = world.accept(id, "behind the proxy", 60_000).await.unwrap();
        assert_eq!(
            (accepted.status, accepted.accepted_reason.as_deref()),
            (FindingStatus::Accepted, Some("behind the proxy"))
        );
        assert_eq!(accepted.accepted_by.as_deref(), Some("system:test"));
        assert_eq!(world.accept(id, "again", 60_000).await.unwrap_err().code(), "conflict");
        world.clock.advance(Duration::from_millis(59_999));
        assert_eq!(world.evaluate(&[B1], &[B1], 50).await, FindingCounts::default());
        world.clock.advance(Duration::from_millis(1));
        assert_eq!(world.evaluate(&[B1], &[B1], 50).await, FindingCounts { reopened: 1, ..FindingCounts::default() });
        let row = world.finding(id).await;
        assert_eq!((row.status, row.accepted_by, row.accepted_until), (FindingStatus::Open, None, None));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_move_a_finding_between_states_as_the_states_allow() {
    each_engine(async |world| {
        world.nodes(world.a, "s", &[B1]).await;
        let id = world.findings(world.a, &[("r1", B1, 50)]).await[0];
        let reopen = || async { world.write::<ops::FindingReopen>(world.a).await.finding_reopen(id).await };
        let resolve = || async { world.write::<ops::FindingResolve>(world.a).await.finding_resolve(id).await };
        assert_eq!(reopen().await.unwrap_err().code(), "conflict");
        world.accept(id, "known", 60_000).await.unwrap();
        assert_eq!(reopen().await.unwrap().status, FindingStatus::Open);
        world.accept(id, "known", 60_000).await.unwrap();
        let resolved = resolve().await.unwrap();
        assert_eq!(
            (resolved.status, resolved.resolution.as_deref(), resolved.accepted_by),
            (FindingStatus::Resolved, Some("manual"), None)
        );
        assert_eq!(resolve().await.unwrap_err().code(), "conflict");
        assert_eq!(world.accept(id, "known", 60_000).await.unwrap_err().code(), "conflict");
        // It still fails: the next evaluation says so.
        assert_eq!(world.evaluate(&[B1], &[B1], 50).await, FindingCounts { reopened: 1, ..FindingCounts::default() });
        let told: Vec<_> = world
            .audit(world.a)
            .await
            .into_iter()
            .filter(|(action, ..)| action.starts_with("finding_"))
            .map(|(action, _, detail)| format!("{action} {} {}", detail["before"], detail["after"]))
            .collect();
        assert_eq!(
            told,
            [
                r#"finding_accept "open" "accepted""#,
                r#"finding_reopen "accepted" "open""#,
                r#"finding_accept "open" "accepted""#,
                r#"finding_resolve "accepted" "resolved""#
            ]
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_is_by_risk_filtered_and_cut_into_pages() {
    each_engine(async |world| {
        world.nodes(world.a, "s", &[B1, B2, "aws:r:aws.iam.user:50%_off"]).await;
        let of =
            [("r1", B1, 10), ("r1", B2, 90), ("r2", B1, 50), ("r2", B2, 50), ("r3", "aws:r:aws.iam.user:50%_off", 70)];
        world.findings(world.a, &of).await;
        let all = world.list(world.a, FindingFilter::default()).await;
        let risks: Vec<_> = all.iter().map(|row| row.risk).collect();
        assert_eq!(risks, [90, 70, 50, 50, 10]);
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = world
                .read::<ops::FindingList>(world.a)
                .await
                .finding_list(&FindingFilter::default(), after, 2)
                .await
                .unwrap();
            paged.extend(page.items.iter().map(|row| row.id));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(paged, all.iter().map(|row| row.id).collect::<Vec<_>>());
        let none = FindingFilter::default;
        let text = |text: &str| FindingFilter { text: Some(text.to_owned()), ..none() };
        for (filter, expected) in [
            (FindingFilter { severity: Some(Severity::High), ..none() }, 2),
            (FindingFilter { rule: Some("r2".to_owned()), ..none() }, 2),
            (FindingFilter { node: Some(B1.parse().unwrap()), ..none() }, 2),
            (FindingFilter { node_type: Some("aws.iam.user".to_owned()), ..none() }, 1),
            (FindingFilter { status: Some(FindingStatus::Resolved), ..none() }, 0),
            (text("name_b1"), 2),
            (text("FAILS AT 9"), 1),
            (text("%"), 1),
            (text("0%_o"), 1),
            (text("\\"), 0),
            (text("' OR 1=1 --"), 0),
        ] {
            assert_eq!(world.list(world.a, filter.clone()).await.len(), expected, "{filter:?}");
        }
        let summary = world.read::<ops::FindingList>(world.a).await.finding_summary().await.unwrap();
        assert_eq!(summary.counts, [(FindingStatus::Open, Severity::Low, 3), (FindingStatus::Open, Severity::High, 2)]);
        assert_eq!((summary.in_status(FindingStatus::Open), summary.in_status(FindingStatus::Accepted)), (5, 0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_findings_are_applied_together() {
    each_engine(async |world| {
        let ids: Vec<String> = (0..1_000).map(|at| format!("aws:r:aws.s3.bucket:b{at:04}")).collect();
        let nodes: Vec<&str> = ids.iter().map(String::as_str).collect();
        world.nodes(world.a, "s", &nodes).await;
        assert_eq!(world.evaluate(&nodes, &nodes, 50).await.opened, 1_000);
        assert_eq!(world.evaluate(&nodes, &nodes, 51).await.updated, 1_000);
        assert_eq!(world.evaluate(&nodes[..1], &nodes, 51).await.resolved, 999);
        assert_eq!(world.evaluate(&nodes, &nodes, 51).await.reopened, 999);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn control_results_take_the_place_of_the_earlier_ones_and_an_older_evaluation_is_refused() {
    each_engine(async |world| {
        let put = |results: Vec<ControlOutcome>, ago_ms: i64| async move {
            let at = world.clock.now().plus_millis(-ago_ms);
            let mut unit = world.write::<ops::EvaluationRun>(world.a).await;
            let results: Vec<_> = results.into_iter().map(|outcome| (outcome, None)).collect();
            unit.control_results_put(at, &results).await.unwrap();
            let row = EvaluationRow { at, ruleset: RULESET, rules: 1, nodes: 2, passed: 1, failed: 1, errors: 0 };
            unit.evaluation_finish(&row, FindingCounts::default()).await
        };
        let outcome = |framework: &str, control: &str, result| ControlOutcome {
            framework: framework.to_owned(),
            control: control.to_owned(),
            result,
            rules: vec![],
            passed: 3,
            failed: 2,
            errors: 1,
        };
        put(vec![outcome("cis", "1.1", ControlResult::Fail), outcome("nist", "AC-2", ControlResult::Partial)], 0)
            .await
            .unwrap();
        put(vec![outcome("cis", "1.1", ControlResult::Pass), outcome("cis", "1.2", ControlResult::NotAssessed)], 0)
            .await
            .unwrap();
        assert_eq!(put(vec![outcome("cis", "1.1", ControlResult::Fail)], 1).await.unwrap_err().code(), "conflict");
        let list = |filter, after, limit| async move {
            world.read::<ops::ControlList>(world.a).await.control_list(&filter, after, limit).await.unwrap()
        };
        let page = list(ControlFilter::default(), None, 1).await;
        assert_eq!(
            (page.items[0].control.as_str(), page.items[0].result.as_str(), page.items[0].errors),
            ("1.1", "pass", 1)
        );
        let rest = list(ControlFilter::default(), page.next, 5).await;
        assert_eq!((rest.items.len(), rest.items[0].control.as_str(), rest.next), (1, "1.2", None));
        let filter = ControlFilter { framework: Some("nist".to_owned()), result: None };
        assert!(list(filter, None, 5).await.items.is_empty());
        let last = world.read::<ops::ControlList>(world.a).await.evaluation_last().await.unwrap().unwrap();
        assert_eq!((last.at, last.ruleset), (world.clock.now(), RULESET));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_tenant_sees_and_touches_no_finding() {
    each_engine(async |world| {
        world.nodes(world.a, "s", &[B1]).await;
        world.nodes(world.b, "s", &[B1]).await;
        let id = world.findings(world.a, &[("r1", B1, 50)]).await[0];
        assert!(world.list(world.b, FindingFilter::default()).await.is_empty());
        assert_eq!(world.read::<ops::FindingList>(world.b).await.finding_summary().await.unwrap().counts, []);
        assert!(world.write::<ops::EvaluationRun>(world.b).await.finding_current().await.unwrap().is_empty());
        let until = world.clock.now().plus_millis(1_000);
        let refused = [
            world.read::<ops::FindingList>(world.b).await.finding_show(id).await.map(drop),
            world.write::<ops::FindingAccept>(world.b).await.finding_accept(id, "mine", until).await.map(drop),
            world.write::<ops::FindingReopen>(world.b).await.finding_reopen(id).await.map(drop),
            world.write::<ops::FindingResolve>(world.b).await.finding_resolve(id).await.map(drop),
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().code(), "not_found");
        }
        // The same node in both tenants: resolving one tenant's finding leaves the other's alone.
        let change = FindingChange::Resolve {
            rule_id: "r1".to_owned(),
            node_id: B1.to_owned(),
            resolution: compliance::Resolution::Fixed,
        };
        assert_eq!(world.apply(world.b, &[change]).await.resolved, 0);
        assert_eq!(world.finding(id).await.status, FindingStatus::Open);
    })
    .await;
}
