//! Groups of a tenant.

use access::ops;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::Error;
use store::GroupRow;
use wire::List;
use wire::grant::{Group, GroupCreate, GroupDetail, GroupMember};

use crate::caller::Caller;
use crate::page::{self, Body, Paging, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

fn group(row: GroupRow) -> Group {
    let (provider, provider_group) = row.fed_by.map_or((None, None), |fed| (fed.provider, Some(fed.group)));
    let (id, name) = (row.id, row.name.to_string());
    Group { id, name, provider, provider_group, created_at: row.created_at, created_by: row.created_by }
}

/// The tenant's groups.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/groups", tag = "grants", params(("tenant" = String, Path, description = "id or slug"), Paging),
    responses((status = 200, description = "groups", body = List<Group>)))]
pub(crate) async fn group_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<Group>>> {
    let permit = caller.permit::<ops::GroupList>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.read(permit).await?.group_list(after, limit).await?, group))
}

/// One group and who is in it now.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/groups/{group}", tag = "grants",
    params(("tenant" = String, Path, description = "id or slug"), ("group" = String, Path, description = "id or name")),
    responses((status = 200, description = "group", body = GroupDetail)))]
pub(crate) async fn group_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named)): Path<(String, String)>,
) -> Answer<Json<GroupDetail>> {
    let permit = caller.permit::<ops::GroupList>(&tenant).await?;
    let (row, members) = state.store.read(permit).await?.group_show(&named).await?;
    let members = members.into_iter().map(|row| GroupMember { user: row.user, email: row.email }).collect();
    Ok(Json(GroupDetail { group: group(row), members }))
}

/// Makes a group: with members that are kept here, or fed by a provider's group. It gives nothing but what is granted to it.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/groups", tag = "grants", params(("tenant" = String, Path, description = "id or slug")),
    request_body = GroupCreate, responses((status = 201, description = "made", body = Group)))]
pub(crate) async fn group_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<GroupCreate>,
) -> Answer<(StatusCode, Json<Group>)> {
    let permit = caller.permit::<ops::GroupCreate>(&tenant).await?;
    let fed_by = match (&body.provider, &body.provider_group) {
        (None, None) => None,
        (Some(provider), Some(group))
            if !group.is_empty() && group.len() <= 256 && !group.chars().any(char::is_control) =>
        {
            Some((provider.as_str(), group.as_str()))
        }
        _ => {
            return Err(Error::invalid(
                "provider_group",
                "name both a provider and its group as the provider spells it, at most 256 bytes; or neither",
            )
            .into());
        }
    };
    let row = state.store.write(permit).await?.group_create(&body.name.parse()?, fed_by).await?;
    Ok((StatusCode::CREATED, Json(group(row))))
}

/// Forgets a group with the grants to it.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/groups/{group}", tag = "grants",
    params(("tenant" = String, Path, description = "id or slug"), ("group" = String, Path, description = "id or name")),
    responses((status = 204, description = "forgotten")))]
pub(crate) async fn group_delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::GroupDelete>(&tenant).await?;
    state.store.write(permit).await?.group_delete(&named).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Puts a member of the tenant into a group.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/groups/{group}/members/{user}", tag = "grants",
    params(("tenant" = String, Path, description = "id or slug"), ("group" = String, Path, description = "id or name"), ("user" = String, Path, description = "id or login name")),
    responses((status = 204, description = "in it")))]
pub(crate) async fn group_member_add(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named, user)): Path<(String, String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::GroupMemberAdd>(&tenant).await?;
    state.store.write(permit).await?.group_member_add(&named, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes somebody out of a group: what they reached by it alone ends, also where a connection is open.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/groups/{group}/members/{user}", tag = "grants",
    params(("tenant" = String, Path, description = "id or slug"), ("group" = String, Path, description = "id or name"), ("user" = String, Path, description = "id or login name")),
    responses((status = 204, description = "out of it")))]
pub(crate) async fn group_member_remove(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named, user)): Path<(String, String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::GroupMemberRemove>(&tenant).await?;
    state.store.write(permit).await?.group_member_remove(&named, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}
