//! Random sequences of runs, planned and applied to a graph in memory, against a naive account of what they mean.
//!
//! The naive account knows nothing of plans: for each item it keeps who shows what, in order, and it notes what the graph looks like after
//! every step. The planned graph must agree after every step, and its history must give back every one of those notes.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "test code: where it fails, the test fails")]

use std::collections::{BTreeMap, HashMap, HashSet};

use domain::{Coverage, EdgeObservation, NodeObservation, Page, ScopeId, SourceId, Timestamp};
use inventory::{
    Changes, Claim, ContentHash, Current, Departures, Item, Known, NodeKey, Past, Prepared, ScopeKey, Seen, plan_close,
    plan_page,
};
use proptest::prelude::*;

fn source() -> SourceId {
    "a".parse().unwrap()
}

/// What is known of one kind of item, as `store` keeps it.
#[derive(Default)]
struct Table {
    rows: HashMap<u128, (Current, String)>,
    past: HashMap<u128, Vec<(Past, String)>>,
    claims: HashMap<u128, Vec<(Claim, String)>>,
}

impl Table {
    fn known<K: From<u128> + Eq + std::hash::Hash>(&self) -> HashMap<K, Current> {
        self.rows.iter().map(|(key, (current, _))| (K::from(*key), *current)).collect()
    }

    fn own_claims<K: From<u128> + Eq + std::hash::Hash>(&self, scope: ScopeKey) -> HashMap<K, ContentHash> {
        let own = |claims: &[(Claim, String)]| {
            claims.iter().find(|(claim, _)| claim.scope == scope).map(|(claim, _)| claim.hash)
        };
        self.claims.iter().filter_map(|(key, claims)| Some((K::from(*key), own(claims)?))).collect()
    }

    fn end_version(&mut self, key: u128, past: Option<Past>) {
        let content = self.rows[&key].1.clone();
        self.past.entry(key).or_default().extend(past.map(|past| (past, content)));
    }

    fn apply<I: Item<Key: Into<u128>>>(
        &mut self,
        changes: &Changes<'_, I>,
        text: impl Fn(&I) -> String,
        scope: ScopeKey,
        now: Timestamp,
    ) {
        let row = |item: &I, at| {
            (Current { hash: item.hash(), scope, observed: true, valid_from: at, closed_at: None }, text(item))
        };
        for item in &changes.insert {
            assert!(self.rows.insert(item.key().into(), row(item, now)).is_none(), "an insert of what is there");
        }
        for rewrite in changes.rewrites() {
            self.end_version(rewrite.item.key().into(), rewrite.past);
            self.rows.insert(rewrite.item.key().into(), row(rewrite.item, rewrite.at));
        }
        for item in &changes.claim {
            let claims = self.claims.entry(item.key().into()).or_default();
            let since = claims.iter().find(|(claim, _)| claim.scope == scope).map_or(now, |(claim, _)| claim.since);
            claims.retain(|(claim, _)| claim.scope != scope);
            claims.push((Claim { scope, since, hash: item.hash() }, text(item)));
        }
    }

    /// Ends a scope; what it changed.
    fn finish(&mut self, scope: ScopeKey, coverage: &Coverage, seen: &HashSet<u128>, now: Timestamp) -> usize {
        if !coverage.may_close() {
            return 0;
        }
        let mut changed = 0;
        for (key, claims) in &mut self.claims {
            let before = claims.len();
            claims.retain(|(claim, _)| claim.scope != scope || seen.contains(key));
            changed += before - claims.len();
        }
        let unseen: HashMap<u128, Current> = self
            .rows
            .iter()
            .filter(|(key, _)| !seen.contains(key))
            .map(|(key, (current, _))| (*key, *current))
            .collect();
        let claims =
            self.claims.iter().map(|(key, claims)| (*key, claims.iter().map(|(claim, _)| *claim).collect())).collect();
        let Departures { close, hand_over } = plan_close(coverage, scope, &unseen, &claims, now);
        changed += close.len() + hand_over.len();
        for (key, at) in close {
            self.rows.get_mut(&key).unwrap().0.closed_at = Some(at);
        }
        for heir in hand_over {
            self.end_version(heir.key, heir.past);
            let claims = self.claims.get_mut(&heir.key).unwrap();
            let at = claims.iter().position(|(claim, _)| claim.scope == heir.to).unwrap();
            let (claim, content) = claims.remove(at);
            let current =
                Current { hash: claim.hash, scope: heir.to, observed: true, valid_from: heir.at, closed_at: None };
            self.rows.insert(heir.key, (current, content));
        }
        changed
    }

    fn as_of(&self, t: Timestamp) -> BTreeMap<u128, String> {
        let mut there = BTreeMap::new();
        for (key, (current, content)) in &self.rows {
            if current.observed && current.valid_from <= t && current.closed_at.is_none_or(|closed_at| closed_at > t) {
                there.insert(*key, content.clone());
            }
        }
        for (key, versions) in &self.past {
            for (past, content) in versions {
                if past.valid_from <= t && past.valid_to > t {
                    assert!(there.insert(*key, content.clone()).is_none(), "two versions hold one moment");
                }
            }
        }
        there
    }

    fn check_intervals(&self) {
        for (key, versions) in &self.past {
            let current = self.rows[key].0;
            let mut ends: Vec<(Timestamp, Timestamp)> =
                versions.iter().map(|(past, _)| (past.valid_from, past.valid_to)).collect();
            ends.push((current.valid_from, current.closed_at.unwrap_or(Timestamp::from_millis(i64::MAX))));
            ends.sort_unstable();
            assert!(ends.iter().all(|(from, to)| from < to), "an empty version: {ends:?}");
            assert!(ends.windows(2).all(|pair| pair[0].1 <= pair[1].0), "versions overlap: {ends:?}");
        }
    }
}

#[derive(Default)]
struct Graph {
    nodes: Table,
    edges: Table,
}

impl Graph {
    /// Takes in a page as `store` does; how many rows it would write.
    fn page(&mut self, page: &Page, seen: &mut Seen, now: Timestamp) -> usize {
        let prepared = Prepared::new(&source(), page).unwrap();
        let known = Known {
            nodes: self.nodes.known(),
            edges: self.edges.known(),
            node_claims: self.nodes.own_claims(prepared.scope),
            edge_claims: self.edges.own_claims(prepared.scope),
        };
        let plan = plan_page(&prepared, &known, seen, &HashSet::new(), now);
        let counts = plan.counts();
        let written = [
            counts.nodes_inserted,
            counts.nodes_updated,
            counts.nodes_reopened,
            counts.placeholders,
            counts.edges_inserted,
            counts.edges_updated,
            counts.edges_reopened,
            counts.claims,
        ];
        assert_eq!(plan.is_empty(), written.iter().sum::<usize>() == 0);
        self.nodes.apply(&plan.nodes, |node| format!("{} {}", node.name, node.properties), prepared.scope, now);
        for (key, id) in &plan.placeholders {
            let current =
                Current { hash: ContentHash(0), scope: ScopeKey(0), observed: false, valid_from: now, closed_at: None };
            assert!(self.nodes.rows.insert(key.0, (current, id.resource().to_owned())).is_none());
        }
        self.edges.apply(&plan.edges, |edge| edge.properties.clone(), prepared.scope, now);
        for edge in &prepared.edges {
            assert!(
                [edge.source, edge.target].iter().all(|end| self.nodes.rows.contains_key(&end.0)),
                "an edge without its end"
            );
        }
        seen.add(&prepared);
        written.iter().sum()
    }

    fn finish(&mut self, scope: &ScopeId, coverage: &Coverage, seen: &Seen, now: Timestamp) -> usize {
        let scope = ScopeKey::of(&source(), scope);
        let nodes = self.nodes.finish(scope, coverage, &seen.nodes.iter().map(|key| key.0).collect(), now);
        nodes + self.edges.finish(scope, coverage, &seen.edges.iter().map(|key| key.0).collect(), now)
    }
}

/// Who shows what of one item, and since when. The first is the owner.
type Shows = Vec<(String, String, Timestamp)>;

/// What the steps mean, told without plans, keys or hashes.
#[derive(Default)]
struct Naive {
    nodes: BTreeMap<String, Shows>,
    edges: BTreeMap<String, Shows>,
}

impl Naive {
    fn show(shows: &mut Shows, scope: &str, content: String, now: Timestamp) {
        match shows.iter_mut().find(|(by, ..)| by == scope) {
            Some((_, held, _)) => *held = content,
            None => shows.push((scope.to_owned(), content, now)),
        }
    }

    fn finish(items: &mut BTreeMap<String, Shows>, scope: &str, shown: &HashSet<String>) {
        for (item, shows) in items {
            let owner = shows.first().map(|(by, ..)| by.clone());
            shows.retain(|(by, ..)| by != scope || shown.contains(item));
            if owner.as_ref() != shows.first().map(|(by, ..)| by) {
                // The oldest claim by the clock, which may have gone back.
                shows.sort_by_key(|(by, _, since)| (*since, ScopeKey::of(&source(), &by.parse().unwrap())));
            }
        }
    }
}

#[derive(Debug, Clone)]
struct Shown {
    node: u8,
    content: u8,
    edge_to: Option<u8>,
}

#[derive(Debug, Clone)]
struct Run {
    scope: u8,
    pages: Vec<Vec<Shown>>,
    coverage: u8,
    /// Stops after this many pages and begins again.
    crash_after: Option<usize>,
    /// The clock's step before it, also backwards or none.
    step: i64,
}

fn node_id(n: u8) -> String {
    format!("p:r:p.thing:{n}")
}

fn page(scope: u8, shown: &[Shown]) -> Page {
    let id = |n: u8| node_id(n).parse().unwrap();
    let content = |n: u8| serde_json::from_value(serde_json::json!({ "content": n })).unwrap();
    Page {
        scope: format!("scope:{scope}").parse().unwrap(),
        nodes: shown
            .iter()
            .map(|s| NodeObservation {
                id: id(s.node),
                name: format!("n{}", s.node),
                properties: content(s.content),
                tags: [].into(),
            })
            .collect(),
        edges: shown
            .iter()
            .filter_map(|s| {
                Some(EdgeObservation {
                    source: id(s.node),
                    target: id(s.edge_to?),
                    edge_type: "to".parse().unwrap(),
                    discriminator: String::new(),
                    properties: content(s.content),
                })
            })
            .collect(),
    }
}

fn coverage(n: u8) -> Coverage {
    let reason = "because".to_owned();
    match n {
        0 => Coverage::Partial { reason },
        1 => Coverage::Denied { reason },
        2 => Coverage::Throttled { reason },
        3 => Coverage::Failed { reason },
        4 => Coverage::Absent { reason },
        _ => Coverage::Complete,
    }
}

fn runs() -> impl Strategy<Value = Vec<Run>> {
    let shown = (0..8u8, 0..3u8, prop::option::of(0..10u8)).prop_map(|(node, content, edge_to)| Shown {
        node,
        content,
        edge_to,
    });
    let pages = prop::collection::vec(prop::collection::vec(shown, 0..5), 0..4);
    let run =
        (0..3u8, pages, 0..9u8, prop::option::weighted(0.2, 0..3usize), prop::sample::select(vec![1, 1, 1, 5, 0, -3]))
            .prop_map(|(scope, pages, coverage, crash_after, step)| Run { scope, pages, coverage, crash_after, step });
    prop::collection::vec(run, 1..10)
}

/// One run of one task, in both accounts. `note` is called after everything that changed something.
fn play(
    run: &Run,
    graph: &mut Graph,
    naive: &mut Naive,
    now: &mut Timestamp,
    mut note: impl FnMut(&Graph, &Naive, Timestamp),
) -> usize {
    let scope = format!("scope:{}", run.scope);
    let tries: Vec<usize> =
        run.crash_after.into_iter().map(|n| n.min(run.pages.len())).chain([run.pages.len()]).collect();
    let (mut written, last) = (0, tries.len() - 1);
    for (attempt, pages) in tries.into_iter().enumerate() {
        let (mut seen, mut shown_nodes, mut shown_edges) = (Seen::default(), HashSet::new(), HashSet::new());
        for shown in &run.pages[..pages] {
            written += graph.page(&page(run.scope, shown), &mut seen, *now);
            for s in shown {
                let content = format!("n{} {{\"content\":{}}}", s.node, s.content);
                if shown_nodes.insert(node_id(s.node)) {
                    Naive::show(naive.nodes.entry(node_id(s.node)).or_default(), &scope, content, *now);
                }
                let Some(to) = s.edge_to else { continue };
                let edge = format!("{} {}", s.node, to);
                if shown_edges.insert(edge.clone()) {
                    Naive::show(
                        naive.edges.entry(edge).or_default(),
                        &scope,
                        format!("{{\"content\":{}}}", s.content),
                        *now,
                    );
                }
            }
            note(graph, naive, *now);
            *now = now.plus_millis(1);
        }
        if attempt == last {
            let coverage = coverage(run.coverage);
            written += graph.finish(&scope.parse().unwrap(), &coverage, &seen, *now);
            if coverage.may_close() {
                Naive::finish(&mut naive.nodes, &scope, &shown_nodes);
                Naive::finish(&mut naive.edges, &scope, &shown_edges);
            }
            note(graph, naive, *now);
        }
    }
    written
}

/// What is there now, by naive account, under the graph's keys.
fn naive_nodes(naive: &Naive) -> BTreeMap<u128, String> {
    let there = naive
        .nodes
        .iter()
        .filter_map(|(id, shows)| Some((NodeKey::of(&id.parse().unwrap()).0, shows.first()?.1.clone())));
    there.collect()
}

fn naive_edges(naive: &Naive) -> BTreeMap<u128, String> {
    let key = |edge: &str| {
        let (from, to) = edge.split_once(' ').unwrap();
        let end = |n: &str| NodeKey::of(&node_id(n.parse().unwrap()).parse().unwrap());
        inventory::EdgeKey::of(end(from), &"to".parse().unwrap(), end(to), "").0
    };
    naive.edges.iter().filter_map(|(edge, shows)| Some((key(edge), shows.first()?.1.clone()))).collect()
}

const END: Timestamp = Timestamp::from_millis(i64::MAX - 1);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_sequence_of_runs_means_what_it_says(runs in runs()) {
        let (mut graph, mut naive, mut now) = (Graph::default(), Naive::default(), Timestamp::from_millis(1_000));
        for run in &runs {
            now = now.plus_millis(run.step);
            play(run, &mut graph, &mut naive, &mut now, |graph, naive, _| {
                assert_eq!(graph.nodes.as_of(END), naive_nodes(naive));
                assert_eq!(graph.edges.as_of(END), naive_edges(naive));
                graph.nodes.check_intervals();
                graph.edges.check_intervals();
            });
        }
    }

    #[test]
    fn as_of_gives_back_every_moment_while_the_clock_goes_forward(runs in runs()) {
        let (mut graph, mut naive, mut now) = (Graph::default(), Naive::default(), Timestamp::from_millis(1_000));
        let mut notes = Vec::new();
        for run in &runs {
            now = now.plus_millis(run.step.abs() + 1);
            play(run, &mut graph, &mut naive, &mut now, |_, naive, at| {
                notes.push((at, naive_nodes(naive), naive_edges(naive)));
            });
            now = now.plus_millis(1);
        }
        for (at, nodes, edges) in notes {
            prop_assert_eq!(graph.nodes.as_of(at), nodes, "nodes at {}", at);
            prop_assert_eq!(graph.edges.as_of(at), edges, "edges at {}", at);
        }
    }

    #[test]
    fn a_second_identical_job_writes_nothing(runs in runs(), before in runs()) {
        let (mut graph, mut naive, mut now) = (Graph::default(), Naive::default(), Timestamp::from_millis(1_000));
        // A job reads each scope once; what one scope shows twice in two ways is settled within its task.
        let mut scopes = HashSet::new();
        let job: Vec<&Run> = runs.iter().filter(|run| scopes.insert(run.scope)).collect();
        for run in before.iter().chain(job.iter().copied()) {
            play(run, &mut graph, &mut naive, &mut now, |_, _, _| ());
        }
        for run in job {
            let written = play(run, &mut graph, &mut naive, &mut now, |_, _, _| ());
            prop_assert_eq!(written, 0, "scope {}", run.scope);
        }
    }
}
