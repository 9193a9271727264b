//! Ingest and reads of the graph, on both engines.

use std::collections::BTreeMap;
use std::time::Duration;

use access::ops;
use domain::{CollectionId, Coverage, Error, NodeId, Page, SourceId, TenantId, Timestamp};
use inventory::{NodeKey, PageChanges};
use serde_json::{Value, json};
use store::{AuditFilter, EdgeDirection, EdgeFilter, EdgeRow, NodeFilter, NodeRow, ScopeChanges, SnapshotItem};

use crate::world::{World, each_engine};

const GRAPH_TABLES: [&str; 6] = ["node", "node_version", "node_claim", "edge", "edge_version", "edge_claim"];

fn id(resource: &str) -> NodeId {
    format!("aws:eu-west-1:aws.ec2.instance:{resource}").parse().unwrap()
}

fn node(resource: &str, name: &str, content: Value) -> Value {
    json!({"id": id(resource), "name": name, "properties": {"content": content}, "tags": {"env": "prod"}})
}

fn edge(source: &str, target: &str) -> Value {
    json!({"source": id(source), "target": id(target), "type": "attached_to", "properties": {"port": 1}})
}

fn page(scope: &str, nodes: Vec<Value>, edges: Vec<Value>) -> Page {
    serde_json::from_value(json!({"scope": scope, "nodes": nodes, "edges": edges})).unwrap()
}

fn source() -> SourceId {
    "aws".parse().unwrap()
}

fn partial() -> Coverage {
    Coverage::Partial { reason: "one page was refused".to_owned() }
}

/// One task: some pages of one scope, and its end. A millisecond passes before each step.
async fn run(world: &World, tenant: TenantId, pages: &[Page], coverage: Coverage) -> (PageChanges, ScopeChanges) {
    let mut ingest = world.store.ingest(world.permit::<ops::GraphIngest>(tenant), source()).await.unwrap();
    let mut changes = PageChanges::default();
    for page in pages {
        world.clock.advance(Duration::from_millis(1));
        changes += ingest.page(page).await.unwrap();
    }
    world.clock.advance(Duration::from_millis(1));
    let collection = CollectionId::generate(&*world.clock, &*world.rng);
    (changes, ingest.finish(&pages[0].scope, &coverage, collection).await.unwrap())
}

async fn nodes(world: &World, tenant: TenantId, filter: NodeFilter) -> Vec<NodeRow> {
    let mut read = world.store.read(world.permit::<ops::NodeList>(tenant)).await.unwrap();
    read.node_list(&NodeFilter { limit: 500, ..filter }).await.unwrap().items
}

async fn names(world: &World, tenant: TenantId, filter: NodeFilter) -> Vec<String> {
    let mut names: Vec<String> = nodes(world, tenant, filter).await.into_iter().map(|node| node.name).collect();
    names.sort();
    names
}

async fn edges(world: &World, tenant: TenantId, filter: EdgeFilter) -> Vec<EdgeRow> {
    let mut read = world.store.read(world.permit::<ops::EdgeList>(tenant)).await.unwrap();
    read.edge_list(&EdgeFilter { limit: 500, ..filter }).await.unwrap().items
}

async fn show(world: &World, tenant: TenantId, resource: &str, as_of: Option<Timestamp>) -> Result<NodeRow, Error> {
    let mut read = world.store.read(world.permit::<ops::NodeList>(tenant)).await.unwrap();
    read.node_show(&id(resource), as_of).await
}

/// The intervals and contents of a node's versions, the newest first.
async fn history(world: &World, tenant: TenantId, resource: &str) -> Vec<(Timestamp, Option<Timestamp>, Value)> {
    let mut read = world.store.read(world.permit::<ops::NodeList>(tenant)).await.unwrap();
    let versions = read.node_history(&id(resource), None, 100).await.unwrap().items;
    versions.into_iter().map(|v| (v.valid_from, v.valid_to, v.properties["content"].clone())).collect()
}

async fn audit(world: &World, tenant: TenantId) -> Vec<(String, Value)> {
    let mut read = world.store.read(world.permit::<ops::AuditList>(tenant)).await.unwrap();
    let filter = AuditFilter { action: Some("graph_ingest".to_owned()), limit: 100, ..AuditFilter::default() };
    read.audit_list(&filter).await.unwrap().items.into_iter().map(|record| (record.object_id, record.detail)).collect()
}

/// Every row of the graph and of the audit log; on PostgreSQL with the transaction that wrote it, so that a row which was written anew with
/// the values that it had is noticed. (On SQLite a watch on commits notices.)
async fn written(world: &World, tenant: TenantId) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for table in GRAPH_TABLES.iter().chain(&["audit_record", "audit_detail", "audit_head"]) {
        all.push(world.rows_of(tenant, table).await);
        if world.postgres.is_some() {
            let sql = format!("SELECT string_agg(t.xmin || ' ' || t.ctid, ',' ORDER BY t.ctid) FROM {table} t");
            all.push(vec![world.raw(tenant, &sql).await.unwrap()]);
        }
    }
    all
}

#[tokio::test]
async fn an_identical_second_run_writes_no_row_but_the_scopes() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let pages = [
            page(
                "s",
                vec![node("a", "A", json!(1)), node("b", "B", json!("ü ' \" \\ \u{0}"))],
                vec![edge("a", "b"), edge("a", "later")],
            ),
            page("s", vec![node("later", "Later", json!(null))], vec![edge("later", "never")]),
        ];
        let (first, _) = run(world, tenant, &pages, Coverage::Complete).await;
        let expected = PageChanges { nodes_inserted: 3, placeholders: 2, edges_inserted: 3, ..PageChanges::default() };
        assert_eq!(first, expected);
        assert_eq!(nodes(world, tenant, NodeFilter::default()).await.len(), 3);

        let before = written(world, tenant).await;
        // A run takes its number before it reads: one row of `source`, and none of the graph.
        let mut ingest = world.store.ingest(world.permit::<ops::GraphIngest>(tenant), source()).await.unwrap();
        let mut watch = world.watch().await;
        world.clock.advance(Duration::from_mins(1));
        for page in &pages {
            assert_eq!(ingest.page(page).await.unwrap(), PageChanges::default());
        }
        if let Some(watch) = &mut watch {
            assert!(!watch.saw_a_commit().await, "a page that changes nothing was committed");
        }
        let collection = CollectionId::generate(&*world.clock, &*world.rng);
        assert_eq!(
            ingest.finish(&pages[0].scope, &Coverage::Complete, collection).await.unwrap(),
            ScopeChanges::default()
        );
        if let Some(watch) = &mut watch {
            assert!(watch.saw_a_commit().await, "the scope's row was not written");
        }
        assert_eq!(written(world, tenant).await, before);
        // Although no node was written, each was seen a minute later.
        let seen = nodes(world, tenant, NodeFilter::default()).await;
        assert!(seen.iter().all(|node| node.discovered_at.millis_since(node.first_seen) >= 60_000), "{seen:?}");
    })
    .await;
}

#[tokio::test]
async fn a_change_keeps_the_old_version_and_is_recorded_once() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        run(
            world,
            tenant,
            &[page("s", vec![node("a", "A", json!(1)), node("b", "B", json!(1))], vec![])],
            Coverage::Complete,
        )
        .await;
        let began = world.clock_now();
        let (changes, _) = run(
            world,
            tenant,
            &[page("s", vec![node("a", "A2", json!(2)), node("b", "B", json!(1))], vec![])],
            Coverage::Complete,
        )
        .await;
        assert_eq!(changes, PageChanges { nodes_updated: 1, ..PageChanges::default() });

        let versions = history(world, tenant, "a").await;
        let contents: Vec<&Value> = versions.iter().map(|(_, _, content)| content).collect();
        assert_eq!(contents, [&json!(2), &json!(1)]);
        assert_eq!(versions[1].1, Some(versions[0].0));
        assert_eq!(show(world, tenant, "a", Some(began)).await.unwrap().name, "A");
        assert_eq!(show(world, tenant, "a", None).await.unwrap().name, "A2");
        assert_eq!(history(world, tenant, "b").await.len(), 1);

        let records = audit(world, tenant).await;
        assert_eq!(records.len(), 2, "{records:?}");
        assert_eq!((records[0].0.as_str(), &records[0].1["page"]["nodes_updated"]), ("s", &json!(1)));
    })
    .await;
}

#[tokio::test]
async fn only_a_scope_that_was_read_completely_closes_and_only_its_own() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        run(world, tenant, &[page("other", vec![node("theirs", "Theirs", json!(1))], vec![])], Coverage::Complete)
            .await;
        let full = page("s", vec![node("a", "A", json!(1)), node("b", "B", json!(1))], vec![edge("a", "b")]);
        let less = page("s", vec![node("a", "A", json!(1))], vec![]);
        run(world, tenant, &[full], Coverage::Complete).await;
        let reason = || "why".to_owned();
        for coverage in [
            partial(),
            Coverage::Denied { reason: reason() },
            Coverage::Throttled { reason: reason() },
            Coverage::Failed { reason: reason() },
        ] {
            let (_, changes) = run(world, tenant, std::slice::from_ref(&less), coverage).await;
            assert_eq!(changes, ScopeChanges::default());
        }
        let before = world.clock_now();
        let (_, changes) = run(world, tenant, std::slice::from_ref(&less), Coverage::Complete).await;
        assert_eq!(changes, ScopeChanges { nodes_closed: 1, edges_closed: 1, ..ScopeChanges::default() });
        assert_eq!(names(world, tenant, NodeFilter::default()).await, ["A", "Theirs"]);
        assert_eq!(
            names(world, tenant, NodeFilter { include_closed: true, ..NodeFilter::default() }).await,
            ["A", "B", "Theirs"]
        );
        assert_eq!(
            names(world, tenant, NodeFilter { as_of: Some(before), ..NodeFilter::default() }).await,
            ["A", "B", "Theirs"]
        );
        let gone = show(world, tenant, "b", None).await.unwrap();
        assert!(gone.closed_at > Some(before) && gone.discovered_at <= before, "{gone:?}");
        assert!(matches!(show(world, tenant, "b", gone.closed_at).await, Err(Error::NotFound { what: "node" })));
        assert_eq!(audit(world, tenant).await[0].1["scope"]["nodes_closed"], json!(1));

        let absent = Coverage::Absent { reason: reason() };
        let (_, changes) = run(world, tenant, &[page("s", vec![], vec![])], absent).await;
        assert_eq!(changes.nodes_closed, 1);
        assert_eq!(names(world, tenant, NodeFilter::default()).await, ["Theirs"]);
    })
    .await;
}

#[tokio::test]
async fn a_node_that_comes_back_leaves_a_gap_in_its_history() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let shown = [page("s", vec![node("a", "A", json!(1))], vec![edge("a", "x")])];
        let empty = [page("s", vec![], vec![])];
        run(world, tenant, &shown, Coverage::Complete).await;
        let there = world.clock_now();
        run(world, tenant, &empty, Coverage::Complete).await;
        let gone = world.clock_now();
        let (changes, _) = run(world, tenant, &shown, Coverage::Complete).await;
        assert_eq!(changes, PageChanges { nodes_reopened: 1, edges_reopened: 1, ..PageChanges::default() });
        let versions = history(world, tenant, "a").await;
        assert_eq!((versions.len(), versions[0].1), (2, None));
        assert!(versions[1].1 < Some(versions[0].0), "{versions:?}");
        for (at, expected) in [(there, 1), (gone, 0), (world.clock_now(), 1)] {
            assert_eq!(
                nodes(world, tenant, NodeFilter { as_of: Some(at), ..NodeFilter::default() }).await.len(),
                expected
            );
            assert_eq!(
                edges(world, tenant, EdgeFilter { as_of: Some(at), ..EdgeFilter::default() }).await.len(),
                expected
            );
        }
        let back = show(world, tenant, "a", None).await.unwrap();
        assert!(back.closed_at.is_none() && back.first_seen == versions[1].0);
    })
    .await;
}

#[tokio::test]
async fn an_end_that_nobody_showed_is_no_node_until_somebody_does() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        run(world, tenant, &[page("s", vec![node("a", "A", json!(1))], vec![edge("a", "x")])], Coverage::Complete)
            .await;
        let before = world.clock_now();
        assert_eq!(names(world, tenant, NodeFilter::default()).await, ["A"]);
        assert!(matches!(show(world, tenant, "x", None).await, Err(Error::NotFound { what: "node" })));
        assert_eq!(edges(world, tenant, EdgeFilter::default()).await[0].target, id("x"));

        let (changes, _) =
            run(world, tenant, &[page("t", vec![node("x", "X", json!(1))], vec![])], Coverage::Complete).await;
        assert_eq!(changes, PageChanges { nodes_inserted: 1, ..PageChanges::default() });
        let shown = show(world, tenant, "x", None).await.unwrap();
        assert!(shown.first_seen > before && history(world, tenant, "x").await.len() == 1);
        assert_eq!(names(world, tenant, NodeFilter { as_of: Some(before), ..NodeFilter::default() }).await, ["A"]);
        // Before it was shown nothing was known of it, which does not hide the edge; after it closed something is.
        assert_eq!(edges(world, tenant, EdgeFilter { as_of: Some(before), ..EdgeFilter::default() }).await.len(), 1);
        run(world, tenant, &[page("t", vec![], vec![])], Coverage::Complete).await;
        assert_eq!(edges(world, tenant, EdgeFilter::default()).await, []);
        assert_eq!(edges(world, tenant, EdgeFilter { as_of: Some(before), ..EdgeFilter::default() }).await.len(), 1);
        // The edge's own scope still claims it: it is back with its end, without being written.
        run(world, tenant, &[page("t", vec![node("x", "X", json!(1))], vec![])], Coverage::Complete).await;
        assert_eq!(edges(world, tenant, EdgeFilter::default()).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn two_scopes_that_show_one_node_do_not_fight_and_the_second_takes_over() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let one = [page("one", vec![node("a", "of one", json!(1))], vec![edge("a", "a")])];
        let two = [page("two", vec![node("a", "of two", json!(2))], vec![edge("a", "a")])];
        run(world, tenant, &one, Coverage::Complete).await;
        let (changes, _) = run(world, tenant, &two, Coverage::Complete).await;
        assert_eq!(changes, PageChanges { claims: 2, ..PageChanges::default() });
        for _ in 0..2 {
            for pages in [&one, &two] {
                let nothing = (PageChanges::default(), ScopeChanges::default());
                assert_eq!(run(world, tenant, pages, Coverage::Complete).await, nothing);
            }
        }
        assert_eq!(names(world, tenant, NodeFilter::default()).await, ["of one"]);

        let (_, changes) = run(world, tenant, &[page("one", vec![], vec![])], Coverage::Complete).await;
        assert_eq!(changes, ScopeChanges { handed_over: 2, ..ScopeChanges::default() });
        assert_eq!(names(world, tenant, NodeFilter::default()).await, ["of two"]);
        assert_eq!(history(world, tenant, "a").await.len(), 2);
        assert_eq!(edges(world, tenant, EdgeFilter::default()).await.len(), 1);
        let nothing = (PageChanges::default(), ScopeChanges::default());
        assert_eq!(run(world, tenant, &two, Coverage::Complete).await, nothing);
        let scope = Some("two".parse().unwrap());
        assert_eq!(names(world, tenant, NodeFilter { scope, ..NodeFilter::default() }).await, ["of two"]);

        // A claim ends with the complete run that no longer shows it, and then nobody takes over.
        run(world, tenant, &one, Coverage::Complete).await;
        let (_, changes) = run(world, tenant, &[page("one", vec![], vec![])], Coverage::Complete).await;
        assert_eq!(changes, ScopeChanges { claims_dropped: 2, ..ScopeChanges::default() });
        let (_, changes) = run(world, tenant, &[page("two", vec![], vec![])], Coverage::Complete).await;
        assert_eq!(changes, ScopeChanges { nodes_closed: 1, edges_closed: 1, ..ScopeChanges::default() });
    })
    .await;
}

#[tokio::test]
async fn what_could_not_be_stored_is_never_closed_by_its_own_task() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        run(world, tenant, &[page("s", vec![node("a", "A", json!(1))], vec![])], Coverage::Complete).await;
        let mut ingest = world.store.ingest(world.permit::<ops::GraphIngest>(tenant), source()).await.unwrap();
        let refused = page("s", vec![node("a", "A\0", json!(1))], vec![]);
        let message = ingest.page(&refused).await.unwrap_err().to_string();
        assert!(message.starts_with("the name of `aws:eu-west-1:aws.ec2.instance:a` must"), "{message}");
        let collection = CollectionId::generate(&*world.clock, &*world.rng);
        let message = ingest.finish(&refused.scope, &Coverage::Complete, collection).await.unwrap_err().to_string();
        assert_eq!(message, "a page of this scope could not be stored: run the task again from its start");
        ingest.finish(&refused.scope, &partial(), collection).await.unwrap();
        assert_eq!(names(world, tenant, NodeFilter::default()).await, ["A"]);
    })
    .await;
}

#[tokio::test]
async fn tasks_that_show_the_same_at_once_agree() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let shown: Vec<Value> = (0..200).map(|n| node(&format!("n{n}"), &format!("N{n}"), json!(n))).collect();
        let links: Vec<Value> = (0..200).map(|n| edge(&format!("n{n}"), &format!("n{}", (n * 7) % 200))).collect();
        let pages: Vec<Page> = (0..4).map(|n| page(&format!("s{}", n % 2), shown.clone(), links.clone())).collect();
        let tasks = pages.iter().map(|page| run(world, tenant, std::slice::from_ref(page), Coverage::Complete));
        let changes = futures::future::join_all(tasks).await;
        let inserted: usize = changes.iter().map(|(page, _)| page.nodes_inserted).sum();
        let claimed: usize = changes.iter().map(|(page, _)| page.claims).sum();
        assert_eq!((inserted, claimed), (200, 400));
        assert_eq!(nodes(world, tenant, NodeFilter::default()).await.len(), 200);
        for page in &pages {
            let nothing = (PageChanges::default(), ScopeChanges::default());
            assert_eq!(run(world, tenant, std::slice::from_ref(page), Coverage::Complete).await, nothing);
        }
    })
    .await;
}

#[tokio::test]
async fn lists_filter_and_go_on_where_they_stopped() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let mut shown: Vec<Value> =
            (0..25).map(|n| node(&format!("i{n:02}"), &format!("Web_{n:02}"), json!(n))).collect();
        shown.push(json!({"id": "gcp:global:gcp.dns.zone:z", "name": "100% Web"}));
        shown.push(json!({"id": "aws:us-east-1:aws.ec2.volume:v", "name": "disk"}));
        let links = (1..25).map(|n| edge("i00", &format!("i{n:02}"))).chain([edge("i01", "i00")]).collect();
        run(world, tenant, &[page("s", shown, links)], Coverage::Complete).await;

        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let mut read = world.store.read(world.permit::<ops::NodeList>(tenant)).await.unwrap();
            let page = read.node_list(&NodeFilter { after, limit: 10, ..NodeFilter::default() }).await.unwrap();
            seen.extend(page.items.iter().map(|node| node.key));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!((seen.len(), seen.is_sorted_by(|a, b| a < b)), (27, true));

        let filter = NodeFilter::default;
        for (filter, count) in [
            (NodeFilter { node_type: Some("aws.ec2.instance".into()), ..filter() }, 25),
            (NodeFilter { node_type: Some("aws.ec2.*".into()), ..filter() }, 26),
            (NodeFilter { node_type: Some("aws.ec2.inst".into()), ..filter() }, 0),
            (NodeFilter { provider: Some("gcp".into()), ..filter() }, 1),
            (NodeFilter { region: Some("us-east-1".into()), ..filter() }, 1),
            (NodeFilter { name: Some("web".into()), ..filter() }, 26),
            (NodeFilter { name: Some("b_0".into()), ..filter() }, 10),
            (NodeFilter { name: Some("0% w".into()), ..filter() }, 1),
            (NodeFilter { name: Some("'; DROP TABLE node; --".into()), ..filter() }, 0),
            (NodeFilter { scope: Some("t".parse().unwrap()), ..filter() }, 0),
        ] {
            assert_eq!(nodes(world, tenant, filter.clone()).await.len(), count, "{filter:?}");
        }
        let of = |direction| EdgeFilter { node: Some(id("i00")), direction, ..EdgeFilter::default() };
        for (filter, count) in [
            (of(EdgeDirection::Out), 24),
            (of(EdgeDirection::In), 1),
            (of(EdgeDirection::Both), 25),
            (EdgeFilter { edge_type: Some("contains".parse().unwrap()), ..EdgeFilter::default() }, 0),
        ] {
            assert_eq!(edges(world, tenant, filter.clone()).await.len(), count, "{filter:?}");
        }
        let mut read = world.store.read(world.permit::<ops::NodeList>(tenant)).await.unwrap();
        let counts = read.node_counts().await.unwrap().into_iter().map(|c| (c.node_type, c.count)).collect::<Vec<_>>();
        assert_eq!(counts, [("aws.ec2.instance".into(), 25), ("aws.ec2.volume".into(), 1), ("gcp.dns.zone".into(), 1)]);
        for limit in [0, 501] {
            assert!(matches!(
                read.node_list(&NodeFilter { limit, ..filter() }).await,
                Err(Error::Invalid { field: Some("limit"), .. })
            ));
        }
        let both = NodeFilter { include_closed: true, as_of: Some(world.clock_now()), limit: 5, ..filter() };
        assert!(read.node_list(&both).await.is_err());
    })
    .await;
}

#[tokio::test]
async fn as_of_gives_back_what_was_listed_then() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let mut random = 1u32;
        let mut next = |below: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) % below
        };
        let listed = async |as_of: Option<Timestamp>| {
            let there = nodes(world, tenant, NodeFilter { as_of, ..NodeFilter::default() }).await;
            let there: BTreeMap<NodeKey, (String, Value)> =
                there.into_iter().map(|node| (node.key, (node.name, node.properties["content"].clone()))).collect();
            let links: Vec<_> = edges(world, tenant, EdgeFilter { as_of, ..EdgeFilter::default() })
                .await
                .into_iter()
                .map(|e| e.key)
                .collect();
            (there, links)
        };
        let mut notes = Vec::new();
        for _ in 0..12 {
            let scope = format!("s{}", next(3));
            let shown = (0..6).map(|_| node(&format!("n{}", next(6)), "N", json!(next(3)))).collect();
            let links = (0..4).map(|_| edge(&format!("n{}", next(6)), &format!("n{}", next(8)))).collect();
            let coverage = if next(3) == 0 { partial() } else { Coverage::Complete };
            run(world, tenant, &[page(&scope, shown, links)], coverage).await;
            notes.push((world.clock_now(), listed(None).await));
            world.clock.advance(Duration::from_millis(5));
        }
        for (at, note) in &notes {
            assert_eq!(&listed(Some(*at)).await, note, "at {at}");
        }
        assert!(notes.iter().any(|(_, note)| note != &notes[0].1), "nothing ever changed");
    })
    .await;
}

#[tokio::test]
async fn a_full_page_of_any_length_arrives_whole() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let shown: Vec<Value> = (0..3_333).map(|n| node(&format!("n{n}"), &format!("N{n}"), json!(n))).collect();
        let links: Vec<Value> = (0..6_667)
            .map(|n| edge(&format!("n{}", n % 3_333), &format!("n{}", (n * 31 + n / 3_333) % 3_333)))
            .collect();
        let large = "x".repeat(200_000);
        let heavy: Vec<Value> = (0..100).map(|n| node(&format!("n{n}"), &format!("N{n}"), json!(large))).collect();
        let full = page("s", shown, links);
        assert_eq!(full.nodes.len() + full.edges.len(), 10_000);
        let (changes, _) = run(world, tenant, std::slice::from_ref(&full), Coverage::Complete).await;
        assert_eq!((changes.nodes_inserted, changes.edges_inserted), (3_333, 6_667));
        let (changes, _) = run(world, tenant, &[page("s", heavy, vec![])], partial()).await;
        assert_eq!(changes, PageChanges { nodes_updated: 100, ..PageChanges::default() });

        let mut read = world.store.read(world.permit::<ops::NodeList>(tenant)).await.unwrap();
        let (mut streamed, mut links) = (BTreeMap::new(), 0);
        let each = |item: SnapshotItem<'_>| {
            match item {
                SnapshotItem::Scope { read, .. } => assert!(!read, "its last reading was partial"),
                SnapshotItem::Unread { id } => panic!("{id} was shown"),
                SnapshotItem::Node { id, properties, .. } => drop(streamed.insert(id.clone(), properties)),
                SnapshotItem::Edge { source, target, .. } => {
                    assert!([source, target].iter().all(|end| streamed.contains_key(&end.parse().unwrap())));
                    links += 1;
                }
            }
            Ok(())
        };
        read.graph_snapshot(None, each).await.unwrap();
        assert_eq!((streamed.len(), links), (3_333, 6_667));
        assert_eq!(streamed[&id("n99")]["content"].as_str().map(str::len), Some(200_000));
        assert_eq!(streamed[&id("n100")], json!({"content": 100}));
        let scopes_only = |item: SnapshotItem<'_>| {
            assert!(matches!(item, SnapshotItem::Scope { .. }), "{item:?}");
            Ok(())
        };
        read.graph_snapshot(Some(&["aws.ec2.volume"]), scopes_only).await.unwrap();
        let stop = read.graph_snapshot(Some(&["aws.ec2.instance"]), |_| Err(Error::conflict("enough"))).await;
        assert_eq!(stop.unwrap_err().to_string(), "enough");
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_says_which_scopes_were_read_to_their_end_and_which_nodes_are_only_named() {
    each_engine(async |world| {
        let tenant = world.tenant("a").await;
        let a = || page("whole", vec![node("a", "A", json!(1))], vec![edge("a", "elsewhere")]);
        run(world, tenant, &[a()], Coverage::Complete).await;
        run(world, tenant, &[page("cut", vec![node("b", "B", json!(1))], vec![])], Coverage::Complete).await;
        run(world, tenant, &[page("cut", vec![node("b", "B", json!(1))], vec![])], partial()).await;
        run(world, tenant, &[page("never", vec![], vec![])], partial()).await;

        let seen = async || {
            let (mut scopes, mut unread, mut links) = (BTreeMap::new(), Vec::new(), 0);
            let each = |item: SnapshotItem<'_>| {
                match item {
                    SnapshotItem::Scope { id, read } => drop(scopes.insert(id.to_owned(), read)),
                    SnapshotItem::Unread { id } => unread.push(id.clone()),
                    SnapshotItem::Edge { .. } => links += 1,
                    SnapshotItem::Node { .. } => {}
                }
                Ok(())
            };
            let mut read = world.store.read(world.permit::<ops::NodeList>(tenant)).await.unwrap();
            read.graph_snapshot(None, each).await.unwrap();
            let scopes: Vec<(String, bool)> = scopes.into_iter().collect();
            (scopes, unread, links)
        };
        let scopes = |cut: bool| vec![("cut".to_owned(), cut), ("never".to_owned(), false), ("whole".to_owned(), true)];
        assert_eq!(seen().await, (scopes(false), vec![id("elsewhere")], 1));
        // Read again, and the other end shown: nothing is missing any more.
        let both = page("cut", vec![node("b", "B", json!(1)), node("elsewhere", "E", json!(1))], vec![]);
        run(world, tenant, &[both], Coverage::Complete).await;
        assert_eq!(seen().await, (scopes(true), vec![], 1));
    })
    .await;
}

#[tokio::test]
async fn one_id_in_two_tenants_is_two_nodes() {
    each_engine(async |world| {
        let (ours, theirs) = (world.tenant("ours").await, world.tenant("theirs").await);
        run(world, ours, &[page("s", vec![node("a", "Ours", json!(1))], vec![edge("a", "only-ours")])], Coverage::Complete).await;
        run(world, theirs, &[page("s", vec![node("a", "Theirs", json!(2)), node("b", "B", json!(2))], vec![])], Coverage::Complete).await;
        run(world, theirs, &[page("s", vec![node("a", "Theirs 2", json!(3))], vec![])], Coverage::Complete).await;
        assert_eq!(names(world, ours, NodeFilter::default()).await, ["Ours"]);
        assert_eq!(names(world, theirs, NodeFilter::default()).await, ["Theirs 2"]);
        assert_eq!(history(world, ours, "a").await.len(), 1);
        assert_eq!(edges(world, theirs, EdgeFilter::default()).await, []);
        assert!(matches!(show(world, ours, "b", None).await, Err(Error::NotFound { what: "node" })));

        // An edge cannot refer to another tenant's node: `b` exists, but not here.
        let (tenant, b) = (world.literal(ours.as_uuid().as_u128()), world.literal(NodeKey::of(&id("b")).0));
        let (a, one) = (world.literal(NodeKey::of(&id("a")).0), world.literal(1));
        let insert = |target: &str| {
            format!(
                "INSERT INTO edge (tenant_id, key, source_key, type, target_key, discriminator, properties, hash, scope_key, valid_from) \
                 VALUES ({tenant}, {one}, {a}, 'in', {target}, '', '{{}}', {one}, {one}, 1)"
            )
        };
        let refused = world.raw(ours, &insert(&b)).await.unwrap_err().to_string().to_lowercase();
        assert!(refused.contains("foreign key"), "{refused}");
        world.raw(ours, &insert(&a)).await.unwrap();

        if world.postgres.is_some() {
            let count = format!("SELECT count(*) FROM node WHERE tenant_id = {tenant}");
            assert_eq!(world.raw(ours, &count).await.unwrap(), "2");
            assert_eq!(world.raw(theirs, &count).await.unwrap(), "0");
            let update = format!("UPDATE node SET name = 'stolen' WHERE tenant_id = {tenant} RETURNING 'stolen'");
            assert_eq!(world.raw(theirs, &update).await.unwrap(), "");
            for table in GRAPH_TABLES {
                assert_eq!(world.raw(TenantId::from_uuid(uuid::Uuid::nil()), &format!("SELECT count(*) FROM {table}")).await.unwrap(), "0");
            }
            let refused = world.raw(theirs, &insert(&a)).await.unwrap_err().to_string();
            assert!(refused.contains("row-level security"), "{refused}");
        }
    })
    .await;
}

#[tokio::test]
async fn nodes_are_listed_by_when_they_changed_or_were_seen_first() {
    each_engine(async |world| {
        let (tenant, other) = (world.tenant("acme").await, world.tenant("globex").await);
        let both =
            |value: i64| page("s", vec![node("old", "Old", json!(1)), node("moved", "Moved", json!(value))], vec![]);
        run(world, tenant, &[page("gone", vec![node("gone", "Gone", json!(1))], vec![])], Coverage::Complete).await;
        run(world, tenant, &[both(1)], Coverage::Complete).await;
        run(world, other, &[both(1)], Coverage::Complete).await;
        world.clock.advance(Duration::from_secs(1));
        let since = world.clock_now();
        world.clock.advance(Duration::from_secs(1));
        run(world, tenant, &[both(2)], Coverage::Complete).await;
        run(world, tenant, &[page("new", vec![node("new", "New", json!(1))], vec![])], Coverage::Complete).await;
        run(world, tenant, &[page("gone", vec![node("kept", "Kept", json!(1))], vec![])], Coverage::Complete).await;
        let (changed, first) = (
            NodeFilter { changed_since: Some(since), ..NodeFilter::default() },
            NodeFilter { first_seen_since: Some(since), ..NodeFilter::default() },
        );
        assert_eq!(names(world, tenant, changed.clone()).await, ["Kept", "Moved", "New"]);
        let closed = NodeFilter { include_closed: true, ..changed.clone() };
        assert_eq!(names(world, tenant, closed.clone()).await, ["Gone", "Kept", "Moved", "New"]);
        assert_eq!(names(world, tenant, first.clone()).await, ["Kept", "New"]);
        assert_eq!(names(world, tenant, NodeFilter { name: Some("n".to_owned()), ..first }).await, ["New"]);
        assert!(names(world, other, closed.clone()).await.is_empty(), "what changed in another tenant is none of its");
        // To the moment, on both sides of it.
        let all = nodes(world, tenant, NodeFilter::default()).await;
        let moved = all.iter().find(|node| node.name == "Moved").unwrap().valid_from;
        let at = |since| NodeFilter { changed_since: Some(since), ..NodeFilter::default() };
        assert!(names(world, tenant, at(moved)).await.contains(&"Moved".to_owned()));
        assert!(!names(world, tenant, at(moved.plus_millis(1))).await.contains(&"Moved".to_owned()));
        // By pages, each once.
        let mut read = world.store.read(world.permit::<ops::NodeList>(tenant)).await.unwrap();
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = read.node_list(&NodeFilter { after, limit: 1, ..closed.clone() }).await.unwrap();
            seen.extend(page.items.into_iter().map(|node| node.name));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        seen.sort();
        assert_eq!(seen, ["Gone", "Kept", "Moved", "New"]);
        let refused = read.node_list(&NodeFilter { as_of: Some(since), limit: 1, ..changed }).await;
        assert!(matches!(refused, Err(Error::Invalid { field: Some("as_of"), .. })), "{refused:?}");
    })
    .await;
}

#[tokio::test]
async fn what_changed_lately_is_found_by_an_index_and_not_among_all_nodes() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let literal = world.literal(tenant.as_uuid().as_u128());
        if world.postgres.is_some() {
            // It plans by what is there.
            let rows = "SELECT $T, gen_random_uuid(), 'n' || i, 't', 'r', 'n', '{}', '{}', gen_random_uuid(), gen_random_uuid(), true, i, i, \
                        CASE WHEN i % 2 = 0 THEN i END, i FROM generate_series(1, 20000) i";
            let into = "INSERT INTO node (tenant_id, key, id, type, region, name, properties, tags, hash, scope_key, observed, first_seen, \
                        valid_from, closed_at, last_seen)";
            world.tamper(tenant, &format!("{into} {}; ANALYZE node", rows.replace("$T", &literal))).await;
        }
        // The text of the questions as the store asks them.
        let source = include_str!("../../src/graph.rs");
        for (name, indexes) in [
            ("CHANGED", &["node_by_change"][..]),
            ("CHANGED_OR_CLOSED", &["node_by_change", "node_by_close"]),
            ("FIRST_SEEN", &["node_by_change"]),
        ] {
            let text = source.split(&format!("const {name}: &str =")).nth(1).unwrap().split('"').nth(1).unwrap();
            let condition = text.replace("\\\n", "").replace("$1", &literal).replace('?', "19900");
            let list = format!("SELECT n.key FROM node n WHERE n.tenant_id = {literal} AND {condition} ORDER BY n.key LIMIT 101");
            let plan = world.plan(tenant, &list).await;
            for index in indexes {
                assert!(plan.contains(index), "{name}: {plan}");
            }
        }
    })
    .await;
}
