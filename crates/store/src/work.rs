//! The work queue: what is to be done, leased to one worker at a time.
//!
//! It holds ids and times and no tenant's data, so a worker learns from a [`Claim`] in which tenant it has to act, and needs a permit there
//! for everything else. A lease that is not renewed ends, and the work is claimed again and run from the start; every claim carries a
//! number of its own, and whoever writes an outcome proves in the same transaction that this number still stands (`fence`), so a worker
//! that was away too long changes nothing.

use std::time::Duration;

use domain::{Error, JobId, RelayId, Result, TaskId, TenantId, Timestamp, ValidationId};
use tokio::sync::{Notify, broadcast};
use uuid::Uuid;

use crate::db::{Engine, Tx, args};
use crate::{Store, signal};

/// How often one piece of work is tried; after that it has failed for good, and says so.
pub const ATTEMPTS_MAX: u32 = 5;

/// How long a watcher waits for a sign from this server before it looks at the database: another server may have done the work.
const POLL: Duration = Duration::from_secs(1);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkKind {
    /// Split a job into tasks.
    Plan,
    /// Run a task.
    Task,
    /// Judge the tenant's graph, now that a job's tasks have ended.
    Judge,
    /// Make the job of a schedule that is due.
    Schedule,
    /// Judge the tenant's graph, now that agents reported changes.
    Evaluate,
    /// Try what a credential can do.
    Validate,
}

impl WorkKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Task => "task",
            Self::Judge => "judge",
            Self::Schedule => "schedule",
            Self::Evaluate => "evaluate",
            Self::Validate => "validate",
        }
    }
}

impl std::str::FromStr for WorkKind {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        [Self::Plan, Self::Task, Self::Judge, Self::Schedule, Self::Evaluate, Self::Validate]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| Error::internal(format!("unknown kind of work `{text}`")))
    }
}

/// A piece of work that this worker holds.
#[derive(Debug, Clone)]
pub struct Claim {
    /// What is to be done.
    pub kind: WorkKind,
    /// In which tenant.
    pub tenant: TenantId,
    /// Which try this is, from 1; above [`ATTEMPTS_MAX`] the start function gives the work up.
    pub attempt: u32,
    /// The relay that does it.
    pub relay: Option<RelayId>,
    pub(crate) id: Uuid,
    lease: Uuid,
}

impl Claim {
    /// The job to plan or to judge by; of another kind of work, an id that no job has.
    pub fn job(&self) -> JobId {
        JobId::from_uuid(self.id)
    }

    /// The task to run; of another kind of work, an id that no task has.
    pub fn task(&self) -> TaskId {
        TaskId::from_uuid(self.id)
    }

    /// The validation to do; of another kind of work, an id that no validation has.
    pub fn validation(&self) -> ValidationId {
        ValidationId::from_uuid(self.id)
    }

    fn is_in(&self, tenant: TenantId) -> Result<()> {
        if self.tenant == tenant { Ok(()) } else { Err(Error::NotFound { what: "work" }) }
    }
}

/// What a renewal says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// Go on.
    Held,
    /// Still held, but somebody cancelled the job: stop soon, and say so.
    Cancelled,
    /// Another worker has it, or it is gone: stop now; nothing that this worker still writes is kept.
    Lost,
}

/// A job that changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobChange {
    /// Whose job.
    pub tenant: TenantId,
    /// Which job.
    pub job: JobId,
}

/// Signs within this process; the database is what counts.
pub(crate) struct Signals {
    changes: broadcast::Sender<JobChange>,
    work: Notify,
    /// Relays about which another server asks.
    pub(crate) relays: broadcast::Sender<RelayId>,
}

impl Default for Signals {
    fn default() -> Self {
        Self { changes: broadcast::channel(256).0, work: Notify::new(), relays: broadcast::channel(256).0 }
    }
}

/// A feed of changes, for live progress.
#[derive(Debug)]
pub struct JobChanges {
    receiver: broadcast::Receiver<JobChange>,
}

impl JobChanges {
    /// Waits until the job may have changed: this server changed it, or a second has gone by (another server may have). Read the job then.
    pub async fn changed(&mut self, tenant: TenantId, job: JobId) {
        let wanted = JobChange { tenant, job };
        let sign = async {
            loop {
                match self.receiver.recv().await {
                    Ok(change) if change != wanted => {}
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => break,
                    Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
                }
            }
        };
        // Running out of time is as good as a sign.
        let _ = tokio::time::timeout(POLL, sign).await;
    }
}

/// Milliseconds before the next try: 5 s, 10 s, 20 s, 40 s.
pub(crate) fn backoff_ms(attempt: u32) -> i64 {
    5_000 << attempt.saturating_sub(1).min(6)
}

fn lost() -> Error {
    Error::conflict("the lease on this work was lost: another worker has it, or it was cancelled")
}

/// Proves that the claim still stands, and keeps it standing to the end of the transaction.
pub(crate) async fn fence(tx: &mut Tx, tenant: TenantId, claim: &Claim) -> Result<()> {
    claim.is_in(tenant)?;
    let held = tx
        .execute(
            "UPDATE work SET lease_id = lease_id WHERE id = $1 AND lease_id = $2 AND owner_tenant = $3",
            args![claim.id, claim.lease, tenant],
        )
        .await?;
    if held == 1 { Ok(()) } else { Err(lost()) }
}

/// Queues work of this server and every other.
pub(crate) async fn push(tx: &mut Tx, tenant: TenantId, kind: WorkKind, id: Uuid, due_at: Timestamp) -> Result<()> {
    push_placed(tx, tenant, kind, id, due_at, None).await
}

/// Queues work, with `relay` for the server on which that relay hangs.
pub(crate) async fn push_placed(
    tx: &mut Tx,
    tenant: TenantId,
    kind: WorkKind,
    id: Uuid,
    due_at: Timestamp,
    relay: Option<RelayId>,
) -> Result<()> {
    tx.execute(
        "INSERT INTO work (id, kind, owner_tenant, due_at, attempt, cancel, relay_id) VALUES ($1, $2, $3, $4, 0, FALSE, $5)",
        args![id, kind.as_str(), tenant, due_at, relay.map(|relay| relay.as_uuid())],
    )
    .await?;
    signal::announce_work(tx).await
}

/// Queues work of which a tenant needs one piece at most, however many ask for it. Where a worker has it already, it is done once more
/// afterwards, since that worker may have begun before what asks for it.
pub(crate) async fn nudge(tx: &mut Tx, tenant: TenantId, kind: WorkKind, due_at: Timestamp) -> Result<()> {
    // One id per tenant and kind: no other kind of work has ids of this version.
    let name = format!("cairn {} {tenant}", kind.as_str());
    let mut bits = [0u8; 16];
    for (to, from) in bits.iter_mut().zip(crypto::sha256(name.as_bytes()).0) {
        *to = from;
    }
    let id = uuid::Builder::from_custom_bytes(bits).into_uuid();
    tx.execute(
        "INSERT INTO work (id, kind, owner_tenant, due_at, attempt, cancel) VALUES ($1, $2, $3, $4, 0, FALSE) \
         ON CONFLICT (id) DO UPDATE SET due_at = CASE WHEN work.lease_id IS NULL THEN work.due_at ELSE excluded.due_at END",
        args![id, kind.as_str(), tenant, due_at],
    )
    .await
    .map(drop)
}

/// Takes done work off the queue.
pub(crate) async fn remove(tx: &mut Tx, id: Uuid) -> Result<()> {
    tx.execute("DELETE FROM work WHERE id = $1", args![id]).await.map(drop)
}

/// Puts held work back, due at a time. `attempt`: the count of tries from here on.
pub(crate) async fn put_back(tx: &mut Tx, claim: &Claim, due_at: Timestamp, attempt: u32) -> Result<()> {
    tx.execute(
        "UPDATE work SET due_at = $3, attempt = $4, lease_id = NULL, lease_owner = NULL, lease_until = NULL WHERE id = $1 AND lease_id = $2",
        args![claim.id, claim.lease, due_at, i64::from(attempt)],
    )
    .await?;
    signal::announce_work(tx).await
}

macro_rules! claim_sql {
    ($held:literal, $place:literal, $order:literal, $lock:literal) => {
        concat!(
            "UPDATE work SET lease_id = $1, lease_owner = $2, lease_until = $3, attempt = attempt + 1 WHERE id = ( \
               SELECT w.id FROM work w ",
            $held,
            " WHERE w.due_at <= $4 AND (w.lease_until IS NULL OR w.lease_until <= $4) \
                 AND EXISTS (SELECT 1 FROM tenant t WHERE t.id = w.owner_tenant AND t.deleted_at IS NULL) ",
            $place,
            " ORDER BY ",
            $order,
            "w.due_at, w.id LIMIT 1",
            $lock,
            ") RETURNING id, kind, owner_tenant, attempt, relay_id"
        )
    };
}

/// Work that any server may do.
macro_rules! anywhere {
    ($lock:literal) => {
        claim_sql!("", "AND w.relay_id IS NULL AND $5 = $5 AND $6 = $6", "", $lock)
    };
}

/// Work of the relays that hang on this server: of tenants that have room, and first of those of which the least is at work.
macro_rules! placed {
    ($lock:literal) => {
        claim_sql!(
            "LEFT JOIN (SELECT h.owner_tenant, COUNT(*) AS many FROM work h \
               WHERE h.relay_id IS NOT NULL AND h.lease_owner = $2 AND h.lease_until > $4 GROUP BY h.owner_tenant) held \
               ON held.owner_tenant = w.owner_tenant",
            "AND EXISTS (SELECT 1 FROM relay_link l WHERE l.relay_id = w.relay_id AND l.server = $5) \
               AND COALESCE(held.many, 0) < $6",
            "COALESCE(held.many, 0), ",
            $lock
        )
    };
}

impl Store {
    /// Claims the work that has waited longest, for `lease_ms` milliseconds. No two workers ever hold one piece of work at a time. Work of a
    /// relay is not among it.
    pub async fn work_claim(&self, worker: &str, lease_ms: i64) -> Result<Option<Claim>> {
        self.claim(worker, lease_ms, None).await
    }

    /// The same with work of the relays that hang on this server, and no other work. `each_max`: how much of it this worker may hold of one
    /// tenant; who has the least at work comes first.
    pub async fn work_claim_placed(
        &self,
        worker: &str,
        lease_ms: i64,
        server: Uuid,
        each_max: u32,
    ) -> Result<Option<Claim>> {
        self.claim(worker, lease_ms, Some((server, each_max))).await
    }

    async fn claim(&self, worker: &str, lease_ms: i64, placed: Option<(Uuid, u32)>) -> Result<Option<Claim>> {
        let mut lease = [0u8; 16];
        self.rng().fill(&mut lease);
        let lease = Uuid::from_bytes(lease);
        let mut tx = self.db().write().await?;
        let (server, each_max) = placed.unwrap_or_default();
        let sql = match (tx.engine(), placed) {
            (Engine::Sqlite, None) => anywhere!(""),
            (Engine::Sqlite, Some(_)) => placed!(""),
            (Engine::Pg, None) => anywhere!(" FOR UPDATE OF w SKIP LOCKED"),
            (Engine::Pg, Some(_)) => placed!(" FOR UPDATE OF w SKIP LOCKED"),
        };
        // Only now, under SQLite's write lock: a time from before the wait for it would give a shorter lease.
        let now = self.clock().now();
        let until = now.plus_millis(lease_ms);
        let row = tx.row(sql, args![lease, worker, until, now, server, i64::from(each_max)]).await?;
        let claim = match row {
            None => None,
            Some(row) => Some(Claim {
                id: row.uuid(0)?,
                kind: row.parse(1)?,
                tenant: TenantId::from_uuid(row.uuid(2)?),
                attempt: u32::try_from(row.i64(3)?).unwrap_or(u32::MAX),
                relay: row.opt_uuid(4)?.map(RelayId::from_uuid),
                lease,
            }),
        };
        tx.commit().await?;
        Ok(claim)
    }

    /// Extends a lease to `lease_ms` milliseconds from now. Call it at a third of the lease.
    pub async fn work_renew(&self, claim: &Claim, lease_ms: i64) -> Result<Lease> {
        let mut tx = self.db().write().await?;
        let until = self.clock().now().plus_millis(lease_ms);
        let row = tx
            .row(
                "UPDATE work SET lease_until = $3 WHERE id = $1 AND lease_id = $2 RETURNING cancel",
                args![claim.id, claim.lease, until],
            )
            .await?;
        let lease = match row {
            None => Lease::Lost,
            Some(row) if row.bool(0)? => Lease::Cancelled,
            Some(_) => Lease::Held,
        };
        tx.commit().await?;
        Ok(lease)
    }

    /// Gives held work back at once, as if it had not been tried: the server is about to stop.
    pub async fn work_release(&self, claim: &Claim) -> Result<()> {
        let mut tx = self.db().write().await?;
        put_back(&mut tx, claim, self.clock().now(), claim.attempt.saturating_sub(1)).await?;
        tx.commit().await?;
        self.inner.signals.work.notify_one();
        Ok(())
    }

    /// Gives held work back for a little later: what it needs is away. It counts as a try.
    pub async fn work_postpone(&self, claim: &Claim) -> Result<()> {
        let mut tx = self.db().write().await?;
        let due_at = self.clock().now().plus_millis(backoff_ms(claim.attempt));
        put_back(&mut tx, claim, due_at, claim.attempt).await?;
        tx.commit().await
    }

    /// Ends work that was nudged for. `began`: before the work was looked at; what was asked for later, or `failed`, is done again.
    pub async fn work_nudged(&self, claim: &Claim, began: Timestamp, failed: bool) -> Result<()> {
        let mut tx = self.db().write().await?;
        let done = if failed {
            0
        } else {
            let sql = "DELETE FROM work WHERE id = $1 AND lease_id = $2 AND due_at <= $3";
            tx.execute(sql, args![claim.id, claim.lease, began]).await?
        };
        if done == 0 {
            let sql = "UPDATE work SET due_at = CASE WHEN due_at > $3 THEN due_at ELSE $3 END, attempt = 0, lease_id = NULL, \
                       lease_owner = NULL, lease_until = NULL WHERE id = $1 AND lease_id = $2";
            let again = began.plus_millis(if failed { 60_000 } else { 0 });
            tx.execute(sql, args![claim.id, claim.lease, again]).await?;
        }
        tx.commit().await
    }

    /// Waits until this server queued work, at most `max`: another server's work, expired leases and due schedules make no sign here.
    pub async fn work_wait(&self, max: Duration) {
        // Running out of time is as good as a sign.
        let _ = tokio::time::timeout(max, self.inner.signals.work.notified()).await;
    }

    /// A feed of the changes that this server makes to jobs from now on.
    pub fn job_changes(&self) -> JobChanges {
        JobChanges { receiver: self.inner.signals.changes.subscribe() }
    }

    pub(crate) fn say_job_changed(&self, tenant: TenantId, job: JobId) {
        // Nobody may be listening.
        let _ = self.inner.signals.changes.send(JobChange { tenant, job });
    }

    pub(crate) fn say_work_queued(&self) {
        self.inner.signals.work.notify_waiters();
        self.inner.signals.work.notify_one();
    }
}
