//! What is drawn of a graph: an overview, the nodes of a group, a node's neighbours, paths, what a node affects, and when the graph changed.

use std::collections::HashMap;
use std::fmt::Write as _;

use access::{Permit, ops};
use domain::{Error, Limits, NodeId, Result, TenantId, Timestamp};
use inventory::NodeKey;
use inventory::map::{
    Affected, By, Element, ElementKind, Filter, Link, Moment, Overview, Path, Portrait, Sketch, Trip, View,
};

use crate::bulk::Batch;
use crate::db::{Tx, Value, args};
use crate::graph::like_part;
use crate::graph_map::{Chart, busy};
use crate::unit::enter;
use crate::{Page, Store};

/// Parts of names and tags that nodes are looked for by.
#[derive(Debug, Clone, Default)]
pub struct NodeFind {
    /// A part of the name or of the id, in any case.
    pub text: Option<String>,
    /// A tag and its value.
    pub tag: Option<(String, String)>,
}

impl NodeFind {
    fn is_empty(&self) -> bool {
        self.text.is_none() && self.tag.is_none()
    }
}

/// When the graph is looked at, and by whom what.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// The moment; none for now.
    pub as_of: Option<Timestamp>,
    /// Which nodes, by what they are and where.
    pub filter: Filter,
    /// Which nodes, by name and tag.
    pub find: NodeFind,
}

/// An answer about the graph as a whole, and as of when it is true.
#[derive(Debug, Clone)]
pub struct Charted<T> {
    /// The moment.
    pub at: Timestamp,
    /// Whether nothing has changed since.
    pub is_current: bool,
    /// The answer.
    pub is: T,
}

/// A node as lists and drawings show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCard {
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// What the graph tells of it.
    pub portrait: Portrait,
}

/// A node beside another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighborCard {
    /// The node.
    pub card: NodeCard,
    /// The types of the edges that lead to it.
    pub out: Vec<String>,
    /// The types of the edges that come from it.
    pub into: Vec<String>,
}

/// A drawing, and who its nodes are.
#[derive(Debug, Clone)]
pub struct Drawing {
    /// Its elements and links.
    pub view: View,
    /// Who its nodes are.
    pub cards: HashMap<NodeKey, NodeCard>,
    /// How many nodes that were seen there are in all; none where it was not asked for.
    pub nodes: Option<u64>,
    /// How many edges there are in all.
    pub edges: Option<u64>,
}

/// Which nodes to list.
#[derive(Debug, Clone)]
pub struct Expansion {
    /// Those that have this in common; all that the filter takes where there is none.
    pub group: Option<(By, String)>,
    /// Only those behind this key.
    pub after: Option<NodeKey>,
    /// At most this many; [`Limits::LIST_ITEMS`] at most.
    pub limit: u32,
}

/// A path, and who is on it; none where there is none within the edges that were asked for.
#[derive(Debug, Clone)]
pub struct PathFound {
    /// The path.
    pub path: Option<Path>,
    /// Who is on it, in its order.
    pub cards: Vec<NodeCard>,
}

/// What a node affects, and who the nearest are.
#[derive(Debug, Clone)]
pub struct Reach {
    /// How much.
    pub affected: Affected,
    /// The nearest, and how many edges they are away.
    pub nearest: Vec<(NodeCard, u32)>,
}

fn not_there() -> Error {
    Error::NotFound { what: "node" }
}

/// Ids and names of nodes at a moment.
async fn names(
    tx: &mut Tx,
    keys: impl Iterator<Item = NodeKey>,
    tenant: TenantId,
    as_of: Option<Timestamp>,
) -> Result<HashMap<NodeKey, (NodeId, String)>> {
    const SQL: &str = "SELECT n.key, n.id, COALESCE((SELECT h.name FROM node_version h \
           WHERE h.tenant_id = $1 AND h.key = n.key AND h.valid_from <= $2 AND h.valid_to > $2), n.name) \
         FROM LOOKUP(node n)";
    let mut found = HashMap::new();
    let moment = as_of.unwrap_or(Timestamp::from_millis(i64::MAX));
    tx.bulk_rows(&Batch::keys(keys.map(|key| key.0)), SQL, args![tenant, moment], |row| {
        found.insert(NodeKey(row.uuid(0)?.as_u128()), (row.parse(1)?, row.text(2)?));
        Ok(())
    })
    .await?;
    Ok(found)
}

fn overview_view(overview: Overview) -> View {
    let element = |group: inventory::map::OverviewGroup| Element {
        kind: group.value.map_or(ElementKind::Others, ElementKind::Group),
        groups: group.groups,
        nodes: group.nodes,
        unseen: group.unseen,
        inside: group.inside,
        findings: group.findings,
    };
    let link = |link: inventory::map::OverviewLink| Link {
        source: link.source,
        target: link.target,
        count: link.count,
        types: Vec::new(),
    };
    View {
        elements: overview.groups.into_iter().map(element).collect(),
        links: overview.links.into_iter().map(link).collect(),
        links_left: overview.links_left,
        edges_left: overview.edges_left,
        missing: Vec::new(),
    }
}

impl Store {
    async fn graph_look(&self, tenant: TenantId) -> Result<Tx> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        Ok(tx)
    }

    /// Who nodes are, in the order in which they are named.
    async fn node_cards(
        &self,
        tenant: TenantId,
        chart: &Chart,
        asked: &Asked,
        keys: Vec<NodeKey>,
    ) -> Result<Vec<NodeCard>> {
        let mut tx = self.graph_look(tenant).await?;
        let mut names = names(&mut tx, keys.iter().copied(), tenant, asked.as_of).await?;
        drop(tx);
        let (map, as_of) = (chart.map.clone(), asked.as_of);
        let portraits = busy(move || map.portraits(as_of, keys)).await?;
        let card = |portrait: Portrait| names.remove(&portrait.node).map(|(id, name)| NodeCard { id, name, portrait });
        Ok(portraits.into_iter().filter_map(card).collect())
    }

    /// The keys of the nodes that have a name or a tag, as they are now or were at a moment.
    async fn node_find(&self, tenant: TenantId, find: &NodeFind, as_of: Option<Timestamp>) -> Result<Vec<NodeKey>> {
        let mut sql = "SELECT n.key FROM node n \
             LEFT JOIN node_version v ON v.tenant_id = n.tenant_id AND v.key = n.key AND v.valid_from <= $2 AND v.valid_to > $2 \
             WHERE n.tenant_id = $1"
            .to_owned();
        let mut values: Vec<Value> = args![tenant, as_of.unwrap_or(Timestamp::from_millis(i64::MAX))].to_vec();
        if let Some(text) = &find.text {
            values.push(Value::from(format!("%{}%", like_part(text))));
            sql.push_str(
                " AND (lower(COALESCE(v.name, n.name)) LIKE lower($3) ESCAPE '!' OR lower(n.id) LIKE lower($3) ESCAPE '!')",
            );
        }
        if let Some((name, value)) = &find.tag {
            // As the text of a JSON object has it; `LIKE` would take letters of either case for the same on one engine.
            let [name, value] = [name, value].map(|text| serde_json::to_string(text).map_err(Error::internal));
            values.push(Value::from(format!("{}:{}", name?, value?)));
            let _ = write!(
                sql,
                " AND replace(COALESCE(v.tags, n.tags), ${0}, '') <> COALESCE(v.tags, n.tags)",
                values.len()
            );
        }
        let (mut found, mut tx) = (Vec::new(), self.graph_look(tenant).await?);
        tx.for_each(sqlx::AssertSqlSafe(sql), &values, |row| {
            found.push(NodeKey(row.uuid(0)?.as_u128()));
            Ok(())
        })
        .await?;
        Ok(found)
    }

    /// Draws the graph: groups, those that are opened, and nodes.
    pub async fn graph_draw(
        &self,
        permit: Permit<ops::GraphOverview>,
        asked: &Asked,
        sketch: Sketch,
    ) -> Result<Charted<Drawing>> {
        let tenant = permit.tenant();
        let plain = sketch.groups && sketch.open.is_empty() && sketch.nodes.is_empty();
        if plain && asked.as_of.is_none() && asked.find.is_empty() {
            let numbers = self.graph_numbers(tenant).await?;
            let filter = asked.filter.clone();
            let is = busy(move || {
                let overview = numbers.summary.overview(sketch.by, &filter, sketch.elements);
                let (nodes, edges) = (Some(numbers.summary.nodes()), Some(numbers.summary.edges()));
                Drawing { view: overview_view(overview), cards: HashMap::new(), nodes, edges }
            })
            .await?;
            return Ok(Charted { at: numbers.at, is_current: numbers.is_current, is });
        }
        let only =
            if asked.find.is_empty() { None } else { Some(self.node_find(tenant, &asked.find, asked.as_of).await?) };
        let chart = self.graph_chart(tenant, asked.as_of.is_some()).await?;
        let (map, as_of) = (chart.map.clone(), asked.as_of);
        let sketch = Sketch { only, filter: asked.filter.clone(), ..sketch };
        let view = busy(move || map.view(as_of, &sketch)).await??;
        let nodes = view.elements.iter().filter_map(|element| match element.kind {
            ElementKind::Node(key) => Some(key),
            _ => None,
        });
        let cards = self.node_cards(tenant, &chart, asked, nodes.collect()).await?;
        let cards = cards.into_iter().map(|card| (card.portrait.node, card)).collect();
        let is = Drawing { view, cards, nodes: None, edges: None };
        Ok(Charted { at: as_of.unwrap_or(chart.at), is_current: chart.is_current, is })
    }

    /// The nodes of a group, in the order of their keys.
    pub async fn graph_members(
        &self,
        permit: Permit<ops::GraphOverview>,
        asked: &Asked,
        expansion: Expansion,
    ) -> Result<Page<NodeCard, NodeKey>> {
        let (tenant, limit) = (permit.tenant(), expansion.limit.clamp(1, Limits::LIST_ITEMS));
        let chart = self.graph_chart(tenant, asked.as_of.is_some()).await?;
        let (map, as_of, filter) = (chart.map.clone(), asked.as_of, asked.filter.clone());
        let keys = busy(move || {
            let group = expansion.group.as_ref().map(|(by, value)| (*by, value.as_str()));
            map.members(as_of, &filter, group, expansion.after, more_than(limit))
        })
        .await?;
        let cards = self.node_cards(tenant, &chart, asked, keys).await?;
        Ok(Page::cut(cards, limit, |card: &NodeCard| card.portrait.node))
    }

    /// The nodes beside a node, in the order of their keys.
    pub async fn graph_neighbors(
        &self,
        permit: Permit<ops::GraphOverview>,
        asked: &Asked,
        node: &NodeId,
        after: Option<NodeKey>,
        limit: u32,
    ) -> Result<Page<NeighborCard, NodeKey>> {
        let (tenant, limit) = (permit.tenant(), limit.clamp(1, Limits::LIST_ITEMS));
        let chart = self.graph_chart(tenant, asked.as_of.is_some()).await?;
        let (map, as_of, node) = (chart.map.clone(), asked.as_of, NodeKey::of(node));
        let found = busy(move || map.neighbors(as_of, node, after, more_than(limit))).await?.ok_or_else(not_there)?;
        let cards = self.node_cards(tenant, &chart, asked, found.iter().map(|one| one.node).collect()).await?;
        let mut edges: HashMap<NodeKey, (Vec<String>, Vec<String>)> =
            found.into_iter().map(|one| (one.node, (one.out, one.into))).collect();
        let neighbor = |card: NodeCard| {
            let (out, into) = edges.remove(&card.portrait.node).unwrap_or_default();
            NeighborCard { card, out, into }
        };
        Ok(Page::cut(cards.into_iter().map(neighbor).collect(), limit, |one: &NeighborCard| one.card.portrait.node))
    }

    /// The shortest path between two nodes.
    pub async fn graph_path(
        &self,
        permit: Permit<ops::GraphOverview>,
        asked: &Asked,
        (from, to): (&NodeId, &NodeId),
        trip: Trip,
    ) -> Result<Charted<PathFound>> {
        let tenant = permit.tenant();
        let chart = self.graph_chart(tenant, asked.as_of.is_some()).await?;
        let (map, as_of, from, to) = (chart.map.clone(), asked.as_of, NodeKey::of(from), NodeKey::of(to));
        let path = busy(move || {
            let both = map.shows(as_of, from) && map.shows(as_of, to);
            both.then(|| map.path(as_of, from, to, &trip))
        })
        .await?
        .ok_or_else(not_there)?;
        let nodes = path.as_ref().map(|path| path.nodes.clone()).unwrap_or_default();
        let cards = self.node_cards(tenant, &chart, asked, nodes).await?;
        let is = PathFound { path, cards };
        Ok(Charted { at: as_of.unwrap_or(chart.at), is_current: chart.is_current, is })
    }

    /// What a node affects: all of it counted, the nearest by name, and how many in each group.
    pub async fn graph_affected(
        &self,
        permit: Permit<ops::GraphOverview>,
        asked: &Asked,
        node: &NodeId,
        trip: Trip,
        (by, limit): (By, u32),
    ) -> Result<Charted<Reach>> {
        let tenant = permit.tenant();
        let chart = self.graph_chart(tenant, asked.as_of.is_some()).await?;
        let (map, as_of, node) = (chart.map.clone(), asked.as_of, NodeKey::of(node));
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let affected = busy(move || map.affected(as_of, node, &trip, by, most)).await?.ok_or_else(not_there)?;
        let cards =
            self.node_cards(tenant, &chart, asked, affected.nearest.iter().map(|(node, _)| *node).collect()).await?;
        let distances: HashMap<NodeKey, u32> = affected.nearest.iter().copied().collect();
        let distance = |card: &NodeCard| distances.get(&card.portrait.node).copied().unwrap_or_default();
        let nearest = cards.into_iter().map(|card| (distance(&card), card)).map(|(far, card)| (card, far)).collect();
        let is = Reach { affected, nearest };
        Ok(Charted { at: as_of.unwrap_or(chart.at), is_current: chart.is_current, is })
    }

    /// When the graph changed, the oldest first, in at most so many moments.
    pub async fn graph_moments(&self, permit: Permit<ops::GraphOverview>, most: u32) -> Result<Charted<Vec<Moment>>> {
        let chart = self.graph_chart(permit.tenant(), true).await?;
        let (map, most) = (chart.map.clone(), usize::try_from(most).unwrap_or(usize::MAX));
        let is = busy(move || map.moments(most)).await?;
        Ok(Charted { at: chart.at, is_current: chart.is_current, is })
    }
}

/// One more than is shown, to see whether there is more.
fn more_than(limit: u32) -> usize {
    usize::try_from(limit).map_or(usize::MAX, |limit| limit.saturating_add(1))
}
