//! The installation's master key: it seals data keys, the vault's integrity key and the mark by which a start knows it. Nothing else.

use std::sync::{Arc, PoisonError, RwLock};

use access::ops;
use crypto::aead::{self, AeadKey};
use domain::{Error, Result, Secret, TenantId};
use serde_json::json;

use super::{damaged, place};
use crate::Store;
use crate::audit::{Category, Change};
use crate::db::{Db, Engine, Tx, args};
use crate::unit::{PlatformWrite, enter};

pub(super) const MASTER_CHECK: &str = "master_check";
/// The key of the vault's keyed hashes.
pub(super) const VAULT_MAC: &str = "vault_mac";

const FIND: &str = "SELECT value FROM installation WHERE name = $1";

/// Master keys in memory: one, or two while one replaces the other.
pub(crate) struct Masters(RwLock<Vec<Arc<AeadKey>>>);

impl Masters {
    pub(crate) fn new(master: AeadKey) -> Self {
        Self(RwLock::new(vec![Arc::new(master)]))
    }

    fn all(&self) -> Vec<Arc<AeadKey>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, masters: Vec<Arc<AeadKey>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = masters;
    }

    /// Opens what one of them sealed.
    pub(crate) fn open(&self, aad: &[u8], sealed: &[u8], what: &str) -> Result<Secret> {
        self.all().iter().find_map(|master| aead::open(master, aad, sealed).ok()).ok_or_else(|| damaged(what))
    }
}

/// The first 16 hex digits of a hash over the key: tells keys apart in audit records and tells nothing about them.
pub fn fingerprint(key: &[u8; 32]) -> String {
    let digest = crypto::sha256(&[b"cairn/key-fingerprint/v1".as_slice(), key].concat());
    digest.to_hex().chars().take(16).collect()
}

fn opens_mark(master: &AeadKey, sealed: &[u8]) -> bool {
    aead::open(master, &place::installation(MASTER_CHECK), sealed).is_ok()
}

fn other_master() -> Error {
    Error::invalid(
        "master_key",
        "this is not the master key that the database was made with: put the right key in place and start again; nothing was changed",
    )
}

/// Which of these keys the database was made with, before any migration runs; none while the database has no mark.
pub(crate) async fn which(db: &Db, masters: &[AeadKey]) -> Result<Option<usize>> {
    let exists = match db.engine() {
        Engine::Sqlite => "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'installation'",
        Engine::Pg => "SELECT 1 WHERE to_regclass('public.installation') IS NOT NULL",
    };
    let mut tx = db.read().await?;
    if tx.row(exists, args![]).await?.is_none() {
        return Ok(None);
    }
    let Some(row) = tx.row(FIND, args![MASTER_CHECK]).await? else { return Ok(None) };
    let sealed = row.bytes(0)?;
    masters.iter().position(|master| opens_mark(master, &sealed)).map(Some).ok_or_else(other_master)
}

/// Leaves the mark by which the next start knows its master key; two servers that start together agree on one.
pub(crate) async fn mark(db: &Db, masters: &Masters, rng: &dyn domain::Rng) -> Result<()> {
    let all = masters.all();
    let first = all.first().ok_or_else(|| damaged(MASTER_CHECK))?;
    let sealed =
        aead::seal(first, &place::installation(MASTER_CHECK), MASTER_CHECK.as_bytes(), rng).map_err(Error::internal)?;
    let mut tx = db.write().await?;
    tx.execute(
        "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        args![MASTER_CHECK, sealed],
    )
    .await?;
    let row = tx.row(FIND, args![MASTER_CHECK]).await?.ok_or_else(|| damaged(MASTER_CHECK))?;
    if !opens_mark(first, &row.bytes(0)?) {
        return Err(other_master());
    }
    tx.commit().await
}

/// The master key in force. Holds the mark's row to the end of the transaction, so that nothing is sealed under a master key that another
/// transaction is about to replace.
pub(super) async fn current(tx: &mut Tx, store: &Store) -> Result<Arc<AeadKey>> {
    holding_mark(tx, &store.vault().masters).await
}

async fn holding_mark(tx: &mut Tx, masters: &Masters) -> Result<Arc<AeadKey>> {
    let sealed = tx
        .row("UPDATE installation SET value = value WHERE name = $1 RETURNING value", args![MASTER_CHECK])
        .await?
        .ok_or_else(|| damaged(MASTER_CHECK))?
        .bytes(0)?;
    masters.all().into_iter().find(|master| opens_mark(master, &sealed)).ok_or_else(|| Error::Unavailable {
        message: "the master key was replaced by another server: put the new key in place and start this server again"
            .to_owned(),
        detail: "no master key in memory opens the mark".to_owned(),
    })
}

/// The key of the vault's keyed hashes, made the first time.
pub(super) async fn mac(store: &Store, masters: &Masters) -> Result<[u8; 32]> {
    let mut tx = store.db().write().await?;
    let master = holding_mark(&mut tx, masters).await?;
    let mut key = [0u8; 32];
    store.rng().fill(&mut key);
    let sealed = aead::seal(&master, &place::installation(VAULT_MAC), &key, &**store.rng()).map_err(Error::internal)?;
    tx.execute(
        "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        args![VAULT_MAC, sealed],
    )
    .await?;
    let stored = tx.row(FIND, args![VAULT_MAC]).await?.ok_or_else(|| damaged(VAULT_MAC))?.bytes(0)?;
    tx.commit().await?;
    let opened = masters.open(&place::installation(VAULT_MAC), &stored, VAULT_MAC)?;
    <[u8; 32]>::try_from(opened.expose()).map_err(|_| damaged(VAULT_MAC))
}

/// Seals anew what `old` sealed.
fn rewrap(store: &Store, old: &AeadKey, new: &AeadKey, aad: &[u8], sealed: &[u8], what: &str) -> Result<Vec<u8>> {
    let opened = aead::open(old, aad, sealed).map_err(|_| damaged(what))?;
    aead::seal(new, aad, opened.expose(), &**store.rng()).map_err(Error::internal)
}

impl PlatformWrite<ops::MasterKeyRotate> {
    /// Replaces the master key: every data key, the integrity key and the mark are sealed anew in one transaction, so that there is never a
    /// moment at which one half of them needs one key and one half the other. The caller has put `new` where the next start finds it beside
    /// the old one, and takes the old one away when this has returned.
    pub async fn master_key_rotate(mut self, new: AeadKey) -> Result<()> {
        let store = self.store.clone();
        let old = current(&mut self.tx, &store).await?;
        if old.expose() == new.expose() {
            return Err(Error::conflict("the new master key is the old one"));
        }
        let new = Arc::new(new);
        // From here to the commit what either sealed can be opened by whoever asks.
        store.vault().masters.set(vec![Arc::clone(&old), Arc::clone(&new)]);
        let keys = rewrap_all(&mut self.tx, &store, &old, &new).await?;
        let (before, after) = (fingerprint(old.expose()), fingerprint(new.expose()));
        let change = Change::to(Category::System, "master_key", &after)
            .detail(json!({"before": before, "after": after, "data_keys": keys}));
        self.commit(change).await?;
        store.vault().masters.set(vec![new]);
        Ok(())
    }
}

async fn rewrap_all(tx: &mut Tx, store: &Store, old: &AeadKey, new: &AeadKey) -> Result<u64> {
    let mut keys = 0;
    for name in [MASTER_CHECK, VAULT_MAC] {
        let row = tx.row(FIND, args![name]).await?.ok_or_else(|| damaged(name))?;
        let sealed = rewrap(store, old, new, &place::installation(name), &row.bytes(0)?, name)?;
        tx.execute("UPDATE installation SET value = $2 WHERE name = $1", args![name, sealed]).await?;
    }
    let platform = crate::unit::platform_tenant();
    for row in tx.rows("SELECT version, sealed FROM platform_key ORDER BY version", args![]).await? {
        let version = row.i64(0)?;
        let aad = place::data_key(platform, version);
        let sealed = rewrap(store, old, new, &aad, &row.bytes(1)?, "the platform's data key")?;
        tx.execute("UPDATE platform_key SET sealed = $2 WHERE version = $1", args![version, sealed]).await?;
        keys += 1;
    }
    for row in tx.rows("SELECT id FROM tenant ORDER BY id", args![]).await? {
        let tenant = TenantId::from_uuid(row.uuid(0)?);
        enter(tx, tenant).await?;
        let held = "SELECT version, sealed FROM data_key WHERE tenant_id = $1 ORDER BY version";
        for row in tx.rows(held, args![tenant]).await? {
            let version = row.i64(0)?;
            let aad = place::data_key(tenant, version);
            let sealed = rewrap(store, old, new, &aad, &row.bytes(1)?, "a tenant's data key")?;
            tx.execute(
                "UPDATE data_key SET sealed = $3 WHERE tenant_id = $1 AND version = $2",
                args![tenant, version, sealed],
            )
            .await?;
            keys += 1;
        }
    }
    Ok(keys)
}
