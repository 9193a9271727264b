//! Reading everything for a backup: every row on one snapshot, tenant by tenant, and the artifacts that the rows name.
//!
//! **Not for** the archive, its encryption or the command: the server has them. Nothing is opened here: what is sealed stays sealed.
//!
//! Invariants:
//! - one transaction sees one moment, while the server goes on working;
//! - rows of tenants are read in their tenant, one after the other: row-level security holds for a backup too.

use access::{PlatformPermit, ops};
use domain::{BackupId, Digest, Result, TenantId};
use serde_json::json;
use sqlx::AssertSqlSafe;

use crate::audit::{Category, Change};
use crate::blob::Blobs;
use crate::db::{Db, Engine, Tx, args};
use crate::unit::{enter, platform_tenant};
use crate::{Schema, Store, migrate, table};

/// Every file of a tenant that rows name: artifacts, and pieces of recordings, which are sealed.
pub(crate) const KEPT: &str = "SELECT digest FROM artifact WHERE tenant_id = $1 UNION SELECT blob FROM recording_chunk WHERE tenant_id = $1 ORDER BY 1";

/// A kept artifact that a backup has to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    tenant: TenantId,
    digest: Digest,
}

impl Artifact {
    /// Whose it is.
    pub fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// SHA-256 of its bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// What was read.
#[derive(Debug, Clone)]
pub struct Backup {
    /// The schema.
    pub schema: Schema,
    /// Every artifact that a row names.
    pub artifacts: Vec<Artifact>,
}

/// The schema of a database; none where there is none yet.
pub async fn schema_of(url: &str) -> Result<Option<Schema>> {
    let db = Db::open(url, None).await?;
    let mut tx = db.read().await?;
    let exists = match tx.engine() {
        Engine::Sqlite => "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_migration'",
        Engine::Pg => "SELECT 1 WHERE to_regclass('public.schema_migration') IS NOT NULL",
    };
    let schema = match tx.row(exists, args![]).await? {
        None => None,
        Some(_) => Some(migrate::recorded(&mut tx).await?),
    };
    drop(tx);
    db.close().await;
    Ok(schema)
}

/// Lets a transaction last as long as it takes; other connections keep their limits.
pub(crate) async fn take_time(tx: &mut Tx) -> Result<()> {
    if tx.engine() == Engine::Pg {
        tx.script("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0;".to_owned())
            .await?;
    }
    Ok(())
}

/// The platform's own tenant and every tenant that there is or was.
pub(crate) async fn tenants(tx: &mut Tx) -> Result<Vec<TenantId>> {
    let rows = tx.rows("SELECT id FROM tenant ORDER BY id", args![]).await?;
    let ids = rows.iter().map(|row| row.uuid(0).map(TenantId::from_uuid));
    [Ok(platform_tenant())].into_iter().chain(ids).collect()
}

impl Store {
    /// Reads everything: `line` gets a table's name and one line of it (see `table.rs`). The backup is in the audit log before the first
    /// row is read, so it holds its own record.
    pub async fn backup(
        &self,
        permit: PlatformPermit<ops::BackupCreate>,
        id: BackupId,
        mut line: impl FnMut(&str, &[u8]) -> Result<()>,
    ) -> Result<Backup> {
        let schema = Schema::known();
        let change = Change::to(Category::System, "backup", id).detail(json!({"schema": schema}));
        self.write_platform(permit).await?.commit(change).await?;

        let mut tx = self.db().read().await?;
        take_time(&mut tx).await?;
        let tenants = tenants(&mut tx).await?;
        for table in table::tables(&mut tx, &schema).await? {
            line(&table.name, &table.head())?;
            if !table.of_tenants {
                let sql = AssertSqlSafe(table.select());
                tx.for_each(sql, args![], |row| line(&table.name, &table.line(row)?)).await?;
                continue;
            }
            for tenant in &tenants {
                enter(&mut tx, *tenant).await?;
                let sql = AssertSqlSafe(table.select());
                tx.for_each(sql, args![*tenant], |row| line(&table.name, &table.line(row)?)).await?;
            }
        }
        let mut artifacts = Vec::new();
        for tenant in tenants {
            enter(&mut tx, tenant).await?;
            tx.for_each(KEPT, args![tenant], |row| {
                artifacts.push(Artifact { tenant, digest: row.digest(0)? });
                Ok(())
            })
            .await?;
        }
        Ok(Backup { schema, artifacts })
    }

    /// Whether a row names an artifact now. The last one of a recording is gone as soon as its time is over, also while a backup is taken.
    pub async fn backup_names(&self, artifact: &Artifact) -> Result<bool> {
        let mut tx = self.db().read().await?;
        take_time(&mut tx).await?;
        enter(&mut tx, artifact.tenant).await?;
        let sql = "SELECT 1 FROM artifact WHERE tenant_id = $1 AND digest = $2 UNION ALL \
                   SELECT 1 FROM recording_chunk WHERE tenant_id = $1 AND blob = $2 LIMIT 1";
        Ok(tx.row(sql, args![artifact.tenant, artifact.digest]).await?.is_some())
    }

    /// The bytes of an artifact that a backup named, checked against its digest.
    pub async fn backup_artifact(&self, artifact: &Artifact) -> Result<Vec<u8>> {
        Blobs::of(self, artifact.tenant).load(artifact.digest).await
    }
}
