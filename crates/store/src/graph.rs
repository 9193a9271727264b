//! The graph as it is now or was at any moment: nodes, edges, histories, counts, and the whole of it as a stream.
//!
//! A node was there at `t` if its current version had begun and not ended, or an older version holds `t`. An edge is there while its source
//! claims it and neither end is known to be gone; an end that nothing was known of yet does not hide it.

use std::collections::HashMap;

use access::ops;
use domain::{EdgeType, Error, Limits, NodeId, Properties, Result, ScopeId, Tags, TenantId, Timestamp};
use inventory::{EdgeKey, NodeKey};
use uuid::Uuid;

use crate::Page;
use crate::db::{Row, Tx, Value, args};
use crate::unit::Read;

/// Which nodes to list, in the order of their keys. What is absent does not restrict.
#[derive(Debug, Clone, Default)]
pub struct NodeFilter {
    /// A type, or the beginning of types and `*`.
    pub node_type: Option<String>,
    /// The provider of the id.
    pub provider: Option<String>,
    /// The region of the id.
    pub region: Option<String>,
    /// The scope that owns it.
    pub scope: Option<ScopeId>,
    /// A part of the name, in any case.
    pub name: Option<String>,
    /// Closed ones too; not together with `as_of`.
    pub include_closed: bool,
    /// As they were at this moment.
    pub as_of: Option<Timestamp>,
    /// Only those that became what they are at this moment or later, and with `include_closed` those that went; not together with `as_of`.
    pub changed_since: Option<Timestamp>,
    /// Only those that were seen first at this moment or later.
    pub first_seen_since: Option<Timestamp>,
    /// Only those behind this key.
    pub after: Option<NodeKey>,
    /// At most this many; [`Limits::LIST_ITEMS`] at most.
    pub limit: u32,
}

/// A node at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeRow {
    /// Its key.
    pub key: NodeKey,
    /// Its id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
    /// Its facts.
    pub properties: Properties,
    /// Its tags.
    pub tags: Tags,
    /// When it was seen first.
    pub first_seen: Timestamp,
    /// When it was last seen; not after the moment that was asked for.
    pub discovered_at: Timestamp,
    /// Since when it is as it is.
    pub valid_from: Timestamp,
    /// Since when it is gone.
    pub closed_at: Option<Timestamp>,
}

/// One version of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeVersion {
    /// Its first moment.
    pub valid_from: Timestamp,
    /// The first moment after it; none while it holds.
    pub valid_to: Option<Timestamp>,
    /// The node's name.
    pub name: String,
    /// Its facts.
    pub properties: Properties,
    /// Its tags.
    pub tags: Tags,
}

/// From which end edges are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EdgeDirection {
    /// Edges that leave the node.
    Out,
    /// Edges that reach the node.
    In,
    /// Both.
    #[default]
    Both,
}

/// Which edges to list, in the order of their keys. What is absent does not restrict.
#[derive(Debug, Clone, Default)]
pub struct EdgeFilter {
    /// Edges of this node.
    pub node: Option<NodeId>,
    /// Which of that node's edges.
    pub direction: EdgeDirection,
    /// Edges of this type.
    pub edge_type: Option<EdgeType>,
    /// As they were at this moment.
    pub as_of: Option<Timestamp>,
    /// Only those behind this key.
    pub after: Option<EdgeKey>,
    /// At most this many; [`Limits::LIST_ITEMS`] at most.
    pub limit: u32,
}

/// An edge at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeRow {
    /// Its key.
    pub key: EdgeKey,
    /// The node that it leaves.
    pub source: NodeId,
    /// The node that it reaches.
    pub target: NodeId,
    /// Its type.
    pub edge_type: EdgeType,
    /// Tells it from others of its type between the same two.
    pub discriminator: String,
    /// Its facts.
    pub properties: Properties,
    /// Since when it is as it is.
    pub valid_from: Timestamp,
}

/// A scope that shows a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeSource {
    /// Who reads the scope.
    pub source: String,
    /// The scope.
    pub scope: String,
    /// Whether its content is the node's; another scope's waits until this one no longer shows the node.
    pub counts: bool,
    /// Since when its content is as it is.
    pub since: Timestamp,
    /// How much the last reading of the scope saw.
    pub verdict: String,
    /// When that was.
    pub read_at: Timestamp,
    /// When the scope was last read completely.
    pub complete_at: Option<Timestamp>,
}

/// How many open nodes there are of a type.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NodeCount {
    /// The type.
    #[serde(rename = "type")]
    pub node_type: String,
    /// How many.
    pub count: u64,
}

/// A part of the graph as it streams by; every node comes before the first edge.
#[derive(Debug)]
pub enum SnapshotItem<'a> {
    /// An open node that a scope has shown.
    Node {
        /// Its id.
        id: &'a NodeId,
        /// Its name.
        name: &'a str,
        /// Its tags: an object.
        tags: serde_json::Value,
        /// Its facts: an object.
        properties: serde_json::Value,
    },
    /// A node that edges name and no scope has shown.
    Unread {
        /// Its id.
        id: &'a NodeId,
    },
    /// A scope that was read.
    Scope {
        /// Its id.
        id: &'a str,
        /// Whether its last reading came to its end.
        read: bool,
    },
    /// An open edge between two of these nodes.
    Edge {
        /// The id of the node that it leaves.
        source: &'a str,
        /// The id of the node that it reaches.
        target: &'a str,
        /// Its type.
        edge_type: &'a str,
        /// Its facts: an object.
        properties: serde_json::Value,
    },
}

/// Conditions that are put together: every text is a constant, every value a parameter (`?` in the text).
struct Query {
    sql: String,
    values: Vec<Value>,
}

/// A text as a part of what `LIKE … ESCAPE '!'` looks for.
pub(crate) fn like_part(text: &str) -> String {
    text.chars().flat_map(|c| matches!(c, '%' | '_' | '!').then_some('!').into_iter().chain([c])).collect()
}

impl Query {
    fn new(sql: &str, values: &[Value]) -> Self {
        Self { sql: sql.to_owned(), values: values.to_vec() }
    }

    /// Adds ` AND condition`, in which `?` is the value.
    fn and(&mut self, condition: &'static str, value: impl Into<Value>) {
        self.values.push(value.into());
        self.sql.push_str(" AND ");
        self.sql.push_str(&condition.replace('?', &format!("${}", self.values.len())));
    }

    async fn rows(mut self, tx: &mut Tx, order: &'static str, limit: u32) -> Result<Vec<Row>> {
        if limit == 0 || limit > Limits::LIST_ITEMS {
            return Err(Error::invalid(
                "limit",
                format!("`{limit}` items cannot be listed at once: use 1 to {}", Limits::LIST_ITEMS),
            ));
        }
        self.values.push(Value::from(i64::from(limit) + 1));
        let sql = format!("{} ORDER BY {order} LIMIT ${}", self.sql, self.values.len());
        tx.rows_built(sql, &self.values).await
    }
}

/// Nodes of tenant `$1` at moment `$2`, closed ones too where `$3`.
const NODES: &str = "SELECT n.key, n.id, COALESCE(v.name, n.name), COALESCE(v.properties, n.properties), COALESCE(v.tags, n.tags), \
       n.first_seen, COALESCE(v.valid_from, n.valid_from), n.closed_at, n.last_seen, s.complete_at \
     FROM node n \
     LEFT JOIN node_version v ON v.tenant_id = n.tenant_id AND v.key = n.key AND v.valid_from <= $2 AND v.valid_to > $2 \
     LEFT JOIN scope s ON s.tenant_id = n.tenant_id AND s.key = n.scope_key \
     WHERE n.tenant_id = $1 AND n.observed \
       AND ($3 OR v.key IS NOT NULL OR (n.valid_from <= $2 AND (n.closed_at IS NULL OR n.closed_at > $2)))";

/// Nodes that changed lately are looked up by when they did, however many there are, and then come in the order of their keys.
const CHANGED: &str = "n.key IN (SELECT c.key FROM node c WHERE c.tenant_id = $1 AND c.valid_from >= ?)";
const CHANGED_OR_CLOSED: &str = "n.key IN (SELECT c.key FROM node c WHERE c.tenant_id = $1 AND c.valid_from >= ? \
     UNION SELECT c.key FROM node c WHERE c.tenant_id = $1 AND c.closed_at >= ?)";
/// What was seen first has not been what it is for longer.
const FIRST_SEEN: &str =
    "n.key IN (SELECT c.key FROM node c WHERE c.tenant_id = $1 AND c.valid_from >= ? AND c.first_seen >= ?)";

fn node(row: &Row, as_of: Option<Timestamp>) -> Result<NodeRow> {
    let (valid_from, closed_at) = (row.time(6)?, row.opt_time(7)?);
    let last = if closed_at.is_some() { row.opt_time(8)? } else { row.opt_time(9)? };
    let discovered_at = valid_from.max(last.unwrap_or(valid_from));
    Ok(NodeRow {
        key: NodeKey(row.uuid(0)?.as_u128()),
        id: row.parse(1)?,
        name: row.text(2)?,
        properties: row.json(3)?,
        tags: row.json(4)?,
        first_seen: row.time(5)?,
        discovered_at: as_of.map_or(discovered_at, |as_of| discovered_at.min(as_of)),
        valid_from,
        // What happened after the moment that was asked for is not known at it.
        closed_at: closed_at.filter(|closed_at| as_of.is_none_or(|as_of| *closed_at <= as_of)),
    })
}

fn moment(as_of: Option<Timestamp>) -> Timestamp {
    as_of.unwrap_or(Timestamp::from_millis(i64::MAX))
}

impl Read<ops::NodeList> {
    /// Nodes, in the order of their keys.
    pub async fn node_list(&mut self, filter: &NodeFilter) -> Result<Page<NodeRow, NodeKey>> {
        if filter.include_closed && filter.as_of.is_some() {
            return Err(Error::invalid("as_of", "ask for closed nodes or for a moment, not for both"));
        }
        if filter.changed_since.is_some() && filter.as_of.is_some() {
            return Err(Error::invalid("as_of", "ask for what changed or for a moment, not for both"));
        }
        let mut query = Query::new(NODES, args![self.tenant(), moment(filter.as_of), filter.include_closed]);
        if let Some(since) = filter.changed_since {
            query.and(if filter.include_closed { CHANGED_OR_CLOSED } else { CHANGED }, since);
        }
        if let Some(since) = filter.first_seen_since {
            query.and(FIRST_SEEN, since);
        }
        if let Some(node_type) = &filter.node_type {
            match node_type.strip_suffix('*') {
                Some(prefix) => query.and("substr(n.type, 1, length(?)) = ?", prefix),
                None => query.and("n.type = ?", node_type.as_str()),
            }
        }
        if let Some(provider) = &filter.provider {
            query.and("substr(n.id, 1, length(?)) = ?", format!("{provider}:"));
        }
        if let Some(region) = &filter.region {
            query.and("n.region = ?", region.as_str());
        }
        if let Some(scope) = &filter.scope {
            // Whoever reads it.
            query.and(
                "n.scope_key IN (SELECT r.key FROM scope r WHERE r.tenant_id = $1 AND r.scope = ?)",
                scope.as_str(),
            );
        }
        if let Some(name) = &filter.name {
            query.and("lower(COALESCE(v.name, n.name)) LIKE lower(?) ESCAPE '!'", format!("%{}%", like_part(name)));
        }
        if let Some(after) = filter.after {
            query.and("n.key > ?", Uuid::from_u128(after.0));
        }
        let rows = query.rows(&mut self.tx, "n.key", filter.limit).await?;
        let nodes = rows.iter().map(|row| node(row, filter.as_of)).collect::<Result<_>>()?;
        Ok(Page::cut(nodes, filter.limit, |node: &NodeRow| node.key))
    }

    /// One node as it is, also when it is gone by now; or as it was at a moment, if it was there.
    pub async fn node_show(&mut self, id: &NodeId, as_of: Option<Timestamp>) -> Result<NodeRow> {
        let mut query = Query::new(NODES, args![self.tenant(), moment(as_of), as_of.is_none()]);
        query.and("n.key = ?", Uuid::from_u128(NodeKey::of(id).0));
        let rows = query.rows(&mut self.tx, "n.key", 1).await?;
        rows.first().map(|row| node(row, as_of)).transpose()?.ok_or(Error::NotFound { what: "node" })
    }

    /// A node's versions, the newest first. `before`: only those that began before.
    pub async fn node_history(
        &mut self,
        id: &NodeId,
        before: Option<Timestamp>,
        limit: u32,
    ) -> Result<Page<NodeVersion, Timestamp>> {
        let sql = "SELECT h.valid_from, h.valid_to, h.name, h.properties, h.tags FROM ( \
               SELECT valid_from, closed_at AS valid_to, name, properties, tags FROM node WHERE tenant_id = $1 AND key = $2 AND observed \
               UNION ALL \
               SELECT valid_from, valid_to, name, properties, tags FROM node_version WHERE tenant_id = $1 AND key = $2 \
             ) h WHERE h.valid_from < $3";
        let key = Uuid::from_u128(NodeKey::of(id).0);
        let rows = Query::new(sql, args![self.tenant(), key, moment(before)])
            .rows(&mut self.tx, "h.valid_from DESC", limit)
            .await?;
        if rows.is_empty() && before.is_none() {
            return Err(Error::NotFound { what: "node" });
        }
        let versions = rows.iter().map(|row| {
            Ok(NodeVersion {
                valid_from: row.time(0)?,
                valid_to: row.opt_time(1)?,
                name: row.text(2)?,
                properties: row.json(3)?,
                tags: row.json(4)?,
            })
        });
        Ok(Page::cut(versions.collect::<Result<_>>()?, limit, |version: &NodeVersion| version.valid_from))
    }

    /// The scopes that show a node as they were last read: the one whose content counts first. None of a node that only edges name.
    pub async fn node_sources(&mut self, id: &NodeId) -> Result<Vec<NodeSource>> {
        let (tenant, key) = (self.tenant(), Uuid::from_u128(NodeKey::of(id).0));
        let known = "SELECT 1 FROM node WHERE tenant_id = $1 AND key = $2";
        if self.tx.row(known, args![tenant, key]).await?.is_none() {
            return Err(Error::NotFound { what: "node" });
        }
        let sql = "SELECT s.source, s.scope, TRUE, n.valid_from, s.verdict, s.seen_at, s.complete_at FROM node n \
               JOIN scope s ON s.tenant_id = n.tenant_id AND s.key = n.scope_key WHERE n.tenant_id = $1 AND n.key = $2 \
             UNION ALL \
             SELECT s.source, s.scope, FALSE, c.since, s.verdict, s.seen_at, s.complete_at FROM node_claim c \
               JOIN scope s ON s.tenant_id = c.tenant_id AND s.key = c.scope_key WHERE c.tenant_id = $1 AND c.key = $2";
        let rows = self.tx.rows(sql, args![tenant, key]).await?;
        let source = |row: &Row| {
            Ok(NodeSource {
                source: row.text(0)?,
                scope: row.text(1)?,
                counts: row.bool(2)?,
                since: row.time(3)?,
                verdict: row.text(4)?,
                read_at: row.time(5)?,
                complete_at: row.opt_time(6)?,
            })
        };
        let mut sources: Vec<NodeSource> = rows.iter().map(source).collect::<Result<_>>()?;
        sources.sort_by(|a, b| b.counts.cmp(&a.counts).then_with(|| (a.since, &a.scope).cmp(&(b.since, &b.scope))));
        Ok(sources)
    }

    /// How many open nodes there are of each type.
    pub async fn node_counts(&mut self) -> Result<Vec<NodeCount>> {
        let sql = "SELECT type, COUNT(*) FROM node WHERE tenant_id = $1 AND observed AND closed_at IS NULL GROUP BY type ORDER BY type";
        let rows = self.tx.rows(sql, args![self.tenant()]).await?;
        rows.iter()
            .map(|row| Ok(NodeCount { node_type: row.text(0)?, count: u64::try_from(row.i64(1)?).unwrap_or_default() }))
            .collect()
    }

    /// Streams the open graph as one moment shows it: scopes, nodes (of these types, if given), nodes that are only named, then the edges
    /// between them. Holds the ids of the nodes, and one row at a time besides.
    pub async fn graph_snapshot(
        &mut self,
        types: Option<&[&str]>,
        mut each: impl FnMut(SnapshotItem<'_>) -> Result<()>,
    ) -> Result<()> {
        let tenant = self.tenant();
        // One source that read it to its end is enough: what it did not show is not there, or another one shows it.
        let sql = "SELECT scope, COUNT(CASE WHEN complete_at >= seen_at THEN 1 END) FROM scope WHERE tenant_id = $1 GROUP BY scope";
        self.tx
            .for_each(sql, args![tenant], |row| each(SnapshotItem::Scope { id: &row.text(0)?, read: row.i64(1)? > 0 }))
            .await?;
        let mut ids: HashMap<Uuid, Box<str>> = HashMap::new();
        let mut shown = |row: &Row| {
            let id: NodeId = row.parse(1)?;
            each(SnapshotItem::Node { id: &id, name: &row.text(2)?, tags: row.json(3)?, properties: row.json(4)? })?;
            ids.insert(row.uuid(0)?, id.as_str().into());
            Ok(())
        };
        match types {
            None => {
                let sql = "SELECT key, id, name, tags, properties FROM node WHERE tenant_id = $1 AND observed AND closed_at IS NULL";
                self.tx.for_each(sql, args![tenant], &mut shown).await?;
            }
            Some(types) => {
                let sql = "SELECT key, id, name, tags, properties FROM node \
                     WHERE tenant_id = $1 AND type = $2 AND observed AND closed_at IS NULL";
                for node_type in types {
                    self.tx.for_each(sql, args![tenant, *node_type], &mut shown).await?;
                }
            }
        }
        // What edges name and no scope has shown: a rule must not take it for absent.
        self.tx
            .for_each("SELECT key, id FROM node WHERE tenant_id = $1 AND NOT observed", args![tenant], |row| {
                let id: NodeId = row.parse(1)?;
                each(SnapshotItem::Unread { id: &id })?;
                ids.insert(row.uuid(0)?, id.as_str().into());
                Ok(())
            })
            .await?;
        let sql =
            "SELECT source_key, target_key, type, properties FROM edge WHERE tenant_id = $1 AND closed_at IS NULL";
        self.tx
            .for_each(sql, args![tenant], |row| {
                let (Some(source), Some(target)) = (ids.get(&row.uuid(0)?), ids.get(&row.uuid(1)?)) else {
                    return Ok(());
                };
                each(SnapshotItem::Edge { source, target, edge_type: &row.text(2)?, properties: row.json(3)? })
            })
            .await
    }
}

/// Whether an end (`a` or `b`) does not hide its edge at moment `$2`: it is a placeholder, or there, or nothing was known of it yet.
macro_rules! end_is_there {
    ($end:literal) => {
        concat!(
            " AND (NOT ",
            $end,
            ".observed OR (",
            $end,
            ".valid_from <= $2 AND (",
            $end,
            ".closed_at IS NULL OR ",
            $end,
            ".closed_at > $2)) \
               OR (",
            $end,
            ".valid_from > $2 AND ( \
                 EXISTS (SELECT 1 FROM node_version h WHERE h.tenant_id = $1 AND h.key = ",
            $end,
            ".key AND h.valid_from <= $2 AND h.valid_to > $2) \
                 OR NOT EXISTS (SELECT 1 FROM node_version h WHERE h.tenant_id = $1 AND h.key = ",
            $end,
            ".key AND h.valid_from <= $2))))"
        )
    };
}

/// Edges of tenant `$1` at moment `$2`.
const EDGES: &str = concat!(
    "SELECT e.key, a.id, b.id, e.type, e.discriminator, COALESCE(v.properties, e.properties), COALESCE(v.valid_from, e.valid_from) \
     FROM edge e \
     JOIN node a ON a.tenant_id = e.tenant_id AND a.key = e.source_key \
     JOIN node b ON b.tenant_id = e.tenant_id AND b.key = e.target_key \
     LEFT JOIN edge_version v ON v.tenant_id = e.tenant_id AND v.key = e.key AND v.valid_from <= $2 AND v.valid_to > $2 \
     WHERE e.tenant_id = $1 \
       AND (v.key IS NOT NULL OR (e.valid_from <= $2 AND (e.closed_at IS NULL OR e.closed_at > $2)))",
    end_is_there!("a"),
    end_is_there!("b"),
);

impl Read<ops::EdgeList> {
    /// Edges, in the order of their keys.
    pub async fn edge_list(&mut self, filter: &EdgeFilter) -> Result<Page<EdgeRow, EdgeKey>> {
        let tenant: TenantId = self.tenant();
        let mut query = Query::new(EDGES, args![tenant, moment(filter.as_of)]);
        if let Some(node) = &filter.node {
            let condition = match filter.direction {
                EdgeDirection::Out => "e.source_key = ?",
                EdgeDirection::In => "e.target_key = ?",
                EdgeDirection::Both => "(e.source_key = ? OR e.target_key = ?)",
            };
            query.and(condition, Uuid::from_u128(NodeKey::of(node).0));
        }
        if let Some(edge_type) = &filter.edge_type {
            query.and("e.type = ?", edge_type.as_str());
        }
        if let Some(after) = filter.after {
            query.and("e.key > ?", Uuid::from_u128(after.0));
        }
        let rows = query.rows(&mut self.tx, "e.key", filter.limit).await?;
        let edges = rows.iter().map(|row| {
            Ok(EdgeRow {
                key: EdgeKey(row.uuid(0)?.as_u128()),
                source: row.parse(1)?,
                target: row.parse(2)?,
                edge_type: row.parse(3)?,
                discriminator: row.text(4)?,
                properties: row.json(5)?,
                valid_from: row.time(6)?,
            })
        });
        Ok(Page::cut(edges.collect::<Result<_>>()?, filter.limit, |edge: &EdgeRow| edge.key))
    }
}
