//! Enrollment tokens, and what becomes of them: one agent or relay each.
//!
//! Invariants:
//! - using a token up and making what it enrolls are one change: of any number that try at once one succeeds, and a refused try uses nothing
//!   up;
//! - what a token was made for, its tenant, its kind and its labels, is the token's to say and not the enrolling one's;
//! - an API key makes no token for a relay: a relay is handed the secrets of credentials, which no key can read otherwise.

use access::{Actor, OpCtx, ops};
use domain::{
    Digest, DisplayName, EnrollmentTokenId, Error, FleetCredentialId, FleetId, FleetKind, Labels, Limits, Result,
    TenantId, Timestamp,
};
use serde_json::json;

use crate::audit::{self, Category, Change, Outcome};
use crate::db::{Row, Tx, Value, args};
use crate::unit::{Read, Write, enter};
use crate::{Page, Store};

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewEnrollmentToken {
    /// The public id of its text.
    pub lookup: String,
    /// The stored form of its secret.
    pub hash: Digest,
    /// What it enrolls.
    pub kind: FleetKind,
    /// What that is labelled with.
    pub labels: Labels,
    /// Until when it is good.
    pub expires_at: Timestamp,
}

/// Whether a token can still be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EnrollmentTokenState {
    /// It waits to be used.
    Waiting,
    /// It was used.
    Used,
    /// Its time is over.
    Expired,
    /// Somebody revoked it.
    Revoked,
}

impl EnrollmentTokenState {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Used => "used",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
        }
    }

    fn of(now: Timestamp, expires_at: Timestamp, revoked: bool, used: bool) -> Self {
        if used {
            Self::Used
        } else if revoked {
            Self::Revoked
        } else if expires_at <= now {
            Self::Expired
        } else {
            Self::Waiting
        }
    }
}

/// A token as it is listed.
#[derive(Debug, Clone)]
pub struct EnrollmentTokenRow {
    /// Its id.
    pub id: EnrollmentTokenId,
    /// What it enrolls.
    pub kind: FleetKind,
    /// What that is labelled with.
    pub labels: Labels,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// When it was used.
    pub used_at: Option<Timestamp>,
    /// Whom it enrolled.
    pub used_by: Option<FleetId>,
    /// Whether it can still be used.
    pub state: EnrollmentTokenState,
}

/// A token that somebody named by its public id. The caller still has to check the secret.
#[derive(Debug, Clone)]
pub struct FoundEnrollmentToken {
    /// Its id.
    pub id: EnrollmentTokenId,
    /// Its tenant.
    pub tenant: TenantId,
    /// What it enrolls.
    pub kind: FleetKind,
    /// What that is labelled with.
    pub labels: Labels,
    /// What the secret has to hash to.
    pub hash: Digest,
    /// When it was used.
    pub used_at: Option<Timestamp>,
    /// Whether it can still be used.
    pub state: EnrollmentTokenState,
}

/// Who is enrolled.
#[derive(Debug, Clone)]
pub struct NewUnit {
    /// Its id.
    pub id: FleetId,
    /// Its name.
    pub name: DisplayName,
    /// The public half of its key.
    pub public_key: [u8; 32],
    /// Its program's version.
    pub version: String,
    /// Its first credential.
    pub credential: NewFleetCredential,
    /// The number of the proof that came with the request.
    pub number: i64,
    /// And its id.
    pub proof_id: String,
}

/// A credential in its stored form.
#[derive(Debug, Clone)]
pub struct NewFleetCredential {
    /// Its id.
    pub id: FleetCredentialId,
    /// bcrypt of the whole credential.
    pub hash: String,
    /// Until when it is good.
    pub expires_at: Timestamp,
}

/// How a try to enroll ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enrollment {
    /// It did.
    Done,
    /// Somebody else used the token since it was found.
    Raced,
    /// The token expired or was revoked since it was found.
    Ended,
}

const COLUMNS: &str =
    "id, kind, labels, created_by, created_at, expires_at, revoked_at, used_at, used_by FROM enrollment_token";

fn token_row(row: &Row, now: Timestamp) -> Result<EnrollmentTokenRow> {
    let kind: FleetKind = row.parse(1)?;
    let (expires_at, used_at) = (row.time(5)?, row.opt_time(7)?);
    Ok(EnrollmentTokenRow {
        id: EnrollmentTokenId::from_uuid(row.uuid(0)?),
        kind,
        labels: row.json(2)?,
        created_by: row.text(3)?,
        created_at: row.time(4)?,
        expires_at,
        used_at,
        used_by: row.opt_uuid(8)?.map(|id| FleetId::of(kind, id)),
        state: EnrollmentTokenState::of(now, expires_at, row.opt_time(6)?.is_some(), used_at.is_some()),
    })
}

async fn token_show(
    tx: &mut Tx,
    tenant: TenantId,
    id: EnrollmentTokenId,
    now: Timestamp,
) -> Result<EnrollmentTokenRow> {
    let rows = tx.rows_built(format!("SELECT {COLUMNS} WHERE tenant_id = $1 AND id = $2"), args![tenant, id]).await?;
    token_row(rows.first().ok_or(Error::NotFound { what: "enrollment token" })?, now)
}

async fn count(tx: &mut Tx, sql: &'static str, values: &[Value]) -> Result<usize> {
    let row = tx.row(sql, values).await?;
    Ok(row.map_or(Ok(0), |row| row.i64(0))?.try_into().unwrap_or(usize::MAX))
}

impl Write<ops::EnrollmentTokenCreate> {
    /// Makes a token.
    pub async fn enrollment_token_create(mut self, new: &NewEnrollmentToken) -> Result<EnrollmentTokenRow> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let actor = self.permit.ctx().actor();
        if new.kind == FleetKind::Relay && !matches!(actor, Actor::User { .. }) {
            return Err(Error::Forbidden {
                message: "only a person makes an enrollment token for a relay, since relays are handed secrets"
                    .to_owned(),
            });
        }
        let waiting = "SELECT COUNT(*) FROM enrollment_token \
                       WHERE tenant_id = $1 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $2";
        let max = Limits::TENANT_ENROLLMENT_TOKENS;
        if count(&mut self.tx, waiting, args![tenant, now]).await? >= max {
            return Err(Error::conflict(format!(
                "{max} enrollment tokens wait already: revoke those that are not needed"
            )));
        }
        let id = EnrollmentTokenId::generate(&**self.store.clock(), &**self.store.rng());
        let labels = serde_json::to_string(&new.labels).map_err(Error::internal)?;
        let created_by = actor.to_string();
        self.tx
            .execute(
                "INSERT INTO enrollment_token (tenant_id, id, lookup, hash, kind, labels, created_by, created_at, expires_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                args![
                    tenant,
                    id,
                    new.lookup.as_str(),
                    new.hash,
                    new.kind.as_str(),
                    labels,
                    created_by,
                    now,
                    new.expires_at
                ],
            )
            .await?;
        let row = token_show(&mut self.tx, tenant, id, now).await?;
        let detail = json!({"kind": new.kind.as_str(), "labels": new.labels, "expires_at": new.expires_at});
        self.commit(Change::to(Category::Authentication, "enrollment-token", id).detail(detail)).await?;
        Ok(row)
    }
}

impl Write<ops::EnrollmentTokenRevoke> {
    /// Ends a token that was not used. Ending one again changes nothing.
    pub async fn enrollment_token_revoke(mut self, id: EnrollmentTokenId) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let row = token_show(&mut self.tx, tenant, id, now).await?;
        self.tx
            .execute(
                "UPDATE enrollment_token SET revoked_at = $3 \
                 WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL AND used_at IS NULL",
                args![tenant, id, now],
            )
            .await?;
        let detail = json!({"kind": row.kind.as_str(), "before": row.state.as_str()});
        self.commit(Change::to(Category::Authentication, "enrollment-token", id).detail(detail)).await.map(drop)
    }
}

impl Read<ops::EnrollmentTokenList> {
    /// The tenant's tokens in the order in which they were made, also those that are no more.
    pub async fn enrollment_token_list(
        &mut self,
        kind: Option<FleetKind>,
        after: Option<EnrollmentTokenId>,
        limit: u32,
    ) -> Result<Page<EnrollmentTokenRow, EnrollmentTokenId>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let after = after.map_or(uuid::Uuid::nil(), |id| id.as_uuid());
        let sql = format!(
            "SELECT {COLUMNS} WHERE tenant_id = $1 AND id > $2 AND ($3 = '' OR kind = $3) ORDER BY id LIMIT $4"
        );
        let kind = kind.map_or("", FleetKind::as_str);
        let rows = self.tx.rows_built(sql, args![tenant, after, kind, i64::from(limit) + 1]).await?;
        let items = rows.iter().map(|row| token_row(row, now)).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row| row.id))
    }
}

impl Store {
    /// The token with this public id, if there is one, in a tenant that is open.
    pub async fn enrollment_token_find(&self, lookup: &str) -> Result<Option<FoundEnrollmentToken>> {
        let now = self.clock().now();
        let mut tx = self.db().read().await?;
        if tx.engine() == crate::db::Engine::Pg {
            tx.execute("SELECT set_config('cairn.enrollment', $1, true)", args![lookup]).await?;
        }
        let row = tx
            .row(
                "SELECT e.tenant_id, e.id, e.kind, e.labels, e.hash, e.expires_at, e.revoked_at, e.used_at \
                 FROM enrollment_token e JOIN tenant t ON t.id = e.tenant_id WHERE e.lookup = $1 AND t.deleted_at IS NULL",
                args![lookup],
            )
            .await?;
        let Some(row) = row else { return Ok(None) };
        let used_at = row.opt_time(7)?;
        Ok(Some(FoundEnrollmentToken {
            tenant: TenantId::from_uuid(row.uuid(0)?),
            id: EnrollmentTokenId::from_uuid(row.uuid(1)?),
            kind: row.parse(2)?,
            labels: row.json(3)?,
            hash: row.digest(4)?,
            used_at,
            state: EnrollmentTokenState::of(now, row.time(5)?, row.opt_time(6)?.is_some(), used_at.is_some()),
        }))
    }

    /// Uses a token up and makes what it enrolls, both or neither. `ctx`: as whom, for the audit log.
    pub async fn enroll(&self, ctx: &OpCtx, token: &FoundEnrollmentToken, new: &NewUnit) -> Result<Enrollment> {
        let (tenant, now, kind) = (token.tenant, self.clock().now(), token.kind);
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let used = tx
            .execute(
                "UPDATE enrollment_token SET used_at = $3, used_by = $4 \
                 WHERE tenant_id = $1 AND id = $2 AND used_at IS NULL AND revoked_at IS NULL AND expires_at > $3",
                args![tenant, token.id, now, new.id],
            )
            .await?;
        if used == 0 {
            let row = tx
                .row("SELECT used_at FROM enrollment_token WHERE tenant_id = $1 AND id = $2", args![tenant, token.id])
                .await?;
            let raced = row.map_or(Ok(None), |row| row.opt_time(0))?.is_some();
            drop(tx);
            if raced {
                self.enrollment_raced(ctx, token).await?;
            }
            return Ok(if raced { Enrollment::Raced } else { Enrollment::Ended });
        }
        let all = "SELECT COUNT(*) FROM fleet_unit WHERE tenant_id = $1 AND revoked_at IS NULL";
        let max = Limits::TENANT_FLEET;
        if count(&mut tx, all, args![tenant]).await? >= max {
            return Err(Error::conflict(format!("the tenant has {max} agents and relays: revoke those that are gone")));
        }
        let labels = serde_json::to_string(&token.labels).map_err(Error::internal)?;
        tx.execute(
            "INSERT INTO fleet_unit (tenant_id, id, kind, name, public_key, labels, version, enrolled_at, expires_at, number, proof_id) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            args![
                tenant,
                new.id,
                kind.as_str(),
                new.name.as_str(),
                new.public_key.to_vec(),
                labels,
                new.version.as_str(),
                now,
                new.credential.expires_at,
                new.number,
                new.proof_id.as_str()
            ],
        )
        .await
        .map_err(|error| match error {
            Error::Conflict { .. } => Error::conflict(format!(
                "the name `{}` is taken by another {kind}: use another one, or revoke that one first",
                new.name
            )),
            other => other,
        })?;
        crate::fleet_credential::insert(&mut tx, tenant, new.id, &new.credential, now).await?;
        let detail = json!({
            "name": new.name.as_str(), "token": token.id, "labels": token.labels, "version": new.version,
            "key": crypto::sha256(&new.public_key),
        });
        let change = Change::to(Category::Authentication, kind.as_str(), new.id).detail(detail);
        audit::append(&mut tx, tenant, ctx, "enroll", &change).await?;
        tx.commit().await?;
        self.say_log_grew(tenant);
        Ok(Enrollment::Done)
    }

    /// Records that others tried to use a token at the moment at which it was used: an alarm, once for a token, whichever server sees it.
    pub async fn enrollment_raced(&self, ctx: &OpCtx, token: &FoundEnrollmentToken) -> Result<()> {
        let mut tx = self.db().write().await?;
        enter(&mut tx, token.tenant).await?;
        let first = tx
            .execute(
                "UPDATE enrollment_token SET raced_at = $3 WHERE tenant_id = $1 AND id = $2 AND raced_at IS NULL",
                args![token.tenant, token.id, self.clock().now()],
            )
            .await?;
        if first == 0 {
            return Ok(());
        }
        let detail = json!({"alarm": true, "reason": "more than one tried to use the token at the same moment"});
        let change =
            Change::to(Category::Authentication, "enrollment-token", token.id).outcome(Outcome::Deny).detail(detail);
        audit::append(&mut tx, token.tenant, ctx, "enroll", &change).await?;
        tx.commit().await?;
        self.say_log_grew(token.tenant);
        Ok(())
    }

    /// Records that somebody who had the right secret was refused; why stands there only.
    pub async fn enrollment_refused(&self, ctx: &OpCtx, token: &FoundEnrollmentToken, reason: &str) -> Result<()> {
        let change = Change::to(Category::Authentication, "enrollment-token", token.id)
            .outcome(Outcome::Deny)
            .detail(json!({"reason": reason}));
        self.record(ctx, Some(token.tenant), "enroll", &change).await.map(drop)
    }
}
