//! Access that is asked for and approved by somebody else; broken glass; and what a tenant allows of both.

use access::{member_ops, ops};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::Error;
use serde::Deserialize;
use store::{GlassPolicy, NO_GLASS, NewRequest, RequestRow};
use wire::List;
use wire::grant::{
    AccessPolicy, AccessRequest, AccessRequestAnswer, AccessRequestCreate, BreakGlass, BreakGlassMine, Grant,
    Requestable,
};

use store::Versioned as _;
use wire::problem::Problem;

use crate::caller::Caller;
use crate::condition::{If, Tagged};
use crate::grant::{grant, reason};
use crate::page::{self, Body, Paging, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// Longer than any name or id of a destination.
const DESTINATION_BYTES_MAX: usize = 128;
/// Shortest time that is asked for, in seconds.
const DURATION_S_MIN: u32 = 60;
/// The longest that a tenant can allow to ask for, in seconds.
const REQUEST_S_MAX: u32 = 30 * 24 * 3_600;
/// The longest that a tenant can allow for broken glass, in seconds.
const GLASS_S_MAX: u32 = 12 * 3_600;

fn request(row: RequestRow) -> AccessRequest {
    AccessRequest {
        id: row.id,
        user: row.user,
        email: row.email,
        destination: row.destination,
        name: row.destination_name,
        role: row.role.to_string(),
        namespace: row.namespace.map(|name| name.to_string()),
        duration_s: row.duration_ms / 1_000,
        reason: row.reason,
        state: row.state.as_str().to_owned(),
        created_at: row.created_at,
        closes_at: row.closes_at,
        decided_at: row.decided_at,
        decided_by: row.decided_by,
        answer: row.answer,
        grant: row.grant,
        eligible: row.eligible,
    }
}

fn asked(body: AccessRequestCreate) -> Result<NewRequest, Error> {
    if body.duration_s < DURATION_S_MIN {
        return Err(Error::invalid("duration_s", format!("use at least {DURATION_S_MIN} s")));
    }
    // What is asked for in vain is on the record too.
    if body.destination.len() > DESTINATION_BYTES_MAX {
        return Err(Error::invalid("destination", "use a destination's name or id"));
    }
    Ok(NewRequest {
        destination: body.destination,
        role: body.role,
        namespace: body.namespace,
        duration_ms: i64::from(body.duration_s) * 1_000,
        reason: reason(&body.reason, true)?,
    })
}

/// Asks for access. Somebody else approves it; after a day nobody can any more. Where an eligible grant covers it, what is granted keeps all that one's
/// limits; where none does, the tenant's policy says whether it may be asked for.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/access-requests", tag = "grants", params(("tenant" = String, Path, description = "id or slug")),
    request_body = AccessRequestCreate, responses((status = 201, description = "asked", body = AccessRequest)))]
pub(crate) async fn access_request_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<AccessRequestCreate>,
) -> Answer<(StatusCode, Json<AccessRequest>)> {
    let permit = caller.member_permit::<member_ops::AccessRequestCreate>(&tenant).await?;
    let row = state.store.access_request_create(permit, &asked(body)?).await?;
    Ok((StatusCode::CREATED, Json(request(row))))
}

/// The caller's own requests, the newest first.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/access-requests/mine", tag = "grants", params(("tenant" = String, Path, description = "id or slug"), Paging),
    responses((status = 200, description = "requests", body = List<AccessRequest>)))]
pub(crate) async fn access_request_mine(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<AccessRequest>>> {
    let permit = caller.member_permit::<member_ops::AccessRequestMine>(&tenant).await?;
    let (before, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.access_request_mine(permit, before, limit).await?, request))
}

/// Takes back a request of the caller's own that waits.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/access-requests/{access_request}/withdraw", tag = "grants",
    params(("tenant" = String, Path, description = "id or slug"), ("access_request" = String, Path, description = "its id")),
    responses((status = 204, description = "taken back")))]
pub(crate) async fn access_request_withdraw(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.member_permit::<member_ops::AccessRequestWithdraw>(&tenant).await?;
    state.store.access_request_withdraw(permit, page::id(&id, "access request")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the caller may break glass now, for how long, or why not.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/break-glass", tag = "grants", params(("tenant" = String, Path, description = "id or slug")),
    responses((status = 200, description = "what the tenant lets the caller do", body = BreakGlassMine)))]
pub(crate) async fn glass_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Answer<Json<BreakGlassMine>> {
    let permit = caller.member_permit::<member_ops::GlassShow>(&tenant).await?;
    let ms_max = state.store.glass_show(permit).await?;
    Ok(Json(match ms_max {
        Some(ms_max) => {
            BreakGlassMine { s_max: Some(u32::try_from(ms_max / 1_000).unwrap_or(u32::MAX)), refused: None }
        }
        None => BreakGlassMine { s_max: None, refused: Some(NO_GLASS.to_owned()) },
    }))
}

/// Takes access at once and without approval, where the tenant lets the caller do so: for a short time, with a fresh proof, and with an alarm.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/break-glass", tag = "grants", params(("tenant" = String, Path, description = "id or slug")),
    request_body = AccessRequestCreate, responses((status = 201, description = "taken", body = Grant)))]
pub(crate) async fn glass_break(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<AccessRequestCreate>,
) -> Answer<(StatusCode, Json<Grant>)> {
    let permit = caller.member_permit::<member_ops::GlassBreak>(&tenant).await?;
    let (id, user) = (permit.tenant(), permit.user());
    let row = state.store.glass_break(permit, &asked(body)?).await?;
    metrics::counter!("cairn_break_glass_total").increment(1);
    tracing::warn!(tenant = %id, %user, grant = %row.grant.id, "glass was broken: somebody took access without approval");
    Ok((StatusCode::CREATED, Json(grant(row))))
}

/// Which requests to list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct RequestQuery {
    /// `pending`: only those that wait.
    status: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// The tenant's requests, the newest first.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/access-requests", tag = "grants", params(("tenant" = String, Path, description = "id or slug"), RequestQuery),
    responses((status = 200, description = "requests", body = List<AccessRequest>)))]
pub(crate) async fn access_request_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<RequestQuery>,
) -> Answer<Json<List<AccessRequest>>> {
    let permit = caller.permit::<ops::AccessRequestList>(&tenant).await?;
    let only_pending = match query.status.as_deref() {
        None => false,
        Some("pending") => true,
        Some(_) => return Err(Error::invalid("status", "use `pending`, or leave it out for all").into()),
    };
    let (before, limit) = (page::after(query.page.as_deref())?, page::limit(query.limit.as_deref())?);
    let rows = state.store.read(permit).await?.access_request_list(only_pending, before, limit).await?;
    Ok(page::list(rows, request))
}

/// One request.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/access-requests/{access_request}", tag = "grants",
    params(("tenant" = String, Path, description = "id or slug"), ("access_request" = String, Path, description = "its id")),
    responses((status = 200, description = "request", body = AccessRequest)))]
pub(crate) async fn access_request_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<AccessRequest>> {
    let permit = caller.permit::<ops::AccessRequestList>(&tenant).await?;
    Ok(Json(request(state.store.read(permit).await?.access_request_show(page::id(&id, "access request")?).await?)))
}

fn answer(body: AccessRequestAnswer) -> Result<Option<String>, Error> {
    body.answer.map(|text| reason(&text, true)).transpose()
}

/// Grants what was asked for, from now on. Never by who asked, and never by a key.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/access-requests/{access_request}/approve", tag = "grants",
    params(("tenant" = String, Path, description = "id or slug"), ("access_request" = String, Path, description = "its id")),
    request_body = AccessRequestAnswer, responses((status = 200, description = "granted", body = AccessRequest)))]
pub(crate) async fn access_request_approve(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
    Body(body): Body<AccessRequestAnswer>,
) -> Answer<Json<AccessRequest>> {
    let permit = caller.permit::<ops::AccessRequestApprove>(&tenant).await?;
    if let Err(no_person) = caller.session() {
        state.store.record_denial(caller.ctx(), Some(permit.tenant()), "access_request_approve").await?;
        return Err(no_person.into());
    }
    let (id, answer) = (page::id(&id, "access request")?, answer(body)?);
    Ok(Json(request(state.store.write(permit).await?.access_request_approve(id, answer.as_deref()).await?)))
}

/// Refuses a request.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/access-requests/{access_request}/deny", tag = "grants",
    params(("tenant" = String, Path, description = "id or slug"), ("access_request" = String, Path, description = "its id")),
    request_body = AccessRequestAnswer, responses((status = 200, description = "refused", body = AccessRequest)))]
pub(crate) async fn access_request_deny(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
    Body(body): Body<AccessRequestAnswer>,
) -> Answer<Json<AccessRequest>> {
    let permit = caller.permit::<ops::AccessRequestDeny>(&tenant).await?;
    let (id, answer) = (page::id(&id, "access request")?, answer(body)?);
    Ok(Json(request(state.store.write(permit).await?.access_request_deny(id, answer.as_deref()).await?)))
}

fn seconds(ms: i64) -> u32 {
    u32::try_from(ms / 1_000).unwrap_or(u32::MAX)
}

/// Who may break glass, for readers.
pub(crate) fn break_glass(glass: GlassPolicy) -> BreakGlass {
    BreakGlass { group: glass.group.to_string(), s_max: seconds(glass.ms_max) }
}

fn policy(policy: store::AccessPolicy) -> AccessPolicy {
    let requests = if policy.eligible_only { Requestable::Eligible } else { Requestable::Any };
    AccessPolicy { request_s_max: seconds(policy.request_ms_max), requests, break_glass: policy.glass.map(break_glass) }
}

/// What the tenant says about access that is not simply granted.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/access-policy", tag = "grants", params(("tenant" = String, Path, description = "id or slug")),
    responses((status = 200, description = "the policy", body = AccessPolicy, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn access_policy_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Answer<Tagged<AccessPolicy>> {
    let permit = caller.permit::<ops::AccessPolicyShow>(&tenant).await?;
    let now = state.store.read(permit).await?.access_policy_show().await?;
    let version = now.version();
    Ok(Tagged(policy(now), version))
}

/// Says what may be asked for and for how long, and who may break glass.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/access-policy", tag = "grants", params(("tenant" = String, Path, description = "id or slug"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now")),
    request_body = AccessPolicy, responses((status = 200, description = "changed", body = AccessPolicy), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn access_policy_put(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path(tenant): Path<String>,
    Body(body): Body<AccessPolicy>,
) -> Answer<Json<AccessPolicy>> {
    let permit = caller.permit::<ops::AccessPolicyPut>(&tenant).await?;
    let within = |field, seconds: u32, max: u32| {
        if (DURATION_S_MIN..=max).contains(&seconds) {
            Ok(i64::from(seconds) * 1_000)
        } else {
            Err(Error::invalid(field, format!("use {DURATION_S_MIN} to {max} s")))
        }
    };
    let glass = match body.break_glass {
        None => None,
        Some(glass) => {
            Some(GlassPolicy { group: glass.group.parse()?, ms_max: within("s_max", glass.s_max, GLASS_S_MAX)? })
        }
    };
    let request_ms_max = within("request_s_max", body.request_s_max, REQUEST_S_MAX)?;
    let new = store::AccessPolicy { request_ms_max, eligible_only: body.requests == Requestable::Eligible, glass };
    state.store.write(permit).await?.only_if(condition).access_policy_put(&new).await?;
    Ok(Json(policy(new)))
}
