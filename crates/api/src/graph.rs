//! The asset graph as it is drawn: never as a whole, always with what was left out.

use std::collections::HashMap;

use access::ops;
use axum::Json;
use axum::extract::State;
use domain::{Error, Limits, NodeId, Timestamp};
use inventory::NodeKey;
use inventory::map::{By, ElementKind, Filter, Follow, Opened, Severities, Sketch, Trip};
use serde::Deserialize;
use store::{Asked, Charted, Drawing, Expansion, NodeCard, NodeFind};
use wire::List;
use wire::graph::{
    GraphAffected, GraphCount, GraphDrawing, GraphElement, GraphLink, GraphMoment, GraphNeighbor, GraphNode, GraphPath,
    GraphReach, GraphSketch, GraphStep, SeverityCounts,
};

use crate::caller::Caller;
use crate::page::{self, Body, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// Elements of one drawing.
const ELEMENTS_MAX: u32 = 2_000;
const ELEMENTS_DEFAULT: u32 = 200;
/// Groups that one drawing opens.
const OPEN_MAX: usize = 100;
/// Nodes that one drawing shows by themselves because they were named.
const NODES_MAX: usize = 1_000;
/// Edges that a path has or that trouble travels.
const HOPS_MAX: u32 = 64;
const HOPS_DEFAULT: u32 = 16;
/// Characters of a text to look for.
const SEARCH_CHARS: usize = 256;
/// Types of edges that are followed.
const TYPES_MAX: usize = 64;
/// Moments at which the graph changed.
const MOMENTS_MAX: u32 = 500;

fn counts(findings: Severities) -> SeverityCounts {
    let Severities { critical, high, medium, low, info } = findings;
    SeverityCounts { critical, high, medium, low, info }
}

/// Whether findings may be shown beside nodes: to whoever may read them, and not in the past, of which they say nothing.
#[derive(Clone, Copy)]
struct Findings(bool);

impl Findings {
    fn of(caller: &Caller, tenant: domain::TenantId, asked: &Asked) -> Self {
        Self(asked.as_of.is_none() && caller.ctx().authorize::<ops::FindingList>(tenant).is_ok())
    }

    fn show(self, findings: Severities) -> Option<SeverityCounts> {
        self.0.then(|| counts(findings))
    }

    fn node(self, card: NodeCard) -> GraphNode {
        let (id, portrait) = (card.id, card.portrait);
        GraphNode {
            node_type: id.node_type().to_owned(),
            provider: id.provider().to_owned(),
            region: id.region().to_owned(),
            id,
            account: portrait.account,
            network: portrait.network,
            name: card.name,
            edges: portrait.edges,
            seen: portrait.is_seen,
            findings: self.show(portrait.findings),
        }
    }
}

fn moment(text: Option<&str>) -> Result<Option<Timestamp>, Error> {
    text.map(|text| {
        text.parse().map_err(|error: domain::TimestampParseError| Error::invalid("as_of", error.to_string()))
    })
    .transpose()
}

fn find(search: Option<String>, tag: Option<&str>) -> Result<NodeFind, Error> {
    if search.as_ref().is_some_and(|text| text.chars().count() > SEARCH_CHARS) {
        return Err(Error::invalid("search", format!("use at most {SEARCH_CHARS} characters")));
    }
    let told = || Error::invalid("tag", format!("use `name=value`, at most {SEARCH_CHARS} characters"));
    let tag = tag
        .map(|tag| {
            let (name, value) = tag.split_once('=').ok_or_else(told)?;
            if name.is_empty() || tag.chars().count() > SEARCH_CHARS {
                return Err(told());
            }
            Ok((name.to_owned(), value.to_owned()))
        })
        .transpose()?;
    Ok(NodeFind { text: search.filter(|text| !text.is_empty()), tag })
}

/// A node id: a malformed one is told, since it says nothing about what exists.
fn node_id(field: &'static str, text: Option<&str>) -> Result<NodeId, Error> {
    page::word(field, text)?.ok_or_else(|| Error::invalid(field, "name a node by its id"))
}

fn drawing(by: By, ids: &HashMap<NodeKey, NodeId>, charted: Charted<Drawing>, findings: Findings) -> GraphDrawing {
    let Drawing { view, mut cards, nodes, edges } = charted.is;
    let element = |element: inventory::map::Element| {
        let (kind, group, node) = match element.kind {
            ElementKind::Group(group) => ("group", Some(group), None),
            ElementKind::Rest(group) => ("rest", Some(group), None),
            ElementKind::Others => ("others", None, None),
            ElementKind::Node(key) => ("node", None, cards.remove(&key).map(|card| findings.node(card))),
        };
        GraphElement {
            kind: kind.to_owned(),
            group,
            node,
            groups: element.groups,
            nodes: element.nodes,
            unseen: element.unseen,
            inside: element.inside,
            findings: findings.show(element.findings),
        }
    };
    let link = |link: inventory::map::Link| GraphLink {
        source: link.source,
        target: link.target,
        count: link.count,
        types: link.types,
    };
    GraphDrawing {
        as_of: charted.at,
        current: charted.is_current,
        by: by.as_str().to_owned(),
        elements: view.elements.into_iter().map(element).collect(),
        links: view.links.into_iter().map(link).collect(),
        links_left: view.links_left,
        edges_left: view.edges_left,
        missing: view.missing.iter().filter_map(|key| ids.get(key).cloned()).collect(),
        nodes_total: nodes,
        edges_total: edges,
    }
}

/// What of the graph.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct GraphQuery {
    /// What nodes are put together by: `account` (default), `network`, `kind`, `region` or `provider`.
    by: Option<String>,
    /// Only nodes of this type; `*` at its end stands for any rest.
    kind: Option<String>,
    /// Only nodes of this source.
    provider: Option<String>,
    /// Only nodes in this region.
    region: Option<String>,
    /// Only nodes in this account.
    account: Option<String>,
    /// Only nodes in this network; empty: in none.
    network: Option<String>,
    /// Only nodes with this in their name or id, in any case.
    search: Option<String>,
    /// Only nodes with this tag: `name=value`.
    tag: Option<String>,
    /// The graph at this moment (RFC 3339).
    as_of: Option<String>,
    /// The most elements: 1 to 2,000, default 200.
    elements: Option<String>,
}

/// The graph in groups, and the edges between them.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/graph", tag = "graph", params(("tenant" = String, Path, description = "id or slug"), GraphQuery),
    responses((status = 200, description = "the graph in groups", body = GraphDrawing)))]
pub(crate) async fn graph_overview(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<GraphQuery>,
) -> Answer<Json<GraphDrawing>> {
    let permit = caller.permit::<ops::GraphOverview>(&tenant).await?;
    let by = page::word("by", query.by.as_deref())?.unwrap_or_default();
    let elements = page::number("elements", query.elements.as_deref(), ELEMENTS_DEFAULT, ELEMENTS_MAX)?;
    let asked = Asked {
        as_of: moment(query.as_of.as_deref())?,
        filter: Filter {
            kind: query.kind,
            provider: query.provider,
            region: query.region,
            account: query.account,
            network: query.network,
        },
        find: find(query.search, query.tag.as_deref())?,
    };
    let findings = Findings::of(&caller, permit.tenant(), &asked);
    let sketch = Sketch { by, groups: true, elements: size(elements), ..Sketch::default() };
    let drawn = state.store.graph_draw(permit, &asked, sketch).await?;
    Ok(Json(drawing(by, &HashMap::new(), drawn, findings)))
}

fn size(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The graph in groups, of which some are opened into their nodes, with nodes beside them. Changes nothing.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/graph/view", tag = "graph", params(("tenant" = String, Path, description = "id or slug")),
    request_body = GraphSketch, responses((status = 200, description = "the drawing", body = GraphDrawing)))]
pub(crate) async fn graph_view(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<GraphSketch>,
) -> Answer<Json<GraphDrawing>> {
    let permit = caller.permit::<ops::GraphOverview>(&tenant).await?;
    let by = page::word("by", body.by.as_deref())?.unwrap_or_default();
    let elements = page::within("elements", body.elements.unwrap_or(ELEMENTS_DEFAULT), ELEMENTS_MAX)?;
    if body.open.len() > OPEN_MAX {
        return Err(Error::Limit { which: "groups that are opened", max: OPEN_MAX as u64 }.into());
    }
    if body.nodes.len() > NODES_MAX {
        return Err(Error::Limit { which: "nodes that are drawn by themselves", max: NODES_MAX as u64 }.into());
    }
    let open = body.open.into_iter().map(|opened| {
        let most = page::within("open.limit", opened.limit.unwrap_or(Limits::LIST_ITEMS_DEFAULT), Limits::LIST_ITEMS)?;
        Ok::<_, Error>(Opened { value: opened.group, most: size(most) })
    });
    let open = open.collect::<Result<_, _>>()?;
    let ids: Vec<NodeId> = body.nodes.iter().map(|id| node_id("nodes", Some(id))).collect::<Result<_, _>>()?;
    let ids: HashMap<NodeKey, NodeId> = ids.into_iter().map(|id| (NodeKey::of(&id), id)).collect();
    let mut nodes: Vec<NodeKey> = ids.keys().copied().collect();
    nodes.sort_unstable();
    let asked = Asked {
        as_of: moment(body.as_of.as_deref())?,
        filter: Filter {
            kind: body.kind,
            provider: body.provider,
            region: body.region,
            account: body.account,
            network: body.network,
        },
        find: find(body.search, body.tag.as_deref())?,
    };
    let findings = Findings::of(&caller, permit.tenant(), &asked);
    let groups = body.groups.unwrap_or(true);
    let sketch =
        Sketch { by, open, nodes, groups, findings: findings.0, elements: size(elements), ..Sketch::default() };
    let drawn = state.store.graph_draw(permit, &asked, sketch).await?;
    Ok(Json(drawing(by, &ids, drawn, findings)))
}

/// Which nodes of the graph.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct MemberQuery {
    /// What `group` is by: `account` (default), `network`, `kind`, `region` or `provider`.
    by: Option<String>,
    /// Only nodes that have this in common.
    group: Option<String>,
    /// Only nodes of this type; `*` at its end stands for any rest.
    kind: Option<String>,
    /// Only nodes of this source.
    provider: Option<String>,
    /// Only nodes in this region.
    region: Option<String>,
    /// Only nodes in this account.
    account: Option<String>,
    /// Only nodes in this network; empty: in none.
    network: Option<String>,
    /// The graph at this moment (RFC 3339).
    as_of: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// The nodes of a group.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/graph/members", tag = "graph", params(("tenant" = String, Path, description = "id or slug"), MemberQuery),
    responses((status = 200, description = "nodes", body = List<GraphNode>)))]
pub(crate) async fn graph_members(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<MemberQuery>,
) -> Answer<Json<List<GraphNode>>> {
    let permit = caller.permit::<ops::GraphOverview>(&tenant).await?;
    let by: By = page::word("by", query.by.as_deref())?.unwrap_or_default();
    let expansion = Expansion {
        group: query.group.map(|group| (by, group)),
        after: page::after(query.page.as_deref())?,
        limit: page::limit(query.limit.as_deref())?,
    };
    let asked = Asked {
        as_of: moment(query.as_of.as_deref())?,
        filter: Filter {
            kind: query.kind,
            provider: query.provider,
            region: query.region,
            account: query.account,
            network: query.network,
        },
        find: NodeFind::default(),
    };
    let findings = Findings::of(&caller, permit.tenant(), &asked);
    let cards = state.store.graph_members(permit, &asked, expansion).await?;
    Ok(page::list(cards, |card| findings.node(card)))
}

/// Whose neighbours.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct NeighborQuery {
    /// The graph at this moment (RFC 3339).
    as_of: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// The nodes beside a node, and by which edges.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/nodes/{node}/neighbors", tag = "graph",
    params(("tenant" = String, Path, description = "id or slug"), ("node" = String, Path, description = "the node's id, percent-encoded"), NeighborQuery),
    responses((status = 200, description = "nodes", body = List<GraphNeighbor>)))]
pub(crate) async fn graph_neighbors(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, node)): Path<(String, String)>,
    Query(query): Query<NeighborQuery>,
) -> Answer<Json<List<GraphNeighbor>>> {
    let permit = caller.permit::<ops::GraphOverview>(&tenant).await?;
    let node = node_id("node", Some(&node))?;
    let asked = Asked { as_of: moment(query.as_of.as_deref())?, ..Asked::default() };
    let (after, limit) = (page::after(query.page.as_deref())?, page::limit(query.limit.as_deref())?);
    let findings = Findings::of(&caller, permit.tenant(), &asked);
    let found = state.store.graph_neighbors(permit, &asked, &node, after, limit).await?;
    Ok(page::list(found, |one| GraphNeighbor { node: findings.node(one.card), out: one.out, into: one.into }))
}

/// Where to, and how.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct PathQuery {
    /// The id of the last node; required.
    to: Option<String>,
    /// `out` (default: along the edges), `in`, `any` or `impact` (as trouble travels).
    direction: Option<String>,
    /// Only over edges of these types, with commas between them.
    types: Option<String>,
    /// At most this many edges: 1 to 64, default 16.
    hops: Option<String>,
    /// The graph at this moment (RFC 3339).
    as_of: Option<String>,
}

fn trip(follow: Follow, direction: Option<&str>, types: Option<&str>, hops: Option<&str>) -> Result<Trip, Error> {
    if types.is_some_and(|types| types.split(',').count() > TYPES_MAX) {
        return Err(Error::Limit { which: "types of edges", max: TYPES_MAX as u64 });
    }
    let types = types.into_iter().flat_map(|types| types.split(',')).map(|text| {
        page::word::<domain::EdgeType>("types", Some(text.trim()))?
            .map(|edge_type| edge_type.as_str().to_owned())
            .ok_or_else(|| Error::invalid("types", "name a type"))
    });
    Ok(Trip {
        follow: page::word("direction", direction)?.unwrap_or(follow),
        types: types.collect::<Result<_, _>>()?,
        hops: page::number("hops", hops, HOPS_DEFAULT, HOPS_MAX)?,
    })
}

/// The shortest path from a node to another one.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/nodes/{node}/path", tag = "graph",
    params(("tenant" = String, Path, description = "id or slug"), ("node" = String, Path, description = "the node's id, percent-encoded"), PathQuery),
    responses((status = 200, description = "the path", body = GraphPath)))]
pub(crate) async fn graph_path(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, node)): Path<(String, String)>,
    Query(query): Query<PathQuery>,
) -> Answer<Json<GraphPath>> {
    let permit = caller.permit::<ops::GraphOverview>(&tenant).await?;
    let (from, to) = (node_id("node", Some(&node))?, node_id("to", query.to.as_deref())?);
    let trip = trip(Follow::Out, query.direction.as_deref(), query.types.as_deref(), query.hops.as_deref())?;
    let asked = Asked { as_of: moment(query.as_of.as_deref())?, ..Asked::default() };
    let findings = Findings::of(&caller, permit.tenant(), &asked);
    let charted = state.store.graph_path(permit, &asked, (&from, &to), trip).await?;
    let steps = charted.is.path.as_ref().map(|path| path.steps.clone()).unwrap_or_default();
    Ok(Json(GraphPath {
        as_of: charted.at,
        current: charted.is_current,
        found: charted.is.path.is_some(),
        nodes: charted.is.cards.into_iter().map(|card| findings.node(card)).collect(),
        steps: steps.into_iter().map(|step| GraphStep { types: step.types, forward: step.forward }).collect(),
    }))
}

/// What something that happens to a node affects.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReachQuery {
    /// `impact` (default: as trouble travels over each type of edge), `out`, `in` or `any`.
    direction: Option<String>,
    /// Only over edges of these types, with commas between them.
    types: Option<String>,
    /// At most this many edges: 1 to 64, default 16.
    hops: Option<String>,
    /// What they are counted by besides: `account` (default), `network`, `kind`, `region` or `provider`.
    by: Option<String>,
    /// The graph at this moment (RFC 3339).
    as_of: Option<String>,
    /// How many are named: 1 to 500, default 100. All are counted.
    limit: Option<String>,
}

/// What something that happens to a node affects (its blast radius).
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/nodes/{node}/reach", tag = "graph",
    params(("tenant" = String, Path, description = "id or slug"), ("node" = String, Path, description = "the node's id, percent-encoded"), ReachQuery),
    responses((status = 200, description = "what is affected", body = GraphReach)))]
pub(crate) async fn graph_reach(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, node)): Path<(String, String)>,
    Query(query): Query<ReachQuery>,
) -> Answer<Json<GraphReach>> {
    let permit = caller.permit::<ops::GraphOverview>(&tenant).await?;
    let node = node_id("node", Some(&node))?;
    let trip = trip(Follow::Impact, query.direction.as_deref(), query.types.as_deref(), query.hops.as_deref())?;
    let by: By = page::word("by", query.by.as_deref())?.unwrap_or_default();
    let limit = page::limit(query.limit.as_deref())?;
    let asked = Asked { as_of: moment(query.as_of.as_deref())?, ..Asked::default() };
    let findings = Findings::of(&caller, permit.tenant(), &asked);
    let charted = state.store.graph_affected(permit, &asked, &node, trip, (by, limit)).await?;
    let affected = charted.is.affected;
    let count = |(value, count)| GraphCount { value, count };
    Ok(Json(GraphReach {
        as_of: charted.at,
        current: charted.is_current,
        nodes_total: affected.nodes,
        unseen_total: affected.unseen,
        goes_on: affected.goes_on,
        distances: affected.distances,
        kinds: affected.kinds.into_iter().map(count).collect(),
        by: by.as_str().to_owned(),
        groups: affected.groups.into_iter().take(size(ELEMENTS_MAX)).map(count).collect(),
        findings: findings.show(affected.findings),
        nodes: charted
            .is
            .nearest
            .into_iter()
            .map(|(card, distance)| GraphAffected { node: findings.node(card), distance })
            .collect(),
    }))
}

/// How many moments.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct MomentQuery {
    /// At most this many: 1 to 500, default 100. Changes that follow each other closely are told as one.
    limit: Option<String>,
}

/// When discovery changed the graph, the oldest first.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/graph/moments", tag = "graph", params(("tenant" = String, Path, description = "id or slug"), MomentQuery),
    responses((status = 200, description = "moments", body = List<GraphMoment>)))]
pub(crate) async fn graph_moments(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<MomentQuery>,
) -> Answer<Json<List<GraphMoment>>> {
    let permit = caller.permit::<ops::GraphOverview>(&tenant).await?;
    let most = page::number("limit", query.limit.as_deref(), Limits::LIST_ITEMS_DEFAULT, MOMENTS_MAX)?;
    let moments = state.store.graph_moments(permit, most).await?.is;
    let moment = |moment: inventory::map::Moment| GraphMoment {
        from: moment.from,
        at: moment.at,
        nodes_begun: moment.nodes_begun,
        nodes_ended: moment.nodes_ended,
        edges_begun: moment.edges_begun,
        edges_ended: moment.edges_ended,
    };
    Ok(page::whole(moments.into_iter().map(moment).collect()))
}
