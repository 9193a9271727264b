//! How frameworks stand, day by day.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use access::ops;
use compliance::{ControlOutcome, ControlResult};
use domain::{Clock as _, TenantId};
use store::{EvaluationRow, FindingCounts, PostureRow, PostureStanding};

use crate::evidence::RULESET;
use crate::pair::{Pair, each_engine};

const B1: &str = "aws:r:aws.s3.bucket:b1";
const B2: &str = "aws:r:aws.s3.bucket:b2";
const DAY: Duration = Duration::from_hours(24);

fn outcome(framework: &str, control: &str, result: ControlResult, rules: &[&str]) -> ControlOutcome {
    ControlOutcome {
        framework: framework.to_owned(),
        control: control.to_owned(),
        result,
        rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
        passed: 0,
        failed: 0,
        errors: 0,
    }
}

impl Pair<'_> {
    async fn judged(&self, tenant: TenantId, outcomes: Vec<ControlOutcome>) {
        let at = self.clock.now();
        let results: Vec<_> = outcomes.into_iter().map(|outcome| (outcome, None)).collect();
        let mut unit = self.write::<ops::EvaluationRun>(tenant).await;
        unit.control_results_put(at, &results).await.unwrap();
        let row = EvaluationRow { at, ruleset: RULESET, rules: 1, nodes: 2, passed: 1, failed: 1, errors: 0 };
        unit.evaluation_finish(&row, FindingCounts::default()).await.unwrap();
    }

    async fn posture(&self, tenant: TenantId, days: u32) -> Vec<PostureRow> {
        let of = |rules: &[&str]| -> BTreeSet<String> { rules.iter().map(|rule| (*rule).to_owned()).collect() };
        let rules = BTreeMap::from([("cis".to_owned(), of(&["r1"])), ("nist".to_owned(), of(&["r1", "r2"]))]);
        self.read::<ops::ControlList>(tenant).await.posture_list(&rules, days).await.unwrap()
    }
}

/// Each day's number of the month, share and open findings.
fn days(row: &PostureRow) -> Vec<(String, Option<u64>, u64)> {
    let day = |at: domain::Timestamp| at.to_string()[8..10].to_owned();
    row.history.iter().map(|it| (day(it.day), it.standing.percent(), it.standing.open_findings)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_framework_has_a_row_for_each_day_on_which_its_numbers_changed_and_none_for_the_others() {
    each_engine(async |world| {
        use ControlResult::{Fail, NotAssessed, Partial, Pass};
        world.nodes(world.a, "s", &[B1, B2]).await;
        world.nodes(world.b, "s", &[B1]).await;
        assert_eq!(world.posture(world.a, 90).await, [], "nothing was judged yet");
        let start = world.clock.now();
        let first = [
            outcome("cis", "1.1", Fail, &["r1"]),
            outcome("nist", "AC-2", Pass, &["r2"]),
            outcome("nist", "AC-3", Fail, &["r1"]),
            outcome("nist", "AC-4", NotAssessed, &["r2"]),
        ];
        let found = world.findings(world.a, &[("r1", B1, 50), ("r2", B1, 50), ("r2", B2, 50), ("r9", B2, 50)]).await;
        world.judged(world.a, first.to_vec()).await;
        assert_eq!(world.count("posture_day").await, 2);
        let now = world.posture(world.a, 90).await;
        let [cis, nist] = &now[..] else { panic!("{now:?}") };
        assert_eq!((cis.framework.as_str(), nist.framework.as_str(), nist.evaluated_at), ("cis", "nist", start));
        assert_eq!(
            nist.now,
            PostureStanding { pass: 1, partial: 0, fail: 1, not_assessed: 1, open_findings: 3 },
            "r9 is in no framework"
        );
        assert_eq!((cis.now.open_findings, cis.now.percent(), cis.history.len()), (1, Some(0), 1));

        // The same outcome on the next day and the one after: no row, and the answer has the days all the same.
        for _ in 0..2 {
            world.clock.advance(DAY);
            world.judged(world.a, first.to_vec()).await;
        }
        assert_eq!(world.count("posture_day").await, 2);
        let nist = world.posture(world.a, 90).await.pop().unwrap();
        assert_eq!(nist.history.len(), 3);
        assert!(nist.history.iter().all(|day| day.standing == nist.now), "{:?}", nist.history);
        assert_eq!(nist.evaluated_at, world.clock.now());

        // Twice on one day: the last one counts. `cis` did not change.
        world.clock.advance(DAY);
        for (result, rows) in [(Partial, 3), (Pass, 3)] {
            let mut next = first.to_vec();
            next[2].result = result;
            world.judged(world.a, next).await;
            assert_eq!(world.count("posture_day").await, rows);
        }
        let nist = world.posture(world.a, 90).await.pop().unwrap();
        assert_eq!(
            days(&nist).iter().map(|(_, percent, open)| (percent.unwrap(), *open)).collect::<Vec<_>>(),
            [(50, 3), (50, 3), (50, 3), (100, 3)]
        );

        // What a person does to a finding shows at once, before anything is judged again.
        world.write::<ops::FindingResolve>(world.a).await.finding_resolve(found[1]).await.unwrap();
        let nist = world.posture(world.a, 90).await.pop().unwrap();
        assert_eq!(nist.history.last().map(|day| day.standing), Some(nist.now));
        assert_eq!((nist.now.open_findings, nist.history.len()), (2, 4));

        // Fewer days: what held before still holds.
        world.clock.advance(DAY * 10);
        let nist = world.posture(world.a, 3).await.pop().unwrap();
        assert_eq!(
            days(&nist).into_iter().map(|(_, percent, open)| (percent, open)).collect::<Vec<_>>(),
            [(Some(100), 3), (Some(100), 3), (Some(100), 2)]
        );
        assert_eq!(nist.history[2].day.millis_since(nist.history[0].day), 2 * 86_400_000);
        assert_eq!(nist.history[2].day.as_millis() % 86_400_000, 0);

        // A framework that is no longer judged is not shown; its past stays and is shown when it is back.
        world.judged(world.a, first[..1].to_vec()).await;
        assert_eq!(world.posture(world.a, 90).await.len(), 1);
        world.judged(world.a, first.to_vec()).await;
        assert_eq!(world.posture(world.a, 90).await[1].history.len(), 14);

        // Another tenant has numbers of its own.
        world.findings(world.b, &[("r1", B1, 50)]).await;
        world.judged(world.b, vec![outcome("cis", "1.1", Pass, &["r1"])]).await;
        let theirs = world.posture(world.b, 90).await;
        assert_eq!((theirs.len(), theirs[0].now.percent(), theirs[0].history.len()), (1, Some(100), 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evaluation_that_is_given_up_leaves_no_day() {
    each_engine(async |world| {
        let mut unit = world.write::<ops::EvaluationRun>(world.a).await;
        let results = [(outcome("cis", "1.1", ControlResult::Pass, &["r1"]), None)];
        unit.control_results_put(world.clock.now(), &results).await.unwrap();
        drop(unit);
        assert_eq!(world.count("posture_day").await, 0);
        assert_eq!(world.posture(world.a, 90).await, []);
    })
    .await;
}
