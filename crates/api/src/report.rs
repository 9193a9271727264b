//! An agent's report: who sends it is checked here, and what it says where the graph is.

use access::fleet_ops;
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, header};
use domain::{Error, Limits};
use wire::report::{Answer, MEDIA_TYPE};

use crate::fleet_caller::{FleetFailure, Reporter};
use crate::state::ApiState;

/// Takes in what an agent saw of its host: lines of JSON, packed by gzip. Only the agent itself, with its credential
/// (`Authorization: DPoP …`) and a proof. The answer says whether both sides hold the same, and otherwise what to send as a whole.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/report", tag = "fleet", security(("fleet" = [])),
    params(("agent" = String, Path, description = "the agent's id")),
    request_body(content = Vec<u8>, content_type = "application/gzip", description = "the report; at most 1 MiB, and 16 MiB unpacked"),
    responses((status = 200, description = "what became of it", body = Answer)))]
pub(crate) async fn agent_report(
    State(state): State<ApiState>,
    Reporter(caller): Reporter,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Answer>, FleetFailure> {
    let body = body.map_err(|_| Error::Limit { which: "bytes of a request body", max: Limits::BODY_BYTES as u64 })?;
    let permit = caller.permit::<fleet_ops::AgentReport>(&id, &body).await?;
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.eq_ignore_ascii_case(MEDIA_TYPE) {
        return Err(Error::Invalid { field: None, message: format!("send `Content-Type: {MEDIA_TYPE}`") }.into());
    }
    Ok(Json(state.reports()?.report(permit, body).await?))
}
