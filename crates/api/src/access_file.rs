//! Access as a file: what differs from what is there, making it so, and writing down what is there.

use access::ops;
use axum::Json;
use axum::extract::State;
use domain::{Email, Error, Labels, Slug, Timestamp};
use serde::Deserialize;
use store::{
    FileGroup as StoreGroup, FileHost as StoreHost, FileOptions, FilePlan, NewGrant, SubjectName, TargetName, Way,
};
use wire::access_file::{
    AccessFile, AccessFileApply, AccessFileChange, AccessFilePlan, FileDestination, FileGroup, FileGroupRole, FileHost,
    FileMember, FileSet,
};
use wire::grant::GrantCreate;
use wire::ssh_access::SshHostPut;

use crate::caller::Caller;
use crate::grant::new_grant;
use crate::page::{Body, Path, Query};
use crate::problem::Answer;
use crate::ssh_access::checked;
use crate::state::ApiState;

/// Tells where in the file something is wrong.
fn at<T>(list: &str, index: usize, checked: Result<T, Error>) -> Result<T, Error> {
    checked.map_err(|error| match error {
        Error::Invalid { field, message } => {
            let field = field.map(|field| format!(".{field}")).unwrap_or_default();
            Error::Invalid { field: None, message: format!("{list}[{index}]{field}: {message}") }
        }
        other => other,
    })
}

fn each<T, W>(list: &str, items: Vec<W>, map: impl Fn(W) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    items.into_iter().enumerate().map(|(index, item)| at(list, index, map(item))).collect()
}

fn group(group: FileGroup) -> Result<StoreGroup, Error> {
    let fed_by = match (group.provider, group.provider_group) {
        (None, None) => None,
        (Some(provider), Some(of)) => Some((provider, of)),
        _ => return Err(Error::invalid("provider", "name `provider` and `provider_group` together, or neither")),
    };
    let members = group.members.iter().map(|email| email.parse::<Email>()).collect::<Result<_, _>>()?;
    Ok(StoreGroup { name: group.name.parse()?, fed_by, members })
}

fn host(body: FileHost) -> Result<StoreHost, Error> {
    let FileHost { name, address, host_key, roles, source_networks, extensions, relay } = body;
    let host = SshHostPut { address, host_key, roles, labels: None, source_networks, extensions, relay: None };
    Ok(StoreHost { name: name.parse()?, host: checked(host, Way::Same)?, relay })
}

/// A grant of a file: one that is over is no mistake there, and gives nothing.
fn grant(body: GrantCreate) -> Result<NewGrant, Error> {
    new_grant(body, Timestamp::from_millis(i64::MIN))
}

fn file(body: AccessFile) -> Result<store::AccessFile, Error> {
    if body.version != 1 {
        return Err(Error::invalid("version", "this server reads version 1 of the file"));
    }
    let name: Slug = body.name.parse()?;
    Ok(store::AccessFile {
        name: name.to_string(),
        members: each("members", body.members, |one| Ok((one.email.parse()?, one.role.parse()?)))?,
        groups: each("groups", body.groups, group)?,
        group_roles: each("group_roles", body.group_roles, |one| Ok((one.provider, one.group, one.role.parse()?)))?,
        hosts: each("hosts", body.hosts, host)?,
        sets: each("sets", body.sets, |one| Ok((one.name.parse()?, Labels::new(one.selector)?)))?,
        destinations: each("destinations", body.destinations, |one| Ok((one.name, Labels::new(one.labels)?)))?,
        grants: each("grants", body.grants, grant)?,
    })
}

fn plan(plan: FilePlan) -> AccessFilePlan {
    let change = |change: store::FileChange| AccessFileChange {
        action: change.action.to_owned(),
        kind: change.kind.to_owned(),
        name: change.name,
        before: change.before,
        after: change.after,
    };
    AccessFilePlan {
        changes: plan.changes.into_iter().map(change).collect(),
        waiting: plan.waiting,
        digest: plan.digest.to_hex(),
    }
}

/// Asks for what the file's parts need besides, as doing them by hand would; a denial is in the audit log.
async fn may(caller: &Caller, tenant: &str, file: &AccessFile) -> Answer<()> {
    if !file.members.is_empty() {
        drop(caller.permit::<ops::MemberPut>(tenant).await?);
    }
    if !file.group_roles.is_empty() {
        drop(caller.permit::<ops::GroupRolePut>(tenant).await?);
    }
    Ok(())
}

/// What differs between a file and what is there. Changes nothing.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/access-file/plan", tag = "access", params(("tenant" = String, Path, description = "id or slug")),
    request_body = AccessFileApply, responses((status = 200, description = "the difference", body = AccessFilePlan)))]
pub(crate) async fn access_plan(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<AccessFileApply>,
) -> Answer<Json<AccessFilePlan>> {
    let permit = caller.permit::<ops::AccessPlan>(&tenant).await?;
    may(&caller, &tenant, &body.file).await?;
    let options = FileOptions { prune: body.prune, missing_waits: body.missing_waits };
    Ok(Json(plan(state.store.read(permit).await?.access_plan(&file(body.file)?, options).await?)))
}

/// Makes what is there as a file says, in one transaction: only the difference that was shown, whose `digest` is sent along.
#[utoipa::path(post, path = "/api/v1/tenants/{tenant}/access-file/apply", tag = "access", params(("tenant" = String, Path, description = "id or slug")),
    request_body = AccessFileApply, responses((status = 200, description = "what was made", body = AccessFilePlan)))]
pub(crate) async fn access_apply(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Body(body): Body<AccessFileApply>,
) -> Answer<Json<AccessFilePlan>> {
    let permit = caller.permit::<ops::AccessApply>(&tenant).await?;
    may(&caller, &tenant, &body.file).await?;
    let options = FileOptions { prune: body.prune, missing_waits: body.missing_waits };
    let shown = body.digest.as_deref().and_then(|hex| hex.parse().ok());
    let shown = shown.ok_or_else(|| Error::invalid("digest", "send the `digest` of the difference that was shown"))?;
    Ok(Json(plan(state.store.write(permit).await?.access_apply(&file(body.file)?, options, shown).await?)))
}

/// As what the file is written.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExportQuery {
    /// The file's name; default `access`.
    name: Option<String>,
}

fn exported(grant: NewGrant) -> GrantCreate {
    let (user, group) = match grant.subject {
        SubjectName::User(name) => (Some(name), None),
        SubjectName::Group(name) => (None, Some(name)),
    };
    let (destination, labels) = match grant.target {
        TargetName::Destination(name) => (Some(name), None),
        TargetName::Labels(labels) => (None, Some(labels.as_map().clone())),
    };
    let NewGrant { role, namespace, hours, expires_at, act_as, ssh, reason, approval, .. } = grant;
    let (as_users, as_groups) = (act_as.users.into_iter().collect(), act_as.groups.into_iter().collect());
    GrantCreate {
        user,
        group,
        role,
        destination,
        labels,
        namespace,
        hours,
        expires_at,
        as_users,
        as_groups,
        networks: ssh.networks.into_iter().collect(),
        extensions: ssh.extensions.map(|some| some.into_iter().collect()),
        force_command: ssh.command,
        approval,
        reason,
    }
}

fn written(host: StoreHost) -> FileHost {
    let StoreHost { name, host, relay } = host;
    FileHost {
        name: name.to_string(),
        address: host.address.to_string(),
        host_key: host.host_key.to_string(),
        roles: host.roles,
        source_networks: host.source_networks.iter().map(ToString::to_string).collect(),
        extensions: Some(host.extensions.iter().map(ToString::to_string).collect()),
        relay,
    }
}

/// What is there, as a file says it.
#[utoipa::path(get, path = "/api/v1/tenants/{tenant}/access-file", tag = "access", params(("tenant" = String, Path, description = "id or slug"), ExportQuery),
    responses((status = 200, description = "the file", body = AccessFile)))]
pub(crate) async fn access_export(
    State(state): State<ApiState>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<ExportQuery>,
) -> Answer<Json<AccessFile>> {
    let permit = caller.permit::<ops::AccessExport>(&tenant).await?;
    let name: Slug = query.name.as_deref().unwrap_or("access").parse()?;
    let file = state.store.read(permit).await?.access_export(name.as_str()).await?;
    let group = |group: StoreGroup| FileGroup {
        name: group.name.to_string(),
        provider: group.fed_by.as_ref().map(|(provider, _)| provider.clone()),
        provider_group: group.fed_by.map(|(_, group)| group),
        members: group.members.iter().map(ToString::to_string).collect(),
    };
    Ok(Json(AccessFile {
        version: 1,
        name: file.name,
        members: file
            .members
            .into_iter()
            .map(|(email, role)| FileMember { email: email.to_string(), role: role.to_string() })
            .collect(),
        groups: file.groups.into_iter().map(group).collect(),
        group_roles: file
            .group_roles
            .into_iter()
            .map(|(provider, group, role)| FileGroupRole { provider, group, role: role.to_string() })
            .collect(),
        hosts: file.hosts.into_iter().map(written).collect(),
        sets: file
            .sets
            .into_iter()
            .map(|(name, selector)| FileSet { name: name.to_string(), selector: selector.as_map().clone() })
            .collect(),
        destinations: file
            .destinations
            .into_iter()
            .map(|(name, labels)| FileDestination { name, labels: labels.as_map().clone() })
            .collect(),
        grants: file.grants.into_iter().map(exported).collect(),
    }))
}
