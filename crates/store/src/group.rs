//! Groups of a tenant: with members of their own, or fed by a provider's group. A group gives nothing but what is granted to it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use access::ops;
use domain::{Error, GroupId, ProviderId, Result, Slug, TenantId, Timestamp, UserId};
use serde_json::json;

use crate::audit::{Category, Change};
use crate::bulk::Batch;
use crate::db::{Row, Tx, args};
use crate::grant_end::Ending;
use crate::unit::{Read, Write};
use crate::{Page, federation, grant_end};

/// Most groups of a tenant, and most members that are kept in one.
const MAX: i64 = 10_000;

/// The group of a provider that feeds one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FedBy {
    /// The provider's name; none where it is gone, and nobody is fed.
    pub provider: Option<String>,
    /// The group, as the provider spells it.
    pub group: String,
}

/// A group.
#[derive(Debug, Clone)]
pub struct GroupRow {
    /// Its id.
    pub id: GroupId,
    /// Its name.
    pub name: Slug,
    /// Where its members come from; none: they are kept here.
    pub fed_by: Option<FedBy>,
    /// Since when.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// The file that keeps it.
    pub managed_by: Option<String>,
}

const COLUMNS: &str = "g.id, g.name, g.provider_group, p.name, g.created_at, g.created_by, g.managed_by \
     FROM access_group g LEFT JOIN identity_provider p ON p.id = g.provider_id";

fn group_row(row: &Row) -> Result<GroupRow> {
    let provider = row.opt_text(3)?;
    Ok(GroupRow {
        id: GroupId::from_uuid(row.uuid(0)?),
        name: row.parse(1)?,
        fed_by: row.opt_text(2)?.map(|group| FedBy { provider, group }),
        created_at: row.time(4)?,
        created_by: row.text(5)?,
        managed_by: row.opt_text(6)?,
    })
}

/// Every group of a tenant, in the order of their names.
pub(crate) async fn all(tx: &mut Tx, tenant: TenantId) -> Result<Vec<GroupRow>> {
    let sql = format!("SELECT {COLUMNS} WHERE g.tenant_id = $1 ORDER BY g.name");
    tx.rows_built(sql, args![tenant]).await?.iter().map(group_row).collect()
}

/// Says which file keeps a group.
pub(crate) async fn manage(tx: &mut Tx, tenant: TenantId, id: GroupId, file: &str) -> Result<()> {
    let sql = "UPDATE access_group SET managed_by = $3 WHERE tenant_id = $1 AND id = $2";
    tx.execute(sql, args![tenant, id, file]).await.map(drop)
}

/// Says which file keeps somebody in a group.
pub(crate) async fn manage_member(tx: &mut Tx, tenant: TenantId, id: GroupId, user: UserId, file: &str) -> Result<()> {
    let sql = "UPDATE access_group_member SET managed_by = $4 WHERE tenant_id = $1 AND group_id = $2 AND user_id = $3";
    tx.execute(sql, args![tenant, id, user, file]).await.map(drop)
}

/// The group that a text names, by id or by name.
pub(crate) async fn find(tx: &mut Tx, tenant: TenantId, named: &str) -> Result<GroupRow> {
    let id = named.parse::<GroupId>().map_or(uuid::Uuid::nil(), |id| id.as_uuid());
    let sql = format!("SELECT {COLUMNS} WHERE g.tenant_id = $1 AND (g.id = $2 OR g.name = $3)");
    let rows = tx.rows_built(sql, args![tenant, id, named]).await?;
    group_row(rows.first().ok_or(Error::NotFound { what: "group" })?)
}

/// The groups that a user is in at this moment, by id.
pub(crate) async fn of_user(tx: &mut Tx, tenant: TenantId, user: UserId) -> Result<BTreeMap<GroupId, Slug>> {
    Ok(of_users(tx, tenant, &BTreeSet::from([user])).await?.remove(&user).unwrap_or_default())
}

/// The same of many users: who is absent is in none.
pub(crate) async fn of_users(
    tx: &mut Tx,
    tenant: TenantId,
    users: &BTreeSet<UserId>,
) -> Result<HashMap<UserId, BTreeMap<GroupId, Slug>>> {
    let mut found: HashMap<UserId, BTreeMap<GroupId, Slug>> = HashMap::new();
    let entry = |row: &Row| Ok::<_, Error>((GroupId::from_uuid(row.uuid(0)?), row.parse(1)?));
    let batch = Batch::new().uuid("user_id", users.iter().map(|user| user.as_uuid().as_u128()));
    let kept = "SELECT g.id, g.name, m.user_id FROM (SELECT m.user_id, m.group_id FROM LOOKUP(access_group_member m user_id)) m \
                CROSS JOIN access_group g WHERE g.tenant_id = $1 AND g.id = m.group_id AND g.provider_group IS NULL";
    tx.bulk_rows(&batch, kept, args![tenant], |row| {
        let (id, name) = entry(row)?;
        found.entry(UserId::from_uuid(row.uuid(2)?)).or_default().insert(id, name);
        Ok(())
    })
    .await?;
    // The other way round a tenant's groups that are fed would be read, all of them, whoever is asked about.
    let theirs = federation::groups_of(tx, users).await?;
    let feeding: BTreeSet<(ProviderId, &str)> = theirs
        .values()
        .flatten()
        .flat_map(|(provider, names)| names.iter().map(|name| (*provider, name.as_str())))
        .collect();
    let mut fed: HashMap<(ProviderId, String), Vec<(GroupId, Slug)>> = HashMap::new();
    let batch = Batch::new()
        .uuid("provider_id", feeding.iter().map(|(provider, _)| provider.as_uuid().as_u128()))
        .text("provider_group", feeding.iter().map(|(_, name)| *name));
    let sql =
        "SELECT g.id, g.name, g.provider_id, g.provider_group FROM LOOKUP(access_group g provider_id provider_group)";
    tx.bulk_rows(&batch, sql, args![tenant], |row| {
        let by = (ProviderId::from_uuid(row.uuid(2)?), row.text(3)?);
        fed.entry(by).or_default().push(entry(row)?);
        Ok(())
    })
    .await?;
    for (user, providers) in theirs {
        for (provider, names) in providers {
            for name in names {
                for (id, name) in fed.get(&(provider, name)).into_iter().flatten() {
                    found.entry(user).or_default().insert(*id, name.clone());
                }
            }
        }
    }
    Ok(found)
}

/// A member of a group that keeps its own.
#[derive(Debug, Clone)]
pub struct GroupMemberRow {
    /// The user.
    pub user: UserId,
    /// Their login name.
    pub email: String,
}

impl Read<ops::GroupList> {
    /// The tenant's groups in the order of their ids.
    pub async fn group_list(&mut self, after: Option<GroupId>, limit: u32) -> Result<Page<GroupRow, GroupId>> {
        let tenant = self.tenant();
        let sql = format!("SELECT {COLUMNS} WHERE g.tenant_id = $1 AND g.id > $2 ORDER BY g.id LIMIT $3");
        let after = after.map_or(uuid::Uuid::nil(), |id| id.as_uuid());
        let rows = self.tx.rows_built(sql, args![tenant, after, i64::from(limit) + 1]).await?;
        Ok(Page::cut(rows.iter().map(group_row).collect::<Result<_>>()?, limit, |row| row.id))
    }

    /// One of them with its members at this moment, in the order of their login names.
    pub async fn group_show(&mut self, named: &str) -> Result<(GroupRow, Vec<GroupMemberRow>)> {
        let tenant = self.tenant();
        let group = find(&mut self.tx, tenant, named).await?;
        let rows = self
            .tx
            .rows(
                "SELECT u.id, u.email FROM member m JOIN app_user u ON u.id = m.user_id WHERE m.tenant_id = $1 ORDER BY u.email",
                args![tenant],
            )
            .await?;
        let mut members = Vec::new();
        if group.fed_by.is_some() {
            let users = rows.iter().map(|row| row.uuid(0).map(UserId::from_uuid)).collect::<Result<BTreeSet<_>>>()?;
            let groups = of_users(&mut self.tx, tenant, &users).await?;
            for row in &rows {
                let user = UserId::from_uuid(row.uuid(0)?);
                if groups.get(&user).is_some_and(|groups| groups.contains_key(&group.id)) {
                    members.push(GroupMemberRow { user, email: row.text(1)? });
                }
            }
        } else {
            let kept = self
                .tx
                .rows(
                    "SELECT user_id FROM access_group_member WHERE tenant_id = $1 AND group_id = $2",
                    args![tenant, group.id],
                )
                .await?;
            let kept = kept.iter().map(|row| row.uuid(0)).collect::<Result<BTreeSet<_>>>()?;
            for row in &rows {
                if kept.contains(&row.uuid(0)?) {
                    members.push(GroupMemberRow { user: UserId::from_uuid(row.uuid(0)?), email: row.text(1)? });
                }
            }
        }
        Ok((group, members))
    }
}

/// Makes a group. `fed_by`: the provider's name and its group.
pub(crate) async fn create(
    tx: &mut Tx,
    store: &crate::Store,
    (tenant, by): (TenantId, &str),
    name: &Slug,
    fed_by: Option<(&str, &str)>,
) -> Result<GroupId> {
    let count = tx.row("SELECT COUNT(*) FROM access_group WHERE tenant_id = $1", args![tenant]).await?;
    if count.map_or(Ok(0), |row| row.i64(0))? >= MAX {
        return Err(Error::conflict(format!("the tenant has {MAX} groups: delete some first")));
    }
    let provider = match fed_by {
        None => None,
        Some((provider, _)) => {
            let row = tx.row("SELECT id FROM identity_provider WHERE name = $1", args![provider]).await?;
            Some(row.ok_or_else(|| Error::invalid("provider", "there is no such provider"))?.uuid(0)?)
        }
    };
    let id = GroupId::generate(&**store.clock(), &**store.rng());
    tx.execute(
        "INSERT INTO access_group (tenant_id, id, name, provider_id, provider_group, created_at, created_by) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        args![
            tenant,
            id,
            name.as_str(),
            provider,
            fed_by.map(|(_, group)| group.to_owned()),
            store.clock().now(),
            by
        ],
    )
    .await
    .map_err(|error| match error {
        Error::Conflict { .. } => Error::conflict(format!("a group `{name}` already exists")),
        other => other,
    })?;
    Ok(id)
}

fn fed(group: &GroupRow) -> Error {
    Error::conflict(format!("the members of `{}` are those of a provider's group: change them there", group.name))
}

/// Puts a member of the tenant into a group that keeps its own; whether they were not in it.
pub(crate) async fn add(
    tx: &mut Tx,
    (tenant, now): (TenantId, Timestamp),
    group: &GroupRow,
    user: UserId,
) -> Result<bool> {
    if group.fed_by.is_some() {
        return Err(fed(group));
    }
    let count = "SELECT COUNT(*) FROM access_group_member WHERE tenant_id = $1 AND group_id = $2";
    if tx.row(count, args![tenant, group.id]).await?.map_or(Ok(0), |row| row.i64(0))? >= MAX {
        return Err(Error::conflict(format!("the group has {MAX} members: use a provider's group")));
    }
    let added = tx
        .execute(
            "INSERT INTO access_group_member (tenant_id, group_id, user_id, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (tenant_id, group_id, user_id) DO NOTHING",
            args![tenant, group.id, user, now],
        )
        .await?;
    Ok(added == 1)
}

/// Takes somebody out of a group; whether they were in it.
pub(crate) async fn remove(tx: &mut Tx, tenant: TenantId, group: GroupId, user: UserId) -> Result<bool> {
    let removed = tx
        .execute(
            "DELETE FROM access_group_member WHERE tenant_id = $1 AND group_id = $2 AND user_id = $3",
            args![tenant, group, user],
        )
        .await?;
    Ok(removed == 1)
}

/// Forgets a group with its members and the grants to it; how many of those there were. Who may break glass by it may no more.
pub(crate) async fn delete(tx: &mut Tx, tenant: TenantId, group: GroupId, now: Timestamp) -> Result<u64> {
    let grants = grant_end::end(tx, tenant, Ending::Group(group), now).await?;
    tx.execute(
        "UPDATE access_policy SET glass_group_id = NULL WHERE tenant_id = $1 AND glass_group_id = $2",
        args![tenant, group],
    )
    .await?;
    tx.execute("DELETE FROM access_group_member WHERE tenant_id = $1 AND group_id = $2", args![tenant, group]).await?;
    tx.execute("DELETE FROM access_group WHERE tenant_id = $1 AND id = $2", args![tenant, group]).await?;
    Ok(grants)
}

impl Write<ops::GroupCreate> {
    /// Makes a group. `fed_by`: the provider's name and its group; without, its members are kept here.
    pub async fn group_create(mut self, name: &Slug, fed_by: Option<(&str, &str)>) -> Result<GroupRow> {
        let (tenant, store) = (self.tenant(), self.store.clone());
        let by = self.permit.ctx().actor().to_string();
        create(&mut self.tx, &store, (tenant, &by), name, fed_by).await?;
        let row = find(&mut self.tx, tenant, name.as_str()).await?;
        let detail = json!({"name": name, "provider": fed_by.map(|(provider, _)| provider), "group": fed_by.map(|(_, group)| group)});
        self.commit(Change::to(Category::Access, "group", row.id).detail(detail)).await?;
        Ok(row)
    }
}

impl Write<ops::GroupDelete> {
    /// Forgets a group with the grants to it.
    pub async fn group_delete(mut self, named: &str) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let row = find(&mut self.tx, tenant, named).await?;
        let grants = delete(&mut self.tx, tenant, row.id, now).await?;
        let detail = json!({"name": row.name, "grants": grants});
        self.commit(Change::to(Category::Access, "group", row.id).detail(detail)).await.map(drop)
    }
}

impl Write<ops::GroupMemberAdd> {
    /// Puts a member of the tenant, by login name or id, into a group. Once more changes nothing.
    pub async fn group_member_add(mut self, named: &str, member: &str) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let row = find(&mut self.tx, tenant, named).await?;
        let user = crate::grant::member(&mut self.tx, tenant, member).await?;
        let added = add(&mut self.tx, (tenant, now), &row, user).await?;
        let detail = json!({"group": row.name, "user": user, "added": added});
        self.commit(Change::to(Category::Access, "group", row.id).detail(detail)).await.map(drop)
    }
}

impl Write<ops::GroupMemberRemove> {
    /// Takes a member of the tenant, by login name or id, out of a group: what they reached by it alone ends. Once more changes nothing.
    pub async fn group_member_remove(mut self, named: &str, member: &str) -> Result<()> {
        let tenant = self.tenant();
        let row = find(&mut self.tx, tenant, named).await?;
        if row.fed_by.is_some() {
            return Err(fed(&row));
        }
        let user = crate::grant::member(&mut self.tx, tenant, member).await?;
        let removed = remove(&mut self.tx, tenant, row.id, user).await?;
        let detail = json!({"group": row.name, "user": user, "removed": removed});
        self.commit(Change::to(Category::Access, "group", row.id).detail(detail)).await.map(drop)
    }
}

/// Forgets what was granted to somebody who leaves the tenant, what they asked for and their places in its groups: who comes back begins anew.
pub(crate) async fn forget_member(tx: &mut Tx, tenant: TenantId, user: UserId, now: Timestamp) -> Result<u64> {
    tx.execute("DELETE FROM access_group_member WHERE tenant_id = $1 AND user_id = $2", args![tenant, user]).await?;
    let waiting = "DELETE FROM access_request WHERE tenant_id = $1 AND user_id = $2 AND state = 'pending'";
    tx.execute(waiting, args![tenant, user]).await?;
    grant_end::end(tx, tenant, Ending::User(user), now).await
}
