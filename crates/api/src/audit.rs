//! The audit log.

use access::ops;
use axum::Json;
use axum::extract::State;
use domain::Error;
use serde::Deserialize;
use store::{AuditFilter, Category};
use wire::List;
use wire::audit::AuditRecord;

use crate::caller::Caller;
use crate::page::{self, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// Which records.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditQuery {
    /// Only this category.
    category: Option<String>,
    /// Only this operation.
    action: Option<String>,
    /// `success`, `deny` or `fail`.
    outcome: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

fn filter(query: AuditQuery) -> Result<AuditFilter, Error> {
    if let Some(category) = &query.category
        && !Category::ALL.iter().any(|known| known.as_str() == category)
    {
        return Err(Error::invalid(
            "category",
            format!("use one of {}", Category::ALL.map(Category::as_str).join(", ")),
        ));
    }
    if query.outcome.as_deref().is_some_and(|outcome| !["success", "deny", "fail"].contains(&outcome)) {
        return Err(Error::invalid("outcome", "use one of success, deny, fail"));
    }
    Ok(AuditFilter {
        category: query.category,
        action: query.action,
        outcome: query.outcome,
        before: page::after(query.page.as_deref())?,
        limit: page::limit(query.limit.as_deref())?,
    })
}

fn record(row: store::AuditRecord) -> AuditRecord {
    AuditRecord {
        seq: u64::try_from(row.seq).unwrap_or_default(),
        id: row.id,
        at: row.at,
        category: row.category,
        action: row.action,
        outcome: row.outcome,
        actor: row.actor,
        object_type: row.object_type,
        object_id: row.object_id,
        detail: row.detail,
        entry: String::from_utf8_lossy(&row.entry).into_owned(),
        leaf: row.leaf.to_hex(),
    }
}

/// The tenant's audit log, newest first.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/audit", tag = "audit", params(("tenant" = String, Path, description = "id or slug"), AuditQuery),
    responses((status = 200, description = "records", body = List<AuditRecord>)))]
pub(crate) async fn audit_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<AuditQuery>,
) -> Answer<Json<List<AuditRecord>>> {
    let permit = caller.permit::<ops::AuditList>(&tenant).await?;
    let filter = filter(query)?;
    Ok(page::list(state.store.read(permit).await?.audit_list(&filter).await?, record))
}

/// The platform's own audit log, newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(AuditQuery), responses((status = 200, description = "records", body = List<AuditRecord>)))]
pub(crate) async fn platform_audit_list(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<AuditQuery>,
) -> Answer<Json<List<AuditRecord>>> {
    let permit = caller.platform_permit::<ops::PlatformAuditList>().await?;
    let filter = filter(query)?;
    Ok(page::list(state.store.platform_audit_list(permit, &filter).await?, record))
}
