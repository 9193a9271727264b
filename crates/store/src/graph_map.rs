//! The graphs of tenants in memory (`inventory::map`), for what is drawn of them: read when somebody looks, kept while somebody does (ADR 0062).
//!
//! Invariants:
//! - a graph in memory is of one tenant, is found by that tenant's id only, and holds nothing that its rows do not say;
//! - what is answered says as of when it is true, and whether the graph has changed since;
//! - all of them together take no more than [`MEMORY_BYTES`], and one that is not looked at goes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use domain::{Error, Result, Severity, TenantId, Timestamp};
use inventory::NodeKey;
use inventory::map::{GraphMap, Interval, MapBuilder, Severities, Summary};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::db::{Row, Tx, args};
use crate::unit::enter;
use crate::{Store, packed};

/// Nodes and edges up to which a graph is read again while somebody waits; a larger one is read in the background.
const SMALL: usize = 200_000;
/// The most nodes of a graph that is drawn.
const NODES_MAX: usize = 5_000_000;
/// The most edges of one.
const EDGES_MAX: usize = 20_000_000;
/// Work on graphs that keeps a processor busy, at a time.
const BUSY_MAX: usize = 4;
/// What all graphs in memory take together, about.
const MEMORY_BYTES: usize = 1_024 * 1_024 * 1_024;
/// How long a graph stays that nobody looks at.
const IDLE_MS: i64 = 10 * 60_000;

/// What changes by itself.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    /// Nodes and edges.
    Graph,
    /// Findings.
    Findings,
}

/// Notes, in the transaction of the change, that a part of a tenant's graph changed.
pub(crate) async fn changed(tx: &mut Tx, tenant: TenantId, part: Part) -> Result<()> {
    let part = match part {
        Part::Graph => "graph",
        Part::Findings => "findings",
    };
    tx.execute(
        "INSERT INTO graph_state (tenant_id, part, generation) VALUES ($1, $2, 1) \
         ON CONFLICT (tenant_id, part) DO UPDATE SET generation = graph_state.generation + 1",
        args![tenant, part],
    )
    .await
    .map(drop)
}

/// How often each part had changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Stamp {
    graph: i64,
    findings: i64,
}

impl Stamp {
    async fn read(tx: &mut Tx, tenant: TenantId) -> Result<Self> {
        let mut stamp = Self::default();
        for row in tx.rows("SELECT part, generation FROM graph_state WHERE tenant_id = $1", args![tenant]).await? {
            match row.text(0)?.as_str() {
                "graph" => stamp.graph = row.i64(1)?,
                _ => stamp.findings = row.i64(1)?,
            }
        }
        Ok(stamp)
    }
}

/// A graph in memory.
#[derive(Clone)]
struct Held {
    map: Arc<GraphMap>,
    summary: Arc<OnceLock<Arc<Summary>>>,
    stamp: Stamp,
    at: Timestamp,
}

/// What there is of one tenant.
#[derive(Default)]
struct Slot {
    /// Who reads the graph, one at a time.
    turn: tokio::sync::Mutex<()>,
    held: Mutex<Option<Held>>,
    /// The stored summary, as it was last read.
    stored: Mutex<Option<(Stamp, Timestamp, Arc<Summary>)>>,
    reading: AtomicBool,
    /// When somebody last looked, in milliseconds.
    used: AtomicI64,
}

impl Slot {
    fn held(&self) -> MutexGuard<'_, Option<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self) -> MutexGuard<'_, Option<(Stamp, Timestamp, Arc<Summary>)>> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The graphs in memory.
pub(crate) struct Maps {
    slots: Mutex<HashMap<TenantId, Arc<Slot>>>,
    /// Who reads a graph: one of all tenants, since each holds a connection and takes memory that is counted only when it was read.
    reading: Semaphore,
}

impl Default for Maps {
    fn default() -> Self {
        Self { slots: Mutex::default(), reading: Semaphore::new(1) }
    }
}

impl Maps {
    fn slots(&self) -> MutexGuard<'_, HashMap<TenantId, Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot(&self, tenant: TenantId, now: Timestamp) -> Arc<Slot> {
        let slot = Arc::clone(self.slots().entry(tenant).or_default());
        slot.used.store(now.as_millis(), Ordering::Relaxed);
        slot
    }

    /// Lets go of what nobody looks at, and of what was looked at longest ago while all take too much.
    fn tidy(&self, keep: TenantId, now: Timestamp) {
        let slots = self.slots();
        let mut by_use: Vec<(i64, usize, &Arc<Slot>)> = slots
            .iter()
            .filter(|(tenant, _)| **tenant != keep)
            .filter_map(|(_, slot)| Some((slot.used.load(Ordering::Relaxed), slot.held().as_ref()?.map.bytes(), slot)))
            .collect();
        by_use.sort_by_key(|(used, _, _)| *used);
        let kept = slots.get(&keep).and_then(|slot| slot.held().as_ref().map(|held| held.map.bytes()));
        let mut bytes = kept.unwrap_or_default() + by_use.iter().map(|(_, bytes, _)| bytes).sum::<usize>();
        for (used, size, slot) in by_use {
            if bytes > MEMORY_BYTES || now.as_millis() - used > IDLE_MS {
                *slot.held() = None;
                *slot.stored() = None;
                bytes -= size;
            }
        }
    }
}

/// A graph is being read again, until this is dropped.
struct Reading<'s>(&'s Slot);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.reading.store(false, Ordering::Release);
    }
}

/// A graph as somebody is shown it.
pub(crate) struct Chart {
    pub(crate) map: Arc<GraphMap>,
    pub(crate) at: Timestamp,
    pub(crate) is_current: bool,
}

/// A graph in numbers as somebody is shown it.
pub(crate) struct Numbers {
    pub(crate) summary: Arc<Summary>,
    pub(crate) at: Timestamp,
    pub(crate) is_current: bool,
}

/// Runs work that keeps a processor busy where it does not hold up others, and not too much of it at a time: it goes on when nobody waits for it.
pub(crate) async fn busy<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    static PLACES: Semaphore = Semaphore::const_new(BUSY_MAX);
    let place = PLACES.acquire().await.map_err(Error::internal)?;
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(place);
        done
    });
    done.await.map_err(Error::internal)
}

fn too_large(which: &'static str, max: usize) -> Error {
    Error::Limit { which, max: max as u64 }
}

fn interval(from: i64, to: Option<i64>) -> Interval {
    (from, to.unwrap_or(i64::MAX))
}

/// When something was there before the version of now, by key: of each key the versions in their order, and those that touch are one.
async fn versions(
    tx: &mut Tx,
    tenant: TenantId,
    sql: &'static str,
    (which, max): (&'static str, usize),
) -> Result<HashMap<Uuid, Vec<Interval>>> {
    let (mut found, mut count): (HashMap<Uuid, Vec<Interval>>, usize) = (HashMap::new(), 0);
    tx.for_each(sql, args![tenant], |row| {
        let (key, from, to) = (row.uuid(0)?, row.i64(1)?, row.i64(2)?);
        let there = found.entry(key).or_default();
        match there.last_mut() {
            Some(before) if before.1 >= from => before.1 = before.1.max(to),
            _ => {
                count += 1;
                there.push((from, to));
            }
        }
        if count > max { Err(too_large(which, max)) } else { Ok(()) }
    })
    .await?;
    Ok(found)
}

const NODES_NOW: &str =
    "SELECT key, id, observed, properties, valid_from, closed_at FROM node WHERE tenant_id = $1 AND closed_at IS NULL";
const NODES_EVER: &str = "SELECT key, id, observed, properties, valid_from, closed_at FROM node WHERE tenant_id = $1";
const EDGES_NOW: &str = "SELECT key, source_key, target_key, type, valid_from, closed_at FROM edge \
     WHERE tenant_id = $1 AND closed_at IS NULL";
const EDGES_EVER: &str =
    "SELECT key, source_key, target_key, type, valid_from, closed_at FROM edge WHERE tenant_id = $1";

const NODES_BEFORE: &str =
    "SELECT key, valid_from, valid_to FROM node_version WHERE tenant_id = $1 ORDER BY key, valid_from";
const EDGES_BEFORE: &str =
    "SELECT key, valid_from, valid_to FROM edge_version WHERE tenant_id = $1 ORDER BY key, valid_from";
const NODES: (&str, usize) = ("nodes of a graph that is drawn", NODES_MAX);
const EDGES: (&str, usize) = ("edges of a graph that is drawn", EDGES_MAX);

/// Reads a tenant's graph, with what is gone or without. The transaction ends before what was read is put in order.
async fn read(mut tx: Tx, tenant: TenantId, has_history: bool) -> Result<GraphMap> {
    let (mut nodes, mut edges) = (HashMap::new(), HashMap::new());
    if has_history {
        nodes = versions(&mut tx, tenant, NODES_BEFORE, NODES).await?;
        edges = versions(&mut tx, tenant, EDGES_BEFORE, EDGES).await?;
    }
    // When something began is of no account where only the present is asked for, and one span for all is quickly looked up.
    let there = |row: &Row, at: usize, earlier: &mut HashMap<Uuid, Vec<Interval>>| -> Result<Vec<Interval>> {
        if !has_history {
            return Ok(vec![(i64::MIN, i64::MAX)]);
        }
        let mut there = earlier.remove(&row.uuid(0)?).unwrap_or_default();
        there.push(interval(row.i64(at)?, row.opt_i64(at + 1)?));
        Ok(there)
    };
    let (mut builder, mut count) = (MapBuilder::new(has_history), 0_usize);
    let sql = if has_history { NODES_EVER } else { NODES_NOW };
    tx.for_each(sql, args![tenant], |row| {
        count += 1;
        if count > NODES_MAX {
            return Err(too_large(NODES.0, NODES.1));
        }
        let (key, id) = (NodeKey(row.uuid(0)?.as_u128()), row.parse(1)?);
        if row.bool(2)? {
            builder.node(key, &id, &row.text(3)?, &mut there(row, 4, &mut nodes)?);
        } else {
            builder.unseen(key, &id);
        }
        Ok(())
    })
    .await?;
    let (mut builder, mut count) = (busy(|| builder.edges()).await?, 0_usize);
    let sql = if has_history { EDGES_EVER } else { EDGES_NOW };
    tx.for_each(sql, args![tenant], |row| {
        count += 1;
        if count > EDGES_MAX {
            return Err(too_large(EDGES.0, EDGES.1));
        }
        let [source, target] = [1, 2].map(|at| row.uuid(at).map(|key| NodeKey(key.as_u128())));
        builder.edge(source?, target?, &row.text(3)?, &mut there(row, 4, &mut edges)?);
        Ok(())
    })
    .await?;
    let findings = findings(&mut tx, tenant).await?;
    drop(tx);
    busy(move || {
        let mut map = builder.build();
        map.set_findings(findings);
        map
    })
    .await
}

/// The open findings of nodes, by severity.
async fn findings(tx: &mut Tx, tenant: TenantId) -> Result<HashMap<NodeKey, [u32; Severities::COUNT]>> {
    let mut found: HashMap<NodeKey, [u32; Severities::COUNT]> = HashMap::new();
    let sql = "SELECT node_key, severity FROM finding WHERE tenant_id = $1 AND status = 'open'";
    tx.for_each(sql, args![tenant], |row| {
        let [critical, high, medium, low, info] = found.entry(NodeKey(row.uuid(0)?.as_u128())).or_default();
        *match row.parse::<Severity>(1)? {
            Severity::Critical => critical,
            Severity::High => high,
            Severity::Medium => medium,
            Severity::Low => low,
            Severity::Info => info,
        } += 1;
        Ok(())
    })
    .await?;
    Ok(found)
}

impl Store {
    async fn graph_tx(&self, tenant: TenantId) -> Result<Tx> {
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        Ok(tx)
    }

    /// Reads a tenant's graph and keeps it, unless somebody has just done so. It goes on where nobody waits any more: the next one finds it read.
    async fn graph_read(&self, tenant: TenantId, slot: &Arc<Slot>, has_history: bool) -> Result<Held> {
        let (store, slot) = (self.clone(), Arc::clone(slot));
        let read = tokio::spawn(async move { store.graph_read_here(tenant, &slot, has_history).await });
        read.await.map_err(Error::internal)?
    }

    async fn graph_read_here(&self, tenant: TenantId, slot: &Slot, has_history: bool) -> Result<Held> {
        let _turn = slot.turn.lock().await;
        let _one = self.inner.maps.reading.acquire().await.map_err(Error::internal)?;
        let mut tx = self.graph_tx(tenant).await?;
        let stamp = Stamp::read(&mut tx, tenant).await?;
        let at = self.clock().now();
        let before = slot.held().clone();
        // Whoever looks into the past once does so again.
        let has_history = has_history || before.as_ref().is_some_and(|held| held.map.has_history());
        let map = match before {
            Some(held) if held.map.has_history() == has_history && held.stamp == stamp => return Ok(held),
            Some(held) if held.map.has_history() == has_history && held.stamp.graph == stamp.graph => {
                let findings = findings(&mut tx, tenant).await?;
                drop(tx);
                busy(move || {
                    let mut map = GraphMap::clone(&held.map);
                    map.set_findings(findings);
                    map
                })
                .await?
            }
            _ => read(tx, tenant, has_history).await?,
        };
        let held = Held { map: Arc::new(map), summary: Arc::default(), stamp, at };
        *slot.held() = Some(held.clone());
        self.inner.maps.tidy(tenant, at);
        Ok(held)
    }

    /// Reads a large graph again while others go on with what was read before. One at a time; a failure shows at the next look.
    fn graph_read_behind(&self, tenant: TenantId, slot: &Arc<Slot>) {
        if slot.reading.swap(true, Ordering::AcqRel) {
            return;
        }
        let (store, slot) = (self.clone(), Arc::clone(slot));
        tokio::spawn(async move {
            let _reading = Reading(&slot);
            if let Err(error) = store.graph_number(tenant, &slot).await {
                tracing::warn!(%tenant, %error, "a tenant's graph could not be read for the graph page");
            }
        });
    }

    /// A tenant's graph, as it is or, where it is large and changes, as it was a moment ago.
    pub(crate) async fn graph_chart(&self, tenant: TenantId, has_history: bool) -> Result<Chart> {
        let slot = self.inner.maps.slot(tenant, self.clock().now());
        let mut tx = self.graph_tx(tenant).await?;
        let stamp = Stamp::read(&mut tx, tenant).await?;
        drop(tx);
        let held = slot.held().clone().filter(|held| !has_history || held.map.has_history());
        match held {
            Some(held) if held.stamp == stamp => Ok(Chart { map: held.map, at: held.at, is_current: true }),
            Some(held) if held.map.len() + held.map.edges() > SMALL => {
                self.graph_read_behind(tenant, &slot);
                Ok(Chart { map: held.map, at: held.at, is_current: false })
            }
            _ => {
                let held = self.graph_read(tenant, &slot, has_history).await?;
                Ok(Chart { map: held.map, at: held.at, is_current: true })
            }
        }
    }

    /// A tenant's graph in numbers: those in memory, else those that are stored, which may be of a moment ago.
    pub(crate) async fn graph_numbers(&self, tenant: TenantId) -> Result<Numbers> {
        let slot = self.inner.maps.slot(tenant, self.clock().now());
        let mut tx = self.graph_tx(tenant).await?;
        let stamp = Stamp::read(&mut tx, tenant).await?;
        let held = slot.held().clone();
        let is_large = held.as_ref().is_some_and(|held| held.map.len() + held.map.edges() > SMALL);
        if let Some(held) = held.filter(|held| held.stamp == stamp || is_large) {
            // A graph that was read to open a group was not counted yet; mostly its numbers are stored.
            if is_large
                && held.summary.get().is_none()
                && let Some((of, _, summary)) = stored(&mut tx, tenant, &slot).await?
                && of == held.stamp
            {
                held.summary.get_or_init(|| summary);
            }
            drop(tx);
            let is_current = held.stamp == stamp;
            if !is_current {
                self.graph_read_behind(tenant, &slot);
            }
            let at = held.at;
            return Ok(Numbers { summary: summary_of(held).await?, at, is_current });
        }
        let stored = stored(&mut tx, tenant, &slot).await?;
        drop(tx);
        if let Some((of, at, summary)) = stored {
            if of != stamp {
                self.graph_read_behind(tenant, &slot);
            }
            return Ok(Numbers { summary, at, is_current: of == stamp });
        }
        let (at, summary) = self.graph_number(tenant, &slot).await?;
        Ok(Numbers { summary, at, is_current: true })
    }

    /// Reads the graph, and stores its numbers where it is large. Where they cannot be stored, they are told all the same.
    async fn graph_number(&self, tenant: TenantId, slot: &Arc<Slot>) -> Result<(Timestamp, Arc<Summary>)> {
        let held = self.graph_read(tenant, slot, false).await?;
        let (stamp, at) = (held.stamp, held.at);
        let is_large = held.map.len() + held.map.edges() > SMALL;
        let summary = summary_of(held).await?;
        // Of a small graph no numbers are stored, and looking at it writes nothing, unless it was large.
        let kept = if is_large {
            self.graph_store(tenant, stamp, at, Arc::clone(&summary)).await
        } else {
            self.graph_forget(tenant, slot).await
        };
        if let Err(error) = kept {
            tracing::warn!(%tenant, %error, "the numbers of a tenant's graph could not be stored");
        }
        Ok((at, summary))
    }

    async fn graph_forget(&self, tenant: TenantId, slot: &Slot) -> Result<()> {
        let mut tx = self.graph_tx(tenant).await?;
        let there = tx.row("SELECT 1 FROM graph_summary WHERE tenant_id = $1", args![tenant]).await?.is_some();
        drop(tx);
        if there {
            let mut tx = self.db().write().await?;
            enter(&mut tx, tenant).await?;
            tx.execute("DELETE FROM graph_summary WHERE tenant_id = $1", args![tenant]).await?;
            tx.commit_unremarked().await?;
        }
        *slot.stored() = None;
        Ok(())
    }

    async fn graph_store(&self, tenant: TenantId, stamp: Stamp, at: Timestamp, summary: Arc<Summary>) -> Result<()> {
        let body = busy(move || packed::deflate(&serde_json::to_vec(&*summary).map_err(Error::internal)?)).await??;
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        tx.execute(
            "INSERT INTO graph_summary (tenant_id, graph, findings, at, body) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (tenant_id) DO UPDATE \
             SET graph = excluded.graph, findings = excluded.findings, at = excluded.at, body = excluded.body",
            args![tenant, stamp.graph, stamp.findings, at, body],
        )
        .await?;
        // What is there besides says it too: no audit record would tell a change.
        tx.commit_unremarked().await
    }

    /// Whether a graph is so large that somebody would wait for it.
    async fn graph_is_large(tx: &mut Tx, tenant: TenantId) -> Result<bool> {
        let mut left = SMALL;
        for sql in [
            "SELECT COUNT(*) FROM (SELECT 1 AS one FROM node WHERE tenant_id = $1 AND closed_at IS NULL LIMIT $2) AS few",
            "SELECT COUNT(*) FROM (SELECT 1 AS one FROM edge WHERE tenant_id = $1 AND closed_at IS NULL LIMIT $2) AS few",
        ] {
            let row = tx.row(sql, args![tenant, i64::try_from(left + 1).map_err(Error::internal)?]).await?;
            let count = row.map_or(Ok(0), |row| row.i64(0))?;
            match left.checked_sub(usize::try_from(count).map_err(Error::internal)?) {
                Some(rest) => left = rest,
                None => return Ok(true),
            }
        }
        Ok(false)
    }

    /// After the graph has changed much: makes ready what is shown of it first, where it is so large that somebody would wait. It does not stay in
    /// memory unless somebody looks at it.
    pub async fn graph_prepare(&self, permit: access::Permit<access::ops::GraphOverview>) -> Result<()> {
        let tenant = permit.tenant();
        let mut tx = self.graph_tx(tenant).await?;
        let stamp = Stamp::read(&mut tx, tenant).await?;
        let sql = "SELECT graph, findings FROM graph_summary WHERE tenant_id = $1";
        let row = tx.row(sql, args![tenant]).await?;
        let stored = row.map(|row| Ok::<_, Error>(Stamp { graph: row.i64(0)?, findings: row.i64(1)? })).transpose()?;
        let is_ready = stored == Some(stamp) || !Self::graph_is_large(&mut tx, tenant).await?;
        drop(tx);
        if is_ready {
            return Ok(());
        }
        let slot = self.inner.maps.slot(tenant, self.clock().now());
        let was_held = slot.held().is_some();
        self.graph_number(tenant, &slot).await?;
        if !was_held {
            *slot.held() = None;
        }
        Ok(())
    }
}

async fn summary_of(held: Held) -> Result<Arc<Summary>> {
    if let Some(summary) = held.summary.get() {
        return Ok(Arc::clone(summary));
    }
    busy(move || Arc::clone(held.summary.get_or_init(|| Arc::new(held.map.summary(None))))).await
}

/// The stored summary, read and unpacked once for each that was stored.
async fn stored(tx: &mut Tx, tenant: TenantId, slot: &Slot) -> Result<Option<(Stamp, Timestamp, Arc<Summary>)>> {
    let sql = "SELECT graph, findings, at FROM graph_summary WHERE tenant_id = $1";
    let Some(row) = tx.row(sql, args![tenant]).await? else { return Ok(None) };
    let (stamp, at) = (Stamp { graph: row.i64(0)?, findings: row.i64(1)? }, row.time(2)?);
    if let Some(known) = slot.stored().clone().filter(|known| (known.0, known.1) == (stamp, at)) {
        return Ok(Some(known));
    }
    let sql = "SELECT body FROM graph_summary WHERE tenant_id = $1";
    let Some(row) = tx.row(sql, args![tenant]).await? else { return Ok(None) };
    let body = row.bytes(0)?;
    // One that another version wrote is made again.
    let read = busy(move || serde_json::from_slice::<Summary>(&packed::inflate(&body).ok()?).ok()).await?;
    let Some(summary) = read else { return Ok(None) };
    let known = (stamp, at, Arc::new(summary));
    *slot.stored() = Some(known.clone());
    Ok(Some(known))
}
