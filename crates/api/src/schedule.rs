//! Jobs that repeat.

use access::ops;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::Error;
use store::{NewSchedule, ScheduleChange, ScheduleRow};
use wire::List;
use wire::job::{Schedule, ScheduleCreate, ScheduleUpdate};

use store::Versioned as _;
use wire::problem::Problem;

use crate::caller::Caller;
use crate::condition::{If, Tagged};
use crate::job::credential;
use crate::page::{self, Body, Paging, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

fn schedule(row: ScheduleRow) -> Schedule {
    Schedule {
        id: row.id,
        plugin: row.plugin,
        credential: row.credential,
        relay: row.relay,
        config: row.config,
        interval_s: u64::try_from(row.interval_s).unwrap_or_default(),
        next_at: row.next_at,
        paused: row.paused,
        created_at: row.created_at,
        created_by: row.created_by,
    }
}

/// The tenant's schedules.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/schedules", tag = "jobs", params(("tenant" = String, Path, description = "id or slug"), Paging),
    responses((status = 200, description = "schedules", body = List<Schedule>)))]
pub(crate) async fn schedule_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<Schedule>>> {
    let permit = caller.permit::<ops::ScheduleList>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.read(permit).await?.schedule_list(after, limit).await?, schedule))
}

fn interval(interval_s: u64) -> Result<u32, Error> {
    u32::try_from(interval_s).map_err(|_| Error::invalid("interval_s", "use 60 seconds to one year"))
}

/// One schedule.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/schedules/{schedule}", tag = "jobs",
    params(("tenant" = String, Path, description = "id or slug"), ("schedule" = String, Path, description = "the schedule's id")),
    responses((status = 200, description = "schedule", body = Schedule, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn schedule_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Tagged<Schedule>> {
    let permit = caller.permit::<ops::ScheduleList>(&tenant).await?;
    let row = state.store.read(permit).await?.schedule_show(page::id(&id, "schedule")?).await?;
    let version = row.version();
    Ok(Tagged(schedule(row), version))
}

/// Changes a schedule, pauses it, or lets it go on. Jobs that it started go on as they began.
#[utoipa::path(patch, path = "/api/v1/tenants/{tenant}/schedules/{schedule}", tag = "jobs",
    params(("tenant" = String, Path, description = "id or slug"), ("schedule" = String, Path, description = "the schedule's id"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now")),
    request_body = ScheduleUpdate, responses((status = 200, description = "changed", body = Schedule), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn schedule_update(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path((tenant, id)): Path<(String, String)>,
    Body(body): Body<ScheduleUpdate>,
) -> Answer<Json<Schedule>> {
    let permit = caller.permit::<ops::ScheduleUpdate>(&tenant).await?;
    let id = page::id(&id, "schedule")?;
    let before = caller.permit::<ops::ScheduleList>(&tenant).await?;
    let before = state.store.read(before).await?.schedule_show(id).await?;
    if let Some(config) = &body.config {
        state.catalog.check(&before.plugin, config)?;
    }
    let named = match &body.credential {
        None => None,
        Some(named) => credential(&state, &caller, &tenant, &before.plugin, Some(named)).await?,
    };
    let relay = match body.relay.as_deref() {
        None => None,
        Some("") => Some(None),
        Some(named) => Some(crate::job::relay(&state, &caller, &tenant, Some(named)).await?),
    };
    let interval_s = body.interval_s.map(interval).transpose()?;
    let change = ScheduleChange { credential: named, relay, config: body.config, interval_s, paused: body.paused };
    Ok(Json(schedule(state.store.write(permit).await?.only_if(condition).schedule_update(id, change).await?)))
}

/// Repeats a job from now on.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/schedules", tag = "jobs", params(("tenant" = String, Path, description = "id or slug")),
    request_body = ScheduleCreate, responses((status = 201, description = "made", body = Schedule)))]
pub(crate) async fn schedule_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<ScheduleCreate>,
) -> Answer<(StatusCode, Json<Schedule>)> {
    let permit = caller.permit::<ops::ScheduleCreate>(&tenant).await?;
    state.catalog.check(&body.plugin, &body.config)?;
    let credential = credential(&state, &caller, &tenant, &body.plugin, body.credential.as_deref()).await?;
    let interval_s = interval(body.interval_s)?;
    let relay = crate::job::relay(&state, &caller, &tenant, body.relay.as_deref()).await?;
    let new = NewSchedule { plugin: body.plugin, credential, relay, config: body.config, interval_s };
    let row = state.store.write(permit).await?.schedule_create(new).await?;
    Ok((StatusCode::CREATED, Json(schedule(row))))
}

/// Stops repeating a job. Jobs that it started go on.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/schedules/{schedule}", tag = "jobs",
    params(("tenant" = String, Path, description = "id or slug"), ("schedule" = String, Path, description = "the schedule's id")),
    responses((status = 204, description = "deleted")))]
pub(crate) async fn schedule_delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::ScheduleDelete>(&tenant).await?;
    state.store.write(permit).await?.schedule_delete(page::id(&id, "schedule")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
