//! A tenant's members.

use std::collections::BTreeSet;

use access::{Role, member_ops, ops};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::{Email, Error, UserId};
use serde::Deserialize;
use store::{MemberRow, NameRow, Placed, Versioned as _};
use utoipa::IntoParams;
use wire::List;
use wire::member::{Invitation, Member, MemberName, MemberPlaced, MemberPut};
use wire::problem::Problem;

use crate::caller::Caller;
use crate::condition::{If, Tagged};
use crate::page::{self, Body, Paging, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

fn member(row: MemberRow) -> Member {
    Member {
        user: row.user,
        email: row.email,
        name: row.name,
        role: row.role.to_string(),
        created_at: row.created_at,
        disabled: row.disabled,
    }
}

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
    Ok(page::list(rows, member))
}

/// One member.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/members/{user}", tag = "members",
    params(("tenant" = String, Path, description = "id or slug"), ("user" = String, Path, description = "the user's id or login name")),
    responses((status = 200, description = "member", body = Member, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn member_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, user)): Path<(String, String)>,
) -> Answer<Tagged<Member>> {
    let permit = caller.permit::<ops::MemberList>(&tenant).await?;
    let row = state.store.read(permit).await?.member_show(&user).await?;
    let version = row.version();
    Ok(Tagged(member(row), version))
}

/// Most users that are named at once.
const NAMES_MAX: usize = 100;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct NamesQuery {
    /// Ids of users between commas, at most 100.
    users: String,
}

/// Who the users are whose ids stand in what the caller sees: those of them who are members of the tenant. Every member may ask, since none is listed:
/// whoever asks has their ids already.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/names", tag = "members", params(("tenant" = String, Path, description = "id or slug"), NamesQuery),
    responses((status = 200, description = "names", body = List<MemberName>)))]
pub(crate) async fn name_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<NamesQuery>,
) -> Answer<Json<List<MemberName>>> {
    let permit = caller.member_permit::<member_ops::NameList>(&tenant).await?;
    let ids: BTreeSet<&str> = query.users.split(',').collect();
    if ids.len() > NAMES_MAX {
        return Err(Error::invalid("users", format!("name at most {NAMES_MAX} users at once")).into());
    }
    let users =
        ids.into_iter().map(|id| id.parse().map_err(|_| Error::invalid("users", "use ids of users, between commas")));
    let users = users.collect::<Result<Vec<UserId>, Error>>()?;
    let rows = state.store.name_list(permit, &users).await?;
    Ok(page::whole(rows.into_iter().map(|NameRow { user, email, name }| MemberName { user, email, name }).collect()))
}

/// Gives a member another role, or invites who is none: what that answers does not tell whether the address has an account.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/members", tag = "members", params(("tenant" = String, Path, description = "id or slug"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now"), ("If-None-Match" = Option<String>, Header, description = "`*`: refused with 412 where they are a member or invited already")),
    request_body = MemberPut, responses((status = 200, description = "member or invited", body = MemberPlaced), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn member_put(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path(tenant): Path<String>,
    Body(body): Body<MemberPut>,
) -> Answer<Json<MemberPlaced>> {
    let permit = caller.permit::<ops::MemberPut>(&tenant).await?;
    let (email, role): (Email, Role) = (body.email.parse()?, body.role.parse()?);
    let placed = state.store.write(permit).await?.only_if(condition).member_put(&email, role).await?;
    let (user, invited) = match placed {
        Placed::Member(user) => (Some(user), None),
        Placed::Invited(invitation) => (None, Some(invitation)),
    };
    Ok(Json(MemberPlaced {
        state: if invited.is_some() { "invited" } else { "member" }.to_owned(),
        email: email.to_string(),
        role: role.to_string(),
        user,
        expires_at: invited.as_ref().map(|row| row.expires_at),
        invitation: invited.map(|row| row.id),
    }))
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

/// Roles that wait for somebody to sign in.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/invitations", tag = "members",
    params(("tenant" = String, Path, description = "id or slug"), Paging),
    responses((status = 200, description = "invitations", body = List<Invitation>)))]
pub(crate) async fn invitation_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<Invitation>>> {
    let permit = caller.permit::<ops::MemberList>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    let rows = state.store.read(permit).await?.invitation_list(after, limit).await?;
    Ok(page::list(rows, |row| Invitation {
        id: row.id,
        email: row.email,
        role: row.role.to_string(),
        created_at: row.created_at,
        expires_at: row.expires_at,
    }))
}

/// Takes an invitation back.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/invitations/{invitation}", tag = "members",
    params(("tenant" = String, Path, description = "id or slug"), ("invitation" = String, Path, description = "the invitation's id")),
    responses((status = 204, description = "taken back")))]
pub(crate) async fn invitation_delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::InvitationDelete>(&tenant).await?;
    state.store.write(permit).await?.invitation_delete(page::id(&id, "invitation")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
