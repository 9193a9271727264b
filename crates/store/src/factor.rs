//! Second factors: authenticator apps, passkeys, and the recovery codes for when both are lost.
//!
//! They are a user's and no tenant's. An app's secret is a cell of the platform's vault. Recovery codes are kept as MACs under a key of the
//! installation, which is one too: who reads the database has neither.

use access::{OwnPermit, ops, own};
use crypto::{hmac_sha256, totp};
use domain::{DisplayName, Error, FactorId, FactorKind, Result, Rng, Secret, Timestamp, UserId};
use serde_json::json;

use crate::audit::{Category, Change};
use crate::db::{Row, Tx, args};
use crate::session::{self, own_commit};
use crate::unit::{PlatformWrite, platform_tenant};
use crate::vault::cell::{self, FACTOR};
use crate::vault::{damaged, place};
use crate::{Store, user};

/// Most factors of one user.
const FACTORS_MAX: i64 = 20;
/// Recovery codes that are made at once.
const RECOVERY_CODES: usize = 10;

/// A second factor as its user sees it.
#[derive(Debug, Clone)]
pub struct FactorRow {
    /// Its id.
    pub id: FactorId,
    /// Its kind.
    pub kind: FactorKind,
    /// What its user calls it.
    pub name: String,
    /// When it was begun.
    pub created_at: Timestamp,
    /// Since when it counts.
    pub confirmed_at: Option<Timestamp>,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
}

fn factor_row(row: &Row) -> Result<FactorRow> {
    Ok(FactorRow {
        id: FactorId::from_uuid(row.uuid(0)?),
        kind: row.parse(1)?,
        name: row.text(2)?,
        created_at: row.time(3)?,
        confirmed_at: row.opt_time(4)?,
        last_used_at: row.opt_time(5)?,
    })
}

/// A passkey that was registered.
#[derive(Debug, Clone)]
pub struct NewPasskey {
    /// What its user calls it.
    pub name: DisplayName,
    /// What the authenticator made.
    pub registered: webauthn::Registered,
    /// The challenge that it answered.
    pub challenge: domain::ChallengeId,
    /// When that expires.
    pub expires_at: Timestamp,
}

/// The installation's key for what is kept of recovery codes. It cannot be replaced: nobody has the codes to make the MACs anew.
pub(crate) struct RecoveryKey(Secret);

impl RecoveryKey {
    /// Its name among the secrets of the installation.
    pub(crate) const NAME: &str = "recovery_key";

    pub(crate) async fn of(store: &Store) -> Result<Self> {
        let rng = store.rng().clone();
        let make = move || {
            let mut key = [0u8; 32];
            rng.fill(&mut key);
            Ok(Secret::new(key.as_slice()))
        };
        store.installation_secret(Self::NAME, make).await.map(Self)
    }

    /// What is kept of a recovery code.
    pub(crate) fn mac(&self, user: UserId, code: &str) -> Vec<u8> {
        hmac_sha256(self.0.expose(), &place(&[user.as_uuid().as_bytes(), code.as_bytes()])).to_vec()
    }
}

/// Seals an app's secret with whose it is, so that a row which was given to somebody else proves nothing of them.
async fn seal(tx: &mut Tx, store: &Store, user: UserId, id: FactorId, secret: &Secret) -> Result<Vec<u8>> {
    let owned = owned(user, secret);
    Ok(cell::seal(tx, store, &FACTOR, platform_tenant(), &id.as_uuid().into(), owned.expose()).await?.bytes)
}

/// What is sealed of an app: its user and its secret.
pub(crate) fn owned(user: UserId, secret: &Secret) -> Secret {
    Secret::new([user.as_uuid().as_bytes().as_slice(), secret.expose()].concat())
}

/// An app's secret.
pub(crate) async fn open(tx: &mut Tx, store: &Store, user: UserId, id: FactorId, sealed: &[u8]) -> Result<Secret> {
    let opened = cell::open(tx, store, &FACTOR, platform_tenant(), &id.as_uuid().into(), sealed).await?;
    let secret = opened.expose().strip_prefix(user.as_uuid().as_bytes().as_slice());
    secret.map(Secret::new).ok_or_else(|| damaged("a second factor of another user"))
}

/// Takes out of the vault what deleted rows held.
async fn forget(tx: &mut Tx, store: &Store, deleted: &[Row]) -> Result<()> {
    for row in deleted {
        cell::forget(tx, store, &FACTOR, platform_tenant(), &row.uuid(0)?.into()).await?;
    }
    Ok(())
}

/// A code as it is typed: in any case, with or without dashes and spaces, and with the letters that are read for digits.
pub(crate) fn plain_code(typed: &str) -> String {
    let letters = typed.chars().filter(|letter| !matches!(letter, '-' | ' '));
    letters
        .map(|letter| match letter.to_ascii_lowercase() {
            'o' => '0',
            'i' | 'l' => '1',
            other => other,
        })
        .collect()
}

/// Sixteen letters and digits in fours: 80 bits.
fn recovery_code(rng: &dyn Rng) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let mut random = [0u8; 16];
    rng.fill(&mut random);
    let letters = random.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 31)).copied()).map(char::from);
    let mut code = String::with_capacity(19);
    for (at, letter) in letters.enumerate() {
        if at > 0 && at % 4 == 0 {
            code.push('-');
        }
        code.push(letter);
    }
    code
}

async fn new_recovery_codes(tx: &mut Tx, store: &Store, key: &RecoveryKey, user: UserId) -> Result<Vec<String>> {
    tx.execute("DELETE FROM recovery_code WHERE user_id = $1", args![user]).await?;
    let mut codes = Vec::with_capacity(RECOVERY_CODES);
    for _ in 0..RECOVERY_CODES {
        let code = recovery_code(&**store.rng());
        tx.execute(
            "INSERT INTO recovery_code (user_id, mac) VALUES ($1, $2)",
            args![user, key.mac(user, &plain_code(&code))],
        )
        .await?;
        codes.push(code);
    }
    Ok(codes)
}

/// Whether a user has a second factor that counts.
pub(crate) async fn has_factor(tx: &mut Tx, user: UserId) -> Result<bool> {
    let row =
        tx.row("SELECT 1 FROM factor WHERE user_id = $1 AND confirmed_at IS NOT NULL LIMIT 1", args![user]).await?;
    Ok(row.is_some())
}

/// Takes the vault first: rotation holds it while it changes rows, so whoever changed rows first would wait for each other.
async fn make_room(tx: &mut Tx, store: &Store, user: UserId) -> Result<()> {
    cell::lock(tx, store, platform_tenant()).await?;
    // One enrolment at a time: an app that was never confirmed goes when the next one is begun.
    let gone =
        tx.rows("DELETE FROM factor WHERE user_id = $1 AND confirmed_at IS NULL RETURNING id", args![user]).await?;
    forget(tx, store, &gone).await?;
    let row = tx.row("SELECT COUNT(*) FROM factor WHERE user_id = $1", args![user]).await?;
    if row.map_or(Ok(0), |row| row.i64(0))? >= FACTORS_MAX {
        return Err(Error::conflict("you have 20 second factors: remove one first"));
    }
    Ok(())
}

/// What follows when a factor counts: recovery codes if it is the first, and the end of sessions that were begun without one.
async fn counts_now(
    tx: &mut Tx,
    store: &Store,
    key: &RecoveryKey,
    user: UserId,
    current: domain::SessionId,
    is_first: bool,
) -> Result<Vec<String>> {
    session::lock_user(tx, user).await?;
    session::prove(tx, store, current, true).await?;
    if !is_first {
        return Ok(Vec::new());
    }
    session::end_others(tx, user, current, store.clock().now()).await?;
    new_recovery_codes(tx, store, key, user).await
}

impl Store {
    /// The actor's own factors, and how many recovery codes are left.
    pub async fn factor_list(&self, permit: OwnPermit<own::FactorList>) -> Result<(Vec<FactorRow>, i64)> {
        let mut tx = self.db().read().await?;
        let rows = tx
            .rows(
                "SELECT id, kind, name, created_at, confirmed_at, last_used_at FROM factor WHERE user_id = $1 ORDER BY id",
                args![permit.user()],
            )
            .await?;
        let left = tx
            .row("SELECT COUNT(*) FROM recovery_code WHERE user_id = $1 AND used_at IS NULL", args![permit.user()])
            .await?;
        Ok((rows.iter().map(factor_row).collect::<Result<_>>()?, left.map_or(Ok(0), |row| row.i64(0))?))
    }

    /// The ids of the actor's passkeys, so that an authenticator makes no second one.
    pub async fn passkey_ids(&self, user: UserId) -> Result<Vec<Vec<u8>>> {
        let mut tx = self.db().read().await?;
        let rows = tx
            .rows(
                "SELECT credential_id FROM factor WHERE user_id = $1 AND credential_id IS NOT NULL ORDER BY id",
                args![user],
            )
            .await?;
        rows.iter().map(|row| row.bytes(0)).collect()
    }

    /// Begins to enrol an authenticator app: its secret, which is shown once. It counts when a code of it was given.
    pub async fn totp_create(
        &self,
        permit: OwnPermit<own::TotpCreate>,
        name: &DisplayName,
    ) -> Result<(FactorId, Secret)> {
        let user = permit.user();
        let id = FactorId::generate(&**self.clock(), &**self.rng());
        let secret = totp::new_secret(&**self.rng());
        let mut tx = self.db().write().await?;
        make_room(&mut tx, self, user).await?;
        let sealed = seal(&mut tx, self, user, id, &secret).await?;
        tx.execute(
            "INSERT INTO factor (id, user_id, kind, name, created_at, sealed) VALUES ($1, $2, $3, $4, $5, $6)",
            args![id, user, FactorKind::Totp.as_str(), name.as_str(), self.clock().now(), sealed],
        )
        .await?;
        let detail = json!({"kind": FactorKind::Totp.as_str(), "name": name.as_str()});
        own_commit(tx, &permit, &Change::to(Category::Authentication, "factor", id).detail(detail)).await?;
        Ok((id, secret))
    }

    /// Makes an authenticator app count, by a code of it. Recovery codes, if it is the first factor.
    pub async fn totp_confirm(
        &self,
        permit: OwnPermit<own::TotpConfirm>,
        id: FactorId,
        code: &str,
    ) -> Result<Vec<String>> {
        let (user, now) = (permit.user(), self.clock().now());
        let key = RecoveryKey::of(self).await?;
        let mut tx = self.db().write().await?;
        let row = tx
            .row("SELECT sealed FROM factor WHERE id = $1 AND user_id = $2 AND confirmed_at IS NULL", args![id, user])
            .await?
            .ok_or(Error::NotFound { what: "factor" })?;
        let secret = open(&mut tx, self, user, id, &row.bytes(0)?).await?;
        let Some(step) = totp::matching_step(secret.expose(), code, now.as_seconds(), -1) else {
            let change = Change::to(Category::Authentication, "factor", id).outcome(crate::Outcome::Fail);
            own_commit(tx, &permit, &change.detail(json!({"reason": "wrong code"}))).await?;
            return Err(Error::invalid(
                "code",
                "this is not the app's code of this moment: check the clock of the device",
            ));
        };
        let is_first = !has_factor(&mut tx, user).await?;
        let confirmed = tx
            .execute(
                "UPDATE factor SET confirmed_at = $2, last_used_at = $2, last_step = $3 WHERE id = $1 AND confirmed_at IS NULL",
                args![id, now, step],
            )
            .await?;
        if confirmed == 0 {
            return Err(Error::conflict("this factor was confirmed meanwhile"));
        }
        let codes = counts_now(&mut tx, self, &key, user, permit.session(), is_first).await?;
        own_commit(tx, &permit, &Change::to(Category::Authentication, "factor", id)).await?;
        Ok(codes)
    }

    /// Stores a passkey that was registered. Recovery codes, if it is the first factor.
    pub async fn passkey_create(
        &self,
        permit: OwnPermit<own::PasskeyCreate>,
        new: &NewPasskey,
    ) -> Result<(FactorRow, Vec<String>)> {
        let (user, now, key) = (permit.user(), self.clock().now(), RecoveryKey::of(self).await?);
        let id = FactorId::generate(&**self.clock(), &**self.rng());
        let mut tx = self.db().write().await?;
        answer_once(&mut tx, new.challenge, new.expires_at, now).await?;
        make_room(&mut tx, self, user).await?;
        let is_first = !has_factor(&mut tx, user).await?;
        tx.execute(
            "INSERT INTO factor (id, user_id, kind, name, created_at, confirmed_at, credential_id, public_key, sign_count) \
             VALUES ($1, $2, $3, $4, $5, $5, $6, $7, $8)",
            args![
                id,
                user,
                FactorKind::Passkey.as_str(),
                new.name.as_str(),
                now,
                new.registered.credential_id.as_slice(),
                new.registered.public_key.to_bytes(),
                i64::from(new.registered.sign_count)
            ],
        )
        .await
        .map_err(|error| match error {
            Error::Conflict { .. } => Error::conflict("this passkey is known already"),
            other => other,
        })?;
        let codes = counts_now(&mut tx, self, &key, user, permit.session(), is_first).await?;
        let detail = json!({"kind": FactorKind::Passkey.as_str(), "name": new.name.as_str()});
        own_commit(tx, &permit, &Change::to(Category::Authentication, "factor", id).detail(detail)).await?;
        let row = FactorRow {
            id,
            kind: FactorKind::Passkey,
            name: new.name.to_string(),
            created_at: now,
            confirmed_at: Some(now),
            last_used_at: None,
        };
        Ok((row, codes))
    }

    /// Removes one of the actor's own factors. `required`: the installation asks everybody for one, so the last one stays.
    pub async fn factor_delete(
        &self,
        permit: OwnPermit<own::FactorDelete>,
        id: FactorId,
        required: bool,
    ) -> Result<()> {
        let user = permit.user();
        let mut tx = self.db().write().await?;
        cell::lock(&mut tx, self, platform_tenant()).await?;
        let deleted =
            tx.rows("DELETE FROM factor WHERE id = $1 AND user_id = $2 RETURNING id", args![id, user]).await?;
        if deleted.is_empty() {
            return Err(Error::NotFound { what: "factor" });
        }
        forget(&mut tx, self, &deleted).await?;
        if !has_factor(&mut tx, user).await? {
            let asked = user::memberships(&mut tx, user).await?.iter().any(|member| member.second_factor_required);
            if required || asked {
                return Err(Error::conflict(
                    "a second factor is required here: add another one before you remove this",
                ));
            }
            tx.execute("DELETE FROM recovery_code WHERE user_id = $1", args![user]).await?;
            // What was shown once is no longer there to be asked for.
            tx.execute("UPDATE session SET second_factor = $2 WHERE user_id = $1", args![user, false]).await?;
        }
        own_commit(tx, &permit, &Change::to(Category::Authentication, "factor", id)).await
    }

    /// Makes new recovery codes; the ones so far are void.
    pub async fn recovery_codes_create(&self, permit: OwnPermit<own::RecoveryCodesCreate>) -> Result<Vec<String>> {
        let (user, key) = (permit.user(), RecoveryKey::of(self).await?);
        let mut tx = self.db().write().await?;
        if !has_factor(&mut tx, user).await? {
            return Err(Error::conflict("recovery codes are for when a second factor is lost: add one first"));
        }
        let codes = new_recovery_codes(&mut tx, self, &key, user).await?;
        own_commit(tx, &permit, &Change::to(Category::Authentication, "user", user)).await?;
        Ok(codes)
    }
}

/// Notes that a challenge was answered; none is answered twice.
pub(crate) async fn answer_once(
    tx: &mut Tx,
    id: domain::ChallengeId,
    expires_at: Timestamp,
    now: Timestamp,
) -> Result<()> {
    tx.execute("DELETE FROM answered_challenge WHERE expires_at <= $1", args![now]).await?;
    let first = tx
        .execute(
            "INSERT INTO answered_challenge (id, expires_at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING",
            args![id, expires_at],
        )
        .await?;
    if first == 0 { Err(Error::conflict("this challenge was answered already: ask for a new one")) } else { Ok(()) }
}

impl PlatformWrite<ops::UserFactorsReset> {
    /// Takes every second factor and recovery code from a user who lost them, and ends their sessions.
    pub async fn user_factors_reset(mut self, id: UserId) -> Result<()> {
        let now = self.store.clock().now();
        if self.tx.row("SELECT 1 FROM app_user WHERE id = $1", args![id]).await?.is_none() {
            return Err(Error::NotFound { what: "user" });
        }
        cell::lock(&mut self.tx, &self.store, platform_tenant()).await?;
        let factors = self.tx.rows("DELETE FROM factor WHERE user_id = $1 RETURNING id", args![id]).await?;
        forget(&mut self.tx, &self.store, &factors).await?;
        self.tx.execute("DELETE FROM recovery_code WHERE user_id = $1", args![id]).await?;
        self.tx.execute("DELETE FROM factor_guess WHERE user_id = $1", args![id]).await?;
        let sessions = session::end_all(&mut self.tx, id, now).await?;
        let detail = json!({"factors": factors.len(), "sessions": sessions});
        self.commit(Change::to(Category::Authentication, "user", id).detail(detail)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recovery_code_is_read_as_people_write_it() {
        let code = recovery_code(&crypto::system::SystemRng);
        assert_eq!((code.len(), code.matches('-').count()), (19, 3));
        let plain = plain_code(&code);
        assert_eq!(plain.len(), 16);
        assert_eq!(plain_code(&code.to_uppercase().replace('-', " ")), plain);
        assert_eq!(plain_code("O0Il-1"), "00111");
        assert_ne!(plain_code(&recovery_code(&crypto::system::SystemRng)), plain);
    }

    #[test]
    fn what_is_kept_of_a_code_is_bound_to_its_user() {
        let key = RecoveryKey(Secret::new([7; 32].as_slice()));
        let (a, b) = (UserId::from_uuid(uuid::Uuid::from_u128(1)), UserId::from_uuid(uuid::Uuid::from_u128(2)));
        assert_eq!(key.mac(a, "code"), key.mac(a, "code"));
        assert_ne!(key.mac(a, "code"), key.mac(b, "code"));
        assert_ne!(key.mac(a, "code"), key.mac(a, "cod"));
    }
}
