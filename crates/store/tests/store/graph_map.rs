//! What is drawn of a graph, on both engines: fresh after every change, of one tenant only, and the same as the lists say.

use std::time::Duration;

use access::ops;
use domain::{CollectionId, Coverage, Error, Limits, NodeId, Page, TenantId};
use inventory::NodeKey;
use inventory::map::{By, ElementKind, Filter, Follow, Opened, Sketch, Trip};
use serde_json::json;
use store::{Asked, Charted, Drawing, Expansion, NodeFind};

use crate::world::{World, each_engine};

fn id(kind: &str, resource: &str) -> NodeId {
    format!("aws:eu-west-1:aws.ec2.{kind}:{resource}").parse().unwrap()
}

fn page(scope: &str, account: &str, nodes: &[(&str, &str)], edges: &[(&str, &str, &str)]) -> Page {
    let node = |(kind, resource): &(&str, &str)| {
        json!({"id": id(kind, resource), "name": format!("the {resource}"), "tags": {"env": format!("{account}%")},
            "properties": {"account_id": account, "vpc_id": "vpc-1"}})
    };
    let edge = |(source, target, edge_type): &(&str, &str, &str)| json!({"source": id("instance", source), "target": id("instance", target), "type": edge_type, "properties": {}});
    serde_json::from_value(json!({"scope": scope, "nodes": nodes.iter().map(node).collect::<Vec<_>>(),
        "edges": edges.iter().map(edge).collect::<Vec<_>>()}))
    .unwrap()
}

async fn bring(world: &World, tenant: TenantId, page: &Page) {
    let permit = world.permit::<ops::GraphIngest>(tenant);
    let mut ingest = world.store.ingest(permit, "aws".parse().unwrap()).await.unwrap();
    world.clock.advance(Duration::from_secs(10));
    ingest.page(page).await.unwrap();
    world.clock.advance(Duration::from_millis(1));
    let collection = CollectionId::generate(&*world.clock, &*world.rng);
    ingest.finish(&page.scope, &Coverage::Complete, collection).await.unwrap();
}

async fn draw(world: &World, tenant: TenantId, asked: &Asked, sketch: Sketch) -> Charted<Drawing> {
    let permit = world.permit::<ops::GraphOverview>(tenant);
    world.store.graph_draw(permit, asked, sketch).await.unwrap()
}

fn all(by: By) -> Sketch {
    Sketch { by, groups: true, elements: 50, ..Sketch::default() }
}

/// Groups with their counts of nodes, of nodes that are only named, and of edges inside.
fn groups(drawing: &Drawing) -> Vec<(String, u64, u64, u64)> {
    let told = drawing.view.elements.iter().map(|element| match &element.kind {
        ElementKind::Group(value) => (value.clone(), element.nodes, element.unseen, element.inside),
        other => panic!("{other:?}"),
    });
    let mut told: Vec<_> = told.collect();
    told.sort();
    told
}

fn trip(follow: Follow) -> Trip {
    Trip { follow, types: Vec::new(), hops: 16 }
}

#[tokio::test]
async fn an_overview_follows_every_change_and_the_past_stays_what_it_was() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let now = Asked::default();
        let empty = draw(world, tenant, &now, all(By::Account)).await;
        assert_eq!((groups(&empty.is), empty.is_current), (vec![], true));

        bring(
            world,
            tenant,
            &page("aws:1:s", "1", &[("instance", "a"), ("instance", "b"), ("vpc", "v")], &[("a", "b", "routes_to")]),
        )
        .await;
        bring(
            world,
            tenant,
            &page("aws:2:s", "2", &[("instance", "c")], &[("c", "a", "depends_on"), ("c", "x", "depends_on")]),
        )
        .await;
        let before = world.clock_now();
        let accounts = async |asked: &Asked| groups(&draw(world, tenant, asked, all(By::Account)).await.is);
        let first = vec![("1".to_owned(), 3, 0, 1), ("2".to_owned(), 1, 0, 0), ("aws:eu-west-1".to_owned(), 0, 1, 0)];
        assert_eq!(accounts(&now).await, first);
        let drawn = draw(world, tenant, &now, all(By::Account)).await;
        assert_eq!((drawn.is.nodes, drawn.is.edges), (Some(4), Some(3)));

        // `b` is gone, and with it the edge to it.
        bring(world, tenant, &page("aws:1:s", "1", &[("instance", "a"), ("vpc", "v")], &[])).await;
        let second = vec![("1".to_owned(), 2, 0, 0), ("2".to_owned(), 1, 0, 0), ("aws:eu-west-1".to_owned(), 0, 1, 0)];
        assert_eq!(accounts(&now).await, second);
        let past = Asked { as_of: Some(before), ..Asked::default() };
        assert_eq!(accounts(&past).await, first);
        // And back, with a gap.
        bring(
            world,
            tenant,
            &page("aws:1:s", "1", &[("instance", "a"), ("instance", "b"), ("vpc", "v")], &[("a", "b", "routes_to")]),
        )
        .await;
        assert_eq!(accounts(&now).await, first);
        let permit = world.permit::<ops::GraphOverview>(tenant);
        let moments = world.store.graph_moments(permit, 100).await.unwrap().is;
        let told: Vec<_> =
            moments.iter().map(|it| (it.nodes_begun, it.nodes_ended, it.edges_begun, it.edges_ended)).collect();
        assert_eq!(told, [(3, 0, 1, 0), (1, 0, 2, 0), (0, 1, 0, 1), (1, 0, 1, 0)]);
        for (moment, expected) in moments.iter().zip([None, Some(&first), Some(&second), Some(&first)]) {
            if let Some(expected) = expected {
                let asked = Asked { as_of: Some(moment.at), ..Asked::default() };
                assert_eq!(&accounts(&asked).await, expected);
            }
        }
        // What was only named is shown: now it is seen, and then it was not, and the edge to it was there.
        bring(world, tenant, &page("aws:3:s", "3", &[("instance", "x")], &[])).await;
        let third = vec![("1".to_owned(), 3, 0, 1), ("2".to_owned(), 1, 0, 0), ("3".to_owned(), 1, 0, 0)];
        assert_eq!(accounts(&now).await, third);
        let then = vec![("1".to_owned(), 3, 0, 1), ("2".to_owned(), 1, 0, 0), ("3".to_owned(), 0, 1, 0)];
        assert_eq!(accounts(&past).await, then);
        let sketch = Sketch { nodes: vec![NodeKey::of(&id("instance", "c"))], elements: 50, ..all(By::Account) };
        let links = draw(world, tenant, &past, sketch).await.is.view.links;
        assert_eq!(links.iter().map(|link| link.count).sum::<u64>(), 2, "from `c` to `a` and to `x`");
    })
    .await;
}

#[tokio::test]
async fn groups_open_nodes_are_found_and_paths_go_through_the_graph() {
    each_engine(async |world| {
        let tenant = world.tenant("acme").await;
        let nodes = [("instance", "a"), ("instance", "b"), ("instance", "d")];
        bring(world, tenant, &page("aws:1:s", "1", &nodes, &[("a", "b", "routes_to"), ("b", "d", "routes_to")])).await;
        bring(world, tenant, &page("aws:2:s", "2", &[("instance", "c")], &[("c", "a", "depends_on")])).await;
        let now = Asked::default();
        // One of the three is drawn, the rest is told.
        let open = vec![Opened { value: "1".to_owned(), most: 1 }];
        let drawn = draw(world, tenant, &now, Sketch { open, ..all(By::Account) }).await.is;
        let kinds: Vec<_> = drawn.view.elements.iter().map(|element| (&element.kind, element.nodes)).collect();
        let foremost = NodeKey::of(&id("instance", "a")).min(NodeKey::of(&id("instance", "b")));
        assert_eq!(kinds[0], (&ElementKind::Node(foremost), 1));
        assert_eq!(kinds[1], (&ElementKind::Rest("1".to_owned()), 2));
        assert_eq!(kinds[2], (&ElementKind::Group("2".to_owned()), 1));
        assert!(drawn.cards[&foremost].name.starts_with("the "));
        assert_eq!(drawn.cards[&foremost].portrait.network, "vpc-1");
        // By name and by tag, where `%` is a letter like any other.
        let count = async |find: NodeFind| {
            let asked = Asked { find, ..Asked::default() };
            draw(world, tenant, &asked, all(By::Account)).await.is.view.elements.iter().map(|it| it.nodes).sum::<u64>()
        };
        let text = |text: &str| NodeFind { text: Some(text.to_owned()), tag: None };
        let tag = |value: &str| NodeFind { text: None, tag: Some(("env".to_owned(), value.to_owned())) };
        assert_eq!(count(text("THE B")).await, 1);
        assert_eq!(count(text("ec2.instance")).await, 4);
        assert_eq!(count(text("%")).await, 0);
        assert_eq!(count(tag("1%")).await, 3);
        assert_eq!(count(tag("1")).await, 0);

        let permit = || world.permit::<ops::GraphOverview>(tenant);
        let members = |filter: Filter, after, limit| {
            let asked = Asked { filter, ..Asked::default() };
            let expansion = Expansion { group: Some((By::Account, "1".to_owned())), after, limit };
            let store = world.store.clone();
            let permit = permit();
            async move { store.graph_members(permit, &asked, expansion).await.unwrap() }
        };
        let first = members(Filter::default(), None, 2).await;
        assert_eq!(first.items.len(), 2);
        let second = members(Filter::default(), first.next, 2).await;
        assert_eq!((second.items.len(), second.next), (1, None));
        let none = Filter { kind: Some("aws.s3.*".to_owned()), ..Filter::default() };
        assert_eq!(members(none, None, Limits::LIST_ITEMS).await.items, []);

        let a = id("instance", "a");
        let beside = world.store.graph_neighbors(permit(), &now, &a, None, 10).await.unwrap().items;
        let mut told: Vec<_> = beside.iter().map(|one| (one.card.id.resource(), &one.out, &one.into)).collect();
        told.sort();
        assert_eq!(
            told,
            [("b", &vec!["routes_to".to_owned()], &vec![]), ("c", &vec![], &vec!["depends_on".to_owned()])]
        );

        let d = id("instance", "d");
        let found = world.store.graph_path(permit(), &now, (&a, &d), trip(Follow::Out)).await.unwrap().is;
        let names: Vec<_> = found.cards.iter().map(|card| card.id.resource().to_owned()).collect();
        assert_eq!(names, ["a", "b", "d"]);
        let none = world.store.graph_path(permit(), &now, (&d, &a), trip(Follow::Out)).await.unwrap().is;
        assert!(none.path.is_none() && none.cards.is_empty());
        // What `a` reaches, and what depends on it.
        let reach =
            world.store.graph_affected(permit(), &now, &a, trip(Follow::Impact), (By::Account, 2)).await.unwrap().is;
        assert_eq!((reach.affected.nodes, reach.affected.distances.clone(), reach.nearest.len()), (3, vec![2, 1], 2));
        assert_eq!(reach.affected.groups, [("1".to_owned(), 2), ("2".to_owned(), 1)]);
        let nobody = id("instance", "nobody");
        let refused = world.store.graph_path(permit(), &now, (&a, &nobody), trip(Follow::Out)).await;
        assert!(matches!(refused, Err(Error::NotFound { .. })));
    })
    .await;
}

#[tokio::test]
async fn another_tenants_graph_is_neither_shown_nor_mixed_in() {
    each_engine(async |world| {
        let (acme, other) = (world.tenant("acme").await, world.tenant("other").await);
        bring(world, acme, &page("aws:1:s", "1", &[("instance", "a"), ("instance", "b")], &[("a", "b", "routes_to")]))
            .await;
        let now = Asked::default();
        assert_eq!(draw(world, acme, &now, all(By::Kind)).await.is.view.elements.len(), 1);
        for as_of in [None, Some(world.clock_now())] {
            let asked = Asked { as_of, ..Asked::default() };
            let drawn =
                draw(world, other, &asked, Sketch { nodes: vec![NodeKey::of(&id("instance", "a"))], ..all(By::Kind) })
                    .await
                    .is;
            assert_eq!((drawn.view.elements.len(), drawn.view.missing.len()), (0, 1));
        }
        bring(world, other, &page("aws:1:s", "9", &[("instance", "a")], &[])).await;
        assert_eq!(groups(&draw(world, other, &now, all(By::Account)).await.is), [("9".to_owned(), 1, 0, 0)]);
        assert_eq!(groups(&draw(world, acme, &now, all(By::Account)).await.is), [("1".to_owned(), 2, 0, 1)]);
        let permit = world.permit::<ops::GraphOverview>(other);
        let refused = world.store.graph_neighbors(permit, &now, &id("instance", "b"), None, 10).await;
        assert!(matches!(refused, Err(Error::NotFound { .. })));
    })
    .await;
}
