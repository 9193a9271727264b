//! Users, their passwords and memberships.
//!
//! Signing in happens before there is a permit; what is here touches no tenant's data but the user's own memberships. Events of a user's
//! sign-in are written to the log of every tenant that they are a member of, and to the platform's.

use access::{Actor, OpCtx, PlatformPermit, Role, ops};
use domain::{DisplayName, Email, Error, Result, TenantId, Timestamp, UserId};
use serde_json::json;

use crate::audit::{self, Category, Change, Outcome};
use crate::db::{Engine, Row, Tx, args};
use crate::unit::{PlatformWrite, enter, platform_tenant};
use crate::{Page, Store, session};

/// A user to be made.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Their name for people.
    pub name: DisplayName,
    /// The stored form of their one-time password.
    pub password_hash: String,
    /// Whether they manage the platform.
    pub platform_admin: bool,
}

/// A user.
#[derive(Debug, Clone)]
pub struct UserRow {
    /// Their id.
    pub id: UserId,
    /// Their login name.
    pub email: Email,
    /// Their name.
    pub name: String,
    /// Whether they manage the platform.
    pub platform_admin: bool,
    /// Whether they must choose a password before anything else.
    pub must_change_password: bool,
    /// When they were made.
    pub created_at: Timestamp,
    /// Since when they cannot sign in.
    pub disabled_at: Option<Timestamp>,
}

/// A membership as the user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// The tenant.
    pub tenant: TenantId,
    /// Its name in URLs.
    pub slug: String,
    /// Its name for people.
    pub name: String,
    /// The user's role there.
    pub role: Role,
    /// Whether the tenant is closed to sessions without a second factor.
    pub second_factor_required: bool,
}

pub(crate) const USER_COLUMNS: &str = "id, email, name, platform_admin, must_change_password, created_at, disabled_at";

pub(crate) fn user_row(row: &Row, at: usize) -> Result<UserRow> {
    Ok(UserRow {
        id: UserId::from_uuid(row.uuid(at)?),
        email: row.parse(at + 1)?,
        name: row.text(at + 2)?,
        platform_admin: row.bool(at + 3)?,
        must_change_password: row.bool(at + 4)?,
        created_at: row.time(at + 5)?,
        disabled_at: row.opt_time(at + 6)?,
    })
}

pub(crate) async fn user_insert(tx: &mut Tx, store: &Store, email: &Email, new: &NewUser) -> Result<UserId> {
    let id = UserId::generate(&**store.clock(), &**store.rng());
    tx.execute(
        "INSERT INTO app_user (id, email, name, password_hash, must_change_password, platform_admin, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        args![
            id,
            email.as_str(),
            new.name.as_str(),
            new.password_hash.as_str(),
            true,
            new.platform_admin,
            store.clock().now()
        ],
    )
    .await
    .map_err(|error| match error {
        Error::Conflict { .. } => Error::conflict(format!("a user `{email}` already exists")),
        other => other,
    })?;
    Ok(id)
}

impl PlatformWrite<ops::UserCreate> {
    /// Makes a user, who must change the password at the first sign-in.
    pub async fn user_create(mut self, email: &Email, new: &NewUser) -> Result<UserId> {
        let id = user_insert(&mut self.tx, &self.store, email, new).await?;
        let detail = json!({"email": email.as_str(), "platform_admin": new.platform_admin});
        self.commit(Change::to(Category::User, "user", id).detail(detail)).await?;
        Ok(id)
    }
}

impl PlatformWrite<ops::UserUpdate> {
    /// Lets a user sign in or no more (which ends every session at once), and manage the platform or not. The last one who manages the
    /// platform stays.
    pub async fn user_update(
        mut self,
        id: UserId,
        disabled: Option<bool>,
        platform_admin: Option<bool>,
    ) -> Result<UserRow> {
        let now = self.store.clock().now();
        if self.tx.engine() == Engine::Pg {
            self.tx.rows("SELECT id FROM app_user WHERE platform_admin FOR UPDATE", args![]).await?;
        }
        let row = self
            .tx
            .row("SELECT id, email, name, platform_admin, must_change_password, created_at, disabled_at FROM app_user WHERE id = $1", args![id])
            .await?
            .ok_or(Error::NotFound { what: "user" })?;
        let mut user = user_row(&row, 0)?;
        if let Some(disabled) = disabled {
            user.disabled_at = disabled.then(|| user.disabled_at.unwrap_or(now));
        }
        user.platform_admin = platform_admin.unwrap_or(user.platform_admin);
        self.tx
            .execute(
                "UPDATE app_user SET disabled_at = $2, disabled_by = NULL, platform_admin = $3 WHERE id = $1",
                args![id, user.disabled_at, user.platform_admin],
            )
            .await?;
        let left =
            self.tx.row("SELECT 1 FROM app_user WHERE platform_admin AND disabled_at IS NULL LIMIT 1", args![]).await?;
        if left.is_none() {
            return Err(Error::conflict(
                "this is the last user who manages the platform: give somebody else the role first",
            ));
        }
        if user.disabled_at.is_some() {
            session::end_all(&mut self.tx, id, now).await?;
        }
        let detail = json!({"disabled": user.disabled_at.is_some(), "platform_admin": user.platform_admin});
        self.commit(Change::to(Category::User, "user", id).detail(detail)).await?;
        Ok(user)
    }
}

/// A user who exists.
pub(crate) async fn user_by_id(tx: &mut Tx, id: UserId) -> Result<UserRow> {
    let rows = tx.rows_built(format!("SELECT {USER_COLUMNS} FROM app_user WHERE id = $1"), args![id]).await?;
    user_row(rows.first().ok_or(Error::NotFound { what: "user" })?, 0)
}

/// The memberships of a user in tenants that are open.
pub(crate) async fn memberships(tx: &mut Tx, user: UserId) -> Result<Vec<Membership>> {
    if tx.engine() == Engine::Pg {
        tx.execute("SELECT set_config('cairn.user', $1, true)", args![user.as_uuid().to_string()]).await?;
    }
    let rows = tx
        .rows(
            "SELECT t.id, t.slug, t.name, m.role, t.second_factor_required FROM member m JOIN tenant t ON t.id = m.tenant_id \
             WHERE m.user_id = $1 AND t.deleted_at IS NULL ORDER BY t.slug",
            args![user],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Membership {
                tenant: TenantId::from_uuid(row.uuid(0)?),
                slug: row.text(1)?,
                name: row.text(2)?,
                role: row.parse(3)?,
                second_factor_required: row.bool(4)?,
            })
        })
        .collect()
}

/// Writes one event to the platform's log and to that of each of the user's tenants.
pub(crate) async fn append_everywhere(
    tx: &mut Tx,
    ctx: &OpCtx,
    user: Option<UserId>,
    action: &str,
    change: &Change,
) -> Result<()> {
    if let Some(user) = user {
        for member in memberships(tx, user).await? {
            enter(tx, member.tenant).await?;
            audit::append(tx, member.tenant, ctx, action, change).await?;
        }
    }
    enter(tx, platform_tenant()).await?;
    audit::append(tx, platform_tenant(), ctx, action, change).await.map(drop)
}

/// What signing in needs to know of a user.
#[derive(Debug)]
pub struct LoginUser {
    /// The user.
    pub user: UserRow,
    /// The stored form of the password; none for a user who signs in otherwise.
    pub password_hash: Option<String>,
}

impl Store {
    /// Finds a user who wants to sign in.
    pub async fn login_user(&self, email: &Email) -> Result<Option<LoginUser>> {
        let mut tx = self.db().read().await?;
        let row = tx
            .row(
                "SELECT id, email, name, platform_admin, must_change_password, created_at, disabled_at, password_hash \
                 FROM app_user WHERE email = $1",
                args![email.as_str()],
            )
            .await?;
        row.map(|row| Ok(LoginUser { user: user_row(&row, 0)?, password_hash: row.opt_text(7)? })).transpose()
    }

    /// Records a sign-in that was refused. The reason stands in the log only.
    pub async fn login_refused(&self, ctx: &OpCtx, email: &Email, user: Option<UserId>, reason: &str) -> Result<()> {
        let mut tx = self.db().write().await?;
        let object = user.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        let change = Change::to(Category::Authentication, "user", object)
            .outcome(Outcome::Deny)
            .detail(json!({"email": email.as_str(), "reason": reason}));
        append_everywhere(&mut tx, ctx, user, "session_create", &change).await?;
        tx.commit().await
    }

    /// Changes the actor's own password, which ends their other sessions. `before` is the stored form that the caller checked the old
    /// password against: if it changed meanwhile, nothing happens.
    pub async fn password_change(&self, ctx: &OpCtx, before: &str, after: &str) -> Result<()> {
        let Actor::User { id: user, session, .. } = ctx.actor() else { return Err(Error::Unauthenticated) };
        let (user, session) = (*user, *session);
        let mut tx = self.db().write().await?;
        let changed = tx
            .execute(
                "UPDATE app_user SET password_hash = $3, must_change_password = $4 WHERE id = $1 AND password_hash = $2",
                args![user, before, after, false],
            )
            .await?;
        if changed == 0 {
            return Err(Error::conflict("the password was changed meanwhile: sign in again"));
        }
        session::end_others(&mut tx, user, session, self.clock().now()).await?;
        append_everywhere(&mut tx, ctx, Some(user), "password_change", &Change::to(Category::User, "user", user))
            .await?;
        tx.commit().await
    }

    /// Every user, for those who manage the platform.
    pub async fn user_list(
        &self,
        _permit: PlatformPermit<ops::UserList>,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Page<UserRow, UserId>> {
        let mut tx = self.db().read().await?;
        let rows = tx
            .rows_built(
                format!("SELECT {USER_COLUMNS} FROM app_user WHERE id > $1 ORDER BY id LIMIT $2"),
                args![after.map_or(uuid::Uuid::nil(), |id| id.as_uuid()), i64::from(limit) + 1],
            )
            .await?;
        let items = rows.iter().map(|row| user_row(row, 0)).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row| row.id))
    }

    /// One user, for those who manage the platform.
    pub async fn user_show(&self, _permit: PlatformPermit<ops::UserList>, id: UserId) -> Result<UserRow> {
        let mut tx = self.db().read().await?;
        user_by_id(&mut tx, id).await
    }

    /// Whether any user exists: false only before the first start is done.
    pub async fn has_users(&self) -> Result<bool> {
        let mut tx = self.db().read().await?;
        Ok(tx.row("SELECT 1 FROM app_user LIMIT 1", args![]).await?.is_some())
    }
}
