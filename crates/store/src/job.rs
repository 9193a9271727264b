//! Jobs as people see them: make, list, look at, cancel. What a worker does to them is in `run.rs`.

use access::ops;
use domain::{
    CollectionId, CredentialId, Error, EvidenceId, JobId, JobStatus, RelayId, Result, ScheduleId, TaskId, TaskStatus,
    TenantId, Timestamp,
};
use serde_json::{Map, Value, json};

use crate::audit::{Category, Change};
use crate::db::{Row, Tx, args};
use crate::relay::check_relay;
use crate::unit::{Read, Write};
use crate::work::{self, WorkKind};
use crate::{Page, Store, run};

/// What to discover.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// The plugin; its settings were checked by the caller.
    pub plugin: String,
    /// What it signs in with, if it needs to.
    pub credential: Option<CredentialId>,
    /// Its settings.
    pub config: Map<String, Value>,
    /// The schedule that it belongs to.
    pub schedule: Option<ScheduleId>,
    /// The relay that does it; without one any server does.
    pub relay: Option<RelayId>,
}

/// A job.
#[derive(Debug, Clone)]
pub struct JobRow {
    /// Its id.
    pub id: JobId,
    /// The plugin.
    pub plugin: String,
    /// What it signs in with; the credential may be gone by now.
    pub credential: Option<CredentialId>,
    /// The schedule that made it; may be gone by now.
    pub schedule: Option<ScheduleId>,
    /// The relay that does it; may be revoked by now.
    pub relay: Option<RelayId>,
    /// The plugin's settings.
    pub config: Map<String, Value>,
    /// Where it stands.
    pub status: JobStatus,
    /// Who asked for it.
    pub requested_by: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When planning began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Whether somebody asked to stop it.
    pub cancel_requested: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// Its tasks, once it is planned.
    pub tasks: u64,
    /// Of these, the ones that have ended.
    pub tasks_ended: u64,
}

/// A job's unit of work.
#[derive(Debug, Clone)]
pub struct TaskRow {
    /// Its id.
    pub id: TaskId,
    /// Its name within the job.
    pub key: String,
    /// What the plugin needs to know.
    pub params: Map<String, Value>,
    /// Where it stands.
    pub status: TaskStatus,
    /// Tries so far.
    pub attempt: u32,
    /// Steps done.
    pub done: u64,
    /// Steps in all; 0 when not known.
    pub total: u64,
    /// What is going on.
    pub message: String,
    /// Why it failed, or why it is to be tried again.
    pub error: Option<String>,
    /// When the latest try began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// How much of one scope a task saw.
#[derive(Debug, Clone)]
pub struct CoverageRow {
    /// The collection.
    pub id: CollectionId,
    /// The task.
    pub task: TaskId,
    /// The scope.
    pub scope: String,
    /// `complete`, `partial`, `denied`, …
    pub coverage: String,
    /// Why not all.
    pub reason: Option<String>,
    /// Nodes that it showed.
    pub nodes: u64,
    /// Edges that it showed.
    pub edges: u64,
    /// Calls that it took.
    pub calls: u64,
    /// When the first call began.
    pub started_at: Timestamp,
    /// When the last call ended.
    pub finished_at: Timestamp,
    /// Its signed statement.
    pub evidence: Option<EvidenceId>,
}

/// A job with its parts.
#[derive(Debug, Clone)]
pub struct JobDetail {
    /// The job.
    pub job: JobRow,
    /// Its tasks, by key.
    pub tasks: Vec<TaskRow>,
    /// Its scopes, by task and scope.
    pub coverage: Vec<CoverageRow>,
}

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only in this state.
    pub status: Option<JobStatus>,
    /// Only of this plugin.
    pub plugin: Option<String>,
    /// Only of this schedule.
    pub schedule: Option<ScheduleId>,
}

macro_rules! job_sql {
    ($rest:literal) => {
        concat!(
            "SELECT j.id, j.plugin, j.credential_id, j.schedule_id, j.config, j.status, j.requested_by, j.created_at, j.started_at, \
             j.finished_at, j.cancel_requested, j.error, \
             (SELECT COUNT(*) FROM task t WHERE t.tenant_id = j.tenant_id AND t.job_id = j.id), \
             (SELECT COUNT(*) FROM task t WHERE t.tenant_id = j.tenant_id AND t.job_id = j.id AND t.status NOT IN ('queued', 'running')), \
             j.relay_id FROM job j WHERE j.tenant_id = $1 ",
            $rest
        )
    };
}

macro_rules! task_sql {
    ($rest:literal) => {
        concat!(
            "SELECT id, key, params, status, attempt, done, total, message, error, started_at, finished_at FROM task WHERE tenant_id = $1 ",
            $rest
        )
    };
}

pub(crate) fn count(row: &Row, index: usize) -> Result<u64> {
    Ok(u64::try_from(row.i64(index)?).unwrap_or_default())
}

/// A count as the database keeps it.
pub(crate) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn job_row(row: &Row) -> Result<JobRow> {
    Ok(JobRow {
        id: JobId::from_uuid(row.uuid(0)?),
        plugin: row.text(1)?,
        credential: row.opt_uuid(2)?.map(CredentialId::from_uuid),
        schedule: row.opt_uuid(3)?.map(ScheduleId::from_uuid),
        config: row.json(4)?,
        status: row.parse(5)?,
        requested_by: row.text(6)?,
        created_at: row.time(7)?,
        started_at: row.opt_time(8)?,
        finished_at: row.opt_time(9)?,
        cancel_requested: row.bool(10)?,
        error: row.opt_text(11)?,
        tasks: count(row, 12)?,
        tasks_ended: count(row, 13)?,
        relay: row.opt_uuid(14)?.map(RelayId::from_uuid),
    })
}

fn task_row(row: &Row) -> Result<TaskRow> {
    Ok(TaskRow {
        id: TaskId::from_uuid(row.uuid(0)?),
        key: row.text(1)?,
        params: row.json(2)?,
        status: row.parse(3)?,
        attempt: u32::try_from(row.i64(4)?).unwrap_or(u32::MAX),
        done: count(row, 5)?,
        total: count(row, 6)?,
        message: row.text(7)?,
        error: row.opt_text(8)?,
        started_at: row.opt_time(9)?,
        finished_at: row.opt_time(10)?,
    })
}

pub(crate) async fn job_find(tx: &mut Tx, tenant: TenantId, id: JobId) -> Result<JobRow> {
    let row = tx.row(job_sql!("AND j.id = $2"), args![tenant, id]).await?.ok_or(Error::NotFound { what: "job" })?;
    job_row(&row)
}

pub(crate) async fn task_find(tx: &mut Tx, tenant: TenantId, id: TaskId) -> Result<TaskRow> {
    let row = tx.row(task_sql!("AND id = $2"), args![tenant, id]).await?.ok_or(Error::NotFound { what: "task" })?;
    task_row(&row)
}

/// Refuses a credential that is not there or is for another plugin.
pub(crate) async fn check_credential(
    tx: &mut Tx,
    tenant: TenantId,
    plugin: &str,
    credential: Option<CredentialId>,
) -> Result<()> {
    let Some(id) = credential else { return Ok(()) };
    let row = tx
        .row("SELECT plugin, name FROM credential WHERE tenant_id = $1 AND id = $2", args![tenant, id])
        .await?
        .ok_or(Error::NotFound { what: "credential" })?;
    let (of, name) = (row.text(0)?, row.text(1)?);
    if of == plugin {
        Ok(())
    } else {
        Err(Error::invalid(
            "credential",
            format!("the credential `{name}` is for the plugin `{of}`: use one for `{plugin}`"),
        ))
    }
}

/// Writes a queued job and the work of planning it.
pub(crate) async fn job_insert(
    tx: &mut Tx,
    store: &Store,
    tenant: TenantId,
    new: &NewJob,
    requested_by: &str,
) -> Result<JobRow> {
    check_credential(tx, tenant, &new.plugin, new.credential).await?;
    check_relay(tx, tenant, new.relay).await?;
    let (id, now) = (JobId::generate(&**store.clock(), &**store.rng()), store.clock().now());
    tx.execute(
        "INSERT INTO job (tenant_id, id, plugin, credential_id, schedule_id, config, status, requested_by, created_at, \
         cancel_requested, planned, relay_id) VALUES ($1, $2, $3, $4, $5, $6, 'queued', $7, $8, FALSE, FALSE, $9)",
        args![
            tenant,
            id,
            new.plugin.as_str(),
            new.credential.map(|id| id.as_uuid()),
            new.schedule.map(|id| id.as_uuid()),
            json!(new.config).to_string(),
            requested_by,
            now,
            new.relay.map(|id| id.as_uuid())
        ],
    )
    .await?;
    work::push_placed(tx, tenant, WorkKind::Plan, id.as_uuid(), now, new.relay).await?;
    job_find(tx, tenant, id).await
}

/// What the audit log keeps of a new job. Settings hold no secrets: plugins take those from credentials only.
pub(crate) fn job_change(job: &JobRow) -> Change {
    let mut detail =
        json!({"plugin": job.plugin, "credential": job.credential, "schedule": job.schedule, "config": job.config});
    if let (Some(relay), Some(detail)) = (job.relay, detail.as_object_mut()) {
        detail.insert("relay".to_owned(), json!(relay));
    }
    Change::to(Category::Discovery, "job", job.id).detail(detail)
}

impl Write<ops::JobCreate> {
    /// Queues a job.
    pub async fn job_create(mut self, new: NewJob) -> Result<JobRow> {
        let tenant = self.tenant();
        let requested_by = self.permit.ctx().actor().to_string();
        if let Some(schedule) = new.schedule {
            self.tx
                .row("SELECT 1 FROM schedule WHERE tenant_id = $1 AND id = $2", args![tenant, schedule])
                .await?
                .ok_or(Error::NotFound { what: "schedule" })?;
        }
        let store = self.store.clone();
        let job = job_insert(&mut self.tx, &store, tenant, &new, &requested_by).await?;
        self.commit(job_change(&job)).await?;
        store.say_work_queued();
        store.say_job_changed(tenant, job.id);
        Ok(job)
    }
}

impl Read<ops::JobList> {
    /// Jobs, newest first.
    pub async fn job_list(
        &mut self,
        filter: &JobFilter,
        after: Option<JobId>,
        limit: u32,
    ) -> Result<Page<JobRow, JobId>> {
        let tenant = self.tenant();
        let rows = self
            .tx
            .rows(
                job_sql!(
                    "AND j.id < $2 AND ($3 = '' OR j.status = $3) AND ($4 = '' OR j.plugin = $4) AND ($5 IS NULL OR j.schedule_id = $5) \
                     ORDER BY j.id DESC LIMIT $6"
                ),
                args![
                    tenant,
                    after.map_or(uuid::Uuid::max(), |id| id.as_uuid()),
                    filter.status.map_or("", JobStatus::as_str),
                    filter.plugin.clone().unwrap_or_default(),
                    filter.schedule.map(|id| id.as_uuid()),
                    i64::from(limit) + 1
                ],
            )
            .await?;
        let items = rows.iter().map(job_row).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |job: &JobRow| job.id))
    }

    /// One job with its tasks and what they saw.
    pub async fn job_show(&mut self, id: JobId) -> Result<JobDetail> {
        let tenant = self.tenant();
        let job = job_find(&mut self.tx, tenant, id).await?;
        let rows = self.tx.rows(task_sql!("AND job_id = $2 ORDER BY key"), args![tenant, id]).await?;
        let tasks = rows.iter().map(task_row).collect::<Result<_>>()?;
        let rows = self
            .tx
            .rows(
                "SELECT id, task_id, scope, coverage, reason, nodes, edges, call_count, started_at, finished_at, evidence_id \
                 FROM collection WHERE tenant_id = $1 AND job_id = $2 ORDER BY task_id, scope",
                args![tenant, id],
            )
            .await?;
        let mut coverage = Vec::with_capacity(rows.len());
        for row in rows {
            coverage.push(CoverageRow {
                id: CollectionId::from_uuid(row.uuid(0)?),
                task: TaskId::from_uuid(row.uuid(1)?),
                scope: row.text(2)?,
                coverage: row.text(3)?,
                reason: row.opt_text(4)?,
                nodes: count(&row, 5)?,
                edges: count(&row, 6)?,
                calls: count(&row, 7)?,
                started_at: row.time(8)?,
                finished_at: row.time(9)?,
                evidence: row.opt_uuid(10)?.map(EvidenceId::from_uuid),
            });
        }
        Ok(JobDetail { job, tasks, coverage })
    }
}

impl Write<ops::JobCancel> {
    /// Stops a job: what waits is cancelled at once, what runs is told at its next renewal. Doing it twice is no error; a job that has
    /// ended in another way answers with a conflict.
    pub async fn job_cancel(mut self, id: JobId) -> Result<JobRow> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let locked = run::lock(&mut self.tx, tenant, id).await?;
        if locked.cancel_requested {
            return job_find(&mut self.tx, tenant, id).await;
        }
        if locked.status.is_final() {
            return Err(Error::conflict(format!("this job has already ended as `{}`", locked.status)));
        }
        let tx = &mut self.tx;
        tx.execute("UPDATE job SET cancel_requested = TRUE WHERE tenant_id = $1 AND id = $2", args![tenant, id])
            .await?;
        tx.execute(
            "UPDATE task SET status = 'cancelled', finished_at = $3 WHERE tenant_id = $1 AND job_id = $2 AND status = 'queued'",
            args![tenant, id, now],
        )
        .await?;
        tx.execute(
            "DELETE FROM work WHERE id IN (SELECT id FROM task WHERE tenant_id = $1 AND job_id = $2 AND status = 'cancelled')",
            args![tenant, id],
        )
        .await?;
        tx.execute(
            "UPDATE work SET cancel = TRUE WHERE id = $2 OR id IN \
             (SELECT id FROM task WHERE tenant_id = $1 AND job_id = $2 AND status = 'running')",
            args![tenant, id],
        )
        .await?;
        if locked.planned {
            run::settle(tx, now, tenant, id).await?;
        } else if locked.status == JobStatus::Queued {
            work::remove(tx, id.as_uuid()).await?;
            run::end(tx, now, tenant, id, JobStatus::Cancelled, None).await?;
        }
        let job = job_find(tx, tenant, id).await?;
        let store = self.store.clone();
        self.commit(Change::to(Category::Discovery, "job", id).detail(json!({"status": job.status}))).await?;
        store.say_job_changed(tenant, id);
        Ok(job)
    }
}
