//! A tenant's graph in memory, small enough to look at as a whole: which nodes and edges were there when, and in which account, network,
//! region and kind each node is. Nothing of their contents.
//!
//! Nodes are in the order of their keys and adjacency is in compressed rows of 32-bit indices, in both directions. Nodes that agree in all that
//! they are grouped by share a [`Cell`], and nodes and edges that were there at the same times share a span, so that a node takes 24 bytes and
//! an edge 24.
//!
//! Invariants:
//! - an edge is there at a moment if its source showed it then and neither end is known to be gone;
//! - a node that only edges name is drawn while such an edge is there, and counted apart from those that were seen;
//! - what does not fit under a cap is in an element that says how much it stands for.

mod facts;
mod summary;
mod travel;
mod view;

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use domain::{NodeId, Timestamp};

use crate::NodeKey;

pub use facts::{Facts, place};
pub use summary::{By, CellCount, Filter, Overview, OverviewGroup, OverviewLink, Severities, Summary};
pub use travel::{Affected, Follow, Moment, Neighbor, Path, Portrait, Step, Trip, Way, impact};
pub use view::{Element, ElementKind, Link, Opened, Sketch, View};

/// The end of what has not ended.
const OPEN: i64 = i64::MAX;
/// The moment that stands for now: everything that is open has begun, and nothing that is open has ended.
const NOW: i64 = i64::MAX - 1;

/// From when on, and before when.
pub type Interval = (i64, i64);

/// What nodes are grouped by; numbers of texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Cell {
    provider: u32,
    region: u32,
    kind: u32,
    account: u32,
    network: u32,
}

/// One end of an edge, as the other one sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hop {
    node: u32,
    kind: u32,
    span: u32,
}

/// Compressed rows: the hops of node `n` are `hops[starts[n]..starts[n + 1]]`, in the order of the nodes that they lead to.
#[derive(Debug, Clone, Default)]
struct Rows {
    starts: Vec<u32>,
    hops: Vec<Hop>,
}

impl Rows {
    fn of(&self, node: u32) -> &[Hop] {
        let at = |n: usize| self.starts.get(n).map_or(0, |start| index(*start));
        self.hops.get(at(index(node))..at(index(node) + 1)).unwrap_or_default()
    }

    /// Counting sort by the first of each pair; then each row by itself.
    fn build(nodes: usize, edges: &[(u32, u32, u32, u32)], from_target: bool) -> Self {
        let ends = |edge: &(u32, u32, u32, u32)| if from_target { (edge.1, edge.0) } else { (edge.0, edge.1) };
        let mut starts = vec![0_u32; nodes + 1];
        for edge in edges {
            if let Some(count) = starts.get_mut(index(ends(edge).0) + 1) {
                *count += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut next = starts.clone();
        let mut hops = vec![Hop { node: 0, kind: 0, span: 0 }; edges.len()];
        for edge in edges {
            let (from, to) = ends(edge);
            if let Some(place) = next.get_mut(index(from)) {
                if let Some(hop) = hops.get_mut(index(*place)) {
                    *hop = Hop { node: to, kind: edge.2, span: edge.3 };
                }
                *place += 1;
            }
        }
        let rows = Self { starts, hops: Vec::new() };
        for pair in rows.starts.windows(2) {
            if let [begin, end] = pair
                && let Some(row) = hops.get_mut(index(*begin)..index(*end))
            {
                row.sort_unstable();
            }
        }
        Self { hops, ..rows }
    }
}

/// Keys are hashes already.
#[derive(Debug, Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, byte| hash.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u128(&mut self, key: u128) {
        // The low half of a key is as random as the high one, and whoever chooses an id does not choose its SHA-256.
        #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
        let low = key as u64;
        self.0 = low;
    }
}

type ByKey<V> = HashMap<u128, V, BuildHasherDefault<KeyHasher>>;

/// Texts by number; the empty one is 0.
#[derive(Debug, Clone)]
struct Texts {
    texts: Vec<Box<str>>,
    numbers: HashMap<Box<str>, u32>,
}

impl Default for Texts {
    fn default() -> Self {
        Self { texts: vec!["".into()], numbers: HashMap::from([("".into(), 0)]) }
    }
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = small(self.texts.len());
        self.texts.push(text.into());
        self.numbers.insert(text.into(), number);
        number
    }

    fn text(&self, number: u32) -> &str {
        self.texts.get(index(number)).map_or("", |text| text)
    }
}

/// When things were there: interned, since a page of observations begins at one moment.
#[derive(Debug, Clone, Default)]
struct Spans {
    /// First interval and how many.
    parts: Vec<(u32, u32)>,
    intervals: Vec<Interval>,
    single: HashMap<Interval, u32>,
}

impl Spans {
    /// The span of intervals, which are put in order and joined where they touch.
    fn of(&mut self, intervals: &mut Vec<Interval>) -> u32 {
        intervals.sort_unstable();
        intervals.dedup_by(|next, before| {
            let touches = next.0 <= before.1;
            if touches {
                before.1 = before.1.max(next.1);
            }
            touches
        });
        if let [only] = intervals.as_slice() {
            if let Some(span) = self.single.get(only) {
                return *span;
            }
            self.single.insert(*only, small(self.parts.len()));
        }
        self.parts.push((small(self.intervals.len()), small(intervals.len())));
        self.intervals.extend_from_slice(intervals);
        small(self.parts.len() - 1)
    }

    fn intervals(&self, span: u32) -> &[Interval] {
        let Some((first, count)) = self.parts.get(index(span)) else { return &[] };
        self.intervals.get(index(*first)..index(*first) + index(*count)).unwrap_or_default()
    }

    /// Which spans hold a moment.
    fn at(&self, moment: i64) -> Vec<bool> {
        let holds = |(from, to): &Interval| *from <= moment && *to > moment;
        (0..small(self.parts.len())).map(|span| self.intervals(span).iter().any(holds)).collect()
    }
}

#[derive(Debug, Clone, Copy)]
struct Point {
    cell: u32,
    span: u32,
    observed: bool,
}

/// The graph; built by [`MapBuilder`].
#[derive(Debug, Clone, Default)]
pub struct GraphMap {
    texts: Texts,
    cells: Vec<Cell>,
    keys: Vec<u128>,
    points: Vec<Point>,
    spans: Spans,
    out: Rows,
    into: Rows,
    /// Open findings of a node by severity, in the order of the nodes.
    findings: Vec<(u32, [u32; Severities::COUNT])>,
    has_history: bool,
}

impl GraphMap {
    /// How many nodes it holds, of all times.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it holds no node.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// How many edges it holds, of all times.
    pub fn edges(&self) -> usize {
        self.out.hops.len()
    }

    /// Whether it knows of what is gone.
    pub fn has_history(&self) -> bool {
        self.has_history
    }

    /// About how many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.keys.len() * (16 + 12 + 8)
            + self.edges() * 2 * 12
            + self.cells.len() * 40
            + self.texts.texts.iter().map(|text| 2 * text.len() + 80).sum::<usize>()
            + self.spans.intervals.len() * 64
            + self.findings.len() * 28
    }

    /// Whether it knows a node, at whatever time.
    pub fn has(&self, key: NodeKey) -> bool {
        self.find(key).is_some()
    }

    fn find(&self, key: NodeKey) -> Option<u32> {
        self.keys.binary_search(&key.0).ok().map(small)
    }

    fn key(&self, node: u32) -> NodeKey {
        NodeKey(self.keys.get(index(node)).copied().unwrap_or_default())
    }

    fn point(&self, node: u32) -> Option<&Point> {
        self.points.get(index(node))
    }

    fn cell_of(&self, node: u32) -> Option<&Cell> {
        self.point(node).and_then(|point| self.cells.get(index(point.cell)))
    }

    /// The graph with other findings: of each node with open ones, how many of each severity.
    pub fn set_findings(&mut self, findings: impl IntoIterator<Item = (NodeKey, [u32; Severities::COUNT])>) {
        let mut found: Vec<_> =
            findings.into_iter().filter_map(|(key, counts)| Some((self.find(key)?, counts))).collect();
        found.sort_unstable_by_key(|(node, _)| *node);
        self.findings = found;
    }

    fn findings_of(&self, node: u32) -> Option<&[u32; Severities::COUNT]> {
        let at = self.findings.binary_search_by_key(&node, |(of, _)| *of).ok()?;
        self.findings.get(at).map(|(_, counts)| counts)
    }

    /// The graph at one moment; none for now.
    fn at(&self, moment: Option<Timestamp>) -> Then<'_> {
        let moment = moment.map_or(NOW, |moment| moment.as_millis().min(NOW));
        let held = self.spans.at(moment);
        let is = |span: u32| held.get(index(span)).copied().unwrap_or_default();
        // Before it was first shown nothing was known of it: an edge may have named it.
        let is_unknown = |span: u32| self.spans.intervals(span).first().is_some_and(|(from, _)| moment < *from);
        let there =
            self.points.iter().map(|point| !point.observed || is(point.span) || is_unknown(point.span)).collect();
        Then { map: self, held, there }
    }
}

/// The graph at one moment.
struct Then<'m> {
    map: &'m GraphMap,
    /// By span.
    held: Vec<bool>,
    /// By node: it is there, or nobody knows that it is not.
    there: Vec<bool>,
}

impl<'m> Then<'m> {
    fn is_there(&self, node: u32) -> bool {
        self.there.get(index(node)).copied().unwrap_or_default()
    }

    fn holds(&self, hop: &Hop) -> bool {
        self.held.get(index(hop.span)).copied().unwrap_or_default() && self.is_there(hop.node)
    }

    /// The edges that leave a node, to nodes that are there.
    fn out(&self, node: u32) -> impl Iterator<Item = &'m Hop> + use<'_, 'm> {
        let from_here = self.is_there(node);
        self.map.out.of(node).iter().filter(move |hop| from_here && self.holds(hop))
    }

    /// The edges that reach a node, from nodes that are there.
    fn back(&self, node: u32) -> impl Iterator<Item = &'m Hop> + use<'_, 'm> {
        let to_here = self.is_there(node);
        self.map.into.of(node).iter().filter(move |hop| to_here && self.holds(hop))
    }

    /// Whether a node is part of the drawing: it was seen and is there, or something that is there names it.
    fn is_drawn(&self, node: u32) -> bool {
        self.is_there(node)
            && (self.is_seen(node) || self.out(node).next().is_some() || self.back(node).next().is_some())
    }

    /// Whether a scope had shown it.
    fn is_seen(&self, node: u32) -> bool {
        let point = self.map.point(node).filter(|point| point.observed);
        point.is_some_and(|point| self.held.get(index(point.span)).copied().unwrap_or_default())
    }

    /// The edges from one node to another, which are beside each other in their row.
    fn between(&self, from: u32, to: u32) -> impl Iterator<Item = &'m Hop> + use<'_, 'm> {
        let row = self.map.out.of(from);
        let (first, is_there) = (row.partition_point(|hop| hop.node < to), self.is_there(from));
        let here = row.get(first..).unwrap_or_default().iter().take_while(move |hop| hop.node == to);
        here.filter(move |hop| is_there && self.holds(hop))
    }
}

/// Fills a [`GraphMap`] with nodes; [`MapBuilder::edges`] goes on with the edges.
#[derive(Debug, Default)]
pub struct MapBuilder {
    map: GraphMap,
    cells: HashMap<Cell, u32>,
    nodes: Vec<(u128, Point)>,
}

impl MapBuilder {
    /// A graph that knows of what is gone, or only of what is there.
    pub fn new(has_history: bool) -> Self {
        Self { map: GraphMap { has_history, ..GraphMap::default() }, ..Self::default() }
    }

    /// Adds a node that a scope has shown, and when it was there. `properties` is JSON.
    pub fn node(&mut self, key: NodeKey, id: &NodeId, properties: &str, there: &mut Vec<Interval>) {
        self.add(key, id, &Facts::of(properties), there, true);
    }

    /// Adds a node that only edges name.
    pub fn unseen(&mut self, key: NodeKey, id: &NodeId) {
        self.add(key, id, &Facts::default(), &mut vec![(i64::MIN, OPEN)], false);
    }

    fn add(&mut self, key: NodeKey, id: &NodeId, facts: &Facts, there: &mut Vec<Interval>, observed: bool) {
        let (account, network) = place(id, facts);
        let texts = &mut self.map.texts;
        let cell = Cell {
            provider: texts.number(id.provider()),
            region: texts.number(id.region()),
            kind: texts.number(id.node_type()),
            account: texts.number(&account),
            network: texts.number(&network),
        };
        let next = small(self.cells.len());
        let number = *self.cells.entry(cell).or_insert_with(|| {
            self.map.cells.push(cell);
            next
        });
        let span = self.map.spans.of(there);
        self.nodes.push((key.0, Point { cell: number, span, observed }));
    }

    /// All nodes are there: now the edges.
    pub fn edges(mut self) -> EdgesBuilder {
        self.nodes.sort_unstable_by_key(|(key, _)| *key);
        self.nodes.dedup_by_key(|(key, _)| *key);
        let index = self.nodes.iter().zip(0..).map(|((key, _), node)| (*key, node)).collect();
        let (keys, points) = self.nodes.into_iter().unzip();
        EdgesBuilder { map: GraphMap { keys, points, ..self.map }, index, edges: Vec::new() }
    }
}

/// Fills a [`GraphMap`] with edges.
#[derive(Debug)]
pub struct EdgesBuilder {
    map: GraphMap,
    index: ByKey<u32>,
    edges: Vec<(u32, u32, u32, u32)>,
}

impl EdgesBuilder {
    /// Adds an edge and when it was there. One whose ends are not both in the graph is left out.
    pub fn edge(&mut self, source: NodeKey, target: NodeKey, edge_type: &str, there: &mut Vec<Interval>) {
        let (Some(source), Some(target)) = (self.index.get(&source.0), self.index.get(&target.0)) else { return };
        let kind = self.map.texts.number(edge_type);
        let span = self.map.spans.of(there);
        self.edges.push((*source, *target, kind, span));
    }

    /// The graph.
    pub fn build(self) -> GraphMap {
        let nodes = self.map.keys.len();
        let (out, into) = (Rows::build(nodes, &self.edges, false), Rows::build(nodes, &self.edges, true));
        GraphMap { out, into, ..self.map }
    }
}

/// A small number as an index: every supported machine has at least 32 bits.
fn index(small: u32) -> usize {
    usize::try_from(small).unwrap_or(usize::MAX)
}

fn small(large: usize) -> u32 {
    u32::try_from(large).unwrap_or(u32::MAX)
}
