//! Ways through the graph: the neighbours of a node, the shortest path between two, what is affected when something happens to one, and when
//! the graph changed.

use std::collections::BTreeMap;

use domain::{Error, Timestamp};

use super::summary::Severities;
use super::{By, Filter, GraphMap, Hop, OPEN, Then, index, small};
use crate::NodeKey;

/// Which way edges are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Follow {
    /// From source to target.
    #[default]
    Out,
    /// From target to source.
    In,
    /// Both ways.
    Any,
    /// The way on which trouble travels, which each type of edge has of its own: see [`impact`].
    Impact,
}

impl Follow {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::In => "in",
            Self::Any => "any",
            Self::Impact => "impact",
        }
    }
}

impl std::str::FromStr for Follow {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        [Self::Out, Self::In, Self::Any, Self::Impact]
            .into_iter()
            .find(|follow| follow.as_str() == text)
            .ok_or_else(|| Error::invalid("direction", "use out, in, any or impact"))
    }
}

/// Which way trouble travels along an edge: what depends on a thing, uses its key or logs into it is affected by it; two that are the same or
/// belong together affect each other; and else what a thing holds, runs as, reaches or is attached to.
pub fn impact(edge_type: &str) -> Follow {
    match edge_type {
        "depends_on" | "encrypted_by" | "logs_to" | "installed_on" | "read_with" | "wanted_by" => Follow::In,
        "associated_with" | "same_as" | "reached_at" | "identified_by" | "alias_of" | "next_hop" => Follow::Any,
        _ => Follow::Out,
    }
}

/// What the graph as a whole tells of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Portrait {
    /// The node.
    pub node: NodeKey,
    /// Its account.
    pub account: String,
    /// Its network; empty: none.
    pub network: String,
    /// How many edges it has.
    pub edges: u64,
    /// Its open findings.
    pub findings: Severities,
    /// Whether a scope has shown it.
    pub is_seen: bool,
}

/// A node beside another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbor {
    /// The node.
    pub node: NodeKey,
    /// The types of the edges that lead to it.
    pub out: Vec<String>,
    /// The types of the edges that come from it.
    pub into: Vec<String>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The types of the edges from source to target.
    pub types: Vec<String>,
    /// Whether the edges point the way that the path goes.
    pub forward: bool,
}

/// A path: one step fewer than nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Path {
    /// From the first to the last.
    pub nodes: Vec<NodeKey>,
    /// Between them.
    pub steps: Vec<Step>,
}

/// How to travel.
#[derive(Debug, Clone, Default)]
pub struct Trip {
    /// Which way.
    pub follow: Follow,
    /// Only over edges of these types; all where there is none.
    pub types: Vec<String>,
    /// At most this many edges.
    pub hops: u32,
}

/// One group of what is affected.
pub type Way = (String, u64);

/// What a node affects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Affected {
    /// How many nodes that were seen, all of them.
    pub nodes: u64,
    /// How many that only edges name.
    pub unseen: u64,
    /// Their open findings.
    pub findings: Severities,
    /// How many are how many edges away, the nearest first.
    pub distances: Vec<u64>,
    /// How many of each type, the most first.
    pub kinds: Vec<Way>,
    /// How many in each group, the most first.
    pub groups: Vec<Way>,
    /// The nearest, and how far they are; not more than was asked for.
    pub nearest: Vec<(NodeKey, u32)>,
    /// Whether there is more beyond the edges that were followed.
    pub goes_on: bool,
}

/// A time at which the graph changed, as one with what changed shortly before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// The first change.
    pub from: Timestamp,
    /// The last one: a moment to look at the graph.
    pub at: Timestamp,
    /// Nodes that were new or back.
    pub nodes_begun: u64,
    /// Nodes that were gone.
    pub nodes_ended: u64,
    /// Edges that were new or back.
    pub edges_begun: u64,
    /// Edges that were gone.
    pub edges_ended: u64,
}

/// Where nobody came from.
const NOBODY: u32 = u32::MAX;

impl Trip {
    /// Which types of edges are followed which way, by the numbers of their texts: out, in.
    fn ways(&self, map: &GraphMap, follow: Follow) -> Vec<(bool, bool)> {
        let way = |text: &str| {
            if !self.types.is_empty() && !self.types.iter().any(|of| of == text) {
                return (false, false);
            }
            let follow = match follow {
                Follow::Impact => impact(text),
                other => other,
            };
            (matches!(follow, Follow::Out | Follow::Any), matches!(follow, Follow::In | Follow::Any))
        };
        map.texts.texts.iter().map(|text| way(text)).collect()
    }
}

/// One side of a search.
struct Side {
    from: Vec<u32>,
    distance: Vec<u32>,
    edge: Vec<u32>,
    ways: Vec<(bool, bool)>,
}

impl Side {
    fn new(map: &GraphMap, start: u32, ways: Vec<(bool, bool)>) -> Self {
        let mut side =
            Self { from: vec![NOBODY; map.len()], distance: vec![NOBODY; map.len()], edge: vec![start], ways };
        if let Some(distance) = side.distance.get_mut(index(start)) {
            *distance = 0;
        }
        side
    }

    fn at(&self, node: u32) -> Option<u32> {
        self.distance.get(index(node)).copied().filter(|distance| *distance != NOBODY)
    }

    /// Goes one edge further from all of its edge; the nodes that it meets for the first time are its edge then.
    fn step(&mut self, then: &Then<'_>, distance: u32) {
        let mut met = Vec::new();
        for node in std::mem::take(&mut self.edge) {
            let takes = |hop: &&Hop, into: bool| {
                self.ways.get(index(hop.kind)).is_some_and(|(out, back)| if into { *back } else { *out })
            };
            let hops =
                then.out(node).filter(|hop| takes(hop, false)).chain(then.back(node).filter(|hop| takes(hop, true)));
            for hop in hops {
                if let Some(slot) = self.distance.get_mut(index(hop.node)).filter(|slot| **slot == NOBODY) {
                    *slot = distance;
                    if let Some(from) = self.from.get_mut(index(hop.node)) {
                        *from = node;
                    }
                    met.push(hop.node);
                }
            }
        }
        self.edge = met;
    }

    /// From the node back to where the side began.
    fn trail(&self, node: u32) -> Vec<u32> {
        let mut trail = vec![node];
        let mut at = node;
        while let Some(from) = self.from.get(index(at)).copied().filter(|from| *from != NOBODY) {
            trail.push(from);
            at = from;
        }
        trail
    }
}

impl GraphMap {
    /// The nodes beside a node, in the order of their keys, behind `after`. None where the node is not there.
    pub fn neighbors(
        &self,
        moment: Option<Timestamp>,
        node: NodeKey,
        after: Option<NodeKey>,
        limit: usize,
    ) -> Option<Vec<Neighbor>> {
        let then = self.at(moment);
        let node = self.find(node).filter(|node| then.is_drawn(*node))?;
        let mut found: BTreeMap<u32, (Vec<u32>, Vec<u32>)> = BTreeMap::new();
        let behind = |hop: &&Hop| after.is_none_or(|after| self.key(hop.node) > after);
        for hop in then.out(node).filter(behind) {
            found.entry(hop.node).or_default().0.push(hop.kind);
        }
        for hop in then.back(node).filter(behind) {
            found.entry(hop.node).or_default().1.push(hop.kind);
        }
        let words = |mut kinds: Vec<u32>| {
            kinds.dedup();
            let mut words: Vec<String> = kinds.into_iter().map(|kind| self.texts.text(kind).to_owned()).collect();
            words.sort_unstable();
            words.dedup();
            words
        };
        let neighbors = found.into_iter().take(limit);
        Some(
            neighbors
                .map(|(at, (out, into))| Neighbor { node: self.key(at), out: words(out), into: words(into) })
                .collect(),
        )
    }

    /// The nodes that a filter takes, of one group if one is given, in the order of their keys, behind `after`.
    pub fn members(
        &self,
        moment: Option<Timestamp>,
        filter: &Filter,
        group: Option<(By, &str)>,
        after: Option<NodeKey>,
        limit: usize,
    ) -> Vec<NodeKey> {
        let then = self.at(moment);
        let takes: Vec<bool> = (0..self.cells.len())
            .map(|cell| {
                self.cell_text(cell)
                    .is_some_and(|text| filter.takes(&text) && group.is_none_or(|(by, value)| text.by(by) == value))
            })
            .collect();
        let begin = after.map_or(0, |after| self.keys.partition_point(|key| *key <= after.0));
        let taken = |node: &u32| {
            let cell = self.point(*node).map_or(usize::MAX, |point| index(point.cell));
            takes.get(cell).copied().unwrap_or_default() && then.is_drawn(*node)
        };
        (small(begin)..small(self.len())).filter(taken).take(limit).map(|node| self.key(node)).collect()
    }

    /// Where nodes are, how many edges they have and how many findings are open; in the order in which they are named, without those that it
    /// does not know.
    pub fn portraits(&self, moment: Option<Timestamp>, nodes: impl IntoIterator<Item = NodeKey>) -> Vec<Portrait> {
        let then = self.at(moment);
        let portrait = |key: NodeKey| {
            let node = self.find(key)?;
            let cell = self.cell_of(node)?;
            let text = |number| self.texts.text(number).to_owned();
            let mut findings = Severities::default();
            if moment.is_none()
                && let Some(counts) = self.findings_of(node)
            {
                findings.add(counts);
            }
            Some(Portrait {
                node: key,
                account: text(cell.account),
                network: text(cell.network),
                edges: (then.out(node).count() + then.back(node).count()) as u64,
                findings,
                is_seen: then.is_seen(node),
            })
        };
        nodes.into_iter().filter_map(portrait).collect()
    }

    /// Whether a node is drawn at a moment.
    pub fn shows(&self, moment: Option<Timestamp>, node: NodeKey) -> bool {
        self.find(node).is_some_and(|node| self.at(moment).is_drawn(node))
    }

    /// The shortest path between two nodes, the first in the order of keys where the search meets. None: there is none within the trip's edges.
    pub fn path(&self, moment: Option<Timestamp>, from: NodeKey, to: NodeKey, trip: &Trip) -> Option<Path> {
        let then = self.at(moment);
        let drawn = |key: NodeKey| self.find(key).filter(|node| then.is_drawn(*node));
        let (from, to) = (drawn(from)?, drawn(to)?);
        let mut ahead = Side::new(self, from, trip.ways(self, trip.follow));
        // Backwards every edge is followed the other way.
        let back = trip.ways(self, trip.follow).into_iter().map(|(out, into)| (into, out)).collect();
        let mut behind = Side::new(self, to, back);
        let (mut gone, mut come) = (0, 0);
        let mut meeting = (from == to).then_some(from);
        while meeting.is_none() && gone + come < trip.hops && !ahead.edge.is_empty() && !behind.edge.is_empty() {
            let met = if ahead.edge.len() <= behind.edge.len() {
                gone += 1;
                ahead.step(&then, gone);
                (&ahead, &behind)
            } else {
                come += 1;
                behind.step(&then, come);
                (&behind, &ahead)
            };
            let touching = met.0.edge.iter().filter_map(|node| met.1.at(*node).map(|distance| (distance, *node)));
            meeting = touching.min().map(|(_, node)| node);
        }
        let meeting = meeting?;
        let mut nodes = ahead.trail(meeting);
        nodes.reverse();
        nodes.extend(behind.trail(meeting).into_iter().skip(1));
        let steps = nodes.windows(2).map(|pair| match pair {
            [a, b] => self.step_between(&then, *a, *b, &ahead.ways),
            _ => Step { types: Vec::new(), forward: true },
        });
        Some(Path { steps: steps.collect(), nodes: nodes.iter().map(|node| self.key(*node)).collect() })
    }

    fn step_between(&self, then: &Then<'_>, a: u32, b: u32, ways: &[(bool, bool)]) -> Step {
        let way = |hop: &Hop| ways.get(index(hop.kind)).copied().unwrap_or_default();
        let words = |kinds: Vec<u32>| {
            let mut words: Vec<String> = kinds.into_iter().map(|kind| self.texts.text(kind).to_owned()).collect();
            words.sort_unstable();
            words.dedup();
            words
        };
        let out: Vec<u32> = then.between(a, b).filter(|hop| way(hop).0).map(|hop| hop.kind).collect();
        if !out.is_empty() {
            return Step { types: words(out), forward: true };
        }
        let into = then.back(a).filter(|hop| hop.node == b && way(hop).1).map(|hop| hop.kind).collect();
        Step { types: words(into), forward: false }
    }

    /// What a node affects on a trip: all of it counted, and the nearest by name. None where the node is not there.
    pub fn affected(
        &self,
        moment: Option<Timestamp>,
        node: NodeKey,
        trip: &Trip,
        by: By,
        limit: usize,
    ) -> Option<Affected> {
        let then = self.at(moment);
        let start = self.find(node).filter(|node| then.is_drawn(*node))?;
        let mut side = Side::new(self, start, trip.ways(self, trip.follow));
        let mut affected = Affected::default();
        let mut by_cell = vec![0_u64; self.cells.len()];
        let mut distance = 0;
        while distance < trip.hops {
            distance += 1;
            side.step(&then, distance);
            side.edge.sort_unstable();
            if side.edge.is_empty() {
                break;
            }
            affected.distances.push(side.edge.len() as u64);
            for node in &side.edge {
                if then.is_seen(*node) {
                    affected.nodes += 1;
                } else {
                    affected.unseen += 1;
                }
                if moment.is_none()
                    && let Some(counts) = self.findings_of(*node)
                {
                    affected.findings.add(counts);
                }
                if let Some(count) = self.point(*node).and_then(|point| by_cell.get_mut(index(point.cell))) {
                    *count += 1;
                }
                if affected.nearest.len() < limit {
                    affected.nearest.push((self.key(*node), distance));
                }
            }
        }
        if !side.edge.is_empty() {
            side.step(&then, distance.saturating_add(1));
            affected.goes_on = !side.edge.is_empty();
        }
        affected.kinds = self.told(&by_cell, By::Kind);
        affected.groups = self.told(&by_cell, by);
        Some(affected)
    }

    fn told(&self, by_cell: &[u64], by: By) -> Vec<Way> {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        for (cell, count) in by_cell.iter().enumerate().filter(|(_, count)| **count > 0) {
            if let Some(text) = self.cell_text(cell) {
                *counts.entry(text.by(by)).or_default() += count;
            }
        }
        let mut ways: Vec<Way> = counts.into_iter().map(|(text, count)| (text.to_owned(), count)).collect();
        ways.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        ways
    }

    /// When the graph changed, the oldest first: changes that follow each other closely are one, and as close as it takes to have no more than
    /// `most`.
    pub fn moments(&self, most: usize) -> Vec<Moment> {
        let mut changes: BTreeMap<i64, [u64; 4]> = BTreeMap::new();
        let mut spans = vec![[0_u64; 2]; self.spans.parts.len()];
        for point in self.points.iter().filter(|point| point.observed) {
            if let Some([nodes, _]) = spans.get_mut(index(point.span)) {
                *nodes += 1;
            }
        }
        for hop in &self.out.hops {
            if let Some([_, edges]) = spans.get_mut(index(hop.span)) {
                *edges += 1;
            }
        }
        for (span, [nodes, edges]) in (0..).zip(spans) {
            for (from, to) in self.spans.intervals(span) {
                if *from != i64::MIN {
                    let [begun, _, edges_begun, _] = changes.entry(*from).or_default();
                    *begun += nodes;
                    *edges_begun += edges;
                }
                if *to != OPEN {
                    let [_, ended, _, edges_ended] = changes.entry(*to).or_default();
                    *ended += nodes;
                    *edges_ended += edges;
                }
            }
        }
        changes.retain(|_, counts| *counts != [0; 4]);
        let times: Vec<i64> = changes.keys().copied().collect();
        let groups = |gap: i64| times.windows(2).filter(|pair| matches!(pair, [a, b] if b - a > gap)).count() + 1;
        let mut gap = 1_000;
        while groups(gap) > most.max(1) {
            gap = gap.saturating_mul(2);
        }
        let mut moments: Vec<Moment> = Vec::new();
        for (time, [nodes_begun, nodes_ended, edges_begun, edges_ended]) in changes {
            let at = Timestamp::from_millis(time);
            match moments.last_mut().filter(|last| time - last.at.as_millis() <= gap) {
                Some(last) => {
                    last.at = at;
                    last.nodes_begun += nodes_begun;
                    last.nodes_ended += nodes_ended;
                    last.edges_begun += edges_begun;
                    last.edges_ended += edges_ended;
                }
                None => moments.push(Moment { from: at, at, nodes_begun, nodes_ended, edges_begun, edges_ended }),
            }
        }
        moments
    }
}
