//! What changed since a moment, and what of it somebody has seen.

use std::time::Duration;

use access::{Permit, TenantOperation, ops};
use domain::{
    Clock as _, Coverage, FindingStatus, FleetKind, Page, Properties, ScopeId, Severity, TenantId, Timestamp,
};
use serde_json::json;
use store::{AccessNumbers, NodeChanges, Read, changes_since};

use crate::pair::{Pair, each_engine};

const B1: &str = "aws:r:aws.s3.bucket:b1";
const B2: &str = "aws:r:aws.s3.bucket:b2";
const U1: &str = "aws:r:aws.iam.user:u1";
const MINUTE: Duration = Duration::from_mins(1);

impl Pair<'_> {
    async fn changes(&self, tenant: TenantId) -> Read<ops::ChangesShow> {
        self.read::<ops::ChangesShow>(tenant).await
    }

    fn part<O: TenantOperation>(&self, tenant: TenantId) -> Permit<O> {
        self.permit(tenant)
    }

    async fn findings_since(&self, since: Timestamp) -> (Vec<(FindingStatus, Severity, u64)>, Vec<String>) {
        let changes = self.changes(self.a).await.finding_changes(&self.part(self.a), since).await.unwrap();
        assert!(changes.is_all);
        (changes.counts, changes.newest.into_iter().map(|row| row.node_id).collect())
    }

    async fn nodes_since(&self, tenant: TenantId, since: Timestamp) -> Vec<NodeChanges> {
        let part = self.part(tenant);
        let (changes, is_all) = self.changes(tenant).await.node_changes(&part, since).await.unwrap();
        assert!(is_all);
        changes
    }

    /// Sees exactly these nodes in one scope, each with a property that says this.
    async fn seen(&self, ids: &[&str], says: &str) {
        let mut ingest = self.store.ingest(self.permit(self.a), "aws".parse().unwrap()).await.unwrap();
        let scope: ScopeId = "s".parse().unwrap();
        let nodes = ids
            .iter()
            .map(|id| domain::NodeObservation {
                id: id.parse().unwrap(),
                name: "n".to_owned(),
                properties: Properties::from_iter([("says".to_owned(), json!(says))]),
                tags: domain::Tags::default(),
            })
            .collect();
        ingest.page(&Page { scope: scope.clone(), nodes, edges: vec![] }).await.unwrap();
        let collection = domain::CollectionId::generate(&*self.clock, &*self.rng);
        ingest.finish(&scope, &Coverage::Complete, collection).await.unwrap();
    }
}

fn node_changes(node_type: &str, first_seen: u64, changed: u64, closed: u64) -> NodeChanges {
    NodeChanges { node_type: node_type.to_owned(), first_seen, changed, closed }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_finding_is_told_where_it_stands_when_its_status_changed_and_not_when_only_its_facts_did() {
    each_engine(async |world| {
        use FindingStatus::{Accepted, Open, Resolved};
        world.nodes(world.a, "s", &[B1, B2, U1]).await;
        let start = world.clock.now();
        assert_eq!(world.findings_since(start).await, (vec![], vec![]));
        world.clock.advance(MINUTE);
        let ids = world.findings(world.a, &[("r1", B1, 50), ("r1", B2, 90), ("r2", U1, 50)]).await;
        let (counts, newest) = world.findings_since(start).await;
        assert_eq!(counts, [(Open, Severity::Low, 2), (Open, Severity::High, 1)]);
        assert_eq!(newest.len(), 3);

        // Other facts are no other status.
        let opened = world.clock.now();
        world.clock.advance(MINUTE);
        assert_eq!(world.evaluate(&[B1, B2], &[B1, B2, U1], 51).await.updated, 2);
        let resolved = world.findings_since(opened).await;
        assert_eq!(resolved, (vec![(Resolved, Severity::Low, 1)], vec![]), "r2 is gone with its rule");

        world.clock.advance(MINUTE);
        let until = world.clock.now().plus_millis(1_000_000);
        world.write::<ops::FindingAccept>(world.a).await.finding_accept(ids[0], "it is so", until).await.unwrap();
        world.write::<ops::FindingReopen>(world.a).await.finding_reopen(ids[2]).await.unwrap();
        let (counts, newest) = world.findings_since(opened).await;
        assert_eq!(counts, [(Open, Severity::Low, 1), (Accepted, Severity::Low, 1)]);
        assert_eq!(newest, [U1]);
        let now = world.clock.now();
        assert_eq!(world.findings_since(now).await, (vec![], vec![]), "nothing is newer than now");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_new_or_changed_or_closed_since_then() {
    each_engine(async |world| {
        let start = world.clock.now();
        world.clock.advance(MINUTE);
        world.seen(&[B1, U1], "one").await;
        let first = [node_changes("aws.iam.user", 1, 0, 0), node_changes("aws.s3.bucket", 1, 0, 0)];
        assert_eq!(world.nodes_since(world.a, start).await, first);
        assert_eq!(world.nodes_since(world.a, world.clock.now()).await, []);
        assert_eq!(world.nodes_since(world.b, start).await, [], "another tenant's are its own");

        let then = world.clock.now();
        world.clock.advance(MINUTE);
        world.seen(&[B1, U1], "one").await;
        assert_eq!(world.nodes_since(world.a, then).await, [], "the same again is no change");
        world.clock.advance(MINUTE);
        world.seen(&[B1, B2], "two").await;
        let changed = [node_changes("aws.iam.user", 0, 0, 1), node_changes("aws.s3.bucket", 1, 1, 0)];
        assert_eq!(world.nodes_since(world.a, then).await, changed);
        // Since the beginning the user came and went.
        let all = [node_changes("aws.iam.user", 1, 0, 1), node_changes("aws.s3.bucket", 2, 0, 0)];
        assert_eq!(world.nodes_since(world.a, start).await, all);
        let gone = world.clock.now();
        world.clock.advance(MINUTE);
        world.seen(&[B1, B2, U1], "two").await;
        assert_eq!(world.nodes_since(world.a, gone).await, [node_changes("aws.iam.user", 0, 1, 0)], "it is back");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_part_is_read_under_a_permit_of_its_own_in_the_same_tenant() {
    each_engine(async |world| {
        let now = world.clock.now();
        let mut read = world.changes(world.a).await;
        let refused = [
            read.finding_changes(&world.part(world.b), now).await.map(drop),
            read.node_changes(&world.part(world.b), now).await.map(drop),
            read.unit_changes(&world.part(world.b), now, |_| 60_000).await.map(drop),
            read.access_changes((&world.part(world.b), &world.part(world.a)), now).await.map(drop),
            read.access_changes((&world.part(world.a), &world.part(world.b)), now).await.map(drop),
            read.job_changes(&world.part(world.b), now).await.map(drop),
        ];
        for result in refused {
            assert_eq!(result.unwrap_err().code(), "not_found");
        }
        let none = read.access_changes((&world.part(world.a), &world.part(world.a)), now).await.unwrap();
        assert_eq!(none, AccessNumbers { is_all: true, ..AccessNumbers::default() });
        assert_eq!(read.unit_changes(&world.part(world.a), now, |_: FleetKind| 60_000).await.unwrap(), []);
        assert_eq!(read.job_changes(&world.part(world.a), now).await.unwrap(), (0, vec![]));
        // A part of the server is no person, and has seen nothing.
        assert_eq!(read.changes_seen().await.unwrap(), None);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_asks_about_the_future_or_more_than_a_year_ago() {
    each_engine(async |world| {
        let now = world.clock.now();
        let day = 86_400_000;
        for (ago, allowed) in [(0, true), (366 * day, true), (-1, false), (366 * day + 1, false)] {
            assert_eq!(changes_since(now, now.plus_millis(-ago)).is_ok(), allowed, "{ago}");
        }
    })
    .await;
}
