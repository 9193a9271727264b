//! Tenants, for those who manage the platform.

use access::ops;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::{Email, Error};
use wire::List;
use wire::tenant::{Tenant, TenantCreate};

use crate::caller::Caller;
use crate::page::{self, Body, Paging, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

fn tenant(row: store::TenantRow) -> Tenant {
    Tenant { id: row.id, slug: row.slug, name: row.name, created_at: row.created_at }
}

/// Every tenant.
#[utoipa::path(get, path = "/api/v1/tenants", tag = "tenants", params(Paging), responses((status = 200, description = "tenants", body = List<Tenant>)))]
pub(crate) async fn tenant_list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<Tenant>>> {
    let permit = caller.platform_permit::<ops::TenantList>().await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.tenant_list(permit, after, limit).await?, tenant))
}

/// Makes a tenant.
#[utoipa::path(post, path = "/api/v1/tenants", tag = "tenants", request_body = TenantCreate, responses((status = 201, description = "made", body = Tenant)))]
pub(crate) async fn tenant_create(
    State(state): State<ApiState>,
    caller: Caller,
    Body(body): Body<TenantCreate>,
) -> Answer<(StatusCode, Json<Tenant>)> {
    let permit = caller.platform_permit::<ops::TenantCreate>().await?;
    let (slug, name) = (body.slug.parse()?, body.name.parse()?);
    let admin = match body.admin {
        None => None,
        Some(email) => {
            let email: Email = email.parse()?;
            let found = state.store.login_user(&email).await?;
            Some(
                found
                    .ok_or_else(|| Error::invalid("admin", format!("there is no user `{email}`: make them first")))?
                    .user
                    .id,
            )
        }
    };
    let row = state.store.write_platform(permit).await?.tenant_create(&slug, &name, admin).await?;
    Ok((StatusCode::CREATED, Json(tenant(row))))
}

/// Closes a tenant for everybody. Its audit log and evidence stay.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}", tag = "tenants", params(("tenant" = String, Path, description = "the tenant's id")),
    responses((status = 204, description = "closed")))]
pub(crate) async fn tenant_delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Answer<StatusCode> {
    let permit = caller.platform_permit::<ops::TenantDelete>().await?;
    state.store.write_platform(permit).await?.tenant_delete(page::id(&tenant, "tenant")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
