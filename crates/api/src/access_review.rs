//! Reviews of access: begun by who manages it, decided by who is asked, ended with signed evidence.

use access::{member_ops, ops};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::{AccessReviewId, DestinationRole, Error, Labels, Slug};
use serde::Deserialize;
use serde_json::Value;
use store::{NewReview, ReviewItemRow, ReviewRow, ReviewScope};
use wire::List;
use wire::access_review::{AccessReview, AccessReviewCreate, AccessReviewDecide, AccessReviewItem, AccessReviewScope};

use crate::caller::Caller;
use crate::grant::reason;
use crate::page::{self, Body, Paging, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// Most names in one part of a scope.
const NAMES_MAX: usize = 500;

fn review(row: ReviewRow) -> AccessReview {
    let scope = AccessReviewScope {
        destinations: row.scope.destinations,
        labels: row.scope.labels.map(|labels| labels.as_map().clone()),
        groups: row.scope.groups.iter().map(ToString::to_string).collect(),
        users: row.scope.users,
        roles: row.scope.roles.iter().map(ToString::to_string).collect(),
    };
    AccessReview {
        id: row.id,
        name: row.name,
        scope,
        reviewers: row.reviewers,
        undecided: row.undecided.as_str().to_owned(),
        state: row.state,
        created_at: row.created_at,
        created_by: row.created_by,
        ends_at: row.ends_at,
        closed_at: row.closed_at,
        closed_by: row.closed_by,
        items: row.items,
        decided: row.decided,
        revoked: row.revoked,
        evidence: row.evidence,
    }
}

/// How hosts are reached by a grant, in a few words.
fn terms(said: &Value) -> String {
    let list = |name: &str| {
        let all = said.get(name)?.as_array()?.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
        Some(if all.is_empty() { "nothing else".to_owned() } else { all })
    };
    let from = list("networks").map(|networks| format!(" from {networks}"));
    let with = list("extensions").map(|extensions| format!(" with {extensions}"));
    let only = said.get("command").and_then(Value::as_str).map(|command| format!(" only to run `{command}`"));
    [from, with, only].into_iter().flatten().collect()
}

/// An item in one line.
fn about(kind: &str, shown: &Value) -> String {
    let text = |name: &str| shown.get(name).and_then(Value::as_str).map(str::to_owned);
    let user = text("user").map(|user| format!("user {user}"));
    let group = text("group").map(|group| format!("group {group}"));
    if kind == "member" {
        let glass = shown.get("break_glass_s_max").and_then(Value::as_u64);
        let glass = glass.map(|seconds| format!(", may break glass everywhere for {seconds} s")).unwrap_or_default();
        return format!("{} in {}{glass}", user.unwrap_or_default(), group.unwrap_or_default());
    }
    let labels = shown.get("labels").and_then(Value::as_object).map(|labels| {
        labels
            .iter()
            .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
            .collect::<Vec<_>>()
            .join(",")
    });
    let place = text("destination").or(labels).unwrap_or_default();
    let namespace = text("namespace").map(|name| format!(".{name}")).unwrap_or_default();
    let (subject, role) = (user.or(group).unwrap_or_default(), text("role").unwrap_or_default());
    let terms = shown.get("ssh").map(terms).unwrap_or_default();
    let approval = shown.get("approval").and_then(Value::as_bool).unwrap_or_default();
    let approval = if approval { ", only when somebody approves it each time" } else { "" };
    format!("{subject} as {role} at {place}{namespace}{terms}{approval}")
}

fn item(row: ReviewItemRow) -> AccessReviewItem {
    AccessReviewItem {
        number: row.number,
        about: about(&row.kind, &row.shown),
        kind: row.kind,
        shown: row.shown,
        decision: row.decision.map(|decision| decision.as_str().to_owned()),
        reason: row.reason,
        decided_at: row.decided_at,
        decided_by: row.decided_by,
        outcome: row.outcome,
        undecidable: row.undecidable,
    }
}

fn scope(body: AccessReviewScope) -> Result<ReviewScope, Error> {
    let counts = [body.destinations.len(), body.groups.len(), body.users.len(), body.roles.len()];
    if counts.iter().any(|count| *count > NAMES_MAX) {
        return Err(Error::Limit { which: "names in a part of a scope", max: NAMES_MAX as u64 });
    }
    let groups = body.groups.iter().map(|name| name.parse::<Slug>()).collect::<Result<_, _>>()?;
    let roles = body.roles.iter().map(|name| name.parse::<DestinationRole>()).collect::<Result<_, _>>()?;
    let labels = body.labels.map(Labels::new).transpose()?;
    Ok(ReviewScope { destinations: body.destinations, labels, groups, users: body.users, roles })
}

/// The reviews that the caller was asked to decide, the newest first; all of them for who manages access.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/access-reviews", tag = "access", params(("tenant" = String, Path, description = "id or slug"), Paging),
    responses((status = 200, description = "reviews", body = List<AccessReview>)))]
pub(crate) async fn access_review_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<AccessReview>>> {
    let permit = caller.member_permit::<member_ops::AccessReviewList>(&tenant).await?;
    let (before, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.access_review_list(permit, before, limit).await?, review))
}

/// One review.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/access-reviews/{access_review}", tag = "access",
    params(("tenant" = String, Path, description = "id or slug"), ("access_review" = String, Path, description = "its id")),
    responses((status = 200, description = "review", body = AccessReview)))]
pub(crate) async fn access_review_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<AccessReview>> {
    let permit = caller.member_permit::<member_ops::AccessReviewShow>(&tenant).await?;
    Ok(Json(review(state.store.access_review_show(permit, page::id(&id, "review")?).await?)))
}

/// Which items.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ItemQuery {
    /// `undecided`: only those that nobody decided.
    status: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// What is reviewed, thing by thing.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/access-reviews/{access_review}/items", tag = "access",
    params(("tenant" = String, Path, description = "id or slug"), ("access_review" = String, Path, description = "its id"), ItemQuery),
    responses((status = 200, description = "items", body = List<AccessReviewItem>)))]
pub(crate) async fn access_review_items(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
    Query(query): Query<ItemQuery>,
) -> Answer<Json<List<AccessReviewItem>>> {
    let permit = caller.member_permit::<member_ops::AccessReviewItems>(&tenant).await?;
    let only_undecided = match query.status.as_deref() {
        None => false,
        Some("undecided") => true,
        Some(_) => return Err(Error::invalid("status", "use `undecided`, or leave it out").into()),
    };
    let (after, limit) = (page::after(query.page.as_deref())?, page::limit(query.limit.as_deref())?);
    let id: AccessReviewId = page::id(&id, "review")?;
    Ok(page::list(state.store.access_review_items(permit, id, only_undecided, after, limit).await?, item))
}

/// Begins a review: what gives the access that is reviewed is written down as it is now.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/access-reviews", tag = "access", params(("tenant" = String, Path, description = "id or slug")),
    request_body = AccessReviewCreate, responses((status = 201, description = "begun", body = AccessReview)))]
pub(crate) async fn access_review_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<AccessReviewCreate>,
) -> Answer<(StatusCode, Json<AccessReview>)> {
    let permit = caller.permit::<ops::AccessReviewCreate>(&tenant).await?;
    let name: domain::DisplayName = body.name.parse()?;
    let new = NewReview {
        name: name.to_string(),
        scope: scope(body.scope)?,
        reviewers: body.reviewers,
        undecided: body.undecided.parse().map_err(|_| Error::invalid("undecided", "use `keep` or `revoke`"))?,
        ends_at: body.ends_at,
    };
    let row = state.store.write(permit).await?.access_review_create(&new).await?;
    Ok((StatusCode::CREATED, Json(review(row))))
}

/// Says of some items whether they stay: a reviewer, about what does not give access to themselves. What is revoked is taken now.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/access-reviews/{access_review}/decide", tag = "access",
    params(("tenant" = String, Path, description = "id or slug"), ("access_review" = String, Path, description = "its id")),
    request_body = AccessReviewDecide, responses((status = 200, description = "decided", body = AccessReview)))]
pub(crate) async fn access_review_decide(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
    Body(body): Body<AccessReviewDecide>,
) -> Answer<Json<AccessReview>> {
    let permit = caller.member_permit::<member_ops::AccessReviewDecide>(&tenant).await?;
    let id = page::id(&id, "review")?;
    let (decision, reason) = (body.decision.parse()?, reason(&body.reason, true)?);
    Ok(Json(review(state.store.access_review_decide(permit, id, &body.items, decision, &reason).await?)))
}

/// Closes a review before its end: what nobody decided becomes what its maker said, and all of it becomes signed evidence.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/access-reviews/{access_review}/close", tag = "access",
    params(("tenant" = String, Path, description = "id or slug"), ("access_review" = String, Path, description = "its id")),
    responses((status = 200, description = "closed", body = AccessReview)))]
pub(crate) async fn access_review_close(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<AccessReview>> {
    let permit = caller.permit::<ops::AccessReviewClose>(&tenant).await?;
    Ok(Json(review(state.store.access_review_close(permit, page::id(&id, "review")?).await?)))
}
