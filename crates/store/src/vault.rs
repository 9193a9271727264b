//! The vault: what must be kept secret at rest, sealed with AES-256-GCM.
//!
//! The installation's master key seals data keys ([`key`]), one series for each tenant and one for the platform; data keys seal values
//! ([`cell`]). A value opens in its own place and in its newest version only, and a database that comes back older than a server has seen it
//! is noticed ([`head`], [`witness`]).

pub(crate) mod cell;
mod head;
mod key;
mod master;
mod place;
mod rotate;
mod series;
mod signing;
mod ssh_ca;
mod start;
mod token_key;
mod witness;

use access::ops;
use domain::{CredentialId, DisplayName, Error, Result, Secret, TenantId, Timestamp};
use serde_json::json;

use crate::audit::{Category, Change, Outcome};
use crate::db::{Tx, args};
use crate::job::Purpose;
use crate::unit::{Read, Write, platform_tenant};
use crate::validation::{self, NewestValidation, newest_validation};
use crate::{Page, Store};
use cell::{CREDENTIAL, INSTALLATION};

pub use key::DataKeyRow;
pub use master::fingerprint as key_fingerprint;
pub(crate) use master::which;
pub(crate) use place::place;
pub use rotate::{DataKeys, Resealed, RotationOf};
pub use signing::SigningKeyRow;
pub use start::VaultOptions;
pub(crate) use start::{Slot, Vault, open};
pub use token_key::TokenKeys;
pub(crate) use witness::Raised;

/// Every column that holds sealed values, as `table.column`.
pub fn sealed_columns() -> Vec<&'static str> {
    cell::COLUMNS.iter().map(|column| column.name).collect()
}

pub(crate) fn damaged(what: &str) -> Error {
    Error::internal(format!("{what} does not open: the row was changed, moved or sealed under another master key"))
}

/// Makes a tenant's first data key, and the head of its vault.
pub(crate) async fn data_key_create(tx: &mut Tx, store: &Store, tenant: TenantId) -> Result<()> {
    key::create(tx, store, tenant).await?;
    head::Head::lock(tx, store, tenant).await?.advance(tx, store).await
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

/// A credential as it is looked at, with how it last went when it was tried.
#[derive(Debug, Clone)]
pub struct CredentialView {
    /// The credential.
    pub credential: CredentialRow,
    /// Its newest validation.
    pub validation: Option<NewestValidation>,
}

/// Of each credential the newest validation, found by the index and not among the tenant's last ones.
macro_rules! view_sql {
    ($rest:literal) => {
        concat!(
            "SELECT c.id, c.plugin, c.name, c.kind, c.created_at, c.created_by, c.last_used_at, \
             v.id, v.status, v.created_at, v.started_at, v.finished_at \
             FROM credential c LEFT JOIN validation v ON v.tenant_id = c.tenant_id AND v.id = \
             (SELECT n.id FROM validation n WHERE n.tenant_id = c.tenant_id AND n.credential_key = c.id ORDER BY n.id DESC LIMIT 1) \
             WHERE c.tenant_id = $1 ",
            $rest
        )
    };
}

fn credential_view(row: &crate::db::Row, now: Timestamp) -> Result<CredentialView> {
    Ok(CredentialView { credential: credential_row(row)?, validation: newest_validation(row, 7, now)? })
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
        let place = id.as_uuid().into();
        let sealed = cell::seal(&mut self.tx, &self.store, &CREDENTIAL, tenant, &place, secret.expose()).await?;
        let (created_at, created_by) = (clock.now(), self.permit.ctx().actor().to_string());
        self.tx
            .execute(
                "INSERT INTO credential (tenant_id, id, plugin, name, kind, key_version, sealed, created_at, created_by) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                args![
                    tenant,
                    id,
                    plugin,
                    name.as_str(),
                    kind,
                    sealed.key_version,
                    sealed.bytes,
                    created_at,
                    created_by.as_str()
                ],
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
        cell::forget(&mut self.tx, &self.store, &CREDENTIAL, tenant, &id.as_uuid().into()).await?;
        validation::forget(&mut self.tx, tenant, id).await?;
        self.commit(Change::to(Category::Credential, "credential", id)).await.map(drop)
    }
}

impl Write<ops::CredentialUse> {
    /// Opens a credential for a job or a validation; the use is in the audit log before the secret is handed out.
    pub async fn credential_use(
        mut self,
        id: CredentialId,
        purpose: impl Into<Purpose>,
    ) -> Result<(CredentialRow, Secret)> {
        let mut told = purpose.into().told();
        let tenant = self.tenant();
        let now = self.store.clock().now();
        let row = self
            .tx
            .row(
                "UPDATE credential SET last_used_at = $3 WHERE tenant_id = $1 AND id = $2 \
                 RETURNING id, plugin, name, kind, created_at, created_by, last_used_at, sealed",
                args![tenant, id, now],
            )
            .await?
            .ok_or(Error::NotFound { what: "credential" })?;
        let (credential, sealed) = (credential_row(&row)?, row.bytes(7)?);
        let place = id.as_uuid().into();
        let opened = cell::open(&mut self.tx, &self.store, &CREDENTIAL, tenant, &place, &sealed).await;
        let secret = match opened {
            Ok(secret) => secret,
            Err(error) => {
                // Somebody changed the row: that is an alarm, and it must not be undone with the use that it stopped.
                let (store, ctx) = (self.store.clone(), self.permit.ctx().clone());
                drop(self);
                let change = Change::to(Category::Credential, "credential", id).outcome(Outcome::Fail).detail({
                    told.insert("reason".to_owned(), "the vault refuses to open it".into());
                    told.into()
                });
                store.record(&ctx, Some(tenant), "credential_use", &change).await?;
                return Err(error);
            }
        };
        self.commit(Change::to(Category::Credential, "credential", id).detail(told.into())).await?;
        Ok((credential, secret))
    }
}

impl Read<ops::CredentialList> {
    /// Credentials in the order of their ids, without secrets.
    pub async fn credential_list(
        &mut self,
        after: Option<CredentialId>,
        limit: u32,
    ) -> Result<Page<CredentialView, CredentialId>> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let after = after.map_or(uuid::Uuid::nil(), |id| id.as_uuid());
        let sql = view_sql!("AND c.id > $2 ORDER BY c.id LIMIT $3");
        let rows = self.tx.rows(sql, args![tenant, after, i64::from(limit) + 1]).await?;
        let items = rows.iter().map(|row| credential_view(row, now)).collect::<Result<_>>()?;
        Ok(Page::cut(items, limit, |row: &CredentialView| row.credential.id))
    }

    /// One credential without its secret.
    pub async fn credential_show(&mut self, id: CredentialId) -> Result<CredentialView> {
        let (tenant, now) = (self.tenant(), self.store.clock().now());
        let row = self.tx.row(view_sql!("AND c.id = $2"), args![tenant, id]).await?;
        credential_view(&row.ok_or(Error::NotFound { what: "credential" })?, now)
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
        let (platform, row) = (platform_tenant(), name.into());
        let mut tx = self.db().write().await?;
        // From here on no other server makes the same secret.
        head::Head::lock(&mut tx, self, platform).await?;
        if let Some(found) = tx.row("SELECT value FROM installation WHERE name = $1", args![name]).await? {
            return cell::open(&mut tx, self, &INSTALLATION, platform, &row, &found.bytes(0)?).await;
        }
        let secret = make()?;
        let sealed = cell::seal(&mut tx, self, &INSTALLATION, platform, &row, secret.expose()).await?;
        tx.execute("INSERT INTO installation (name, value) VALUES ($1, $2)", args![name, sealed.bytes]).await?;
        tx.commit().await?;
        Ok(secret)
    }
}
