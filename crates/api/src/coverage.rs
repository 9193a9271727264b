//! The coverage ledger: what was read, how much of it, when, and what was left out.

use access::ops;
use axum::Json;
use axum::extract::State;
use domain::Error;
use serde::Deserialize;
use store::{LedgerFilter, LedgerRow};
use wire::List;
use wire::coverage::CoverageEntry;

use crate::caller::Caller;
use crate::page::{self, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

const VERDICTS: [&str; 9] =
    ["complete", "unchanged", "partial", "denied", "throttled", "failed", "absent", "unfinished", "not_tried"];

/// Which entries.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct CoverageQuery {
    /// Only of this source, e.g. `aws`.
    source: Option<String>,
    /// Only scopes that begin so.
    scope: Option<String>,
    /// Only of this kind, e.g. `ec2.instances`.
    kind: Option<String>,
    /// Only with this verdict.
    verdict: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

fn entry(row: LedgerRow) -> CoverageEntry {
    CoverageEntry {
        kind: row.scope.rsplit_once(':').map_or(row.scope.as_str(), |(_, kind)| kind).to_owned(),
        source: row.source,
        scope: row.scope,
        verdict: row.verdict,
        last_verdict: row.last_verdict,
        generation: row.generation,
        reason: row.reason,
        tried_at: row.tried_at,
        complete_at: row.complete_at,
        job: row.job,
        evidence: row.evidence,
    }
}

/// What every source last said of every scope.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/coverage", tag = "graph", params(("tenant" = String, Path, description = "id or slug"), CoverageQuery),
    responses((status = 200, description = "the ledger, by scope and source", body = List<CoverageEntry>)))]
pub(crate) async fn coverage_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<CoverageQuery>,
) -> Answer<Json<List<CoverageEntry>>> {
    let permit = caller.permit::<ops::CoverageList>(&tenant).await?;
    if query.verdict.as_deref().is_some_and(|verdict| !VERDICTS.contains(&verdict)) {
        return Err(Error::invalid("verdict", format!("use one of {}", VERDICTS.join(", "))).into());
    }
    let (after, limit) = (page::after(query.page.as_deref())?, page::limit(query.limit.as_deref())?);
    let filter = LedgerFilter { source: query.source, scope: query.scope, kind: query.kind, verdict: query.verdict };
    Ok(page::list(state.store.read(permit).await?.coverage_list(&filter, after, limit).await?, entry))
}
