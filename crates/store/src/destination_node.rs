//! Destinations as nodes of the asset graph, with edges to what discovery found them to be (ADR 0057).
//!
//! Invariants:
//! - a destination's node changes in the transaction that changes the destination, and closes with it;
//! - an edge to a discovered node is there only while exactly one open node has what tells it from others: of two, neither is it;
//! - a set's edges to its hosts change in the transaction that changes its selector or a host's labels, and nobody's access goes by them (ADR 0081).

use std::collections::{BTreeSet, HashSet};

use access::OpCtx;
use domain::{
    Coverage, DestinationId, DestinationKind, EdgeObservation, Error, HostPort, NodeId, NodeObservation, Page,
    Properties, Result, ScopeId, SourceId, TenantId, Timestamp,
};
use inventory::{EdgeKey, NodeKey, Prepared, ScopeKey, Seen, plan_page};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::audit::{Category, Change};
use crate::db::{Tx, args};
use crate::destination::{self, DestinationRow};
use crate::ingest::{self, Gone, Unseen};
use crate::{Store, host_set, unit::enter};

/// Roles of a destination that its node names; the rest is counted.
const ROLES_NAMED: usize = 100;
/// What a host is by its keys.
const MACHINE: &str = "host.machine";
/// What a cluster is by its authority.
const CLUSTERS: [&str; 1] = ["aws.eks.cluster"];
/// What answers at an address.
const SERVICE: &str = "network.service";

impl DestinationRow {
    /// Its node.
    pub fn node(&self) -> NodeId {
        node_id(self.id, self.kind)
    }
}

#[expect(clippy::expect_used, reason = "an id's text is plain and short")]
fn node_id(id: DestinationId, kind: DestinationKind) -> NodeId {
    let node_type = match kind {
        DestinationKind::Kubernetes => "cairn.kubernetes_cluster",
        DestinationKind::Ssh => "cairn.ssh_host",
        DestinationKind::Set => "cairn.host_set",
    };
    NodeId::new("cairn", "global", node_type, &id.to_string()).expect("these parts make an id")
}

fn source() -> Result<(SourceId, ScopeId)> {
    Ok(("cairn".parse()?, "cairn:destinations".parse()?))
}

/// What tells a destination from others, as discovery may see it.
struct Marks {
    /// The key that is registered of a host.
    host_key: Option<String>,
    /// Where a host is, where that is an address and no name: a name may be another address for whoever asks.
    address: Option<String>,
}

async fn marks(tx: &mut Tx, tenant: TenantId, id: DestinationId) -> Result<Marks> {
    let sql = "SELECT host_key, address FROM ssh_host WHERE tenant_id = $1 AND destination_id = $2";
    let Some(row) = tx.row(sql, args![tenant, id]).await? else { return Ok(Marks { host_key: None, address: None }) };
    Ok(Marks { host_key: Some(row.text(0)?), address: at(&row.text(1)?) })
}

/// The end of the id of what answers at an address: `10.0.0.5:22/tcp`.
fn at(address: &str) -> Option<String> {
    let at: HostPort = address.parse().ok()?;
    let text = at.to_string();
    text.parse::<std::net::SocketAddr>().ok().map(|at| format!("{at}/tcp"))
}

/// The only open node of a type whose id or properties (as JSON) hold a text; none where there is another number of them.
async fn only(tx: &mut Tx, tenant: TenantId, node_type: &str, within: Within<'_>) -> Result<Option<NodeId>> {
    let (sql, text) = match within {
        Within::Properties(text) => (
            "SELECT id, properties FROM node WHERE type = $2 AND tenant_id = $1 AND observed AND closed_at IS NULL AND properties LIKE $3 LIMIT 2",
            format!("%{text}%"),
        ),
        Within::EndOfId(text) => (
            "SELECT id, properties FROM node WHERE type = $2 AND tenant_id = $1 AND observed AND closed_at IS NULL AND id LIKE $3 LIMIT 2",
            format!("%:{text}"),
        ),
    };
    let rows = tx.rows(sql, args![tenant, node_type, text]).await?;
    // SQLite's `LIKE` takes letters of either case for the same.
    let is = |row: &crate::db::Row| match within {
        Within::Properties(text) => row.text(1).is_ok_and(|json| json.contains(text)),
        Within::EndOfId(_) => true,
    };
    match rows.as_slice() {
        [one] if is(one) => one.parse(0).map(Some),
        _ => Ok(None),
    }
}

#[derive(Clone, Copy)]
enum Within<'a> {
    Properties(&'a str),
    EndOfId(&'a str),
}

/// The SHA-256 of a discovered cluster's authority.
fn cluster_sha256(properties: &Properties) -> Option<domain::Digest> {
    use base64::Engine as _;
    let data = properties.get("certificate_authority")?.get("data")?.as_str()?;
    let pem = base64::engine::general_purpose::STANDARD.decode(data).ok()?;
    crypto::client_certificate::only_certificate_sha256(std::str::from_utf8(&pem).ok()?)
}

/// The only open cluster with this authority.
async fn only_cluster(tx: &mut Tx, tenant: TenantId, wanted: domain::Digest) -> Result<Option<NodeId>> {
    let mut found = Vec::new();
    for node_type in CLUSTERS {
        let sql =
            "SELECT id, properties FROM node WHERE type = $2 AND tenant_id = $1 AND observed AND closed_at IS NULL";
        tx.for_each(sql, args![tenant, node_type], |row| {
            if cluster_sha256(&row.json(1)?) == Some(wanted) {
                found.push(row.parse(0)?);
            }
            Ok(())
        })
        .await?;
    }
    Ok(if found.len() == 1 { found.pop() } else { None })
}

fn edge(from: &NodeId, to: NodeId, edge_type: &str, by: &str) -> Result<EdgeObservation> {
    let mut properties = Properties::new();
    properties.insert("known_by".to_owned(), by.into());
    let (source, edge_type) = (from.clone(), edge_type.parse()?);
    Ok(EdgeObservation { source, target: to, edge_type, discriminator: String::new(), properties })
}

/// Which hosts are in a set, and in which sets a host is.
async fn containing(tx: &mut Tx, tenant: TenantId, row: &DestinationRow) -> Result<Vec<EdgeObservation>> {
    let mut edges = Vec::new();
    if let Some(selector) = &row.selector {
        for host in host_set::hosts(tx, tenant, (row.id, selector), None).await? {
            edges.push(edge(&row.node(), host.node(), "contains", "labels")?);
        }
    }
    for (set, _) in host_set::sets_of(tx, tenant, row).await? {
        edges.push(edge(&node_id(set, DestinationKind::Set), row.node(), "contains", "labels")?);
    }
    Ok(edges)
}

/// What a destination is, and where, among what was discovered.
async fn edges(tx: &mut Tx, tenant: TenantId, row: &DestinationRow) -> Result<Vec<EdgeObservation>> {
    let (id, mut edges) = (row.node(), containing(tx, tenant, row).await?);
    if let Some(wanted) = row.cluster_sha256
        && let Some(cluster) = only_cluster(tx, tenant, wanted).await?
    {
        edges.push(edge(&id, cluster, "same_as", "certificate authority")?);
    }
    if row.kind == DestinationKind::Ssh {
        let marks = marks(tx, tenant, row.id).await?;
        if let Some(key) = &marks.host_key
            && let Some(machine) = only(tx, tenant, MACHINE, Within::Properties(key)).await?
        {
            edges.push(edge(&id, machine, "same_as", "host key")?);
        }
        if let Some(at) = &marks.address
            && let Some(service) = only(tx, tenant, SERVICE, Within::EndOfId(at)).await?
        {
            edges.push(edge(&id, service, "reached_at", "address")?);
        }
    }
    Ok(edges)
}

fn node(row: &DestinationRow) -> NodeObservation {
    let roles: Vec<&str> = row.roles.iter().take(ROLES_NAMED).map(domain::DestinationRole::as_str).collect();
    let properties = json!({
        "destination": row.id, "kind": row.kind.as_str(), "relay": row.relay, "address": row.address, "roles": roles,
        "role_count": row.roles.len(), "namespace_count": row.namespaces.len(), "version": row.version,
        "cluster_sha256": row.cluster_sha256,
    });
    let properties = match &row.selector {
        None => properties,
        Some(selector) => json!({"destination": row.id, "kind": row.kind.as_str(), "selector": selector}),
    };
    let properties = if let Value::Object(members) = properties { members } else { Properties::new() };
    NodeObservation {
        id: row.node(),
        name: row.name.to_string(),
        properties,
        tags: row.labels.as_map().iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}

/// Shows a destination as it is now, and what it is known to be.
pub(crate) async fn put(tx: &mut Tx, tenant: TenantId, row: &DestinationRow, now: Timestamp) -> Result<()> {
    ingest::lock(tx, tenant).await?;
    let (source, scope) = source()?;
    let edges = edges(tx, tenant, row).await?;
    let page = Page { scope: scope.clone(), nodes: vec![node(row)], edges };
    let prepared = Prepared::new(&source, &page)?;
    let (seen, ends) = (Seen::default(), HashSet::new());
    let held = ingest::known(tx, tenant, &prepared, &seen, &ends).await?;
    let plan = plan_page(&prepared, &held, &seen, &ends, now);
    if !plan.is_empty() {
        ingest::apply(tx, tenant, prepared.scope, &plan, now).await?;
    }
    let shown: BTreeSet<EdgeKey> = prepared.edges.iter().map(|edge| edge.key).collect();
    let stale = own_edges(tx, tenant, row).await?.into_iter().filter(|key| !shown.contains(key)).collect();
    leave(tx, tenant, &Gone { nodes: Vec::new(), edges: stale }, now).await
}

/// The open edges of a destination that are ours; of a host also those of the sets that it is in.
async fn own_edges(tx: &mut Tx, tenant: TenantId, row: &DestinationRow) -> Result<Vec<EdgeKey>> {
    let (source, scope) = source()?;
    let (node, scope) = (NodeKey::of(&row.node()), ScopeKey::of(&source, &scope));
    let sql = "SELECT key FROM edge WHERE source_key = $2 AND tenant_id = $1 AND scope_key = $3 AND closed_at IS NULL \
               UNION SELECT key FROM edge WHERE target_key = $2 AND tenant_id = $1 AND scope_key = $3 AND closed_at IS NULL";
    let rows = tx.rows(sql, args![tenant, Uuid::from_u128(node.0), Uuid::from_u128(scope.0)]).await?;
    rows.iter().map(|row| row.uuid(0).map(|key| EdgeKey(key.as_u128()))).collect()
}

/// Closes what a destination that is forgotten was.
pub(crate) async fn close(tx: &mut Tx, tenant: TenantId, row: &DestinationRow, now: Timestamp) -> Result<()> {
    ingest::lock(tx, tenant).await?;
    let edges = own_edges(tx, tenant, row).await?;
    leave(tx, tenant, &Gone { nodes: vec![NodeKey::of(&row.node())], edges }, now).await
}

async fn leave(tx: &mut Tx, tenant: TenantId, gone: &Gone, now: Timestamp) -> Result<()> {
    if gone.nodes.is_empty() && gone.edges.is_empty() {
        return Ok(());
    }
    let (source, scope) = source()?;
    let unseen = Unseen::of(gone, &Seen::default());
    let scope = ScopeKey::of(&source, &scope);
    ingest::leave(tx, tenant, scope, &Coverage::Complete, &unseen, now).await.map(drop)
}

/// Looks again at the destinations that something which discovery shows may be. Under the tenant's graph lock.
pub(crate) async fn met(tx: &mut Tx, tenant: TenantId, nodes: &[NodeObservation], now: Timestamp) -> Result<()> {
    let (mut keys, mut places, mut clusters) = (HashSet::new(), HashSet::new(), HashSet::new());
    for node in nodes {
        match node.id.node_type() {
            MACHINE => {
                let shown =
                    node.properties.get("sshd").and_then(|sshd| sshd.get("host_keys")).and_then(Value::as_array);
                let shown = shown.into_iter().flatten().filter_map(|key| key.get("public_key")?.as_str());
                keys.extend(shown.map(str::to_owned));
            }
            SERVICE => drop(places.insert(node.id.resource().to_owned())),
            kind if CLUSTERS.contains(&kind) => clusters.extend(cluster_sha256(&node.properties)),
            _ => {}
        }
    }
    if keys.is_empty() && places.is_empty() && clusters.is_empty() {
        return Ok(());
    }
    let sql = "SELECT d.id, s.host_key, s.address, d.cluster_sha256 FROM destination d \
               LEFT JOIN ssh_host s ON s.tenant_id = d.tenant_id AND s.destination_id = d.id WHERE d.tenant_id = $1";
    let mut concerned = Vec::new();
    tx.for_each(sql, args![tenant], |row| {
        let is = row.opt_text(1)?.is_some_and(|key| keys.contains(&key))
            || row.opt_text(2)?.and_then(|address| at(&address)).is_some_and(|at| places.contains(&at))
            || row.opt_text(3)?.and_then(|hex| hex.parse().ok()).is_some_and(|digest| clusters.contains(&digest));
        if is {
            concerned.push(DestinationId::from_uuid(row.uuid(0)?));
        }
        Ok(())
    })
    .await?;
    for id in concerned {
        let row = destination::show(tx, tenant, id).await?;
        put(tx, tenant, &row, now).await?;
    }
    Ok(())
}

impl Store {
    /// The tenants that have destinations.
    pub async fn tenants_with_destinations(&self) -> Result<Vec<TenantId>> {
        let (mut tx, mut found) = (self.db().read().await?, Vec::new());
        for row in tx.rows("SELECT id FROM tenant WHERE deleted_at IS NULL ORDER BY id", args![]).await? {
            let tenant = TenantId::from_uuid(row.uuid(0)?);
            enter(&mut tx, tenant).await?;
            if tx.row("SELECT 1 FROM destination WHERE tenant_id = $1 LIMIT 1", args![tenant]).await?.is_some() {
                found.push(tenant);
            }
        }
        Ok(found)
    }

    /// Shows the destinations of a tenant that have no node, as those from before they had one; how many there were.
    pub async fn destination_nodes_fill(&self, ctx: &OpCtx, tenant: TenantId) -> Result<usize> {
        let lacking = |rows: Vec<DestinationRow>, known: &HashSet<NodeKey>| {
            rows.into_iter().filter(|row| !known.contains(&NodeKey::of(&row.node()))).collect::<Vec<_>>()
        };
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        if lacking(destination::all(&mut tx, tenant).await?, &shown(&mut tx, tenant).await?).is_empty() {
            return Ok(0);
        }
        drop(tx);
        let mut unit = self.write(ctx.authorize::<access::ops::GraphIngest>(tenant).map_err(Error::from)?).await?;
        let known = shown(&mut unit.tx, tenant).await?;
        let rows = lacking(destination::all(&mut unit.tx, tenant).await?, &known);
        for row in &rows {
            put(&mut unit.tx, tenant, row, self.clock().now()).await?;
        }
        let (_, scope) = source()?;
        unit.commit(Change::to(Category::Discovery, "scope", scope).detail(json!({"destinations": rows.len()})))
            .await?;
        Ok(rows.len())
    }
}

/// The nodes of destinations.
async fn shown(tx: &mut Tx, tenant: TenantId) -> Result<HashSet<NodeKey>> {
    let mut keys = HashSet::new();
    for kind in DestinationKind::ALL {
        let id = node_id(DestinationId::from_uuid(Uuid::nil()), kind);
        let sql = "SELECT key FROM node WHERE type = $2 AND tenant_id = $1 AND observed AND closed_at IS NULL";
        for row in tx.rows(sql, args![tenant, id.node_type()]).await? {
            keys.insert(NodeKey(row.uuid(0)?.as_u128()));
        }
    }
    Ok(keys)
}
