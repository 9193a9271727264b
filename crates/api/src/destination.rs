//! Destinations: what is reached through Cairn, who reaches it, and tokens for it.

use std::collections::BTreeSet;

use access::grant::Held;
use access::ssh::{SshTaken, SshUse};
use access::{fleet_ops, member_ops, ops};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use domain::{DestinationKind, Error, Labels, Slug, Subject, Target};
use gateway::destination_token::issue;
use store::{ByLabels, DestinationChange, DestinationRow, GlassPolicy, GrantRow, NewDestination, Reached, Reacher};
use wire::List;
use wire::destination::{
    AccessCheck, AccessChecked, AccessList, ByLabels as ByLabelsDocument, Destination, DestinationRegister,
    DestinationRegistered, DestinationTokenCreate, DestinationTokenCreated, DestinationUpdate, Reach,
    Reacher as ReacherDocument, RoleGranted, SshStanding, Why,
};
use wire::destination_token::DestinationClaims;
use wire::recording::RecordingTerms;
use wire::ssh_access::SshWay;

use store::Versioned as _;
use wire::problem::Problem;

use crate::access_request::break_glass;
use crate::caller::Caller;
use crate::condition::{If, Tagged};
use crate::fleet_caller::{FleetCaller, FleetFailure};
use crate::page::{self, Body, Paging, Path, SignedBody};
use crate::problem::Answer;
use crate::state::ApiState;

/// Longest certificate authority of a proxy, in bytes.
const AUTHORITY_BYTES: usize = 16 * 1_024;
/// Most namespaces, and most roles, that a relay may publish.
const PUBLISHED_MAX: usize = 5_000;
/// Most connections that are asked about at a time.
const STANDINGS_MAX: usize = 1_000;

pub(crate) fn by_labels(gives: ByLabels) -> ByLabelsDocument {
    ByLabelsDocument { sets: gives.sets.iter().map(ToString::to_string).collect(), grants: gives.grants }
}

/// How a host is reached.
pub(crate) fn way_word(has_relay: bool) -> &'static str {
    if has_relay { "relay" } else { "direct" }
}

/// One destination, with what goes by its labels.
fn shown((row, gives): (DestinationRow, ByLabels)) -> Destination {
    Destination { by_labels: Some(by_labels(gives)), ..destination(row) }
}

pub(crate) fn destination(row: DestinationRow) -> Destination {
    let node = row.node();
    Destination {
        id: row.id,
        name: row.name.to_string(),
        kind: row.kind.to_string(),
        selector: row.selector.map(|selector| selector.as_map().clone()),
        relay: row.relay,
        relay_name: row.relay_name,
        way: (row.kind == DestinationKind::Ssh).then(|| way_word(row.relay.is_some()).to_owned()),
        labels: row.labels.as_map().clone(),
        authority: row.authority,
        address: row.address,
        certificate_ends_at: row.certificate_ends_at,
        namespaces: row.namespaces.iter().map(ToString::to_string).collect(),
        roles: row.roles.iter().map(ToString::to_string).collect(),
        version: row.version,
        created_at: row.created_at,
        last_seen_at: row.last_seen_at,
        node,
        by_labels: None,
    }
}

fn names(held: &Held) -> Option<Vec<String>> {
    held.namespaces.as_ref().map(|names| names.iter().map(ToString::to_string).collect())
}

fn why(row: &GrantRow) -> Why {
    let group = match row.grant.subject {
        Subject::User(_) => None,
        Subject::Group(_) => Some(row.subject_name.clone()),
    };
    let (labels, set) = match &row.grant.target {
        Target::Destination(_) => (None, None),
        Target::Labels(labels) => (Some(labels.as_map().clone()), None),
        Target::Set { .. } => (None, row.destination_name.clone()),
    };
    Why {
        grant: row.grant.id,
        group,
        labels,
        set,
        namespace: row.grant.namespace.as_ref().map(ToString::to_string),
        hours: row.grant.hours.as_ref().map(ToString::to_string),
        expires_at: row.grant.expires_at,
        networks: row.grant.ssh.networks.iter().copied().collect(),
        extensions: row.grant.ssh.extensions.as_ref().map(|some| some.iter().copied().collect()),
        force_command: row.grant.ssh.command.clone(),
        origin: row.origin.as_str().to_owned(),
        by: row.created_by.clone(),
        reason: row.reason.clone(),
        last_used_at: row.last_used_at,
    }
}

fn reach(reached: Reached) -> Reach {
    let Reached { destination, role, held, grants } = reached;
    Reach {
        destination: destination.id,
        name: destination.name.to_string(),
        kind: destination.kind.to_string(),
        role: role.to_string(),
        namespaces: names(&held),
        act_as: held.lent.into_iter().collect(),
        until: held.until,
        authority: destination.authority,
        address: destination.address,
        why: grants.iter().map(why).collect(),
    }
}

fn reacher(who: Reacher) -> ReacherDocument {
    let Reacher { user, email, tenant_role, destination, role, held, grants } = who;
    let why: Vec<Why> = grants.iter().map(why).collect();
    let through: BTreeSet<String> =
        why.iter().map(|why| why.group.clone().unwrap_or_else(|| "direct".to_owned())).collect();
    ReacherDocument {
        user,
        email,
        tenant_role: tenant_role.to_string(),
        destination: destination.id,
        name: destination.name.to_string(),
        role: role.to_string(),
        namespaces: names(&held),
        act_as: held.lent.iter().cloned().collect(),
        until: held.until,
        grants: held.grants.iter().map(ToString::to_string).collect(),
        why,
        through: through.into_iter().collect(),
    }
}

/// The tenant's destinations.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/destinations", tag = "destinations", params(("tenant" = String, Path, description = "id or slug"), Paging),
    responses((status = 200, description = "destinations", body = List<Destination>)))]
pub(crate) async fn destination_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    page::Query(paging): page::Query<Paging>,
) -> Answer<Json<List<Destination>>> {
    let permit = caller.permit::<ops::DestinationList>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    Ok(page::list(state.store.read(permit).await?.destination_list(after, limit).await?, destination))
}

/// One destination.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/destinations/{destination}", tag = "destinations",
    params(("tenant" = String, Path, description = "id or slug"), ("destination" = String, Path, description = "id or name")),
    responses((status = 200, description = "destination", body = Destination, headers(("ETag" = String, description = "names what people said of it: for `If-Match`")))))]
pub(crate) async fn destination_show(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named)): Path<(String, String)>,
) -> Answer<Tagged<Destination>> {
    let permit = caller.permit::<ops::DestinationList>(&tenant).await?;
    let row = state.store.read(permit).await?.destination_show(&named).await?;
    let version = row.0.version();
    Ok(Tagged(shown(row), version))
}

/// Changes a destination's labels, which selectors of grants go by, or gives it to another relay.
#[utoipa::path(patch, path = "/api/v1/tenants/{tenant}/destinations/{destination}", tag = "destinations",
    params(("tenant" = String, Path, description = "id or slug"), ("destination" = String, Path, description = "id or name"), ("If-Match" = Option<String>, Header, description = "the `ETag` of what the change is made from: refused with 412 where it is another one by now")),
    request_body = DestinationUpdate, responses((status = 200, description = "changed", body = Destination), (status = 412, description = "the condition does not hold: somebody else was there first", body = Problem)))]
pub(crate) async fn destination_update(
    State(state): State<ApiState>,
    caller: Caller,
    If(condition): If,
    Path((tenant, named)): Path<(String, String)>,
    Body(body): Body<DestinationUpdate>,
) -> Answer<Json<Destination>> {
    let permit = caller.permit::<ops::DestinationUpdate>(&tenant).await?;
    let change = DestinationChange { labels: body.labels.map(Labels::new).transpose()?, relay: body.relay };
    Ok(Json(shown(state.store.write(permit).await?.only_if(condition).destination_update(&named, &change).await?)))
}

/// Forgets a destination with the grants and requests that name it.
#[utoipa::path(delete, path = "/api/v1/tenants/{tenant}/destinations/{destination}", tag = "destinations",
    params(("tenant" = String, Path, description = "id or slug"), ("destination" = String, Path, description = "id or name")),
    responses((status = 204, description = "forgotten")))]
pub(crate) async fn destination_delete(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named)): Path<(String, String)>,
) -> Answer<StatusCode> {
    let permit = caller.permit::<ops::DestinationDelete>(&tenant).await?;
    state.store.write(permit).await?.destination_delete(&named).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A page with who may break glass.
fn access_list<T>(Json(page): Json<List<T>>, glass: Option<GlassPolicy>) -> Json<AccessList<T>> {
    let List { items, next_page } = page;
    Json(AccessList { items, next_page, break_glass: glass.map(break_glass) })
}

/// Who reaches a destination at this moment, and by which grants; or what of the asset graph is one, by the id of its node.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/destinations/{destination}/reachers", tag = "destinations",
    params(("tenant" = String, Path, description = "id or slug"), ("destination" = String, Path, description = "id or name, or the id of a node"), Paging),
    responses((status = 200, description = "who", body = AccessList<ReacherDocument>)))]
pub(crate) async fn access_who(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named)): Path<(String, String)>,
    page::Query(paging): page::Query<Paging>,
) -> Answer<Json<AccessList<ReacherDocument>>> {
    let permit = caller.permit::<ops::AccessWho>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    let mut unit = state.store.read(permit).await?;
    let who = unit.access_who(&named, after.as_ref(), limit).await?;
    let glass = unit.glass_who().await?;
    Ok(access_list(page::list(who, reacher), glass))
}

/// What a member reaches at this moment.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/members/{user}/reach", tag = "destinations",
    params(("tenant" = String, Path, description = "id or slug"), ("user" = String, Path, description = "id or login name"), Paging),
    responses((status = 200, description = "what", body = AccessList<Reach>)))]
pub(crate) async fn access_what(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named)): Path<(String, String)>,
    page::Query(paging): page::Query<Paging>,
) -> Answer<Json<AccessList<Reach>>> {
    let permit = caller.permit::<ops::AccessWhat>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    let mut unit = state.store.read(permit).await?;
    let what = unit.access_what(&named, after.as_ref(), limit).await?;
    let glass = unit.glass_what(&named).await?;
    Ok(access_list(page::list(what, reach), glass))
}

/// What the caller reaches at this moment.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/reach", tag = "destinations", params(("tenant" = String, Path, description = "id or slug"), Paging),
    responses((status = 200, description = "what", body = List<Reach>)))]
pub(crate) async fn reach_list(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    page::Query(paging): page::Query<Paging>,
) -> Answer<Json<List<Reach>>> {
    let permit = caller.member_permit::<member_ops::ReachList>(&tenant).await?;
    let (after, limit) = (page::after(paging.page.as_deref())?, page::limit(paging.limit.as_deref())?);
    let what = state.store.reach_list(permit, after.as_ref(), limit).await?;
    // Through which groups, by whom and why is not for who is granted something.
    Ok(page::list(what, |one| Reach { why: Vec::new(), ..reach(one) }))
}

/// Gives the caller a token for a destination, good for five minutes at most: for its proxy, in one role. A destination that the caller does not
/// reach does not exist.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/destinations/{destination}/tokens", tag = "destinations",
    params(("tenant" = String, Path, description = "id or slug"), ("destination" = String, Path, description = "id or name")),
    request_body = DestinationTokenCreate, responses((status = 201, description = "a token", body = DestinationTokenCreated)))]
pub(crate) async fn destination_token_create(
    State(state): State<ApiState>,
    caller: Caller,
    Path((tenant, named)): Path<(String, String)>,
    Body(body): Body<DestinationTokenCreate>,
) -> Answer<(StatusCode, Json<DestinationTokenCreated>)> {
    let permit = caller.member_permit::<member_ops::DestinationTokenCreate>(&tenant).await?;
    let (session, keys) = (caller.session()?, state.token_keys.now(&state.store).await?);
    let (tenant, sub) = (permit.tenant(), permit.user());
    let made = state.store.destination_token_create(permit, &named, body.role.as_ref(), session.expires_at).await?;
    let claims = DestinationClaims {
        iss: state.settings.installation.clone(),
        aud: made.destination.id,
        sub,
        name: made.name,
        groups: made.groups,
        role: made.role.clone(),
        namespaces: made.namespaces.clone(),
        act_as: made.act_as,
        tenant,
        sid: session.id,
        jti: made.id,
        iat: made.issued_at.as_seconds(),
        exp: made.expires_at.as_seconds(),
    };
    let created = DestinationTokenCreated {
        id: made.id,
        token: issue(&keys.signing, &claims)?,
        destination: made.destination.id,
        role: made.role,
        namespaces: made.namespaces,
        direct: made.ssh_way.map(|(address, authority)| SshWay { address, authority }),
        expires_at: made.expires_at,
    };
    Ok((StatusCode::CREATED, Json(created)))
}

fn digest(hex: &str) -> Result<domain::Digest, Error> {
    hex.parse().map_err(|_| Error::invalid("cluster_sha256", "use 64 lower-case hex digits"))
}

/// Where something is reached without the server, by its relay's word, and whom to trust there.
pub(crate) fn check_way(address: Option<&str>, authority: &str) -> Result<(), Error> {
    if authority.len() > AUTHORITY_BYTES {
        return Err(Error::Limit { which: "bytes of an authority", max: AUTHORITY_BYTES as u64 });
    }
    if !authority.is_empty() {
        crypto::client_certificate::Authorities::of_pem(authority).map_err(|why| Error::invalid("authority", why))?;
    }
    let plain = |text: &str| text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if address.is_some_and(|text| !plain(text) || !text.contains(':') || text.contains('/')) {
        return Err(Error::invalid("address", "use host and port, such as `k8s.example.com:6443`"));
    }
    Ok(())
}

fn checked(body: DestinationRegister) -> Result<NewDestination, Error> {
    check_way(body.address.as_deref(), &body.authority)?;
    if body.namespaces.len() > PUBLISHED_MAX || body.roles.len() > PUBLISHED_MAX {
        return Err(Error::Limit { which: "namespaces or roles of a destination", max: PUBLISHED_MAX as u64 });
    }
    if body.version.is_empty() || body.version.len() > 64 || !body.version.bytes().all(|it| it.is_ascii_graphic()) {
        return Err(Error::invalid("version", "use 1 to 64 plain letters"));
    }
    let sorted = |mut names: Vec<Slug>| {
        names.sort_unstable();
        names.dedup();
        names
    };
    let mut roles = body.roles;
    roles.sort_unstable();
    roles.dedup();
    Ok(NewDestination {
        name: body.name.parse()?,
        kind: body.kind.parse()?,
        authority: body.authority,
        address: body.address,
        namespaces: sorted(body.namespaces),
        roles,
        version: body.version,
        cluster_sha256: body.cluster_sha256.map(|hex| digest(&hex)).transpose()?,
        certificate_ends_at: body.certificate_ends_at,
    })
}

/// Registers a destination that hangs on the relay, or says what is new about it; at least every few minutes. Only the relay itself, with its
/// credential (`Authorization: DPoP …`) and a proof. A name belongs to the relay that registered it first.
#[utoipa::path(post, path = "/api/v1/relays/{relay}/destinations", tag = "destinations", security(("fleet" = [])),
    params(("relay" = String, Path, description = "the relay's id")), request_body = DestinationRegister,
    responses((status = 200, description = "registered", body = DestinationRegistered)))]
pub(crate) async fn destination_register(
    State(state): State<ApiState>,
    caller: FleetCaller,
    Path(id): Path<String>,
    SignedBody(body, bytes): SignedBody<DestinationRegister>,
) -> Result<Json<DestinationRegistered>, FleetFailure> {
    let permit = caller.permit::<fleet_ops::DestinationRegister>(&id, &bytes).await?;
    let new = checked(body)?;
    let terms = state.store.recording_terms(&permit, new.kind).await?;
    let (row, granted) = state.store.destination_register(permit, &new).await?;
    let keys = state.token_keys.now(&state.store).await?;
    Ok(Json(DestinationRegistered {
        id: row.id,
        issuer: state.settings.installation.clone(),
        keys: crypto::es512::KeySet::new(keys.published.clone()).to_json(),
        granted: Some(granted.into_iter().map(|(role, namespace)| RoleGranted { role, namespace }).collect()),
        recording: RecordingTerms { mode: terms.0, input: terms.1 },
    }))
}

fn ssh_use(one: SshStanding) -> SshUse {
    let taken = SshTaken { extensions: one.extensions.into_iter().collect(), command: one.force_command };
    SshUse { from: one.from.map(|from| from.to_canonical()), takes: Some(taken) }
}

/// Says which of the connections that are open at the relay may stay open. Only the relay itself, about destinations that hang on it.
#[utoipa::path(post, path = "/api/v1/relays/{relay}/access-check", tag = "destinations", security(("fleet" = [])),
    params(("relay" = String, Path, description = "the relay's id")), request_body = AccessCheck,
    responses((status = 200, description = "until when", body = AccessChecked)))]
pub(crate) async fn access_check(
    State(state): State<ApiState>,
    caller: FleetCaller,
    Path(id): Path<String>,
    SignedBody(body, bytes): SignedBody<AccessCheck>,
) -> Result<Json<AccessChecked>, FleetFailure> {
    let permit = caller.permit::<fleet_ops::AccessCheck>(&id, &bytes).await?;
    if body.standings.len() > STANDINGS_MAX {
        return Err(Error::Limit { which: "connections in one question", max: STANDINGS_MAX as u64 }.into());
    }
    let tenant = permit.tenant();
    let standings: Vec<_> = body
        .standings
        .into_iter()
        .map(|one| store::Standing {
            tenant,
            user: one.user,
            name: one.name,
            session: one.session,
            destination: one.destination,
            role: one.role,
            namespaces: one.namespaces,
            act_as: one.act_as,
            groups: one.groups,
            ssh: one.ssh.map_or_else(SshUse::default, ssh_use),
        })
        .collect();
    Ok(Json(AccessChecked { until: state.store.access_check(permit, &standings).await? }))
}
