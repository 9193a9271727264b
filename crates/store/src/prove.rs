//! Showing a second factor: one transaction in which the proof is checked, used up, and recorded, so that none counts twice.
//!
//! Only an authenticator app's six digits can be guessed. Wrong ones make the next wait longer, in the row of their user, which also
//! puts guesses that come at once behind one another. Passkeys and recovery codes go on working meanwhile, so whoever guesses with a stolen
//! password locks nobody out.

use access::{OwnPermit, own};
use crypto::totp;
use domain::{FactorId, FactorKind, Result, Timestamp, UserId};
use serde_json::json;
use webauthn::{Assertion, PublicKey, RelyingParty, UserVerification};

use crate::Store;
use crate::audit::{Category, Change, Outcome};
use crate::db::{Tx, args};
use crate::factor::{self, RecoveryKey, answer_once, plain_code};
use crate::session::{self, own_commit};

/// Wrong codes that cost no waiting.
const WRONG_FREE: i64 = 5;
/// The first wait, in seconds; each further wrong code doubles it.
const WAIT_S: i64 = 30;
/// The longest wait, in seconds: a day.
const WAIT_S_MAX: i64 = 86_400;

/// What a user shows.
#[derive(Debug, Clone)]
pub enum FactorProof {
    /// A code of an authenticator app.
    Totp(String),
    /// A recovery code.
    Recovery(String),
    /// A passkey's answer to a challenge.
    Passkey(PasskeyAnswer),
}

/// A passkey's answer to a challenge that the caller has found to be its own and alive.
#[derive(Debug, Clone)]
pub struct PasskeyAnswer {
    /// For whom and where it has to be.
    pub party: RelyingParty,
    /// The challenge's bytes.
    pub challenge: Vec<u8>,
    /// Its id: it is answered once.
    pub challenge_id: domain::ChallengeId,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Whether the authenticator must have verified its user.
    pub verification: UserVerification,
    /// The answer.
    pub assertion: Assertion,
}

/// How a try ended. All of it is recorded.
#[derive(Debug)]
pub enum Attempt<T> {
    /// It was right.
    Proved(T),
    /// It was wrong; why stands in the log only.
    Refused,
    /// It was not looked at: too many wrong ones before.
    Wait {
        /// For how long, in seconds.
        wait_s: u64,
    },
}

/// What a proof was found to be.
pub(crate) enum Checked {
    Right(&'static str),
    Wrong(String),
    Wait(u64),
}

impl Checked {
    /// The record of what was not right.
    pub(crate) fn refusal(&self, change: Change) -> Change {
        match self {
            Self::Right(_) => change,
            Self::Wrong(reason) => change.outcome(Outcome::Deny).detail(json!({"reason": reason})),
            Self::Wait(wait_s) => {
                change.outcome(Outcome::Deny).detail(json!({"reason": "too many wrong codes", "wait_s": wait_s}))
            }
        }
    }
}

/// Checks a proof and uses it up. What it changes is the caller's to commit, with its record.
pub(crate) async fn check(
    tx: &mut Tx,
    store: &Store,
    key: &RecoveryKey,
    user: UserId,
    now: Timestamp,
    proof: &FactorProof,
) -> Result<Checked> {
    match proof {
        FactorProof::Totp(code) => totp(tx, store, user, now, code).await,
        FactorProof::Recovery(code) => {
            let used = tx
                .execute(
                    "UPDATE recovery_code SET used_at = $3 WHERE user_id = $1 AND mac = $2 AND used_at IS NULL",
                    args![user, key.mac(user, &plain_code(code)), now],
                )
                .await?;
            Ok(if used == 1 {
                Checked::Right("recovery-code")
            } else {
                Checked::Wrong("wrong recovery code".to_owned())
            })
        }
        FactorProof::Passkey(answer) => passkey(tx, user, now, answer).await,
    }
}

async fn totp(tx: &mut Tx, store: &Store, user: UserId, now: Timestamp, code: &str) -> Result<Checked> {
    tx.execute(
        "INSERT INTO factor_guess (user_id, wrong, wait_until) VALUES ($1, 0, 0) ON CONFLICT (user_id) DO NOTHING",
        args![user],
    )
    .await?;
    // Counted before it is looked at: of guesses that come at once, each sees those before it.
    let Some(row) = tx
        .row("UPDATE factor_guess SET wrong = wrong + 1 WHERE user_id = $1 RETURNING wrong, wait_until", args![user])
        .await?
    else {
        return Ok(Checked::Wrong("no such user".to_owned()));
    };
    let (wrong, wait_until) = (row.i64(0)?, row.time(1)?);
    if wait_until > now {
        tx.execute("UPDATE factor_guess SET wrong = wrong - 1 WHERE user_id = $1", args![user]).await?;
        return Ok(Checked::Wait(u64::try_from(wait_until.millis_since(now)).unwrap_or(0).div_ceil(1_000)));
    }
    let rows = tx
        .rows(
            "SELECT id, sealed, last_step FROM factor WHERE user_id = $1 AND kind = $2 AND confirmed_at IS NOT NULL ORDER BY id",
            args![user, FactorKind::Totp.as_str()],
        )
        .await?;
    let mut reason = "wrong code";
    for row in rows {
        let (id, last_step) = (FactorId::from_uuid(row.uuid(0)?), row.i64(2)?);
        let secret = factor::open(tx, store, user, id, &row.bytes(1)?).await?;
        if let Some(step) = totp::matching_step(secret.expose(), code, now.as_seconds(), last_step) {
            let used = tx
                .execute(
                    "UPDATE factor SET last_step = $2, last_used_at = $3 WHERE id = $1 AND last_step < $2",
                    args![id, step, now],
                )
                .await?;
            if used == 1 {
                tx.execute("UPDATE factor_guess SET wrong = 0, wait_until = 0 WHERE user_id = $1", args![user]).await?;
                return Ok(Checked::Right(FactorKind::Totp.as_str()));
            }
        }
        if totp::matching_step(secret.expose(), code, now.as_seconds(), -1).is_some() {
            reason = "a code that was used already";
        }
    }
    if wrong >= WRONG_FREE {
        let doubled = u32::try_from(wrong - WRONG_FREE).ok().and_then(|times| WAIT_S.checked_shl(times.min(20)));
        let wait_ms = doubled.map_or(WAIT_S_MAX, |wait| wait.min(WAIT_S_MAX)) * 1_000;
        let until = now.plus_millis(wait_ms);
        tx.execute("UPDATE factor_guess SET wait_until = $2 WHERE user_id = $1", args![user, until]).await?;
    }
    Ok(Checked::Wrong(reason.to_owned()))
}

async fn passkey(tx: &mut Tx, user: UserId, now: Timestamp, answer: &PasskeyAnswer) -> Result<Checked> {
    let wrong = |reason: &str| Ok(Checked::Wrong(reason.to_owned()));
    if answer.expires_at <= now {
        return wrong("a challenge that has expired");
    }
    let row = tx
        .row(
            "SELECT id, public_key, sign_count FROM factor WHERE credential_id = $1 AND user_id = $2 AND confirmed_at IS NOT NULL",
            args![answer.assertion.credential_id.as_slice(), user],
        )
        .await?;
    let Some(row) = row else { return wrong("a passkey that is not theirs") };
    let (id, stored) = (FactorId::from_uuid(row.uuid(0)?), row.i64(2)?);
    let key = PublicKey::from_bytes(&row.bytes(1)?)
        .map_err(|_| domain::Error::internal("the key of a passkey cannot be read: the row was changed"))?;
    let count = u32::try_from(stored).unwrap_or(u32::MAX);
    let (party, challenge) = (&answer.party, answer.challenge.as_slice());
    let done = match webauthn::authenticate(party, challenge, answer.verification, &key, count, &answer.assertion) {
        Ok(done) => done,
        Err(refused) => {
            if refused == webauthn::Refused::Counter {
                tracing::warn!(factor = %id, "the counter of a passkey went back: it may have been copied");
            }
            return Ok(Checked::Wrong(format!("a passkey's answer {refused}")));
        }
    };
    match answer_once(tx, answer.challenge_id, answer.expires_at, now).await {
        Err(domain::Error::Conflict { .. }) => return wrong("a challenge that was answered already"),
        other => other?,
    }
    let used = tx
        .execute(
            "UPDATE factor SET sign_count = $2, last_used_at = $3 WHERE id = $1 AND sign_count = $4",
            args![id, i64::from(done.sign_count), now, stored],
        )
        .await?;
    if used == 1 {
        Ok(Checked::Right(FactorKind::Passkey.as_str()))
    } else {
        wrong("a passkey that answers twice at once")
    }
}

impl Store {
    /// The actor shows a second factor, so that what needs a fresh proof can go on.
    pub async fn session_prove_by_factor(
        &self,
        permit: OwnPermit<own::SessionProve>,
        proof: &FactorProof,
    ) -> Result<Attempt<Timestamp>> {
        let key = RecoveryKey::of(self).await?;
        let (now, session) = (self.clock().now(), permit.session());
        let change = Change::to(Category::Authentication, "session", session);
        let mut tx = self.db().write().await?;
        let checked = check(&mut tx, self, &key, permit.user(), now, proof).await?;
        let attempt = match checked {
            Checked::Right(by) => {
                let at = session::prove(&mut tx, self, session, true).await?;
                own_commit(tx, &permit, &change.detail(json!({"by": by}))).await?;
                return Ok(Attempt::Proved(at));
            }
            Checked::Wrong(_) => Attempt::Refused,
            Checked::Wait(wait_s) => Attempt::Wait { wait_s },
        };
        own_commit(tx, &permit, &checked.refusal(change)).await?;
        Ok(attempt)
    }
}
