//! Users of the installation, for those who manage the platform.

use access::ops;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::Email;
use store::NewUser;
use wire::List;
use wire::user::{User, UserCreate, UserCreated, UserUpdate};

use crate::caller::Caller;
use crate::page::{self, Body, Paging, Path, Query};
use crate::problem::Answer;
use crate::session;
use crate::state::ApiState;

fn user(row: store::UserRow) -> User {
    User {
        id: row.id,
        email: row.email.to_string(),
        name: row.name,
        platform_admin: row.platform_admin,
        created_at: row.created_at,
        disabled_at: row.disabled_at,
    }
}

/// Every user.
#[utoipa::path(get, path = "/api/v1/users", tag = "users", params(Paging), responses((status = 200, description = "users", body = List<User>)))]
pub(crate) async fn user_list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<User>>> {
    let permit = caller.platform_permit::<ops::UserList>().await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.user_list(permit, after, limit).await?, user))
}

/// One user.
#[utoipa::path(get, path = "/api/v1/users/{user}", tag = "users", params(("user" = String, Path, description = "the user's id")),
    responses((status = 200, description = "user", body = User)))]
pub(crate) async fn user_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer<Json<User>> {
    let permit = caller.platform_permit::<ops::UserList>().await?;
    Ok(Json(user(state.store.user_show(permit, page::id(&id, "user")?).await?)))
}

/// Makes a user with a one-time password.
#[utoipa::path(post, path = "/api/v1/users", tag = "users", request_body = UserCreate, responses((status = 201, description = "made", body = UserCreated)))]
pub(crate) async fn user_create(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<UserCreate>,
) -> Answer<(StatusCode, Json<UserCreated>)> {
    let permit = caller.platform_permit::<ops::UserCreate>().await?;
    let (email, name): (Email, _) = (body.email.parse()?, body.name.parse()?);
    let (one_time_password, password_hash) = session::new_one_time_password(&state).await?;
    let new = NewUser { name, password_hash, platform_admin: body.platform_admin };
    let id = state.store.write_platform(permit).await?.user_create(&email, &new).await?;
    Ok((StatusCode::CREATED, Json(UserCreated { id, email: email.to_string(), one_time_password })))
}

/// Lets a user sign in or no more, and manage the platform or not.
#[utoipa::path(patch, path = "/api/v1/users/{user}", tag = "users", params(("user" = String, Path, description = "the user's id")),
    request_body = UserUpdate, responses((status = 200, description = "changed", body = User)))]
pub(crate) async fn user_update(
    State(state): State<ApiState>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<UserUpdate>,
) -> Answer<Json<User>> {
    let permit = caller.platform_permit::<ops::UserUpdate>().await?;
    let unit = state.store.write_platform(permit).await?;
    let row = unit.user_update(page::id(&id, "user")?, body.disabled, body.platform_admin).await?;
    Ok(Json(user(row)))
}
