//! Keys that sign, one series of versions for each role: `evidence`, `log`, `fleet`; those of `tokens` are in `token_key.rs`, those of `ssh-ca` in `ssh_ca.rs`. The newest has its private half; older ones keep their public half
//! for ever, so that what they signed still verifies.

use access::ops;
use crypto::ed25519::{PublicKey, SigningKey};
use domain::{Error, Result, Timestamp};
use serde_json::json;

use super::cell::{self, INSTALLATION, SIGNING_KEY};
use super::damaged;
use super::head::Head;
use super::series::{self, NewKey};
use crate::Store;
use crate::audit::{Category, Change};
use crate::db::{Tx, args};
use crate::unit::{PlatformWrite, platform_tenant};

/// The public half of a signing key.
#[derive(Debug, Clone)]
pub struct SigningKeyRow {
    /// Its version in the role's series.
    pub version: i64,
    /// The public half.
    pub public: PublicKey,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when another one signs.
    pub retired_at: Option<Timestamp>,
}

pub(super) fn row_key(role: &str, version: i64) -> cell::RowKey {
    cell::RowKey::Text(format!("{role}/{version}"))
}

async fn insert(tx: &mut Tx, store: &Store, role: &str, version: i64, key: &SigningKey) -> Result<()> {
    let new = NewKey { public: key.public().as_bytes().to_vec(), private: key.to_pkcs8() };
    series::insert(tx, store, role, version, &new).await
}

async fn open_newest(tx: &mut Tx, store: &Store, role: &str) -> Result<Option<(i64, SigningKey)>> {
    let newest =
        "SELECT version, sealed FROM signing_key WHERE role = $1 AND retired_at IS NULL ORDER BY version DESC LIMIT 1";
    let Some(row) = tx.row(newest, args![role]).await? else { return Ok(None) };
    let (version, sealed) = (row.i64(0)?, row.bytes(1)?);
    let opened = cell::open(tx, store, &SIGNING_KEY, platform_tenant(), &row_key(role, version), &sealed).await?;
    let key = SigningKey::from_pkcs8(opened.expose()).map_err(|_| damaged("a signing key"))?;
    Ok(Some((version, key)))
}

/// The key of a role as `installation` held it before there were versions; it is moved, not copied.
async fn take_legacy(tx: &mut Tx, store: &Store, name: &str) -> Result<Option<SigningKey>> {
    let Some(row) = tx.row("SELECT value FROM installation WHERE name = $1", args![name]).await? else {
        return Ok(None);
    };
    let opened = cell::open(tx, store, &INSTALLATION, platform_tenant(), &name.into(), &row.bytes(0)?).await?;
    let key = SigningKey::from_pkcs8(opened.expose()).map_err(|_| damaged("a signing key"))?;
    tx.execute("DELETE FROM installation WHERE name = $1", args![name]).await?;
    cell::forget(tx, store, &INSTALLATION, platform_tenant(), &name.into()).await?;
    Ok(Some(key))
}

impl Store {
    /// The key that signs for a role now, made the first time. Two servers that start together agree on one.
    pub async fn signing_key(&self, role: &'static str) -> Result<SigningKey> {
        let mut tx = self.db().write().await?;
        Head::lock(&mut tx, self, platform_tenant()).await?;
        if let Some((_, key)) = open_newest(&mut tx, self, role).await? {
            return Ok(key);
        }
        let legacy = take_legacy(&mut tx, self, &format!("{role}_key")).await?;
        let key = legacy.map_or_else(|| SigningKey::generate().map_err(Error::internal), Ok)?;
        insert(&mut tx, self, role, 1, &key).await?;
        tx.commit().await?;
        Ok(key)
    }

    /// Every public key of a role, oldest first.
    pub async fn signing_keys(&self, role: &str) -> Result<Vec<SigningKeyRow>> {
        let mut tx = self.db().read().await?;
        let rows = tx
            .rows(
                "SELECT version, public, created_at, retired_at FROM signing_key WHERE role = $1 ORDER BY version",
                args![role],
            )
            .await?;
        let row = |row: &crate::db::Row| {
            let public = PublicKey::from_bytes(&row.bytes(1)?).map_err(|_| damaged("a public key"))?;
            Ok(SigningKeyRow { version: row.i64(0)?, public, created_at: row.time(2)?, retired_at: row.opt_time(3)? })
        };
        rows.iter().map(row).collect()
    }
}

impl PlatformWrite<ops::SigningKeyRotate> {
    /// Makes the next key of a role. The one before keeps its public half; its private half is gone from here on.
    pub async fn signing_key_rotate(mut self, role: &'static str) -> Result<PublicKey> {
        let store = self.store.clone();
        let tx = &mut self.tx;
        Head::lock(tx, &store, platform_tenant()).await?;
        let (version, old) = open_newest(tx, &store, role)
            .await?
            .ok_or_else(|| Error::conflict(format!("there is no key for `{role}` yet: start the server once first")))?;
        tx.execute(
            "UPDATE signing_key SET sealed = NULL, retired_at = $3 WHERE role = $1 AND version = $2",
            args![role, version, store.clock().now()],
        )
        .await?;
        cell::forget(tx, &store, &SIGNING_KEY, platform_tenant(), &row_key(role, version)).await?;
        let new = SigningKey::generate().map_err(Error::internal)?;
        insert(tx, &store, role, version + 1, &new).await?;
        let (before, after) = (old.public().fingerprint(), new.public().fingerprint());
        let change = Change::to(Category::System, "signing_key", role)
            .detail(json!({"role": role, "version": version + 1, "before": before.to_hex(), "after": after.to_hex()}));
        self.commit(change).await?;
        Ok(new.public())
    }
}
