//! Jobs that repeat.

use access::ops;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::Error;
use store::{NewSchedule, ScheduleRow};
use wire::List;
use wire::job::{Schedule, ScheduleCreate};

use crate::caller::Caller;
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
    let interval_s =
        u32::try_from(body.interval_s).map_err(|_| Error::invalid("interval_s", "use 60 seconds to one year"))?;
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
