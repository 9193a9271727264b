//! Series of signing keys whose members overlap: a new key is published before it signs, and one that signs no more stays published for a while.
//!
//! **Not for** what a key signs, nor of which kind it is: public halves are bytes here.

use domain::{Error, Result, Secret, Timestamp};

use super::cell::{self, SIGNING_KEY};
use super::damaged;
use super::head::Head;
use super::signing::row_key;
use crate::Store;
use crate::db::{Row, Tx, args};
use crate::unit::platform_tenant;

/// How the keys of a role follow one another.
pub(super) struct Series {
    /// The role.
    pub(super) role: &'static str,
    /// How long a new key is published before it signs, in milliseconds; and in words.
    pub(super) lead_ms: i64,
    pub(super) lead: &'static str,
    /// How long a key is published after it stopped signing, in milliseconds.
    pub(super) keep_ms: i64,
}

/// A key of a series.
pub(super) struct KeyRow {
    pub(super) version: i64,
    pub(super) public: Vec<u8>,
    pub(super) created_at: Timestamp,
    retired_at: Option<Timestamp>,
}

fn key_row(row: &Row) -> Result<KeyRow> {
    Ok(KeyRow { version: row.i64(0)?, public: row.bytes(1)?, created_at: row.time(2)?, retired_at: row.opt_time(3)? })
}

/// A new key's two halves.
pub(super) struct NewKey {
    pub(super) public: Vec<u8>,
    pub(super) private: Secret,
}

/// Seals a key and writes it down.
pub(super) async fn insert(tx: &mut Tx, store: &Store, role: &str, version: i64, new: &NewKey) -> Result<()> {
    let place = row_key(role, version);
    let sealed = cell::seal(tx, store, &SIGNING_KEY, platform_tenant(), &place, new.private.expose()).await?;
    tx.execute(
        "INSERT INTO signing_key (role, version, public, sealed, created_at) VALUES ($1, $2, $3, $4, $5)",
        args![role, version, new.public.clone(), sealed.bytes, store.clock().now()],
    )
    .await
    .map(drop)
}

impl Series {
    /// Every key, oldest first.
    pub(super) async fn all(&self, tx: &mut Tx) -> Result<Vec<KeyRow>> {
        let sql = "SELECT version, public, created_at, retired_at FROM signing_key WHERE role = $1 ORDER BY version";
        tx.rows(sql, args![self.role]).await?.iter().map(key_row).collect()
    }

    /// Every key, oldest first. The first one is made here; two servers that start together agree on it.
    pub(super) async fn begun(&self, store: &Store, make: impl Fn() -> Result<NewKey>) -> Result<Vec<KeyRow>> {
        let rows = self.all(&mut store.db().read().await?).await?;
        if !rows.is_empty() {
            return Ok(rows);
        }
        let mut tx = store.db().write().await?;
        Head::lock(&mut tx, store, platform_tenant()).await?;
        if self.all(&mut tx).await?.is_empty() {
            insert(&mut tx, store, self.role, 1, &make()?).await?;
            tx.commit().await?;
        }
        self.all(&mut store.db().read().await?).await
    }

    /// The key that signs at this moment: the newest that is published for long enough; the first one from the beginning.
    pub(super) fn signs<'r>(&self, rows: &'r [KeyRow], now: Timestamp) -> Option<&'r KeyRow> {
        let alive = || rows.iter().filter(|row| row.retired_at.is_none());
        alive().rev().find(|row| now.millis_since(row.created_at) >= self.lead_ms).or_else(|| alive().next())
    }

    /// Keys that another one follows by now, and that still have their private half.
    pub(super) fn passed<'r>(&self, rows: &'r [KeyRow], now: Timestamp) -> Vec<&'r KeyRow> {
        let signing = self.signs(rows, now).map_or(0, |row| row.version);
        rows.iter().filter(|row| row.retired_at.is_none() && row.version < signing).collect()
    }

    /// Whether a key is published.
    pub(super) fn is_published(&self, row: &KeyRow, now: Timestamp) -> bool {
        row.retired_at.is_none_or(|at| now.millis_since(at) < self.keep_ms)
    }

    /// The private half of the key that signs now.
    pub(super) async fn signing(&self, store: &Store, rows: &[KeyRow]) -> Result<Secret> {
        let signing = self.signs(rows, store.clock().now()).ok_or_else(|| damaged("a series of signing keys"))?;
        let mut tx = store.db().read().await?;
        let sql = "SELECT sealed FROM signing_key WHERE role = $1 AND version = $2 AND sealed IS NOT NULL";
        let row = tx.row(sql, args![self.role, signing.version]).await?.ok_or_else(|| damaged("a signing key"))?;
        let place = row_key(self.role, signing.version);
        cell::open(&mut tx, store, &SIGNING_KEY, platform_tenant(), &place, &row.bytes(0)?).await
    }

    /// The newest key, if another one may follow it; with `withdraw` no key before that one is kept.
    pub(super) async fn follow<'r>(
        &self,
        tx: &mut Tx,
        store: &Store,
        rows: &'r [KeyRow],
        withdraw: bool,
    ) -> Result<&'r KeyRow> {
        let newest = rows.last().ok_or_else(|| {
            Error::conflict(format!("there is no key for `{}` yet: start the server once first", self.role))
        })?;
        if withdraw {
            for row in rows {
                cell::forget(tx, store, &SIGNING_KEY, platform_tenant(), &row_key(self.role, row.version)).await?;
            }
            tx.execute("DELETE FROM signing_key WHERE role = $1", args![self.role]).await?;
        } else if rows.len() > 1 && store.clock().now().millis_since(newest.created_at) < self.lead_ms {
            return Err(Error::conflict(format!("a key was made less than {} ago and does not sign yet", self.lead)));
        }
        Ok(newest)
    }

    /// Takes a key's private half away.
    pub(super) async fn retire(&self, tx: &mut Tx, store: &Store, row: &KeyRow) -> Result<()> {
        tx.execute(
            "UPDATE signing_key SET sealed = NULL, retired_at = $3 WHERE role = $1 AND version = $2",
            args![self.role, row.version, store.clock().now()],
        )
        .await?;
        cell::forget(tx, store, &SIGNING_KEY, platform_tenant(), &row_key(self.role, row.version)).await
    }
}
