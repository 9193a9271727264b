//! One change to many findings.

use std::time::Duration;

use access::ops;
use domain::{Clock as _, Digest, Error, FindingId, FindingStatus, Severity};
use store::{FINDINGS_NAMED, FindingChanging, FindingFilter, FindingRow, FindingSelection, FindingVerb, Selected};

use crate::pair::{Pair, each_engine};

const B1: &str = "aws:r:aws.s3.bucket:b1";
const B2: &str = "aws:r:aws.s3.bucket:b2";
const OF: [(&str, &str, u8); 4] = [("r1", B1, 90), ("r1", B2, 90), ("r2", B1, 20), ("r2", B2, 20)];

fn of_rule(rule: &str) -> FindingFilter {
    FindingFilter { rule: Some(rule.to_owned()), ..FindingFilter::default() }
}

impl Pair<'_> {
    async fn selected(&self, filter: &FindingFilter, verb: FindingVerb) -> FindingSelection {
        self.read::<ops::FindingList>(self.a).await.finding_selection(filter, verb).await.unwrap()
    }

    async fn change_findings(&self, selected: Selected<'_>, how: &FindingChanging) -> Result<u64, Error> {
        self.write::<ops::FindingChange>(self.a).await.finding_change(selected, how).await
    }

    async fn change_matching(&self, filter: &FindingFilter, seen: Digest, how: &FindingChanging) -> Result<u64, Error> {
        self.change_findings(Selected::Matching { filter, seen }, how).await
    }

    fn accepting(&self) -> FindingChanging {
        FindingChanging::Accept { reason: " known ".to_owned(), until: self.clock.now().plus_millis(60_000) }
    }

    async fn findings_at(&self, ids: &[FindingId]) -> Vec<FindingRow> {
        let mut rows = Vec::new();
        for id in ids {
            rows.push(self.read::<ops::FindingList>(self.a).await.finding_show(*id).await.unwrap());
        }
        rows
    }

    async fn statuses(&self, ids: &[FindingId]) -> Vec<FindingStatus> {
        self.findings_at(ids).await.iter().map(|row| row.status).collect()
    }

    /// What was recorded of findings, oldest first: verb, finding, state before and after.
    async fn findings_told(&self) -> Vec<String> {
        let filter = store::AuditFilter { limit: 500, ..store::AuditFilter::default() };
        let page = self.read::<ops::AuditList>(self.a).await.audit_list(&filter).await.unwrap();
        let records = page.items.into_iter().rev().filter(|record| record.action.starts_with("finding_"));
        let one = |record: store::AuditRecord| {
            format!("{} {} {} {}", record.action, record.object_id, record.detail["before"], record.detail["after"])
        };
        records.map(one).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn findings_that_are_named_change_together_and_each_has_a_record_of_its_own() {
    each_engine(async |world| {
        world.nodes(world.a, "s", &[B1, B2]).await;
        let ids = world.findings(world.a, &OF).await;
        // Named twice is named once.
        let named = [ids[0], ids[2], ids[0]];
        assert_eq!(world.change_findings(Selected::Named(&named), &world.accepting()).await.unwrap(), 2);
        let rows = world.findings_at(&ids).await;
        let open = FindingStatus::Open;
        assert_eq!(
            rows.iter().map(|row| row.status).collect::<Vec<_>>(),
            [FindingStatus::Accepted, open, FindingStatus::Accepted, open]
        );
        assert_eq!(
            (rows[0].accepted_by.as_deref(), rows[0].accepted_reason.as_deref(), rows[0].accepted_until),
            (Some("system:test"), Some("known"), Some(world.clock.now().plus_millis(60_000)))
        );
        assert_eq!(
            world.change_findings(Selected::Named(&[ids[0], ids[1]]), &FindingChanging::Resolve).await.unwrap(),
            2
        );
        let resolved = &world.findings_at(&ids).await[0];
        assert_eq!((resolved.resolution.as_deref(), resolved.accepted_by.as_deref()), (Some("manual"), None));
        assert_eq!(
            world.change_findings(Selected::Named(&[ids[1], ids[2]]), &FindingChanging::Reopen).await.unwrap(),
            2
        );
        let reopened = &world.findings_at(&ids).await[2];
        assert_eq!((reopened.status, reopened.accepted_until, reopened.resolved_at), (open, None, None));

        let mut expected = Vec::new();
        for (verb, of, change) in [
            ("finding_accept", [0, 2], [r#""open" "accepted""#; 2]),
            ("finding_resolve", [0, 1], [r#""accepted" "resolved""#, r#""open" "resolved""#]),
            ("finding_reopen", [1, 2], [r#""resolved" "open""#, r#""accepted" "open""#]),
        ] {
            let mut told: Vec<_> = of.iter().zip(change).map(|(at, change)| (ids[*at], change)).collect();
            // In the order of their ids.
            told.sort_by_key(|(id, _)| id.as_uuid());
            expected.extend(told.into_iter().map(|(id, change)| format!("{verb} {id} {change}")));
        }
        assert_eq!(world.findings_told().await, expected);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_cannot_be_changed_so_keeps_all_others_from_it_and_nothing_is_recorded() {
    each_engine(async |world| {
        world.nodes(world.a, "s", &[B1, B2]).await;
        world.nodes(world.b, "s", &[B1]).await;
        let ids = world.findings(world.a, &OF).await;
        let theirs = world.findings(world.b, &[("r1", B1, 90)]).await[0];
        world.change_findings(Selected::Named(&ids[..1]), &FindingChanging::Resolve).await.unwrap();
        let before = (world.statuses(&ids).await, world.findings_told().await);
        let many = vec![ids[0]; 2];
        let too_many: Vec<FindingId> =
            (0..=FINDINGS_NAMED).map(|_| FindingId::generate(&*world.clock, &*world.rng)).collect();
        for (named, code) in [
            (many, "conflict"),
            (vec![ids[1], ids[0]], "conflict"),
            (vec![ids[1], theirs], "not_found"),
            (vec![ids[1], too_many[0]], "not_found"),
            (vec![], "invalid"),
            (too_many, "invalid"),
        ] {
            let error = world.change_findings(Selected::Named(&named), &world.accepting()).await.unwrap_err();
            assert_eq!(error.code(), code, "{error:?}");
        }
        let until = world.clock.now();
        let late = FindingChanging::Accept { reason: "known".to_owned(), until };
        assert_eq!(world.change_findings(Selected::Named(&ids[1..2]), &late).await.unwrap_err().code(), "invalid");
        let silent = FindingChanging::Accept { reason: " ".to_owned(), until: until.plus_millis(1_000) };
        assert_eq!(world.change_findings(Selected::Named(&ids[1..2]), &silent).await.unwrap_err().code(), "invalid");
        assert_eq!((world.statuses(&ids).await, world.findings_told().await), before);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_matches_is_changed_as_it_was_seen_and_what_cannot_be_is_left() {
    each_engine(async |world| {
        world.nodes(world.a, "s", &[B1, B2]).await;
        let ids = world.findings(world.a, &OF).await;
        world.change_findings(Selected::Named(&ids[..1]), &FindingChanging::Resolve).await.unwrap();
        let all = FindingFilter::default();
        let seen = world.selected(&all, FindingVerb::Accept).await;
        let open = FindingStatus::Open;
        assert_eq!(seen.counts, [(open, Severity::Low, 2), (open, Severity::High, 1)]);
        assert_eq!((seen.count, seen.left), (3, 1));
        assert_eq!(world.change_matching(&all, seen.seen.unwrap(), &world.accepting()).await.unwrap(), 3);
        let accepted = FindingStatus::Accepted;
        assert_eq!(world.statuses(&ids).await, [FindingStatus::Resolved, accepted, accepted, accepted]);
        // Narrower than before, and by another verb.
        let r2 = of_rule("r2");
        let seen = world.selected(&r2, FindingVerb::Reopen).await;
        assert_eq!((seen.count, seen.left), (2, 0));
        assert_eq!(world.change_matching(&r2, seen.seen.unwrap(), &FindingChanging::Reopen).await.unwrap(), 2);
        assert_eq!(world.statuses(&ids).await, [FindingStatus::Resolved, accepted, open, open]);
        let none = world.selected(&of_rule("r3"), FindingVerb::Resolve).await;
        assert_eq!((none.count, none.counts.len()), (0, 0));
        let error =
            world.change_matching(&of_rule("r3"), none.seen.unwrap(), &FindingChanging::Resolve).await.unwrap_err();
        assert_eq!(error.code(), "conflict");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_changed_after_somebody_looked_is_not_changed_with_it() {
    each_engine(async |world| {
        world.nodes(world.a, "s", &[B1, B2]).await;
        let ids = world.findings(world.a, &OF[..3]).await;
        let r1 = of_rule("r1");
        let resolve = FindingChanging::Resolve;
        let seen = world.selected(&r1, FindingVerb::Resolve).await.seen.unwrap();
        // The digest of another verb, of another filter, of nothing.
        let accept = world.selected(&r1, FindingVerb::Accept).await.seen.unwrap();
        let others = world.selected(&FindingFilter::default(), FindingVerb::Resolve).await.seen.unwrap();
        for wrong in [accept, others, Digest([0; 32])] {
            assert_eq!(world.change_matching(&r1, wrong, &resolve).await.unwrap_err().code(), "conflict");
        }
        // As many as before, but one was accepted meanwhile: in the same millisecond, and later.
        world.change_findings(Selected::Named(&ids[..1]), &world.accepting()).await.unwrap();
        assert_eq!(world.change_matching(&r1, seen, &resolve).await.unwrap_err().code(), "conflict");
        let again = world.selected(&r1, FindingVerb::Resolve).await;
        assert_eq!(again.count, 2);
        world.clock.advance(Duration::from_millis(5));
        // What it says changed.
        let facts = compliance::Facts {
            severity: Severity::Critical,
            risk_score: 99,
            message: "worse".to_owned(),
            values: serde_json::json!({}),
        };
        let change = compliance::FindingChange::Update { rule_id: "r1".to_owned(), node_id: B2.to_owned(), facts };
        world.apply(world.a, &[change]).await;
        assert_eq!(world.change_matching(&r1, again.seen.unwrap(), &resolve).await.unwrap_err().code(), "conflict");
        // One more.
        let seen = world.selected(&r1, FindingVerb::Resolve).await.seen.unwrap();
        world.nodes(world.a, "s", &[B1, B2, "aws:r:aws.s3.bucket:b3"]).await;
        let change = compliance::FindingChange::Open {
            rule_id: "r1".to_owned(),
            node_id: "aws:r:aws.s3.bucket:b3".to_owned(),
            facts: compliance::Facts {
                severity: Severity::Low,
                risk_score: 1,
                message: "new".to_owned(),
                values: serde_json::json!({}),
            },
        };
        world.apply(world.a, &[change]).await;
        let error = world.change_matching(&r1, seen, &resolve).await.unwrap_err();
        assert!(error.to_string().contains("3 match now"), "{error}");
        assert_eq!(world.statuses(&ids).await, [FindingStatus::Accepted, FindingStatus::Open, FindingStatus::Open]);
        assert_eq!(world.findings_told().await.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_findings_change_together_and_the_log_holds_each() {
    each_engine(async |world| {
        let nodes: Vec<String> = (0..700).map(|at| format!("aws:r:aws.s3.bucket:b{at:04}")).collect();
        let nodes: Vec<&str> = nodes.iter().map(String::as_str).collect();
        world.nodes(world.a, "s", &nodes).await;
        assert_eq!(world.evaluate(&nodes, &nodes, 50).await.opened, 700);
        let all = FindingFilter::default();
        let seen = world.selected(&all, FindingVerb::Resolve).await;
        assert_eq!(world.change_matching(&all, seen.seen.unwrap(), &FindingChanging::Resolve).await.unwrap(), 700);
        let resolved = world.selected(&all, FindingVerb::Reopen).await;
        assert_eq!(resolved.counts, [(FindingStatus::Resolved, Severity::Low, 700)]);
        // They still fail: the next evaluation says so, as after a single one.
        assert_eq!(world.evaluate(&nodes, &nodes, 50).await.reopened, 700);
    })
    .await;
}
