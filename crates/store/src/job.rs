//! Jobs as people see them: make, list, look at, cancel. What a worker does to them is in `run.rs`.

use access::ops;
use domain::{
    CollectionId, CredentialId, Error, EvidenceId, JobId, JobStatus, LineLevel, RelayId, Result, ScheduleId, TaskId,
    TaskStatus, TenantId, Timestamp, ValidationId,
};
use serde_json::{Map, Value, json};

use crate::audit::{Category, Change};
use crate::db::{Row, Tx, args};
use crate::job_line::{self, NewLine};
use crate::relay::check_relay;
use crate::unit::{Read, Write};
use crate::work::{self, WorkKind};
use crate::{Page, Store, run};

/// What a credential is opened for, or a host met for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A job.
    Job(JobId),
    /// A validation.
    Validation(ValidationId),
}

impl From<JobId> for Purpose {
    fn from(job: JobId) -> Self {
        Self::Job(job)
    }
}

impl Purpose {
    /// For an audit record.
    pub(crate) fn told(self) -> Map<String, Value> {
        let (name, id) = match self {
            Self::Job(id) => ("job", id.to_string()),
            Self::Validation(id) => ("validation", id.to_string()),
        };
        Map::from_iter([(name.to_owned(), id.into())])
    }
}

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

/// One scope of a job: as it was read, or as it is being read.
#[derive(Debug, Clone)]
pub struct ScopeRow {
    /// The scope.
    pub scope: String,
    /// The key of the task that reads it.
    pub task: String,
    /// `reading`, or as in [`CoverageRow::coverage`].
    pub state: String,
    /// Why not all.
    pub reason: Option<String>,
    /// Nodes that it showed.
    pub nodes: u64,
    /// Edges that it showed.
    pub edges: u64,
    /// Calls that it took; 0 while it is read.
    pub calls: u64,
    /// When it was begun.
    pub started_at: Timestamp,
    /// When it came to its end.
    pub finished_at: Option<Timestamp>,
    /// Its signed statement.
    pub evidence: Option<EvidenceId>,
}

/// Which scopes of a job.
#[derive(Debug, Clone, Default)]
pub struct ScopeFilter {
    /// Only in this state.
    pub state: Option<String>,
    /// Only of this task.
    pub task: Option<String>,
    /// Only those that begin so.
    pub scope: Option<String>,
    /// Only of this kind: what stands behind the scope's last colon, or what that begins with before a point.
    pub kind: Option<String>,
}

/// Where a scope stands in its job: by name, then by task. No scope holds a blank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeKey {
    scope: String,
    task: String,
}

impl std::fmt::Display for ScopeKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.scope, self.task)
    }
}

impl std::str::FromStr for ScopeKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let (scope, task) = text.split_once(' ').ok_or_else(|| Error::invalid("page", "no place in the list"))?;
        Ok(Self { scope: scope.to_owned(), task: task.to_owned() })
    }
}

/// What is read comes from `task_scope`, what was read from `collection`.
const SCOPES: &str = "SELECT s.scope, t.key, s.state, s.reason, s.nodes, s.edges, s.calls, s.started_at, s.finished_at, s.evidence_id FROM ( \
       SELECT task_id, scope, coverage AS state, reason, nodes, edges, call_count AS calls, started_at, finished_at, evidence_id \
       FROM collection WHERE tenant_id = $1 AND job_id = $2 \
       UNION ALL \
       SELECT r.task_id, r.scope, 'reading', NULL, r.nodes, r.edges, 0, r.started_at, NULL, NULL \
       FROM task o JOIN task_scope r ON r.tenant_id = o.tenant_id AND r.task_id = o.id WHERE o.tenant_id = $1 AND o.job_id = $2 \
         AND NOT EXISTS (SELECT 1 FROM collection c WHERE c.tenant_id = r.tenant_id AND c.job_id = $2 AND c.task_id = r.task_id AND c.scope = r.scope) \
     ) s JOIN task t ON t.tenant_id = $1 AND t.id = s.task_id \
     WHERE (s.scope > $3 OR (s.scope = $3 AND t.key > $4)) AND ($5 = '' OR s.state = $5) AND ($6 = '' OR t.key = $6) \
       AND substr(s.scope, 1, length($7)) = $7 \
       AND ($8 = '' OR s.scope = $8 OR substr(s.scope, length(s.scope) - length($8)) = ':' || $8 OR s.scope LIKE '%:' || $8 || '.%') \
     ORDER BY s.scope, t.key LIMIT $9";

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

impl Read<ops::JobList> {
    /// A job's scopes, those that were read and those that are being read, by name and task.
    pub async fn job_scopes(
        &mut self,
        job: JobId,
        filter: &ScopeFilter,
        after: Option<ScopeKey>,
        limit: u32,
    ) -> Result<Page<ScopeRow, ScopeKey>> {
        let tenant = self.tenant();
        job_find(&mut self.tx, tenant, job).await?;
        let (scope, task) = after.map_or_else(Default::default, |key| (key.scope, key.task));
        let values = args![
            tenant,
            job,
            scope,
            task,
            filter.state.clone().unwrap_or_default(),
            filter.task.clone().unwrap_or_default(),
            filter.scope.clone().unwrap_or_default(),
            filter.kind.clone().unwrap_or_default(),
            i64::from(limit) + 1
        ];
        let scope = |row: &Row| {
            Ok(ScopeRow {
                scope: row.text(0)?,
                task: row.text(1)?,
                state: row.text(2)?,
                reason: row.opt_text(3)?,
                nodes: count(row, 4)?,
                edges: count(row, 5)?,
                calls: count(row, 6)?,
                started_at: row.time(7)?,
                finished_at: row.opt_time(8)?,
                evidence: row.opt_uuid(9)?.map(EvidenceId::from_uuid),
            })
        };
        let items = self.tx.rows(SCOPES, values).await?.iter().map(scope).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row: &ScopeRow| ScopeKey { scope: row.scope.clone(), task: row.task.clone() }))
    }
}

impl Write<ops::JobCancel> {
    /// Stops a job: what waits is cancelled at once, what runs is told at its next renewal. Doing it twice is no error; a job that has
    /// ended in another way answers with a conflict.
    pub async fn job_cancel(mut self, id: JobId) -> Result<JobRow> {
        let (tenant, now, store) = (self.tenant(), self.store.clock().now(), self.store.clone());
        let locked = run::lock(&mut self.tx, tenant, id).await?;
        if locked.cancel_requested {
            return job_find(&mut self.tx, tenant, id).await;
        }
        if locked.status.is_final() {
            return Err(Error::conflict(format!("this job has already ended as `{}`", locked.status)));
        }
        let tx = &mut self.tx;
        let text = "somebody asked to stop it";
        job_line::write(tx, &store, tenant, id, NewLine::of(LineLevel::Info, "", text)).await?;
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
            run::settle(tx, &store, tenant, id).await?;
        } else if locked.status == JobStatus::Queued {
            work::remove(tx, id.as_uuid()).await?;
            run::end(tx, &store, tenant, id, JobStatus::Cancelled, None).await?;
        }
        let job = job_find(tx, tenant, id).await?;
        self.commit(Change::to(Category::Discovery, "job", id).detail(json!({"status": job.status}))).await?;
        store.say_job_changed(tenant, id);
        Ok(job)
    }
}
