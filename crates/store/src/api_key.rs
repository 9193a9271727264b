//! API keys: one tenant, one role, one owner.
//!
//! Invariants:
//! - a key is never more than its owner is at this moment: it is refused while the owner is disabled, is no member, has a role that does
//!   not cover the key's, or comes out of a backup and their identity provider has not confirmed them since; whoever rotates a key becomes
//!   its owner;
//! - every request sees the key's rows as they are (`remembered.rs`), so that what ends a key ends it at the next request on every server;
//! - each secret has a public id of its own, so that checking one costs one hash, also while two are good.

use std::net::IpAddr;

use access::{Actor, OpCtx, Role, ops};
use domain::{ApiKeyId, DisplayName, Error, Limits, Network, Result, TenantId, Timestamp, UserId};
use serde_json::json;

use crate::at_once::Question;
use crate::audit::{self, Category, Change, Outcome};
use crate::db::{Engine, Row, Tx, args};
use crate::unit::{Read, Write, enter};
use crate::user::Membership;
use crate::{Page, Store};

/// The use of a key is written down at most this often.
const USE_MS: i64 = 60_000;
/// A use after this long is in the audit log, as is the first one and one from another address.
const USE_RECORD_MS: i64 = 3_600_000;

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Its name, once in the tenant.
    pub name: DisplayName,
    /// What it may do.
    pub role: Role,
    /// From where; empty: from everywhere.
    pub networks: Vec<Network>,
    /// Until when; none: until it is revoked.
    pub expires_at: Option<Timestamp>,
}

/// A secret in its stored form.
#[derive(Debug, Clone)]
pub struct NewApiKeySecret {
    /// Its public id.
    pub lookup: String,
    /// bcrypt of the whole key.
    pub hash: String,
}

/// Why a key is not good, or that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiKeyState {
    /// It is good.
    Active,
    /// Its time is over.
    Expired,
    /// Its owner could not give its role any more.
    Suspended,
    /// Somebody revoked it.
    Revoked,
}

impl ApiKeyState {
    /// The one spelling.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Suspended => "suspended",
            Self::Revoked => "revoked",
        }
    }
}

/// A key as it is listed.
#[derive(Debug, Clone)]
pub struct ApiKeyRow {
    /// Its id.
    pub id: ApiKeyId,
    /// Its name.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Who answers for it.
    pub owner: UserId,
    /// Their login name.
    pub owner_email: String,
    /// From where.
    pub networks: Vec<Network>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Option<Timestamp>,
    /// Since when it is no more.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// From where.
    pub last_used_ip: Option<String>,
    /// Until when the secret before the last rotation is good too.
    pub old_secret_until: Option<Timestamp>,
    /// Whether it is good now.
    pub state: ApiKeyState,
}

/// A key that is good for a request, if its secret is.
#[derive(Debug, Clone)]
pub struct LiveApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Its name.
    pub name: DisplayName,
    /// Its tenant and role.
    pub membership: Membership,
    /// Until when it is good.
    pub expires_at: Option<Timestamp>,
    /// The stored form of the secret that was named.
    pub hash: String,
    last_used_at: Option<Timestamp>,
    last_used_ip: Option<String>,
}

/// What a secret's public id leads to.
#[derive(Debug, Clone)]
pub enum FoundApiKey {
    /// Nothing.
    Unknown,
    /// A key that is not good now, from there; why is for the log only.
    Refused {
        /// The key.
        id: ApiKeyId,
        /// Its tenant.
        tenant: TenantId,
        /// Why.
        reason: &'static str,
    },
    /// A key that is good.
    Live(Box<LiveApiKey>),
}

const COLUMNS: &str = "k.id, k.name, k.role, k.owner_id, u.email, k.networks, k.created_at, k.expires_at, k.revoked_at, k.last_used_at, \
     k.last_used_ip, COALESCE(u.disabled_at, u.unconfirmed_since), m.role, \
     (SELECT MAX(s.valid_until) FROM api_key_secret s WHERE s.tenant_id = k.tenant_id AND s.key_id = k.id AND s.valid_until > $2) \
     FROM api_key k JOIN app_user u ON u.id = k.owner_id LEFT JOIN member m ON m.tenant_id = k.tenant_id AND m.user_id = k.owner_id";

fn state(
    now: Timestamp,
    role: Role,
    expires_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    owner_suspended: bool,
    owner_role: Option<Role>,
) -> ApiKeyState {
    if revoked_at.is_some() {
        ApiKeyState::Revoked
    } else if expires_at.is_some_and(|expires_at| expires_at <= now) {
        ApiKeyState::Expired
    } else if owner_suspended || !owner_role.is_some_and(|own| own.covers(role)) {
        ApiKeyState::Suspended
    } else {
        ApiKeyState::Active
    }
}

fn opt_role(row: &Row, at: usize) -> Result<Option<Role>> {
    row.opt_text(at)?.map(|text| text.parse()).transpose()
}

fn key_row(row: &Row, now: Timestamp) -> Result<ApiKeyRow> {
    let (role, expires_at, revoked_at) = (row.parse(2)?, row.opt_time(7)?, row.opt_time(8)?);
    let state = state(now, role, expires_at, revoked_at, row.opt_time(11)?.is_some(), opt_role(row, 12)?);
    Ok(ApiKeyRow {
        id: ApiKeyId::from_uuid(row.uuid(0)?),
        name: row.text(1)?,
        role,
        owner: UserId::from_uuid(row.uuid(3)?),
        owner_email: row.text(4)?,
        networks: row.json(5)?,
        created_at: row.time(6)?,
        expires_at,
        revoked_at,
        last_used_at: row.opt_time(9)?,
        last_used_ip: row.opt_text(10)?,
        old_secret_until: row.opt_time(13)?,
        state,
    })
}

async fn key_show(tx: &mut Tx, tenant: TenantId, id: ApiKeyId, now: Timestamp) -> Result<ApiKeyRow> {
    let sql = format!("SELECT {COLUMNS} WHERE k.tenant_id = $1 AND k.id = $3");
    let rows = tx.rows_built(sql, args![tenant, now, id]).await?;
    key_row(rows.first().ok_or(Error::NotFound { what: "api key" })?, now)
}

/// Who acts and what they hold in the tenant; a key and the server itself own no key.
fn owner(ctx: &OpCtx, tenant: TenantId) -> Result<(UserId, Role)> {
    let Actor::User { id, .. } = ctx.actor() else {
        return Err(Error::Forbidden { message: "only a person makes API keys".to_owned() });
    };
    Ok((*id, ctx.role_in(tenant).ok_or(Error::NotFound { what: "tenant" })?))
}

fn refuse_more(own: Role, role: Role) -> Result<()> {
    if own.covers(role) {
        return Ok(());
    }
    Err(Error::Forbidden { message: format!("your role `{own}` cannot make a key that holds more than itself") })
}

async fn secret_insert(
    tx: &mut Tx,
    tenant: TenantId,
    key: ApiKeyId,
    secret: &NewApiKeySecret,
    now: Timestamp,
) -> Result<()> {
    tx.execute(
        "INSERT INTO api_key_secret (tenant_id, lookup, key_id, hash, created_at) VALUES ($1, $2, $3, $4, $5)",
        args![tenant, secret.lookup.as_str(), key, secret.hash.as_str(), now],
    )
    .await
    .map(drop)
}

impl Write<ops::ApiKeyCreate> {
    /// Makes a key that its maker owns. Nobody makes one that holds more than they do.
    pub async fn api_key_create(mut self, new: &NewApiKey, secret: &NewApiKeySecret) -> Result<ApiKeyRow> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let (owner, own) = owner(self.permit.ctx(), tenant)?;
        refuse_more(own, new.role)?;
        let living = self
            .tx
            .row("SELECT COUNT(*) FROM api_key WHERE tenant_id = $1 AND revoked_at IS NULL", args![tenant])
            .await?;
        let max = i64::try_from(Limits::TENANT_KEYS).unwrap_or(i64::MAX);
        if living.map_or(Ok(0), |row| row.i64(0))? >= max {
            return Err(Error::conflict(format!("the tenant has {max} keys: revoke those that are not needed")));
        }
        let id = ApiKeyId::generate(&**self.store.clock(), &**self.store.rng());
        let networks = serde_json::to_string(&new.networks).map_err(Error::internal)?;
        self.tx
            .execute(
                "INSERT INTO api_key (tenant_id, id, name, role, owner_id, networks, created_at, expires_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                args![tenant, id, new.name.as_str(), new.role.as_str(), owner, networks, now, new.expires_at],
            )
            .await
            .map_err(|error| match error {
                Error::Conflict { .. } => Error::conflict(format!("a key `{}` already exists", new.name)),
                other => other,
            })?;
        secret_insert(&mut self.tx, tenant, id, secret, now).await?;
        let row = key_show(&mut self.tx, tenant, id, now).await?;
        let detail = json!({
            "name": new.name.as_str(), "role": new.role.as_str(), "expires_at": new.expires_at, "networks": new.networks,
        });
        self.commit(Change::to(Category::Authentication, "api-key", id).detail(detail)).await?;
        Ok(row)
    }
}

impl Write<ops::ApiKeyRotate> {
    /// Gives the key a new secret and the actor as its owner. The secret so far is good until `old_until` if the key is good now; one before
    /// it no more.
    pub async fn api_key_rotate(
        mut self,
        id: ApiKeyId,
        secret: &NewApiKeySecret,
        old_until: Timestamp,
    ) -> Result<ApiKeyRow> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let (owner, own) = owner(self.permit.ctx(), tenant)?;
        lock(&mut self.tx, tenant, id).await?;
        let before = key_show(&mut self.tx, tenant, id, now).await?;
        refuse_more(own, before.role)?;
        let old_until = match before.state {
            ApiKeyState::Revoked => return Err(Error::conflict("the key is revoked: make a new one")),
            ApiKeyState::Expired => return Err(Error::conflict("the key is expired: make a new one")),
            ApiKeyState::Active => old_until,
            // A new owner must not bring back a secret that the old one may have taken along.
            ApiKeyState::Suspended => now,
        };
        self.tx
            .execute(
                "DELETE FROM api_key_secret WHERE tenant_id = $1 AND key_id = $2 AND valid_until IS NOT NULL",
                args![tenant, id],
            )
            .await?;
        self.tx
            .execute(
                "UPDATE api_key_secret SET valid_until = $3 WHERE tenant_id = $1 AND key_id = $2",
                args![tenant, id, old_until],
            )
            .await?;
        secret_insert(&mut self.tx, tenant, id, secret, now).await?;
        self.tx
            .execute("UPDATE api_key SET owner_id = $3 WHERE tenant_id = $1 AND id = $2", args![tenant, id, owner])
            .await?;
        let row = key_show(&mut self.tx, tenant, id, now).await?;
        let detail = json!({"name": row.name, "old_until": old_until, "owner_before": before.owner});
        self.commit(Change::to(Category::Authentication, "api-key", id).detail(detail)).await?;
        Ok(row)
    }
}

async fn lock(tx: &mut Tx, tenant: TenantId, id: ApiKeyId) -> Result<()> {
    if tx.engine() == Engine::Pg {
        tx.rows("SELECT id FROM api_key WHERE tenant_id = $1 AND id = $2 FOR UPDATE", args![tenant, id]).await?;
    }
    Ok(())
}

impl Write<ops::ApiKeyRevoke> {
    /// Ends a key for good, whoever owns it. Ending one again changes nothing.
    pub async fn api_key_revoke(mut self, id: ApiKeyId) -> Result<()> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let row = key_show(&mut self.tx, tenant, id, now).await?;
        self.tx
            .execute(
                "UPDATE api_key SET revoked_at = $3 WHERE tenant_id = $1 AND id = $2 AND revoked_at IS NULL",
                args![tenant, id, now],
            )
            .await?;
        let change = Change::to(Category::Authentication, "api-key", id).detail(json!({"name": row.name}));
        self.commit(change).await.map(drop)
    }
}

impl Read<ops::ApiKeyList> {
    /// The tenant's keys in the order of their ids, also those that are no more.
    pub async fn api_key_list(&mut self, after: Option<ApiKeyId>, limit: u32) -> Result<Page<ApiKeyRow, ApiKeyId>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let after = after.map_or(uuid::Uuid::nil(), |id| id.as_uuid());
        let rows = self
            .tx
            .rows_built(
                format!("SELECT {COLUMNS} WHERE k.tenant_id = $1 AND k.id > $3 ORDER BY k.id LIMIT $4"),
                args![tenant, now, after, i64::from(limit) + 1],
            )
            .await?;
        let items = rows.iter().map(|row| key_row(row, now)).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row| row.id))
    }

    /// One key.
    pub async fn api_key_show(&mut self, id: ApiKeyId) -> Result<ApiKeyRow> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        key_show(&mut self.tx, tenant, id, now).await
    }
}

/// A secret with its key, its tenant and its owner.
const FOUND: Question = Question {
    name: "api_key_found",
    kind: "text",
    enter: &[
        // Shows the secret's row.
        "SELECT set_config('cairn.api_key', $1, true)",
        // Enters the key's tenant.
        "SELECT set_config('cairn.tenant', tenant_id::text, true) FROM api_key_secret WHERE lookup = $1",
    ],
    sql: "SELECT s.tenant_id, s.key_id, s.hash, s.valid_until, k.name, k.role, k.networks, k.expires_at, k.revoked_at, \
     k.last_used_at, k.last_used_ip, t.slug, t.name, t.deleted_at, COALESCE(u.disabled_at, u.unconfirmed_since), m.role \
     FROM api_key_secret s JOIN api_key k ON k.tenant_id = s.tenant_id AND k.id = s.key_id \
     JOIN tenant t ON t.id = k.tenant_id JOIN app_user u ON u.id = k.owner_id \
     LEFT JOIN member m ON m.tenant_id = k.tenant_id AND m.user_id = k.owner_id WHERE s.lookup = $1",
};

/// A key as it is stored, good or not at this moment.
#[derive(Clone)]
pub(crate) struct Found {
    live: LiveApiKey,
    networks: Vec<Network>,
    /// Until when the secret is good, where the key has a newer one.
    valid_until: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    tenant_closed: bool,
    owner_is_out: bool,
    owner_role: Option<Role>,
}

impl Found {
    fn read(row: &Row) -> Result<Self> {
        let membership = Membership {
            tenant: TenantId::from_uuid(row.uuid(0)?),
            slug: row.text(11)?,
            name: row.text(12)?,
            role: row.parse(5)?,
            // A key has no factors; who made it entered the tenant with theirs.
            second_factor_required: false,
        };
        let live = LiveApiKey {
            id: ApiKeyId::from_uuid(row.uuid(1)?),
            name: row.parse(4)?,
            membership,
            expires_at: row.opt_time(7)?,
            hash: row.text(2)?,
            last_used_at: row.opt_time(9)?,
            last_used_ip: row.opt_text(10)?,
        };
        Ok(Self {
            live,
            networks: row.json(6)?,
            valid_until: row.opt_time(3)?,
            revoked_at: row.opt_time(8)?,
            tenant_closed: row.opt_time(13)?.is_some(),
            owner_is_out: row.opt_time(14)?.is_some(),
            owner_role: opt_role(row, 15)?,
        })
    }

    /// What it is at this moment, for a request from this address.
    fn judge(self, now: Timestamp, ip: Option<IpAddr>) -> FoundApiKey {
        let Self { live, networks, .. } = &self;
        let role = live.membership.role;
        let state = state(now, role, live.expires_at, self.revoked_at, self.owner_is_out, self.owner_role);
        let from_there =
            networks.is_empty() || ip.is_some_and(|ip| networks.iter().any(|network| network.contains(ip)));
        let reason = match state {
            ApiKeyState::Revoked => "revoked",
            ApiKeyState::Expired => "expired",
            ApiKeyState::Suspended => "owner",
            ApiKeyState::Active if self.tenant_closed => "tenant closed",
            ApiKeyState::Active if self.valid_until.is_some_and(|until| until <= now) => "old secret",
            ApiKeyState::Active if !from_there => "network",
            ApiKeyState::Active => return FoundApiKey::Live(Box::new(self.live)),
        };
        FoundApiKey::Refused { id: live.id, tenant: live.membership.tenant, reason }
    }
}

impl Store {
    /// What a secret's public id leads to at this moment, for a request from this address. The caller still has to check the secret.
    pub async fn api_key_find(&self, lookup: &str, ip: Option<IpAddr>) -> Result<FoundApiKey> {
        let found = self.inner.api_keys.or_read(self, lookup.to_owned(), self.key_read(lookup)).await?;
        Ok(found.map_or(FoundApiKey::Unknown, |found| found.judge(self.clock().now(), ip)))
    }

    async fn key_read(&self, lookup: &str) -> Result<Option<Found>> {
        self.db().at_once(&FOUND, lookup.into()).await?.first().map(Found::read).transpose()
    }

    /// Writes down that the key was used, at most once a minute. The first use, one from another address, and one after an hour without
    /// any are in the tenant's audit log too.
    pub async fn api_key_used(&self, ctx: &OpCtx, key: &LiveApiKey) -> Result<()> {
        let now = self.clock().now();
        if key.last_used_at.is_some_and(|at| now.millis_since(at) < USE_MS) {
            return Ok(());
        }
        let (tenant, ip) = (key.membership.tenant, ctx.ip().map(|ip| ip.to_canonical().to_string()));
        let mut tx = self.db().write().await?;
        enter(&mut tx, tenant).await?;
        let written = tx
            .execute(
                "UPDATE api_key SET last_used_at = $3, last_used_ip = $4 \
                 WHERE tenant_id = $1 AND id = $2 AND (last_used_at IS NULL OR last_used_at <= $5)",
                args![tenant, key.id, now, ip.clone(), now.plus_millis(-USE_MS)],
            )
            .await?;
        let notable = key.last_used_ip != ip || key.last_used_at.is_none_or(|at| now.millis_since(at) >= USE_RECORD_MS);
        if written > 0 && notable {
            let change = Change::to(Category::Authentication, "api-key", key.id);
            audit::append(&mut tx, tenant, ctx, "api_key_use", &change).await?;
        }
        tx.commit().await
    }

    /// Records that a key was refused, in its tenant's log; the reason stands there only.
    pub async fn api_key_refused(&self, ctx: &OpCtx, tenant: TenantId, id: ApiKeyId, reason: &str) -> Result<()> {
        let change = Change::to(Category::Authentication, "api-key", id)
            .outcome(Outcome::Deny)
            .detail(json!({"reason": reason}));
        self.record(ctx, Some(tenant), "api_key_use", &change).await.map(drop)
    }
}
