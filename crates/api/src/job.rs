//! Discovery jobs.

use std::convert::Infallible;
use std::time::Duration;

use access::ops;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Sse;
use axum::response::sse::{Event, KeepAlive};
use domain::{CredentialId, Error, JobId, JobStatus, RelayId};
use futures::Stream;
use serde::Deserialize;
use store::{JobFilter, JobRow, NewJob};
use wire::List;
use wire::job::{Job, JobCreate, JobDetail};

use crate::caller::Caller;
use crate::job_detail::detail;
use crate::page::{self, Body, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

pub(crate) fn job(row: JobRow) -> Job {
    Job {
        id: row.id,
        plugin: row.plugin,
        credential: row.credential,
        schedule: row.schedule,
        relay: row.relay,
        config: row.config,
        status: row.status.to_string(),
        requested_by: row.requested_by,
        created_at: row.created_at,
        started_at: row.started_at,
        finished_at: row.finished_at,
        error: row.error,
        done: row.tasks_ended,
        total: row.tasks,
    }
}

/// Which jobs.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct JobQuery {
    /// Only jobs that stand so.
    status: Option<String>,
    /// Only jobs of this plugin.
    plugin: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// The tenant's jobs, newest first.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/jobs", tag = "jobs", params(("tenant" = String, Path, description = "id or slug"), JobQuery),
    responses((status = 200, description = "jobs", body = List<Job>)))]
pub(crate) async fn job_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<JobQuery>,
) -> Answer<Json<List<Job>>> {
    let permit = caller.permit::<ops::JobList>(&tenant).await?;
    let status = page::word("status", query.status.as_deref())?;
    let filter = JobFilter { status, plugin: query.plugin, ..JobFilter::default() };
    let (after, limit) = (page::after(query.page.as_deref())?, page::limit(query.limit.as_deref())?);
    Ok(page::list(state.store.read(permit).await?.job_list(&filter, after, limit).await?, job))
}

/// Finds the credential that a job names, by id or by name, and checks that the plugin can use its type.
pub(crate) async fn credential(
    state: &ApiState,
    caller: &Caller,
    tenant: &str,
    plugin: &str,
    named: Option<&str>,
) -> Answer<Option<CredentialId>> {
    let described = state.catalog.plugins().iter().find(|known| known.name == plugin);
    let kinds: Vec<&str> = described
        .map(|known| known.credential_types.iter().map(|kind| kind.name.as_str()).collect())
        .unwrap_or_default();
    match named {
        None if kinds.is_empty() => Ok(None),
        None => {
            Err(Error::invalid("credential", format!("the plugin `{plugin}` needs a credential: add one and name it"))
                .into())
        }
        Some(_) if kinds.is_empty() => {
            Err(Error::invalid("credential", format!("the plugin `{plugin}` takes no credential")).into())
        }
        Some(named) => {
            // Whoever may run jobs may name a credential; its list and its secret stay with those who manage credentials.
            let permit = caller.permit::<ops::CredentialResolve>(tenant).await?;
            let found = state.store.read(permit).await?.credential_resolve(plugin, named).await?;
            let row = found.ok_or_else(|| {
                Error::invalid(
                    "credential",
                    format!("there is no credential `{}` for `{plugin}`", named.escape_debug()),
                )
            })?;
            if !kinds.contains(&row.kind.as_str()) {
                return Err(Error::invalid(
                    "credential",
                    format!("`{plugin}` cannot use a credential of type `{}`", row.kind),
                )
                .into());
            }
            Ok(Some(row.id))
        }
    }
}

/// Finds the relay that a job names, by id or by name.
pub(crate) async fn relay(
    state: &ApiState,
    caller: &Caller,
    tenant: &str,
    named: Option<&str>,
) -> Answer<Option<RelayId>> {
    let Some(named) = named else { return Ok(None) };
    let permit = caller.permit::<ops::JobList>(tenant).await?;
    let found = state.store.read(permit).await?.relay_resolve(named).await?;
    let missing = || Error::invalid("relay", format!("there is no relay `{}`", named.escape_debug()));
    Ok(Some(found.ok_or_else(missing)?))
}

/// Starts a job.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/jobs", tag = "jobs", params(("tenant" = String, Path, description = "id or slug")),
    request_body = JobCreate, responses((status = 201, description = "queued", body = Job)))]
pub(crate) async fn job_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<JobCreate>,
) -> Answer<(StatusCode, Json<Job>)> {
    let permit = caller.permit::<ops::JobCreate>(&tenant).await?;
    state.catalog.check(&body.plugin, &body.config)?;
    let credential = credential(&state, &caller, &tenant, &body.plugin, body.credential.as_deref()).await?;
    let relay = relay(&state, &caller, &tenant, body.relay.as_deref()).await?;
    let new = NewJob { plugin: body.plugin, credential, config: body.config, schedule: None, relay };
    let row = state.store.write(permit).await?.job_create(new).await?;
    Ok((StatusCode::CREATED, Json(job(row))))
}

/// One job with its tasks and what it saw of each scope.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/jobs/{job}", tag = "jobs",
    params(("tenant" = String, Path, description = "id or slug"), ("job" = String, Path, description = "the job's id")),
    responses((status = 200, description = "job", body = JobDetail)))]
pub(crate) async fn job_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<JobDetail>> {
    let permit = caller.permit::<ops::JobList>(&tenant).await?;
    Ok(Json(detail(state.store.read(permit).await?.job_show(page::id(&id, "job")?).await?)))
}

/// Stops a job: what is queued is dropped, what is at work ends soon. What was read stays.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/jobs/{job}/cancel", tag = "jobs",
    params(("tenant" = String, Path, description = "id or slug"), ("job" = String, Path, description = "the job's id")),
    responses((status = 200, description = "job", body = Job)))]
pub(crate) async fn job_cancel(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<Job>> {
    let permit = caller.permit::<ops::JobCancel>(&tenant).await?;
    Ok(Json(job(state.store.write(permit).await?.job_cancel(page::id(&id, "job")?).await?)))
}

/// Reads the job again under a permit of this moment: a stream ends when the session or the role does.
async fn look(state: &ApiState, caller: &Caller, tenant: &str, id: JobId) -> Answer<JobDetail> {
    caller.check_again().await?;
    let permit = caller.permit::<ops::JobList>(tenant).await?;
    Ok(detail(state.store.read(permit).await?.job_show(id).await?))
}

fn event(name: &str, data: &impl serde::Serialize) -> Event {
    Event::default().event(name).data(serde_json::to_string(data).unwrap_or_default())
}

/// A job's changes as they happen (`text/event-stream`): `job` with the whole job on every change, then `end`.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/jobs/{job}/events", tag = "jobs",
    params(("tenant" = String, Path, description = "id or slug"), ("job" = String, Path, description = "the job's id")),
    responses((status = 200, description = "server-sent events", body = String, content_type = "text/event-stream")))]
pub(crate) async fn job_events(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Sse<impl Stream<Item = Result<Event, Infallible>>>> {
    let id: JobId = page::id(&id, "job")?;
    let changes = state.store.job_changes();
    // Before the stream begins: a job that the caller may not see answers 404 like any other request.
    let first = look(&state, &caller, &tenant, id).await?;
    let tenant_id =
        caller.ctx().grants().tenants.iter().map(|(tenant, _)| *tenant).find(|known| caller.names(&tenant, *known));
    let watch =
        Watch { state, caller, tenant, tenant_id, id, changes, next: Some(first), last: String::new(), ended: false };
    let stream = futures::stream::unfold(watch, |mut watch| async move {
        let event = watch.next_event().await?;
        Some((Ok(event), watch))
    });
    Ok(Sse::new(stream).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

struct Watch {
    state: ApiState,
    caller: Caller,
    tenant: String,
    tenant_id: Option<domain::TenantId>,
    id: JobId,
    changes: store::JobChanges,
    next: Option<JobDetail>,
    last: String,
    ended: bool,
}

impl Watch {
    async fn next_event(&mut self) -> Option<Event> {
        if self.ended {
            return None;
        }
        loop {
            let seen = if let Some(first) = self.next.take() {
                first
            } else {
                let mut draining = self.state.draining.clone();
                tokio::select! {
                    () = self.changes.changed(self.tenant_id?, self.id) => {}
                    _ = draining.wait_for(|draining| *draining) => return None,
                }
                look(&self.state, &self.caller, &self.tenant, self.id).await.ok()?
            };
            let text = serde_json::to_string(&seen).ok()?;
            let is_final = seen.job.status.parse::<JobStatus>().is_ok_and(JobStatus::is_final);
            if text != self.last {
                self.next = is_final.then_some(seen);
                self.last.clone_from(&text);
                return Some(Event::default().event("job").data(text));
            }
            if is_final {
                self.ended = true;
                return Some(event("end", &serde_json::json!({"status": seen.job.status})));
            }
        }
    }
}
