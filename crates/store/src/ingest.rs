//! Discovery results into the graph: a page at a time while a scope is read, then what the finished scope no longer shows.
//!
//! Each page is compared with the graph on a read snapshot. Where nothing changes nothing is written. Otherwise the comparison is made
//! again under the tenant's graph lock, and its rows are written with one audit record in one transaction. A task that ends half-way is run
//! again from its start and finds what it stored before.
//!
//! Who may close what (ADR 0037): a scope belongs to the source that reads it, so no source closes another's; and of one source's runs, only one
//! that was alone in the scope from its beginning to its end.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use access::{Actor, OpCtx, Permit, ops};
use domain::{CollectionId, Coverage, Error, NodeId, Page, Result, ScopeId, SourceId, TenantId, Timestamp};
use inventory::{
    Changes, Claim, ContentHash, Current, Departures, EdgeItem, EdgeKey, Known, NodeItem, NodeKey, PageChanges,
    PagePlan, Past, Prepared, Rewrite, ScopeKey, Seen, plan_close, plan_page,
};
use serde_json::json;
use uuid::Uuid;

use crate::bulk::Batch;
use crate::checkpoint::{Checkpoint, Ending, rests_on_nothing};
use crate::db::{Engine, Row, Tx, WriterCache, args};
use crate::unit::enter;
use crate::{Category, Change, Store, Write, destination_node, finding_node, graph_map};

/// How much a finished scope changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct ScopeChanges {
    /// Nodes that are gone.
    pub nodes_closed: usize,
    /// Edges that are gone.
    pub edges_closed: usize,
    /// Nodes and edges that another scope keeps.
    pub handed_over: usize,
    /// Claims that the scope gave up.
    pub claims_dropped: usize,
    /// Another run of the same source was in the scope too, so nothing was closed although all of it was read.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub overlapped: bool,
}

/// What the ledger says of a complete run that was not alone.
const OVERLAPPED: &str = "another run read this scope at the same time, so nothing was closed: the next one alone will";

/// What a scope no longer shows, by keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Gone {
    /// Of nodes.
    pub nodes: Vec<NodeKey>,
    /// Of edges.
    pub edges: Vec<EdgeKey>,
}

/// What one task brings. Dropping it forgets what the task has shown, and nothing else.
#[derive(Debug)]
pub struct Ingest {
    pub(crate) store: Store,
    pub(crate) ctx: OpCtx,
    pub(crate) tenant: TenantId,
    pub(crate) source: SourceId,
    /// The run's number among those of its source, taken before it read anything.
    generation: i64,
    /// How many runs had ended in a scope when this one showed its first page of it.
    ended: HashMap<ScopeKey, i64>,
    /// Scopes in which another run wrote since this one began.
    overlapped: HashSet<ScopeKey>,
    /// What this task has shown, by scope.
    seen: HashMap<ScopeKey, Seen>,
    /// Scopes of which a page was not stored (or is being stored: a page that is given up half-way counts).
    broken: HashSet<ScopeKey>,
    /// Whether its last page changed something.
    changing: bool,
    /// Whether the writer's cache was enlarged for this scope.
    roomy: bool,
    /// Nodes that are in the graph for certain: none is ever deleted.
    ends: HashSet<NodeKey>,
    /// What the run was told that it may begin from.
    pub(crate) offered: HashMap<ScopeKey, Checkpoint>,
}

/// Observations of a page from which on the writer needs more memory than usual.
const LARGE_PAGE: usize = 2_000;

impl Store {
    /// Begins to take in what one run of a source brings; before it reads anything, so that runs know of each other.
    pub async fn ingest(&self, permit: Permit<ops::GraphIngest>, source: SourceId) -> Result<Ingest> {
        let (tenant, ctx) = (permit.tenant(), permit.ctx().clone());
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let row = tx
            .row(
                "INSERT INTO source (tenant_id, source, generation) VALUES ($1, $2, 1) \
                 ON CONFLICT (tenant_id, source) DO UPDATE SET generation = source.generation + 1 RETURNING generation",
                args![tenant, source.as_str()],
            )
            .await?
            .ok_or_else(|| Error::internal("a source's generation returned nothing"))?;
        let generation = row.i64(0)?;
        // A number is no change that an audit record would tell.
        tx.commit().await?;
        Ok(Ingest {
            store: self.clone(),
            ctx,
            tenant,
            source,
            generation,
            ended: HashMap::new(),
            overlapped: HashSet::new(),
            seen: HashMap::new(),
            broken: HashSet::new(),
            changing: false,
            roomy: false,
            ends: HashSet::new(),
            offered: HashMap::new(),
        })
    }
}

/// What was not stored must not be closed as if it had not been shown.
fn broken() -> Error {
    Error::conflict("a page of this scope could not be stored: run the task again from its start")
}

fn uuid(key: u128) -> Uuid {
    Uuid::from_u128(key)
}

fn key(row: &Row, index: usize) -> Result<u128> {
    row.uuid(index).map(|uuid| uuid.as_u128())
}

/// Columns `key, hash, scope_key, observed, valid_from, closed_at`.
fn current(row: &Row) -> Result<(u128, Current)> {
    let current = Current {
        hash: ContentHash(key(row, 1)?),
        scope: ScopeKey(key(row, 2)?),
        observed: row.bool(3)?,
        valid_from: row.time(4)?,
        closed_at: row.opt_time(5)?,
    };
    Ok((key(row, 0)?, current))
}

const NODES_BY_KEY: &str = "SELECT n.key, n.hash, n.scope_key, n.observed, n.valid_from, n.closed_at \
     FROM LOOKUP(node n)";
const EDGES_BY_KEY: &str = "SELECT e.key, e.hash, e.scope_key, TRUE, e.valid_from, e.closed_at \
     FROM LOOKUP(edge e)";
const NODE_CLAIMS: &str = "SELECT c.key, c.scope_key, c.since, c.hash \
     FROM LOOKUP(node_claim c)";
const EDGE_CLAIMS: &str = "SELECT c.key, c.scope_key, c.since, c.hash \
     FROM LOOKUP(edge_claim c)";

async fn currents(tx: &mut Tx, tenant: TenantId, sql: &'static str, keys: Batch<'_>) -> Result<HashMap<u128, Current>> {
    let mut found = HashMap::new();
    tx.bulk_rows(&keys, sql, args![tenant], |row| {
        found.extend([current(row)?]);
        Ok(())
    })
    .await?;
    Ok(found)
}

async fn claims(
    tx: &mut Tx,
    tenant: TenantId,
    sql: &'static str,
    keys: Batch<'_>,
) -> Result<HashMap<u128, Vec<Claim>>> {
    let mut found: HashMap<u128, Vec<Claim>> = HashMap::new();
    tx.bulk_rows(&keys, sql, args![tenant], |row| {
        let claim = Claim { scope: ScopeKey(key(row, 1)?), since: row.time(2)?, hash: ContentHash(key(row, 3)?) };
        found.entry(key(row, 0)?).or_default().push(claim);
        Ok(())
    })
    .await?;
    Ok(found)
}

/// The claims that `scope` has on those of `found` that another scope owns.
async fn own_claims<K: From<u128> + std::hash::Hash + Eq>(
    tx: &mut Tx,
    tenant: TenantId,
    sql: &'static str,
    scope: ScopeKey,
    found: &HashMap<u128, Current>,
) -> Result<HashMap<K, ContentHash>> {
    let held = found.iter().filter(|(_, current)| current.is_held_against(scope)).map(|(key, _)| *key);
    let claims = claims(tx, tenant, sql, Batch::keys(held)).await?;
    let own = claims.into_iter().filter_map(|(key, claims)| {
        claims.iter().find(|claim| claim.scope == scope).map(|claim| (K::from(key), claim.hash))
    });
    Ok(own.collect())
}

fn keyed<K: From<u128> + std::hash::Hash + Eq>(found: HashMap<u128, Current>) -> HashMap<K, Current> {
    found.into_iter().map(|(key, current)| (K::from(key), current)).collect()
}

impl Ingest {
    /// Takes in one page. On an error nothing of it is kept, and this task can no longer end the scope as complete: run it again.
    pub async fn page(&mut self, page: &Page) -> Result<PageChanges> {
        let scope = ScopeKey::of(&self.source, &page.scope);
        if !self.broken.insert(scope) {
            return Err(broken());
        }
        let prepared = Prepared::new(&self.source, page)?;
        let seen = self.seen.entry(scope).or_default();
        let now = self.ctx.clock().now();
        let mut changes = PageChanges::default();
        // A page behind one that changed something will change something too: it is not compared twice.
        let same = !self.changing && {
            let mut tx = self.store.db().read().await?;
            enter(&mut tx, self.tenant).await?;
            if let Entry::Vacant(first) = self.ended.entry(scope) {
                first.insert(Lease::read(&mut tx, self.tenant, scope).await?.ended);
            }
            let held = known(&mut tx, self.tenant, &prepared, seen, &self.ends).await?;
            plan_page(&prepared, &held, seen, &self.ends, now).is_empty()
        };
        if !same {
            if !self.roomy && page.nodes.len() + page.edges.len() >= LARGE_PAGE {
                self.store.db().writer_cache(WriterCache::Large).await?;
                self.roomy = true;
            }
            let mut unit = write(&self.store, &self.ctx, self.tenant).await?;
            // Another task may have written since: under the lock nobody can.
            let lease = Lease::read(&mut unit.tx, self.tenant, scope).await?;
            self.ended.entry(scope).or_insert(lease.ended);
            if lease.is_anothers(self.generation) {
                self.overlapped.insert(scope);
            }
            let held = known(&mut unit.tx, self.tenant, &prepared, seen, &self.ends).await?;
            let plan = plan_page(&prepared, &held, seen, &self.ends, now);
            changes = plan.counts();
            if !plan.is_empty() {
                apply(&mut unit.tx, self.tenant, scope, &plan, now).await?;
                destination_node::met(&mut unit.tx, self.tenant, &page.nodes, now).await?;
                wrote(&mut unit.tx, self.tenant, (&self.source, &page.scope, scope), self.generation, now).await?;
                let change = Change::to(Category::Discovery, "scope", &page.scope).detail(json!({ "page": changes }));
                unit.commit(change).await?;
            }
        }
        self.changing = changes != PageChanges::default();
        seen.add(&prepared);
        self.ends.extend(prepared.nodes.iter().map(|node| node.key).chain(prepared.ends.iter().map(|(key, _)| *key)));
        self.broken.remove(&scope);
        Ok(changes)
    }

    /// Ends a scope: closes what a scope that was read completely no longer shows, and notes when it was read. `collection` says how.
    pub async fn finish(
        &mut self,
        scope: &ScopeId,
        coverage: &Coverage,
        collection: CollectionId,
    ) -> Result<ScopeChanges> {
        self.end(scope, coverage, collection, Ending::default()).await
    }

    /// The same for a scope of which only the difference was shown: what closes is named, and what is named closes only if the scope owns it.
    pub async fn finish_part(
        &mut self,
        scope: &ScopeId,
        coverage: &Coverage,
        collection: CollectionId,
        gone: &Gone,
    ) -> Result<ScopeChanges> {
        self.end(scope, coverage, collection, Ending { gone: Some(gone), ..Ending::default() }).await
    }

    pub(crate) async fn end(
        &mut self,
        scope: &ScopeId,
        coverage: &Coverage,
        collection: CollectionId,
        Ending { gone, is_since, checkpoint }: Ending<'_>,
    ) -> Result<ScopeChanges> {
        let (tenant, scope_key, now) = (self.tenant, ScopeKey::of(&self.source, scope), self.ctx.clock().now());
        if coverage.is_whole() && self.broken.contains(&scope_key) {
            return Err(broken());
        }
        let is_since = is_since || *coverage == Coverage::Unchanged;
        let since = self.offered.get(&scope_key).filter(|_| is_since);
        if is_since && since.is_none() {
            return Err(rests_on_nothing(scope));
        }
        let seen = self.seen.entry(scope_key).or_default();
        let mut tx = self.store.db().read().await?;
        enter(&mut tx, tenant).await?;
        let unseen = match gone {
            None => Unseen::read(&mut tx, tenant, scope_key, coverage, seen).await?,
            Some(gone) if coverage.may_close() => Unseen::of(gone, seen),
            Some(_) => Unseen::default(),
        };
        drop(tx);
        let mut unit = write(&self.store, &self.ctx, tenant).await?;
        let mut changes = ScopeChanges::default();
        let lease = Lease::read(&mut unit.tx, tenant, scope_key).await?;
        let others = self.overlapped.contains(&scope_key) || lease.is_anothers(self.generation);
        if self.ended.get(&scope_key).is_some_and(|ended| *ended != lease.ended) {
            // A page that was as the graph had it wrote nothing, so the run that ended meanwhile did not know of it.
            all_open(&mut unit.tx, tenant, seen).await?;
        }
        let alone = !others;
        if !alone {
            changes.overlapped = coverage.is_whole();
        } else if !unseen.is_empty() {
            changes = leave(&mut unit.tx, tenant, scope_key, coverage, &unseen, now).await?;
        }
        let complete_at = (coverage.is_whole() && alone).then_some(now);
        let checkpoint = checkpoint.filter(|_| alone).and_then(|new| new.columns(coverage, since, now));
        let left = checkpoint.as_ref();
        let (verdict, reason) =
            if changes.overlapped { ("partial", Some(OVERLAPPED)) } else { (coverage.as_str(), coverage.reason()) };
        wrote(&mut unit.tx, tenant, (&self.source, scope, scope_key), self.generation, now).await?;
        unit.tx
            .execute(
                "UPDATE scope SET seen_at = $3, complete_at = COALESCE($4, complete_at), collection_id = $5, verdict = $6, reason = $7, \
                   checkpoint = $8, checkpoint_basis = $9, checkpoint_evidence = $10, checkpoint_pae = $11, checkpoint_whole_at = $12, \
                   checkpoint_differences = $13, ended = ended + 1 WHERE tenant_id = $1 AND key = $2",
                args![
                    tenant,
                    uuid(scope_key.0),
                    now,
                    complete_at,
                    collection,
                    verdict,
                    reason.map(str::to_owned),
                    left.map(|left| left.bytes.clone()),
                    left.map(|left| left.basis.0.to_vec()),
                    left.map(|left| left.evidence.as_uuid()),
                    left.map(|left| left.pae_sha256.0.to_vec()),
                    left.map(|left| left.whole_at),
                    left.map(|left| left.differences)
                ],
            )
            .await?;
        if (ScopeChanges { overlapped: false, ..changes }) == ScopeChanges::default() {
            // The one row that a run always writes: it says when, and changes nothing that an audit record would tell.
            unit.tx.commit().await?;
        } else {
            let detail = json!({"coverage": coverage.as_str(), "collection": collection, "scope": changes});
            unit.commit(Change::to(Category::Discovery, "scope", scope).detail(detail)).await?;
        }
        self.seen.remove(&scope_key);
        self.ended.remove(&scope_key);
        self.overlapped.remove(&scope_key);
        self.offered.remove(&scope_key);
        // Another task that ended may have given the cache back.
        self.roomy = false;
        Ok(changes)
    }
}

/// Who was last in a scope.
struct Lease {
    writer: i64,
    written: i64,
    ended: i64,
}

impl Lease {
    async fn read(tx: &mut Tx, tenant: TenantId, scope: ScopeKey) -> Result<Self> {
        let sql = "SELECT writer, written, ended FROM scope WHERE tenant_id = $1 AND key = $2";
        match tx.row(sql, args![tenant, uuid(scope.0)]).await? {
            Some(row) => Ok(Self { writer: row.i64(0)?, written: row.i64(1)?, ended: row.i64(2)? }),
            None => Ok(Self { writer: 0, written: 0, ended: 0 }),
        }
    }

    /// Whether another run wrote in the scope after this one had begun.
    fn is_anothers(&self, generation: i64) -> bool {
        self.writer != generation && self.written >= generation
    }
}

/// Notes that a run wrote in a scope, and which runs had begun by then. A scope that was never read to its end is `unfinished`. What the last
/// reading left for the next one is no longer true.
async fn wrote(
    tx: &mut Tx,
    tenant: TenantId,
    (source, scope, key): (&SourceId, &ScopeId, ScopeKey),
    generation: i64,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO scope (tenant_id, key, scope, source, seen_at, collection_id, writer, written) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, (SELECT generation FROM source WHERE tenant_id = $1 AND source = $4)) \
         ON CONFLICT (tenant_id, key) DO UPDATE SET writer = excluded.writer, written = excluded.written, checkpoint = NULL",
        args![tenant, uuid(key.0), scope.as_str(), source.as_str(), now, Uuid::nil(), generation],
    )
    .await
    .map(drop)
}

/// Refuses when something that a run has shown was closed meanwhile by another run of its source.
async fn all_open(tx: &mut Tx, tenant: TenantId, seen: &Seen) -> Result<()> {
    let nodes = currents(tx, tenant, NODES_BY_KEY, Batch::keys(seen.nodes.iter().map(|key| key.0))).await?;
    let edges = currents(tx, tenant, EDGES_BY_KEY, Batch::keys(seen.edges.iter().map(|key| key.0))).await?;
    if nodes.values().chain(edges.values()).any(|current| current.closed_at.is_some()) {
        return Err(Error::Unavailable {
            message: "another run of this source closed what this one has shown: it is run again from its start"
                .to_owned(),
            detail: String::new(),
        });
    }
    Ok(())
}

/// Begins a write under the tenant's graph lock: whoever plans and writes does so alone in the tenant. SQLite has one writer anyway.
async fn write(store: &Store, ctx: &OpCtx, tenant: TenantId) -> Result<Write<ops::GraphIngest>> {
    let permit = match ctx.actor() {
        Actor::Agent { tenant: own, .. } if *own == tenant => {
            ctx.authorize_fleet::<access::fleet_ops::AgentReport>()?.ingest()
        }
        _ => ctx.authorize::<ops::GraphIngest>(tenant)?,
    };
    let mut unit = store.write(permit).await?;
    lock(&mut unit.tx, tenant).await?;
    Ok(unit)
}

/// Waits until nobody else plans or writes in the tenant's graph, to the end of the transaction.
pub(crate) async fn lock(tx: &mut Tx, tenant: TenantId) -> Result<()> {
    if tx.engine() == Engine::Pg {
        let (high, low) = tenant.as_uuid().as_u64_pair();
        // "graph": another lock of the same tenant has another name.
        let lock = (high ^ low ^ 0x67_7261_7068).cast_signed();
        tx.execute("SELECT pg_advisory_xact_lock($1)", args![lock]).await?;
    }
    Ok(())
}

/// What the graph holds of what a page shows.
pub(crate) async fn known(
    tx: &mut Tx,
    tenant: TenantId,
    page: &Prepared<'_>,
    seen: &Seen,
    ends: &HashSet<NodeKey>,
) -> Result<Known> {
    let shown = page.nodes.iter().map(|node| node.key).filter(|key| !seen.nodes.contains(key));
    let named = page.ends.iter().map(|(key, _)| *key).filter(|key| !ends.contains(key));
    let nodes = currents(tx, tenant, NODES_BY_KEY, Batch::keys(shown.chain(named).map(|key| key.0))).await?;
    let edges = page.edges.iter().map(|edge| edge.key).filter(|key| !seen.edges.contains(key));
    let edges = currents(tx, tenant, EDGES_BY_KEY, Batch::keys(edges.map(|key| key.0))).await?;
    Ok(Known {
        node_claims: own_claims(tx, tenant, NODE_CLAIMS, page.scope, &nodes).await?,
        edge_claims: own_claims(tx, tenant, EDGE_CLAIMS, page.scope, &edges).await?,
        nodes: keyed(nodes),
        edges: keyed(edges),
    })
}

/// A node's rows begin to exist: columns that every new node has in common are parameters.
const INSERT_NODES: &str = "INSERT INTO node \
     (tenant_id, key, id, type, region, name, properties, tags, hash, scope_key, observed, first_seen, valid_from) \
     SELECT $1, v.key, v.id, v.type, v.region, v.name, v.properties, v.tags, v.hash, $2, TRUE, $3, $3 FROM v";
const INSERT_PLACEHOLDERS: &str = "INSERT INTO node \
     (tenant_id, key, id, type, region, name, properties, tags, hash, scope_key, observed, first_seen, valid_from) \
     SELECT $1, v.key, v.id, v.type, v.region, v.name, '{}', '{}', $2, $2, FALSE, $3, $3 FROM v";
const KEEP_NODES: &str = "INSERT INTO node_version (tenant_id, key, valid_from, valid_to, name, properties, tags) \
     SELECT n.tenant_id, n.key, v.valid_from, v.valid_to, n.name, n.properties, n.tags \
     FROM LOOKUP(node n)";
const REWRITE_NODES: &str = "UPDATE node SET name = v.name, properties = v.properties, tags = v.tags, hash = v.hash, scope_key = $2, \
       first_seen = CASE WHEN n.observed THEN n.first_seen ELSE v.at END, observed = TRUE, valid_from = v.at, closed_at = NULL, last_seen = NULL \
     FROM LOOKUP(node n) SAME(node n)";
const CLAIM_NODES: &str = "INSERT INTO node_claim (tenant_id, key, scope_key, since, name, properties, tags, hash) \
     SELECT $1, v.key, $2, $3, v.name, v.properties, v.tags, v.hash FROM v WHERE TRUE \
     ON CONFLICT (tenant_id, key, scope_key) DO UPDATE \
     SET name = excluded.name, properties = excluded.properties, tags = excluded.tags, hash = excluded.hash";
const INSERT_EDGES: &str = "INSERT INTO edge \
     (tenant_id, key, source_key, type, target_key, discriminator, properties, hash, scope_key, valid_from) \
     SELECT $1, v.key, v.source, v.type, v.target, v.discriminator, v.properties, v.hash, $2, $3 FROM v";
const KEEP_EDGES: &str = "INSERT INTO edge_version (tenant_id, key, valid_from, valid_to, properties) \
     SELECT e.tenant_id, e.key, v.valid_from, v.valid_to, e.properties \
     FROM LOOKUP(edge e)";
const REWRITE_EDGES: &str = "UPDATE edge \
     SET properties = v.properties, hash = v.hash, scope_key = $2, valid_from = v.at, closed_at = NULL \
     FROM LOOKUP(edge e) SAME(edge e)";
const CLAIM_EDGES: &str = "INSERT INTO edge_claim (tenant_id, key, scope_key, since, properties, hash) \
     SELECT $1, v.key, $2, $3, v.properties, v.hash FROM v WHERE TRUE \
     ON CONFLICT (tenant_id, key, scope_key) DO UPDATE SET properties = excluded.properties, hash = excluded.hash";

/// New content of nodes, as columns.
fn node_contents<'a>(items: impl Iterator<Item = &'a NodeItem<'a>> + Clone) -> Batch<'a> {
    Batch::new()
        .uuid("key", items.clone().map(|node| node.key.0))
        .text("name", items.clone().map(|node| node.name))
        .text("properties", items.clone().map(|node| node.properties.as_str()))
        .text("tags", items.clone().map(|node| node.tags.as_str()))
        .uuid("hash", items.map(|node| node.hash.0))
}

/// New content of edges, as columns.
fn edge_contents<'a>(items: impl Iterator<Item = &'a EdgeItem<'a>> + Clone) -> Batch<'a> {
    Batch::new()
        .uuid("key", items.clone().map(|edge| edge.key.0))
        .text("properties", items.clone().map(|edge| edge.properties.as_str()))
        .uuid("hash", items.map(|edge| edge.hash.0))
}

/// Versions that end, as columns.
fn endings(pasts: impl Iterator<Item = (u128, Option<Past>)>) -> Batch<'static> {
    let pasts: Vec<(u128, Past)> = pasts.filter_map(|(key, past)| past.map(|past| (key, past))).collect();
    Batch::new()
        .uuid("key", pasts.iter().map(|(key, _)| *key))
        .i64("valid_from", pasts.iter().map(|(_, past)| past.valid_from.as_millis()))
        .i64("valid_to", pasts.iter().map(|(_, past)| past.valid_to.as_millis()))
}

/// Writes what a page changes: nodes first, because edges refer to them.
pub(crate) async fn apply(
    tx: &mut Tx,
    tenant: TenantId,
    scope: ScopeKey,
    plan: &PagePlan<'_>,
    now: Timestamp,
) -> Result<()> {
    let (scope, nobody) = (uuid(scope.0), Uuid::nil());
    let Changes { insert, claim, .. } = &plan.nodes;
    let ids = insert.iter().map(|node| node.id);
    let batch = node_contents(insert.iter().copied())
        .text("id", ids.clone().map(NodeId::as_str))
        .text("type", ids.clone().map(NodeId::node_type))
        .text("region", ids.map(NodeId::region));
    tx.bulk(&batch, INSERT_NODES, args![tenant, scope, now]).await?;

    let ids = plan.placeholders.iter().map(|(_, id)| *id);
    let batch = Batch::keys(plan.placeholders.iter().map(|(key, _)| key.0))
        .text("id", ids.clone().map(NodeId::as_str))
        .text("type", ids.clone().map(NodeId::node_type))
        .text("region", ids.clone().map(NodeId::region))
        .text("name", ids.map(NodeId::resource));
    tx.bulk(&batch, INSERT_PLACEHOLDERS, args![tenant, nobody, now]).await?;

    let rewrites: Vec<&Rewrite<'_, NodeItem<'_>>> = plan.nodes.rewrites().collect();
    tx.bulk(&endings(rewrites.iter().map(|r| (r.item.key.0, r.past))), KEEP_NODES, args![tenant]).await?;
    let batch = node_contents(rewrites.iter().map(|r| r.item)).i64("at", rewrites.iter().map(|r| r.at.as_millis()));
    tx.bulk(&batch, REWRITE_NODES, args![tenant, scope]).await?;
    let named = rewrites.iter().map(|r| r.item);
    let names = Batch::keys(named.clone().map(|node| node.key.0)).text("name", named.map(|node| node.name));
    finding_node::renamed(tx, tenant, &names).await?;
    tx.bulk(&node_contents(claim.iter().copied()), CLAIM_NODES, args![tenant, scope, now]).await?;

    let Changes { insert, claim, .. } = &plan.edges;
    let batch = edge_contents(insert.iter().copied())
        .uuid("source", insert.iter().map(|edge| edge.source.0))
        .text("type", insert.iter().map(|edge| edge.edge_type))
        .uuid("target", insert.iter().map(|edge| edge.target.0))
        .text("discriminator", insert.iter().map(|edge| edge.discriminator));
    tx.bulk(&batch, INSERT_EDGES, args![tenant, scope, now]).await?;
    let rewrites: Vec<&Rewrite<'_, EdgeItem<'_>>> = plan.edges.rewrites().collect();
    tx.bulk(&endings(rewrites.iter().map(|r| (r.item.key.0, r.past))), KEEP_EDGES, args![tenant]).await?;
    let batch = edge_contents(rewrites.iter().map(|r| r.item)).i64("at", rewrites.iter().map(|r| r.at.as_millis()));
    tx.bulk(&batch, REWRITE_EDGES, args![tenant, scope]).await?;
    tx.bulk(&edge_contents(claim.iter().copied()), CLAIM_EDGES, args![tenant, scope, now]).await?;
    graph_map::changed(tx, tenant, graph_map::Part::Graph).await
}

/// What the graph holds of a scope and its task did not show: keys only.
#[derive(Default)]
pub(crate) struct Unseen {
    nodes: Vec<u128>,
    edges: Vec<u128>,
    node_claims: Vec<u128>,
    edge_claims: Vec<u128>,
}

impl Unseen {
    /// What is named, but for what was shown.
    pub(crate) fn of(gone: &Gone, seen: &Seen) -> Self {
        let nodes: Vec<u128> = gone.nodes.iter().filter(|key| !seen.nodes.contains(key)).map(|key| key.0).collect();
        let edges: Vec<u128> = gone.edges.iter().filter(|key| !seen.edges.contains(key)).map(|key| key.0).collect();
        Self { node_claims: nodes.clone(), edge_claims: edges.clone(), nodes, edges }
    }

    /// Reads it where the coverage allows anything to be closed.
    async fn read(tx: &mut Tx, tenant: TenantId, scope: ScopeKey, coverage: &Coverage, seen: &Seen) -> Result<Self> {
        let mut unseen = Self::default();
        if !coverage.may_close() {
            return Ok(unseen);
        }
        let Self { nodes, edges, node_claims, edge_claims } = &mut unseen;
        for (sql, list) in [
            ("SELECT key FROM node WHERE tenant_id = $1 AND scope_key = $2 AND closed_at IS NULL", nodes),
            ("SELECT key FROM node_claim WHERE tenant_id = $1 AND scope_key = $2", node_claims),
        ] {
            tx.for_each(sql, args![tenant, uuid(scope.0)], |row| {
                let key = key(row, 0)?;
                list.extend((!seen.nodes.contains(&NodeKey(key))).then_some(key));
                Ok(())
            })
            .await?;
        }
        for (sql, list) in [
            ("SELECT key FROM edge WHERE tenant_id = $1 AND scope_key = $2 AND closed_at IS NULL", edges),
            ("SELECT key FROM edge_claim WHERE tenant_id = $1 AND scope_key = $2", edge_claims),
        ] {
            tx.for_each(sql, args![tenant, uuid(scope.0)], |row| {
                let key = key(row, 0)?;
                list.extend((!seen.edges.contains(&EdgeKey(key))).then_some(key));
                Ok(())
            })
            .await?;
        }
        Ok(unseen)
    }

    fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.edges.is_empty() && self.node_claims.is_empty() && self.edge_claims.is_empty()
    }
}

const CLOSE_NODES: &str = "UPDATE node SET closed_at = v.at, last_seen = CASE WHEN $2 > n.valid_from THEN $2 ELSE n.valid_from END \
     FROM LOOKUP(node n) SAME(node n)";
const HAND_OVER_NODES: &str = "UPDATE node SET name = c.name, properties = c.properties, tags = c.tags, hash = c.hash, \
       scope_key = c.scope_key, valid_from = v.at \
     FROM v CROSS JOIN node_claim c \
     WHERE node.tenant_id = $1 AND node.key = v.key AND c.tenant_id = $1 AND c.key = v.key AND c.scope_key = v.heir";
const CLOSE_EDGES: &str = "UPDATE edge SET closed_at = v.at FROM LOOKUP(edge e) SAME(edge e)";
const HAND_OVER_EDGES: &str = "UPDATE edge SET properties = c.properties, hash = c.hash, scope_key = c.scope_key, valid_from = v.at \
     FROM v CROSS JOIN edge_claim c \
     WHERE edge.tenant_id = $1 AND edge.key = v.key AND c.tenant_id = $1 AND c.key = v.key AND c.scope_key = v.heir";

/// Those who take over, as columns.
fn heirs(leaving: &Departures<u128>) -> Batch<'static> {
    let heirs = leaving.hand_over.iter();
    Batch::new()
        .uuid("key", heirs.clone().map(|heir| heir.key))
        .uuid("heir", heirs.clone().map(|heir| heir.to.0))
        .i64("at", heirs.map(|heir| heir.at.as_millis()))
}

/// Those that close, as columns.
fn closing(leaving: &Departures<u128>) -> Batch<'static> {
    let close = leaving.close.iter();
    Batch::new().uuid("key", close.clone().map(|(key, _)| *key)).i64("at", close.map(|(_, at)| at.as_millis()))
}

/// Plans under the lock what leaves, and writes it.
pub(crate) async fn leave(
    tx: &mut Tx,
    tenant: TenantId,
    scope: ScopeKey,
    coverage: &Coverage,
    unseen: &Unseen,
    now: Timestamp,
) -> Result<ScopeChanges> {
    let own = args![tenant, uuid(scope.0)];
    let drop_node_claims =
        "DELETE FROM node_claim WHERE tenant_id = $1 AND scope_key = $2 AND key IN (SELECT key FROM v)";
    let mut dropped = tx.bulk(&Batch::keys(unseen.node_claims.iter().copied()), drop_node_claims, own).await?;
    let drop_edge_claims =
        "DELETE FROM edge_claim WHERE tenant_id = $1 AND scope_key = $2 AND key IN (SELECT key FROM v)";
    dropped += tx.bulk(&Batch::keys(unseen.edge_claims.iter().copied()), drop_edge_claims, own).await?;

    let keys = || Batch::keys(unseen.nodes.iter().copied());
    let held = currents(tx, tenant, NODES_BY_KEY, keys()).await?;
    let nodes = plan_close(coverage, scope, &held, &claims(tx, tenant, NODE_CLAIMS, keys()).await?, now);
    let keys = || Batch::keys(unseen.edges.iter().copied());
    let held = currents(tx, tenant, EDGES_BY_KEY, keys()).await?;
    let edges = plan_close(coverage, scope, &held, &claims(tx, tenant, EDGE_CLAIMS, keys()).await?, now);

    // When its nodes were last seen: at its last complete run.
    let row = tx.row("SELECT complete_at FROM scope WHERE tenant_id = $1 AND key = $2", own).await?;
    let last_seen = row.map(|row| row.opt_i64(0)).transpose()?.flatten().unwrap_or(i64::MIN);
    tx.bulk(&closing(&nodes), CLOSE_NODES, args![tenant, last_seen]).await?;
    tx.bulk(&endings(nodes.hand_over.iter().map(|heir| (heir.key, heir.past))), KEEP_NODES, args![tenant]).await?;
    tx.bulk(&heirs(&nodes), HAND_OVER_NODES, args![tenant]).await?;
    finding_node::handed_over(tx, tenant, &heirs(&nodes)).await?;
    let sql = "DELETE FROM node_claim WHERE tenant_id = $1 AND (key, scope_key) IN (SELECT v.key, v.heir FROM v)";
    tx.bulk(&heirs(&nodes), sql, args![tenant]).await?;

    tx.bulk(&closing(&edges), CLOSE_EDGES, args![tenant]).await?;
    tx.bulk(&endings(edges.hand_over.iter().map(|heir| (heir.key, heir.past))), KEEP_EDGES, args![tenant]).await?;
    tx.bulk(&heirs(&edges), HAND_OVER_EDGES, args![tenant]).await?;
    let sql = "DELETE FROM edge_claim WHERE tenant_id = $1 AND (key, scope_key) IN (SELECT v.key, v.heir FROM v)";
    tx.bulk(&heirs(&edges), sql, args![tenant]).await?;
    graph_map::changed(tx, tenant, graph_map::Part::Graph).await?;
    Ok(ScopeChanges {
        nodes_closed: nodes.close.len(),
        edges_closed: edges.close.len(),
        handed_over: nodes.hand_over.len() + edges.hand_over.len(),
        claims_dropped: usize::try_from(dropped).unwrap_or(usize::MAX),
        overlapped: false,
    })
}
