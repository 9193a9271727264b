//! What is drawn of the asset graph.

use domain::{NodeId, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Open findings by severity.
#[derive(Debug, Clone, Copy, Default, Deserialize, Serialize, ToSchema)]
pub struct SeverityCounts {
    /// Of severity `critical`.
    pub critical: u64,
    /// Of severity `high`.
    pub high: u64,
    /// Of severity `medium`.
    pub medium: u64,
    /// Of severity `low`.
    pub low: u64,
    /// Of severity `info`.
    pub info: u64,
}

/// A node as lists and drawings of the graph show it.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GraphNode {
    /// `<provider>:<region>:<type>:<resource-id>`.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// Its type.
    #[serde(rename = "type")]
    pub node_type: String,
    /// The source.
    pub provider: String,
    /// The region.
    pub region: String,
    /// Its account, or `<source>:<region>` where it is in none.
    pub account: String,
    /// Its network; empty: none.
    pub network: String,
    /// Its name.
    pub name: String,
    /// How many edges it has.
    pub edges: u64,
    /// Whether a scope has shown it; false: only edges name it.
    pub seen: bool,
    /// Its open findings; absent where the caller may not read findings, and in the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<SeverityCounts>,
}

/// A node beside another one.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GraphNeighbor {
    /// The node.
    #[serde(flatten)]
    pub node: GraphNode,
    /// The types of the edges that lead to it.
    pub out: Vec<String>,
    /// The types of the edges that come from it.
    #[serde(rename = "in")]
    pub into: Vec<String>,
}

/// A point of a drawing.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GraphElement {
    /// What it stands for: `group` (all nodes that have `group` in common), `rest` (those of an opened group that are not drawn by themselves),
    /// `others` (groups that did not fit) or `node`.
    pub kind: String,
    /// What its nodes have in common; empty: that they have none of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The node, where it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<GraphNode>,
    /// How many groups it stands for.
    pub groups: u64,
    /// How many nodes that were seen.
    pub nodes: u64,
    /// How many nodes that only edges name.
    pub unseen: u64,
    /// Edges inside of it.
    pub inside: u64,
    /// Open findings; absent where the caller may not read findings, and in the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<SeverityCounts>,
}

/// A line of a drawing.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GraphLink {
    /// The element that it leaves: a place in `elements`.
    pub source: u32,
    /// The element that it reaches.
    pub target: u32,
    /// How many edges it stands for.
    pub count: u64,
    /// Their types, between two nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
}

/// A drawing of the graph. Nothing is left out without a word: groups that do not fit are one element, and links that do not fit are counted.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GraphDrawing {
    /// The moment that it shows.
    #[schema(value_type = String)]
    pub as_of: Timestamp,
    /// Whether the graph has not changed since it was read; a large one is read again in the background.
    pub current: bool,
    /// What nodes are put together by.
    pub by: String,
    /// Its points: nodes, then groups, the largest first, then what did not fit.
    pub elements: Vec<GraphElement>,
    /// Its lines, those of the most edges first.
    pub links: Vec<GraphLink>,
    /// Links that did not fit.
    pub links_left: u64,
    /// How many edges these stand for.
    pub edges_left: u64,
    /// Nodes that were asked for and are not there.
    #[schema(value_type = Vec<String>)]
    pub missing: Vec<NodeId>,
    /// How many nodes the whole graph has; absent where nodes were looked for or drawn by themselves, and in the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes_total: Option<u64>,
    /// How many edges the whole graph has; likewise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges_total: Option<u64>,
}

/// A group that is opened.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphOpened {
    /// What its nodes have in common.
    pub group: String,
    /// How many of its nodes are drawn: 1 to 500, default 100. The foremost ones: with the worst findings, then with the most edges.
    #[serde(default)]
    pub limit: Option<u32>,
}

/// What to draw.
#[derive(Debug, Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphSketch {
    /// What nodes are put together by: `account` (default), `network`, `kind`, `region` or `provider`.
    #[serde(default)]
    pub by: Option<String>,
    /// Only nodes of this type; `*` at its end stands for any rest.
    #[serde(default)]
    pub kind: Option<String>,
    /// Only nodes of this source.
    #[serde(default)]
    pub provider: Option<String>,
    /// Only nodes in this region.
    #[serde(default)]
    pub region: Option<String>,
    /// Only nodes in this account.
    #[serde(default)]
    pub account: Option<String>,
    /// Only nodes in this network; empty: in none.
    #[serde(default)]
    pub network: Option<String>,
    /// Only nodes with this in their name or id, in any case.
    #[serde(default)]
    pub search: Option<String>,
    /// Only nodes with this tag: `name=value`.
    #[serde(default)]
    pub tag: Option<String>,
    /// The graph at this moment (RFC 3339).
    #[serde(default)]
    pub as_of: Option<String>,
    /// Groups that are opened into their nodes: 100 at most.
    #[serde(default)]
    pub open: Vec<GraphOpened>,
    /// Nodes that are drawn by themselves, whatever else is asked: 1,000 at most.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Whether groups are drawn; default true.
    #[serde(default)]
    pub groups: Option<bool>,
    /// The most elements: 1 to 2,000, default 200.
    #[serde(default)]
    pub elements: Option<u32>,
}

/// One step of a path.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GraphStep {
    /// The types of the edges that it goes over.
    pub types: Vec<String>,
    /// Whether the edges point the way that the path goes.
    pub forward: bool,
}

/// The shortest path between two nodes.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GraphPath {
    /// The moment that it is about.
    #[schema(value_type = String)]
    pub as_of: Timestamp,
    /// Whether the graph has not changed since it was read.
    pub current: bool,
    /// Whether there is one within the edges that were asked for.
    pub found: bool,
    /// Its nodes, from the first to the last.
    pub nodes: Vec<GraphNode>,
    /// What is between them: one fewer.
    pub steps: Vec<GraphStep>,
}

/// How many.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GraphCount {
    /// Of what.
    pub value: String,
    /// How many nodes.
    pub count: u64,
}

/// A node that is affected.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GraphAffected {
    /// The node.
    #[serde(flatten)]
    pub node: GraphNode,
    /// How many edges it is away.
    pub distance: u32,
}

/// What a node affects: all of it counted, the nearest by name.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GraphReach {
    /// The moment that it is about.
    #[schema(value_type = String)]
    pub as_of: Timestamp,
    /// Whether the graph has not changed since it was read.
    pub current: bool,
    /// How many nodes that were seen, all of them.
    pub nodes_total: u64,
    /// How many nodes that only edges name.
    pub unseen_total: u64,
    /// Whether more is affected beyond the edges that were followed.
    pub goes_on: bool,
    /// How many are 1, 2, 3, … edges away.
    pub distances: Vec<u64>,
    /// How many of each type, the most first.
    pub kinds: Vec<GraphCount>,
    /// What `groups` is by.
    pub by: String,
    /// How many in each group, the most first; at most 2,000.
    pub groups: Vec<GraphCount>,
    /// The open findings of all of them; absent where the caller may not read findings, and in the past.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub findings: Option<SeverityCounts>,
    /// The nearest, as many as were asked for.
    pub nodes: Vec<GraphAffected>,
}

/// A time at which discovery changed the graph, as one with what it changed shortly before.
#[derive(Debug, Clone, Deserialize, Serialize, ToSchema)]
pub struct GraphMoment {
    /// The first change.
    #[schema(value_type = String)]
    pub from: Timestamp,
    /// The last one: a moment to look at the graph.
    #[schema(value_type = String)]
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
