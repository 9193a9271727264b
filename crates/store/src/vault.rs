//! The vault: what must be kept secret at rest, sealed with AES-256-GCM.
//!
//! The installation's master key seals a data key per tenant and the installation's own secrets; a tenant's data key seals its credentials.
//! Tenant, row, column and key version are bound in as associated data, so a sealed value opens in its own place only.

use access::ops;
use crypto::aead::{self, AeadKey};
use domain::{CredentialId, DisplayName, Error, Result, Secret, TenantId, Timestamp};
use serde_json::json;

use crate::audit::{Category, Change};
use crate::db::{Db, Engine, Tx, args};
use crate::unit::{Read, Write};
use crate::{Page, Store};

/// The context that a sealed value is bound to: every part length-prefixed, so that no two contexts share a spelling.
pub(crate) fn place(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = b"cairn/sealed/v1".to_vec();
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

fn data_key_place(tenant: TenantId, version: i64) -> Vec<u8> {
    place(&[b"data_key", tenant.as_uuid().as_bytes(), b"sealed", &version.to_be_bytes()])
}

fn credential_place(tenant: TenantId, id: CredentialId, version: i64) -> Vec<u8> {
    place(&[b"credential", tenant.as_uuid().as_bytes(), id.as_uuid().as_bytes(), b"sealed", &version.to_be_bytes()])
}

pub(crate) fn damaged(what: &str) -> Error {
    Error::internal(format!("{what} does not open: the row was changed, moved or sealed under another master key"))
}

const MASTER_CHECK: &str = "master_check";

fn opens_mark(master: &AeadKey, sealed: &[u8]) -> Result<()> {
    let aad = place(&[b"installation", MASTER_CHECK.as_bytes()]);
    aead::open(master, &aad, sealed).map(drop).map_err(|_| {
        Error::invalid(
            "master_key",
            "this is not the master key that the database was made with: put the right key in place and start again; nothing was changed",
        )
    })
}

const FIND_MARK: &str = "SELECT value FROM installation WHERE name = $1";

/// Refuses another master key before the first migration runs. A database without tables has no mark yet.
pub(crate) async fn refuse_other_master(db: &Db, master: &AeadKey) -> Result<()> {
    let exists = match db.engine() {
        Engine::Sqlite => "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'installation'",
        Engine::Pg => "SELECT 1 WHERE to_regclass('public.installation') IS NOT NULL",
    };
    let mut tx = db.read().await?;
    if tx.row(exists, args![]).await?.is_none() {
        return Ok(());
    }
    match tx.row(FIND_MARK, args![MASTER_CHECK]).await? {
        Some(row) => opens_mark(master, &row.bytes(0)?),
        None => Ok(()),
    }
}

/// Leaves the mark by which the next start knows its master key; two servers that start together agree on one.
pub(crate) async fn mark_master(db: &Db, master: &AeadKey, rng: &dyn domain::Rng) -> Result<()> {
    let aad = place(&[b"installation", MASTER_CHECK.as_bytes()]);
    let sealed = aead::seal(master, &aad, MASTER_CHECK.as_bytes(), rng).map_err(Error::internal)?;
    let mut tx = db.write().await?;
    tx.execute(
        "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        args![MASTER_CHECK, sealed],
    )
    .await?;
    let row = tx.row(FIND_MARK, args![MASTER_CHECK]).await?.ok_or_else(|| damaged(MASTER_CHECK))?;
    opens_mark(master, &row.bytes(0)?)?;
    tx.commit().await
}

/// Makes a tenant's first data key.
pub(crate) async fn data_key_create(tx: &mut Tx, store: &Store, tenant: TenantId) -> Result<()> {
    let key = AeadKey::generate(&**store.rng());
    let sealed = aead::seal(store.master(), &data_key_place(tenant, 1), key.expose(), &**store.rng())
        .map_err(Error::internal)?;
    tx.execute(
        "INSERT INTO data_key (tenant_id, version, sealed, created_at) VALUES ($1, 1, $2, $3)",
        args![tenant, sealed, store.clock().now()],
    )
    .await
    .map(drop)
}

async fn data_key(tx: &mut Tx, store: &Store, tenant: TenantId, version: Option<i64>) -> Result<(i64, AeadKey)> {
    let row = tx
        .row(
            "SELECT version, sealed FROM data_key WHERE tenant_id = $1 AND ($2 < 0 OR version = $2) ORDER BY version DESC LIMIT 1",
            args![tenant, version.unwrap_or(-1)],
        )
        .await?
        .ok_or_else(|| damaged("the tenant's data key"))?;
    let version = row.i64(0)?;
    let bytes = aead::open(store.master(), &data_key_place(tenant, version), &row.bytes(1)?)
        .map_err(|_| damaged("the tenant's data key"))?;
    let key = <[u8; 32]>::try_from(bytes.expose()).map_err(|_| damaged("the tenant's data key"))?;
    Ok((version, AeadKey::from_bytes(key)))
}

/// A credential without its secret.
#[derive(Debug, Clone)]
pub struct CredentialRow {
    /// Its id.
    pub id: CredentialId,
    /// The plugin that it is for.
    pub plugin: String,
    /// Its name, unique for the plugin in the tenant.
    pub name: String,
    /// Its type, e.g. `aws-keys`.
    pub kind: String,
    /// When it was stored.
    pub created_at: Timestamp,
    /// By whom.
    pub created_by: String,
    /// When a job last used it.
    pub last_used_at: Option<Timestamp>,
}

fn credential_row(row: &crate::db::Row) -> Result<CredentialRow> {
    Ok(CredentialRow {
        id: CredentialId::from_uuid(row.uuid(0)?),
        plugin: row.text(1)?,
        name: row.text(2)?,
        kind: row.text(3)?,
        created_at: row.time(4)?,
        created_by: row.text(5)?,
        last_used_at: row.opt_time(6)?,
    })
}

impl Write<ops::CredentialCreate> {
    /// Seals and stores a credential.
    pub async fn credential_create(
        mut self,
        plugin: &str,
        name: &DisplayName,
        kind: &str,
        secret: &Secret,
    ) -> Result<CredentialRow> {
        let tenant = self.tenant();
        let (clock, rng) = (self.store.clock().clone(), self.store.rng().clone());
        let id = CredentialId::generate(&*clock, &*rng);
        let (version, key) = data_key(&mut self.tx, &self.store, tenant, None).await?;
        let sealed = aead::seal(&key, &credential_place(tenant, id, version), secret.expose(), &*rng)
            .map_err(Error::internal)?;
        let (created_at, created_by) = (clock.now(), self.permit.ctx().actor().to_string());
        self.tx
            .execute(
                "INSERT INTO credential (tenant_id, id, plugin, name, kind, key_version, sealed, created_at, created_by) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                args![tenant, id, plugin, name.as_str(), kind, version, sealed, created_at, created_by.as_str()],
            )
            .await
            .map_err(|error| match error {
                Error::Conflict { .. } => Error::conflict(format!("a credential `{name}` for the plugin `{plugin}` already exists")),
                other => other,
            })?;
        let row = CredentialRow {
            id,
            plugin: plugin.to_owned(),
            name: name.to_string(),
            kind: kind.to_owned(),
            created_at,
            created_by,
            last_used_at: None,
        };
        let detail = json!({"plugin": row.plugin, "name": row.name, "kind": row.kind});
        self.commit(Change::to(Category::Credential, "credential", id).detail(detail)).await?;
        Ok(row)
    }
}

impl Write<ops::CredentialDelete> {
    /// Deletes a credential. Schedules that use it must go first.
    pub async fn credential_delete(mut self, id: CredentialId) -> Result<()> {
        let tenant = self.tenant();
        let deleted = self
            .tx
            .execute("DELETE FROM credential WHERE tenant_id = $1 AND id = $2", args![tenant, id])
            .await
            .map_err(|error| match error {
                Error::Conflict { .. } => {
                    Error::conflict("a schedule still uses this credential: delete the schedule first")
                }
                other => other,
            })?;
        if deleted == 0 {
            return Err(Error::NotFound { what: "credential" });
        }
        self.commit(Change::to(Category::Credential, "credential", id)).await.map(drop)
    }
}

impl Write<ops::CredentialUse> {
    /// Opens a credential for a job; the use is in the audit log before the secret is handed out.
    pub async fn credential_use(mut self, id: CredentialId, job: domain::JobId) -> Result<(CredentialRow, Secret)> {
        let tenant = self.tenant();
        let now = self.store.clock().now();
        let row = self
            .tx
            .row(
                "UPDATE credential SET last_used_at = $3 WHERE tenant_id = $1 AND id = $2 \
                 RETURNING id, plugin, name, kind, created_at, created_by, last_used_at, key_version, sealed",
                args![tenant, id, now],
            )
            .await?
            .ok_or(Error::NotFound { what: "credential" })?;
        let (credential, version, sealed) = (credential_row(&row)?, row.i64(7)?, row.bytes(8)?);
        let (_, key) = data_key(&mut self.tx, &self.store, tenant, Some(version)).await?;
        let secret =
            aead::open(&key, &credential_place(tenant, id, version), &sealed).map_err(|_| damaged("the credential"))?;
        self.commit(Change::to(Category::Credential, "credential", id).detail(json!({"job": job}))).await?;
        Ok((credential, secret))
    }
}

impl Read<ops::CredentialList> {
    /// Credentials in the order of their ids, without secrets.
    pub async fn credential_list(
        &mut self,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Page<CredentialRow, CredentialId>> {
        let tenant = self.tenant();
        let after = after.map_or(uuid::Uuid::nil(), |id| id.as_uuid());
        let rows = self
            .tx
            .rows(
                "SELECT id, plugin, name, kind, created_at, created_by, last_used_at FROM credential \
                 WHERE tenant_id = $1 AND id > $2 ORDER BY id LIMIT $3",
                args![tenant, after, i64::from(limit) + 1],
            )
            .await?;
        let items = rows.iter().map(credential_row).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row| row.id))
    }

    /// One credential without its secret.
    pub async fn credential_show(&mut self, id: CredentialId) -> Result<CredentialRow> {
        let tenant = self.tenant();
        self.tx
            .row(
                "SELECT id, plugin, name, kind, created_at, created_by, last_used_at FROM credential WHERE tenant_id = $1 AND id = $2",
                args![tenant, id],
            )
            .await?
            .ok_or(Error::NotFound { what: "credential" })
            .and_then(|row| credential_row(&row))
    }
}

impl Read<ops::CredentialResolve> {
    /// The credential of a plugin that somebody names by id or by name.
    pub async fn credential_resolve(&mut self, plugin: &str, named: &str) -> Result<Option<CredentialRow>> {
        let tenant = self.tenant();
        let id = named.parse::<CredentialId>().map_or(uuid::Uuid::nil(), |id| id.as_uuid());
        let row = self
            .tx
            .row(
                "SELECT id, plugin, name, kind, created_at, created_by, last_used_at FROM credential \
                 WHERE tenant_id = $1 AND plugin = $2 AND (id = $3 OR name = $4)",
                args![tenant, plugin, id, named],
            )
            .await?;
        row.as_ref().map(credential_row).transpose()
    }
}

impl Store {
    /// A secret of the installation (a signing key, the JWT secret), made by `make` the first time. Two servers that start together agree on one.
    pub async fn installation_secret(
        &self,
        name: &'static str,
        make: impl FnOnce() -> Result<Secret>,
    ) -> Result<Secret> {
        let aad = place(&[b"installation", name.as_bytes()]);
        let mut tx = self.db().write().await?;
        let find = "SELECT value FROM installation WHERE name = $1";
        let sealed = if let Some(row) = tx.row(find, args![name]).await? {
            row.bytes(0)?
        } else {
            let sealed = aead::seal(self.master(), &aad, make()?.expose(), &**self.rng()).map_err(Error::internal)?;
            let insert = "INSERT INTO installation (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
            tx.execute(insert, args![name, sealed]).await?;
            tx.row(find, args![name]).await?.ok_or_else(|| damaged(name))?.bytes(0)?
        };
        tx.commit().await?;
        aead::open(self.master(), &aad, &sealed).map_err(|_| damaged(name))
    }
}
