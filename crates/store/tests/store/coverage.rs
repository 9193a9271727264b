//! Who may close what, and what the ledger says of it.

use std::collections::{BTreeMap, BTreeSet};

use access::ops;
use domain::{CollectionId, Coverage, Page, Rng as _, ScopeId, SourceId, TenantId};
use serde_json::json;
use store::{Ingest, LedgerFilter, LedgerRow, NodeFilter, ScopeChanges};

use crate::world::{World, each_engine};

const SCOPE: &str = "host:m1:packages";

fn page(names: &BTreeSet<u8>) -> Page {
    let nodes: Vec<_> =
        names.iter().map(|n| json!({"id": format!("host:m1:host.package:{n}"), "name": format!("p{n}")})).collect();
    serde_json::from_value(json!({"scope": SCOPE, "nodes": nodes, "edges": []})).unwrap()
}

async fn begin(world: &World, tenant: TenantId, source: &str) -> Ingest {
    let source: SourceId = source.parse().unwrap();
    world.store.ingest(world.permit::<ops::GraphIngest>(tenant), source).await.unwrap()
}

async fn finish(world: &World, ingest: &mut Ingest, coverage: &Coverage) -> domain::Result<ScopeChanges> {
    let collection = CollectionId::generate(&*world.clock, &*world.rng);
    ingest.finish(&SCOPE.parse::<ScopeId>().unwrap(), coverage, collection).await
}

async fn open(world: &World, tenant: TenantId) -> BTreeSet<u8> {
    let mut read = world.store.read(world.permit::<ops::NodeList>(tenant)).await.unwrap();
    let nodes = read.node_list(&NodeFilter { limit: 500, ..NodeFilter::default() }).await.unwrap().items;
    nodes.iter().map(|node| node.id.resource().parse().unwrap()).collect()
}

async fn ledger(world: &World, tenant: TenantId, filter: LedgerFilter) -> Vec<LedgerRow> {
    let (mut rows, mut after) = (Vec::new(), None);
    loop {
        let mut read = world.store.read(world.permit::<ops::CoverageList>(tenant)).await.unwrap();
        // One at a time: the place between two pages is tested with it.
        let page = read.coverage_list(&filter, after, 1).await.unwrap();
        rows.extend(page.items);
        match page.next {
            Some(next) => after = Some(next),
            None => return rows,
        }
    }
}

fn partial() -> Coverage {
    Coverage::Partial { reason: "throttled".to_owned() }
}

#[tokio::test]
async fn whatever_two_sources_read_neither_closes_what_the_other_has_shown() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let random = |below: u8| {
            let mut byte = [0u8];
            world.rng.fill(&mut byte);
            byte[0] % below
        };
        // What each source stands by: all that it showed since, and of it what its last complete run did.
        let mut stands: BTreeMap<&str, BTreeSet<u8>> = BTreeMap::new();
        for _ in 0..60 {
            let source = ["host", "agent/agt_1"][usize::from(random(2))];
            let shown: BTreeSet<u8> = (0..6).filter(|_| random(2) == 0).collect();
            let coverage = match random(4) {
                0 => partial(),
                1 => Coverage::Denied { reason: "no".to_owned() },
                _ => Coverage::Complete,
            };
            let mut ingest = begin(world, tenant, source).await;
            ingest.page(&page(&shown)).await.unwrap();
            finish(world, &mut ingest, &coverage).await.unwrap();
            world.clock.advance(std::time::Duration::from_millis(5));
            let held = stands.entry(source).or_default();
            if coverage.may_close() {
                held.clear();
            }
            held.extend(shown);
            let all: BTreeSet<u8> = stands.values().flatten().copied().collect();
            assert_eq!(open(world, tenant).await, all);
        }
    })
    .await;
}

#[tokio::test]
async fn of_two_runs_in_one_scope_at_once_neither_closes_what_the_other_shows() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let (one, two) = (BTreeSet::from([1]), BTreeSet::from([1, 2]));
        let mut first = begin(world, tenant, "host").await;
        let mut second = begin(world, tenant, "host").await;
        first.page(&page(&one)).await.unwrap();
        second.page(&page(&two)).await.unwrap();
        // The first list was made before 2 was there; the second one is newer, but was not alone either.
        assert!(finish(world, &mut first, &Coverage::Complete).await.unwrap().overlapped);
        assert_eq!(open(world, tenant).await, two);
        finish(world, &mut second, &Coverage::Complete).await.unwrap();
        assert_eq!(open(world, tenant).await, two);

        // A page that is as the graph has it writes nothing: who closes does not know of it, so its run is told to begin again.
        let mut quiet = begin(world, tenant, "host").await;
        let mut closing = begin(world, tenant, "host").await;
        quiet.page(&page(&two)).await.unwrap();
        closing.page(&page(&one)).await.unwrap();
        let closed = finish(world, &mut closing, &Coverage::Complete).await.unwrap();
        assert_eq!((closed.nodes_closed, closed.overlapped), (1, false));
        let error = finish(world, &mut quiet, &Coverage::Complete).await.unwrap_err();
        assert_eq!(error.code(), "unavailable", "{error}");
        let mut again = begin(world, tenant, "host").await;
        again.page(&page(&two)).await.unwrap();
        finish(world, &mut again, &Coverage::Complete).await.unwrap();
        assert_eq!(open(world, tenant).await, two);

        // One that was killed in the middle holds nobody up.
        let mut killed = begin(world, tenant, "host").await;
        killed.page(&page(&BTreeSet::from([3]))).await.unwrap();
        drop(killed);
        let mut alone = begin(world, tenant, "host").await;
        alone.page(&page(&one)).await.unwrap();
        assert_eq!(finish(world, &mut alone, &Coverage::Complete).await.unwrap().nodes_closed, 2);
    })
    .await;
}

#[tokio::test]
async fn the_ledger_says_what_each_source_saw_and_what_its_newest_job_left_out() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let mut host = begin(world, tenant, "host").await;
        host.page(&page(&BTreeSet::from([1]))).await.unwrap();
        let all = ledger(world, tenant, LedgerFilter::default()).await;
        assert_eq!((all[0].verdict.as_str(), all[0].complete_at), ("unfinished", None));
        let collection = CollectionId::generate(&*world.clock, &*world.rng);
        host.finish(&SCOPE.parse().unwrap(), &Coverage::Complete, collection).await.unwrap();
        let mut agent = begin(world, tenant, "agent/agt_1").await;
        finish(world, &mut agent, &partial()).await.unwrap();

        let all = ledger(world, tenant, LedgerFilter::default()).await;
        let shown: Vec<_> = all.iter().map(|row| (row.source.as_str(), row.verdict.as_str())).collect();
        assert_eq!(shown, [("agent/agt_1", "partial"), ("host", "complete")]);
        assert_eq!(all[0].reason.as_deref(), Some("throttled"));
        assert!(all[0].complete_at.is_none() && all[1].complete_at == Some(all[1].tried_at));
        let only = |filter| async move { ledger(world, tenant, filter).await.len() };
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(only(LedgerFilter { source: text("host"), ..LedgerFilter::default() }).await, 1);
        assert_eq!(only(LedgerFilter { kind: text("packages"), ..LedgerFilter::default() }).await, 2);
        assert_eq!(only(LedgerFilter { kind: text("ackages"), ..LedgerFilter::default() }).await, 0);
        assert_eq!(only(LedgerFilter { scope: text("host:m1:"), ..LedgerFilter::default() }).await, 2);
        assert_eq!(only(LedgerFilter { verdict: text("partial"), ..LedgerFilter::default() }).await, 1);

        // The job that read it, and a newer one of the same plugin that ended without.
        let id = |n| world.literal(n);
        let own = id(tenant.as_uuid().as_u128());
        let job = |n, at| {
            format!(
                "INSERT INTO job (tenant_id, id, plugin, config, status, requested_by, created_at, cancel_requested, planned) \
                 VALUES ({own}, {}, 'host', '{{}}', 'completed', 'test', {at}, FALSE, TRUE)",
                id(n)
            )
        };
        let read = format!(
            "INSERT INTO collection (tenant_id, id, job_id, task_id, scope_key, scope, coverage, nodes, edges, call_count, started_at, finished_at) \
             VALUES ({own}, {}, {}, {}, {}, '{SCOPE}', 'complete', 1, 0, 0, 1, 1)",
            id(collection.as_uuid().as_u128()), id(1), id(1), id(1)
        );
        world.raw(tenant, &format!("{}; {read}", job(1, 10))).await.unwrap();
        let of_host = || LedgerFilter { source: text("host"), ..LedgerFilter::default() };
        let row = ledger(world, tenant, of_host()).await.remove(0);
        assert!(row.verdict == "complete" && row.job.is_some());
        world.raw(tenant, &job(2, 20)).await.unwrap();
        let row = ledger(world, tenant, of_host()).await.remove(0);
        assert_eq!((row.verdict.as_str(), row.last_verdict.as_str()), ("not_tried", "complete"));
        let not_tried = LedgerFilter { verdict: text("not_tried"), ..LedgerFilter::default() };
        assert_eq!(only(not_tried).await, 1);
        let other = world.tenant("globex").await;
        assert!(ledger(world, other, LedgerFilter::default()).await.is_empty(), "each tenant has its own");
    })
    .await;
}
