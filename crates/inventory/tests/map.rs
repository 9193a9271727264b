//! Maps of random graphs with random histories, against a naive account of what is there: lists that are gone through from end to end.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "test code: where it fails, the test fails")]

use std::collections::{BTreeMap, BTreeSet};

use domain::{NodeId, Timestamp};
use inventory::NodeKey;
use inventory::map::{By, ElementKind, Filter, Follow, GraphMap, MapBuilder, Opened, Sketch, Trip, impact};
use proptest::prelude::*;

const TYPES: [&str; 4] = ["contains", "depends_on", "associated_with", "routes_to"];
const OPEN: i64 = i64::MAX;

#[derive(Debug, Clone)]
struct Node {
    id: NodeId,
    account: String,
    seen: bool,
    there: Vec<(i64, i64)>,
}

#[derive(Debug, Clone)]
struct Edge {
    from: usize,
    to: usize,
    kind: &'static str,
    there: Vec<(i64, i64)>,
}

#[derive(Debug, Clone)]
struct World {
    nodes: Vec<Node>,
    edges: Vec<Edge>,
}

fn holds(there: &[(i64, i64)], at: i64) -> bool {
    there.iter().any(|(from, to)| *from <= at && at < *to)
}

impl World {
    fn map(&self) -> GraphMap {
        let mut builder = MapBuilder::new(true);
        for node in &self.nodes {
            let key = NodeKey::of(&node.id);
            if node.seen {
                let properties = format!(r#"{{"account_id":"{}"}}"#, node.account);
                builder.node(key, &node.id, &properties, &mut node.there.clone());
            } else {
                builder.unseen(key, &node.id);
            }
        }
        let mut builder = builder.edges();
        let key = |node: usize| NodeKey::of(&self.nodes[node].id);
        for edge in &self.edges {
            builder.edge(key(edge.from), key(edge.to), edge.kind, &mut edge.there.clone());
        }
        let mut map = builder.build();
        map.set_findings((0..self.nodes.len()).step_by(3).map(|node| (key(node), [1, 0, 2, 0, 0])));
        map
    }

    fn is_seen(&self, node: usize, at: i64) -> bool {
        self.nodes[node].seen && holds(&self.nodes[node].there, at)
    }

    /// Nobody knows that it is not: it was not shown yet, or is there.
    fn is_there(&self, node: usize, at: i64) -> bool {
        let Node { seen, there, .. } = &self.nodes[node];
        !seen || holds(there, at) || there.iter().all(|(from, _)| at < *from)
    }

    fn edges_at(&self, at: i64) -> Vec<&Edge> {
        let is = |edge: &&Edge| holds(&edge.there, at) && self.is_there(edge.from, at) && self.is_there(edge.to, at);
        self.edges.iter().filter(is).collect()
    }

    fn is_drawn(&self, node: usize, at: i64) -> bool {
        self.is_there(node, at)
            && (self.is_seen(node, at) || self.edges_at(at).iter().any(|edge| edge.from == node || edge.to == node))
    }

    fn group(&self, node: usize) -> String {
        // What is only named has no properties.
        if self.nodes[node].seen { self.nodes[node].account.clone() } else { "aws:r".to_owned() }
    }

    /// Where one gets in one step.
    fn next(&self, node: usize, at: i64, follow: Follow) -> BTreeSet<usize> {
        let mut next = BTreeSet::new();
        for edge in self.edges_at(at) {
            let follow = if follow == Follow::Impact { impact(edge.kind) } else { follow };
            if edge.from == node && matches!(follow, Follow::Out | Follow::Any) {
                next.insert(edge.to);
            }
            if edge.to == node && matches!(follow, Follow::In | Follow::Any) {
                next.insert(edge.from);
            }
        }
        next
    }

    /// How far everything is.
    fn distances(&self, from: usize, at: i64, follow: Follow) -> BTreeMap<usize, u32> {
        let (mut found, mut edge, mut far) = (BTreeMap::from([(from, 0)]), vec![from], 0);
        while !edge.is_empty() {
            far += 1;
            let next: BTreeSet<usize> = edge.iter().flat_map(|node| self.next(*node, at, follow)).collect();
            edge = next.into_iter().filter(|node| !found.contains_key(node)).collect();
            found.extend(edge.iter().map(|node| (*node, far)));
        }
        found
    }
}

fn history() -> impl Strategy<Value = Vec<(i64, i64)>> {
    let closed = (0..8_i64, 1..4_i64).prop_map(|(from, long)| (from, from + long));
    (prop::collection::vec(closed, 0..2), prop::option::of(8..14_i64)).prop_map(|(mut there, open)| {
        there.extend(open.map(|from| (from, OPEN)));
        if there.is_empty() {
            there.push((3, OPEN));
        }
        there
    })
}

fn world() -> impl Strategy<Value = World> {
    let node = (0..3_u8, prop::bool::weighted(0.8), history());
    prop::collection::vec(node, 1..14).prop_flat_map(|nodes| {
        let count = nodes.len();
        let edge = (0..count, 0..count, 0..TYPES.len(), history());
        prop::collection::vec(edge, 0..40).prop_map(move |edges| World {
            nodes: nodes
                .iter()
                .enumerate()
                .map(|(n, (account, seen, there))| Node {
                    id: format!("aws:r:aws.thing:n{n}").parse().unwrap(),
                    account: format!("a{account}"),
                    seen: *seen,
                    there: there.clone(),
                })
                .collect(),
            edges: edges
                .into_iter()
                .map(|(from, to, kind, there)| Edge { from, to, kind: TYPES[kind], there })
                .collect(),
        })
    })
}

fn moment(at: i64) -> Option<Timestamp> {
    (at < 15).then(|| Timestamp::from_millis(at))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn groups_and_the_edges_between_them_are_what_counting_gives(world in world(), at in 0..16_i64, elements in 1..6_usize) {
        let map = world.map();
        let mut nodes: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for node in (0..world.nodes.len()).filter(|node| world.is_drawn(*node, at)) {
            let counts = nodes.entry(world.group(node)).or_default();
            if world.is_seen(node, at) { counts.0 += 1 } else { counts.1 += 1 }
        }
        let mut edges: BTreeMap<(String, String), u64> = BTreeMap::new();
        for edge in world.edges_at(at) {
            *edges.entry((world.group(edge.from), world.group(edge.to))).or_default() += 1;
        }
        // All of it, from the summary and from the map.
        let overview = map.summary(moment(at)).overview(By::Account, &Filter::default(), 100);
        let sketch = Sketch { groups: true, elements: 100, ..Sketch::default() };
        let view = map.view(moment(at), &sketch).unwrap();
        let told: BTreeMap<String, (u64, u64)> =
            overview.groups.iter().map(|group| (group.value.clone().unwrap(), (group.nodes, group.unseen))).collect();
        prop_assert_eq!(&told, &nodes);
        let drawn: BTreeMap<String, (u64, u64)> = view.elements.iter().map(|element| match &element.kind {
            ElementKind::Group(value) => (value.clone(), (element.nodes, element.unseen)),
            other => panic!("{other:?}"),
        }).collect();
        prop_assert_eq!(&drawn, &nodes);
        let name = |place: u32| overview.groups[place as usize].value.clone().unwrap();
        let mut counted: BTreeMap<(String, String), u64> =
            overview.links.iter().map(|link| ((name(link.source), name(link.target)), link.count)).collect();
        counted.extend(overview.groups.iter().filter(|group| group.inside > 0).map(|group| {
            let value = group.value.clone().unwrap();
            ((value.clone(), value), group.inside)
        }));
        prop_assert_eq!(&counted, &edges);
        // However little fits, nothing is lost.
        for sum in [
            map.summary(moment(at)).overview(By::Account, &Filter::default(), elements).groups.iter()
                .map(|group| (group.groups, group.nodes, group.unseen, group.inside)).collect::<Vec<_>>(),
            map.view(moment(at), &Sketch { elements, ..sketch.clone() }).unwrap().elements.iter()
                .map(|group| (group.groups, group.nodes, group.unseen, group.inside)).collect::<Vec<_>>(),
        ] {
            prop_assert!(sum.len() <= elements);
            prop_assert_eq!(sum.iter().map(|one| one.0).sum::<u64>(), nodes.len() as u64);
            prop_assert_eq!(sum.iter().map(|one| one.1).sum::<u64>(), nodes.values().map(|one| one.0).sum::<u64>());
            prop_assert_eq!(sum.iter().map(|one| one.2).sum::<u64>(), nodes.values().map(|one| one.1).sum::<u64>());
        }
    }

    #[test]
    fn an_opened_group_and_its_rest_are_the_group(world in world(), most in 1..5_usize, pinned in 0..14_usize, elements in 1..13_usize) {
        let map = world.map();
        let key = |node: usize| NodeKey::of(&world.nodes[node].id);
        let pinned: Vec<NodeKey> = (0..world.nodes.len()).filter(|node| *node == pinned).map(key).collect();
        let sketch = Sketch {
            groups: true,
            elements,
            open: ["a0", "a1", "nothing"].map(|value| Opened { value: value.to_owned(), most }).to_vec(),
            nodes: pinned.clone(),
            ..Sketch::default()
        };
        let open: BTreeSet<String> =
            (0..world.nodes.len()).filter(|node| world.is_drawn(*node, 20) && !pinned.contains(&key(*node))).map(|node| world.group(node))
                .filter(|group| ["a0", "a1"].contains(&group.as_str())).collect();
        let alone = (0..world.nodes.len()).filter(|node| world.is_drawn(*node, 20) && pinned.contains(&key(*node))).count();
        let Ok(view) = map.view(None, &sketch) else {
            prop_assert!(pinned.len() >= elements || open.len() + alone >= elements);
            return Ok(());
        };
        prop_assert!(view.elements.len() <= elements);
        let all = (0..world.nodes.len()).filter(|node| world.is_drawn(*node, 20)).count() as u64;
        prop_assert_eq!(view.elements.iter().map(|one| one.nodes + one.unseen).sum::<u64>(), all);
        let findings = (0..world.nodes.len()).step_by(3).filter(|node| world.is_drawn(*node, 20)).count() as u64 * 3;
        prop_assert_eq!(view.elements.iter().map(|one| one.findings.total()).sum::<u64>(), findings);
        let inside: u64 = view.elements.iter().map(|one| one.inside).sum();
        let between: u64 = view.links.iter().map(|link| link.count).sum();
        prop_assert_eq!(inside + between + view.edges_left, world.edges_at(20).len() as u64);
        let shown = view.elements.iter().filter(|one| matches!(one.kind, ElementKind::Node(_))).count();
        prop_assert!(shown <= 2 * most + pinned.len());
        prop_assert!(view.missing.iter().all(|key| pinned.contains(key)));
    }

    #[test]
    fn ways_are_what_walking_gives(world in world(), at in 0..16_i64, from in 0..14_usize, to in 0..14_usize, hops in 1..6_u32) {
        let map = world.map();
        let (from, to) = (from % world.nodes.len(), to % world.nodes.len());
        let key = |node: usize| NodeKey::of(&world.nodes[node].id);
        let both = world.is_drawn(from, at) && world.is_drawn(to, at);
        for follow in [Follow::Out, Follow::In, Follow::Any, Follow::Impact] {
            let trip = Trip { follow, types: Vec::new(), hops };
            let far = world.distances(from, at, follow);
            let path = map.path(moment(at), key(from), key(to), &trip);
            let expected = far.get(&to).copied().filter(|far| both && *far <= hops);
            prop_assert_eq!(path.as_ref().map(|path| path.steps.len()), expected.map(|far| far as usize));
            if let Some(path) = path {
                let place = |key: &NodeKey| (0..world.nodes.len()).find(|node| NodeKey::of(&world.nodes[*node].id) == *key).unwrap();
                prop_assert_eq!((place(&path.nodes[0]), place(path.nodes.last().unwrap())), (from, to));
                for (pair, step) in path.nodes.windows(2).zip(&path.steps) {
                    prop_assert!(world.next(place(&pair[0]), at, follow).contains(&place(&pair[1])));
                    prop_assert!(!step.types.is_empty());
                }
            }
            let reach = map.affected(moment(at), key(from), &trip, By::Account, 3);
            prop_assert_eq!(reach.is_some(), world.is_drawn(from, at));
            if let Some(reach) = reach {
                let within: Vec<usize> = far.iter().filter(|(_, far)| (1..=hops).contains(*far)).map(|(node, _)| *node).collect();
                prop_assert_eq!(reach.nodes + reach.unseen, within.len() as u64);
                prop_assert_eq!(reach.distances.iter().sum::<u64>(), within.len() as u64);
                prop_assert_eq!(reach.groups.iter().map(|(_, count)| count).sum::<u64>(), within.len() as u64);
                prop_assert_eq!(reach.goes_on, far.values().any(|far| *far > hops));
                prop_assert_eq!(reach.nearest.len(), within.len().min(3));
            }
        }
        // Neighbours and members, page by page.
        let mut beside: BTreeSet<NodeKey> = BTreeSet::new();
        for edge in world.edges_at(at) {
            if edge.from == from { beside.insert(key(edge.to)); }
            if edge.to == from { beside.insert(key(edge.from)); }
        }
        if world.is_drawn(from, at) {
            let (mut seen, mut after) = (Vec::new(), None);
            loop {
                let page = map.neighbors(moment(at), key(from), after, 2).unwrap();
                after = page.last().map(|one| one.node);
                if page.is_empty() { break }
                seen.extend(page.into_iter().map(|one| one.node));
            }
            prop_assert_eq!(seen, beside.into_iter().collect::<Vec<_>>());
        } else {
            prop_assert!(map.neighbors(moment(at), key(from), None, 2).is_none());
        }
        let members: BTreeSet<NodeKey> = (0..world.nodes.len())
            .filter(|node| world.is_drawn(*node, at) && world.group(*node) == "a1")
            .map(key)
            .collect();
        let listed = map.members(moment(at), &Filter::default(), Some((By::Account, "a1")), None, 100);
        prop_assert_eq!(listed, members.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn moments_tell_every_change_once(world in world(), most in 1..5_usize) {
        let moments = world.map().moments(most);
        prop_assert!(moments.len() <= most.max(1));
        // Intervals that touch are one.
        let changes = |there: &[(i64, i64)]| {
            let times = |end: bool| there.iter().map(move |(from, to)| if end { *to } else { *from }).collect::<BTreeSet<i64>>();
            let is = |at: &i64| (holds(there, *at), holds(there, *at - 1));
            let begun = times(false).iter().filter(|at| is(at) == (true, false)).count() as u64;
            let ended = times(true).iter().filter(|at| **at != OPEN && is(at) == (false, true)).count() as u64;
            (begun, ended)
        };
        let nodes: Vec<(u64, u64)> = world.nodes.iter().filter(|node| node.seen).map(|node| changes(&node.there)).collect();
        let edges: Vec<(u64, u64)> = world.edges.iter().map(|edge| changes(&edge.there)).collect();
        prop_assert_eq!(moments.iter().map(|one| one.nodes_begun).sum::<u64>(), nodes.iter().map(|one| one.0).sum::<u64>());
        prop_assert_eq!(moments.iter().map(|one| one.nodes_ended).sum::<u64>(), nodes.iter().map(|one| one.1).sum::<u64>());
        prop_assert_eq!(moments.iter().map(|one| one.edges_begun).sum::<u64>(), edges.iter().map(|one| one.0).sum::<u64>());
        prop_assert_eq!(moments.iter().map(|one| one.edges_ended).sum::<u64>(), edges.iter().map(|one| one.1).sum::<u64>());
    }
}

#[test]
fn filters_narrow_and_findings_stay_out_of_the_past() {
    let mut builder = MapBuilder::new(true);
    let ids = ["aws:r:aws.ec2.instance:i-1", "aws:r:aws.s3.bucket:b", "host:lab:host.machine:m"];
    let keys = ids.map(|id| NodeKey::of(&id.parse().unwrap()));
    for (id, key) in ids.iter().zip(keys) {
        builder.node(key, &id.parse().unwrap(), "{}", &mut vec![(0, OPEN)]);
    }
    let mut map = builder.edges().build();
    map.set_findings([(keys[0], [1, 0, 0, 0, 0])]);
    let summary = map.summary(None);
    let count =
        |filter: Filter| summary.overview(By::Kind, &filter, 10).groups.iter().map(|group| group.nodes).sum::<u64>();
    assert_eq!(count(Filter { kind: Some("aws.*".to_owned()), ..Filter::default() }), 2);
    assert_eq!(count(Filter { kind: Some("aws.s3.bucket".to_owned()), ..Filter::default() }), 1);
    assert_eq!(count(Filter { provider: Some("host".to_owned()), ..Filter::default() }), 1);
    assert_eq!(count(Filter { network: Some(String::new()), ..Filter::default() }), 2);
    assert_eq!(count(Filter { account: Some("nobody".to_owned()), ..Filter::default() }), 0);
    let findings = |moment| {
        let overview = map.summary(moment).overview(By::Kind, &Filter::default(), 10);
        overview.groups.iter().map(|group| group.findings.critical).sum::<u64>()
    };
    assert_eq!((findings(None), findings(Some(Timestamp::from_millis(5)))), (1, 0));
    let stored: inventory::map::Summary = serde_json::from_str(&serde_json::to_string(&summary).unwrap()).unwrap();
    assert_eq!(stored, summary);
    let too_many = Sketch { nodes: keys.to_vec(), elements: 3, ..Sketch::default() };
    assert!(map.view(None, &too_many).is_err());
}

#[test]
fn findings_choose_nodes_only_for_whoever_may_read_them_and_only_now() {
    let mut builder = MapBuilder::new(true);
    let ids = ["aws:r:aws.thing:hub", "aws:r:aws.thing:leaf", "aws:r:aws.thing:bad"];
    let keys = ids.map(|id| NodeKey::of(&id.parse().unwrap()));
    for (id, key) in ids.iter().zip(keys) {
        builder.node(key, &id.parse().unwrap(), r#"{"account_id":"1"}"#, &mut vec![(0, OPEN)]);
    }
    let mut builder = builder.edges();
    builder.edge(keys[0], keys[1], "contains", &mut vec![(0, OPEN)]);
    let mut map = builder.build();
    map.set_findings([(keys[2], [1, 0, 0, 0, 0])]);
    let first = |findings: bool, moment: Option<Timestamp>| {
        let open = vec![Opened { value: "1".to_owned(), most: 1 }];
        let sketch = Sketch { groups: true, elements: 10, open, findings, ..Sketch::default() };
        map.view(moment, &sketch).unwrap().elements[0].kind.clone()
    };
    assert_eq!(first(true, None), ElementKind::Node(keys[2]));
    assert_ne!(first(false, None), ElementKind::Node(keys[2]));
    assert_ne!(first(true, moment(5)), ElementKind::Node(keys[2]));
}
