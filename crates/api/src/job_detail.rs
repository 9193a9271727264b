//! A job from near: its tasks, its scopes, its log.

use std::collections::{BTreeMap, HashMap};

use access::ops;
use axum::Json;
use axum::extract::State;
use domain::{Error, TaskId};
use serde::Deserialize;
use store::{CoverageRow, JobLineRow, LineFilter, ScopeFilter, ScopeRow};
use wire::List;
use wire::job::{JobDetail, JobLine, JobPart, JobScope, ScopeCounts, ScopeCoverage, Task};

use crate::caller::Caller;
use crate::job::job;
use crate::page::{self, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// Scopes that a job's document holds.
const SCOPES_SHOWN: usize = 2_000;
/// Kinds of things that it holds.
const PARTS_SHOWN: usize = 200;
const STATES: [&str; 8] = ["reading", "complete", "unchanged", "partial", "denied", "throttled", "failed", "absent"];

fn kind_of(scope: &str) -> &str {
    scope.rsplit_once(':').map_or(scope, |(_, kind)| kind)
}

fn count(counts: &mut ScopeCounts, row: &CoverageRow) {
    let of = match row.coverage.as_str() {
        "denied" => &mut counts.denied,
        "failed" => &mut counts.failed,
        "partial" | "throttled" => &mut counts.partial,
        _ => &mut counts.whole,
    };
    *of += 1;
    counts.nodes += row.nodes;
    counts.edges += row.edges;
}

fn parts(coverage: &[CoverageRow]) -> Vec<JobPart> {
    let mut parts: BTreeMap<&str, JobPart> = BTreeMap::new();
    for row in coverage {
        let kind = kind_of(&row.scope);
        let name = kind.split('.').next().unwrap_or(kind);
        if parts.len() >= PARTS_SHOWN && !parts.contains_key(name) {
            continue;
        }
        let part = parts.entry(name).or_insert_with(|| JobPart {
            name: name.to_owned(),
            scopes: ScopeCounts::default(),
            started_at: row.started_at,
            finished_at: row.finished_at,
        });
        part.started_at = part.started_at.min(row.started_at);
        part.finished_at = part.finished_at.max(row.finished_at);
        count(&mut part.scopes, row);
    }
    parts.into_values().collect()
}

/// A job with its parts.
pub(crate) fn detail(row: store::JobDetail) -> JobDetail {
    let mut counts: HashMap<TaskId, ScopeCounts> = HashMap::new();
    for scope in &row.coverage {
        count(counts.entry(scope.task).or_default(), scope);
    }
    let parts = parts(&row.coverage);
    let tasks: Vec<_> = row
        .tasks
        .into_iter()
        .map(|task| Task {
            id: task.id,
            key: task.key,
            status: task.status.to_string(),
            attempt: task.attempt,
            done: task.done,
            total: task.total,
            message: task.message,
            error: task.error,
            started_at: task.started_at,
            finished_at: task.finished_at,
            scopes: counts.remove(&task.id).unwrap_or_default(),
        })
        .collect();
    let coverage = row.coverage.into_iter().take(SCOPES_SHOWN).map(|scope| ScopeCoverage {
        scope: scope.scope,
        coverage: scope.coverage,
        reason: scope.reason,
        nodes: scope.nodes,
        edges: scope.edges,
    });
    let mut job = job(row.job);
    // In steps and not in tasks: a job of one task would else jump from nothing to everything.
    if tasks.iter().all(|task| task.total > 0) && !tasks.is_empty() {
        (job.done, job.total) = tasks.iter().fold((0, 0), |(done, total), task| (done + task.done, total + task.total));
    }
    JobDetail { job, tasks, coverage: coverage.collect(), parts }
}

/// Which scopes of a job.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScopeQuery {
    /// Only in this state.
    state: Option<String>,
    /// Only of this task, by its key.
    task: Option<String>,
    /// Only scopes that begin so.
    scope: Option<String>,
    /// Only of this kind, e.g. `ec2.instances`, or of all that begin so before a point, e.g. `ec2`.
    kind: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

fn scope(row: ScopeRow) -> JobScope {
    JobScope {
        kind: kind_of(&row.scope).to_owned(),
        scope: row.scope,
        task: row.task,
        state: row.state,
        reason: row.reason,
        nodes: row.nodes,
        edges: row.edges,
        calls: row.calls,
        started_at: row.started_at,
        finished_at: row.finished_at,
        evidence: row.evidence,
    }
}

/// A job's scopes, by name: those that were read, and those that are being read.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/jobs/{job}/scopes", tag = "jobs",
    params(("tenant" = String, Path, description = "id or slug"), ("job" = String, Path, description = "the job's id"), ScopeQuery),
    responses((status = 200, description = "scopes", body = List<JobScope>)))]
pub(crate) async fn job_scopes(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
    Query(query): Query<ScopeQuery>,
) -> Answer<Json<List<JobScope>>> {
    let permit = caller.permit::<ops::JobList>(&tenant).await?;
    if query.state.as_deref().is_some_and(|state| !STATES.contains(&state)) {
        return Err(Error::invalid("state", format!("use one of {}", STATES.join(", "))).into());
    }
    let (after, limit) = (page::after(query.page.as_deref())?, page::limit(query.limit.as_deref())?);
    let filter = ScopeFilter { state: query.state, task: query.task, scope: query.scope, kind: query.kind };
    let rows = state.store.read(permit).await?.job_scopes(page::id(&id, "job")?, &filter, after, limit).await?;
    Ok(page::list(rows, scope))
}

/// Which lines of a job's log.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct LineQuery {
    /// Only lines of this level or above: `debug`, `info`, `warn` or `error`.
    level: Option<String>,
    /// Only of this task, by its key.
    task: Option<String>,
    /// Only about scopes that begin so.
    scope: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

fn line(row: JobLineRow) -> JobLine {
    JobLine {
        id: row.id,
        at: row.at,
        level: row.level.to_string(),
        task: row.task,
        scope: row.scope,
        // What looks like a secret is taken out once more: lines hold words of plugins and targets.
        text: redact::redact(&row.text).into_owned(),
    }
}

/// A job's log, the newest line first. Lines are kept for 30 days.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/jobs/{job}/log", tag = "jobs",
    params(("tenant" = String, Path, description = "id or slug"), ("job" = String, Path, description = "the job's id"), LineQuery),
    responses((status = 200, description = "lines", body = List<JobLine>)))]
pub(crate) async fn job_log(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
    Query(query): Query<LineQuery>,
) -> Answer<Json<List<JobLine>>> {
    let permit = caller.permit::<ops::JobList>(&tenant).await?;
    let (after, limit) = (page::after(query.page.as_deref())?, page::limit(query.limit.as_deref())?);
    let level = page::word("level", query.level.as_deref())?;
    let filter = LineFilter { level, task: query.task, scope: query.scope };
    let rows = state.store.read(permit).await?.job_lines(page::id(&id, "job")?, &filter, after, limit).await?;
    Ok(page::list(rows, line))
}
