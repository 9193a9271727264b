//! Which role a provider's group gives in a tenant, decided by who manages the tenant's users.

use access::{Role, ops};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::Error;
use store::{GroupRoleRow, Versioned as _};
use wire::List;
use wire::problem::Problem;
use wire::provider::{GroupRole, GroupRolePut};

use crate::caller::Caller;
use crate::condition::{If, Tagged};
use crate::page::{self, Body, Paging, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

fn group_role(row: GroupRoleRow) -> GroupRole {
    GroupRole {
        id: row.id,
        provider: row.provider,
        group: row.group,
        role: row.role.to_string(),
        created_at: row.created_at,
        created_by: row.created_by,
    }
}

/// The roles that providers' groups give here.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/group-roles", tag = "members", params(("tenant" = String, Path, description = "id or slug"), Paging),
    responses((status = 200, description = "roles of groups", body = List<GroupRole>)))]
pub(crate) async fn group_role_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<GroupRole>>> {
    let permit = caller.permit::<ops::GroupRoleList>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.read(permit).await?.group_role_list(after, limit).await?, group_role))
}

/// The role that one group gives.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/group-roles/{group_role}", tag = "members",
    params(("tenant" = String, Path, description = "id or slug"), ("group_role" = String, Path, description = "its id")),
    responses((status = 200, description = "role of a group", body = GroupRole, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn group_role_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Tagged<GroupRole>> {
    let permit = caller.permit::<ops::GroupRoleList>(&tenant).await?;
    let row = state.store.read(permit).await?.group_role_show(page::id(&id, "group role")?).await?;
    let version = row.version();
    Ok(Tagged(group_role(row), version))
}

/// Lets a provider's group give a role; users get it at their next sign-in or check.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/group-roles", tag = "members", params(("tenant" = String, Path, description = "id or slug"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now"), ("If-None-Match" = Option<String>, Header, description = "`*`: refused with 412 where the group gives a role already")),
    request_body = GroupRolePut, responses((status = 200, description = "set", body = GroupRole), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn group_role_put(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path(tenant): Path<String>,
    Body(body): Body<GroupRolePut>,
) -> Answer<Json<GroupRole>> {
    let permit = caller.permit::<ops::GroupRolePut>(&tenant).await?;
    let role: Role = body.role.parse()?;
    if body.group.is_empty() || body.group.len() > 256 || body.group.chars().any(char::is_control) {
        return Err(Error::invalid("group", "use the group's name as the provider spells it, at most 256 bytes").into());
    }
    let row =
        state.store.write(permit).await?.only_if(condition).group_role_put(&body.provider, &body.group, role).await?;
    Ok(Json(group_role(row)))
}

/// Takes the role from the group; who had it through this group only loses it at once.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/group-roles/{group_role}", tag = "members",
    params(("tenant" = String, Path, description = "id or slug"), ("group_role" = String, Path, description = "its id")),
    responses((status = 204, description = "taken")))]
pub(crate) async fn group_role_delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::GroupRoleDelete>(&tenant).await?;
    state.store.write(permit).await?.group_role_delete(page::id(&id, "group role")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
