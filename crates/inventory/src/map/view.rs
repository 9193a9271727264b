//! A drawing of the graph: groups, of which some are opened into their nodes, single nodes beside them, and the edges between all of these.

use std::collections::HashMap;

use domain::{Error, Result, Timestamp};

use super::summary::{CellText, LINKS_PER_ELEMENT, OverviewLink, strongest};
use super::{By, Filter, GraphMap, Severities, Then, index, small};
use crate::NodeKey;

/// A group that is opened, and how many of its nodes are drawn at most.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// What its nodes have in common.
    pub value: String,
    /// How many are drawn.
    pub most: usize,
}

/// What to draw.
#[derive(Debug, Clone, Default)]
pub struct Sketch {
    /// What nodes are put together by.
    pub by: By,
    /// Which nodes.
    pub filter: Filter,
    /// Only these, if any are given, in the order of their keys; nodes that are drawn by themselves are not asked.
    pub only: Option<Vec<NodeKey>>,
    /// Groups that are opened.
    pub open: Vec<Opened>,
    /// Nodes that are drawn by themselves.
    pub nodes: Vec<NodeKey>,
    /// Whether groups are drawn at all.
    pub groups: bool,
    /// Whether findings say which nodes of an opened group are drawn: not for whoever may not read them.
    pub findings: bool,
    /// The most elements.
    pub elements: usize,
}

/// What an element stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementKind {
    /// All nodes that have this value in common.
    Group(String),
    /// The nodes of an opened group that are not drawn by themselves.
    Rest(String),
    /// Groups that did not fit.
    Others,
    /// One node.
    Node(NodeKey),
}

/// A point of the drawing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// What it stands for.
    pub kind: ElementKind,
    /// How many groups.
    pub groups: u64,
    /// Nodes that were seen.
    pub nodes: u64,
    /// Nodes that only edges name.
    pub unseen: u64,
    /// Edges inside of it.
    pub inside: u64,
    /// Open findings.
    pub findings: Severities,
}

impl Element {
    fn new(kind: ElementKind) -> Self {
        Self { kind, groups: 0, nodes: 0, unseen: 0, inside: 0, findings: Severities::default() }
    }
}

/// A line of the drawing, between two elements by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The element that it leaves.
    pub source: u32,
    /// The element that it reaches.
    pub target: u32,
    /// How many edges it stands for.
    pub count: u64,
    /// Their types.
    pub types: Vec<String>,
}

/// A drawing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct View {
    /// Its points: nodes first, then groups, the largest first, then what they leave.
    pub elements: Vec<Element>,
    /// Its lines, those of the most edges first.
    pub links: Vec<Link>,
    /// Links that did not fit.
    pub links_left: u64,
    /// Edges of these.
    pub edges_left: u64,
    /// Nodes that were asked for and are not there.
    pub missing: Vec<NodeKey>,
}

/// No element.
const NOT_DRAWN: u32 = u32::MAX;

/// A group while it is counted.
struct Counted {
    value: String,
    total: Element,
    /// Its members, where it is opened.
    members: Option<Vec<u32>>,
    most: usize,
}

impl GraphMap {
    /// Draws the graph at a moment; none for now.
    pub fn view(&self, moment: Option<Timestamp>, sketch: &Sketch) -> Result<View> {
        let then = self.at(moment);
        if sketch.nodes.len() >= sketch.elements {
            return Err(Error::Limit { which: "nodes that are drawn by themselves", max: sketch.elements as u64 - 1 });
        }
        let mut view = View::default();
        let mut drawn = vec![NOT_DRAWN; self.len()];
        for key in &sketch.nodes {
            match self.find(*key).filter(|node| then.is_drawn(*node)) {
                Some(node) => self.draw(&then, moment, node, &mut drawn, &mut view.elements),
                None => view.missing.push(*key),
            }
        }
        let place = |view: &View| small(view.elements.len());
        if sketch.groups {
            let (groups, group_of) = self.grouped(&then, moment, sketch, &drawn);
            let opened =
                groups.iter().filter(|group| group.members.as_ref().is_some_and(|all| !all.is_empty())).count();
            let space = sketch.elements.saturating_sub(view.elements.len());
            // Each has what is left of it, and the groups that are not opened have one element at least.
            if opened >= space {
                return Err(Error::Limit { which: "groups that are opened", max: space.saturating_sub(1) as u64 });
            }
            let members = (space - opened - 1).checked_div(opened).unwrap_or_default();
            let mut rest_of: HashMap<usize, u32> = HashMap::new();
            for (number, group) in groups.iter().enumerate() {
                let Some(listed) = &group.members else { continue };
                let most = group.most.min(members);
                let shown = self.foremost(listed, most, sketch.findings && moment.is_none());
                let mut rest = group.total.clone();
                rest.kind = ElementKind::Rest(group.value.clone());
                for node in &shown {
                    self.draw(&then, moment, *node, &mut drawn, &mut view.elements);
                    if let Some(one) = view.elements.last() {
                        rest.nodes -= one.nodes;
                        rest.unseen -= one.unseen;
                        subtract(&mut rest.findings, one.findings);
                    }
                }
                if shown.len() < listed.len() {
                    rest_of.insert(number, place(&view));
                    view.elements.push(rest);
                }
            }
            let mut order: Vec<usize> =
                (0..groups.len()).filter(|at| groups.get(*at).is_some_and(|group| group.members.is_none())).collect();
            order.sort_by_cached_key(|at| {
                groups
                    .get(*at)
                    .map(|group| (std::cmp::Reverse(group.total.nodes + group.total.unseen), group.value.clone()))
            });
            let room = sketch.elements.saturating_sub(view.elements.len());
            let keep = if order.len() > room { room.saturating_sub(1) } else { order.len() };
            let mut others = Element::new(ElementKind::Others);
            let others_at = place(&view) + small(keep);
            for (rank, number) in order.into_iter().enumerate() {
                let Some(group) = groups.get(number) else { continue };
                if rank < keep {
                    rest_of.insert(number, place(&view));
                    view.elements.push(group.total.clone());
                } else {
                    rest_of.insert(number, others_at);
                    others.groups += 1;
                    others.nodes += group.total.nodes;
                    others.unseen += group.total.unseen;
                    others.findings += group.total.findings;
                }
            }
            if others.groups > 0 {
                view.elements.push(others);
            }
            for (slot, number) in drawn.iter_mut().zip(&group_of) {
                if *slot == NOT_DRAWN && *number != NOT_DRAWN {
                    *slot = rest_of.get(&index(*number)).copied().unwrap_or(NOT_DRAWN);
                }
            }
        }
        self.connect(&then, &drawn, sketch.elements, &mut view);
        Ok(view)
    }

    fn draw(
        &self,
        then: &Then<'_>,
        moment: Option<Timestamp>,
        node: u32,
        drawn: &mut [u32],
        elements: &mut Vec<Element>,
    ) {
        let Some(slot) = drawn.get_mut(index(node)).filter(|slot| **slot == NOT_DRAWN) else { return };
        *slot = small(elements.len());
        let mut element = Element::new(ElementKind::Node(self.key(node)));
        self.count(then, moment, node, &mut element);
        elements.push(element);
    }

    fn count(&self, then: &Then<'_>, moment: Option<Timestamp>, node: u32, element: &mut Element) {
        if then.is_seen(node) {
            element.nodes += 1;
        } else {
            element.unseen += 1;
        }
        if moment.is_none()
            && let Some(counts) = self.findings_of(node)
        {
            element.findings.add(counts);
        }
    }

    /// The groups of all nodes that are not drawn by themselves, and the number of each node's group.
    fn grouped(
        &self,
        then: &Then<'_>,
        moment: Option<Timestamp>,
        sketch: &Sketch,
        drawn: &[u32],
    ) -> (Vec<Counted>, Vec<u32>) {
        let (mut groups, mut by_value): (Vec<Counted>, HashMap<&str, u32>) = (Vec::new(), HashMap::new());
        let of_cell: Vec<u32> = (0..self.cells.len())
            .map(|cell| {
                let Some(text) = self.cell_text(cell).filter(|text| sketch.filter.takes(text)) else {
                    return NOT_DRAWN;
                };
                let value = text.by(sketch.by);
                *by_value.entry(value).or_insert_with(|| {
                    let opened = sketch.open.iter().find(|opened| opened.value == value);
                    let mut total = Element::new(ElementKind::Group(value.to_owned()));
                    total.groups = 1;
                    groups.push(Counted {
                        value: value.to_owned(),
                        total,
                        members: opened.map(|_| Vec::new()),
                        most: opened.map_or(0, |opened| opened.most),
                    });
                    small(groups.len() - 1)
                })
            })
            .collect();
        let only: Option<Vec<bool>> = sketch.only.as_ref().map(|only| {
            let mut takes = vec![false; self.len()];
            for slot in only.iter().filter_map(|key| self.find(*key)) {
                if let Some(slot) = takes.get_mut(index(slot)) {
                    *slot = true;
                }
            }
            takes
        });
        let mut group_of = vec![NOT_DRAWN; self.len()];
        for (node, (point, slot)) in (0..).zip(self.points.iter().zip(&mut group_of)) {
            let number = of_cell.get(index(point.cell)).copied().unwrap_or(NOT_DRAWN);
            let left_out = only.as_ref().is_some_and(|only| !only.get(index(node)).copied().unwrap_or_default());
            let alone = drawn.get(index(node)).is_some_and(|drawn| *drawn != NOT_DRAWN);
            if number == NOT_DRAWN || left_out || alone || !then.is_drawn(node) {
                continue;
            }
            *slot = number;
            if let Some(group) = groups.get_mut(index(number)) {
                self.count(then, moment, node, &mut group.total);
                if let Some(members) = &mut group.members {
                    members.push(node);
                }
            }
        }
        // Groups of which nothing is there now keep their numbers and are not drawn.
        for group in &mut groups {
            if group.total.nodes + group.total.unseen == 0 {
                group.members = Some(Vec::new());
            }
        }
        (groups, group_of)
    }

    pub(super) fn cell_text(&self, cell: usize) -> Option<CellText<'_>> {
        let cell = self.cells.get(cell)?;
        let text = |number| self.texts.text(number);
        Some(CellText {
            provider: text(cell.provider),
            region: text(cell.region),
            kind: text(cell.kind),
            account: text(cell.account),
            network: text(cell.network),
        })
    }

    /// Those that are looked at first: with the worst findings where these count, then with the most edges; then in the order of their keys.
    fn foremost(&self, nodes: &[u32], most: usize, by_findings: bool) -> Vec<u32> {
        let mut order = nodes.to_vec();
        let rank = |node: &u32| {
            let findings = self.findings_of(*node).filter(|_| by_findings).copied().unwrap_or_default();
            let degree = self.out.of(*node).len() + self.into.of(*node).len();
            (std::cmp::Reverse(findings), std::cmp::Reverse(degree), *node)
        };
        if order.len() > most {
            if most == 0 {
                return Vec::new();
            }
            order.select_nth_unstable_by_key(most - 1, rank);
            order.truncate(most);
        }
        order.sort_unstable_by_key(rank);
        order
    }

    /// The lines between what is drawn.
    fn connect(&self, then: &Then<'_>, drawn: &[u32], elements: usize, view: &mut View) {
        let place = |node: u32| drawn.get(index(node)).copied().filter(|place| *place != NOT_DRAWN);
        let mut counts: HashMap<(u32, u32), u64> = HashMap::new();
        for (node, place_of) in (0..).zip(drawn) {
            if *place_of == NOT_DRAWN {
                continue;
            }
            for hop in then.out(node) {
                let Some(target) = place(hop.node) else { continue };
                if *place_of != target {
                    *counts.entry((*place_of, target)).or_default() += 1;
                } else if let Some(element) = view.elements.get_mut(index(target)) {
                    element.inside += 1;
                }
            }
        }
        let links = counts.into_iter().map(|((source, target), count)| OverviewLink { source, target, count });
        let (links, links_left, edges_left) = strongest(links.collect(), elements * LINKS_PER_ELEMENT);
        (view.links_left, view.edges_left) = (links_left, edges_left);
        let node = |place: u32| match view.elements.get(index(place)).map(|element| &element.kind) {
            Some(ElementKind::Node(key)) => self.find(*key),
            _ => None,
        };
        view.links = links
            .into_iter()
            .map(|OverviewLink { source, target, count }| {
                let mut types: Vec<String> = Vec::new();
                if let (Some(from), Some(to)) = (node(source), node(target)) {
                    let between = then.between(from, to);
                    types = between.map(|hop| self.texts.text(hop.kind).to_owned()).collect();
                    types.sort_unstable();
                    types.dedup();
                }
                Link { source, target, count, types }
            })
            .collect();
    }
}

fn subtract(from: &mut Severities, less: Severities) {
    from.critical -= less.critical;
    from.high -= less.high;
    from.medium -= less.medium;
    from.low -= less.low;
    from.info -= less.info;
}
