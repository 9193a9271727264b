//! What happens to the vault when a store is opened: its integrity key is read, what older versions sealed is taken in, and the whole of it is
//! compared with what the witness has seen.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use access::OpCtx;
use crypto::aead::{self, AeadKey};
use domain::{CredentialId, Digest, Error, FactorId, Result, Secret, TenantId, UserId};
use serde_json::json;

use super::cell::{self, CREDENTIAL, Column, FACTOR, INSTALLATION, RowKey};
use super::head::{Head, refused};
use super::master::{self, Masters};
use super::witness::Witness;
use super::{damaged, key, place};
use crate::Store;
use crate::audit::{self, Category, Change};
use crate::db::{Tx, args};
use crate::factor::RecoveryKey;
use crate::unit::{enter, platform_tenant};

/// How the vault is opened.
#[derive(Debug, Default)]
pub struct VaultOptions {
    /// The file outside of the database that remembers how far the vault has come; none: a database that was restored from an older copy is
    /// noticed only by a server that is still running.
    pub witness: Option<PathBuf>,
    /// Take the database as it is although it is older than the witness, and record that. For a backup that was restored on purpose.
    pub accept_rollback: bool,
    /// Values that one data key seals before the next one takes over; none: 2^28.
    pub seals_max: Option<i64>,
}

/// The vault of an open store.
pub(crate) struct Vault {
    pub(crate) masters: Masters,
    pub(super) seals_max: i64,
    pub(super) witness: Arc<Witness>,
    mac: [u8; 32],
}

impl Vault {
    /// The key of keyed hashes.
    pub(super) fn mac(&self) -> &[u8; 32] {
        &self.mac
    }
}

/// A vault that is opened only after its store: what it needs from there is SQL.
#[derive(Default)]
pub(crate) struct Slot(OnceLock<Vault>);

impl Slot {
    pub(crate) fn vault(&self) -> &Vault {
        #[expect(clippy::expect_used, reason = "`Store::open` fills it before anybody gets the store")]
        self.0.get().expect("the vault is open")
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.mac.fill(0);
        std::hint::black_box(&self.mac);
    }
}

/// Opens the vault of a store whose schema is up to date.
pub(crate) async fn open(store: &Store, master: AeadKey, options: VaultOptions) -> Result<()> {
    let VaultOptions { witness: path, accept_rollback, seals_max } = options;
    let masters = Masters::new(master);
    master::mark(store.db(), &masters, &**store.rng()).await?;
    let mac = master::mac(store, &masters).await?;
    let witness = match Witness::open(path.clone(), &mac) {
        Err(_) if accept_rollback => Witness::forgetful(path.clone(), &mac),
        other => other?,
    };
    let (scopes, seen) = (scopes(store).await?, witness.scopes());
    let older = older(store, &witness, &scopes, &seen).await?;
    let witness = match (older, accept_rollback) {
        (None, _) => witness,
        (Some(what), true) => {
            record_override(store, &what).await?;
            Witness::forgetful(path, &mac)
        }
        (Some(what), false) => {
            return Err(Error::invalid(
                "database.url",
                format!(
                    "the database is older than this server's data directory has seen: {what}. Secrets that were replaced or withdrawn since would be \
                     in force again. If you restored a backup on purpose, start once with `--accept-vault-rollback`; nothing was changed"
                ),
            ));
        }
    };
    let vault = Vault { masters, seals_max: seals_max.unwrap_or(key::SEALS_MAX), witness: Arc::new(witness), mac };
    if store.slot().0.set(vault).is_err() {
        return Err(Error::internal("the vault was opened twice"));
    }
    for scope in scopes {
        adopt(store, scope).await?;
    }
    adopt_factors(store).await?;
    check(store).await
}

/// The platform and every tenant, also closed ones.
async fn scopes(store: &Store) -> Result<Vec<TenantId>> {
    let mut tx = store.db().read().await?;
    let rows = tx.rows("SELECT id FROM tenant ORDER BY id", args![]).await?;
    let tenants = rows.iter().map(|row| row.uuid(0).map(TenantId::from_uuid)).collect::<Result<Vec<_>>>()?;
    Ok([vec![platform_tenant()], tenants].concat())
}

/// In what the database is older than the witness; none when it is not.
async fn older(store: &Store, witness: &Witness, scopes: &[TenantId], seen: &[TenantId]) -> Result<Option<String>> {
    let mut tx = store.db().read().await?;
    for scope in seen {
        let name = if *scope == platform_tenant() { "the platform".to_owned() } else { scope.to_string() };
        if !scopes.contains(scope) {
            return Ok(Some(format!("the tenant {name} is missing")));
        }
        enter(&mut tx, *scope).await?;
        let row = tx.row("SELECT counter, sum, tag FROM vault_head WHERE tenant_id = $1", args![*scope]).await?;
        let Some(row) = row else { return Ok(Some(format!("the vault of {name} has no head"))) };
        let (held, tag) = (row.i64(0)?, row.bytes(2)?);
        let tag = <[u8; 32]>::try_from(tag).map_err(|_| damaged("the vault's head"))?;
        if let Err(what) = witness.admit(*scope, held, &tag) {
            return Ok(Some(format!("of the vault of {name} {what}")));
        }
    }
    Ok(None)
}

async fn record_override(store: &Store, what: &str) -> Result<()> {
    tracing::warn!(what, "the vault's rollback is accepted as asked for");
    let ctx = OpCtx::system_platform("vault", store.clock().clone(), store.rng().clone());
    let mut tx = store.db().write().await?;
    enter(&mut tx, platform_tenant()).await?;
    let change = Change::to(Category::System, "vault", "platform").detail(json!({"accepted": what}));
    audit::append(&mut tx, platform_tenant(), &ctx, "vault_rollback_accept", &change).await?;
    tx.commit().await
}

/// Makes a scope's first data key where it has none, and takes in what older versions sealed. Only a scope without any head is taken in: later
/// the older form is refused.
async fn adopt(store: &Store, scope: TenantId) -> Result<()> {
    let mut tx = store.db().write().await?;
    let head = Head::lock(&mut tx, store, scope).await?;
    if head.counter > 0 {
        return Ok(());
    }
    if scope == platform_tenant() {
        key::create(&mut tx, store, scope).await?;
    }
    head.advance(&mut tx, store).await?;
    // Second factors were sealed under one of the platform's values, so they come after those.
    for column in Column::of(scope).filter(|column| column.name != FACTOR.name) {
        for (row, old) in column.scan(&mut tx, scope).await? {
            let plaintext = legacy(&mut tx, store, column, scope, &row, &old).await?;
            cell::adopt(&mut tx, store, column, scope, &row, &old, &plaintext).await?;
        }
    }
    tx.commit().await
}

/// The secret of the installation that sealed authenticator apps' secrets before migration 15, and recovery codes' MACs.
const FACTOR_KEY: &str = "factor_key";

/// Takes in authenticator apps' secrets as they were sealed before migration 15, and destroys the key that sealed them: from then on the older
/// form opens nowhere, also where somebody puts it back. What recovery codes were kept under is made of that key, and goes on.
async fn adopt_factors(store: &Store) -> Result<()> {
    let (platform, row) = (platform_tenant(), RowKey::from(FACTOR_KEY));
    let mut tx = store.db().write().await?;
    let head = Head::lock(&mut tx, store, platform).await?;
    let Some(found) = tx.row("SELECT value FROM installation WHERE name = $1", args![FACTOR_KEY]).await? else {
        return Ok(());
    };
    // Not a key that somebody put back together with its entry.
    cell::entries(&mut tx, store, &head).await?;
    let key = cell::open(&mut tx, store, &INSTALLATION, platform, &row, &found.bytes(0)?).await?;
    let aead_key = <[u8; 32]>::try_from(key.expose()).map_err(|_| damaged("the factor key"))?;
    let aead_key = AeadKey::from_bytes(aead_key);
    let factors = tx.rows("SELECT id, user_id, sealed FROM factor WHERE sealed IS NOT NULL", args![]).await?;
    for factor in &factors {
        let (id, user) = (FactorId::from_uuid(factor.uuid(0)?), UserId::from_uuid(factor.uuid(1)?));
        let (place, old) = (place::legacy_factor(user, id), factor.bytes(2)?);
        let secret = aead::open(&aead_key, &place, &old).map_err(|_| damaged("a second factor"))?;
        let owned = crate::factor::owned(user, &secret);
        cell::adopt(&mut tx, store, &FACTOR, platform, &id.as_uuid().into(), &old, &owned).await?;
    }
    let recovery = crypto::hmac_sha256(key.expose(), b"cairn/recovery-code/v1");
    let name = RecoveryKey::NAME;
    let sealed = cell::seal(&mut tx, store, &INSTALLATION, platform, &name.into(), &recovery).await?;
    tx.execute("INSERT INTO installation (name, value) VALUES ($1, $2)", args![name, sealed.bytes]).await?;
    tx.execute("DELETE FROM installation WHERE name = $1", args![FACTOR_KEY]).await?;
    cell::forget(&mut tx, store, &INSTALLATION, platform, &row).await?;
    let ctx = OpCtx::system_platform("vault", store.clock().clone(), store.rng().clone());
    let change = Change::to(Category::System, "vault", "platform").detail(json!({"factors": factors.len()}));
    enter(&mut tx, platform).await?;
    audit::append(&mut tx, platform, &ctx, "vault_factors_adopt", &change).await?;
    tx.commit().await
}

/// Opens a value as it was sealed before migration 6.
async fn legacy(
    tx: &mut Tx,
    store: &Store,
    column: &Column,
    scope: TenantId,
    row: &RowKey,
    old: &[u8],
) -> Result<Secret> {
    let masters = &store.vault().masters;
    match row {
        RowKey::Text(name) if column.name == INSTALLATION.name => masters.open(&place::installation(name), old, name),
        RowKey::Uuid(id) if column.name == CREDENTIAL.name => {
            let sql = "SELECT key_version FROM credential WHERE tenant_id = $1 AND id = $2";
            let version = tx.row(sql, args![scope, *id]).await?.ok_or_else(|| damaged("the credential"))?.i64(0)?;
            let data_key = key::by_version(tx, store, scope, version).await?;
            let aad = place::legacy_credential(scope, CredentialId::from_uuid(*id), version);
            aead::open(&data_key.key, &aad, old).map_err(|_| damaged("a credential"))
        }
        _ => Err(refused(scope, &format!("`{}` holds a value that no version of this server sealed", column.name))),
    }
}

/// Checks every sealed value of the installation, and lets the witness catch up with what it has not seen: changes of other servers, and of a
/// server that was killed.
async fn check(store: &Store) -> Result<()> {
    let mut heads = std::collections::BTreeMap::new();
    for scope in scopes(store).await? {
        let mut tx = store.db().read().await?;
        enter(&mut tx, scope).await?;
        let gone = cell::check_all(&mut tx, store, scope).await.map_err(|error| match error {
            Error::Internal { detail } => Error::Unavailable {
                message: format!(
                    "{detail}. Somebody else wrote to the database, or a part of it was restored: restore the whole of it; nothing was changed"
                ),
                detail: String::new(),
            },
            other => other,
        })?;
        if gone > 0 {
            tracing::warn!(%scope, gone, "sealed values were deleted without the vault: the next rotation forgets them");
        }
        if let Some(head) = Head::find(&mut tx, store, scope).await? {
            heads.insert(scope, (head.counter, Digest(head.tag(store))));
        }
    }
    store.vault().witness.raise(heads).map_err(|error| Error::Unavailable {
        message: "`vault.witness` in the data directory cannot be written: check the disk and its permissions"
            .to_owned(),
        detail: error.to_string(),
    })
}

impl Store {
    /// Checks every sealed value of the installation against its entry, the entries against their head, and the head against the witness.
    pub async fn vault_check(&self) -> Result<()> {
        check(self).await
    }
}
