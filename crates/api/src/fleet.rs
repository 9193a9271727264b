//! Agents and relays: lists, labels, revoking, and the next credential of one.

use access::{FleetOperation, fleet_ops, ops};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use crypto::ed25519::PublicKey;
use crypto::possession;
use domain::{Error, FleetId, FleetKind, Labels, Timestamp};
use serde::Deserialize;
use store::{RelayTaskRow, UnitRow, UnitState};
use wire::List;
use wire::fleet::{FleetUnit, LabelsPut, RelayDetail, RelayTask, Renew, Renewed};

use store::Versioned as _;
use wire::problem::Problem;

use crate::caller::Caller;
use crate::condition::{If, Tagged};
use crate::enrollment::version;
use crate::fleet_caller::{self, FleetCaller, FleetFailure};
use crate::page::{self, Body, Path, Query, SignedBody};
use crate::problem::Answer;
use crate::state::ApiState;

/// For how long one may say nothing: an agent misses two reports, a relay's connection is kept alive more often.
pub(crate) const fn silent_ms(kind: FleetKind) -> i64 {
    match kind {
        FleetKind::Agent => 15 * 60_000,
        FleetKind::Relay => 2 * 60_000 + 30_000,
    }
}

/// Whether a version is older than another; none where either is no `MAJOR.MINOR.PATCH`. What follows behind a `-` or a `+` counts for nothing.
fn is_behind(version: &str, than: &str) -> Option<bool> {
    let parts = |text: &str| -> Option<[u64; 3]> {
        let core = text.split(['-', '+']).next()?;
        let parts: Vec<u64> = core.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
        parts.try_into().ok()
    };
    Some(parts(version)? < parts(than)?)
}

fn document(row: UnitRow, now: Timestamp) -> FleetUnit {
    let silent = |at: Timestamp| now.millis_since(at) >= silent_ms(row.id.kind());
    let health = match row.last_seen_at {
        _ if row.state != UnitState::Active => None,
        None => Some("unseen"),
        Some(at) if silent(at) => Some("silent"),
        Some(_) => Some("online"),
    };
    FleetUnit {
        id: row.id,
        name: row.name,
        state: row.state.as_str().to_owned(),
        health: health.map(str::to_owned),
        labels: row.labels.as_map().clone(),
        behind: is_behind(&row.version, env!("CARGO_PKG_VERSION")),
        version: row.version,
        key: PublicKey::from_bytes(&row.public_key).map(|key| possession::thumbprint(&key)).unwrap_or_default(),
        enrolled_at: row.enrolled_at,
        expires_at: row.expires_at,
        last_seen_at: row.last_seen_at,
        last_seen_ip: row.last_seen_ip,
        revoked_at: row.revoked_at,
        cloned_at: row.cloned_at,
        running_tasks: None,
        ssh_address: row.ssh_address,
        ssh_certificate_ends_at: row.ssh_certificate_ends_at,
    }
}

fn task(row: RelayTaskRow) -> RelayTask {
    RelayTask {
        id: row.id,
        job: row.job,
        plugin: row.plugin,
        key: row.key,
        attempt: row.attempt,
        done: row.done,
        total: row.total,
        message: row.message,
        started_at: row.started_at,
    }
}

/// Which of them to list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listed {
    /// Only with this label: `name=value`.
    label: Option<String>,
    /// 1 to 500; default 100.
    limit: Option<String>,
    /// `next_page` of the page before.
    page: Option<String>,
}

impl Listed {
    fn label(&self) -> Result<Option<(String, String)>, Error> {
        let split = |text: &String| {
            let (name, value) = text
                .split_once('=')
                .ok_or_else(|| Error::invalid("label", "use `name=value`, such as `site=berlin`"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        self.label.as_ref().map(split).transpose()
    }
}

/// The tenant's agents, also those that are no more.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/agents", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug"), Listed), responses((status = 200, description = "agents", body = List<FleetUnit>)))]
pub(crate) async fn agent_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(listed): Query<Listed>,
) -> Answer<Json<List<FleetUnit>>> {
    let permit = caller.permit::<ops::AgentList>(&tenant).await?;
    let (after, limit) = (page::after(listed.page.as_deref())?, page::limit(listed.limit.as_deref())?);
    let (label, now) = (listed.label()?, state.store.clock().now());
    let units = state.store.read(permit).await?.agent_list(label.as_ref(), after, limit).await?;
    Ok(page::list(units, |row| document(row, now)))
}

/// One agent.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/agents/{agent}", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug"), ("agent" = String, Path, description = "the agent's id")),
    responses((status = 200, description = "agent", body = FleetUnit, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn agent_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Tagged<FleetUnit>> {
    let permit = caller.permit::<ops::AgentList>(&tenant).await?;
    let row = state.store.read(permit).await?.agent_show(page::id(&id, "agent")?).await?;
    let version = row.version();
    Ok(Tagged(document(row, state.store.clock().now()), version))
}

/// Replaces an agent's labels.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/agents/{agent}/labels", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug"), ("agent" = String, Path, description = "the agent's id"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now")),
    request_body = LabelsPut, responses((status = 200, description = "labelled", body = FleetUnit), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn agent_label(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path((tenant, id)): Path<(String, String)>,
    Body(body): Body<LabelsPut>,
) -> Answer<Json<FleetUnit>> {
    let permit = caller.permit::<ops::AgentLabel>(&tenant).await?;
    let labels = Labels::new(body.labels)?;
    let row = state.store.write(permit).await?.only_if(condition).agent_label(page::id(&id, "agent")?, &labels).await?;
    Ok(Json(document(row, state.store.clock().now())))
}

/// Revokes an agent, for good: its next request is refused on every server. What it saw stays.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/agents/{agent}", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug"), ("agent" = String, Path, description = "the agent's id")),
    responses((status = 204, description = "revoked")))]
pub(crate) async fn agent_revoke(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::AgentRevoke>(&tenant).await?;
    state.store.write(permit).await?.agent_revoke(page::id(&id, "agent")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The tenant's relays, also those that are no more.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/relays", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug"), Listed), responses((status = 200, description = "relays", body = List<FleetUnit>)))]
pub(crate) async fn relay_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(listed): Query<Listed>,
) -> Answer<Json<List<FleetUnit>>> {
    let permit = caller.permit::<ops::RelayList>(&tenant).await?;
    let (after, limit) = (page::after(listed.page.as_deref())?, page::limit(listed.limit.as_deref())?);
    let (label, now) = (listed.label()?, state.store.clock().now());
    let mut read = state.store.read(permit).await?;
    let units = read.relay_list(label.as_ref(), after, limit).await?;
    let counts = read.relay_task_counts().await?;
    let count = |id: FleetId| match id {
        FleetId::Relay(relay) => counts.get(&relay).copied().unwrap_or(0),
        FleetId::Agent(_) => 0,
    };
    Ok(page::list(units, |row| FleetUnit { running_tasks: Some(count(row.id)), ..document(row, now) }))
}

/// One relay, with the server that it hangs on and what it works on.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/relays/{relay}", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug"), ("relay" = String, Path, description = "the relay's id")),
    responses((status = 200, description = "relay", body = RelayDetail, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn relay_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<Tagged<RelayDetail>> {
    let permit = caller.permit::<ops::RelayList>(&tenant).await?;
    let (relay, mut read) = (page::id(&id, "relay")?, state.store.read(permit).await?);
    let row = read.relay_show(relay).await?;
    let version = row.version();
    let unit = document(row, state.store.clock().now());
    let link = read.relay_place(relay).await?;
    let tasks: Vec<_> = read.relay_tasks(relay).await?.into_iter().map(task).collect();
    let unit = FleetUnit { running_tasks: Some(tasks.len() as u64), ..unit };
    let (server, connected_at) = link.map(|link| (link.place, link.linked_at)).unzip();
    Ok(Tagged(RelayDetail { unit, server, connected_at, tasks }, version))
}

/// Replaces a relay's labels.
#[utoipa::path(put, path = "/api/v1/tenants/{tenant}/relays/{relay}/labels", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug"), ("relay" = String, Path, description = "the relay's id"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now")),
    request_body = LabelsPut, responses((status = 200, description = "labelled", body = FleetUnit), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn relay_label(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path((tenant, id)): Path<(String, String)>,
    Body(body): Body<LabelsPut>,
) -> Answer<Json<FleetUnit>> {
    let permit = caller.permit::<ops::RelayLabel>(&tenant).await?;
    let labels = Labels::new(body.labels)?;
    let row = state.store.write(permit).await?.only_if(condition).relay_label(page::id(&id, "relay")?, &labels).await?;
    Ok(Json(document(row, state.store.clock().now())))
}

/// Revokes a relay, for good: its connections end, and its next request is refused on every server.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/relays/{relay}", tag = "fleet",
    params(("tenant" = String, Path, description = "id or slug"), ("relay" = String, Path, description = "the relay's id")),
    responses((status = 204, description = "revoked")))]
pub(crate) async fn relay_revoke(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, id)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::RelayRevoke>(&tenant).await?;
    state.store.write(permit).await?.relay_revoke(page::id(&id, "relay")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn renew<O: FleetOperation>(
    state: &ApiState,
    caller: &FleetCaller,
    id: &str,
    SignedBody(body, bytes): SignedBody<Renew>,
) -> Result<Json<Renewed>, FleetFailure> {
    let permit = caller.permit::<O>(id, &bytes).await?;
    let version = version(&body.version)?;
    let unit = caller.unit();
    let made = fleet_caller::make(state, unit.id, unit.tenant, caller.key()).await?;
    state.store.fleet_renew(permit, unit.credential, &made.stored, &version).await?;
    Ok(Json(Renewed { credential: made.credential, expires_at: made.stored.expires_at }))
}

/// Gives an agent its next credential; the one so far is good until the new one is used. Only the agent itself, with its credential
/// (`Authorization: DPoP …`) and a proof.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/renew", tag = "fleet", security(("fleet" = [])),
    params(("agent" = String, Path, description = "the agent's id")), request_body = Renew,
    responses((status = 200, description = "renewed", body = Renewed)))]
pub(crate) async fn agent_renew(
    State(state): State<ApiState>,
    caller: FleetCaller,
    Path(id): Path<String>,
    body: SignedBody<Renew>,
) -> Result<Json<Renewed>, FleetFailure> {
    renew::<fleet_ops::AgentRenew>(&state, &caller, &id, body).await
}

/// Gives a relay its next credential; the one so far is good until the new one is used. Only the relay itself, with its credential
/// (`Authorization: DPoP …`) and a proof.
#[utoipa::path(post, path = "/api/v1/relays/{relay}/renew", tag = "fleet", security(("fleet" = [])),
    params(("relay" = String, Path, description = "the relay's id")), request_body = Renew,
    responses((status = 200, description = "renewed", body = Renewed)))]
pub(crate) async fn relay_renew(
    State(state): State<ApiState>,
    caller: FleetCaller,
    Path(id): Path<String>,
    body: SignedBody<Renew>,
) -> Result<Json<Renewed>, FleetFailure> {
    renew::<fleet_ops::RelayRenew>(&state, &caller, &id, body).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_version_is_behind_and_what_is_no_version_cannot_be_told() {
        for (version, than, expect) in [
            ("0.9.12", "0.10.0", Some(true)),
            ("1.0.0", "1.0.0", Some(false)),
            ("2.0.0", "1.9.9", Some(false)),
            ("1.2.3-rc1", "1.2.4+build", Some(true)),
            ("1.2", "1.2.3", None),
            ("latest", "1.2.3", None),
            ("1.2.-3", "1.2.3", None),
        ] {
            assert_eq!(is_behind(version, than), expect, "{version} {than}");
        }
    }
}
