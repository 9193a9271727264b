//! Roles that wait for somebody to sign in.
//!
//! Whoever gives a role to an address learns nothing about the address: whether it has an account here or not, the answer is an invitation,
//! and nothing but an invitation is made. It becomes a membership when somebody signs in as that address.
//!
//! Invariant: an invitation is never more than who made it is when it is taken up.

use access::{Actor, OpCtx, Role, ops};
use domain::{Email, Error, InvitationId, Limits, Result, TenantId, Timestamp, UserId};
use serde_json::json;

use crate::Page;
use crate::audit::{self, Category, Change};
use crate::condition::{self, MEMBERS};
use crate::db::{Engine, Row, Tx, args};
use crate::tenant::member_insert;
use crate::unit::{Read, Write, enter};

/// How long an invitation waits.
const LIFETIME_MS: i64 = 14 * 24 * 3_600_000;

/// An invitation.
#[derive(Debug, Clone)]
pub struct InvitationRow {
    /// Its id.
    pub id: InvitationId,
    /// Who is invited.
    pub email: String,
    /// To what.
    pub role: Role,
    /// Since when.
    pub created_at: Timestamp,
    /// Until when.
    pub expires_at: Timestamp,
}

fn invitation_row(row: &Row) -> Result<InvitationRow> {
    Ok(InvitationRow {
        id: InvitationId::from_uuid(row.uuid(0)?),
        email: row.text(1)?,
        role: row.parse(2)?,
        created_at: row.time(3)?,
        expires_at: row.time(4)?,
    })
}

/// What waits for an address: no invitation that is over.
pub(crate) async fn waiting(
    tx: &mut Tx,
    tenant: TenantId,
    email: &Email,
    now: Timestamp,
) -> Result<Option<InvitationRow>> {
    let sql = "SELECT id, email, role, created_at, expires_at FROM invitation WHERE tenant_id = $1 AND email = $2 AND expires_at > $3";
    let row = tx.row(sql, args![tenant, email.as_str(), now]).await?;
    row.as_ref().map(invitation_row).transpose()
}

/// Invites an address, or invites it to something else than before.
pub(crate) async fn invite(
    tx: &mut Tx,
    ctx: &OpCtx,
    tenant: TenantId,
    email: &Email,
    role: Role,
) -> Result<InvitationRow> {
    let now = ctx.clock().now();
    condition::alone(tx, tenant, MEMBERS).await?;
    tx.execute("DELETE FROM invitation WHERE tenant_id = $1 AND expires_at <= $2", args![tenant, now]).await?;
    let count = tx.row("SELECT COUNT(*) FROM invitation WHERE tenant_id = $1", args![tenant]).await?;
    let max = i64::try_from(Limits::TENANT_INVITATIONS).unwrap_or(i64::MAX);
    if count.map_or(Ok(0), |row| row.i64(0))? >= max {
        return Err(Error::conflict(format!("{max} invitations wait already: take some back")));
    }
    let by: Option<UserId> = match ctx.actor() {
        Actor::User { id, .. } => Some(*id),
        Actor::ApiKey { .. } | Actor::Agent { .. } | Actor::Relay { .. } | Actor::System { .. } => None,
    };
    let id = InvitationId::generate(ctx.clock(), ctx.rng());
    let row = tx
        .row(
            "INSERT INTO invitation (tenant_id, id, email, role, invited_by, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7) \
             ON CONFLICT (tenant_id, email) DO UPDATE SET role = excluded.role, invited_by = excluded.invited_by, \
               created_at = excluded.created_at, expires_at = excluded.expires_at \
             RETURNING id, email, role, created_at, expires_at",
            args![tenant, id, email.as_str(), role.as_str(), by, now, now.plus_millis(LIFETIME_MS)],
        )
        .await?
        .ok_or_else(|| Error::internal("an invitation returned nothing"))?;
    invitation_row(&row)
}

/// Whether who made an invitation could still give its role. The server itself could.
async fn inviter_covers(tx: &mut Tx, tenant: TenantId, by: Option<UserId>, role: Role) -> Result<bool> {
    let Some(by) = by else { return Ok(true) };
    let row = tx
        .row(
            "SELECT m.role FROM member m JOIN app_user u ON u.id = m.user_id \
             WHERE m.tenant_id = $1 AND m.user_id = $2 AND u.disabled_at IS NULL",
            args![tenant, by],
        )
        .await?;
    let own: Option<Role> = row.map(|row| row.parse(0)).transpose()?;
    Ok(own.is_some_and(|own| own.holds(access::Permission::UsersManage) && own.covers(role)))
}

/// Makes a user who signs in a member wherever their address is invited; each is in that tenant's log.
pub(crate) async fn take_up(tx: &mut Tx, ctx: &OpCtx, user: UserId, email: &Email) -> Result<()> {
    let now = ctx.clock().now();
    if tx.engine() == Engine::Pg {
        tx.execute("SELECT set_config('cairn.email', $1, true)", args![email.as_str()]).await?;
    }
    let rows = tx
        .rows(
            "SELECT i.tenant_id, i.id, i.role, i.invited_by FROM invitation i JOIN tenant t ON t.id = i.tenant_id \
             WHERE i.email = $1 AND i.expires_at > $2 AND t.deleted_at IS NULL ORDER BY i.tenant_id",
            args![email.as_str(), now],
        )
        .await?;
    for row in rows {
        let (tenant, id) = (TenantId::from_uuid(row.uuid(0)?), InvitationId::from_uuid(row.uuid(1)?));
        let (role, by): (Role, _) = (row.parse(2)?, row.opt_uuid(3)?.map(UserId::from_uuid));
        enter(tx, tenant).await?;
        // Who gives a role to this address at the same time finds an invitation or a member, and never neither.
        condition::alone(tx, tenant, MEMBERS).await?;
        let taken =
            tx.execute("DELETE FROM invitation WHERE tenant_id = $1 AND id = $2", args![tenant, id]).await? == 1;
        if taken && inviter_covers(tx, tenant, by, role).await? && member_insert(tx, tenant, user, role, now).await? {
            let detail = json!({"email": email.as_str(), "role": role.as_str(), "invited_by": by});
            let change = Change::to(Category::User, "member", user).detail(detail);
            audit::append(tx, tenant, ctx, "invitation_accept", &change).await?;
        }
    }
    Ok(())
}

impl Read<ops::MemberList> {
    /// The invitations that wait, in the order of their ids.
    pub async fn invitation_list(
        &mut self,
        after: Option<InvitationId>,
        limit: u32,
    ) -> Result<Page<InvitationRow, InvitationId>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let after = after.map_or(uuid::Uuid::nil(), |id| id.as_uuid());
        let rows = self
            .tx
            .rows(
                "SELECT id, email, role, created_at, expires_at FROM invitation \
                 WHERE tenant_id = $1 AND id > $2 AND expires_at > $3 ORDER BY id LIMIT $4",
                args![tenant, after, now, i64::from(limit) + 1],
            )
            .await?;
        let items = rows.iter().map(invitation_row).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row| row.id))
    }
}

impl Write<ops::InvitationDelete> {
    /// Takes an invitation back.
    pub async fn invitation_delete(mut self, id: InvitationId) -> Result<()> {
        let tenant = self.tenant();
        let row = self
            .tx
            .row(
                "DELETE FROM invitation WHERE tenant_id = $1 AND id = $2 RETURNING id, email, role, created_at, expires_at",
                args![tenant, id],
            )
            .await?
            .ok_or(Error::NotFound { what: "invitation" })?;
        let row = invitation_row(&row)?;
        let own = self.permit.ctx().role_in(tenant).ok_or(Error::NotFound { what: "tenant" })?;
        if !own.covers(row.role) {
            return Err(Error::Forbidden {
                message: format!("your role `{own}` cannot give or take a role that holds more than itself"),
            });
        }
        let detail = json!({"email": row.email, "role": row.role.as_str()});
        self.commit(Change::to(Category::User, "invitation", id).detail(detail)).await.map(drop)
    }
}
