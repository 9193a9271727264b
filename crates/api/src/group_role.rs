//! Which role a provider's group gives in a tenant, decided by who manages the tenant's users.

use access::{Role, ops};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::Error;
use store::GroupRoleRow;
use wire::List;
use wire::provider::{GroupRole, GroupRolePut};

use crate::caller::Caller;
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

/// Lets a provider's group give a role; users get it at their next sign-in or check.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/group-roles", tag = "members", params(("tenant" = String, Path, description = "id or slug")),
    request_body = GroupRolePut, responses((status = 200, description = "set", body = GroupRole)))]
pub(crate) async fn group_role_put(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<GroupRolePut>,
) -> Answer<Json<GroupRole>> {
    let permit = caller.permit::<ops::GroupRolePut>(&tenant).await?;
    let role: Role = body.role.parse()?;
    if body.group.is_empty() || body.group.len() > 256 || body.group.chars().any(char::is_control) {
        return Err(Error::invalid("group", "use the group's name as the provider spells it, at most 256 bytes").into());
    }
    let row = state.store.write(permit).await?.group_role_put(&body.provider, &body.group, role).await?;
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
