//! Evidence: signed statements, and bundles that verify without this server.

use access::ops;
use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use domain::Error;
use serde::Deserialize;
use store::{EvidenceFilter, EvidenceRow};
use tokio_util::io::ReaderStream;
use wire::List;
use wire::evidence::{Evidence, EvidenceKey};

use crate::caller::Caller;
use crate::page::{self, Path, Query};
use crate::ports::Subject;
use crate::problem::Answer;
use crate::state::ApiState;

fn statement(row: EvidenceRow, artifacts: Vec<String>) -> Evidence {
    Evidence {
        id: row.id,
        kind: row.kind,
        scope: row.scope,
        framework: row.framework,
        control: row.control,
        key: row.key_id,
        artifacts,
        created_at: row.created_at,
    }
}

/// The public key that this installation signs evidence with.
#[utoipa::path(get, path = "/api/v1/evidence-key", tag = "evidence", responses((status = 200, description = "key", body = EvidenceKey)))]
pub(crate) async fn evidence_key_show(State(state): State<ApiState>, caller: Caller) -> Answer<Json<EvidenceKey>> {
    caller.may_work()?;
    Ok(Json(EvidenceKey { fingerprint: state.evidence_key.fingerprint().to_hex(), pem: state.evidence_key.to_pem() }))
}

/// What a statement is of: what was collected, how, or what was made of it.
const KINDS: [&str; 7] = ["api-response", "config", "scan", "null-result", "assessment", "attestation", "recording"];

/// Which statements.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvidenceQuery {
    /// `api-response`, `config`, `scan`, `null-result`, `assessment`, `attestation` or `recording`.
    kind: Option<String>,
    /// A framework.
    framework: Option<String>,
    /// A control.
    control: Option<String>,
    /// A scope.
    scope: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// The tenant's signed statements, newest first.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/evidence", tag = "evidence", params(("tenant" = String, Path, description = "id or slug"), EvidenceQuery),
    responses((status = 200, description = "statements", body = List<Evidence>)))]
pub(crate) async fn evidence_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<EvidenceQuery>,
) -> Answer<Json<List<Evidence>>> {
    let permit = caller.permit::<ops::EvidenceList>(&tenant).await?;
    if query.kind.as_deref().is_some_and(|kind| !KINDS.contains(&kind)) {
        return Err(Error::invalid("kind", format!("use one of: {}", KINDS.join(", "))).into());
    }
    let filter = EvidenceFilter {
        kind: query.kind,
        framework: query.framework,
        control: query.control,
        scope: page::word("scope", query.scope.as_deref())?,
        finding: None,
    };
    let (after, limit) = (page::after(query.page.as_deref())?, page::limit(query.limit.as_deref())?);
    let rows = state.store.read(permit).await?.evidence_list(&filter, after, limit).await?;
    Ok(page::list(rows, |row| statement(row, Vec::new())))
}

/// One statement with the digests of its artifacts.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/evidence/{evidence}", tag = "evidence",
    params(("tenant" = String, Path, description = "id or slug"), ("evidence" = String, Path, description = "the statement's id")),
    responses((status = 200, description = "statement", body = Evidence)))]
pub(crate) async fn evidence_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<Evidence>> {
    let permit = caller.permit::<ops::EvidenceList>(&tenant).await?;
    let detail = state.store.read(permit).await?.evidence_show(page::id(&id, "evidence")?).await?;
    let artifacts = detail.artifacts.iter().map(|artifact| artifact.digest.to_hex()).collect();
    Ok(Json(statement(detail.row, artifacts)))
}

/// What a bundle is about: a finding, or a framework, or one control of it, or one statement with what it rests on.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundleQuery {
    /// A finding.
    finding: Option<String>,
    /// A framework.
    framework: Option<String>,
    /// A control of the framework.
    control: Option<String>,
    /// A statement.
    evidence: Option<String>,
}

fn subject(query: BundleQuery) -> Result<Subject, Error> {
    match (query.finding, query.framework, query.control, query.evidence) {
        (Some(finding), None, None, None) => Ok(Subject::Finding(page::id(&finding, "finding")?)),
        (None, Some(framework), Some(control), None) => Ok(Subject::Control { framework, control }),
        (None, Some(framework), None, None) => Ok(Subject::Framework(framework)),
        (None, None, None, Some(evidence)) => Ok(Subject::Statement(page::id(&evidence, "evidence")?)),
        _ => Err(Error::Invalid {
            field: None,
            message: "name a `finding`, a statement as `evidence`, or a `framework` with or without a `control`"
                .to_owned(),
        }),
    }
}

/// A ZIP file with statements, artifacts, keys and a script that verifies them with openssl and sh alone.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/evidence-bundle", tag = "evidence", params(("tenant" = String, Path, description = "id or slug"), BundleQuery),
    responses((status = 200, description = "bundle", body = Vec<u8>, content_type = "application/zip")))]
pub(crate) async fn evidence_export(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<BundleQuery>,
) -> Answer<Response> {
    let permit = caller.permit::<ops::EvidenceExport>(&tenant).await?;
    let file = state.exporter.export(permit, subject(query)?).await?;
    let size = file.metadata().map_err(Error::internal)?.len();
    let body = HttpBody::from_stream(ReaderStream::new(tokio::fs::File::from_std(file)));
    let headers = [
        (header::CONTENT_TYPE, "application/zip".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"evidence.zip\"".to_owned()),
    ];
    Ok((headers, body).into_response())
}
