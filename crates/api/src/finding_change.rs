//! One change to many findings: what it would be about, and doing it.

use access::ops;
use axum::Json;
use axum::extract::State;
use domain::{Digest, Error, FindingId, Timestamp};
use serde::Deserialize;
use store::{FINDINGS_MATCHED, FINDINGS_NAMED, FindingChanging, FindingVerb, Selected};
use wire::finding::{FindingChange, FindingFilter as Asked, FindingSelection, FindingsChanged};

use crate::caller::Caller;
use crate::finding::{counted, filter};
use crate::page::{self, Body, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// Which findings, and what shall be done to them.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct SelectionQuery {
    /// `accept` (default), `resolve` or `reopen`.
    change: Option<String>,
    /// `open`, `resolved` or `accepted`.
    status: Option<String>,
    /// `info`, `low`, `medium`, `high` or `critical`.
    severity: Option<String>,
    /// A rule.
    rule: Option<String>,
    /// A node.
    node: Option<String>,
    /// A node type.
    #[serde(rename = "type")]
    node_type: Option<String>,
    /// A part of the message, the rule's id, or the node's name or id.
    text: Option<String>,
    /// A framework that the rule supports, e.g. `nist-800-53-r5`.
    framework: Option<String>,
    /// A control of that framework.
    control: Option<String>,
}

/// What a change to all findings of a filter would be about: the first of two steps.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/finding-selection", tag = "findings", params(("tenant" = String, Path, description = "id or slug"), SelectionQuery),
    responses((status = 200, description = "selection", body = FindingSelection)))]
pub(crate) async fn finding_selection(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<SelectionQuery>,
) -> Answer<Json<FindingSelection>> {
    let permit = caller.permit::<ops::FindingList>(&tenant).await?;
    let SelectionQuery { change, status, severity, rule, node, node_type, text, framework, control } = query;
    let verb = page::word("change", change.as_deref())?.unwrap_or(FindingVerb::Accept);
    let asked = Asked { status, severity, rule, node, node_type, text, framework, control };
    let filter = filter(&state.catalog.ruleset(), asked)?;
    let selection = state.store.read(permit).await?.finding_selection(&filter, verb).await?;
    Ok(Json(FindingSelection {
        count: selection.count,
        counts: counted(selection.counts),
        left: selection.left,
        most: u64::from(FINDINGS_MATCHED),
        seen: selection.seen.map(Digest::to_hex),
    }))
}

/// How a change is to be done, from its words.
fn changing(body: &FindingChange) -> Result<FindingChanging, Error> {
    let verb: FindingVerb = body.change.parse()?;
    if verb != FindingVerb::Accept {
        for (field, given) in [("reason", &body.reason), ("until", &body.until)] {
            if given.is_some() {
                return Err(Error::invalid(field, "only an acceptance has this: leave it out"));
            }
        }
    }
    Ok(match verb {
        FindingVerb::Resolve => FindingChanging::Resolve,
        FindingVerb::Reopen => FindingChanging::Reopen,
        FindingVerb::Accept => {
            let until = body.until.as_deref().unwrap_or_default();
            let until: Timestamp = until
                .parse()
                .map_err(|error: domain::TimestampParseError| Error::invalid("until", error.to_string()))?;
            FindingChanging::Accept { reason: body.reason.clone().unwrap_or_default(), until }
        }
    })
}

/// Changes many findings, all of them or none: those that are named, or those that match and are still as they were seen.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/finding-changes", tag = "findings", params(("tenant" = String, Path, description = "id or slug")),
    request_body = FindingChange, responses((status = 200, description = "changed", body = FindingsChanged)))]
pub(crate) async fn finding_change(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<FindingChange>,
) -> Answer<Json<FindingsChanged>> {
    let permit = caller.permit::<ops::FindingChange>(&tenant).await?;
    let how = changing(&body)?;
    let unit = |permit| state.store.write(permit);
    let changed = match (body.findings, body.filter, body.seen) {
        (Some(findings), None, None) => {
            if findings.len() > FINDINGS_NAMED {
                return Err(
                    Error::invalid("findings", format!("name at most {FINDINGS_NAMED}, or use a `filter`")).into()
                );
            }
            let ids = findings.iter().map(|id| page::id::<FindingId>(id, "finding")).collect::<Result<Vec<_>, _>>()?;
            unit(permit).await?.finding_change(Selected::Named(&ids), &how).await?
        }
        (None, Some(asked), Some(seen)) => {
            let filter = filter(&state.catalog.ruleset(), asked)?;
            let seen = seen.parse().map_err(|_| {
                Error::invalid("seen", "use the `seen` of `finding-selection` with this filter and change")
            })?;
            unit(permit).await?.finding_change(Selected::Matching { filter: &filter, seen }, &how).await?
        }
        _ => {
            return Err(Error::Invalid {
                field: None,
                message: "name `findings`, or a `filter` with the `seen` of its `finding-selection`".to_owned(),
            }
            .into());
        }
    };
    Ok(Json(FindingsChanged { changed }))
}
