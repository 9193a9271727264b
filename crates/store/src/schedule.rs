//! Jobs that repeat. A schedule stands in the work queue like any other work, so exactly one worker of all servers makes its next job.

use access::ops;
use domain::{CredentialId, Error, RelayId, Result, ScheduleId, TenantId, Timestamp};
use serde_json::{Map, Value, json};

use crate::Page;
use crate::audit::{Category, Change};
use crate::condition::{self, Versioned as _};
use crate::db::{Row, Tx, args};
use crate::job::{JobRow, NewJob, check_credential, job_change, job_insert};
use crate::relay::check_relay;
use crate::unit::{Read, Write};
use crate::work::{self, Claim, WorkKind};

/// Shortest interval, in seconds.
const INTERVAL_S_MIN: u32 = 60;
/// Longest interval, in seconds: a leap year.
const INTERVAL_S_MAX: u32 = 366 * 86_400;

/// What to repeat.
#[derive(Debug, Clone)]
pub struct NewSchedule {
    /// The plugin; its settings were checked by the caller.
    pub plugin: String,
    /// What it signs in with, if it needs to.
    pub credential: Option<CredentialId>,
    /// The relay that does it.
    pub relay: Option<RelayId>,
    /// Its settings.
    pub config: Map<String, Value>,
    /// Seconds from one start to the next, from 60 to 366 days.
    pub interval_s: u32,
}

/// What becomes of a schedule; what is not named stays.
#[derive(Debug, Clone, Default)]
pub struct ScheduleChange {
    /// What it signs in with; the caller has checked that the plugin can use it.
    pub credential: Option<CredentialId>,
    /// The relay that does it, or any server.
    pub relay: Option<Option<RelayId>>,
    /// Its settings; the plugin has checked them.
    pub config: Option<Map<String, Value>>,
    /// Seconds from one start to the next, from 60 to 366 days.
    pub interval_s: Option<u32>,
    /// Whether it makes no jobs.
    pub paused: Option<bool>,
}

/// A schedule.
#[derive(Debug, Clone)]
pub struct ScheduleRow {
    /// Its id.
    pub id: ScheduleId,
    /// The plugin.
    pub plugin: String,
    /// What it signs in with.
    pub credential: Option<CredentialId>,
    /// The relay that does it.
    pub relay: Option<RelayId>,
    /// The plugin's settings.
    pub config: Map<String, Value>,
    /// Seconds from one start to the next.
    pub interval_s: i64,
    /// When it makes its next job.
    pub next_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// Whether it makes no jobs until somebody lets it go on.
    pub paused: bool,
}

fn schedule_row(row: &Row) -> Result<ScheduleRow> {
    Ok(ScheduleRow {
        id: ScheduleId::from_uuid(row.uuid(0)?),
        plugin: row.text(1)?,
        credential: row.opt_uuid(2)?.map(CredentialId::from_uuid),
        config: row.json(3)?,
        interval_s: row.i64(4)?,
        next_at: row.time(5)?,
        created_at: row.time(6)?,
        created_by: row.text(7)?,
        relay: row.opt_uuid(8)?.map(RelayId::from_uuid),
        paused: row.bool(9)?,
    })
}

fn check_interval(interval_s: u32) -> Result<()> {
    if (INTERVAL_S_MIN..=INTERVAL_S_MAX).contains(&interval_s) {
        return Ok(());
    }
    Err(Error::invalid("interval_s", "use an interval from 60 seconds to 366 days"))
}

async fn find(tx: &mut Tx, tenant: TenantId, id: ScheduleId) -> Result<ScheduleRow> {
    let sql = "SELECT id, plugin, credential_id, config, interval_s, next_at, created_at, created_by, relay_id, paused FROM schedule \
               WHERE tenant_id = $1 AND id = $2";
    schedule_row(&tx.row(sql, args![tenant, id]).await?.ok_or(Error::NotFound { what: "schedule" })?)
}

impl ScheduleRow {
    /// The first time after `now` in its rhythm.
    fn after(&self, now: Timestamp) -> Timestamp {
        let interval_ms = self.interval_s.saturating_mul(1_000).max(1);
        let periods = now.millis_since(self.next_at).max(0) / interval_ms + 1;
        self.next_at.plus_millis(periods.saturating_mul(interval_ms))
    }

    fn told(&self) -> Value {
        json!({
            "plugin": self.plugin,
            "credential": self.credential,
            "config": self.config,
            "interval_s": self.interval_s,
            "relay": self.relay,
            "paused": self.paused,
        })
    }
}

impl Write<ops::ScheduleCreate> {
    /// Makes a schedule; its first job begins at once.
    pub async fn schedule_create(mut self, new: NewSchedule) -> Result<ScheduleRow> {
        check_interval(new.interval_s)?;
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        check_credential(&mut self.tx, tenant, &new.plugin, new.credential).await?;
        check_relay(&mut self.tx, tenant, new.relay).await?;
        let schedule = ScheduleRow {
            id: ScheduleId::generate(&**self.store.clock(), &**self.store.rng()),
            plugin: new.plugin,
            credential: new.credential,
            relay: new.relay,
            config: new.config,
            interval_s: i64::from(new.interval_s),
            next_at: now,
            created_at: now,
            created_by: self.permit.ctx().actor().to_string(),
            paused: false,
        };
        self.tx
            .execute(
                "INSERT INTO schedule (tenant_id, id, plugin, credential_id, config, interval_s, next_at, created_at, created_by, relay_id) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                args![
                    tenant,
                    schedule.id,
                    schedule.plugin.as_str(),
                    schedule.credential.map(|id| id.as_uuid()),
                    json!(schedule.config).to_string(),
                    schedule.interval_s,
                    now,
                    now,
                    schedule.created_by.as_str(),
                    schedule.relay.map(|id| id.as_uuid())
                ],
            )
            .await?;
        work::push(&mut self.tx, tenant, WorkKind::Schedule, schedule.id.as_uuid(), now).await?;
        let store = self.store.clone();
        self.commit(Change::to(Category::Discovery, "schedule", schedule.id).detail(schedule.told())).await?;
        store.say_work_queued();
        Ok(schedule)
    }
}

impl Read<ops::ScheduleList> {
    /// Schedules in the order of their ids.
    pub async fn schedule_list(
        &mut self,
        after: Option<ScheduleId>,
        limit: u32,
    ) -> Result<Page<ScheduleRow, ScheduleId>> {
        let tenant = self.tenant();
        let rows = self
            .tx
            .rows(
                "SELECT id, plugin, credential_id, config, interval_s, next_at, created_at, created_by, relay_id, paused FROM schedule \
                 WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3",
                args![tenant, after.map_or(uuid::Uuid::nil(), |id| id.as_uuid()), i64::from(limit) + 1],
            )
            .await?;
        let items = rows.iter().map(schedule_row).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row: &ScheduleRow| row.id))
    }
}

impl Read<ops::ScheduleList> {
    /// One schedule.
    pub async fn schedule_show(&mut self, id: ScheduleId) -> Result<ScheduleRow> {
        let tenant = self.tenant();
        find(&mut self.tx, tenant, id).await
    }
}

impl Write<ops::ScheduleUpdate> {
    /// Changes a schedule. Jobs that it started go on as they began.
    pub async fn schedule_update(mut self, id: ScheduleId, change: ScheduleChange) -> Result<ScheduleRow> {
        let (tenant, now, store) = (self.tenant(), self.store.clock().now(), self.store.clone());
        // The queue first, as the worker that makes its next job does.
        self.tx.execute("DELETE FROM work WHERE id = $1 AND owner_tenant = $2", args![id, tenant]).await?;
        condition::alone(&mut self.tx, tenant, &format!("schedule {id}")).await?;
        let mut row = find(&mut self.tx, tenant, id).await?;
        self.check("schedule", Some(&row.version()))?;
        let before = row.told();
        if let Some(interval_s) = change.interval_s {
            check_interval(interval_s)?;
            if row.interval_s != i64::from(interval_s) {
                row.interval_s = i64::from(interval_s);
                // Not later than a whole new interval from now.
                row.next_at = row.next_at.min(now.plus_millis(row.interval_s.saturating_mul(1_000)));
            }
        }
        // What is not begun again, nor given another credential or relay, may rest on what is gone: its next run says so.
        let uses = change.paused == Some(false);
        let (uses_credential, uses_relay) = (uses || change.credential.is_some(), uses || change.relay.is_some());
        row.credential = change.credential.or(row.credential);
        row.relay = change.relay.unwrap_or(row.relay);
        row.config = change.config.unwrap_or(row.config);
        if change.paused == Some(false) && row.paused && row.next_at <= now {
            // What was left out while it was paused stays left out.
            row.next_at = row.after(now);
        }
        row.paused = change.paused.unwrap_or(row.paused);
        if uses_credential {
            check_credential(&mut self.tx, tenant, &row.plugin, row.credential).await?;
        }
        if uses_relay {
            check_relay(&mut self.tx, tenant, row.relay).await?;
        }
        self.tx
            .execute(
                "UPDATE schedule SET credential_id = $3, relay_id = $4, config = $5, interval_s = $6, next_at = $7, paused = $8 \
                 WHERE tenant_id = $1 AND id = $2",
                args![
                    tenant,
                    id,
                    row.credential.map(|id| id.as_uuid()),
                    row.relay.map(|id| id.as_uuid()),
                    json!(row.config).to_string(),
                    row.interval_s,
                    row.next_at,
                    row.paused
                ],
            )
            .await?;
        if !row.paused {
            work::push(&mut self.tx, tenant, WorkKind::Schedule, id.as_uuid(), row.next_at).await?;
        }
        let mut detail = row.told();
        if let Some(detail) = detail.as_object_mut() {
            detail.insert("before".to_owned(), before);
        }
        self.commit(Change::to(Category::Discovery, "schedule", id).detail(detail)).await?;
        store.say_work_queued();
        Ok(row)
    }
}

impl Write<ops::ScheduleDelete> {
    /// Deletes a schedule; the jobs that it made stay.
    pub async fn schedule_delete(mut self, id: ScheduleId) -> Result<()> {
        let tenant = self.tenant();
        // The queue first, as the worker that makes its next job does.
        self.tx.execute("DELETE FROM work WHERE id = $1 AND owner_tenant = $2", args![id, tenant]).await?;
        let deleted =
            self.tx.execute("DELETE FROM schedule WHERE tenant_id = $1 AND id = $2", args![tenant, id]).await?;
        if deleted == 0 {
            return Err(Error::NotFound { what: "schedule" });
        }
        self.commit(Change::to(Category::Discovery, "schedule", id)).await.map(drop)
    }
}

impl Write<ops::JobRun> {
    /// Makes the job of a schedule that is due and sets its next time, missed ones left out. None while the schedule's last job still runs.
    pub async fn schedule_due(mut self, claim: &Claim) -> Result<Option<JobRow>> {
        let (tenant, now, id) = (self.tenant(), self.store.clock().now(), ScheduleId::from_uuid(claim.id));
        work::fence(&mut self.tx, tenant, claim).await?;
        let schedule = find(&mut self.tx, tenant, id).await?;
        let next_at = schedule.after(now);
        self.tx
            .execute("UPDATE schedule SET next_at = $3 WHERE tenant_id = $1 AND id = $2", args![tenant, id, next_at])
            .await?;
        work::put_back(&mut self.tx, claim, next_at, 0).await?;
        let busy = self
            .tx
            .row(
                "SELECT 1 FROM job WHERE tenant_id = $1 AND schedule_id = $2 AND status IN ('queued', 'running') LIMIT 1",
                args![tenant, id],
            )
            .await?
            .is_some();
        if busy {
            self.tx.commit().await?;
            return Ok(None);
        }
        let new = NewJob {
            plugin: schedule.plugin,
            credential: schedule.credential,
            config: schedule.config,
            schedule: Some(id),
            relay: schedule.relay,
        };
        let (store, requested_by) = (self.store.clone(), self.permit.ctx().actor().to_string());
        let job = job_insert(&mut self.tx, &store, tenant, &new, &requested_by).await?;
        self.commit(job_change(&job)).await?;
        store.say_work_queued();
        store.say_job_changed(tenant, job.id);
        Ok(Some(job))
    }
}
