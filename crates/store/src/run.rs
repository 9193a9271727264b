//! What a worker does to a job under its claim: plan it, run its tasks, end it.
//!
//! Every function proves first that the claim still stands. Locks are taken in the order job, work, task, audit head. A job's start and its
//! end are in the audit log; progress and tries in between are bookkeeping of the run and are not.

use access::ops;
use domain::{Error, JobId, JobStatus, LineLevel, Result, ScopeId, TaskId, TaskStatus, TenantId, Timestamp};
use serde_json::{Map, Value, json};

use crate::Store;
use crate::audit::{Category, Change, Outcome};
use crate::bulk::Batch;
use crate::db::{Tx, args};
use crate::job::{JobRow, TaskRow, count, job_find, stored, task_find};
use crate::job_line::{self, NewLine};
use crate::unit::Write;
use crate::work::{self, ATTEMPTS_MAX, Claim, WorkKind, backoff_ms};

/// A task that a plugin planned.
#[derive(Debug, Clone)]
pub struct NewTask {
    /// Unique within the job.
    pub key: String,
    /// What the plugin needs to know.
    pub params: Map<String, Value>,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskOutcome {
    /// Done; its collections say how well.
    Completed,
    /// It cannot be done.
    Failed(String),
    /// It could not be done now (the database was away, say): again later, [`ATTEMPTS_MAX`] times in all.
    Retry(String),
    /// Stopped because the job was cancelled.
    Cancelled,
}

/// Whether claimed work is to be done.
#[derive(Debug, Clone)]
pub enum Begun<T> {
    /// Do it.
    Run(T),
    /// It is over: the job was cancelled, or the work was tried too often. This was written down; there is nothing more to do.
    Over,
}

/// A scope that a task reads at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The scope.
    pub scope: ScopeId,
    /// Nodes that it has shown so far.
    pub nodes: u64,
    /// Edges that it has shown so far.
    pub edges: u64,
    /// When it was begun.
    pub started: Timestamp,
}

/// How far a task is.
#[derive(Debug, Clone, Copy)]
pub struct TaskProgress<'a> {
    /// Steps done.
    pub done: u64,
    /// Steps in all; 0 when not known.
    pub total: u64,
    /// What is going on.
    pub message: &'a str,
    /// Whether that becomes a line of the job's log.
    pub is_told: bool,
    /// The scopes that it reads at this moment; none where they are those of the last time.
    pub reading: Option<&'a [Reading]>,
}

/// A task to run, with its job.
#[derive(Debug, Clone)]
pub struct TaskRun {
    /// The job.
    pub job: JobRow,
    /// The task.
    pub task: TaskRow,
}

/// Where a job stands, locked to the end of the transaction.
pub(crate) struct Locked {
    pub(crate) status: JobStatus,
    pub(crate) cancel_requested: bool,
    pub(crate) planned: bool,
}

/// Longest message or error that is kept, in characters.
const TEXT_CHARS: usize = 1_000;

fn cut(text: &str) -> String {
    text.chars().take(TEXT_CHARS).collect()
}

/// Locks a job, so that two tasks that end at the same time do not both take the other one for unfinished.
pub(crate) async fn lock(tx: &mut Tx, tenant: TenantId, id: JobId) -> Result<Locked> {
    let row = tx
        .row(
            "UPDATE job SET status = status WHERE tenant_id = $1 AND id = $2 RETURNING status, cancel_requested, planned",
            args![tenant, id],
        )
        .await?
        .ok_or(Error::NotFound { what: "job" })?;
    Ok(Locked { status: row.parse(0)?, cancel_requested: row.bool(1)?, planned: row.bool(2)? })
}

/// Ends a job. What the audit log keeps of it.
pub(crate) async fn end(
    tx: &mut Tx,
    store: &Store,
    tenant: TenantId,
    id: JobId,
    status: JobStatus,
    error: Option<&str>,
) -> Result<Change> {
    let (error, now) = (error.map(cut), store.clock().now());
    tx.execute(
        "UPDATE job SET status = $3, finished_at = $4, error = $5 WHERE tenant_id = $1 AND id = $2",
        args![tenant, id, status.as_str(), now, error.clone()],
    )
    .await?;
    let outcome = if status == JobStatus::Failed { Outcome::Fail } else { Outcome::Success };
    let level = match status {
        JobStatus::Failed => LineLevel::Error,
        JobStatus::Partial => LineLevel::Warn,
        _ => LineLevel::Info,
    };
    let text =
        error.as_ref().map_or_else(|| format!("the job is {status}"), |why| format!("the job is {status}: {why}"));
    job_line::write(tx, store, tenant, id, NewLine::of(level, "", &text)).await?;
    job_line::prune(tx, tenant, now).await?;
    let job = job_find(tx, tenant, id).await?;
    let detail = json!({"status": status, "tasks": job.tasks, "error": error});
    Ok(Change::to(Category::Discovery, "job", id).outcome(outcome).detail(detail))
}

/// When a planned job's last task has ended: has the graph judged where something was read, and ends the job otherwise.
pub(crate) async fn settle(tx: &mut Tx, store: &Store, tenant: TenantId, id: JobId) -> Result<Option<Change>> {
    match tasks_ended(tx, tenant, id).await? {
        None => Ok(None),
        Some((JobStatus::Completed | JobStatus::Partial, _)) => {
            let queued = tx.row("SELECT 1 FROM work WHERE id = $1", args![id]).await?;
            if queued.is_none() {
                work::push(tx, tenant, WorkKind::Judge, id.as_uuid(), store.clock().now()).await?;
                let text = "everything was read that could be: the rules are applied";
                job_line::write(tx, store, tenant, id, NewLine::of(LineLevel::Info, "", text)).await?;
            }
            Ok(None)
        }
        Some((status, error)) => end(tx, store, tenant, id, status, error.as_deref()).await.map(Some),
    }
}

/// How a planned job came out, once its last task has ended.
async fn tasks_ended(tx: &mut Tx, tenant: TenantId, id: JobId) -> Result<Option<(JobStatus, Option<String>)>> {
    let row = tx
        .row(
            "SELECT \
             (SELECT COUNT(*) FROM task WHERE tenant_id = $1 AND job_id = $2 AND status IN ('queued', 'running')), \
             (SELECT COUNT(*) FROM task WHERE tenant_id = $1 AND job_id = $2 AND status = 'failed'), \
             (SELECT COUNT(*) FROM task WHERE tenant_id = $1 AND job_id = $2 AND status = 'cancelled'), \
             (SELECT COUNT(*) FROM collection WHERE tenant_id = $1 AND job_id = $2), \
             (SELECT COUNT(*) FROM collection WHERE tenant_id = $1 AND job_id = $2 AND coverage IN ('complete', 'absent', 'unchanged')), \
             (SELECT COUNT(*) FROM collection WHERE tenant_id = $1 AND job_id = $2 AND coverage = 'partial'), \
             (SELECT error FROM task WHERE tenant_id = $1 AND job_id = $2 AND status = 'failed' ORDER BY key LIMIT 1), \
             (SELECT reason FROM collection WHERE tenant_id = $1 AND job_id = $2 AND reason IS NOT NULL ORDER BY scope LIMIT 1)",
            args![tenant, id],
        )
        .await?
        .ok_or_else(|| Error::internal("counting returned nothing"))?;
    let (open, failed, cancelled) = (count(&row, 0)?, count(&row, 1)?, count(&row, 2)?);
    let (scopes, whole, partial) = (count(&row, 3)?, count(&row, 4)?, count(&row, 5)?);
    if open > 0 {
        return Ok(None);
    }
    Ok(Some(if cancelled > 0 {
        (JobStatus::Cancelled, None)
    } else if whole + partial == 0 {
        let why = match (row.opt_text(6)?, row.opt_text(7)?) {
            (Some(why), _) => why,
            (None, Some(why)) => format!("nothing could be read: {why}"),
            (None, None) => "there was nothing to read: check the job's settings".to_owned(),
        };
        (JobStatus::Failed, Some(why))
    } else if failed == 0 && whole == scopes {
        (JobStatus::Completed, None)
    } else {
        (JobStatus::Partial, row.opt_text(6)?)
    }))
}

async fn end_task(
    tx: &mut Tx,
    store: &Store,
    tenant: TenantId,
    (job, task): (JobId, &TaskRow),
    status: TaskStatus,
    error: Option<&str>,
) -> Result<()> {
    let (now, key, task) = (store.clock().now(), task.key.as_str(), task.id);
    let level = if status == TaskStatus::Failed { LineLevel::Error } else { LineLevel::Info };
    let text = error.map_or_else(|| format!("the task is {status}"), |why| format!("the task is {status}: {why}"));
    job_line::write(tx, store, tenant, job, NewLine::of(level, key, &text)).await?;
    reads_no_more(tx, tenant, task).await?;
    tx.execute(
        "UPDATE task SET status = $3, finished_at = $4, error = $5 WHERE tenant_id = $1 AND id = $2",
        args![tenant, task, status.as_str(), now, error.map(cut)],
    )
    .await?;
    work::remove(tx, task.as_uuid()).await
}

/// Forgets what a task reads at this moment.
async fn reads_no_more(tx: &mut Tx, tenant: TenantId, task: TaskId) -> Result<()> {
    tx.execute("DELETE FROM task_scope WHERE tenant_id = $1 AND task_id = $2", args![tenant, task]).await.map(drop)
}

fn given_up() -> String {
    format!(
        "given up after {ATTEMPTS_MAX} tries: each ended without a word, as when the server is killed or runs out of memory"
    )
}

impl Write<ops::JobRun> {
    /// Keeps bookkeeping of the run (or, when the job has ended by it, the end with its audit record), then tells the watchers.
    async fn keep(self, job: JobId, change: Option<Change>) -> Result<()> {
        let (store, tenant) = (self.store.clone(), self.tenant());
        match change {
            Some(change) => self.commit(change).await.map(drop)?,
            None => self.tx.commit().await?,
        }
        store.say_job_changed(tenant, job);
        Ok(())
    }

    async fn job_of(&mut self, task: TaskId) -> Result<JobId> {
        let tenant = self.tenant();
        let row = self.tx.row("SELECT job_id FROM task WHERE tenant_id = $1 AND id = $2", args![tenant, task]).await?;
        Ok(JobId::from_uuid(row.ok_or(Error::NotFound { what: "task" })?.uuid(0)?))
    }

    /// Begins to plan a job.
    pub async fn job_started(mut self, claim: &Claim) -> Result<Begun<JobRow>> {
        let (tenant, id, store) = (self.tenant(), claim.job(), self.store.clone());
        let now = store.clock().now();
        let locked = lock(&mut self.tx, tenant, id).await?;
        work::fence(&mut self.tx, tenant, claim).await?;
        let over = if locked.cancel_requested {
            Some((JobStatus::Cancelled, None))
        } else if claim.attempt > ATTEMPTS_MAX {
            Some((JobStatus::Failed, Some(given_up())))
        } else {
            None
        };
        if let Some((status, error)) = over {
            work::remove(&mut self.tx, claim.id).await?;
            let change = end(&mut self.tx, &store, tenant, id, status, error.as_deref()).await?;
            self.keep(id, Some(change)).await?;
            return Ok(Begun::Over);
        }
        self.tx
            .execute(
                "UPDATE job SET status = 'running', started_at = COALESCE(started_at, $3) WHERE tenant_id = $1 AND id = $2",
                args![tenant, id, now],
            )
            .await?;
        let job = job_find(&mut self.tx, tenant, id).await?;
        let first = locked.status == JobStatus::Queued;
        let text = if first {
            "the job begins".to_owned()
        } else {
            format!("the job is planned again: try {}", claim.attempt)
        };
        job_line::write(&mut self.tx, &store, tenant, id, NewLine::of(LineLevel::Info, "", &text)).await?;
        let change = first.then(|| {
            let detail = json!({"status": job.status, "plugin": job.plugin});
            Change::to(Category::Discovery, "job", id).detail(detail)
        });
        self.keep(id, change).await?;
        Ok(Begun::Run(job))
    }

    /// Queues a job's tasks, all or none. No tasks: there was nothing to do, and the job has failed.
    pub async fn job_planned(mut self, claim: &Claim, tasks: Vec<NewTask>) -> Result<()> {
        let (tenant, id, store) = (self.tenant(), claim.job(), self.store.clone());
        let now = store.clock().now();
        let locked = lock(&mut self.tx, tenant, id).await?;
        work::fence(&mut self.tx, tenant, claim).await?;
        work::remove(&mut self.tx, claim.id).await?;
        self.tx.execute("UPDATE job SET planned = TRUE WHERE tenant_id = $1 AND id = $2", args![tenant, id]).await?;
        if locked.cancel_requested {
            let change = end(&mut self.tx, &store, tenant, id, JobStatus::Cancelled, None).await?;
            return self.keep(id, Some(change)).await;
        }
        let text = format!("tasks: {}", tasks.len());
        job_line::write(&mut self.tx, &store, tenant, id, NewLine::of(LineLevel::Info, "", &text)).await?;
        let ids: Vec<u128> = tasks
            .iter()
            .map(|_| TaskId::generate(&**self.store.clock(), &**self.store.rng()).as_uuid().as_u128())
            .collect();
        let params: Vec<String> = tasks.iter().map(|task| json!(task.params).to_string()).collect();
        let rows = Batch::new()
            .uuid("id", ids.iter().copied())
            .text("key", tasks.iter().map(|task| task.key.as_str()))
            .text("params", params.iter().map(String::as_str));
        self.tx
            .bulk(
                &rows,
                "INSERT INTO task (tenant_id, id, job_id, key, params, status, attempt, done, total, message) \
                 SELECT $1, v.id, $2, v.key, v.params, 'queued', 0, 0, 0, '' FROM v",
                args![tenant, id],
            )
            .await
            .map_err(|error| match error {
                Error::Conflict { .. } => Error::internal("the plugin planned two tasks with one key"),
                other => other,
            })?;
        self.tx
            .bulk(
                &Batch::new().uuid("id", ids),
                "INSERT INTO work (id, kind, owner_tenant, due_at, attempt, cancel, relay_id) \
                 SELECT v.id, $1, $2, $3, 0, FALSE, $4 FROM v",
                args![WorkKind::Task.as_str(), tenant, now, claim.relay.map(|relay| relay.as_uuid())],
            )
            .await?;
        crate::signal::announce_work(&mut self.tx).await?;
        let change = settle(&mut self.tx, &store, tenant, id).await?;
        self.keep(id, change).await?;
        store.say_work_queued();
        Ok(())
    }

    /// Ends a job that could not be planned.
    pub async fn job_unplanned(mut self, claim: &Claim, error: &str) -> Result<()> {
        let (tenant, id, store) = (self.tenant(), claim.job(), self.store.clone());
        let locked = lock(&mut self.tx, tenant, id).await?;
        work::fence(&mut self.tx, tenant, claim).await?;
        work::remove(&mut self.tx, claim.id).await?;
        let (status, error) =
            if locked.cancel_requested { (JobStatus::Cancelled, None) } else { (JobStatus::Failed, Some(error)) };
        let change = end(&mut self.tx, &store, tenant, id, status, error).await?;
        self.keep(id, Some(change)).await
    }

    /// Begins a task. After a try that was cut short it begins from the start again: ingest is idempotent.
    pub async fn task_started(mut self, claim: &Claim) -> Result<Begun<TaskRun>> {
        let (tenant, task, store) = (self.tenant(), claim.task(), self.store.clone());
        let now = store.clock().now();
        let id = self.job_of(task).await?;
        let locked = lock(&mut self.tx, tenant, id).await?;
        work::fence(&mut self.tx, tenant, claim).await?;
        let row = task_find(&mut self.tx, tenant, task).await?;
        let over = if locked.cancel_requested {
            Some((TaskStatus::Cancelled, None))
        } else if claim.attempt > ATTEMPTS_MAX {
            Some((TaskStatus::Failed, Some(given_up())))
        } else {
            None
        };
        if let Some((status, error)) = over {
            end_task(&mut self.tx, &store, tenant, (id, &row), status, error.as_deref()).await?;
            let change = settle(&mut self.tx, &store, tenant, id).await?;
            self.keep(id, change).await?;
            return Ok(Begun::Over);
        }
        self.tx
            .execute(
                "UPDATE task SET status = 'running', attempt = $3, started_at = $4, done = 0, total = 0, message = '' \
                 WHERE tenant_id = $1 AND id = $2",
                args![tenant, task, i64::from(claim.attempt), now],
            )
            .await?;
        reads_no_more(&mut self.tx, tenant, task).await?;
        let text = format!("the task begins, try {}", claim.attempt);
        job_line::write(&mut self.tx, &store, tenant, id, NewLine::of(LineLevel::Info, &row.key, &text)).await?;
        let run = TaskRun {
            job: job_find(&mut self.tx, tenant, id).await?,
            task: task_find(&mut self.tx, tenant, task).await?,
        };
        self.keep(id, None).await?;
        Ok(Begun::Run(run))
    }

    /// Says how far a task is. Not in the audit log; each call is a small transaction, so call it once a second at most.
    pub async fn task_progress(mut self, claim: &Claim, progress: &TaskProgress<'_>) -> Result<()> {
        let (tenant, store, task) = (self.tenant(), self.store.clone(), claim.task());
        work::fence(&mut self.tx, tenant, claim).await?;
        let row = self
            .tx
            .row(
                "UPDATE task SET done = $3, total = $4, message = $5 WHERE tenant_id = $1 AND id = $2 RETURNING job_id, key",
                args![tenant, task, stored(progress.done), stored(progress.total), cut(progress.message)],
            )
            .await?
            .ok_or(Error::NotFound { what: "task" })?;
        let (id, key) = (JobId::from_uuid(row.uuid(0)?), row.text(1)?);
        if let Some(reading) = progress.reading {
            reads_no_more(&mut self.tx, tenant, task).await?;
            let rows = Batch::new()
                .text("scope", reading.iter().map(|reading| reading.scope.as_str()))
                .i64("nodes", reading.iter().map(|reading| stored(reading.nodes)))
                .i64("edges", reading.iter().map(|reading| stored(reading.edges)))
                .i64("started", reading.iter().map(|reading| reading.started.as_millis()));
            self.tx
                .bulk(
                    &rows,
                    "INSERT INTO task_scope (tenant_id, task_id, scope, nodes, edges, started_at) \
                     SELECT $1, $2, v.scope, v.nodes, v.edges, v.started FROM v",
                    args![tenant, task],
                )
                .await?;
        }
        if progress.is_told {
            let line = NewLine::of(LineLevel::Debug, &key, progress.message);
            job_line::write(&mut self.tx, &store, tenant, id, line).await?;
        }
        self.keep(id, None).await
    }

    /// Ends a task, and with the last one the job; where the job stands after it.
    pub async fn task_finished(mut self, claim: &Claim, outcome: TaskOutcome) -> Result<JobStatus> {
        let (tenant, task, store) = (self.tenant(), claim.task(), self.store.clone());
        let id = self.job_of(task).await?;
        let locked = lock(&mut self.tx, tenant, id).await?;
        work::fence(&mut self.tx, tenant, claim).await?;
        let row = task_find(&mut self.tx, tenant, task).await?;
        let (status, error) = match outcome {
            TaskOutcome::Retry(_) if locked.cancel_requested => (TaskStatus::Cancelled, None),
            TaskOutcome::Retry(error) if claim.attempt < ATTEMPTS_MAX => {
                self.tx
                    .execute(
                        "UPDATE task SET status = 'queued', error = $3 WHERE tenant_id = $1 AND id = $2",
                        args![tenant, task, cut(&error)],
                    )
                    .await?;
                reads_no_more(&mut self.tx, tenant, task).await?;
                let wait_ms = backoff_ms(claim.attempt);
                let text = format!("again in {} s, since try {} ended: {error}", wait_ms / 1_000, claim.attempt);
                job_line::write(&mut self.tx, &store, tenant, id, NewLine::of(LineLevel::Warn, &row.key, &text))
                    .await?;
                let due_at = store.clock().now().plus_millis(wait_ms);
                work::put_back(&mut self.tx, claim, due_at, claim.attempt).await?;
                self.keep(id, None).await?;
                return Ok(locked.status);
            }
            TaskOutcome::Retry(error) => {
                (TaskStatus::Failed, Some(format!("given up after {ATTEMPTS_MAX} tries: {error}")))
            }
            TaskOutcome::Failed(error) => (TaskStatus::Failed, Some(error)),
            TaskOutcome::Completed => (TaskStatus::Completed, None),
            TaskOutcome::Cancelled => (TaskStatus::Cancelled, None),
        };
        end_task(&mut self.tx, &store, tenant, (id, &row), status, error.as_deref()).await?;
        let change = settle(&mut self.tx, &store, tenant, id).await?;
        let after = job_find(&mut self.tx, tenant, id).await?.status;
        self.keep(id, change).await?;
        Ok(after)
    }

    /// Ends a job after the graph was judged. `failed`: why it could not be; tried [`ATTEMPTS_MAX`] times before the job ends without.
    pub async fn job_judged(mut self, claim: &Claim, failed: Option<&str>) -> Result<JobStatus> {
        let (tenant, id, store) = (self.tenant(), claim.job(), self.store.clone());
        let now = store.clock().now();
        lock(&mut self.tx, tenant, id).await?;
        work::fence(&mut self.tx, tenant, claim).await?;
        if failed.is_some() && claim.attempt < ATTEMPTS_MAX {
            work::put_back(&mut self.tx, claim, now.plus_millis(backoff_ms(claim.attempt)), claim.attempt).await?;
            self.keep(id, None).await?;
            return Ok(JobStatus::Running);
        }
        work::remove(&mut self.tx, claim.id).await?;
        let ended = tasks_ended(&mut self.tx, tenant, id).await?;
        let (status, error) = ended.ok_or_else(|| Error::internal("a job was judged before its tasks ended"))?;
        let error = failed.map(|why| format!("the findings are not up to date: {why}")).or(error);
        let change = end(&mut self.tx, &store, tenant, id, status, error.as_deref()).await?;
        self.keep(id, Some(change)).await?;
        Ok(status)
    }
}
