//! Relays as the queue sees them: which one a job names, and on which server each hangs.
//!
//! A relay hangs on one server at a time. Placed work is claimed only there, and a server that takes a relay over asks the one before first.

use std::collections::HashMap;

use access::ops;
use domain::{Error, JobId, RelayId, Result, TaskId, TenantId, Timestamp};
use serde_json::json;
use uuid::Uuid;

use crate::audit::{Category, Change};
use crate::db::{Engine, Row, Tx, args};
use crate::unit::{Read, Write, enter};
use crate::{Store, fleet};

/// Where a relay hangs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayLink {
    /// The server's process.
    pub server: Uuid,
    /// How people call that server.
    pub place: String,
    /// Since when.
    pub linked_at: Timestamp,
    /// When that server last knew it alive.
    pub seen_at: Timestamp,
}

/// Refuses a relay that is not there, or that is let in no more.
pub(crate) async fn check_relay(tx: &mut Tx, tenant: TenantId, relay: Option<RelayId>) -> Result<()> {
    let Some(relay) = relay else { return Ok(()) };
    let row = tx
        .row(
            "SELECT name, revoked_at IS NOT NULL OR cloned_at IS NOT NULL FROM fleet_unit \
             WHERE tenant_id = $1 AND id = $2 AND kind = 'relay'",
            args![tenant, relay.as_uuid()],
        )
        .await?
        .ok_or(Error::NotFound { what: "relay" })?;
    if row.bool(1)? {
        let name = row.text(0)?;
        return Err(Error::invalid("relay", format!("the relay `{name}` is revoked: name another one")));
    }
    Ok(())
}

/// The relay that somebody names by id or by name, if it is let in.
pub(crate) async fn resolve(tx: &mut Tx, tenant: TenantId, named: &str) -> Result<Option<RelayId>> {
    let id = named.parse::<RelayId>().map_or_else(|_| Uuid::nil(), |id| id.as_uuid());
    let sql = "SELECT id FROM fleet_unit WHERE tenant_id = $1 AND kind = 'relay' AND (id = $2 OR name = $3) \
               AND revoked_at IS NULL AND cloned_at IS NULL";
    let row = tx.row(sql, args![tenant, id, named]).await?;
    row.map(|row| row.uuid(0).map(RelayId::from_uuid)).transpose()
}

impl Read<ops::JobList> {
    /// The relay that somebody names by id or by name, if it is let in.
    pub async fn relay_resolve(&mut self, named: &str) -> Result<Option<RelayId>> {
        let tenant = self.tenant();
        resolve(&mut self.tx, tenant, named).await
    }
}

/// A task that a relay works on.
#[derive(Debug, Clone)]
pub struct RelayTaskRow {
    /// Its id.
    pub id: TaskId,
    /// Its job.
    pub job: JobId,
    /// The plugin.
    pub plugin: String,
    /// Its name within the job.
    pub key: String,
    /// Tries so far.
    pub attempt: u32,
    /// Steps done.
    pub done: u64,
    /// Steps in all; 0 when not known.
    pub total: u64,
    /// What is going on.
    pub message: String,
    /// When this try began.
    pub started_at: Option<Timestamp>,
}

impl Read<ops::RelayList> {
    /// What a relay works on, the oldest first.
    pub async fn relay_tasks(&mut self, relay: RelayId) -> Result<Vec<RelayTaskRow>> {
        let tenant = self.tenant();
        let rows = self
            .tx
            .rows(
                "SELECT t.id, t.job_id, j.plugin, t.key, t.attempt, t.done, t.total, t.message, t.started_at \
                 FROM job j JOIN task t ON t.tenant_id = j.tenant_id AND t.job_id = j.id \
                 WHERE j.tenant_id = $1 AND j.relay_id = $2 AND j.status = 'running' AND t.status = 'running' \
                 ORDER BY t.started_at, t.id LIMIT 200",
                args![tenant, relay.as_uuid()],
            )
            .await?;
        let task = |row: &Row| {
            Ok(RelayTaskRow {
                id: TaskId::from_uuid(row.uuid(0)?),
                job: JobId::from_uuid(row.uuid(1)?),
                plugin: row.text(2)?,
                key: row.text(3)?,
                attempt: u32::try_from(row.i64(4)?).unwrap_or(u32::MAX),
                done: row.i64(5)?.unsigned_abs(),
                total: row.i64(6)?.unsigned_abs(),
                message: row.text(7)?,
                started_at: row.opt_time(8)?,
            })
        };
        rows.iter().map(task).collect()
    }

    /// On how many tasks each relay works; those that work on none are not in it.
    pub async fn relay_task_counts(&mut self) -> Result<HashMap<RelayId, u64>> {
        let tenant = self.tenant();
        let rows = self
            .tx
            .rows(
                "SELECT j.relay_id, COUNT(*) FROM job j JOIN task t ON t.tenant_id = j.tenant_id AND t.job_id = j.id \
                 WHERE j.tenant_id = $1 AND j.relay_id IS NOT NULL AND j.status = 'running' AND t.status = 'running' \
                 GROUP BY j.relay_id",
                args![tenant],
            )
            .await?;
        rows.iter().map(|row| Ok((RelayId::from_uuid(row.uuid(0)?), row.i64(1)?.unsigned_abs()))).collect()
    }

    /// Where a relay of this tenant hangs, as far as is known.
    pub async fn relay_place(&mut self, relay: RelayId) -> Result<Option<RelayLink>> {
        self.relay_show(relay).await?;
        link(&mut self.tx, relay).await
    }
}

impl Write<ops::RelayFollow> {
    /// Records that somebody follows a relay's log, before the first line.
    pub async fn relay_follow(mut self, relay: RelayId) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let row = fleet::unit_show(&mut self.tx, tenant, relay.into(), now).await?;
        self.commit(Change::to(Category::Access, "relay", relay).detail(json!({"name": row.name}))).await.map(drop)
    }
}

async fn link(tx: &mut Tx, relay: RelayId) -> Result<Option<RelayLink>> {
    let sql = "SELECT server, place, linked_at, seen_at FROM relay_link WHERE relay_id = $1";
    let row = tx.row(sql, args![relay.as_uuid()]).await?;
    let link = |row: Row| {
        Ok(RelayLink { server: row.uuid(0)?, place: row.text(1)?, linked_at: row.time(2)?, seen_at: row.time(3)? })
    };
    row.map(link).transpose()
}

impl Store {
    /// Where a relay hangs, as far as is known.
    pub async fn relay_link(&self, relay: RelayId) -> Result<Option<RelayLink>> {
        let mut tx = self.db().read().await?;
        link(&mut tx, relay).await
    }

    /// Notes that a relay hangs on this server now, and wakes whoever waits for its work; refuses one that was revoked since it proved who it is.
    pub async fn relay_linked(&self, tenant: TenantId, relay: RelayId, server: Uuid, place: &str) -> Result<()> {
        let mut tx = self.db().write().await?;
        let now = self.clock().now();
        tx.execute(
            "INSERT INTO relay_link (relay_id, owner_tenant, server, linked_at, seen_at, place) VALUES ($1, $2, $3, $4, $4, $5) \
             ON CONFLICT (relay_id) DO UPDATE SET server = excluded.server, linked_at = excluded.linked_at, seen_at = excluded.seen_at, \
             place = excluded.place",
            args![relay.as_uuid(), tenant, server, now, place],
        )
        .await?;
        enter(&mut tx, tenant).await?;
        if !seen(&mut tx, tenant, relay, now).await? {
            return Err(Error::Unauthenticated);
        }
        tx.commit().await?;
        self.say_work_queued();
        Ok(())
    }

    /// Notes that a relay does not hang on this server any more; nothing when it hangs elsewhere already.
    pub async fn relay_unlinked(&self, relay: RelayId, server: Uuid) -> Result<()> {
        let mut tx = self.db().write().await?;
        tx.execute("DELETE FROM relay_link WHERE relay_id = $1 AND server = $2", args![relay.as_uuid(), server])
            .await?;
        tx.commit().await
    }

    /// Notes that a relay is alive; false when it hangs on another server by now, or is let in no more.
    pub async fn relay_seen(&self, relay: RelayId, server: Uuid) -> Result<bool> {
        let mut tx = self.db().write().await?;
        let now = self.clock().now();
        let row = tx
            .row(
                "UPDATE relay_link SET seen_at = $3 WHERE relay_id = $1 AND server = $2 RETURNING owner_tenant",
                args![relay.as_uuid(), server, now],
            )
            .await?;
        let Some(row) = row else { return Ok(false) };
        let tenant = TenantId::from_uuid(row.uuid(0)?);
        enter(&mut tx, tenant).await?;
        let is_let_in = seen(&mut tx, tenant, relay, now).await?;
        tx.commit().await?;
        Ok(is_let_in)
    }

    /// Asks the server on which a relay hangs to look whether it is alive (PostgreSQL; on SQLite there is no other server).
    pub async fn relay_ask(&self, relay: RelayId) -> Result<()> {
        let mut tx = self.db().write().await?;
        if tx.engine() == Engine::Pg {
            let text = relay.as_uuid().to_string();
            tx.execute("SELECT pg_notify($1, $2)", args![crate::signal::RELAYS, text]).await?;
        }
        tx.commit().await
    }
}

/// Notes when a relay was seen; false when it is let in no more.
async fn seen(tx: &mut Tx, tenant: TenantId, relay: RelayId, now: Timestamp) -> Result<bool> {
    let rows = tx
        .execute(
            "UPDATE fleet_unit SET last_seen_at = $3 WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL AND cloned_at IS NULL",
            args![tenant, relay.as_uuid(), now],
        )
        .await?;
    Ok(rows == 1)
}
