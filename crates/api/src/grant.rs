//! Grants: who may reach what.

use access::{member_ops, ops};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::{ActAs, Error, Labels, SshTerms, Subject, Target, Timestamp};
use serde::Deserialize;
use store::{GrantFilter, GrantRow, NewGrant, SubjectName, TargetName};
use wire::List;
use wire::grant::{Grant, GrantCreate};

use crate::caller::Caller;
use crate::page::{self, Body, Paging, Path, Query};
use crate::problem::Answer;
use crate::state::ApiState;

/// Longest reason, in characters.
const REASON_CHARS: usize = 500;

pub(crate) fn grant(row: GrantRow) -> Grant {
    let (user, group) = match row.grant.subject {
        Subject::User(_) => (Some(row.subject_name), None),
        Subject::Group(_) => (None, Some(row.subject_name)),
    };
    let (labels, hosts) = match row.grant.target {
        Target::Destination(_) => (None, None),
        Target::Labels(labels) => (Some(labels.as_map().clone()), None),
        Target::Set { hosts, .. } => (None, Some(hosts.as_map().clone())),
    };
    Grant {
        id: row.grant.id,
        user,
        group,
        role: row.grant.role.to_string(),
        destination: row.destination_name,
        labels,
        hosts,
        namespace: row.grant.namespace.map(|name| name.to_string()),
        hours: row.grant.hours.map(|hours| hours.to_string()),
        expires_at: row.grant.expires_at,
        as_users: row.grant.act_as.users.iter().map(ToString::to_string).collect(),
        as_groups: row.grant.act_as.groups.iter().map(ToString::to_string).collect(),
        networks: row.grant.ssh.networks.into_iter().collect(),
        extensions: row.grant.ssh.extensions.map(|some| some.into_iter().collect()),
        force_command: row.grant.ssh.command,
        approval: row.grant.approval,
        rests_on: row.rests_on,
        reason: row.reason,
        origin: row.origin.as_str().to_owned(),
        created_at: row.created_at,
        created_by: row.created_by,
        last_used_at: row.last_used_at,
        managed_by: row.managed_by,
    }
}

/// A reason that is fit to be read again later.
pub(crate) fn reason(text: &str, required: bool) -> Result<String, Error> {
    let text = text.trim();
    if (required && text.is_empty()) || text.chars().count() > REASON_CHARS || text.chars().any(char::is_control) {
        return Err(Error::invalid("reason", format!("say why, in one line of at most {REASON_CHARS} characters")));
    }
    Ok(text.to_owned())
}

/// What a document asks for, checked as far as it can be without looking.
pub(crate) fn new_grant(body: GrantCreate, now: Timestamp) -> Result<NewGrant, Error> {
    let subject = match (body.user, body.group) {
        (Some(user), None) => SubjectName::User(user),
        (None, Some(group)) => SubjectName::Group(group),
        _ => return Err(Error::invalid("user", "name either a user or a group")),
    };
    let target = match (body.destination, body.labels) {
        (Some(destination), None) => TargetName::Destination(destination),
        (None, Some(labels)) => TargetName::Labels(Labels::new(labels)?),
        _ => return Err(Error::invalid("destination", "name either a destination or labels")),
    };
    if body.expires_at.is_some_and(|at| at <= now) {
        return Err(Error::invalid("expires_at", "this is over already"));
    }
    let reason = reason(&body.reason, false)?;
    let act_as = ActAs::new(body.as_users.into_iter().collect(), body.as_groups.into_iter().collect())?;
    let extensions = body.extensions.map(|some| some.into_iter().collect());
    let ssh = SshTerms::new(body.networks.into_iter().collect(), extensions, body.force_command)?;
    let (role, namespace, hours, expires_at) = (body.role, body.namespace, body.hours, body.expires_at);
    if !ssh.is_empty() && (namespace.is_some() || !act_as.is_empty()) {
        let why =
            "networks, extensions and a command are said of hosts, a namespace and names of clusters: make two grants";
        return Err(Error::invalid("networks", why));
    }
    Ok(NewGrant { subject, role, target, namespace, hours, expires_at, act_as, ssh, reason, approval: body.approval })
}

/// Which grants to list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct GrantQuery {
    /// Only to this member, by login name or id.
    user: Option<String>,
    /// Only to this group, by name or id.
    group: Option<String>,
    /// Only to this destination, by name or id.
    destination: Option<String>,
    /// Only those that were not used since this time, and are not newer.
    unused_since: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

/// The tenant's grants that have not expired.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/grants", tag = "grants", params(("tenant" = String, Path, description = "id or slug"), GrantQuery),
    responses((status = 200, description = "grants", body = List<Grant>)))]
pub(crate) async fn grant_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<GrantQuery>,
) -> Answer<Json<List<Grant>>> {
    let permit = caller.permit::<ops::GrantList>(&tenant).await?;
    let (after, limit) = (page::after(query.page.as_deref())?, page::limit(query.limit.as_deref())?);
    let since = |text: String| text.parse().map_err(|error| Error::invalid("unused_since", format!("{error}")));
    let unused_since = query.unused_since.map(since).transpose()?;
    let filter = GrantFilter { user: query.user, group: query.group, destination: query.destination, unused_since };
    Ok(page::list(state.store.read(permit).await?.grant_list(&filter, after, limit).await?, grant))
}

/// The eligible grants by which the caller may ask for access (`POST …/access-requests`), in the order of their ids.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/eligible", tag = "grants", params(("tenant" = String, Path, description = "id or slug"), Paging),
    responses((status = 200, description = "eligible grants", body = List<Grant>)))]
pub(crate) async fn eligible_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<Grant>>> {
    let permit = caller.member_permit::<member_ops::EligibleList>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.eligible_list(permit, after, limit).await?, grant))
}

/// The eligible grants by which a member may ask for access, in the order of their ids.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/members/{user}/eligible", tag = "access",
    params(("tenant" = String, Path, description = "id or slug"), ("user" = String, Path, description = "login name or id"), Paging),
    responses((status = 200, description = "eligible grants", body = List<Grant>)))]
pub(crate) async fn eligible_what(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, user)): Path<(String, String)>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<Grant>>> {
    let permit = caller.permit::<ops::AccessWhat>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.read(permit).await?.eligible_what(&user, after, limit).await?, grant))
}

/// The eligible grants by which access to a destination, or to what of the asset graph is one, may be asked for, in the order of their ids.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/destinations/{destination}/eligible", tag = "access",
    params(("tenant" = String, Path, description = "id or slug"), ("destination" = String, Path, description = "its name or id, or a node's id"), Paging),
    responses((status = 200, description = "eligible grants", body = List<Grant>)))]
pub(crate) async fn eligible_who(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, destination)): Path<(String, String)>,
    Query(paging): Query<Paging>,
) -> Answer<Json<List<Grant>>> {
    let permit = caller.permit::<ops::AccessWho>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.read(permit).await?.eligible_who(&destination, after, limit).await?, grant))
}

/// One grant.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/grants/{grant}", tag = "grants",
    params(("tenant" = String, Path, description = "id or slug"), ("grant" = String, Path, description = "its id")),
    responses((status = 200, description = "grant", body = Grant)))]
pub(crate) async fn grant_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Json<Grant>> {
    let permit = caller.permit::<ops::GrantList>(&tenant).await?;
    Ok(Json(grant(state.store.read(permit).await?.grant_show(page::id(&id, "grant")?).await?)))
}

/// Lets a member or a group reach a destination, or every one with some labels; or, with `approval`, ask for that.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/grants", tag = "grants", params(("tenant" = String, Path, description = "id or slug")),
    request_body = GrantCreate, responses((status = 201, description = "granted", body = Grant)))]
pub(crate) async fn grant_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<GrantCreate>,
) -> Answer<(StatusCode, Json<Grant>)> {
    let permit = caller.permit::<ops::GrantCreate>(&tenant).await?;
    let new = new_grant(body, state.store.clock().now())?;
    let row = state.store.write(permit).await?.grant_create(&new).await?;
    Ok((StatusCode::CREATED, Json(grant(row))))
}

/// Takes a grant: what is reached by it alone ends, also where a connection is open.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/grants/{grant}", tag = "grants",
    params(("tenant" = String, Path, description = "id or slug"), ("grant" = String, Path, description = "its id")),
    responses((status = 204, description = "taken")))]
pub(crate) async fn grant_delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::GrantDelete>(&tenant).await?;
    state.store.write(permit).await?.grant_delete(page::id(&id, "grant")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
