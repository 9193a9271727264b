//! What a page changes.

use std::collections::{HashMap, HashSet};

use domain::{NodeId, Timestamp};

use crate::{ContentHash, EdgeItem, EdgeKey, Item, NodeItem, NodeKey, Prepared, ScopeKey};

/// What the graph holds of a node or an edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Current {
    /// Its content.
    pub hash: ContentHash,
    /// Its owner.
    pub scope: ScopeKey,
    /// Whether a scope has shown it; always true for an edge.
    pub observed: bool,
    /// Since when it is as it is.
    pub valid_from: Timestamp,
    /// Since when it is gone.
    pub closed_at: Option<Timestamp>,
}

impl Current {
    /// When a change that is made now takes effect: after what it ends began, also when the clock went back or stood still, so that no
    /// version is empty and none is lost.
    pub(crate) fn next(&self, now: Timestamp) -> Timestamp {
        match self.closed_at {
            Some(closed_at) => now.max(closed_at),
            None if self.observed => now.max(self.valid_from.plus_millis(1)),
            None => now.max(self.valid_from),
        }
    }

    /// The version that ends when a change takes effect at `at`. A placeholder leaves none: nobody saw it.
    pub(crate) fn past(&self, at: Timestamp) -> Option<Past> {
        self.observed.then(|| Past { valid_from: self.valid_from, valid_to: self.closed_at.unwrap_or(at) })
    }

    /// Whether a scope that shows it may only leave a claim.
    pub fn is_held_against(&self, scope: ScopeKey) -> bool {
        self.observed && self.closed_at.is_none() && self.scope != scope
    }
}

/// The interval of a version that has ended: from `valid_from` on, before `valid_to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Past {
    /// Its first moment.
    pub valid_from: Timestamp,
    /// The first moment after it.
    pub valid_to: Timestamp,
}

/// What one task has shown of one scope. A page's keys are added when the page is stored.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Its nodes.
    pub nodes: HashSet<NodeKey>,
    /// Its edges.
    pub edges: HashSet<EdgeKey>,
}

impl Seen {
    /// Adds a page.
    pub fn add(&mut self, page: &Prepared<'_>) {
        self.nodes.extend(page.nodes.iter().map(|node| node.key));
        self.edges.extend(page.edges.iter().map(|edge| edge.key));
    }
}

/// What the graph holds of what a page shows. A key that is absent is not in the graph.
#[derive(Debug, Default)]
pub struct Known {
    /// Its nodes and the ends of its edges.
    pub nodes: HashMap<NodeKey, Current>,
    /// Its edges.
    pub edges: HashMap<EdgeKey, Current>,
    /// The contents that the page's scope claims of nodes that another scope owns.
    pub node_claims: HashMap<NodeKey, ContentHash>,
    /// The same of edges.
    pub edge_claims: HashMap<EdgeKey, ContentHash>,
}

/// New content, and an end of what was before.
#[derive(Debug)]
pub struct Rewrite<'p, I> {
    /// The new content.
    pub item: &'p I,
    /// The version to keep.
    pub past: Option<Past>,
    /// When the new content takes effect.
    pub at: Timestamp,
}

/// What changes for nodes, or for edges.
#[derive(Debug)]
pub struct Changes<'p, I> {
    /// Not in the graph yet.
    pub insert: Vec<&'p I>,
    /// Placeholders that were shown at last.
    pub show: Vec<Rewrite<'p, I>>,
    /// Other content than before.
    pub update: Vec<Rewrite<'p, I>>,
    /// Closed ones that are back.
    pub reopen: Vec<Rewrite<'p, I>>,
    /// New or changed claims on what another scope owns.
    pub claim: Vec<&'p I>,
}

impl<'p, I: Item> Changes<'p, I> {
    fn plan(
        items: &'p [I],
        scope: ScopeKey,
        known: &HashMap<I::Key, Current>,
        claims: &HashMap<I::Key, ContentHash>,
        seen: &HashSet<I::Key>,
        now: Timestamp,
    ) -> Self {
        let mut changes = Self { insert: vec![], show: vec![], update: vec![], reopen: vec![], claim: vec![] };
        for item in items.iter().filter(|item| !seen.contains(&item.key())) {
            let Some(current) = known.get(&item.key()) else {
                changes.insert.push(item);
                continue;
            };
            if current.is_held_against(scope) {
                if claims.get(&item.key()) != Some(&item.hash()) {
                    changes.claim.push(item);
                }
                continue;
            }
            let list = match current {
                Current { observed: false, .. } => &mut changes.show,
                Current { closed_at: Some(_), .. } => &mut changes.reopen,
                Current { hash, .. } if *hash != item.hash() => &mut changes.update,
                _ => continue,
            };
            let at = current.next(now);
            list.push(Rewrite { item, past: current.past(at), at });
        }
        changes
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.insert.is_empty() && self.claim.is_empty() && self.rewrites().next().is_none()
    }

    /// Everything whose content is replaced.
    pub fn rewrites(&self) -> impl Iterator<Item = &Rewrite<'p, I>> {
        self.show.iter().chain(&self.update).chain(&self.reopen)
    }
}

/// What a page changes.
#[derive(Debug)]
pub struct PagePlan<'p> {
    /// For nodes.
    pub nodes: Changes<'p, NodeItem<'p>>,
    /// For edges.
    pub edges: Changes<'p, EdgeItem<'p>>,
    /// Ends of edges that nothing is known of.
    pub placeholders: Vec<(NodeKey, &'p NodeId)>,
}

/// How much a page changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct PageChanges {
    /// New nodes, placeholders that were shown at last among them.
    pub nodes_inserted: usize,
    /// Nodes with other content.
    pub nodes_updated: usize,
    /// Nodes that are back.
    pub nodes_reopened: usize,
    /// Nodes that only edges name.
    pub placeholders: usize,
    /// New edges.
    pub edges_inserted: usize,
    /// Edges with other content.
    pub edges_updated: usize,
    /// Edges that are back.
    pub edges_reopened: usize,
    /// Contents that wait behind another scope's.
    pub claims: usize,
}

impl std::ops::AddAssign for PageChanges {
    fn add_assign(&mut self, more: Self) {
        self.nodes_inserted += more.nodes_inserted;
        self.nodes_updated += more.nodes_updated;
        self.nodes_reopened += more.nodes_reopened;
        self.placeholders += more.placeholders;
        self.edges_inserted += more.edges_inserted;
        self.edges_updated += more.edges_updated;
        self.edges_reopened += more.edges_reopened;
        self.claims += more.claims;
    }
}

impl PagePlan<'_> {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.edges.is_empty() && self.placeholders.is_empty()
    }

    /// How much changes.
    pub fn counts(&self) -> PageChanges {
        PageChanges {
            nodes_inserted: self.nodes.insert.len() + self.nodes.show.len(),
            nodes_updated: self.nodes.update.len(),
            nodes_reopened: self.nodes.reopen.len(),
            placeholders: self.placeholders.len(),
            edges_inserted: self.edges.insert.len(),
            edges_updated: self.edges.update.len(),
            edges_reopened: self.edges.reopen.len(),
            claims: self.nodes.claim.len() + self.edges.claim.len(),
        }
    }
}

/// What a page changes, given what the graph holds and what the task has shown of this scope before. `ends_known` are nodes that are
/// known to be in the graph although `known` does not hold them.
#[expect(clippy::implicit_hasher, reason = "callers fill plain sets")]
pub fn plan_page<'p>(
    page: &'p Prepared<'p>,
    known: &Known,
    seen: &Seen,
    ends_known: &HashSet<NodeKey>,
    now: Timestamp,
) -> PagePlan<'p> {
    PagePlan {
        nodes: Changes::plan(&page.nodes, page.scope, &known.nodes, &known.node_claims, &seen.nodes, now),
        edges: Changes::plan(&page.edges, page.scope, &known.edges, &known.edge_claims, &seen.edges, now),
        placeholders: page
            .ends
            .iter()
            .filter(|(key, _)| !known.nodes.contains_key(key) && !ends_known.contains(key))
            .copied()
            .collect(),
    }
}
