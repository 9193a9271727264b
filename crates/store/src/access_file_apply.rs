//! Making a file's differences true, each with the audit record that doing it by hand leaves; and writing down what is there as a file.

use access::{OpCtx, Role, ops};
use domain::{DestinationId, Email, Error, Labels, Result, Subject, Target, TenantId, Timestamp};
use serde_json::json;

use crate::access_file::{AccessFile, FileChange, FileGroup, FilePlan, Step};
use crate::audit::{self, Category, Change};
use crate::db::{Tx, args};
use crate::grant::{self, Beside, GrantOrigin, GrantRow, NewGrant, SubjectName, TargetName};
use crate::unit::Read;
use crate::{
    ByLabels, Store, access_file_host, destination, destination_node, grant_end, group, group_role, host_set,
    invitation, tenant,
};

/// Makes the differences, then writes down each.
pub(crate) async fn execute(
    tx: &mut Tx,
    store: &Store,
    ctx: &OpCtx,
    tenant_id: TenantId,
    file: &AccessFile,
    plan: &FilePlan,
) -> Result<()> {
    let (mut made, mut taken) = (0i64, 0i64);
    for change in &plan.changes {
        match change.step {
            Step::Grant(_) => made += 1,
            Step::TakeGrant(_) => taken += 1,
            _ => {}
        }
    }
    if made > 0 {
        grant::room(tx, store, tenant_id, made - taken).await?;
    }
    let mut records = Vec::with_capacity(plan.changes.len());
    for change in &plan.changes {
        records.push(make(tx, store, ctx, tenant_id, file, change).await?);
    }
    if plan.changes.iter().any(|change| change.kind == "group-role") {
        tenant::keep_an_admin(tx, tenant_id).await?;
    }
    for (action, record) in records {
        audit::append(tx, tenant_id, ctx, action, &record).await?;
    }
    Ok(())
}

/// Makes one, and returns its record.
async fn make(
    tx: &mut Tx,
    store: &Store,
    ctx: &OpCtx,
    tenant: TenantId,
    file: &AccessFile,
    change: &FileChange,
) -> Result<(&'static str, Change)> {
    let (by, now) = (ctx.actor().to_string(), store.clock().now());
    let nothing = || Error::internal("a difference about nothing");
    let detail = json!({"file": file.name, "name": change.name, "before": change.before, "after": change.after});
    let record = |category, kind, id: &dyn std::fmt::Display| Change::to(category, kind, id).detail(detail.clone());
    let name = file.name.as_str();
    Ok(match &change.step {
        Step::Invite(email, role) => {
            let row = invitation::invite(tx, ctx, tenant, email, *role).await?;
            ("member_put", record(Category::User, "invitation", &row.id))
        }
        Step::Group(at) => {
            let new = file.groups.get(*at).ok_or_else(nothing)?;
            let fed_by = new.fed_by.as_ref().map(|(provider, group)| (provider.as_str(), group.as_str()));
            let id = group::create(tx, store, (tenant, &by), &new.name, fed_by).await?;
            group::manage(tx, tenant, id, name).await?;
            ("group_create", record(Category::Access, "group", &id))
        }
        Step::AdoptGroup(id) => {
            group::manage(tx, tenant, *id, name).await?;
            ("access_adopt", record(Category::Access, "group", id))
        }
        Step::Join(to, user) => {
            let row = group::find(tx, tenant, to.as_str()).await?;
            group::add(tx, (tenant, now), &row, *user).await?;
            group::manage_member(tx, tenant, row.id, *user, name).await?;
            ("group_member_add", record(Category::Access, "group", &row.id))
        }
        Step::AdoptMember(id, user) => {
            group::manage_member(tx, tenant, *id, *user, name).await?;
            ("access_adopt", record(Category::Access, "group", id))
        }
        Step::GroupRole(provider, of, role) => {
            let (id, _) = group_role::put(tx, store, ctx, tenant, (provider, of), *role).await?;
            let sql = "UPDATE group_role SET managed_by = $3 WHERE tenant_id = $1 AND id = $2";
            tx.execute(sql, args![tenant, id, name]).await?;
            ("group_role_put", record(Category::User, "group_role", &id))
        }
        Step::Host(at, relay) => {
            let new = file.hosts.get(*at).ok_or_else(nothing)?;
            let row = access_file_host::make(tx, store, tenant, new, *relay).await?;
            ("ssh_host_put", record(Category::Access, "destination", &row.destination.id))
        }
        Step::Set(at) => {
            let (named, selector) = file.sets.get(*at).ok_or_else(nothing)?;
            let before = match destination::find_alone(tx, tenant, named.as_str()).await {
                Ok(row) => Some(row),
                Err(Error::NotFound { .. }) => None,
                Err(error) => return Err(error),
            };
            let row = host_set::put(tx, store, tenant, named.as_str(), before.as_ref(), selector).await?;
            ("host_set_put", record(Category::Access, "destination", &row.id))
        }
        Step::Labels(id, labels) => {
            let by_labels = label(tx, tenant, *id, labels, now).await?;
            ("destination_update", labelled(Category::Access, id, detail.clone(), by_labels))
        }
        Step::LabelsOfMade(named, labels) => {
            let id = destination::find(tx, tenant, named).await?.id;
            let by_labels = label(tx, tenant, id, labels, now).await?;
            ("destination_update", labelled(Category::Access, &id, detail.clone(), by_labels))
        }
        Step::Grant(at) => {
            let new = file.grants.get(*at).ok_or_else(nothing)?;
            let row = grant::insert(tx, store, (tenant, &by), new, GrantOrigin::File, Beside::default()).await?;
            grant::manage(tx, tenant, row.grant.id, name, new).await?;
            ("grant_create", record(Category::Access, "grant", &row.grant.id))
        }
        Step::UpdateGrant(id, at) => {
            grant::manage(tx, tenant, *id, name, file.grants.get(*at).ok_or_else(nothing)?).await?;
            let action = if change.action == "adopt" { "access_adopt" } else { "grant_update" };
            (action, record(Category::Access, "grant", id))
        }
        Step::TakeGrant(id) => {
            grant_end::take(tx, tenant, *id, now).await?;
            ("grant_delete", record(Category::Access, "grant", id))
        }
        Step::Leave(id, user) => {
            group::remove(tx, tenant, *id, *user).await?;
            ("group_member_remove", record(Category::Access, "group", id))
        }
        Step::TakeGroupRole(id) => {
            group_role::delete(tx, ctx, tenant, *id).await?;
            ("group_role_delete", record(Category::User, "group_role", id))
        }
        Step::TakeGroup(id) => {
            group::delete(tx, tenant, *id, now).await?;
            ("group_delete", record(Category::Access, "group", id))
        }
    })
}

/// The record of other labels, with what goes by them.
fn labelled(category: Category, id: &DestinationId, mut detail: serde_json::Value, by_labels: [ByLabels; 2]) -> Change {
    if let Some(members) = detail.as_object_mut() {
        let [before, after] = by_labels.map(|gives| gives.told());
        members.insert("by_labels".to_owned(), json!({"before": before, "after": after}));
    }
    Change::to(category, "destination", id).detail(detail)
}

/// Labels a destination; what went by its labels, and what does now.
async fn label(
    tx: &mut Tx,
    tenant: TenantId,
    id: DestinationId,
    labels: &Labels,
    now: Timestamp,
) -> Result<[ByLabels; 2]> {
    let before = destination::show(tx, tenant, id).await?;
    let before = host_set::by_labels(tx, tenant, &before, now).await?;
    let text = serde_json::to_string(labels).map_err(Error::internal)?;
    tx.execute("UPDATE destination SET labels = $3 WHERE tenant_id = $1 AND id = $2", args![tenant, id, text]).await?;
    let row = destination::show(tx, tenant, id).await?;
    destination_node::put(tx, tenant, &row, now).await?;
    Ok([before, host_set::by_labels(tx, tenant, &row, now).await?])
}

fn new_grant(row: GrantRow) -> NewGrant {
    let subject = match row.grant.subject {
        Subject::User(_) => SubjectName::User(row.subject_name),
        Subject::Group(_) => SubjectName::Group(row.subject_name),
    };
    let target = match row.grant.target {
        Target::Destination(_) | Target::Set { .. } => {
            TargetName::Destination(row.destination_name.unwrap_or_default())
        }
        Target::Labels(labels) => TargetName::Labels(labels),
    };
    let domain::Grant { role, namespace, hours, expires_at, act_as, ssh, approval, .. } = row.grant;
    NewGrant { subject, role, target, namespace, hours, expires_at, act_as, ssh, reason: row.reason, approval }
}

impl Read<ops::AccessExport> {
    /// What is there, as a file of this name would say it. Members and the roles of groups only for who may see them; nothing that was asked for or
    /// taken in an emergency, since that ends by itself.
    pub async fn access_export(&mut self, name: &str) -> Result<AccessFile> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let ctx = self.permit.ctx().clone();
        let tx = &mut self.tx;
        let mut file = AccessFile { name: name.to_owned(), ..AccessFile::default() };
        if ctx.authorize::<ops::MemberList>(tenant).is_ok() {
            let sql = "SELECT u.email, m.role FROM member m JOIN app_user u ON u.id = m.user_id WHERE m.tenant_id = $1 ORDER BY u.email";
            for row in tx.rows(sql, args![tenant]).await? {
                file.members.push((row.parse::<Email>(0)?, row.parse::<Role>(1)?));
            }
        }
        if ctx.authorize::<ops::GroupRoleList>(tenant).is_ok() {
            let sql = "SELECT p.name, g.group_name, g.role FROM group_role g JOIN identity_provider p ON p.id = g.provider_id \
                       WHERE g.tenant_id = $1 ORDER BY p.name, g.group_name";
            for row in tx.rows(sql, args![tenant]).await? {
                file.group_roles.push((row.text(0)?, row.text(1)?, row.parse(2)?));
            }
        }
        for row in group::all(tx, tenant).await? {
            let sql = "SELECT u.email FROM access_group_member g JOIN app_user u ON u.id = g.user_id \
                       JOIN member m ON m.tenant_id = g.tenant_id AND m.user_id = g.user_id WHERE g.tenant_id = $1 AND g.group_id = $2 ORDER BY u.email";
            let members = tx.rows(sql, args![tenant, row.id]).await?;
            let members = if row.fed_by.is_some() { Vec::new() } else { members };
            file.groups.push(FileGroup {
                name: row.name,
                fed_by: row.fed_by.and_then(|fed| Some((fed.provider?, fed.group))),
                members: members.iter().map(|row| row.parse(0)).collect::<Result<_>>()?,
            });
        }
        let all = destination::all(tx, tenant).await?;
        file.hosts = access_file_host::written(tx, tenant, &all).await?;
        file.sets = all.iter().filter_map(|row| Some((row.name.clone(), row.selector.clone()?))).collect();
        let labelled = all.into_iter().filter(|row| !row.labels.as_map().is_empty());
        file.destinations = labelled.map(|row| (row.name.to_string(), row.labels)).collect();
        let grants = grant::alive(tx, tenant, now).await?;
        let lasting = |row: &GrantRow| matches!(row.origin, GrantOrigin::Manual | GrantOrigin::File);
        file.grants = grants.into_iter().filter(lasting).map(new_grant).collect();
        Ok(file)
    }
}
