//! Which role a provider's group gives in a tenant: decided by who manages the tenant's users, never by the provider and never by the platform.

use access::{OpCtx, Role, ops};
use domain::{Error, GroupRoleId, ProviderId, Result, TenantId, Timestamp};
use serde_json::json;

use crate::audit::{Category, Change};
use crate::condition::{self, GROUP_ROLES, Versioned as _};
use crate::db::{Row, Tx, args};
use crate::unit::{Read, Write};
use crate::{Page, Store, federation};

/// A role that a group gives.
#[derive(Debug, Clone)]
pub struct GroupRoleRow {
    /// Its id.
    pub id: GroupRoleId,
    /// The provider's name.
    pub provider: String,
    /// The group, exactly as the provider spells it.
    pub group: String,
    /// The role in this tenant.
    pub role: Role,
    /// Since when.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
}

/// Roles of groups, with their providers' names.
const GROUP_ROLE: &str = "SELECT g.id, p.name, g.group_name, g.role, g.created_at, g.created_by \
    FROM group_role g JOIN identity_provider p ON p.id = g.provider_id";

fn group_role_row(row: &Row) -> Result<GroupRoleRow> {
    Ok(GroupRoleRow {
        id: GroupRoleId::from_uuid(row.uuid(0)?),
        provider: row.text(1)?,
        group: row.text(2)?,
        role: row.parse(3)?,
        created_at: row.time(4)?,
        created_by: row.text(5)?,
    })
}

impl Read<ops::GroupRoleList> {
    /// The roles that groups give here, in the order of their ids.
    pub async fn group_role_list(
        &mut self,
        after: Option<GroupRoleId>,
        limit: u32,
    ) -> Result<Page<GroupRoleRow, GroupRoleId>> {
        let tenant = self.tenant();
        let sql = format!("{GROUP_ROLE} WHERE g.tenant_id = $1 AND g.id > $2 ORDER BY g.id LIMIT $3");
        let after = after.map_or(uuid::Uuid::nil(), |id| id.as_uuid());
        let rows = self.tx.rows_built(sql, args![tenant, after, i64::from(limit) + 1]).await?;
        Ok(Page::cut(rows.iter().map(group_role_row).collect::<Result<_>>()?, limit, |row| row.id))
    }

    /// One of them.
    pub async fn group_role_show(&mut self, id: GroupRoleId) -> Result<GroupRoleRow> {
        let tenant = self.tenant();
        let sql = format!("{GROUP_ROLE} WHERE g.tenant_id = $1 AND g.id = $2");
        let rows = self.tx.rows_built(sql, args![tenant, id]).await?;
        rows.first().map(group_role_row).transpose()?.ok_or(Error::NotFound { what: "group role" })
    }
}

fn above() -> Error {
    Error::Forbidden { message: "your role cannot give or take a role that holds more than itself".to_owned() }
}

/// The role that a provider's group gives, while nobody else can change it.
async fn find_alone(tx: &mut Tx, tenant: TenantId, (provider, group): (&str, &str)) -> Result<Option<GroupRoleRow>> {
    condition::alone(tx, tenant, GROUP_ROLES).await?;
    let sql = format!("{GROUP_ROLE} WHERE g.tenant_id = $1 AND p.name = $2 AND g.group_name = $3");
    let rows = tx.rows_built(sql, args![tenant, provider, group]).await?;
    rows.first().map(group_role_row).transpose()
}

/// Lets a provider's group give a role, in a transaction that may hold more; its id, and the role that it gave before.
pub(crate) async fn put(
    tx: &mut Tx,
    store: &Store,
    ctx: &OpCtx,
    tenant: TenantId,
    (provider, group): (&str, &str),
    role: Role,
) -> Result<(GroupRoleId, Option<Role>)> {
    let now = store.clock().now();
    let own = ctx.role_in(tenant).ok_or(Error::NotFound { what: "tenant" })?;
    let found = tx.row("SELECT id FROM identity_provider WHERE name = $1", args![provider]).await?;
    let found = found.ok_or_else(|| Error::invalid("provider", "there is no such provider"))?;
    let provider_id = ProviderId::from_uuid(found.uuid(0)?);
    let before = find_alone(tx, tenant, (provider, group)).await?.map(|row| row.role);
    if !own.covers(role) || before.is_some_and(|before| !own.covers(before)) {
        return Err(above());
    }
    let by = ctx.actor().to_string();
    let id = GroupRoleId::generate(&**store.clock(), &**store.rng());
    let row = tx
        .row(
            "INSERT INTO group_role (tenant_id, id, provider_id, group_name, role, created_at, created_by) \
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant_id, provider_id, group_name) \
             DO UPDATE SET role = excluded.role, created_at = excluded.created_at, created_by = excluded.created_by RETURNING id",
            args![tenant, id, provider_id, group, role.as_str(), now, by.as_str()],
        )
        .await?
        .ok_or_else(|| Error::internal("nothing was stored"))?;
    let id = GroupRoleId::from_uuid(row.uuid(0)?);
    federation::judge_members(tx, ctx, tenant, provider_id).await?;
    Ok((id, before))
}

/// Takes a role from a group, in a transaction that may hold more; the group, and the role that it gave.
pub(crate) async fn delete(tx: &mut Tx, ctx: &OpCtx, tenant: TenantId, id: GroupRoleId) -> Result<(String, Role)> {
    let own = ctx.role_in(tenant).ok_or(Error::NotFound { what: "tenant" })?;
    let row = tx
        .row("SELECT provider_id, group_name, role FROM group_role WHERE tenant_id = $1 AND id = $2", args![tenant, id])
        .await?
        .ok_or(Error::NotFound { what: "group role" })?;
    let (provider, group, role) = (ProviderId::from_uuid(row.uuid(0)?), row.text(1)?, row.parse::<Role>(2)?);
    if !own.covers(role) {
        return Err(above());
    }
    tx.execute("DELETE FROM group_role WHERE tenant_id = $1 AND id = $2", args![tenant, id]).await?;
    federation::judge_members(tx, ctx, tenant, provider).await?;
    Ok((group, role))
}

impl Write<ops::GroupRolePut> {
    /// Lets a provider's group give a role here. Nobody gives more than they hold, here as by hand. Members get it at their next sign-in or
    /// check; who already has a role through this provider is judged anew at once.
    pub async fn group_role_put(mut self, provider: &str, group: &str, role: Role) -> Result<GroupRoleRow> {
        let (tenant, ctx) = (self.tenant(), self.permit.ctx().clone());
        let own = ctx.role_in(tenant).ok_or(Error::NotFound { what: "tenant" })?;
        if !own.covers(role) {
            return Err(above());
        }
        let before = find_alone(&mut self.tx, tenant, (provider, group)).await?;
        let what = format!("role of the group `{}`", group.escape_debug());
        self.check_saying(&what, before.as_ref().map(GroupRoleRow::version).as_ref(), || {
            let held = before.as_ref().map_or("", |row| row.role.as_str());
            let group = group.escape_debug();
            format!("the group `{group}` of `{provider}` gives a role already, `{held}`: change that role instead")
        })?;
        let (id, before) = put(&mut self.tx, &self.store, &ctx, tenant, (provider, group), role).await?;
        let detail =
            json!({"provider": provider, "group": group, "role": role.as_str(), "before": before.map(Role::as_str)});
        let row = find_alone(&mut self.tx, tenant, (provider, group)).await?;
        self.commit(Change::to(Category::User, "group_role", id).detail(detail)).await?;
        row.ok_or_else(|| Error::internal("nothing was stored"))
    }
}

impl Write<ops::GroupRoleDelete> {
    /// Takes the role from the group; who had it through this group only loses it at once.
    pub async fn group_role_delete(mut self, id: GroupRoleId) -> Result<()> {
        let (tenant, ctx) = (self.tenant(), self.permit.ctx().clone());
        condition::alone(&mut self.tx, tenant, GROUP_ROLES).await?;
        let (group, role) = delete(&mut self.tx, &ctx, tenant, id).await?;
        let detail = json!({"group": group, "role": role.as_str()});
        self.commit(Change::to(Category::User, "group_role", id).detail(detail)).await.map(drop)
    }
}
