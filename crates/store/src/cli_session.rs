//! Sessions of the command line: sessions like any other, which live longer, end when they are idle, and have a token of their own.
//!
//! Invariant: none is made but from a session that is alive, and under the user's lock, so that whatever ends that session (a changed password,
//! a disabled user) either comes first and stops it, or comes after and ends the new one too.

use std::net::IpAddr;

use domain::{Digest, DisplayName, Error, RequestId, Result, SessionId, UserId};
use serde_json::{Value, json};

use crate::at_once::Question;
use crate::db::{Engine, Tx, args};
use crate::session::{LiveSession, SessionStart};
use crate::user::user_by_id;
use crate::{Store, session};

/// How long one lives: 30 days.
pub const CLI_SESSION_MS: i64 = 30 * 24 * 3_600_000;
/// How long one lives without being used: 3 days.
pub const CLI_SESSION_IDLE_MS: i64 = 3 * 24 * 3_600_000;

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
             WHERE s.id = $1 AND s.revoked_at IS NULL AND s.expires_at > $2 AND s.last_used_at + s.idle_ms > $2 \
               AND u.disabled_at IS NULL",
            args![session, now],
        )
        .await?;
    Ok(live.map(|_| user))
}

/// Makes one out of a session of a user whose row is locked: it proves what that one proved, and when.
pub(crate) async fn insert(
    tx: &mut Tx,
    store: &Store,
    (from, user): (SessionId, UserId),
    request: RequestId,
    ip: Option<IpAddr>,
    new: &NewCliSession,
    detail: Value,
) -> Result<LiveSession> {
    let row = tx.row("SELECT method, second_factor, proved_at FROM session WHERE id = $1", args![from]).await?;
    let row = row.ok_or(Error::Unauthenticated)?;
    let start = SessionStart {
        method: row.parse(0)?,
        second_factor: row.bool(1)?,
        request,
        ip,
        agent: Some(new.client.to_string()),
        lifetime_ms: CLI_SESSION_MS,
        idle_ms: CLI_SESSION_IDLE_MS,
    };
    let proved_at = row.time(2)?;
    let user = user_by_id(tx, user).await?;
    let mut made = session::begin_as(tx, store, &user, &start, "cli_session_create", detail).await?;
    tx.execute("UPDATE session SET proved_at = $2 WHERE id = $1", args![made.id, proved_at]).await?;
    made.proved_at = proved_at;
    tx.execute(
        "INSERT INTO cli_session (session_id, lookup, secret_hash, client) VALUES ($1, $2, $3, $4)",
        args![made.id, new.lookup.as_str(), new.secret_hash, new.client.as_str()],
    )
    .await?;
    Ok(made)
}

/// What a token's public id leads to.
const FOUND: Question = Question {
    name: "cli_session_found",
    kind: "text",
    enter: &[],
    sql: "SELECT session_id, secret_hash FROM cli_session WHERE lookup = $1",
};

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
        let made = insert(&mut tx, self, (from, user), request, ip, new, detail).await?;
        tx.commit().await?;
        Ok(made)
    }

    /// What a token's public id leads to. The caller still has to check the secret, and that the session is alive.
    pub async fn cli_session_find(&self, lookup: &str) -> Result<Option<FoundCliSession>> {
        let read = async {
            let rows = self.db().at_once(&FOUND, lookup.into()).await?;
            rows.first()
                .map(|row| {
                    Ok(FoundCliSession { session: SessionId::from_uuid(row.uuid(0)?), secret_hash: row.digest(1)? })
                })
                .transpose()
        };
        self.inner.cli_sessions.or_read(self, lookup.to_owned(), read).await
    }
}
