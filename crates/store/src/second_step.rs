//! Sign-ins of users who have a second factor: the first step leaves a row that is good for nothing but the second.

use access::{Actor, Grants, OpCtx};
use domain::{AuthMethod, Error, FactorKind, Result, SignInId, Timestamp, UserId};
use serde_json::json;

use crate::Store;
use crate::audit::{Category, Change};
use crate::db::{Tx, args};
use crate::factor::RecoveryKey;
use crate::prove::{Attempt, Checked, FactorProof, PasskeyAnswer, check};
use crate::session::{self, LiveSession, SessionStart};
use crate::user::{UserRow, append_everywhere, user_row};

/// How long the second step may take, in milliseconds.
const SECOND_STEP_MS: i64 = 5 * 60_000;

/// What a user can show as the second step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SignInMethods {
    /// A code of an authenticator app.
    pub totp: bool,
    /// A passkey.
    pub passkey: bool,
    /// A recovery code.
    pub recovery_code: bool,
}

/// A sign-in that waits for its second step.
#[derive(Debug, Clone, Copy)]
pub struct PendingSignIn {
    /// Its id.
    pub id: SignInId,
    /// Until when the second step is taken.
    pub expires_at: Timestamp,
    /// What it can be.
    pub methods: SignInMethods,
}

/// How a second step ended.
pub type Finished = Attempt<LiveSession>;

fn login_ctx(store: &Store, start: &SessionStart) -> OpCtx {
    let (clock, rng) = (store.clock().clone(), store.rng().clone());
    OpCtx::user(Actor::System { part: "login" }, Grants::default(), start.request, start.ip, clock, rng)
}

async fn methods(tx: &mut Tx, user: UserId) -> Result<SignInMethods> {
    let row = tx
        .row(
            "SELECT (SELECT COUNT(*) FROM factor WHERE user_id = $1 AND kind = $2 AND confirmed_at IS NOT NULL), \
               (SELECT COUNT(*) FROM factor WHERE user_id = $1 AND kind = $3 AND confirmed_at IS NOT NULL), \
               (SELECT COUNT(*) FROM recovery_code WHERE user_id = $1 AND used_at IS NULL)",
            args![user, FactorKind::Totp.as_str(), FactorKind::Passkey.as_str()],
        )
        .await?
        .ok_or(Error::NotFound { what: "user" })?;
    Ok(SignInMethods { totp: row.i64(0)? > 0, passkey: row.i64(1)? > 0, recovery_code: row.i64(2)? > 0 })
}

/// The user of a sign-in that waits and of no other, who may still sign in, and the first step.
async fn waiting(tx: &mut Tx, id: SignInId, now: Timestamp) -> Result<(UserRow, AuthMethod)> {
    let row = tx
        .row(
            "SELECT u.id, u.email, u.name, u.platform_admin, u.must_change_password, u.created_at, u.disabled_at, s.method \
             FROM sign_in s JOIN app_user u ON u.id = s.user_id WHERE s.id = $1 AND s.expires_at > $2 AND u.disabled_at IS NULL",
            args![id, now],
        )
        .await?
        .ok_or(Error::Unauthenticated)?;
    Ok((user_row(&row, 0)?, row.parse(7)?))
}

impl Store {
    /// Notes that a user's first step is done, where they have a second factor to show. None where they have not.
    pub async fn sign_in_begin(&self, user: &UserRow, start: &SessionStart) -> Result<Option<PendingSignIn>> {
        let now = self.clock().now();
        let mut look = self.db().read().await?;
        if !crate::factor::has_factor(&mut look, user.id).await? {
            return Ok(None);
        }
        drop(look);
        let mut tx = self.db().write().await?;
        let (id, expires_at) = (SignInId::generate(&**self.clock(), &**self.rng()), now.plus_millis(SECOND_STEP_MS));
        tx.execute("DELETE FROM sign_in WHERE expires_at <= $1", args![now]).await?;
        tx.execute(
            "INSERT INTO sign_in (id, user_id, method, expires_at) VALUES ($1, $2, $3, $4)",
            args![id, user.id, start.method.as_str(), expires_at],
        )
        .await?;
        let methods = methods(&mut tx, user.id).await?;
        let change = Change::to(Category::Authentication, "user", user.id)
            .detail(json!({"method": start.method.as_str(), "sign_in": id}));
        append_everywhere(&mut tx, &login_ctx(self, start), Some(user.id), "sign_in_begin", &change).await?;
        tx.commit().await?;
        Ok(Some(PendingSignIn { id, expires_at, methods }))
    }

    /// Whose sign-in waits for its second step.
    pub async fn sign_in_waiting(&self, id: SignInId) -> Result<UserId> {
        let mut tx = self.db().read().await?;
        Ok(waiting(&mut tx, id, self.clock().now()).await?.0.id)
    }

    /// The second step. `start` says where it comes from; what the first step was is known.
    pub async fn sign_in_finish(&self, id: SignInId, proof: &FactorProof, start: SessionStart) -> Result<Finished> {
        let (now, key) = (self.clock().now(), RecoveryKey::of(self).await?);
        let mut tx = self.db().write().await?;
        let (user, method) = waiting(&mut tx, id, now).await?;
        session::lock_user(&mut tx, user.id).await?;
        match check(&mut tx, self, &key, user.id, now, proof).await? {
            Checked::Right(by) => {
                let used = tx.execute("DELETE FROM sign_in WHERE id = $1", args![id]).await?;
                if used == 0 {
                    return Err(Error::Unauthenticated);
                }
                let start = SessionStart { method, second_factor: true, ..start };
                let session = session::begin(&mut tx, self, &user, &start, Some(by)).await?;
                tx.commit().await?;
                Ok(Attempt::Proved(session))
            }
            checked => self.sign_in_refused(tx, Some(user.id), checked, &start).await,
        }
    }

    /// A sign-in with a passkey alone, whose authenticator has to verify its user.
    pub async fn sign_in_by_passkey(&self, answer: PasskeyAnswer, start: SessionStart) -> Result<Finished> {
        let (now, key) = (self.clock().now(), RecoveryKey::of(self).await?);
        let mut tx = self.db().write().await?;
        let row = tx
            .row(
                "SELECT u.id, u.email, u.name, u.platform_admin, u.must_change_password, u.created_at, u.disabled_at \
                 FROM factor f JOIN app_user u ON u.id = f.user_id WHERE f.credential_id = $1 AND u.disabled_at IS NULL",
                args![answer.assertion.credential_id.as_slice()],
            )
            .await?;
        let user = row.map(|row| user_row(&row, 0)).transpose()?;
        let Some(user) = user else {
            return self.sign_in_refused(tx, None, Checked::Wrong("unknown passkey".to_owned()), &start).await;
        };
        session::lock_user(&mut tx, user.id).await?;
        let answer = PasskeyAnswer { verification: webauthn::UserVerification::Required, ..answer };
        match check(&mut tx, self, &key, user.id, now, &FactorProof::Passkey(answer)).await? {
            Checked::Right(by) => {
                let start = SessionStart { method: AuthMethod::Passkey, second_factor: true, ..start };
                let session = session::begin(&mut tx, self, &user, &start, Some(by)).await?;
                tx.commit().await?;
                Ok(Attempt::Proved(session))
            }
            checked => self.sign_in_refused(tx, Some(user.id), checked, &start).await,
        }
    }

    async fn sign_in_refused(
        &self,
        mut tx: Tx,
        user: Option<UserId>,
        checked: Checked,
        start: &SessionStart,
    ) -> Result<Finished> {
        let object = user.map_or_else(|| "unknown".to_owned(), |id| id.to_string());
        let change = checked.refusal(Change::to(Category::Authentication, "user", object));
        append_everywhere(&mut tx, &login_ctx(self, start), user, "session_create", &change).await?;
        tx.commit().await?;
        Ok(match checked {
            Checked::Wait(wait_s) => Attempt::Wait { wait_s },
            Checked::Right(_) | Checked::Wrong(_) => Attempt::Refused,
        })
    }
}
