//! The audit log.

use access::ops;
use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::{Error, Limits, Timestamp};
use futures::TryStreamExt as _;
use serde::Deserialize;
use serde_json::json;
use store::{AuditFilter, Category};
use wire::List;
use wire::audit::AuditRecord;
use wire::siem::Format;

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
    /// Only by actors whose name holds this.
    actor: Option<String>,
    /// Only about the object with this id.
    object: Option<String>,
    /// Only records that hold this text in their operation, actor, object or detail.
    text: Option<String>,
    /// Only records from this moment on (RFC 3339).
    since: Option<String>,
    /// Only records before this moment (RFC 3339).
    until: Option<String>,
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
        actor: query.actor,
        object: query.object,
        text: query.text,
        since: moment("since", query.since.as_deref())?,
        until: moment("until", query.until.as_deref())?,
        before: page::after(query.page.as_deref())?,
        limit: page::limit(query.limit.as_deref())?,
    })
}

fn moment(field: &'static str, text: Option<&str>) -> Result<Option<Timestamp>, Error> {
    text.map(|text| text.parse().map_err(|_| Error::invalid(field, "use a time such as 2026-11-22T03:00:00Z")))
        .transpose()
}

/// A record as the API and every export of the log shows it.
pub fn audit_document(row: store::AuditRecord) -> AuditRecord {
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

/// Which records, and how they are written.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportQuery {
    /// `jsonl` (default), `cef` or `ocsf`.
    format: Option<String>,
    /// Only this category.
    category: Option<String>,
    /// Only this operation.
    action: Option<String>,
    /// `success`, `deny` or `fail`.
    outcome: Option<String>,
    /// Only by actors whose name holds this.
    actor: Option<String>,
    /// Only about the object with this id.
    object: Option<String>,
    /// Only records that hold this text in their operation, actor, object or detail.
    text: Option<String>,
    /// Only records from this moment on (RFC 3339).
    since: Option<String>,
    /// Only records before this moment (RFC 3339).
    until: Option<String>,
}

impl ExportQuery {
    fn parts(self) -> Result<(Format, AuditFilter), Error> {
        let format = self.format.as_deref().map_or(Ok(Format::Jsonl), str::parse)?;
        let Self { category, action, outcome, actor, object, text, since, until, .. } = self;
        let query =
            AuditQuery { category, action, outcome, actor, object, text, since, until, ..AuditQuery::default() };
        Ok((format, AuditFilter { limit: Limits::LIST_ITEMS, ..filter(query)? }))
    }
}

/// One page of records at a time, each on a snapshot of its own: a log only grows, so the pages fit together.
fn export<F>(
    format: Format,
    origin: String,
    filter: AuditFilter,
    page: impl Fn(AuditFilter) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = Result<store::Page<store::AuditRecord, i64>, Error>> + Send + 'static,
{
    let lines = futures::stream::try_unfold(Some(filter), move |filter| {
        let read = filter.map(|filter| (page(filter.clone()), filter));
        let origin = origin.clone();
        async move {
            let Some((read, filter)) = read else { return Ok::<_, Error>(None) };
            let found = read.await?;
            let mut text = String::new();
            for row in found.items {
                text.push_str(&format.line(&origin, &audit_document(row)));
                text.push('\n');
            }
            let next = found.next.map(|before| AuditFilter { before: Some(before), ..filter });
            Ok(Some((Bytes::from(text), next)))
        }
    });
    let body = HttpBody::from_stream(lines.map_err(|error| std::io::Error::other(error.to_string())));
    let kind = if format == Format::Cef { "text/plain; charset=utf-8" } else { "application/x-ndjson" };
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response()
}

fn told(format: Format, filter: &AuditFilter) -> serde_json::Value {
    json!({
        "format": format.as_str(), "category": filter.category, "action": filter.action, "outcome": filter.outcome, "actor": filter.actor,
        "object": filter.object, "text": filter.text, "since": filter.since, "until": filter.until,
    })
}

/// The tenant's audit log for other systems, one record a line, newest first.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/audit-export", tag = "audit", params(("tenant" = String, Path, description = "id or slug"), ExportQuery),
    responses((status = 200, description = "records", body = String, content_type = "application/x-ndjson")))]
pub(crate) async fn audit_export(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Answer<Response> {
    let permit = caller.permit::<ops::AuditExport>(&tenant).await?;
    let (tenant, ctx, (format, filter)) = (permit.tenant(), caller.ctx().clone(), query.parts()?);
    state.store.write(permit).await?.audit_export(told(format, &filter)).await?;
    let (store, origin) = (state.store.clone(), state.store.log_origin(Some(tenant)).to_string());
    Ok(export(format, origin, filter, move |filter| {
        let (store, ctx) = (store.clone(), ctx.clone());
        async move { store.read(ctx.authorize::<ops::AuditList>(tenant)?).await?.audit_list(&filter).await }
    }))
}

/// The platform's own audit log for other systems, one record a line, newest first.
#[utoipa::path(get, path = "/api/v1/audit-export", tag = "audit", params(ExportQuery),
    responses((status = 200, description = "records", body = String, content_type = "application/x-ndjson")))]
pub(crate) async fn platform_audit_export(
    State(state): State<ApiState>,
    caller: Caller,
    Query(query): Query<ExportQuery>,
) -> Answer<Response> {
    let permit = caller.platform_permit::<ops::PlatformAuditExport>().await?;
    let (ctx, (format, filter)) = (caller.ctx().clone(), query.parts()?);
    state.store.write_platform(permit).await?.platform_audit_export(told(format, &filter)).await?;
    let (store, origin) = (state.store.clone(), state.store.log_origin(None).to_string());
    Ok(export(format, origin, filter, move |filter| {
        let (store, ctx) = (store.clone(), ctx.clone());
        async move { store.platform_audit_list(ctx.authorize_platform::<ops::PlatformAuditList>()?, &filter).await }
    }))
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
    Ok(page::list(state.store.read(permit).await?.audit_list(&filter).await?, audit_document))
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
    Ok(page::list(state.store.platform_audit_list(permit, &filter).await?, audit_document))
}
