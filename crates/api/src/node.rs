//! The asset graph, now and as of any moment.

use access::ops;
use axum::Json;
use axum::extract::State;
use domain::{Error, NodeId, Timestamp};
use serde::Deserialize;
use store::{EdgeDirection, EdgeFilter, EdgeRow, NodeFilter, NodeRow};
use wire::List;
use wire::node::{Edge, Node, NodeCount, NodeSource, NodeVersion};

use crate::caller::Caller;
use crate::page::{self, Paging, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

fn node(row: NodeRow) -> Node {
    Node {
        node_type: row.id.node_type().to_owned(),
        provider: row.id.provider().to_owned(),
        region: row.id.region().to_owned(),
        id: row.id,
        name: row.name,
        properties: row.properties,
        tags: row.tags,
        first_seen: row.first_seen,
        discovered_at: row.discovered_at,
        valid_from: row.valid_from,
        closed_at: row.closed_at,
    }
}

fn edge(row: EdgeRow) -> Edge {
    Edge {
        source: row.source,
        target: row.target,
        edge_type: row.edge_type.to_string(),
        discriminator: row.discriminator,
        properties: row.properties,
        valid_from: row.valid_from,
    }
}

fn moment(text: Option<&str>) -> Result<Option<Timestamp>, Error> {
    moment_of("as_of", text)
}

fn moment_of(field: &'static str, text: Option<&str>) -> Result<Option<Timestamp>, Error> {
    text.map(|text| text.parse().map_err(|error: domain::TimestampParseError| Error::invalid(field, error.to_string())))
        .transpose()
}

fn flag(text: Option<&str>, field: &'static str) -> Result<bool, Error> {
    match text {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Error::invalid(field, "use true or false")),
    }
}

/// Which nodes.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeQuery {
    /// A type, or the beginning of types with `*` at its end.
    #[serde(rename = "type")]
    node_type: Option<String>,
    /// A source, e.g. `aws`.
    provider: Option<String>,
    /// A region.
    region: Option<String>,
    /// A part of the name.
    name: Option<String>,
    /// `true`: also nodes that are gone.
    closed: Option<String>,
    /// The graph at this moment (RFC 3339).
    as_of: Option<String>,
    /// Only nodes that changed at this moment (RFC 3339) or later; with `closed=true` also those that went. Not with `as_of`.
    changed_since: Option<String>,
    /// Only nodes that were seen first at this moment (RFC 3339) or later.
    first_seen_since: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// The tenant's nodes.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/nodes", tag = "graph", params(("tenant" = String, Path, description = "id or slug"), NodeQuery),
    responses((status = 200, description = "nodes", body = List<Node>)))]
pub(crate) async fn node_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<NodeQuery>,
) -> Answer<Json<List<Node>>> {
    let permit = caller.permit::<ops::NodeList>(&tenant).await?;
    let filter = NodeFilter {
        node_type: query.node_type,
        provider: query.provider,
        region: query.region,
        scope: None,
        name: query.name,
        include_closed: flag(query.closed.as_deref(), "closed")?,
        as_of: moment(query.as_of.as_deref())?,
        changed_since: moment_of("changed_since", query.changed_since.as_deref())?,
        first_seen_since: moment_of("first_seen_since", query.first_seen_since.as_deref())?,
        after: page::after(query.page.as_deref())?,
        limit: page::limit(query.limit.as_deref())?,
    };
    Ok(page::list(state.store.read(permit).await?.node_list(&filter).await?, node))
}

/// When a node is asked about.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AsOf {
    /// As it was at this moment (RFC 3339).
    as_of: Option<String>,
}

/// A node id in a path: a malformed one is told, since it says nothing about what exists.
fn node_id(text: &str) -> Result<NodeId, Error> {
    text.parse()
}

/// One node.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/nodes/{node}", tag = "graph",
    params(("tenant" = String, Path, description = "id or slug"), ("node" = String, Path, description = "the node's id, percent-encoded"), AsOf),
    responses((status = 200, description = "node", body = Node)))]
pub(crate) async fn node_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
    Query(query): Query<AsOf>,
) -> Answer<Json<Node>> {
    let permit = caller.permit::<ops::NodeList>(&tenant).await?;
    let as_of = moment(query.as_of.as_deref())?;
    Ok(Json(node(state.store.read(permit).await?.node_show(&node_id(&id)?, as_of).await?)))
}

/// A node's versions, newest first.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/nodes/{node}/history", tag = "graph",
    params(("tenant" = String, Path, description = "id or slug"), ("node" = String, Path, description = "the node's id, percent-encoded"), Paging),
    responses((status = 200, description = "versions", body = List<NodeVersion>)))]
pub(crate) async fn node_history(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<NodeVersion>>> {
    let permit = caller.permit::<ops::NodeList>(&tenant).await?;
    let (before, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    let rows = state.store.read(permit).await?.node_history(&node_id(&id)?, before, limit).await?;
    Ok(page::list(rows, |row| NodeVersion {
        valid_from: row.valid_from,
        valid_to: row.valid_to,
        name: row.name,
        properties: row.properties,
        tags: row.tags,
    }))
}

/// Who says that a node is there: the scopes that show it, the one whose word counts first.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/nodes/{node}/sources", tag = "graph",
    params(("tenant" = String, Path, description = "id or slug"), ("node" = String, Path, description = "the node's id, percent-encoded")),
    responses((status = 200, description = "scopes", body = List<NodeSource>)))]
pub(crate) async fn node_sources(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<List<NodeSource>>> {
    let permit = caller.permit::<ops::NodeList>(&tenant).await?;
    let rows = state.store.read(permit).await?.node_sources(&node_id(&id)?).await?;
    let source = |row: store::NodeSource| NodeSource {
        source: row.source,
        scope: row.scope,
        counts: row.counts,
        since: row.since,
        verdict: row.verdict,
        read_at: row.read_at,
        complete_at: row.complete_at,
    };
    Ok(page::whole(rows.into_iter().map(source).collect()))
}

/// How many nodes there are of each type.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/node-counts", tag = "graph", params(("tenant" = String, Path, description = "id or slug")),
    responses((status = 200, description = "counts", body = List<NodeCount>)))]
pub(crate) async fn node_counts(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Answer<Json<List<NodeCount>>> {
    let permit = caller.permit::<ops::NodeList>(&tenant).await?;
    let rows = state.store.read(permit).await?.node_counts().await?;
    Ok(page::whole(rows.into_iter().map(|row| NodeCount { node_type: row.node_type, count: row.count }).collect()))
}

/// Which edges.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct EdgeQuery {
    /// Edges of this node.
    node: Option<String>,
    /// `in`, `out` or `both` (default) of that node.
    direction: Option<String>,
    /// A type.
    #[serde(rename = "type")]
    edge_type: Option<String>,
    /// The graph at this moment (RFC 3339).
    as_of: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// The tenant's edges.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/edges", tag = "graph", params(("tenant" = String, Path, description = "id or slug"), EdgeQuery),
    responses((status = 200, description = "edges", body = List<Edge>)))]
pub(crate) async fn edge_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<EdgeQuery>,
) -> Answer<Json<List<Edge>>> {
    let permit = caller.permit::<ops::EdgeList>(&tenant).await?;
    let direction = match query.direction.as_deref() {
        None | Some("both") => EdgeDirection::Both,
        Some("in") => EdgeDirection::In,
        Some("out") => EdgeDirection::Out,
        Some(_) => return Err(Error::invalid("direction", "use in, out or both").into()),
    };
    let filter = EdgeFilter {
        node: page::word("node", query.node.as_deref())?,
        direction,
        edge_type: page::word("type", query.edge_type.as_deref())?,
        as_of: moment(query.as_of.as_deref())?,
        after: page::after(query.page.as_deref())?,
        limit: page::limit(query.limit.as_deref())?,
    };
    Ok(page::list(state.store.read(permit).await?.edge_list(&filter).await?, edge))
}
