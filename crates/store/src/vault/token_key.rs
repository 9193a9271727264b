//! Keys that sign destination tokens (the role `tokens`): a series whose members overlap, so that no token is refused while one follows another.
//!
//! A new key is published at once and signs after [`LEAD_MS`], when every verifier has heard of it. The one before then loses its private half
//! and stays published for [`KEEP_MS`], until the last token that it signed has long expired. A key that somebody else may have is withdrawn
//! instead: it is published no more, and what it signed is refused by every verifier that has read the keys since.

use access::ops;
use crypto::es512::{PublicKey, SigningKey};
use domain::{Error, Result, Timestamp};
use serde_json::json;

use super::cell::{self, SIGNING_KEY};
use super::damaged;
use super::head::Head;
use super::signing::row_key;
use crate::Store;
use crate::audit::{Category, Change};
use crate::db::{Row, Tx, args};
use crate::unit::{PlatformWrite, platform_tenant};

/// The role of these keys.
const ROLE: &str = "tokens";
/// How long a new key is published before it signs, in milliseconds: twice what verifiers remember a key set.
const LEAD_MS: i64 = 10 * 60_000;
/// How long a key is published after it stopped signing, in milliseconds: twice a token's life.
const KEEP_MS: i64 = 10 * 60_000;
/// How old a key gets before the next one is made, in milliseconds.
const AGE_MS: i64 = 90 * 24 * 3_600_000;

/// What signs destination tokens now, and what they are verified with.
#[derive(Debug)]
pub struct TokenKeys {
    /// Signs.
    pub signing: SigningKey,
    /// What verifiers have to know, oldest first.
    pub published: Vec<PublicKey>,
}

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

fn is_published(row: &KeyRow, now: Timestamp) -> bool {
    row.retired_at.is_none_or(|at| now.millis_since(at) < KEEP_MS)
}

/// What there is to do: keys that sign no more, and whether the newest is old.
fn due(rows: &[KeyRow], now: Timestamp) -> (Vec<&KeyRow>, bool) {
    let Some(signing) = signs(rows, now) else { return (Vec::new(), false) };
    let passed = rows.iter().filter(|row| row.retired_at.is_none() && row.version < signing.version).collect();
    let is_old = rows.last().is_some_and(|newest| now.millis_since(newest.created_at) >= AGE_MS);
    (passed, is_old)
}

async fn insert(tx: &mut Tx, store: &Store, version: i64) -> Result<SigningKey> {
    let key = SigningKey::generate().map_err(Error::internal)?;
    let private = key.to_pkcs8().map_err(Error::internal)?;
    let place = row_key(ROLE, version);
    let sealed = cell::seal(tx, store, &SIGNING_KEY, platform_tenant(), &place, private.expose()).await?;
    tx.execute(
        "INSERT INTO signing_key (role, version, public, sealed, created_at) VALUES ($1, $2, $3, $4, $5)",
        args![ROLE, version, key.public().as_bytes(), sealed.bytes, store.clock().now()],
    )
    .await?;
    Ok(key)
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
    /// The keys of destination tokens as they are now. The first one is made here; two servers that start together agree on it.
    pub async fn token_keys(&self) -> Result<TokenKeys> {
        let now = self.clock().now();
        let mut tx = self.db().read().await?;
        let mut rows = all(&mut tx).await?;
        if rows.is_empty() {
            drop(tx);
            self.first_token_key().await?;
            tx = self.db().read().await?;
            rows = all(&mut tx).await?;
        }
        let signing = signs(&rows, now).ok_or_else(|| damaged("the keys of destination tokens"))?;
        let sql = "SELECT sealed FROM signing_key WHERE role = $1 AND version = $2 AND sealed IS NOT NULL";
        let row = tx.row(sql, args![ROLE, signing.version]).await?.ok_or_else(|| damaged("a signing key"))?;
        let place = row_key(ROLE, signing.version);
        let opened = cell::open(&mut tx, self, &SIGNING_KEY, platform_tenant(), &place, &row.bytes(0)?).await?;
        let signing = SigningKey::from_pkcs8(opened.expose()).map_err(|_| damaged("a signing key"))?;
        let published = rows.into_iter().filter(|row| is_published(row, now)).map(|row| row.public).collect();
        Ok(TokenKeys { signing, published })
    }

    async fn first_token_key(&self) -> Result<()> {
        let mut tx = self.db().write().await?;
        Head::lock(&mut tx, self, platform_tenant()).await?;
        if all(&mut tx).await?.is_empty() {
            insert(&mut tx, self, 1).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Whether [`PlatformWrite::token_key_tend`] has something to do.
    pub async fn token_key_is_due(&self) -> Result<bool> {
        let rows = all(&mut self.db().read().await?).await?;
        let (passed, is_old) = due(&rows, self.clock().now());
        Ok(is_old || !passed.is_empty())
    }
}

impl PlatformWrite<ops::SigningKeyRotate> {
    /// Makes the next key, which signs in ten minutes; with `withdraw` it signs at once, and every key before it and what they signed is
    /// good for nothing any more.
    pub async fn token_key_rotate(mut self, withdraw: bool) -> Result<PublicKey> {
        let (store, now) = (self.store.clone(), self.store.clock().now());
        let tx = &mut self.tx;
        Head::lock(tx, &store, platform_tenant()).await?;
        let rows = all(tx).await?;
        let newest = rows
            .last()
            .ok_or_else(|| Error::conflict("there is no key for `tokens` yet: start the server once first"))?;
        if !withdraw && rows.len() > 1 && now.millis_since(newest.created_at) < LEAD_MS {
            return Err(Error::conflict("a key was made less than ten minutes ago and does not sign yet"));
        }
        if withdraw {
            for row in &rows {
                cell::forget(tx, &store, &SIGNING_KEY, platform_tenant(), &row_key(ROLE, row.version)).await?;
            }
            tx.execute("DELETE FROM signing_key WHERE role = $1", args![ROLE]).await?;
        }
        let new = insert(tx, &store, newest.version + 1).await?.public().clone();
        let detail = json!({
            "role": ROLE, "version": newest.version + 1, "before": newest.public.kid(), "after": new.kid(), "withdrawn": withdraw,
        });
        self.commit(Change::to(Category::System, "signing_key", ROLE).detail(detail)).await?;
        Ok(new)
    }

    /// Does what time asks for: a key that has been followed loses its private half, and one that is old is followed.
    pub async fn token_key_tend(mut self) -> Result<()> {
        let (store, now) = (self.store.clone(), self.store.clock().now());
        let tx = &mut self.tx;
        Head::lock(tx, &store, platform_tenant()).await?;
        let rows = all(tx).await?;
        // Another server may have done it meanwhile.
        let (passed, is_old) = due(&rows, now);
        let (Some(newest), true) = (rows.last(), is_old || !passed.is_empty()) else { return Ok(()) };
        for row in &passed {
            retire(tx, &store, row.version).await?;
        }
        let made =
            if is_old { Some(insert(tx, &store, newest.version + 1).await?.public().kid().to_owned()) } else { None };
        let retired: Vec<_> = passed.iter().map(|row| row.public.kid().to_owned()).collect();
        let detail = json!({"role": ROLE, "made": made, "retired": retired});
        self.commit(Change::to(Category::System, "signing_key", ROLE).detail(detail)).await.map(drop)
    }
}
