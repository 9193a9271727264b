//! Findings, and judging the graph again.

use access::ops;
use axum::Json;
use axum::extract::State;
use domain::{Error, FindingId, FindingStatus, Severity, Timestamp};
use serde::Deserialize;
use store::{FindingFilter, FindingRow, TypeRules};
use wire::List;
use wire::finding::{Acceptance, Evaluation, Finding, FindingAccept, FindingCount, FindingFilter as Asked, Patch};

use crate::caller::Caller;
use crate::page::{self, Body, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// A finding's document: the row with the rule's words, which the packs hold once and not each finding.
pub fn finding_document(ruleset: &compliance::Ruleset, row: FindingRow) -> Result<Finding, Error> {
    let rule = ruleset.rule(&row.rule_id);
    let controls = rule.map(crate::control::controls).unwrap_or_default();
    let acceptance = match (row.accepted_by, row.accepted_reason, row.accepted_until) {
        (Some(by), Some(reason), Some(until)) => Some(Acceptance { by, reason, until }),
        _ => None,
    };
    Ok(Finding {
        id: row.id,
        title: rule.map_or_else(|| "the rule is no longer installed".to_owned(), |rule| rule.title.clone()),
        remediation: rule.map(|rule| rule.remediation.clone()).unwrap_or_default(),
        patches: Vec::new(),
        rule: row.rule_id,
        node: row.node_id.parse()?,
        node_name: row.node_name,
        status: row.status.to_string(),
        severity: row.severity.to_string(),
        risk: u32::try_from(row.risk).unwrap_or_default(),
        message: row.message,
        values: row.values,
        controls,
        first_seen: row.first_seen,
        changed_at: row.changed_at,
        resolved_at: row.resolved_at,
        acceptance,
    })
}

/// What can be run or applied against a finding, by its rule.
fn patches(rule: &compliance::Rule, finding: &Finding) -> Vec<Patch> {
    let about = compliance::About { node: &finding.node, node_name: &finding.node_name, values: &finding.values };
    let one = |patch: &compliance::Patch| {
        let (text, missing) = match patch.render(about) {
            Ok(text) => (Some(text), None),
            Err(why) => (None, Some(why)),
        };
        Patch { form: patch.form.as_str().to_owned(), place: patch.place.clone(), text, missing }
    };
    rule.patches.iter().map(one).collect()
}

/// Which findings.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct FindingQuery {
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
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// A filter of the store's, from words. What is in a framework or a control, the rules that are in force say.
pub(crate) fn filter(ruleset: &compliance::Ruleset, asked: Asked) -> Result<FindingFilter, Error> {
    let rules = match (&asked.framework, &asked.control) {
        (None, None) => None,
        (None, Some(_)) => {
            return Err(Error::invalid("control", "a control is one of a framework: name the `framework` too"));
        }
        (Some(framework), control) => {
            let is_in = |rule: &&compliance::Rule| {
                let ids = rule.controls.get(framework);
                ids.is_some_and(|ids| control.as_ref().is_none_or(|control| ids.contains(control)))
            };
            Some(ruleset.rules().iter().filter(is_in).map(|rule| rule.id.clone()).collect())
        }
    };
    let type_rules = asked.node_type.as_ref().map(|node_type| {
        let ids = |wanted: fn(&[String], &String) -> bool| {
            let rules = ruleset.rules().iter().filter(|rule| wanted(&rule.node_types, node_type));
            rules.map(|rule| rule.id.clone()).collect()
        };
        TypeRules {
            only: ids(|types, one| types.iter().all(|of| of == one)),
            never: ids(|types, one| !types.contains(one)),
        }
    });
    Ok(FindingFilter {
        type_rules: type_rules.unwrap_or_default(),
        status: page::word("status", asked.status.as_deref())?,
        severity: page::word("severity", asked.severity.as_deref())?,
        rule: asked.rule,
        rules,
        node: page::word("node", asked.node.as_deref())?,
        node_type: asked.node_type,
        text: asked.text,
    })
}

/// Where a page of findings begins: behind this risk and id.
struct Key(store::FindingKey);

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0.risk, self.0.id)
    }
}

impl std::str::FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (risk, id) = text.split_once('.').ok_or(())?;
        Ok(Self(store::FindingKey { risk: risk.parse().map_err(|_| ())?, id: id.parse().map_err(|_| ())? }))
    }
}

/// The tenant's findings, the riskiest first.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/findings", tag = "findings", params(("tenant" = String, Path, description = "id or slug"), FindingQuery),
    responses((status = 200, description = "findings", body = List<Finding>)))]
pub(crate) async fn finding_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<FindingQuery>,
) -> Answer<Json<List<Finding>>> {
    let permit = caller.permit::<ops::FindingList>(&tenant).await?;
    let ruleset = state.catalog.ruleset();
    let FindingQuery { status, severity, rule, node, node_type, text, framework, control, limit, page } = query;
    let filter = filter(&ruleset, Asked { status, severity, rule, node, node_type, text, framework, control })?;
    let (after, limit) = (page::after::<Key>(page.as_deref())?, page::limit(limit.as_deref())?);
    let rows = state.store.read(permit).await?.finding_list(&filter, after.map(|key| key.0), limit).await?;
    let items = rows.items.into_iter().map(|row| finding_document(&ruleset, row)).collect::<Result<_, _>>()?;
    Ok(Json(List { items, next_page: page::next(rows.next.map(Key)) }))
}

/// Counts for the wire.
pub(crate) fn counted(counts: Vec<(FindingStatus, Severity, u64)>) -> Vec<FindingCount> {
    let one = |(status, severity, count): (FindingStatus, Severity, u64)| FindingCount {
        status: status.to_string(),
        severity: severity.to_string(),
        count,
    };
    counts.into_iter().map(one).collect()
}

/// How many findings stand where.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/finding-counts", tag = "findings", params(("tenant" = String, Path, description = "id or slug")),
    responses((status = 200, description = "counts", body = List<FindingCount>)))]
pub(crate) async fn finding_counts(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Answer<Json<List<FindingCount>>> {
    let permit = caller.permit::<ops::FindingList>(&tenant).await?;
    let summary = state.store.read(permit).await?.finding_summary().await?;
    Ok(page::whole(counted(summary.counts)))
}

/// One finding.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/findings/{finding}", tag = "findings",
    params(("tenant" = String, Path, description = "id or slug"), ("finding" = String, Path, description = "the finding's id")),
    responses((status = 200, description = "finding", body = Finding)))]
pub(crate) async fn finding_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<Finding>> {
    let permit = caller.permit::<ops::FindingList>(&tenant).await?;
    let row = state.store.read(permit).await?.finding_show(page::id(&id, "finding")?).await?;
    let ruleset = state.catalog.ruleset();
    let is_over = row.status == FindingStatus::Resolved;
    let mut finding = finding_document(&ruleset, row)?;
    if let Some(rule) = ruleset.rule(&finding.rule).filter(|_| !is_over) {
        finding.patches = patches(rule, &finding);
    }
    Ok(Json(finding))
}

/// Accepts the risk of a finding, with a reason and an end.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/findings/{finding}/accept", tag = "findings",
    params(("tenant" = String, Path, description = "id or slug"), ("finding" = String, Path, description = "the finding's id")),
    request_body = FindingAccept, responses((status = 200, description = "accepted", body = Finding)))]
pub(crate) async fn finding_accept(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
    Body(body): Body<FindingAccept>,
) -> Answer<Json<Finding>> {
    let permit = caller.permit::<ops::FindingAccept>(&tenant).await?;
    let id: FindingId = page::id(&id, "finding")?;
    let until: Timestamp =
        body.until.parse().map_err(|error: domain::TimestampParseError| Error::invalid("until", error.to_string()))?;
    let row = state.store.write(permit).await?.finding_accept(id, &body.reason, until).await?;
    Ok(Json(finding_document(&state.catalog.ruleset(), row)?))
}

/// Opens a finding again.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/findings/{finding}/reopen", tag = "findings",
    params(("tenant" = String, Path, description = "id or slug"), ("finding" = String, Path, description = "the finding's id")),
    responses((status = 200, description = "open", body = Finding)))]
pub(crate) async fn finding_reopen(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<Finding>> {
    let permit = caller.permit::<ops::FindingReopen>(&tenant).await?;
    let row = state.store.write(permit).await?.finding_reopen(page::id(&id, "finding")?).await?;
    Ok(Json(finding_document(&state.catalog.ruleset(), row)?))
}

/// Marks a finding as resolved; the next evaluation opens it again if the node still violates the rule.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/findings/{finding}/resolve", tag = "findings",
    params(("tenant" = String, Path, description = "id or slug"), ("finding" = String, Path, description = "the finding's id")),
    responses((status = 200, description = "resolved", body = Finding)))]
pub(crate) async fn finding_resolve(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<Finding>> {
    let permit = caller.permit::<ops::FindingResolve>(&tenant).await?;
    let row = state.store.write(permit).await?.finding_resolve(page::id(&id, "finding")?).await?;
    Ok(Json(finding_document(&state.catalog.ruleset(), row)?))
}

/// Judges the tenant's graph as it is now.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/evaluations", tag = "findings", params(("tenant" = String, Path, description = "id or slug")),
    responses((status = 200, description = "done", body = Evaluation)))]
pub(crate) async fn evaluation_run(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Answer<Json<Evaluation>> {
    let permit = caller.permit::<ops::EvaluationRun>(&tenant).await?;
    Ok(Json(state.evaluator.evaluate(permit).await?))
}
