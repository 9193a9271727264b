//! Sessions: begun by a sign-in, looked at by every request, ended by their user, by an administrator, or by themselves.
//!
//! A session ends at `expires_at`, whatever happens, and when it was not used for its `idle_ms`. Its last use is written once a minute at
//! most, so that looking stays a read. What a page asks by itself, while nobody is at work, is no use (ADR 0010).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use access::{Actor, Grants, OpCtx, OwnOperation, OwnPermit, own};
use domain::{AuthMethod, Error, RequestId, Result, SessionId, TenantId, Timestamp, UserId};
use serde_json::{Value, json};

use crate::at_once::Question;
use crate::audit::{Category, Change};
use crate::db::{Engine, Row, Tx, args};
use crate::user::{UserRow, append_everywhere, memberships, user_row};
use crate::{Membership, Page, Store, invitation};

/// How old the written last use may be, in milliseconds.
const USE_WRITTEN_MS: i64 = 60_000;
/// How long a request waits for its session's last use to be written: another writer may be at work, and the next minute writes it too.
const USE_WAIT: Duration = Duration::from_millis(500);

/// A session to begin.
#[derive(Debug, Clone)]
pub struct SessionStart {
    /// The first step of the sign-in.
    pub method: AuthMethod,
    /// Whether a second factor was shown.
    pub second_factor: bool,
    /// The request.
    pub request: RequestId,
    /// Where it came from.
    pub ip: Option<IpAddr>,
    /// What the client calls itself.
    pub agent: Option<String>,
    /// How long the session lives, in milliseconds.
    pub lifetime_ms: i64,
    /// How long it lives without being used, in milliseconds.
    pub idle_ms: i64,
}

/// A live session with its user and what the user may do at this moment.
#[derive(Debug, Clone)]
pub struct LiveSession {
    /// The session.
    pub id: SessionId,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Whether a second factor was shown in it.
    pub second_factor: bool,
    /// When its user last proved who they are.
    pub proved_at: Timestamp,
    /// When it ends if it is not used until then, as far as that is written down.
    pub idle_ends_at: Timestamp,
    /// How long it lives without being used, in milliseconds.
    pub idle_ms: i64,
    /// Whether its user has a second factor.
    pub has_factor: bool,
    /// Whether its user has a password here: who comes by an identity provider only has none.
    pub has_password: bool,
    /// Its user.
    pub user: UserRow,
    /// Their memberships.
    pub memberships: Vec<Membership>,
}

impl LiveSession {
    /// The roles, for an [`OpCtx`].
    pub fn grants(&self) -> Grants {
        Grants {
            platform_admin: self.user.platform_admin,
            tenants: self.memberships.iter().map(|member| (member.tenant, member.role)).collect(),
        }
    }
}

/// A session as its user sees it.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// The session.
    pub id: SessionId,
    /// When it began.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// Where it was begun.
    pub ip: Option<String>,
    /// What the client called itself.
    pub agent: Option<String>,
    /// The first step of the sign-in.
    pub method: AuthMethod,
    /// Whether a second factor was shown.
    pub second_factor: bool,
}

fn session_row(row: &Row) -> Result<SessionRow> {
    Ok(SessionRow {
        id: SessionId::from_uuid(row.uuid(0)?),
        created_at: row.time(1)?,
        last_used_at: row.time(2)?,
        expires_at: row.time(3)?,
        ip: row.opt_text(4)?,
        agent: row.opt_text(5)?,
        method: row.parse(6)?,
        second_factor: row.bool(7)?,
    })
}

/// Ends every session of a user, and every sign-in that is between its steps.
pub(crate) async fn end_all(tx: &mut Tx, user: UserId, now: Timestamp) -> Result<u64> {
    tx.execute("DELETE FROM sign_in WHERE user_id = $1", args![user]).await?;
    tx.execute("UPDATE session SET revoked_at = $2 WHERE user_id = $1 AND revoked_at IS NULL", args![user, now]).await
}

/// Ends every session of a user but one, and every sign-in that is between its steps.
pub(crate) async fn end_others(tx: &mut Tx, user: UserId, kept: SessionId, now: Timestamp) -> Result<u64> {
    tx.execute("DELETE FROM sign_in WHERE user_id = $1", args![user]).await?;
    tx.execute(
        "UPDATE session SET revoked_at = $3 WHERE user_id = $1 AND id <> $2 AND revoked_at IS NULL",
        args![user, kept, now],
    )
    .await
}

/// Whether a user can sign in with a password of this installation.
async fn has_password(tx: &mut Tx, user: UserId) -> Result<bool> {
    let row = tx.row("SELECT 1 FROM app_user WHERE id = $1 AND password_hash IS NOT NULL", args![user]).await?;
    Ok(row.is_some())
}

/// Makes what begins sessions of a user and what gives them a first factor go one after the other. SQLite has one writer anyway.
pub(crate) async fn lock_user(tx: &mut Tx, user: UserId) -> Result<()> {
    if tx.engine() == Engine::Pg {
        tx.row("SELECT 1 FROM app_user WHERE id = $1 FOR UPDATE", args![user]).await?;
    }
    Ok(())
}

/// Begins a session in a transaction that may hold more; never one without a second factor for a user who has one. `by`: the second factor that was shown.
pub(crate) async fn begin(
    tx: &mut Tx,
    store: &Store,
    user: &UserRow,
    start: &SessionStart,
    by: Option<&'static str>,
) -> Result<LiveSession> {
    let detail = json!({"method": start.method.as_str(), "second_factor": by});
    begin_as(tx, store, user, start, "session_create", detail).await
}

/// The same, recorded as the operation `action`.
pub(crate) async fn begin_as(
    tx: &mut Tx,
    store: &Store,
    user: &UserRow,
    start: &SessionStart,
    action: &'static str,
    detail: Value,
) -> Result<LiveSession> {
    let (clock, rng) = (store.clock().clone(), store.rng().clone());
    let (id, now) = (SessionId::generate(&*clock, &*rng), clock.now());
    let expires_at = now.plus_millis(start.lifetime_ms);
    lock_user(tx, user.id).await?;
    let has_factor = crate::factor::has_factor(tx, user.id).await?;
    let has_password = has_password(tx, user.id).await?;
    if has_factor && !start.second_factor {
        return Err(Error::conflict("a second factor was added meanwhile: sign in again"));
    }
    let actor = Actor::User { id: user.id, email: user.email.clone(), session: id };
    let ctx = OpCtx::user(actor, Grants::default(), start.request, start.ip, Arc::clone(&clock), Arc::clone(&rng));
    tx.execute(
        "INSERT INTO session (id, user_id, created_at, expires_at, ip, method, second_factor, agent, idle_ms, last_used_at, proved_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $3, $3)",
        args![
            id,
            user.id,
            now,
            expires_at,
            start.ip.map(|ip| ip.to_string()),
            start.method.as_str(),
            start.second_factor,
            start.agent.clone(),
            start.idle_ms
        ],
    )
    .await?;
    invitation::take_up(tx, &ctx, user.id, &user.email).await?;
    let change = Change::to(Category::Authentication, "session", id).detail(detail);
    append_everywhere(tx, &ctx, Some(user.id), action, &change).await?;
    let memberships = memberships(tx, user.id).await?;
    Ok(LiveSession {
        id,
        expires_at,
        second_factor: start.second_factor,
        proved_at: now,
        idle_ends_at: now.plus_millis(start.idle_ms),
        idle_ms: start.idle_ms,
        has_factor,
        has_password,
        user: user.clone(),
        memberships,
    })
}

/// A session that nobody ended, of a user who is not disabled, and their memberships: a row for each, and one for a user who has none.
const FOUND: Question = Question {
    name: "session_found",
    kind: "uuid",
    // Whose memberships may be seen.
    enter: &["SELECT set_config('cairn.user', user_id::text, true) FROM session WHERE id = $1"],
    sql: "SELECT u.id, u.email, u.name, u.platform_admin, u.must_change_password, u.created_at, u.disabled_at, s.expires_at, \
     s.second_factor, s.proved_at, s.last_used_at, s.idle_ms, \
     (SELECT COUNT(*) FROM factor f WHERE f.user_id = u.id AND f.confirmed_at IS NOT NULL), \
     CAST(CASE WHEN u.password_hash IS NULL THEN 0 ELSE 1 END AS BIGINT), \
     t.id, t.slug, t.name, m.role, t.second_factor_required \
     FROM session s JOIN app_user u ON u.id = s.user_id LEFT JOIN member m ON m.user_id = u.id LEFT JOIN tenant t ON t.id = m.tenant_id AND t.deleted_at IS NULL \
     WHERE s.id = $1 AND s.revoked_at IS NULL AND u.disabled_at IS NULL ORDER BY t.slug",
};

/// A session as it is stored, alive or not at this moment.
#[derive(Clone)]
pub(crate) struct Found {
    session: LiveSession,
    last_used_at: Timestamp,
}

impl Found {
    fn read(id: SessionId, rows: &[Row]) -> Result<Option<Self>> {
        let Some(row) = rows.first() else { return Ok(None) };
        let mut memberships = Vec::new();
        for row in rows {
            // Without a tenant: no membership, or that of a tenant which is no more.
            if let Some(tenant) = row.opt_uuid(14)? {
                memberships.push(Membership {
                    tenant: TenantId::from_uuid(tenant),
                    slug: row.text(15)?,
                    name: row.text(16)?,
                    role: row.parse(17)?,
                    second_factor_required: row.bool(18)?,
                });
            }
        }
        let (last_used_at, idle_ms) = (row.time(10)?, row.i64(11)?);
        let session = LiveSession {
            id,
            expires_at: row.time(7)?,
            second_factor: row.bool(8)?,
            proved_at: row.time(9)?,
            idle_ends_at: last_used_at.plus_millis(idle_ms),
            idle_ms,
            has_factor: row.i64(12)? > 0,
            has_password: row.i64(13)? > 0,
            user: user_row(row, 0)?,
            memberships,
        };
        Ok(Some(Self { session, last_used_at }))
    }

    fn is_alive(&self, now: Timestamp) -> bool {
        self.session.expires_at > now && self.session.idle_ends_at > now
    }
}

impl Store {
    /// Begins a session.
    pub async fn session_create(&self, user: &UserRow, start: &SessionStart) -> Result<LiveSession> {
        let mut tx = self.db().write().await?;
        let session = begin(&mut tx, self, user, start, None).await?;
        tx.commit().await?;
        Ok(session)
    }

    /// The session, if it is alive at this moment: not expired, not idle, not revoked, its user not disabled. Looking is using.
    pub async fn session_live(&self, id: SessionId) -> Result<Option<LiveSession>> {
        let now = self.clock().now();
        let Some(mut found) = self.session_alive(id, now).await? else { return Ok(None) };
        if now.millis_since(found.last_used_at) >= USE_WRITTEN_MS {
            match tokio::time::timeout(USE_WAIT, self.session_used(id, now)).await {
                Ok(Ok(())) => found.session.idle_ends_at = now.plus_millis(found.session.idle_ms),
                Ok(Err(error)) => {
                    tracing::warn!(session = %id, %error, "the last use of a session could not be written");
                }
                Err(_) => {
                    tracing::debug!(session = %id, "the last use of a session was not written: the database is busy");
                }
            }
        }
        Ok(Some(found.session))
    }

    /// The same where nobody is at work: a page that asks by itself. Looking like this is no use, so that what is left alone ends.
    pub async fn session_glance(&self, id: SessionId) -> Result<Option<LiveSession>> {
        let found = self.session_alive(id, self.clock().now()).await?;
        Ok(found.map(|found| found.session))
    }

    async fn session_alive(&self, id: SessionId, now: Timestamp) -> Result<Option<Found>> {
        let found = self.inner.sessions.or_read(self, id, self.session_find(id)).await?;
        Ok(found.filter(|found| found.is_alive(now)))
    }

    async fn session_find(&self, id: SessionId) -> Result<Option<Found>> {
        Found::read(id, &self.db().at_once(&FOUND, id.into()).await?)
    }

    async fn session_used(&self, id: SessionId, now: Timestamp) -> Result<()> {
        let mut tx = self.db().write().await?;
        // A session that ended meanwhile stays as it is.
        tx.execute(
            "UPDATE session SET last_used_at = $2 WHERE id = $1 AND last_used_at < $2 AND revoked_at IS NULL",
            args![id, now],
        )
        .await?;
        tx.commit().await
    }

    /// Ends the actor's own session.
    pub async fn session_revoke(&self, ctx: &OpCtx) -> Result<()> {
        let Actor::User { id: user, session, .. } = ctx.actor() else { return Err(Error::Unauthenticated) };
        let (user, session) = (*user, *session);
        let mut tx = self.db().write().await?;
        tx.execute(
            "UPDATE session SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL",
            args![session, self.clock().now()],
        )
        .await?;
        append_everywhere(
            &mut tx,
            ctx,
            Some(user),
            "session_revoke",
            &Change::to(Category::Authentication, "session", session),
        )
        .await?;
        tx.commit().await
    }

    /// The actor's own live sessions in the order in which they began.
    pub async fn session_list(
        &self,
        permit: OwnPermit<own::SessionList>,
        after: Option<SessionId>,
        limit: u32,
    ) -> Result<Page<SessionRow, SessionId>> {
        let mut tx = self.db().read().await?;
        let rows = tx
            .rows(
                "SELECT id, created_at, last_used_at, expires_at, ip, agent, method, second_factor FROM session \
                 WHERE user_id = $1 AND id > $2 AND revoked_at IS NULL AND expires_at > $3 AND last_used_at + idle_ms > $3 \
                 ORDER BY id LIMIT $4",
                args![
                    permit.user(),
                    after.map_or(uuid::Uuid::nil(), |id| id.as_uuid()),
                    self.clock().now(),
                    i64::from(limit) + 1
                ],
            )
            .await?;
        let items = rows.iter().map(session_row).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row| row.id))
    }

    /// Ends one of the actor's own sessions.
    pub async fn session_end(&self, permit: OwnPermit<own::SessionEnd>, id: SessionId) -> Result<()> {
        let mut tx = self.db().write().await?;
        let ended = tx
            .execute(
                "UPDATE session SET revoked_at = $3 WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL",
                args![id, permit.user(), self.clock().now()],
            )
            .await?;
        if ended == 0 {
            return Err(Error::NotFound { what: "session" });
        }
        let change = Change::to(Category::Authentication, "session", id);
        own_commit(tx, &permit, &change).await
    }

    /// Ends the actor's own sessions, the current one too or not; how many.
    pub async fn sessions_end(&self, permit: OwnPermit<own::SessionsEnd>, including_current: bool) -> Result<u64> {
        let (user, now) = (permit.user(), self.clock().now());
        let mut tx = self.db().write().await?;
        let ended = if including_current {
            end_all(&mut tx, user, now).await?
        } else {
            end_others(&mut tx, user, permit.session(), now).await?
        };
        let detail = json!({"ended": ended, "including_current": including_current});
        own_commit(tx, &permit, &Change::to(Category::Authentication, "user", user).detail(detail)).await?;
        Ok(ended)
    }

    /// The actor has just shown the password.
    pub async fn session_prove(&self, permit: OwnPermit<own::SessionProve>) -> Result<Timestamp> {
        let mut tx = self.db().write().await?;
        let now = prove(&mut tx, self, permit.session(), false).await?;
        let detail = json!({"by": "password"});
        let change = Change::to(Category::Authentication, "session", permit.session()).detail(detail);
        own_commit(tx, &permit, &change).await?;
        Ok(now)
    }
}

/// Notes that a session's user has just proved who they are. It makes the session live no longer.
pub(crate) async fn prove(tx: &mut Tx, store: &Store, id: SessionId, by_factor: bool) -> Result<Timestamp> {
    let now = store.clock().now();
    let proved = tx
        .execute(
            "UPDATE session SET proved_at = $2, second_factor = (second_factor OR $3) WHERE id = $1 AND revoked_at IS NULL",
            args![id, now, by_factor],
        )
        .await?;
    if proved == 0 { Err(Error::Unauthenticated) } else { Ok(now) }
}

/// Keeps a change of one's own account with its records.
pub(crate) async fn own_commit<O: OwnOperation>(mut tx: Tx, permit: &OwnPermit<O>, change: &Change) -> Result<()> {
    append_everywhere(&mut tx, permit.ctx(), Some(permit.user()), O::NAME, change).await?;
    tx.commit().await
}
