//! Tenants and their members.

use access::{MemberPermit, PlatformPermit, Role, member_ops, ops};
use domain::{DisplayName, Email, Error, Result, Slug, TenantId, Timestamp, UserId};
use serde_json::json;

use crate::audit::{self, Category, Change};
use crate::bulk::Batch;
use crate::condition::{self, MEMBERS, Versioned as _};
use crate::db::{Row, Tx, args};
use crate::invitation::{self, InvitationRow};
use crate::unit::{PlatformWrite, Read, Write, enter};
use crate::{Page, Store, grant, vault};

/// A tenant.
#[derive(Debug, Clone)]
pub struct TenantRow {
    /// Its id.
    pub id: TenantId,
    /// Its name in URLs and on the command line.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A member of a tenant.
#[derive(Debug, Clone)]
pub struct MemberRow {
    /// The user.
    pub user: UserId,
    /// Their login name.
    pub email: String,
    /// Their name.
    pub name: String,
    /// Their role here.
    pub role: Role,
    /// Since when.
    pub created_at: Timestamp,
    /// Whether the user cannot sign in any more.
    pub disabled: bool,
}

/// Whom the id of a user means.
#[derive(Debug, Clone)]
pub struct NameRow {
    /// The user.
    pub user: UserId,
    /// Their login name.
    pub email: String,
    /// Their name.
    pub name: String,
}

/// What giving a role to an address led to.
#[derive(Debug, Clone)]
pub enum Placed {
    /// A member has the role now.
    Member(UserId),
    /// The role waits for somebody to sign in as that address, whether there is an account or not.
    Invited(InvitationRow),
}

fn tenant_row(row: &Row) -> Result<TenantRow> {
    Ok(TenantRow {
        id: TenantId::from_uuid(row.uuid(0)?),
        slug: row.text(1)?,
        name: row.text(2)?,
        created_at: row.time(3)?,
    })
}

impl PlatformWrite<ops::TenantCreate> {
    /// Makes a tenant with its data key and, if asked, its first administrator. The new tenant's log begins with its own creation.
    pub async fn tenant_create(mut self, slug: &Slug, name: &DisplayName, admin: Option<UserId>) -> Result<TenantRow> {
        let now = self.store.clock().now();
        let id = TenantId::generate(&**self.store.clock(), &**self.store.rng());
        self.tx
            .execute(
                "INSERT INTO tenant (id, slug, name, created_at) VALUES ($1, $2, $3, $4)",
                args![id, slug.as_str(), name.as_str(), now],
            )
            .await
            .map_err(|error| match error {
                Error::Conflict { .. } => Error::conflict(format!("a tenant `{slug}` already exists")),
                other => other,
            })?;
        enter(&mut self.tx, id).await?;
        vault::data_key_create(&mut self.tx, &self.store, id).await?;
        if let Some(admin) = admin {
            member_upsert(&mut self.tx, id, admin, Role::TenantAdmin, now).await?;
        }
        let change = Change::to(Category::User, "tenant", id)
            .detail(json!({"slug": slug.as_str(), "name": name.as_str(), "admin": admin}));
        audit::append(&mut self.tx, id, self.permit.ctx(), "tenant_create", &change).await?;
        self.commit(change).await?;
        Ok(TenantRow { id, slug: slug.to_string(), name: name.to_string(), created_at: now })
    }
}

impl PlatformWrite<ops::TenantDelete> {
    /// Closes a tenant: nobody can enter it any more. Its audit log and evidence stay.
    pub async fn tenant_delete(mut self, id: TenantId) -> Result<()> {
        let now = self.store.clock().now();
        // The slug is freed for a new tenant; the old one keeps it with its id behind it.
        let closed = self
            .tx
            .execute(
                "UPDATE tenant SET deleted_at = $2, slug = slug || '~' || $3 WHERE id = $1 AND deleted_at IS NULL",
                args![id, now, id.to_string()],
            )
            .await?;
        if closed == 0 {
            return Err(Error::NotFound { what: "tenant" });
        }
        crate::fleet::end_all(&mut self.tx, id, now).await?;
        self.commit(Change::to(Category::User, "tenant", id)).await.map(drop)
    }
}

async fn member_upsert(tx: &mut Tx, tenant: TenantId, user: UserId, role: Role, now: Timestamp) -> Result<()> {
    tx.execute(
        "INSERT INTO member (tenant_id, user_id, role, created_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (tenant_id, user_id) DO UPDATE SET role = excluded.role, provider_id = NULL",
        args![tenant, user, role.as_str(), now],
    )
    .await
    .map(drop)
}

/// Makes a user a member who is none yet; whether it did.
pub(crate) async fn member_insert(
    tx: &mut Tx,
    tenant: TenantId,
    user: UserId,
    role: Role,
    now: Timestamp,
) -> Result<bool> {
    let added = tx
        .execute(
            "INSERT INTO member (tenant_id, user_id, role, created_at) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (tenant_id, user_id) DO NOTHING",
            args![tenant, user, role.as_str(), now],
        )
        .await?;
    if added == 1 {
        // A provider may have taken them out before, and left what was granted to them.
        crate::group::forget_member(tx, tenant, user, now).await?;
    }
    Ok(added == 1)
}

async fn member_role(tx: &mut Tx, tenant: TenantId, user: UserId) -> Result<Option<Role>> {
    match tx.row("SELECT role FROM member WHERE tenant_id = $1 AND user_id = $2", args![tenant, user]).await? {
        Some(row) => row.parse(0).map(Some),
        None => Ok(None),
    }
}

/// Refuses to leave a tenant without anybody who can manage it. Takes every member row's lock first, so that two demotions cannot pass each
/// other.
pub(crate) async fn keep_an_admin(tx: &mut Tx, tenant: TenantId) -> Result<()> {
    let rows = tx
        .rows(
            "SELECT m.role FROM member m JOIN app_user u ON u.id = m.user_id WHERE m.tenant_id = $1 AND u.disabled_at IS NULL",
            args![tenant],
        )
        .await?;
    for row in rows {
        if row.parse::<Role>(0)?.holds(access::Permission::UsersManage) {
            return Ok(());
        }
    }
    Err(Error::conflict("this is the tenant's last administrator: make somebody else `tenant-admin` first"))
}

impl Write<ops::MemberPut> {
    /// Gives a member another role, or invites who is none. Nobody gives a role that holds more than their own, or changes the role of somebody
    /// who holds more. What is asked, done and answered for an address that is no member's does not depend on whether it has an account.
    pub async fn member_put(mut self, email: &Email, role: Role) -> Result<Placed> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let own = self.permit.ctx().role_in(tenant).ok_or(Error::NotFound { what: "tenant" })?;
        condition::alone(&mut self.tx, tenant, MEMBERS).await?;
        lock_members(&mut self.tx, tenant).await?;
        let sql = format!("{MEMBER} WHERE m.tenant_id = $1 AND u.email = $2");
        let rows = self.tx.rows_built(sql, args![tenant, email.as_str()]).await?;
        let member = rows.first().map(member_row).transpose()?;
        let waiting = match &member {
            Some(_) => None,
            None => invitation::waiting(&mut self.tx, tenant, email, now).await?,
        };
        let user = member.as_ref().map(|row| row.user);
        let (before, version, state) = match (&member, &waiting) {
            (Some(row), _) => (Some(row.role), Some(row.version()), "a member"),
            (None, Some(row)) => (Some(row.role), Some(row.version()), "invited"),
            (None, None) => (None, None, ""),
        };
        let above = || Error::Forbidden {
            message: format!("your role `{own}` cannot give or take a role that holds more than itself"),
        };
        if !own.covers(role) {
            return Err(above());
        }
        self.check_saying(&format!("role of `{email}`"), version.as_ref(), || {
            let held = before.map_or("", Role::as_str);
            format!("`{email}` is {state} already, with the role `{held}`: change that role instead")
        })?;
        if before.is_some_and(|before| !own.covers(before)) {
            return Err(above());
        }
        let detail = json!({"email": email.as_str(), "role": role.as_str(), "before": before.map(Role::as_str)});
        let Some(user) = user else {
            let invited = invitation::invite(&mut self.tx, self.permit.ctx(), tenant, email, role).await?;
            self.commit(Change::to(Category::User, "invitation", invited.id).detail(detail)).await?;
            return Ok(Placed::Invited(invited));
        };
        member_upsert(&mut self.tx, tenant, user, role, now).await?;
        keep_an_admin(&mut self.tx, tenant).await?;
        self.commit(Change::to(Category::User, "member", user).detail(detail)).await?;
        Ok(Placed::Member(user))
    }
}

async fn lock_members(tx: &mut Tx, tenant: TenantId) -> Result<()> {
    if tx.engine() == crate::db::Engine::Pg {
        tx.rows("SELECT user_id FROM member WHERE tenant_id = $1 FOR UPDATE", args![tenant]).await?;
    }
    Ok(())
}

impl Write<ops::MemberDelete> {
    /// Takes a user out of the tenant.
    pub async fn member_delete(mut self, user: UserId) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let own = self.permit.ctx().role_in(tenant).ok_or(Error::NotFound { what: "tenant" })?;
        lock_members(&mut self.tx, tenant).await?;
        let role = member_role(&mut self.tx, tenant, user).await?.ok_or(Error::NotFound { what: "member" })?;
        if !own.covers(role) {
            return Err(Error::Forbidden {
                message: format!("your role `{own}` cannot give or take a role that holds more than itself"),
            });
        }
        self.tx.execute("DELETE FROM member WHERE tenant_id = $1 AND user_id = $2", args![tenant, user]).await?;
        keep_an_admin(&mut self.tx, tenant).await?;
        let grants = crate::group::forget_member(&mut self.tx, tenant, user, now).await?;
        let detail = json!({"role": role.as_str(), "grants": grants});
        self.commit(Change::to(Category::User, "member", user).detail(detail)).await.map(drop)
    }
}

/// Members, with what is shown of them.
const MEMBER: &str = "SELECT u.id, u.email, u.name, m.role, m.created_at, u.disabled_at FROM member m JOIN app_user u ON u.id = m.user_id";

fn member_row(row: &Row) -> Result<MemberRow> {
    Ok(MemberRow {
        user: UserId::from_uuid(row.uuid(0)?),
        email: row.text(1)?,
        name: row.text(2)?,
        role: row.parse(3)?,
        created_at: row.time(4)?,
        disabled: row.opt_i64(5)?.is_some(),
    })
}

impl Read<ops::MemberList> {
    /// The tenant's members in the order of their ids.
    pub async fn member_list(&mut self, after: Option<UserId>, limit: u32) -> Result<Page<MemberRow, UserId>> {
        let tenant = self.tenant();
        let sql = format!("{MEMBER} WHERE m.tenant_id = $1 AND m.user_id > $2 ORDER BY m.user_id LIMIT $3");
        let after = after.map_or(uuid::Uuid::nil(), |id| id.as_uuid());
        let rows = self.tx.rows_built(sql, args![tenant, after, i64::from(limit) + 1]).await?;
        Ok(Page::cut(rows.iter().map(member_row).collect::<Result<_>>()?, limit, |row| row.user))
    }

    /// One member, by id or login name.
    pub async fn member_show(&mut self, named: &str) -> Result<MemberRow> {
        let tenant = self.tenant();
        let user = grant::member(&mut self.tx, tenant, named).await?;
        let sql = format!("{MEMBER} WHERE m.tenant_id = $1 AND m.user_id = $2");
        let rows = self.tx.rows_built(sql, args![tenant, user]).await?;
        rows.first().map(member_row).transpose()?.ok_or(Error::NotFound { what: "member" })
    }
}

impl Store {
    /// Who these users are, of whom a member of the tenant sees the ids in its data: those who are members too. Whoever else has an id, another
    /// tenant's user or nobody, is left out alike.
    pub async fn name_list(
        &self,
        permit: MemberPermit<member_ops::NameList>,
        users: &[UserId],
    ) -> Result<Vec<NameRow>> {
        let mut names = Vec::with_capacity(users.len());
        if users.is_empty() {
            return Ok(names);
        }
        let tenant = permit.tenant();
        let mut tx = self.db().read().await?;
        enter(&mut tx, tenant).await?;
        let sql = "SELECT u.id, u.email, u.name FROM member m JOIN app_user u ON u.id = m.user_id \
            WHERE m.tenant_id = $1 AND m.user_id IN (SELECT v.key FROM v)";
        let users = Batch::keys(users.iter().map(|user| user.as_uuid().as_u128()));
        tx.bulk_rows(&users, sql, args![tenant], |row| {
            names.push(NameRow { user: UserId::from_uuid(row.uuid(0)?), email: row.text(1)?, name: row.text(2)? });
            Ok(())
        })
        .await?;
        Ok(names)
    }

    /// Every tenant, for those who manage tenants.
    pub async fn tenant_list(
        &self,
        _permit: PlatformPermit<ops::TenantList>,
        after: Option<TenantId>,
        limit: u32,
    ) -> Result<Page<TenantRow, TenantId>> {
        let mut tx = self.db().read().await?;
        let rows = tx
            .rows(
                "SELECT id, slug, name, created_at FROM tenant WHERE deleted_at IS NULL AND id > $1 ORDER BY id LIMIT $2",
                args![after.map_or(uuid::Uuid::nil(), |id| id.as_uuid()), i64::from(limit) + 1],
            )
            .await?;
        let items = rows.iter().map(tenant_row).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row| row.id))
    }
}
