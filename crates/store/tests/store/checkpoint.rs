//! What a plugin leaves for its next run: when it is stored, when it is offered, and what a difference to it may close.

use std::collections::BTreeSet;
use std::time::Duration;

use access::ops;
use domain::{CollectionId, Coverage, Digest, EvidenceId, NodeId, Page, Result, Rng as _, ScopeId, TenantId};
use inventory::NodeKey;
use serde_json::json;
use store::{Gone, Ingest, LedgerFilter, LedgerRow, NewCheckpoint, NodeFilter, ScopeChanges};

use crate::world::{World, each_engine};

const SCOPE: &str = "registry:0123456789ab:tags";
const PREFIX: &str = "registry:0123456789ab:";
const BASIS: Digest = Digest([1; 32]);

type Tags = BTreeSet<u8>;

fn node(tag: u8) -> NodeId {
    format!("registry:global:registry.tag:{tag}").parse().unwrap()
}

fn page(tags: &Tags) -> Page {
    let nodes: Vec<_> = tags.iter().map(|tag| json!({"id": node(*tag), "name": "t"})).collect();
    serde_json::from_value(json!({"scope": SCOPE, "nodes": nodes, "edges": []})).unwrap()
}

fn gone(tags: impl IntoIterator<Item = u8>) -> Gone {
    Gone { nodes: tags.into_iter().map(|tag| NodeKey::of(&node(tag))).collect(), edges: Vec::new() }
}

fn partial() -> Coverage {
    Coverage::Partial { reason: "throttled".to_owned() }
}

/// One run of a plugin, and what it was offered.
struct Run<'w> {
    world: &'w World,
    ingest: Ingest,
    offered: Option<Vec<u8>>,
}

impl<'w> Run<'w> {
    async fn new(world: &'w World, tenant: TenantId, basis: Digest) -> Self {
        world.clock.advance(Duration::from_millis(5));
        let permit = world.permit::<ops::GraphIngest>(tenant);
        let mut ingest = world.store.ingest(permit, "registry".parse().unwrap()).await.unwrap();
        let offered = ingest.checkpoints(PREFIX, basis).await.unwrap();
        assert!(offered.len() <= 1 && offered.iter().all(|known| known.scope.as_str() == SCOPE));
        Self { world, ingest, offered: offered.into_iter().next().map(|known| known.bytes) }
    }

    async fn show(&mut self, tags: &Tags) {
        self.ingest.page(&page(tags)).await.unwrap();
    }

    async fn end(&mut self, coverage: Coverage, gone: Option<Gone>, left: &[u8]) -> Result<ScopeChanges> {
        let (clock, rng) = (&*self.world.clock, &*self.world.rng);
        let checkpoint = NewCheckpoint {
            bytes: left.to_vec(),
            basis: BASIS,
            evidence: EvidenceId::generate(clock, rng),
            pae_sha256: Digest([3; 32]),
        };
        let (scope, collection) = (SCOPE.parse::<ScopeId>().unwrap(), CollectionId::generate(clock, rng));
        self.ingest.finish_since(&scope, &coverage, collection, gone.as_ref(), checkpoint).await
    }
}

/// A whole reading.
async fn whole(world: &World, tenant: TenantId, tags: &Tags, left: &[u8]) {
    let mut run = Run::new(world, tenant, BASIS).await;
    run.show(tags).await;
    run.end(Coverage::Complete, None, left).await.unwrap();
}

async fn offered(world: &World, tenant: TenantId) -> Option<Vec<u8>> {
    Run::new(world, tenant, BASIS).await.offered
}

async fn open(world: &World, tenant: TenantId) -> Tags {
    let mut read = world.store.read(world.permit::<ops::NodeList>(tenant)).await.unwrap();
    let nodes = read.node_list(&NodeFilter { limit: 500, ..NodeFilter::default() }).await.unwrap().items;
    nodes.iter().map(|node| node.id.resource().parse().unwrap()).collect()
}

async fn ledger(world: &World, tenant: TenantId) -> LedgerRow {
    let mut read = world.store.read(world.permit::<ops::CoverageList>(tenant)).await.unwrap();
    read.coverage_list(&LedgerFilter::default(), None, 1).await.unwrap().items.remove(0)
}

fn set(tags: &[u8]) -> Tags {
    tags.iter().copied().collect()
}

#[tokio::test]
async fn a_checkpoint_is_left_by_a_whole_reading_only_and_taken_away_by_whatever_is_written_after_it() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let all = set(&[1, 2]);
        for coverage in [partial(), Coverage::Denied { reason: "no".to_owned() }] {
            let mut run = Run::new(world, tenant, BASIS).await;
            run.show(&all).await;
            run.end(coverage, None, b"never").await.unwrap();
            assert_eq!(offered(world, tenant).await, None);
        }
        whole(world, tenant, &all, b"one").await;
        assert_eq!(offered(world, tenant).await.as_deref(), Some(&b"one"[..]));
        assert_eq!(offered(world, tenant).await.as_deref(), Some(&b"one"[..]), "looking takes nothing away");
        let other = world.tenant("other").await;
        assert_eq!(offered(world, other).await, None);
        // Another version of the plugin, or the same with other settings.
        assert_eq!(Run::new(world, tenant, Digest([2; 32])).await.offered, None);

        // A page that is as the graph has it writes nothing; one that is not, of a run that was killed then, does.
        Run::new(world, tenant, BASIS).await.show(&all).await;
        assert!(offered(world, tenant).await.is_some());
        Run::new(world, tenant, BASIS).await.show(&set(&[3])).await;
        assert_eq!(offered(world, tenant).await, None);
        whole(world, tenant, &all, b"two").await;
        let mut run = Run::new(world, tenant, BASIS).await;
        run.end(partial(), None, b"").await.unwrap();
        assert_eq!(offered(world, tenant).await, None);
        // A whole reading that leaves none.
        whole(world, tenant, &all, b"").await;
        assert_eq!(offered(world, tenant).await, None);
    })
    .await;
}

#[tokio::test]
async fn a_difference_closes_what_it_names_and_an_unchanged_scope_closes_nothing() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        whole(world, tenant, &set(&[1, 2, 3]), b"one").await;
        let mut run = Run::new(world, tenant, BASIS).await;
        run.show(&set(&[4])).await;
        let changes = run.end(Coverage::Complete, Some(gone([2])), b"two").await.unwrap();
        assert_eq!((changes.nodes_closed, open(world, tenant).await), (1, set(&[1, 3, 4])));
        assert_eq!(ledger(world, tenant).await.verdict, "complete");
        // What is named and shown too is there.
        let mut run = Run::new(world, tenant, BASIS).await;
        assert_eq!(run.offered.as_deref(), Some(&b"two"[..]));
        run.show(&set(&[1])).await;
        run.end(Coverage::Complete, Some(gone([1])), b"three").await.unwrap();
        assert_eq!(open(world, tenant).await, set(&[1, 3, 4]));

        let mut run = Run::new(world, tenant, BASIS).await;
        let changes = run.end(Coverage::Unchanged, Some(Gone::default()), b"").await.unwrap();
        assert_eq!((changes, open(world, tenant).await), (ScopeChanges::default(), set(&[1, 3, 4])));
        let row = ledger(world, tenant).await;
        assert_eq!((row.verdict.as_str(), row.complete_at), ("unchanged", Some(row.tried_at)));
        assert_eq!(offered(world, tenant).await.as_deref(), Some(&b"three"[..]), "it keeps the one that it has");
        // Even one that names something.
        let mut run = Run::new(world, tenant, BASIS).await;
        run.end(Coverage::Unchanged, Some(gone([1, 3, 4])), b"").await.unwrap();
        assert_eq!(open(world, tenant).await, set(&[1, 3, 4]));
        // And a difference of which not all was read.
        let mut run = Run::new(world, tenant, BASIS).await;
        run.end(partial(), Some(gone([1, 3, 4])), b"four").await.unwrap();
        assert_eq!((open(world, tenant).await, offered(world, tenant).await), (set(&[1, 3, 4]), None));
    })
    .await;
}

#[tokio::test]
async fn a_difference_to_nothing_is_refused_and_one_that_was_not_alone_closes_nothing() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        whole(world, tenant, &set(&[1, 2]), b"").await;
        for (coverage, named) in [(Coverage::Complete, Some(gone([1]))), (Coverage::Unchanged, None)] {
            let mut run = Run::new(world, tenant, BASIS).await;
            let error = run.end(coverage.clone(), named, b"x").await.unwrap_err().to_string();
            assert!(error.contains("nothing is known that a difference"), "{error}");
            // Nor does an ordinary end say unchanged, whoever asks for it.
            let scope: ScopeId = SCOPE.parse().unwrap();
            let collection = CollectionId::generate(&*world.clock, &*world.rng);
            let ended = run.ingest.finish(&scope, &Coverage::Unchanged, collection).await;
            assert!(ended.is_err(), "{ended:?}");
        }
        assert_eq!(open(world, tenant).await, set(&[1, 2]));

        for coverage in [Coverage::Complete, Coverage::Unchanged] {
            whole(world, tenant, &set(&[1, 2]), b"one").await;
            let mut slow = Run::new(world, tenant, BASIS).await;
            assert!(slow.offered.is_some());
            // Meanwhile another run finds one more, and leaves a checkpoint of its own.
            whole(world, tenant, &set(&[1, 2, 3]), b"newer").await;
            let changes = slow.end(coverage, Some(gone([1])), b"older").await.unwrap();
            assert!(changes.overlapped && changes.nodes_closed == 0);
            assert_eq!(open(world, tenant).await, set(&[1, 2, 3]));
            assert_eq!(ledger(world, tenant).await.verdict, "partial");
            assert_eq!(offered(world, tenant).await, None, "the next run reads everything");
        }
    })
    .await;
}

#[tokio::test]
async fn all_of_a_scope_is_shown_again_after_a_day_and_after_many_differences() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        whole(world, tenant, &set(&[1]), b"one").await;
        for _ in 0..2 {
            world.clock.advance(Duration::from_hours(11));
            let mut run = Run::new(world, tenant, BASIS).await;
            assert!(run.offered.is_some());
            run.end(Coverage::Unchanged, Some(Gone::default()), b"one more").await.unwrap();
        }
        world.clock.advance(Duration::from_hours(2));
        assert_eq!(offered(world, tenant).await, None, "the last whole reading was a day ago");

        whole(world, tenant, &set(&[1]), b"one").await;
        let mut differences = 0;
        loop {
            let mut run = Run::new(world, tenant, BASIS).await;
            if run.offered.is_none() {
                break;
            }
            run.end(Coverage::Complete, Some(Gone::default()), b"again").await.unwrap();
            differences += 1;
            assert!(differences < 100);
        }
        assert_eq!(differences, 32);
    })
    .await;
}

/// A service whose tags come and go, read by runs that are whole, differences, partial, killed, or two at once.
#[tokio::test]
async fn whatever_runs_came_before_what_is_open_after_a_whole_one_is_what_is_there() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let random = |below: u8| {
            let mut byte = [0u8];
            world.rng.fill(&mut byte);
            byte[0] % below
        };
        let mut there = set(&[]);
        let mut kinds = BTreeSet::new();
        for _ in 0..120 {
            for _ in 0..random(3) {
                let tag = random(6);
                if !there.remove(&tag) {
                    there.insert(tag);
                }
            }
            let mut run = Run::new(world, tenant, BASIS).await;
            let state: Vec<u8> = std::iter::once(b'#').chain(there.iter().copied()).collect();
            let since: Option<Tags> = run.offered.as_ref().map(|known| known[1..].iter().copied().collect());
            let new: Tags = since.as_ref().map_or(there.clone(), |since| there.difference(since).copied().collect());
            let named = since.as_ref().map(|since| gone(since.difference(&there).copied()));
            run.show(&new).await;
            let how = random(6);
            match how {
                0 => continue,
                1 => {
                    run.end(partial(), named, &state).await.unwrap();
                    continue;
                }
                2 => {
                    // Another run begins and ends before this one does.
                    let shown = there.clone();
                    whole(world, tenant, &shown, &state).await;
                }
                _ => {}
            }
            let unchanged = since.as_ref() == Some(&there);
            let coverage = if unchanged { Coverage::Unchanged } else { Coverage::Complete };
            kinds.insert((how == 2, since.is_some(), coverage.as_str()));
            match run.end(coverage, named, &state).await {
                Ok(_) => assert_eq!(open(world, tenant).await, there),
                // Something that it had shown was closed meanwhile: it is run again.
                Err(error) => assert_eq!(error.code(), "unavailable", "{error}"),
            }
        }
        assert!(kinds.len() >= 5, "{kinds:?}");
    })
    .await;
}
