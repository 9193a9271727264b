//! Keys that sign SSH certificates (the role `ssh-ca`): a series whose members overlap.
//!
//! A new key is published at once and signs after [`LEAD_MS`]: hosts read the published keys into a file of theirs, by a timer or by hand. The
//! one before then loses its private half, and stays published for [`KEEP_MS`], until the last certificate of a host that it signed has ended.

use access::ops;
use crypto::ed25519::{PublicKey, SigningKey};
use domain::{Error, Result, Timestamp};
use serde_json::json;

use super::cell::{self, SIGNING_KEY};
use super::damaged;
use super::head::Head;
use super::signing::{insert, row_key};
use crate::Store;
use crate::audit::{Category, Change};
use crate::db::{Row, Tx, args};
use crate::unit::{PlatformWrite, platform_tenant};

/// The role of these keys.
const ROLE: &str = "ssh-ca";
/// How long a new key is published before it signs, in milliseconds: a week.
const LEAD_MS: i64 = 7 * 24 * 3_600_000;
/// How long a key is published after it stopped signing, in milliseconds: as long as a host's certificate is good, and a week.
const KEEP_MS: i64 = 97 * 24 * 3_600_000;

struct KeyRow {
    version: i64,
    public: PublicKey,
    created_at: Timestamp,
    retired_at: Option<Timestamp>,
}

fn key_row(row: &Row) -> Result<KeyRow> {
    let public = PublicKey::from_bytes(&row.bytes(1)?).map_err(|_| damaged("a public key"))?;
    Ok(KeyRow { version: row.i64(0)?, public, created_at: row.time(2)?, retired_at: row.opt_time(3)? })
}

async fn all(tx: &mut Tx) -> Result<Vec<KeyRow>> {
    let sql = "SELECT version, public, created_at, retired_at FROM signing_key WHERE role = $1 ORDER BY version";
    tx.rows(sql, args![ROLE]).await?.iter().map(key_row).collect()
}

/// The key that signs at this moment: the newest that is published for long enough; the first one from the beginning.
fn signs(rows: &[KeyRow], now: Timestamp) -> Option<&KeyRow> {
    let alive = || rows.iter().filter(|row| row.retired_at.is_none());
    alive().rev().find(|row| now.millis_since(row.created_at) >= LEAD_MS).or_else(|| alive().next())
}

/// Keys that another one follows by now, and that still have their private half.
fn passed(rows: &[KeyRow], now: Timestamp) -> Vec<&KeyRow> {
    let signing = signs(rows, now).map_or(0, |row| row.version);
    rows.iter().filter(|row| row.retired_at.is_none() && row.version < signing).collect()
}

async fn retire(tx: &mut Tx, store: &Store, version: i64) -> Result<()> {
    tx.execute(
        "UPDATE signing_key SET sealed = NULL, retired_at = $3 WHERE role = $1 AND version = $2",
        args![ROLE, version, store.clock().now()],
    )
    .await?;
    cell::forget(tx, store, &SIGNING_KEY, platform_tenant(), &row_key(ROLE, version)).await
}

impl Store {
    /// The public keys whose certificates are to be taken, oldest first. The first one is made here; two servers that start together agree on it.
    pub async fn ssh_ca_keys(&self) -> Result<Vec<PublicKey>> {
        let now = self.clock().now();
        let mut rows = all(&mut self.db().read().await?).await?;
        if rows.is_empty() {
            let mut tx = self.db().write().await?;
            Head::lock(&mut tx, self, platform_tenant()).await?;
            if all(&mut tx).await?.is_empty() {
                let key = SigningKey::generate().map_err(Error::internal)?;
                insert(&mut tx, self, ROLE, 1, &key).await?;
                tx.commit().await?;
            }
            rows = all(&mut self.db().read().await?).await?;
        }
        let is_published = |row: &KeyRow| row.retired_at.is_none_or(|at| now.millis_since(at) < KEEP_MS);
        Ok(rows.into_iter().filter(is_published).map(|row| row.public).collect())
    }

    /// The key that signs now. The installation's: it is opened in a transaction of its own, and not in a tenant's.
    pub(crate) async fn ssh_ca_signing(&self) -> Result<SigningKey> {
        self.ssh_ca_keys().await?;
        let mut tx = self.db().read().await?;
        let rows = all(&mut tx).await?;
        let signing = signs(&rows, self.clock().now()).ok_or_else(|| damaged("the keys of SSH certificates"))?;
        let sql = "SELECT sealed FROM signing_key WHERE role = $1 AND version = $2 AND sealed IS NOT NULL";
        let row = tx.row(sql, args![ROLE, signing.version]).await?.ok_or_else(|| damaged("a signing key"))?;
        let place = row_key(ROLE, signing.version);
        let opened = cell::open(&mut tx, self, &SIGNING_KEY, platform_tenant(), &place, &row.bytes(0)?).await?;
        SigningKey::from_pkcs8(opened.expose()).map_err(|_| damaged("a signing key"))
    }

    /// Whether [`PlatformWrite::ssh_ca_tend`] has something to do.
    pub async fn ssh_ca_is_due(&self) -> Result<bool> {
        let rows = all(&mut self.db().read().await?).await?;
        Ok(!passed(&rows, self.clock().now()).is_empty())
    }
}

impl PlatformWrite<ops::SigningKeyRotate> {
    /// Makes the next key, which signs in a week; with `withdraw` it signs at once, and no key before it is published any more.
    pub async fn ssh_ca_rotate(mut self, withdraw: bool) -> Result<PublicKey> {
        let (store, now) = (self.store.clone(), self.store.clock().now());
        let tx = &mut self.tx;
        Head::lock(tx, &store, platform_tenant()).await?;
        let rows = all(tx).await?;
        let newest = rows
            .last()
            .ok_or_else(|| Error::conflict("there is no key for `ssh-ca` yet: start the server once first"))?;
        if !withdraw && rows.len() > 1 && now.millis_since(newest.created_at) < LEAD_MS {
            return Err(Error::conflict("a key was made less than a week ago and does not sign yet"));
        }
        if withdraw {
            for row in &rows {
                cell::forget(tx, &store, &SIGNING_KEY, platform_tenant(), &row_key(ROLE, row.version)).await?;
            }
            tx.execute("DELETE FROM signing_key WHERE role = $1", args![ROLE]).await?;
        }
        let new = SigningKey::generate().map_err(Error::internal)?;
        insert(tx, &store, ROLE, newest.version + 1, &new).await?;
        let (before, after) = (newest.public.fingerprint().to_hex(), new.public().fingerprint().to_hex());
        let detail = json!({
            "role": ROLE, "version": newest.version + 1, "before": before, "after": after, "withdrawn": withdraw,
        });
        self.commit(Change::to(Category::System, "signing_key", ROLE).detail(detail)).await?;
        Ok(new.public())
    }

    /// A key that has been followed loses its private half.
    pub async fn ssh_ca_tend(mut self) -> Result<()> {
        let (store, now) = (self.store.clone(), self.store.clock().now());
        let tx = &mut self.tx;
        Head::lock(tx, &store, platform_tenant()).await?;
        let rows = all(tx).await?;
        // Another server may have done it meanwhile.
        let passed = passed(&rows, now);
        if passed.is_empty() {
            return Ok(());
        }
        for row in &passed {
            retire(tx, &store, row.version).await?;
        }
        let retired: Vec<_> = passed.iter().map(|row| row.public.fingerprint().to_hex()).collect();
        let detail = json!({"role": ROLE, "retired": retired});
        self.commit(Change::to(Category::System, "signing_key", ROLE).detail(detail)).await.map(drop)
    }
}
