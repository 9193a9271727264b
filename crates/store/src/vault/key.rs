//! Data keys: one series of versions for each tenant and one for the platform, sealed by the master key. The newest one seals; older ones
//! open what is not sealed anew yet, and go when nothing needs them any more.

use crypto::aead::{self, AeadKey};
use domain::{Error, Result, TenantId, Timestamp};

use super::{damaged, master, place};
use crate::Store;
use crate::db::{Tx, args};
use crate::unit::platform_tenant;

/// Values that one data key seals before the next one takes over. Random 96-bit nonces allow 2^32 (NIST SP 800-38D, section 8.3); the
/// margin is for seals whose transaction was undone and therefore not counted.
pub(crate) const SEALS_MAX: i64 = 1 << 28;

/// A data key that is opened.
pub(super) struct DataKey {
    pub(super) version: i64,
    pub(super) key: AeadKey,
}

/// A data key without the key.
#[derive(Debug, Clone)]
pub struct DataKeyRow {
    /// Its version.
    pub version: i64,
    /// When it was made.
    pub created_at: Timestamp,
    /// How many values it sealed.
    pub seals: i64,
    /// How many values it still opens.
    pub values: i64,
}

fn unwrap(store: &Store, scope: TenantId, version: i64, sealed: &[u8]) -> Result<DataKey> {
    let what = "the data key";
    let opened = store.vault().masters.open(&place::data_key(scope, version), sealed, what)?;
    let key = <[u8; 32]>::try_from(opened.expose()).map_err(|_| damaged(what))?;
    Ok(DataKey { version, key: AeadKey::from_bytes(key) })
}

/// Makes the next version.
pub(super) async fn create(tx: &mut Tx, store: &Store, scope: TenantId) -> Result<DataKey> {
    let master = master::current(tx, store).await?;
    let newest = if scope == platform_tenant() {
        tx.row("SELECT MAX(version) FROM platform_key", args![]).await?
    } else {
        tx.row("SELECT MAX(version) FROM data_key WHERE tenant_id = $1", args![scope]).await?
    };
    let version = newest.map_or(Ok(None), |row| row.opt_i64(0))?.unwrap_or(0) + 1;
    let key = AeadKey::generate(&**store.rng());
    let aad = place::data_key(scope, version);
    let sealed = aead::seal(&master, &aad, key.expose(), &**store.rng()).map_err(Error::internal)?;
    let now = store.clock().now();
    if scope == platform_tenant() {
        tx.execute(
            "INSERT INTO platform_key (version, sealed, seals, created_at) VALUES ($1, $2, $3, $4)",
            args![version, sealed, 0_i64, now],
        )
        .await?;
    } else {
        tx.execute(
            "INSERT INTO data_key (tenant_id, version, sealed, seals, created_at) VALUES ($1, $2, $3, $4, $5)",
            args![scope, version, sealed, 0_i64, now],
        )
        .await?;
    }
    Ok(DataKey { version, key })
}

/// The key that seals now, its seal counted; the next version where this one has sealed enough.
pub(super) async fn for_sealing(tx: &mut Tx, store: &Store, scope: TenantId) -> Result<DataKey> {
    let row = if scope == platform_tenant() {
        tx.row(
            "UPDATE platform_key SET seals = seals + 1 WHERE version = (SELECT MAX(version) FROM platform_key) \
             RETURNING version, sealed, seals",
            args![],
        )
        .await?
    } else {
        tx.row(
            "UPDATE data_key SET seals = seals + 1 WHERE tenant_id = $1 AND version = \
             (SELECT MAX(version) FROM data_key WHERE tenant_id = $1) RETURNING version, sealed, seals",
            args![scope],
        )
        .await?
    }
    .ok_or_else(|| damaged("the data key"))?;
    if row.i64(2)? > store.vault().seals_max {
        let next = create(tx, store, scope).await?;
        tracing::info!(scope = %scope, version = next.version, "a data key has sealed enough: the next one takes over");
        return Ok(next);
    }
    unwrap(store, scope, row.i64(0)?, &row.bytes(1)?)
}

/// The key of one version. One that is gone although a value needs it was deleted by somebody else: keys that are needed are never dropped.
pub(super) async fn by_version(tx: &mut Tx, store: &Store, scope: TenantId, version: i64) -> Result<DataKey> {
    let row = if scope == platform_tenant() {
        tx.row("SELECT sealed FROM platform_key WHERE version = $1", args![version]).await?
    } else {
        tx.row("SELECT sealed FROM data_key WHERE tenant_id = $1 AND version = $2", args![scope, version]).await?
    };
    let Some(row) = row else {
        return Err(Error::internal(format!(
            "version {version} of the data key of {scope} is gone, but a value is still sealed with it: restore the row from a backup"
        )));
    };
    unwrap(store, scope, version, &row.bytes(0)?)
}

/// The newest version.
pub(super) async fn newest(tx: &mut Tx, scope: TenantId) -> Result<i64> {
    let row = if scope == platform_tenant() {
        tx.row("SELECT MAX(version) FROM platform_key", args![]).await?
    } else {
        tx.row("SELECT MAX(version) FROM data_key WHERE tenant_id = $1", args![scope]).await?
    };
    row.map_or(Ok(None), |row| row.opt_i64(0))?.ok_or_else(|| damaged("the data key"))
}

/// Deletes every version but the newest that no value needs; which ones.
pub(super) async fn drop_unused(tx: &mut Tx, scope: TenantId) -> Result<Vec<i64>> {
    let rows = if scope == platform_tenant() {
        tx.rows(
            "DELETE FROM platform_key WHERE version < (SELECT MAX(version) FROM platform_key) AND version NOT IN \
             (SELECT key_version FROM vault_entry WHERE tenant_id = $1) RETURNING version",
            args![scope],
        )
        .await?
    } else {
        tx.rows(
            "DELETE FROM data_key WHERE tenant_id = $1 AND version < (SELECT MAX(version) FROM data_key WHERE tenant_id = $1) \
             AND version NOT IN (SELECT key_version FROM vault_entry WHERE tenant_id = $1) RETURNING version",
            args![scope],
        )
        .await?
    };
    rows.iter().map(|row| row.i64(0)).collect()
}

/// Every version with what it sealed and still opens.
pub(super) async fn list(tx: &mut Tx, scope: TenantId) -> Result<Vec<DataKeyRow>> {
    let rows = if scope == platform_tenant() {
        tx.rows(
            "SELECT k.version, k.created_at, k.seals, \
             (SELECT COUNT(*) FROM vault_entry e WHERE e.tenant_id = $1 AND e.key_version = k.version) \
             FROM platform_key k ORDER BY k.version",
            args![scope],
        )
        .await?
    } else {
        tx.rows(
            "SELECT k.version, k.created_at, k.seals, \
             (SELECT COUNT(*) FROM vault_entry e WHERE e.tenant_id = $1 AND e.key_version = k.version) \
             FROM data_key k WHERE k.tenant_id = $1 ORDER BY k.version",
            args![scope],
        )
        .await?
    };
    let row = |row: &crate::db::Row| {
        Ok(DataKeyRow { version: row.i64(0)?, created_at: row.time(1)?, seals: row.i64(2)?, values: row.i64(3)? })
    };
    rows.iter().map(row).collect()
}
