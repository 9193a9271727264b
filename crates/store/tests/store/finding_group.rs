//! Findings in groups.

use access::ops;
use domain::{FindingStatus, Severity, TenantId};
use store::{FindingFilter, FindingGroup, FindingGroupKey, GroupBy};

use crate::pair::{Pair, each_engine};

const B1: &str = "aws:r:aws.s3.bucket:b1";
const B2: &str = "aws:r:aws.s3.bucket:b2";
const USER: &str = "aws:r:aws.iam.user:u";

impl Pair<'_> {
    async fn finding_groups(&self, tenant: TenantId, by: GroupBy, filter: &FindingFilter) -> Vec<FindingGroup> {
        self.read::<ops::FindingList>(tenant).await.finding_groups(by, filter, None, 100).await.unwrap().items
    }
}

/// Eight findings: `r1` on all three nodes, `r2` on the buckets, `r3` on the user, and one of each of two more rules; two accepted, one resolved.
async fn filled(pair: &Pair<'_>) {
    pair.nodes(pair.a, "s", &[B1, B2, USER]).await;
    let of = [
        ("r1", B1, 90),
        ("r1", B2, 90),
        ("r1", USER, 70),
        ("r2", B1, 20),
        ("r2", B2, 20),
        ("r3", USER, 90),
        ("r4", B1, 50),
        ("r5", B1, 50),
    ];
    let ids = pair.findings(pair.a, &of).await;
    let until = domain::Clock::now(&*pair.clock).plus_millis(60_000);
    for id in [ids[1], ids[4]] {
        pair.write::<ops::FindingAccept>(pair.a).await.finding_accept(id, "known", until).await.unwrap();
    }
    pair.write::<ops::FindingResolve>(pair.a).await.finding_resolve(ids[7]).await.unwrap();
}

/// What rules would say that judge users only (`r3`), buckets only, and both (`r1`).
fn only_users() -> store::TypeRules {
    let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
    store::TypeRules { only: ids(&["r3"]), never: ids(&["r2", "r4", "r5"]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_type_of_node_is_told_by_its_rules_or_by_the_node() {
    each_engine(async |world| {
        filled(world).await;
        let by_node = FindingFilter { node_type: Some("aws.iam.user".to_owned()), ..FindingFilter::default() };
        let by_rules = FindingFilter { type_rules: only_users(), ..by_node.clone() };
        let expected = [("r3".to_owned(), 90, 1), ("r1".to_owned(), 70, 1)];
        for filter in [by_node, by_rules] {
            assert_eq!(short(&world.finding_groups(world.a, GroupBy::Rule, &filter).await), expected);
        }
    })
    .await;
}

fn short(groups: &[FindingGroup]) -> Vec<(String, i64, u64)> {
    let name = |group: &FindingGroup| group.node.as_ref().map_or(group.key.clone(), |node| node.id.clone());
    groups.iter().map(|group| (name(group), group.risk, group.count)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_stand_by_risk_and_number_and_say_what_is_in_them() {
    each_engine(async |world| {
        filled(world).await;
        let all = FindingFilter::default();
        let rules = world.finding_groups(world.a, GroupBy::Rule, &all).await;
        let expected = [("r1", 90, 3), ("r3", 90, 1), ("r4", 50, 1), ("r5", 50, 1), ("r2", 20, 2)];
        assert_eq!(short(&rules), expected.map(|(key, risk, count)| (key.to_owned(), risk, count)));
        let open = (FindingStatus::Open, Severity::High, 2);
        assert_eq!(rules[0].counts, [(FindingStatus::Accepted, Severity::High, 1), open]);
        assert_eq!(rules[3].counts, [(FindingStatus::Resolved, Severity::Low, 1)]);

        let nodes = world.finding_groups(world.a, GroupBy::Node, &all).await;
        let expected = [(B1, 90, 4), (B2, 90, 2), (USER, 90, 2)];
        let mut found = short(&nodes);
        // The two that are alike stand by the key, which is a hash of the id.
        found[1..].sort();
        let mut wanted = expected.map(|(key, risk, count)| (key.to_owned(), risk, count));
        wanted[1..].sort();
        assert_eq!(found, wanted);
        let node = nodes[0].node.as_ref().unwrap();
        assert_eq!((node.name.as_str(), node.node_type.as_str()), ("Name_b1", "aws.s3.bucket"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_of_what_the_list_shows_by_the_same_filter() {
    each_engine(async |world| {
        filled(world).await;
        let none = FindingFilter::default;
        let rules = |rules: &[&str]| Some(rules.iter().map(|rule| (*rule).to_owned()).collect());
        for filter in [
            none(),
            FindingFilter { status: Some(FindingStatus::Accepted), ..none() },
            FindingFilter { severity: Some(Severity::Low), ..none() },
            FindingFilter { rule: Some("r1".to_owned()), ..none() },
            FindingFilter { rules: rules(&["r1", "r3"]), ..none() },
            FindingFilter { rules: rules(&[]), ..none() },
            FindingFilter { node: Some(B1.parse().unwrap()), ..none() },
            FindingFilter { node_type: Some("aws.iam.user".to_owned()), ..none() },
            FindingFilter { node_type: Some("aws.iam.user".to_owned()), type_rules: only_users(), ..none() },
            FindingFilter { text: Some("NAME_B2".to_owned()), ..none() },
            FindingFilter { text: Some("' OR 1=1 --".to_owned()), ..none() },
            FindingFilter { rule: Some("r1".to_owned()), status: Some(FindingStatus::Open), ..none() },
        ] {
            let listed =
                world.read::<ops::FindingList>(world.a).await.finding_list(&filter, None, 500).await.unwrap().items;
            for by in [GroupBy::Rule, GroupBy::Node] {
                let groups = world.finding_groups(world.a, by, &filter).await;
                assert_eq!(groups.iter().map(|group| group.count).sum::<u64>(), listed.len() as u64, "{filter:?}");
                for group in groups {
                    let key = group.node.map_or(group.key, |node| node.id);
                    let of = |row: &&store::FindingRow| {
                        if by == GroupBy::Rule { row.rule_id == key } else { row.node_id == key }
                    };
                    assert_eq!(listed.iter().filter(of).count() as u64, group.count, "{filter:?} {key}");
                    assert_eq!(group.counts.iter().map(|(_, _, count)| count).sum::<u64>(), group.count);
                    assert_eq!(listed.iter().filter(of).map(|row| row.risk).max(), Some(group.risk));
                }
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_of_groups_show_each_once_and_another_tenant_sees_none() {
    each_engine(async |world| {
        filled(world).await;
        let all = FindingFilter::default();
        for by in [GroupBy::Rule, GroupBy::Node] {
            let whole = world.finding_groups(world.a, by, &all).await;
            let (mut paged, mut after): (Vec<FindingGroup>, Option<FindingGroupKey>) = (Vec::new(), None);
            loop {
                let mut read = world.read::<ops::FindingList>(world.a).await;
                let page = read.finding_groups(by, &all, after.as_ref(), 1).await.unwrap();
                assert!(page.items.len() <= 1);
                paged.extend(page.items);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(paged, whole);
            assert_eq!(world.finding_groups(world.b, by, &all).await, []);
        }
    })
    .await;
}
