//! A tenant's members.

use access::{Role, ops};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::Email;
use store::NewUser;
use wire::List;
use wire::member::{Member, MemberAdded, MemberPut};

use crate::caller::Caller;
use crate::page::{self, Body, Paging, Path, Query};
use crate::problem::Answer;
use crate::session;
use crate::state::ApiState;

/// The tenant's members.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/members", tag = "members", params(("tenant" = String, Path, description = "id or slug"), Paging),
    responses((status = 200, description = "members", body = List<Member>)))]
pub(crate) async fn member_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<Member>>> {
    let permit = caller.permit::<ops::MemberList>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    let rows = state.store.read(permit).await?.member_list(after, limit).await?;
    Ok(page::list(rows, |row| Member {
        user: row.user,
        email: row.email,
        name: row.name,
        role: row.role.to_string(),
        created_at: row.created_at,
        disabled: row.disabled,
    }))
}

/// Gives a user a role; with `name` makes the user first.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/members", tag = "members", params(("tenant" = String, Path, description = "id or slug")),
    request_body = MemberPut, responses((status = 200, description = "member", body = MemberAdded)))]
pub(crate) async fn member_put(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<MemberPut>,
) -> Answer<Json<MemberAdded>> {
    let permit = caller.permit::<ops::MemberPut>(&tenant).await?;
    let (email, role): (Email, Role) = (body.email.parse()?, body.role.parse()?);
    let (one_time_password, new) = match body.name {
        None => (None, None),
        Some(name) => {
            let name = name.parse()?;
            let (clear, password_hash) = session::new_one_time_password(&state).await?;
            (Some(clear), Some(NewUser { name, password_hash, platform_admin: false }))
        }
    };
    let user = state.store.write(permit).await?.member_put(&email, role, new).await?;
    Ok(Json(MemberAdded { user, role: role.to_string(), one_time_password }))
}

/// Takes a user out of the tenant.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/members/{user}", tag = "members",
    params(("tenant" = String, Path, description = "id or slug"), ("user" = String, Path, description = "the user's id")),
    responses((status = 204, description = "removed")))]
pub(crate) async fn member_delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, user)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::MemberDelete>(&tenant).await?;
    state.store.write(permit).await?.member_delete(page::id(&user, "member")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
