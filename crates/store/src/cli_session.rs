//! Sessions of the command line: sessions like any other, which live longer, end when they are idle, and have a token of their own.
//!
//! Invariant: none is made but from a session that is alive, and under the user's lock, so that whatever ends that session (a changed password,
//! a disabled user) either comes first and stops it, or comes after and ends the new one too.

use std::net::IpAddr;
use std::sync::Arc;

use access::{Actor, Grants, OpCtx};
use domain::{Digest, DisplayName, Error, RequestId, Result, SessionId, UserId};
use serde_json::{Value, json};

use crate::audit::{Category, Change};
use crate::db::{Engine, Tx, args};
use crate::user::{LiveSession, append_everywhere, memberships, user_by_id};
use crate::{Store, invitation};

/// How long one lives: 30 days.
pub const CLI_SESSION_MS: i64 = 30 * 24 * 3_600_000;
/// How long one lives without being used: 3 days.
pub const CLI_SESSION_IDLE_MS: i64 = 3 * 24 * 3_600_000;
/// Its use is written down at most this often.
const SEEN_MS: i64 = 60_000;

/// A session of the command line to be made.
#[derive(Debug, Clone)]
pub struct NewCliSession {
    /// The public id of its token.
    pub lookup: String,
    /// The stored form of its token's secret.
    pub secret_hash: Digest,
    /// What asked for it, in its own words.
    pub client: DisplayName,
}

/// What a token's public id leads to.
#[derive(Debug, Clone)]
pub struct FoundCliSession {
    /// The session, which may have ended.
    pub session: SessionId,
    /// What the secret has to hash to.
    pub secret_hash: Digest,
    seen_at: domain::Timestamp,
}

/// The user of a session that is alive, with the user's row locked.
pub(crate) async fn lock_live(tx: &mut Tx, store: &Store, session: SessionId) -> Result<Option<UserId>> {
    let now = store.clock().now();
    let Some(row) = tx.row("SELECT user_id FROM session WHERE id = $1", args![session]).await? else { return Ok(None) };
    let user = UserId::from_uuid(row.uuid(0)?);
    if tx.engine() == Engine::Pg {
        tx.rows("SELECT id FROM app_user WHERE id = $1 FOR UPDATE", args![user]).await?;
    }
    let live = tx
        .row(
            "SELECT 1 FROM session s JOIN app_user u ON u.id = s.user_id \
             WHERE s.id = $1 AND s.revoked_at IS NULL AND s.expires_at > $2 AND u.disabled_at IS NULL",
            args![session, now],
        )
        .await?;
    Ok(live.map(|_| user))
}

/// Makes one for a user whose row is locked.
pub(crate) async fn insert(
    tx: &mut Tx,
    store: &Store,
    user: UserId,
    request: RequestId,
    ip: Option<IpAddr>,
    new: &NewCliSession,
    detail: Value,
) -> Result<LiveSession> {
    let (clock, rng) = (store.clock(), store.rng());
    let (id, now) = (SessionId::generate(&**clock, &**rng), clock.now());
    let (user, expires_at) = (user_by_id(tx, user).await?, now.plus_millis(CLI_SESSION_MS));
    tx.execute(
        "INSERT INTO session (id, user_id, created_at, expires_at, ip) VALUES ($1, $2, $3, $4, $5)",
        args![id, user.id, now, expires_at, ip.map(|ip| ip.to_string())],
    )
    .await?;
    tx.execute(
        "INSERT INTO cli_session (session_id, lookup, secret_hash, client, seen_at) VALUES ($1, $2, $3, $4, $5)",
        args![id, new.lookup.as_str(), new.secret_hash, new.client.as_str(), now],
    )
    .await?;
    let actor = Actor::User { id: user.id, email: user.email.clone(), session: id };
    let ctx = OpCtx::user(actor, Grants::default(), request, ip, Arc::clone(clock), Arc::clone(rng));
    invitation::take_up(tx, &ctx, user.id, &user.email).await?;
    let change = Change::to(Category::Authentication, "session", id).detail(detail);
    append_everywhere(tx, &ctx, Some(user.id), "cli_session_create", &change).await?;
    let memberships = memberships(tx, user.id).await?;
    Ok(LiveSession { id, expires_at, user, memberships })
}

impl Store {
    /// Makes a session of the command line for the user of a session that is alive.
    pub async fn cli_session_create(
        &self,
        from: SessionId,
        request: RequestId,
        ip: Option<IpAddr>,
        new: &NewCliSession,
    ) -> Result<LiveSession> {
        let mut tx = self.db().write().await?;
        let user = lock_live(&mut tx, self, from).await?.ok_or(Error::Unauthenticated)?;
        let detail = json!({"from": from, "client": new.client.as_str()});
        let made = insert(&mut tx, self, user, request, ip, new, detail).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// What a token's public id leads to, unless it was idle for too long. The caller still has to check the secret, and that the session
    /// is alive.
    pub async fn cli_session_find(&self, lookup: &str) -> Result<Option<FoundCliSession>> {
        let mut tx = self.db().read().await?;
        let row = tx
            .row(
                "SELECT session_id, secret_hash, seen_at FROM cli_session WHERE lookup = $1 AND seen_at > $2",
                args![lookup, self.clock().now().plus_millis(-CLI_SESSION_IDLE_MS)],
            )
            .await?;
        row.map(|row| {
            Ok(FoundCliSession {
                session: SessionId::from_uuid(row.uuid(0)?),
                secret_hash: row.digest(1)?,
                seen_at: row.time(2)?,
            })
        })
        .transpose()
    }

    /// Writes down that the session was used, at most once a minute.
    pub async fn cli_session_used(&self, found: &FoundCliSession) -> Result<()> {
        let now = self.clock().now();
        if now.millis_since(found.seen_at) < SEEN_MS {
            return Ok(());
        }
        let mut tx = self.db().write().await?;
        tx.execute(
            "UPDATE cli_session SET seen_at = $2 WHERE session_id = $1 AND seen_at < $2",
            args![found.session, now],
        )
        .await?;
        tx.commit().await
    }
}
